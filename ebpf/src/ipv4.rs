//! The fixed IPv4 header and its checks.

use aya_ebpf::programs::TcContext;
use brattice_abi::{DropReason, IPPROTO_TCP, IPPROTO_UDP};

use crate::packet::{Checked, ETH_LEN, Header, frame_len, gso_size};

/// Least bytes of an IPv4 header.
const MIN_LEN: u32 = 20;

/// The fixed part of an IPv4 header (RFC 791, 3.1), as on the wire.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    total_length: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

const _: () = assert!(size_of::<Ipv4>() == MIN_LEN as usize);

impl Ipv4 {
    /// Header length in bytes, 0 to 60.
    #[inline(always)]
    fn len(&self) -> u32 {
        ((self.version_ihl & 0x0f) as u32) << 2
    }

    /// Fragment offset in units of 8 bytes.
    #[inline(always)]
    fn fragment_offset(&self) -> u16 {
        u16::from_be(self.fragment) & 0x1fff
    }
}

impl Header for Ipv4 {
    type Address = u32;

    #[inline(always)]
    fn load(ctx: &TcContext) -> Option<Self> {
        ctx.load(ETH_LEN as usize).ok()
    }

    #[inline(always)]
    fn source(&self) -> u32 {
        u32::from_be(self.source)
    }

    #[inline(always)]
    fn destination(&self) -> u32 {
        u32::from_be(self.destination)
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn peek_destination_port(&self, ctx: &TcContext) -> u16 {
        let has_ports = self.protocol == IPPROTO_TCP || self.protocol == IPPROTO_UDP;
        if !has_ports || self.version_ihl >> 4 != 4 || self.len() < MIN_LEN || self.fragment_offset() != 0 {
            return 0;
        }
        ctx.load::<u16>((ETH_LEN + self.len() + 2) as usize).map_or(0, u16::from_be)
    }

    #[inline(always)]
    fn check(&self, ctx: &TcContext) -> Result<Checked, DropReason> {
        let present = frame_len(ctx).wrapping_sub(ETH_LEN);
        let header = self.len();
        if self.version_ihl >> 4 != 4 || header < MIN_LEN {
            return Err(DropReason::Malformed);
        }
        if header > present {
            return Err(DropReason::Truncated);
        }
        let mut total = u16::from_be(self.total_length) as u32;
        if total == 0 && gso_size(ctx) != 0 {
            // A GSO packet of more than 64 KiB has no total length that 16 bits could hold (BIG TCP).
            total = present;
        }
        if total < header {
            return Err(DropReason::Malformed);
        }
        Checked {
            protocol: self.protocol,
            l4_offset: ETH_LEN + header,
            payload: if total < present { total } else { present } - header,
            first: self.fragment_offset() == 0,
            whole: total <= present,
            needs_checksum: false,
        }
        .with_room_for_ports((self.fragment_offset() as u32) << 3)
    }
}
