//! Detours: does the kernel find our routes? A process that may write routes and rules can lead packets to aliases and
//! VIPs elsewhere, while all our routes are in place. So we ask the kernel which route such packets would take.

use std::net::IpAddr;

use brattice_abi as abi;
use ipnet::IpNet;

use crate::netlink::Socket;
use crate::netlink::link;
use crate::netlink::route::{self, Lookup, Route, RouteType};
use crate::options::Options;
use crate::{Error, Result, device, routes, rules};

/// Most addresses that are asked for, of each range.
const MOST_ASKED: usize = 16;

/// Packets, and where they should go.
struct Flow {
    what: &'static str,
    question: Lookup,
    kind: RouteType,
    /// Index of the interface it should leave by; `None`: it stays here.
    out: Option<u32>,
}

/// Detours, each with its rule and route, and what to do: a line each. None: all is well.
pub(crate) fn detours(socket: &mut Socket, options: &Options, ipv6: bool, brattice0: u32) -> Result<Vec<String>> {
    let all = route::list(socket).map_err(Error::netlink("listing routes"))?;
    let mut found = Vec::new();
    for flow in flows(options, ipv6, brattice0, &all) {
        let answer = route::lookup(socket, &flow.question);
        let well = answer
            .as_ref()
            .is_ok_and(|route| route.kind == flow.kind && flow.out.is_none_or(|out| route.interfaces.contains(&out)));
        if !well {
            found.push(describe(socket, &flow, answer)?);
        }
    }
    Ok(found)
}

fn flows(options: &Options, ipv6: bool, brattice0: u32, all: &[Route]) -> Vec<Flow> {
    let at = |offset: u32| std::net::Ipv4Addr::from(options.vip.network().to_bits() + offset);
    let (source, vip) = (abi::FIRST_ENGINE_SOURCE, abi::PROBE_VIP_OFFSET);
    let mut families =
        vec![(IpNet::V4(options.alias), IpNet::V4(options.vip), IpAddr::V4(at(source)), IpAddr::V4(at(vip)))];
    families.extend(
        options
            .ipv6
            .filter(|_| ipv6)
            .map(|six| (IpNet::V6(six.alias), IpNet::V6(six.vip), IpAddr::V6(six.at(source)), IpAddr::V6(six.at(vip)))),
    );
    let user = options.engine_uid;
    let mut flows = Vec::new();
    for (aliases, vips, source, vip) in families {
        let alias = aliases.broadcast();
        for destination in destinations(aliases, alias, all) {
            let question = Lookup { destination, source: Some(source), from: None, user };
            flows.push(Flow {
                what: "the engine sends to aliases",
                question,
                kind: RouteType::Unicast,
                out: Some(brattice0),
            });
        }
        for destination in destinations(vips, vip, all) {
            let question = Lookup { destination, source: Some(alias), from: Some(brattice0), user };
            flows.push(Flow { what: "workloads send to VIPs", question, kind: RouteType::Local, out: None });
        }
    }
    flows
}

/// Addresses of a range to ask for: one that is not in use, and one within each route of other software in the range.
fn destinations(range: IpNet, unused: IpAddr, all: &[Route]) -> impl Iterator<Item = IpAddr> {
    let others = all
        .iter()
        .filter(move |r| r.protocol != routes::PROTOCOL && r.kind != RouteType::Local)
        .filter(move |r| range.contains(&r.destination) && r.destination != range)
        .map(|r| r.destination.network());
    std::iter::once(unused).chain(others).take(MOST_ASKED)
}

fn describe(socket: &mut Socket, flow: &Flow, answer: std::io::Result<Route>) -> Result<String> {
    let destination = flow.question.destination;
    let (ip, family) = if destination.is_ipv4() { ("ip", "IPv4") } else { ("ip -6", "IPv6") };
    let rules = rules::list(socket, destination.is_ipv4())?;
    let begin = format!("what {} ({family}, to {destination})", flow.what);
    // What a host does not forward is refused; the way out is the same.
    let answer = answer.or_else(|error| {
        let out = Lookup { source: None, from: None, ..flow.question };
        route::lookup(socket, &out).ok().filter(|route| route.kind != flow.kind).ok_or(error)
    });
    Ok(match answer {
        Ok(route) => {
            let device = match route.interfaces.first() {
                Some(index) => {
                    link::by_index(socket, *index).ok().flatten().map_or_else(|| index.to_string(), |l| l.name)
                }
                None => "no interface".to_owned(),
            };
            // Both are asked for by the rule of `main` while the kernel keeps them as one.
            let by = rules.iter().find(|rule| rule.table == route.table && rule.table != 0);
            let by = by.map_or_else(String::new, |rule| format!(", by rule {}", rule.priority));
            let table = match route.table {
                route::TABLE_LOCAL => "local".to_owned(),
                route::TABLE_MAIN => "main".to_owned(),
                number => number.to_string(),
            };
            format!(
                "{begin} goes out by {device}: a route of table {table}{by} comes before those of Brattice; find it by `{ip} rule` and \
                 `{ip} route show table {table}`, and remove it or give the rule a priority above 0"
            )
        }
        Err(error) => {
            let first = rules.iter().find(|rule| !rules::is_ours(rule));
            let first =
                first.map_or_else(String::new, |rule| format!(" (the first one has priority {})", rule.priority));
            format!(
                "{begin} is refused ({error}): a rule{first} or a route of another program comes before those of Brattice; find it by \
                 `{ip} rule` and `{ip} route show table all`, and remove it. The device is {}",
                device::DEVICE
            )
        }
    })
}
