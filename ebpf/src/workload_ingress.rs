//! `workload_ingress`: packets from a workload.

use aya_ebpf::{bindings::__sk_buff, macros::classifier, programs::TcContext};
use brattice_abi::{Config, Counter, DropReason, FlowKey, IPPROTO_TCP, WORKLOAD_INTERCEPT_DNS, WorkloadKey};

use crate::{
    address::Ip,
    arp,
    config::{self, Ranges},
    documented_mac, half_open,
    icmp::{
        self,
        message::{self, Icmp},
    },
    intercept,
    ipv4::Ipv4,
    ipv6::Ipv6,
    maps::WORKLOADS,
    ndp,
    packet::{
        ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, Header, ICMP_ERROR, TCP_ACK, TCP_SYN, TCX_DROP, TCX_NEXT, ifindex, protocol,
    },
    report::{self, Program, Seen, count},
    rewrite::{self, Place},
    switches,
    tags::Taken,
};

/// `__sk_buff.pkt_type` of a packet for this host.
const PACKET_HOST: u32 = 0;

/// TCX ingress of a workload's host-side interface: takes service traffic, attests its source, and turns it into the
/// workload's alias. What is not service traffic gets `TCX_NEXT`, unchanged.
#[classifier]
pub fn workload_ingress(ctx: TcContext) -> i32 {
    // A tag belongs to another network than the one the workload is known by; with none of ours behind it, a VIP in
    // there is refused by `vip_listener`. One that only gives a priority does not.
    let tags = match Taken::off(&ctx) {
        Ok(tags) => tags,
        Err(verdict) => return verdict,
    };
    match judge(ctx.skb.skb) {
        ICMP_ERROR => icmp::from_workload(ctx.skb.skb),
        TCX_NEXT => tags.put_back(&ctx),
        verdict => verdict,
    }
}

/// All but ICMP errors.
#[inline(never)]
fn judge(skb: *mut __sk_buff) -> i32 {
    let ctx = TcContext::new(skb);
    let Some(config) = config::get() else { return TCX_NEXT };
    let mut seen = Seen::NOTHING;
    let verdict = match protocol(&ctx) {
        ETH_P_IP => ipv4(&ctx, config, &mut seen),
        ETH_P_IPV6 if config::has_ipv6(config) => ipv6(&ctx, config, &mut seen),
        ETH_P_ARP => arp::answer(&ctx, config, &mut seen),
        _ => return TCX_NEXT,
    };
    match verdict {
        Ok(verdict) => verdict,
        Err(reason) => {
            report::dropped(Program::WorkloadIngress, reason, ifindex(&ctx), &seen);
            TCX_DROP
        }
    }
}

#[inline(always)]
fn ipv4(ctx: &TcContext, config: &Config, seen: &mut Seen) -> Result<i32, DropReason> {
    let Some(header) = Ipv4::load(ctx) else { return Ok(TCX_NEXT) };
    take(ctx, config, &header, seen)
}

#[inline(always)]
fn ipv6(ctx: &TcContext, config: &Config, seen: &mut Seen) -> Result<i32, DropReason> {
    let Some(header) = Ipv6::load(ctx) else { return Ok(TCX_NEXT) };
    if let Some(solicitation) = ndp::solicitation(ctx, config, &header) {
        return ndp::answer(ctx, &header, &solicitation, seen);
    }
    take(ctx, config, &header, seen)
}

/// Takes what is for a VIP, of either family.
#[inline(always)]
fn take<H>(ctx: &TcContext, config: &Config, header: &H, seen: &mut Seen) -> Result<i32, DropReason>
where
    H: Icmp,
    H::Address: Place,
    Config: Ranges<H::Address>,
{
    let (source, destination) = (header.source(), header.destination());
    let to_vip = config.is_vip(destination);
    let to_alias = config.is_alias(destination);
    let from_reserved = config.is_vip(source) || config.is_alias(source);
    let ours = to_vip || to_alias || from_reserved;
    if !ours && header.peek_destination_port(ctx) != intercept::DNS_PORT {
        return Ok(TCX_NEXT);
    }
    let (source_key, destination_key) = (source.key(), destination.key());
    *seen = Seen { source: source_key, destination: destination_key, protocol: header.protocol(), ..Seen::NOTHING };

    let ifindex = ifindex(ctx);
    let key = WorkloadKey { ifindex, address: source_key };
    // SAFETY: the value is only read; the agent replaces whole values.
    let workload = unsafe { WORKLOADS.get(key) };
    if !ours && !workload.is_some_and(|w| w.flags & WORKLOAD_INTERCEPT_DNS != 0) {
        return Ok(TCX_NEXT);
    }
    if switches::all_detached() || workload.is_some_and(|w| switches::workload_detached(w.workload_id)) {
        count(Counter::DetachedPassed);
        if to_vip {
            // While the workload remembers our MAC for the VIP, the stack takes its packets for another host's and is
            // silent. As one of its own it refuses them at once. No byte changes; what fails stays silent.
            let _ = ctx.change_type(PACKET_HOST);
        }
        return Ok(TCX_NEXT);
    }
    // guard: to-alias
    if to_alias {
        return Err(DropReason::ToAlias);
    }
    // guard: from-reserved
    if from_reserved {
        return Err(DropReason::FromReserved);
    }

    let checked = header.check(ctx)?;
    seen.protocol = checked.protocol;
    if to_vip && message::is_error::<H>(ctx, &checked) {
        return Ok(ICMP_ERROR);
    }
    // guard: spoofed-source
    let workload = workload.ok_or(DropReason::SpoofedSource)?;
    documented_mac::check(ctx, workload)?;
    // guard: other-protocols
    if !checked.is_service() {
        return Err(DropReason::UnsupportedProtocol);
    }
    let ports = checked.ports(ctx)?;
    let alias = H::Address::of(&workload.alias);
    let alias_key = alias.key();
    // Where the packet will go: to the VIP it names, or to the DNS VIP.
    let dns_vip: H::Address = config.dns_vip();
    let vip = if to_vip { destination } else { dns_vip };
    if let Some(ports) = &ports {
        (seen.source_port, seen.destination_port) = (ports.source, ports.destination);
        if checked.protocol == IPPROTO_TCP {
            let flow = FlowKey {
                alias: alias_key,
                vip: vip.key(),
                source_port: ports.source,
                destination_port: ports.destination,
            };
            if ports.is_bare_syn() {
                half_open::admit(workload.workload_id, &flow, config.half_open_limit)?;
            } else if ports.flags & (TCP_SYN | TCP_ACK) == TCP_ACK {
                half_open::acknowledged(workload.workload_id, &flow, ports.acknowledgment);
            }
        }
        if !to_vip {
            intercept::remember(ctx, &checked, workload.workload_id, alias_key, ports, destination_key)?;
        } else if ports.destination == intercept::DNS_PORT && destination.is(dns_vip) {
            intercept::forget(ctx, &checked, workload.workload_id, alias_key, ports);
        }
    }

    rewrite::source(ctx, &checked, source, alias)?;
    if !to_vip {
        rewrite::destination(ctx, &checked, destination, vip)?;
        count(Counter::DnsIntercepted);
    }
    rewrite::macs(ctx, &[config.brattice0_mac])?;
    count(Counter::FromWorkload);
    Ok(rewrite::redirect_in(config.brattice0))
}
