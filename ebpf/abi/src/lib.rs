//! What the eBPF programs and user space agree on: map names, keys, values, limits and counters.
//!
//! Every type is `repr(C)` without implicit padding, so that a key is the same bytes on both sides.
//! Addresses are 16 bytes ([`Address`]); IPv4 is written as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2). Ports and other
//! integers are in host byte order unless a field says otherwise.
//!
//! Changing a layout here means raising [`SCHEMA_VERSION`]: pinned maps of another schema are never adopted.
#![no_std]

mod address;
mod counters;
mod maps;

pub use address::Address;
pub use counters::{Counter, DropEvent, DropReason, EVENT_BURST, EVENT_SAMPLE_MASK};
pub use maps::*;

/// Version of every layout in this crate. Pins live under `<bpffs>/v<SCHEMA_VERSION>/`.
pub const SCHEMA_VERSION: u32 = 5;

/// IP protocol number of TCP (RFC 9293).
pub const IPPROTO_TCP: u8 = 6;
/// IP protocol number of UDP (RFC 768).
pub const IPPROTO_UDP: u8 = 17;

/// Source MAC of everything Brattice sends to a workload, and its answer to ARP and NDP for a VIP. Locally administered
/// (IEEE 802, bit 1 of the first octet), the same on every node.
pub const VIRTUAL_MAC: [u8; 6] = [0x02, 0x42, 0x52, 0x41, 0x54, 0x01];

/// Implements [`aya::Pod`] for types without padding or invalid bit patterns.
macro_rules! pod {
    ($($t:ty),* $(,)?) => {
        $(
            // SAFETY: repr(C), Copy, 'static, without implicit padding (each layout is asserted below its definition).
            #[cfg(feature = "user")]
            #[allow(unsafe_code)]
            unsafe impl aya::Pod for $t {}
        )*
    };
}
pub(crate) use pod;
