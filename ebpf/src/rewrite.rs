//! Changing packets. Each step is a kernel helper; one that refuses is a drop, so nothing half changed goes on.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::{bpf_csum_diff, bpf_redirect},
    programs::TcContext,
};
use brattice_abi::{Address, DropReason, IPPROTO_TCP};

use crate::{
    address::Ip,
    packet::{Checked, ETH_LEN},
    protocols::{ICMP, ICMPV6},
};

/// Offset of the IPv4 header checksum in the frame.
const IP_CHECKSUM: usize = ETH_LEN as usize + 10;
/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;
/// Offset of the checksum in a UDP header.
const UDP_CHECKSUM: usize = 6;
/// Offset of the checksum in an ICMPv6 header.
const ICMPV6_CHECKSUM: usize = 2;

/// An address in a packet.
pub(crate) trait Place: Ip {
    /// Offset of the source in the frame.
    const SOURCE: usize;
    /// Offset of the destination in the frame.
    const DESTINATION: usize;

    /// One address in place of another, as `bpf_l4_csum_replace` wants it: old and new value, and their size; or 0, the
    /// difference of the sums, and 0.
    fn difference(from: Self, to: Self) -> (u64, u64, u64);

    /// Writes it, and updates the checksums of the packet that depend on it.
    fn put(ctx: &TcContext, offset: usize, from: Self, to: Self) -> Result<(), DropReason>;

    /// Writes it into the header that an ICMP error quotes, and updates what depends on it. `icmp`, `quote`: where the ICMP
    /// header and the quoted one begin; `offset`: the place in a frame whose header this were.
    fn put_quoted(
        ctx: &TcContext,
        icmp: usize,
        quote: usize,
        offset: usize,
        from: Self,
        to: Self,
    ) -> Result<(), DropReason>;
}

impl Place for u32 {
    const SOURCE: usize = ETH_LEN as usize + 12;
    const DESTINATION: usize = ETH_LEN as usize + 16;

    #[inline(always)]
    fn difference(from: Self, to: Self) -> (u64, u64, u64) {
        (from.to_be() as u64, to.to_be() as u64, 4)
    }

    #[inline(always)]
    fn put(ctx: &TcContext, offset: usize, from: Self, to: Self) -> Result<(), DropReason> {
        let (from, to) = (from.to_be(), to.to_be());
        ctx.l3_csum_replace(IP_CHECKSUM, from as u64, to as u64, 4).map_err(|_| DropReason::HelperFailed)?;
        ctx.store(offset, &to, 0).map_err(|_| DropReason::HelperFailed)
    }

    /// The sum over the quoted header is 0 before and after.
    #[inline(always)]
    fn put_quoted(
        ctx: &TcContext,
        _: usize,
        quote: usize,
        offset: usize,
        from: Self,
        to: Self,
    ) -> Result<(), DropReason> {
        let (from, to) = (from.to_be(), to.to_be());
        let quote = quote - ETH_LEN as usize;
        ctx.l3_csum_replace(quote + IP_CHECKSUM, from as u64, to as u64, 4).map_err(|_| DropReason::HelperFailed)?;
        ctx.store(quote + offset, &to, 0).map_err(|_| DropReason::HelperFailed)
    }
}

impl Place for Address {
    const SOURCE: usize = ETH_LEN as usize + 8;
    const DESTINATION: usize = ETH_LEN as usize + 24;

    #[inline(always)]
    fn difference(from: Self, to: Self) -> (u64, u64, u64) {
        const LEN: u32 = size_of::<Address>() as u32;
        let (mut from, mut to) = (from.words(), to.words());
        // SAFETY: both point to 16 bytes of the stack. The helper fails for odd sizes only.
        let sum = unsafe { bpf_csum_diff(from.as_mut_ptr(), LEN, to.as_mut_ptr(), LEN, 0) };
        (0, sum as u32 as u64, 0)
    }

    /// No header checksum depends on it. Where the hardware has summed up the whole packet, that sum follows: what the L4
    /// checksum took from it comes back with the address.
    #[inline(always)]
    fn put(ctx: &TcContext, offset: usize, _: Self, to: Self) -> Result<(), DropReason> {
        ctx.store(offset, &to, BPF_F_RECOMPUTE_CSUM as u64).map_err(|_| DropReason::HelperFailed)
    }

