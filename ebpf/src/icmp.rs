//! ICMP and ICMPv6 errors about our flows: path-MTU discovery, and unreachable ports of targets.
//!
//! An error quotes the packet it is about, so two packets are translated: the error and its quote. It is let through only
//! if the quoted packet went to or came from the very workload that the error comes from or goes to; whether its ports
//! and sequence numbers mean a live socket is for the stack to judge, as with any error.
//!
//! IPv4: the sum over a quoted header is 0 before and after, so the ICMP checksum stays. ICMPv6 includes the outer
//! addresses, and quoted headers have no checksum: so the ICMPv6 checksum is updated for both. The TCP or UDP checksum
//! in the quote stays as it is: no receiver checks it, and mostly it is cut off or was left to the hardware.

pub(crate) mod message;

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use brattice_abi::{Alias, Config, Counter, DropReason, VIRTUAL_MAC, WorkloadKey};

use self::message::{HEADER_LEN, Icmp};
use crate::{
    address::Ip,
    config::{self, Ranges},
    documented_mac, intercept,
    ipv4::Ipv4,
    ipv6::Ipv6,
    maps::{ALIASES, WORKLOADS},
    packet::{Checked, ETH_P_IP, Ports, TCX_DROP, TCX_NEXT, ifindex, protocol},
    report::{self, Program, Seen, count},
    rewrite::{self, Place},
    switches,
};

/// Which address of a quoted header.
#[derive(Clone, Copy)]
enum Field {
    Source,
    Destination,
}

/// `workload_ingress` goes on here with an error to a VIP ([`crate::packet::ICMP_ERROR`]), from any sender.
#[inline(never)]
pub(crate) fn from_workload(skb: *mut __sk_buff) -> i32 {
    let ctx = TcContext::new(skb);
    let mut seen = Seen::NOTHING;
    let verdict = match config::get() {
        Some(config) if protocol(&ctx) == ETH_P_IP => take::<Ipv4>(&ctx, config, &mut seen),
        Some(config) => take::<Ipv6>(&ctx, config, &mut seen),
        None => Err(DropReason::NotConfigured),
    };
    verdict.unwrap_or_else(|reason| {
        report::dropped(Program::WorkloadIngress, reason, ifindex(&ctx), &seen);
        TCX_DROP
    })
}

/// An error of a workload, or of a router in its network, about a packet that came from `header.destination()`, a VIP.
/// The outer source may be any address; the engine sees the workload's alias.
#[inline(always)]
fn take<H>(ctx: &TcContext, config: &Config, seen: &mut Seen) -> Result<i32, DropReason>
where
    H: Icmp,
    H::Address: Place,
{
    let (header, checked) = outer::<H>(ctx, seen)?;
    let (quote, _) = quoted::<H>(ctx, &checked)?;
    let real = quote.destination();
    // guard: icmp-foreign
    if !quote.source().is(header.destination()) {
        return Err(DropReason::IcmpForeign);
    }
    let key = WorkloadKey { ifindex: ifindex(ctx), address: real.key() };
    // SAFETY: the value is only read; the agent replaces whole values.
    let workload = unsafe { WORKLOADS.get(key) }.ok_or(DropReason::IcmpForeign)?;
    if switches::workload_detached(workload.workload_id) {
        count(Counter::DetachedPassed);
        return Ok(TCX_NEXT);
    }
    documented_mac::check(ctx, workload)?;
    let alias = H::Address::of(&workload.alias);
    replace::<H>(ctx, &checked, Field::Destination, real, alias)?;
    rewrite::source(ctx, &checked, header.source(), alias)?;
    rewrite::macs(ctx, &[config.brattice0_mac])?;
    count(Counter::IcmpFromWorkload);
    Ok(rewrite::redirect_in(config.brattice0))
}

/// `workload_egress` goes on here with an error to an alias ([`crate::packet::ICMP_ERROR`]), once it has looked at the
/// sender, the destination and the switches.
#[inline(never)]
pub(crate) fn to_workload(skb: *mut __sk_buff) -> i32 {
    let ctx = TcContext::new(skb);
    let mut seen = Seen::NOTHING;
    let verdict = match config::get() {
        Some(config) if protocol(&ctx) == ETH_P_IP => deliver::<Ipv4>(&ctx, config, &mut seen),
        Some(config) => deliver::<Ipv6>(&ctx, config, &mut seen),
        None => Err(DropReason::NotConfigured),
    };
    verdict.unwrap_or_else(|reason| {
        report::dropped(Program::WorkloadEgress, reason, ifindex(&ctx), &seen);
        TCX_DROP
    })
}

