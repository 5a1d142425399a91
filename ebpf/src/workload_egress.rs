//! `workload_egress`: packets to a workload.

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_sk_fullsock, macros::classifier, programs::TcContext};
use brattice_abi::{
    Address, Alias, Config, Counter, DropReason, FlowKey, IPPROTO_TCP, IPPROTO_UDP, ListenerKey, TargetKey, VIRTUAL_MAC,
};

use crate::{
    address::Ip,
    config::{self, Ranges},
    half_open,
    icmp::{
        self,
        message::{self, Icmp},
    },
    intercept,
    ipv4::Ipv4,
    ipv6::Ipv6,
    maps::{ALIASES, LISTENERS, TARGETS},
    packet::{
        ETH_P_IP, ETH_P_IPV6, Header, ICMP_ERROR, Ports, TCP_ACK, TCP_RST, TCP_SYN, TCX_DROP, TOO_LARGE, ifindex,
        ingress_ifindex, protocol, vlan,
    },
    report::{self, Program, Seen, count},
    rewrite::{self, Place},
    switches, too_large,
};

/// TCX egress of `brattice0`, a device of our own: delivers what the engine sends to an alias, and drops all else.
#[classifier]
pub fn workload_egress(ctx: TcContext) -> i32 {
    match judge(ctx.skb.skb) {
        ICMP_ERROR => icmp::to_workload(ctx.skb.skb),
        TOO_LARGE => too_large::answer(ctx.skb.skb),
        verdict => verdict,
    }
}

