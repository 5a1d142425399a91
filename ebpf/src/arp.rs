//! Answers ARP requests for VIPs, so that a workload needs no more than a route that covers them.

use aya_ebpf::programs::TcContext;
use brattice_abi::{Config, Counter, DropReason, VIRTUAL_MAC, WorkloadKey};

use crate::{
    address::Ip,
    config::Ranges,
    maps::WORKLOADS,
    packet::{ETH_LEN, TCX_NEXT, ifindex},
    report::{Seen, count},
    rewrite, switches,
};

/// An ARP message for IPv4 over Ethernet (RFC 826), as on the wire.
#[repr(C)]
#[derive(Clone, Copy)]
struct Arp {
    hardware: u16,
    protocol: u16,
    hardware_len: u8,
    protocol_len: u8,
    operation: u16,
    sender_mac: [u8; 6],
    sender: [u8; 4],
    target_mac: [u8; 6],
    target: [u8; 4],
}

const _: () = assert!(size_of::<Arp>() == 28);

const HARDWARE_ETHERNET: u16 = 1u16.to_be();
const PROTOCOL_IPV4: u16 = 0x0800u16.to_be();
const REQUEST: u16 = 1u16.to_be();
const REPLY: u16 = 2u16.to_be();

/// Requests, probes (sender 0.0.0.0) and announcements for an address in the VIP range are answered out of the same
/// interface, so that a bridge behind it sees neither and learns nothing. Anything else is left alone.
#[inline(always)]
pub(crate) fn answer(ctx: &TcContext, config: &Config, seen: &mut Seen) -> Result<i32, DropReason> {
    let Ok(mut arp) = ctx.load::<Arp>(ETH_LEN as usize) else { return Ok(TCX_NEXT) };
    let (sender, target) = (u32::from_be_bytes(arp.sender), u32::from_be_bytes(arp.target));
    if arp.hardware != HARDWARE_ETHERNET
        || arp.protocol != PROTOCOL_IPV4
        || arp.hardware_len != 6
        || arp.protocol_len != 4
        || arp.operation != REQUEST
        || !config.is_vip(target)
    {
        return Ok(TCX_NEXT);
    }
    let ifindex = ifindex(ctx);
    let key = WorkloadKey { ifindex, address: sender.key() };
    // SAFETY: the value is only read.
    let workload = unsafe { WORKLOADS.get(key) };
    if switches::all_detached() || workload.is_some_and(|w| switches::workload_detached(w.workload_id)) {
        count(Counter::DetachedPassed);
        return Ok(TCX_NEXT);
    }
    (seen.source, seen.destination) = (sender.key(), target.key());

    let asker = (arp.sender_mac, arp.sender);
    arp.operation = REPLY;
    (arp.sender_mac, arp.sender) = (VIRTUAL_MAC, arp.target);
    (arp.target_mac, arp.target) = asker;
    ctx.store(ETH_LEN as usize, &arp, 0).map_err(|_| DropReason::HelperFailed)?;
    rewrite::macs(ctx, &[asker.0, VIRTUAL_MAC])?;
    count(Counter::ArpAnswered);
    Ok(rewrite::redirect_out(ifindex))
}
