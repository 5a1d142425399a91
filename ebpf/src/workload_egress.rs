//! `workload_egress`: what goes to a workload.

use aya_ebpf::{helpers::bpf_sk_fullsock, macros::classifier, programs::TcContext};
use brattice_abi::{
    Address, Alias, Config, Counter, DropReason, FlowKey, IPPROTO_TCP, IPPROTO_UDP, ListenerKey, TargetKey, VIRTUAL_MAC,
};

use crate::{
    address,
    config::{self, Ranges},
    half_open, intercept,
    maps::{ALIASES, LISTENERS, TARGETS},
    packet::{ETH_P_IP, Ipv4, Ports, TCP_RST, TCX_DROP, ifindex, ingress_ifindex, protocol, vlan},
    report::{self, Program, Seen, count},
    rewrite, switches,
};

/// TCX egress of `brattice0`, a device of our own: delivers what the engine sends to an alias, and drops all else.
#[classifier]
pub fn workload_egress(ctx: TcContext) -> i32 {
    let mut seen = Seen::NOTHING;
    let verdict = match config::get() {
        Some(config) => deliver(&ctx, config, &mut seen),
        None => Err(DropReason::NotConfigured),
    };
    match verdict {
        Ok(verdict) => verdict,
        Err(reason) => {
            report::dropped(Program::WorkloadEgress, reason, ifindex(&ctx), &seen);
            TCX_DROP
        }
    }
}

#[inline(always)]
fn deliver(ctx: &TcContext, config: &Config, seen: &mut Seen) -> Result<i32, DropReason> {
    let header = if protocol(ctx) == ETH_P_IP && vlan(ctx) == 0 { Ipv4::load(ctx) } else { None };
    if let Some(header) = &header {
        (seen.source, seen.destination, seen.protocol) = (header.source(), header.destination(), header.protocol);
    }
    if ingress_ifindex(ctx) != 0 {
        return Err(DropReason::Forwarded);
    }
    let header = header.ok_or(DropReason::NotForWorkload)?;
    let (source, destination, protocol) = (header.source(), header.destination(), header.protocol);
    if !header.has_ports() {
        return Err(DropReason::NotForWorkload);
    }
    let to = address::v4(destination);
    // SAFETY: the value is only read; the agent replaces whole values.
    let alias = unsafe { ALIASES.get(to) }.ok_or(DropReason::UnknownAlias)?;
    if alias.ifindex == 0 {
        // A process of this host, which is reached through `lo`.
        return Err(DropReason::NotForWorkload);
    }
    if switches::all_detached() || switches::workload_detached(alias.workload_id) {
        return Err(DropReason::Detached);
    }
    if !config.is_vip(source) {
        return Err(DropReason::SourceNotVip);
    }
    let checked = header.check(ctx)?;
    let ports = checked.ports(ctx, protocol)?;
    let mut asked = None;
    match &ports {
        Some(ports) => {
            (seen.source_port, seen.destination_port) = (ports.source, ports.destination);
            permit(ctx, config, &to, source, protocol, ports)?;
            if ports.flags & TCP_RST != 0 {
                released(alias, &to, source, ports);
            }
            if ports.source == intercept::DNS_PORT && source == config.dns_vip() {
                asked = intercept::asked(ctx, &checked, protocol, to, ports);
            }
        }
        // Without its first fragment, which is judged as a whole packet is, a later one is worth nothing.
        None if protocol == IPPROTO_UDP && ctx.get_socket_uid() != config.engine_uid => {
            return Err(DropReason::NotEngine);
        }
        None => {}
    }

    let real = address::number(&alias.address);
    rewrite::destination(ctx, &checked, protocol, destination, real)?;
    if let Some(resolver) = asked {
        rewrite::source(ctx, &checked, protocol, source, resolver)?;
    }
    rewrite::macs(ctx, &[alias.mac, VIRTUAL_MAC])?;
    count(Counter::ToWorkload);
    Ok(rewrite::redirect_out(alias.ifindex))
}

/// Whose listeners wait for the engine: the agent's user.
const ROOT: u32 = 0;

/// An alias is no way in: what begins something must come from the engine's user. Segments other than a bare SYN belong
/// to connections that began with one that was judged (here, or by `vip_listener`), and often carry no socket at all. But
/// where they carry a user's, it is that of one who connects from a VIP and was called from the other side meanwhile.
#[inline(always)]
fn permit(
    ctx: &TcContext,
    config: &Config,
    to: &Address,
    source: u32,
    protocol: u8,
    ports: &Ports,
) -> Result<(), DropReason> {
    if protocol == IPPROTO_TCP && !ports.is_bare_syn() {
        return if of_another_user(ctx, config) { Err(DropReason::NotEngine) } else { Ok(()) };
    }
    if ctx.get_socket_uid() != config.engine_uid {
        return Err(DropReason::NotEngine);
    }
    if protocol == IPPROTO_UDP {
        let from = ListenerKey { vip: address::v4(source), port: ports.source, protocol, pad: 0 };
        // SAFETY: only asked whether it is there.
        if unsafe { LISTENERS.get(from) }.is_some() {
            return Ok(());
        }
    }
    if !config.is_engine_source(source) {
        return Err(DropReason::NotEngineSource);
    }
    let target = TargetKey { alias: *to, port: ports.destination, protocol, pad: 0 };
    // SAFETY: only asked whether it is there.
    if unsafe { TARGETS.get(target) }.is_none() {
        return Err(DropReason::NotTarget);
    }
    Ok(())
}

/// Whether a socket sent it that is neither the engine's nor root's (a connection is the agent's until it is accepted).
/// What the kernel sends for no socket, or for one that is half open or ending, is nobody's.
#[inline(always)]
fn of_another_user(ctx: &TcContext, config: &Config) -> bool {
    // SAFETY: the context is valid while the program runs; the verifier checks the offset and that the pointer is asked
    // for 0. Volatile for the reason given at `context_field!` in `packet.rs`.
    let socket = unsafe { (&raw const (*ctx.skb.skb).__bindgen_anon_2.sk).read_volatile() };
    // SAFETY: not 0, and of this packet.
    if socket.is_null() || unsafe { bpf_sk_fullsock(socket) }.is_null() {
        return false;
    }
    let user = ctx.get_socket_uid();
    user != config.engine_uid && user != ROOT
}

/// A workload's SYN was answered with a RST: it is no longer half open.
#[inline(always)]
fn released(alias: &Alias, to: &Address, source: u32, ports: &Ports) {
    let flow = FlowKey {
        alias: *to,
        vip: address::v4(source),
        source_port: ports.destination,
        destination_port: ports.source,
    };
    half_open::release(alias.workload_id, &flow);
}