/// All but what an ICMP error is, or is to be answered with one.
#[inline(never)]
fn judge(skb: *mut __sk_buff) -> i32 {
    let ctx = TcContext::new(skb);
    let mut seen = Seen::NOTHING;
    let verdict = match config::get() {
        Some(config) => of_a_family(&ctx, config, &mut seen),
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
fn of_a_family(ctx: &TcContext, config: &Config, seen: &mut Seen) -> Result<i32, DropReason> {
    match protocol(ctx) {
        _ if vlan(ctx) != 0 => deliver::<Ipv4>(ctx, config, None, seen),
        ETH_P_IP => deliver(ctx, config, Ipv4::load(ctx), seen),
        ETH_P_IPV6 if config::has_ipv6(config) => deliver(ctx, config, Ipv6::load(ctx), seen),
        _ => deliver::<Ipv4>(ctx, config, None, seen),
    }
}

/// Delivers a packet of either family; `None`: it is no IP packet, or of a family that the node does not use.
#[inline(always)]
fn deliver<H>(ctx: &TcContext, config: &Config, header: Option<H>, seen: &mut Seen) -> Result<i32, DropReason>
where
    H: Icmp,
    H::Address: Place,
    Config: Ranges<H::Address>,
{
    if let Some(header) = &header {
        (seen.source, seen.destination) = (header.source().key(), header.destination().key());
        seen.protocol = header.protocol();
    }
    // guard: forwarded
    if ingress_ifindex(ctx) != 0 {
        return Err(DropReason::Forwarded);
    }
    let header = header.ok_or(DropReason::NotForWorkload)?;
    let (source, destination) = (header.source(), header.destination());
    let checked = header.check(ctx);
    let mut about = false;
    if let Ok(checked) = &checked {
        seen.protocol = checked.protocol;
        about = message::is_error::<H>(ctx, checked);
        if !about && !checked.is_service() {
            return Err(DropReason::NotForWorkload);
        }
    }
    let to = destination.key();
    // SAFETY: the value is only read; the agent replaces whole values.
    let alias = unsafe { ALIASES.get(to) };
    // A packet to a host process' alias does not come this way, unless another process removed the address from the
    // device.
    let alias = alias.filter(|alias| alias.ifindex != 0).ok_or(DropReason::UnknownAlias)?;
    if switches::all_detached() || switches::workload_detached(alias.workload_id) {
        return Err(DropReason::Detached);
    }
    // guard: source-not-vip
    if !about && !config.is_vip(source) {
        return Err(DropReason::SourceNotVip);
    }
    let checked = checked?;
    if about {
        if of_another_user(ctx, config) {
            return Err(DropReason::NotEngine);
        }
        return Ok(ICMP_ERROR);
    }
    let ports = checked.ports(ctx)?;
    let mut asked: Option<H::Address> = None;
    match &ports {
        Some(ports) => {
            (seen.source_port, seen.destination_port) = (ports.source, ports.destination);
            permit(ctx, config, &to, source, checked.protocol, ports)?;
            if ports.flags & TCP_ACK != 0 && ports.flags & (TCP_SYN | TCP_RST) != 0 {
                answers(alias, &to, source.key(), ports);
            }
            if ports.source == intercept::DNS_PORT && source.is(config.dns_vip()) {
                asked = intercept::answered(ctx, &checked, alias.workload_id, to, ports);
            }
        }
        // guard: fragment-of-engine
        // Without its first fragment, which is judged as a whole packet is, a later one is worth nothing.
        None if checked.protocol != IPPROTO_TCP && ctx.get_socket_uid() != config.engine_uid => {
            return Err(DropReason::NotEngine);
        }
        None => {}
    }

    if !too_large::fits(ctx, &checked, alias.mtu) {
        return Ok(TOO_LARGE);
    }

    rewrite::destination(ctx, &checked, destination, H::Address::of(&alias.address))?;
    if let Some(resolver) = asked {
        rewrite::source(ctx, &checked, source, resolver)?;
    }
    rewrite::macs(ctx, &[alias.mac, VIRTUAL_MAC])?;
    count(Counter::ToWorkload);
    Ok(rewrite::redirect_out(alias.ifindex))
}

/// The user of listeners that wait for the engine: the agent's.
const ROOT: u32 = 0;

/// An alias is no way in: what begins something must come from the engine's user. Segments other than a bare SYN belong
/// to connections that began with one that was judged (here, or by `vip_listener`), and often carry no socket at all. But
/// where they carry a user's, it is that of one who connects from a VIP and was called from the other side meanwhile.
#[inline(always)]
fn permit<A: Ip>(
    ctx: &TcContext,
    config: &Config,
    to: &Address,
    source: A,
    protocol: u8,
    ports: &Ports,
) -> Result<(), DropReason>
where
    Config: Ranges<A>,
{
    if protocol == IPPROTO_TCP && !ports.is_bare_syn() {
        return if of_another_user(ctx, config) { Err(DropReason::NotEngine) } else { Ok(()) };
    }
    // guard: not-engine
    if ctx.get_socket_uid() != config.engine_uid {
        return Err(DropReason::NotEngine);
    }
    if protocol == IPPROTO_UDP {
        let from = ListenerKey { vip: source.key(), port: ports.source, protocol, pad: 0 };
        // SAFETY: only asked whether it is there.
        if unsafe { LISTENERS.get(from) }.is_some() {
            return Ok(());
        }
    }
    // guard: not-engine-source
    if !config.is_engine_source(source) {
        return Err(DropReason::NotEngineSource);
    }
    let target = TargetKey { alias: *to, port: ports.destination, protocol, pad: 0 };
    // guard: not-target
    // SAFETY: only asked whether it is there.
    if unsafe { TARGETS.get(target) }.is_none() {
        return Err(DropReason::NotTarget);
    }
    Ok(())
}

/// Whether a socket sent it that is neither the engine's nor root's (a connection is the agent's until it is accepted).
/// What the kernel sends for no socket, or for one that is half open or ending, belongs to no user.
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
    // guard: posing
    user != config.engine_uid && user != ROOT
}

/// What answers a workload's SYN: a SYN-ACK, or a RST, after which it is no longer half open.
#[inline(always)]
fn answers(alias: &Alias, to: &Address, vip: Address, ports: &Ports) {
    let flow = FlowKey { alias: *to, vip, source_port: ports.destination, destination_port: ports.source };
    if ports.flags & TCP_RST != 0 {
        half_open::refused(alias.workload_id, &flow);
    } else {
        half_open::answered(&flow, ports.sequence);
    }
}
