//! Our two routes: the alias pool through `brattice0`, the VIP range to ourselves.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use crate::netlink::Socket;
use crate::netlink::link;
use crate::netlink::route::{self, NewRoute, Route};
use crate::{Error, Result};

/// Route protocol number of every route of ours (`ip route show proto 187`). No daemon uses it.
pub const PROTOCOL: u8 = 187;
/// Gateway of the alias route, never asked for (`onlink` on a NOARP device): without it the host's neighbour table would
/// hold an entry for each alias. 192.0.0.8 is IANA's dummy address (RFC 7600).
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The alias pool's route.
pub(crate) fn alias(pool: Ipv4Net, device: u32, mtu: u32) -> NewRoute {
    NewRoute {
        destination: pool.trunc(),
        kind: route::UNICAST,
        protocol: PROTOCOL,
        interface: device,
        gateway: Some(GATEWAY),
        source: None,
        mtu: Some(mtu),
    }
}

/// The VIP range's route. Its source is the range's first address: what a host process shows when it calls a VIP.
pub(crate) fn vip(range: Ipv4Net, loopback: u32) -> NewRoute {
    NewRoute {
        destination: range.trunc(),
        kind: route::LOCAL,
        protocol: PROTOCOL,
        interface: loopback,
        gateway: None,
        source: Some(range.network()),
        mtu: None,
    }
}

/// The route that makes the alias of a process of the host an address that its sockets can have.
pub(crate) fn host(alias: Ipv4Addr, loopback: u32) -> NewRoute {
    NewRoute {
        destination: alias.into(),
        kind: route::LOCAL,
        protocol: PROTOCOL,
        interface: loopback,
        gateway: None,
        source: None,
        mtu: None,
    }
}

/// The routes of [`host`] that there are.
pub(crate) fn hosts(socket: &mut Socket, pool: Ipv4Net) -> Result<Vec<Route>> {
    let found = list(socket)?;
    Ok(found.into_iter().filter(|r| r.kind == route::LOCAL && IpNet::V4(pool).contains(&r.destination)).collect())
}

/// Index of `lo`, which must be up: the kernel takes no local route to a device that is down.
pub(crate) fn loopback(socket: &mut Socket) -> Result<u32> {
    let lo = link::by_name(socket, "lo").map_err(Error::netlink("looking for lo"))?;
    match lo {
        Some(lo) if lo.up() => Ok(lo.ifindex),
        _ => Err(Error::LoopbackDown),
    }
}

fn same(wanted: &NewRoute, found: &Route) -> bool {
    found.protocol == wanted.protocol
        && found.kind == wanted.kind
        && found.interfaces == [wanted.interface]
        && found.gateway == wanted.gateway.map(Into::into)
        && found.onlink() == wanted.gateway.is_some()
        && found.source == wanted.source.map(Into::into)
        && found.mtu == wanted.mtu
}

/// Whether a route is one of ours.
pub(crate) fn ours(route: &Route) -> bool {
    route.protocol == PROTOCOL
        && match route.kind {
            route::LOCAL => route.table == route::TABLE_LOCAL,
            route::UNICAST => route.table == route::TABLE_MAIN && route.gateway == Some(GATEWAY.into()),
            _ => false,
        }
}

/// Writes the route unless it is there as wanted; whether it was written. A route of somebody else's to the very same
/// range is left alone and is an error.
pub(crate) fn ensure(socket: &mut Socket, wanted: &NewRoute) -> Result<bool> {
    let all = route::list(socket).map_err(Error::netlink("listing routes"))?;
    let table = if wanted.kind == route::LOCAL { route::TABLE_LOCAL } else { route::TABLE_MAIN };
    let there: Vec<_> =
        all.iter().filter(|r| r.table == table && r.destination == IpNet::V4(wanted.destination)).collect();
    if there.iter().any(|r| same(wanted, r)) {
        return Ok(false);
    }
    if let Some(foreign) = there.iter().find(|r| r.protocol != PROTOCOL) {
        return Err(Error::RouteTaken { range: wanted.destination.to_string(), table, protocol: foreign.protocol });
    }
    wanted
        .add(socket, !there.is_empty())
        .map_err(Error::netlink(format!("writing the route to {}", wanted.destination)))?;
    Ok(true)
}

/// Our routes as they are now.
pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Route>> {
    let all = route::list(socket).map_err(Error::netlink("listing routes"))?;
    Ok(all.into_iter().filter(ours).collect())
}

/// Removes a route of ours.
pub(crate) fn remove(socket: &mut Socket, found: &Route) -> Result<()> {
    let IpNet::V4(destination) = found.destination else { return Ok(()) };
    NewRoute {
        destination,
        kind: found.kind,
        protocol: found.protocol,
        interface: found.interfaces.first().copied().unwrap_or(0),
        gateway: (found.kind == route::UNICAST).then_some(GATEWAY),
        source: None,
        mtu: None,
    }
    .delete(socket)
    .map_err(Error::netlink(format!("removing the route to {destination}")))
}

/// A line for `footprint`.
pub(crate) fn describe(found: &Route) -> String {
    if found.kind == route::LOCAL {
        let source = found.source.map(|s| format!(" src {s}")).unwrap_or_default();
        format!("route local {} dev lo{source} proto {PROTOCOL}", found.destination)
    } else {
        let mtu = found.mtu.map(|m| format!(" mtu {m}")).unwrap_or_default();
        format!("route {} via {GATEWAY} dev {} onlink{mtu} proto {PROTOCOL}", found.destination, crate::device::DEVICE)
    }
}
