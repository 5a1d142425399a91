//! Changing packets. Each step is a kernel helper; one that refuses is a drop, so nothing half changed goes on.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::bpf_redirect,
    programs::TcContext,
};
use brattice_abi::{DropReason, IPPROTO_TCP};

use crate::packet::{Checked, ETH_LEN};

/// Offset of the IPv4 header checksum in the frame.
const IP_CHECKSUM: usize = ETH_LEN as usize + 10;
/// Offset of the IPv4 source in the frame.
const IP_SOURCE: usize = ETH_LEN as usize + 12;
/// Offset of the IPv4 destination in the frame.
const IP_DESTINATION: usize = ETH_LEN as usize + 16;
/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;
/// Offset of the checksum in a UDP header.
const UDP_CHECKSUM: usize = 6;
/// Bytes of an IPv4 address, as the checksum helpers want it.
const ADDRESS_LEN: u64 = 4;

/// Puts an address in place of another and mends the checksums by the difference.
#[inline(always)]
fn address(
    ctx: &TcContext,
    checked: &Checked,
    protocol: u8,
    offset: usize,
    from: u32,
    to: u32,
) -> Result<(), DropReason> {
    let (from, to) = (from.to_be(), to.to_be());
    if checked.first {
        // The pseudo header holds the address, so that a checksum left to the hardware is right as well. For UDP a
        // checksum of 0 means none and stays, and one that becomes 0 is written as 0xffff (RFC 768).
        let flags = BPF_F_PSEUDO_HDR as u64 | ADDRESS_LEN;
        let (field, flags) = if protocol == IPPROTO_TCP {
            (TCP_CHECKSUM, flags)
        } else {
            (UDP_CHECKSUM, flags | BPF_F_MARK_MANGLED_0 as u64)
        };
        ctx.l4_csum_replace(checked.l4_offset as usize + field, from as u64, to as u64, flags)
            .map_err(|_| DropReason::HelperFailed)?;
    }
    ctx.l3_csum_replace(IP_CHECKSUM, from as u64, to as u64, ADDRESS_LEN).map_err(|_| DropReason::HelperFailed)?;
    ctx.store(offset, &to, 0).map_err(|_| DropReason::HelperFailed)
}

/// Replaces the source (numbers in host order).
#[inline(always)]
pub(crate) fn source(ctx: &TcContext, checked: &Checked, protocol: u8, from: u32, to: u32) -> Result<(), DropReason> {
    address(ctx, checked, protocol, IP_SOURCE, from, to)
}

/// Replaces the destination (numbers in host order).
#[inline(always)]
pub(crate) fn destination(
    ctx: &TcContext,
    checked: &Checked,
    protocol: u8,
    from: u32,
    to: u32,
) -> Result<(), DropReason> {
    address(ctx, checked, protocol, IP_DESTINATION, from, to)
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
