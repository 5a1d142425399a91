//! `workload_ingress`: what comes from a workload.

use aya_ebpf::{macros::classifier, programs::TcContext};
use brattice_abi::{Config, Counter, DropReason, FlowKey, IPPROTO_TCP, WORKLOAD_INTERCEPT_DNS, WorkloadKey};

use crate::{
    address, arp,
    config::{self, Ranges},
    half_open, intercept,
    maps::WORKLOADS,
    packet::{ETH_P_ARP, ETH_P_IP, Ipv4, TCP_ACK, TCP_SYN, TCX_DROP, TCX_NEXT, ifindex, protocol, vlan},
    report::{self, Program, Seen, count},
    rewrite, switches,
};

/// `__sk_buff.pkt_type` of a packet for this host.
const PACKET_HOST: u32 = 0;

/// TCX ingress of a workload's host-side interface: takes service traffic, attests its source, and turns it into the
/// workload's alias. What is not service traffic gets `TCX_NEXT`, unchanged.
#[classifier]
pub fn workload_ingress(ctx: TcContext) -> i32 {
    let Some(config) = config::get() else { return TCX_NEXT };
    // A tag belongs to another network than the one the workload is known by; with none of ours behind it, a VIP in
    // there is refused by `vip_listener`.
    if vlan(&ctx) != 0 {
        return TCX_NEXT;
    }
    let mut seen = Seen::NOTHING;
    let verdict = match protocol(&ctx) {
        ETH_P_IP => ipv4(&ctx, config, &mut seen),
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
    let (source, destination, protocol) = (header.source(), header.destination(), header.protocol);
    let to_vip = config.is_vip(destination);
    let to_alias = config.is_alias(destination);
    let from_reserved = config.is_vip(source) || config.is_alias(source);
    let ours = to_vip || to_alias || from_reserved;
    if !ours && header.peek_destination_port(ctx) != intercept::DNS_PORT {
        return Ok(TCX_NEXT);
    }
    *seen = Seen { source, destination, protocol, ..Seen::NOTHING };

    let ifindex = ifindex(ctx);
    let key = WorkloadKey { ifindex, address: address::v4(source) };
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
    if to_alias {
        return Err(DropReason::ToAlias);
    }
    if from_reserved {
        return Err(DropReason::FromReserved);
    }

    let checked = header.check(ctx)?;
    let workload = workload.ok_or(DropReason::SpoofedSource)?;
    if !header.has_ports() {
        return Err(DropReason::UnsupportedProtocol);
    }
    let ports = checked.ports(ctx, protocol)?;
    let alias = address::number(&workload.alias);
    let alias_key = address::v4(alias);
    // Where the packet will go: to the VIP it names, or to the DNS VIP.
    let vip = if to_vip { destination } else { config.dns_vip() };
    if let Some(ports) = &ports {
        (seen.source_port, seen.destination_port) = (ports.source, ports.destination);
        if protocol == IPPROTO_TCP {
            let flow = FlowKey {
                alias: alias_key,
                vip: address::v4(vip),
                source_port: ports.source,
                destination_port: ports.destination,
            };
            if ports.is_bare_syn() {
                half_open::admit(workload.workload_id, &flow, config.half_open_limit)?;
            } else if ports.flags & (TCP_SYN | TCP_ACK) == TCP_ACK {
                half_open::release(workload.workload_id, &flow);
            }
        }
        if !to_vip {
            intercept::remember(ctx, &checked, protocol, alias_key, ports, destination)?;
        } else if ports.destination == intercept::DNS_PORT && destination == config.dns_vip() {
            intercept::forget(ctx, &checked, protocol, alias_key, ports);
        }
    }

    rewrite::source(ctx, &checked, protocol, source, alias)?;
    if !to_vip {
        rewrite::destination(ctx, &checked, protocol, destination, vip)?;
        count(Counter::DnsIntercepted);
    }
    rewrite::macs(ctx, &[config.brattice0_mac])?;
    count(Counter::FromWorkload);
    Ok(rewrite::redirect_in(config.brattice0))
}