    /// The quoted header has no checksum, so the ICMPv6 one takes the difference. The sum over all stays.
    #[inline(always)]
    fn put_quoted(
        ctx: &TcContext,
        icmp: usize,
        quote: usize,
        offset: usize,
        from: Self,
        to: Self,
    ) -> Result<(), DropReason> {
        let (old, new, size) = Self::difference(from, to);
        ctx.l4_csum_replace(icmp + ICMPV6_CHECKSUM, old, new, size).map_err(|_| DropReason::HelperFailed)?;
        ctx.store(quote - ETH_LEN as usize + offset, &to, 0).map_err(|_| DropReason::HelperFailed)
    }
}

/// Replaces an address by another and updates the checksums by the difference.
#[inline(always)]
fn address<A: Place>(ctx: &TcContext, checked: &Checked, offset: usize, from: A, to: A) -> Result<(), DropReason> {
    // ICMP has no pseudo header (ICMPv6 does).
    if checked.first && checked.protocol != ICMP {
        let (old, new, size) = A::difference(from, to);
        // The pseudo header holds the address, so that a checksum left to the hardware is right as well. For UDP a
        // checksum of 0 means none and stays, and one that becomes 0 is written as 0xffff (RFC 768; RFC 8200, 8.1).
        let flags = BPF_F_PSEUDO_HDR as u64 | size;
        let (field, flags) = match checked.protocol {
            IPPROTO_TCP => (TCP_CHECKSUM, flags),
            ICMPV6 => (ICMPV6_CHECKSUM, flags),
            _ => (UDP_CHECKSUM, flags | BPF_F_MARK_MANGLED_0 as u64),
        };
        ctx.l4_csum_replace(checked.l4_offset as usize + field, old, new, flags)
            .map_err(|_| DropReason::HelperFailed)?;
    }
    A::put(ctx, offset, from, to)
}

/// Replaces the source.
#[inline(always)]
pub(crate) fn source<A: Place>(ctx: &TcContext, checked: &Checked, from: A, to: A) -> Result<(), DropReason> {
    address(ctx, checked, A::SOURCE, from, to)
}

/// Replaces the destination.
#[inline(always)]
pub(crate) fn destination<A: Place>(ctx: &TcContext, checked: &Checked, from: A, to: A) -> Result<(), DropReason> {
    address(ctx, checked, A::DESTINATION, from, to)
}

/// Replaces the MACs at the start of the frame: the destination alone, or destination and source.
#[inline(always)]
pub(crate) fn macs<const N: usize>(ctx: &TcContext, macs: &[[u8; 6]; N]) -> Result<(), DropReason> {
    ctx.store(0, macs, 0).map_err(|_| DropReason::HelperFailed)
}

/// Into an interface, as if it had received the packet. Returns the verdict.
#[inline(always)]
pub(crate) fn redirect_in(ifindex: u32) -> i32 {
    // SAFETY: takes no pointer; an interface that is gone makes the kernel drop the packet.
    unsafe { bpf_redirect(ifindex, BPF_F_INGRESS as u64) as i32 }
}

/// Out of an interface. Returns the verdict.
#[inline(always)]
pub(crate) fn redirect_out(ifindex: u32) -> i32 {
    // SAFETY: as in `redirect_in`.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

/// Adds all of it to a ones' complement sum (RFC 1071).
#[inline(always)]
pub(crate) fn sum<T>(value: &mut T, seed: u32) -> u32 {
    const { assert!(size_of::<T>() % 4 == 0 && size_of::<T>() <= 512) };
    let (start, len) = (core::ptr::from_mut(value).cast(), size_of::<T>() as u32);
    // SAFETY: points to this many bytes of the stack, a multiple of 4.
    unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, start, len, seed) as u32 }
}

/// The Internet checksum (RFC 1071) of all of it, with its own field still 0, and of what `seed` is the sum of.
#[inline(always)]
pub(crate) fn checksum<T>(value: &mut T, seed: u32) -> u16 {
    let sum = sum(value, seed);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
