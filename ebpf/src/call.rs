//! The context of the programs of sockets: what a process asks for, and by which socket.

use aya_ebpf::bindings::bpf_sock_addr;
use brattice_abi::Address;

use crate::address::IPV4_MAPPED;

/// `AF_INET`.
pub(crate) const AF_INET: u32 = 2;

/// Reads the context. Volatile for the reason given at `context_field!` in `packet.rs`.
pub(crate) struct Call(pub(crate) *mut bpf_sock_addr);

impl Call {
    /// IPv4-mapped.
    #[inline(always)]
    pub(crate) fn ip4(&self) -> Address {
        // SAFETY: the context is valid while the program runs; the verifier checks the offset. So below.
        Address::from_words([0, 0, IPV4_MAPPED, unsafe { (&raw const (*self.0).user_ip4).read_volatile() }])
    }

    #[inline(always)]
    pub(crate) fn ip6(&self) -> Address {
        // SAFETY: as in `ip4`. A word at a time, as the context gives it.
        let word = |i| unsafe { (&raw const (*self.0).user_ip6).cast::<u32>().add(i).read_volatile() };
        Address::from_words([word(0), word(1), word(2), word(3)])
    }

    /// Host order.
    #[inline(always)]
    pub(crate) fn port(&self) -> u16 {
        // SAFETY: as in `ip4`.
        u16::from_be(unsafe { (&raw const (*self.0).user_port).read_volatile() as u16 })
    }

    #[inline(always)]
    pub(crate) fn protocol(&self) -> u8 {
        // SAFETY: as in `ip4`.
        unsafe { (&raw const (*self.0).protocol).read_volatile() as u8 }
    }

    /// What the socket is bound to: address and port (host order).
    #[inline(always)]
    pub(crate) fn source(&self) -> Option<(Address, u16)> {
        // SAFETY: as in `ip4`; the socket is there as long as the context.
        unsafe {
            let socket = (&raw const (*self.0).__bindgen_anon_1.sk).read_volatile();
            if socket.is_null() {
                return None;
            }
            // All that may be needed, read at once: of reads at the end of two arms the optimizer makes one, of a moved
            // pointer, which the verifier refuses.
            let port = (&raw const (*socket).src_port).read_volatile() as u16;
            let family = (&raw const (*socket).family).read_volatile();
            let ip4 = (&raw const (*socket).src_ip4).read_volatile();
            let word = |i| (&raw const (*socket).src_ip6).cast::<u32>().add(i).read_volatile();
            let ip6 = [word(0), word(1), word(2), word(3)];
            let words = if family == AF_INET { [0, 0, IPV4_MAPPED, ip4] } else { ip6 };
            Some((Address::from_words(words), port))
        }
    }
}
