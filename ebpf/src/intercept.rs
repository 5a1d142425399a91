//! `dns: intercept`: port 53 to any address goes to the DNS VIP, and answers come from whom the workload asked.

use aya_ebpf::{bindings::BPF_ANY, programs::TcContext};
use brattice_abi::{Address, DropReason, IPPROTO_UDP, InterceptKey};

use crate::{
    address::Ip,
    maps::INTERCEPTS,
    packet::{Checked, Ports},
};

/// DNS (RFC 1035, 4.2).
pub(crate) const DNS_PORT: u16 = 53;

/// Names the exchange: UDP by port and message id, so that one port may ask several resolvers; TCP by port.
#[inline(always)]
fn key(ctx: &TcContext, checked: &Checked, alias: Address, port: u16) -> InterceptKey {
    let id = if checked.protocol == IPPROTO_UDP { checked.dns_id(ctx) } else { 0 };
    InterceptKey { alias, port, id, protocol: checked.protocol as u32 }
}

/// Does this packet begin an exchange? Each datagram may; of TCP only a bare SYN.
#[inline(always)]
fn begins(protocol: u8, ports: &Ports) -> bool {
    protocol == IPPROTO_UDP || ports.is_bare_syn()
}

/// A packet to some resolver is taken: remembers whom the workload asked.
#[inline(always)]
pub(crate) fn remember(
    ctx: &TcContext,
    checked: &Checked,
    alias: Address,
    ports: &Ports,
    resolver: Address,
) -> Result<(), DropReason> {
    if !begins(checked.protocol, ports) {
        return Ok(());
    }
    let key = key(ctx, checked, alias, ports.source);
    INTERCEPTS.insert(key, resolver, BPF_ANY as u64).map_err(|_| DropReason::HelperFailed)
}

/// A packet to the DNS VIP itself: what was remembered for the same port and id is over.
#[inline(always)]
pub(crate) fn forget(ctx: &TcContext, checked: &Checked, alias: Address, ports: &Ports) {
    if begins(checked.protocol, ports) {
        // Mostly there is nothing to remove.
        let _ = INTERCEPTS.remove(key(ctx, checked, alias, ports.source));
    }
}

/// Whom the workload asked, for an answer that goes to its `ports.destination`; `None` when it asked us.
#[inline(always)]
pub(crate) fn asked<A: Ip>(ctx: &TcContext, checked: &Checked, alias: Address, ports: &Ports) -> Option<A> {
    let key = key(ctx, checked, alias, ports.destination);
    // SAFETY: the value is only read.
    let resolver = unsafe { INTERCEPTS.get(key) }?;
    Some(A::of(resolver))
}