/// An error of the host's stack about what a workload sent to a VIP.
#[inline(always)]
fn deliver<H>(ctx: &TcContext, config: &Config, seen: &mut Seen) -> Result<i32, DropReason>
where
    H: Icmp,
    H::Address: Place,
    Config: Ranges<H::Address>,
{
    let (header, checked) = outer::<H>(ctx, seen)?;
    let (quote, inner) = quoted::<H>(ctx, &checked)?;
    let to = header.destination();
    let called = quote.destination();
    // guard: icmp-foreign-back
    if !quote.source().is(to) || !config.is_vip(called) {
        return Err(DropReason::IcmpForeign);
    }
    // SAFETY: the value is only read; the agent replaces whole values.
    let alias: &Alias = unsafe { ALIASES.get(to.key()) }.ok_or(DropReason::UnknownAlias)?;
    let real = H::Address::of(&alias.address);
    replace::<H>(ctx, &checked, Field::Source, to, real)?;
    rewrite::destination(ctx, &checked, to, real)?;
    // The stack chooses an address of an interface as an ICMPv6 error's source, and a VIP is on none.
    let mut source = header.source();
    if !config.is_vip(source) {
        rewrite::source(ctx, &checked, source, called)?;
        source = called;
    }
    // The workload knows its question by the resolver that it asked.
    let [asker, port]: [u16; 2] = ctx.load(inner.l4_offset as usize).map_err(|_| DropReason::HelperFailed)?;
    if u16::from_be(port) == intercept::DNS_PORT && called.is(config.dns_vip()) {
        let answer = Ports::of_udp(intercept::DNS_PORT, u16::from_be(asker));
        if let Some(resolver) = intercept::asked::<H::Address>(ctx, &inner, to.key(), &answer) {
            replace::<H>(ctx, &checked, Field::Destination, called, resolver)?;
            rewrite::source(ctx, &checked, source, resolver)?;
        }
    }
    rewrite::macs(ctx, &[alias.mac, VIRTUAL_MAC])?;
    count(Counter::IcmpToWorkload);
    Ok(rewrite::redirect_out(alias.ifindex))
}

/// The error's own header.
#[inline(always)]
fn outer<H>(ctx: &TcContext, seen: &mut Seen) -> Result<(H, Checked), DropReason>
where
    H: Icmp,
    H::Address: Place,
{
    let header = H::load(ctx).ok_or(DropReason::Truncated)?;
    *seen = Seen {
        source: header.source().key(),
        destination: header.destination().key(),
        protocol: H::PROTOCOL,
        ..Seen::NOTHING
    };
    let checked = header.check(ctx)?;
    Ok((header, checked))
}

/// The quoted packet.
#[inline(always)]
fn quoted<H>(ctx: &TcContext, checked: &Checked) -> Result<(H, Checked), DropReason>
where
    H: Icmp,
    H::Address: Place,
{
    if checked.payload < HEADER_LEN {
        return Err(DropReason::Truncated);
    }
    if !checked.whole {
        return Err(DropReason::Malformed);
    }
    H::quoted(ctx, checked.l4_offset + HEADER_LEN, checked.payload - HEADER_LEN).ok_or(DropReason::IcmpQuote)
}

/// Puts an address in place of another in the quoted header.
#[inline(always)]
fn replace<H>(
    ctx: &TcContext,
    checked: &Checked,
    field: Field,
    from: H::Address,
    to: H::Address,
) -> Result<(), DropReason>
where
    H: Icmp,
    H::Address: Place,
{
    let quote = (checked.l4_offset + HEADER_LEN) as usize;
    let at = match field {
        Field::Source => H::Address::SOURCE,
        Field::Destination => H::Address::DESTINATION,
    };
    H::Address::put_quoted(ctx, checked.l4_offset as usize, quote, at, from, to)
}
