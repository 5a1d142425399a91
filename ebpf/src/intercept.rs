//! `dns: intercept`: port 53 to any address goes to the DNS VIP, and answers come from the address that the workload asked.
//!
//! The questions are in one table for all. So a workload may have only so many questions in it that were not answered
//! yet; an answer over UDP gives the place back. One over TCP keeps it, as more segments follow, until the window ends.

use aya_ebpf::{bindings::BPF_ANY, programs::TcContext};
use brattice_abi::{
    Address, DropReason, INTERCEPT_WINDOW_NS, IPPROTO_UDP, Intercept, InterceptKey, MAX_INTERCEPTS_OF_WORKLOAD,
};

use crate::{
    address::Ip,
    maps::{INTERCEPT_COUNTS, INTERCEPTS},
    packet::{Checked, Ports},
    window::Window,
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

/// A packet to some resolver is taken: remembers the address that the workload asked. Refuses it when too many of its
/// questions are unanswered. One that is asked again is not counted again.
#[inline(always)]
pub(crate) fn remember(
    ctx: &TcContext,
    checked: &Checked,
    workload: u32,
    alias: Address,
    ports: &Ports,
    resolver: Address,
) -> Result<(), DropReason> {
    if !begins(checked.protocol, ports) {
        return Ok(());
    }
    let key = key(ctx, checked, alias, ports.source);
    let window = Window::ensure(&INTERCEPT_COUNTS, workload).ok_or(DropReason::HelperFailed)?;
    let (window_ns, _) = window.present(INTERCEPT_WINDOW_NS);
    // SAFETY: the value is only read.
    let counted = unsafe { INTERCEPTS.get(key) }.is_some_and(|known| known.window_ns == window_ns);
    // guard: intercept-limit
    if !counted && !window.take(MAX_INTERCEPTS_OF_WORKLOAD) {
        return Err(DropReason::InterceptLimit);
    }
    INTERCEPTS.insert(key, Intercept { resolver, window_ns }, BPF_ANY as u64).map_err(|_| DropReason::HelperFailed)
}

/// A packet to the DNS VIP itself: what was remembered for the same port and id is over.
#[inline(always)]
pub(crate) fn forget(ctx: &TcContext, checked: &Checked, workload: u32, alias: Address, ports: &Ports) {
    if !begins(checked.protocol, ports) {
        return;
    }
    let key = key(ctx, checked, alias, ports.source);
    // Mostly there is nothing to remove.
    // SAFETY: the value is only read.
    if let Some(known) = unsafe { INTERCEPTS.get(key) } {
        let window_ns = known.window_ns;
        give_back(workload, &key, window_ns);
    }
}

#[inline(always)]
fn give_back(workload: u32, key: &InterceptKey, window_ns: u64) {
    // Of two CPUs that remove the same, one does; only that one gives the place back.
    if INTERCEPTS.remove(key).is_err() {
        return;
    }
    if let Some(window) = Window::of(&INTERCEPT_COUNTS, workload) {
        window.give_back(window_ns);
    }
}

/// The address that the workload asked, for an answer that goes to its `ports.destination`; `None` when it asked us.
#[inline(always)]
pub(crate) fn asked<A: Ip>(ctx: &TcContext, checked: &Checked, alias: Address, ports: &Ports) -> Option<A> {
    let key = key(ctx, checked, alias, ports.destination);
    // SAFETY: the value is only read.
    let known = unsafe { INTERCEPTS.get(key) }?;
    Some(A::of(&known.resolver))
}

/// The same, when it is answered now. A datagram is the only answer to its question.
#[inline(always)]
pub(crate) fn answered<A: Ip>(
    ctx: &TcContext,
    checked: &Checked,
    workload: u32,
    alias: Address,
    ports: &Ports,
) -> Option<A> {
    let key = key(ctx, checked, alias, ports.destination);
    // SAFETY: the value is only read.
    let Intercept { resolver, window_ns } = *unsafe { INTERCEPTS.get(key) }?;
    if checked.protocol == IPPROTO_UDP {
        give_back(workload, &key, window_ns);
    }
    Some(A::of(&resolver))
}
