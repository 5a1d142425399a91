//! Our four routes, two of each family: the alias pool through `brattice0`, the VIP range to ourselves.
//!
//! Both are in the table `local`, which the kernel asks before all others. A VPN's rule may lead everything to a table
//! with a default route of its own, and the kernel writes routes of router advertisements into `main`; any host on a
//! link may send those, so a workload could take others' aliases by a longer prefix. Where the table `local` is not
//! asked first, see [`crate::rules`]. (Of IPv4, `local` and `main` are one trie while there is no rule but the kernel's
//! own: a longer prefix in `main` counts then. [`crate::detours`] reports that.)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::netlink::Socket;
use crate::netlink::link;
use crate::netlink::route::{self, NewRoute, Route, RouteType};
use crate::{Error, Result};

/// Route protocol number of every route of Brattice (`ip route show proto 187`). IS-IS of FRR has the same number, so more is compared than this (see `ours`).
pub const PROTOCOL: u8 = 187;
/// Gateway of the alias route, never asked for (`onlink` on a NOARP device): without it the host's neighbour table would
/// hold an entry for each alias. 192.0.0.8 is IANA's dummy address (RFC 7600).
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// As [`GATEWAY`], of IPv6. It exists on no link that `brattice0` is on.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The least MTU of IPv6 (RFC 8200, 5).
const LEAST_MTU6: u32 = 1280;

fn gateway(destination: IpNet) -> IpAddr {
    if destination.addr().is_ipv4() { GATEWAY.into() } else { GATEWAY6.into() }
}

/// The alias pool's route. A workload with an MTU too small for IPv6 has no IPv6.
pub(crate) fn alias(pool: IpNet, device: u32, mtu: u32) -> NewRoute {
    NewRoute {
        destination: pool.trunc(),
        table: route::TABLE_LOCAL,
        kind: RouteType::Unicast,
        protocol: PROTOCOL,
        interface: device,
        gateway: Some(gateway(pool)),
        source: None,
        mtu: Some(if pool.addr().is_ipv4() { mtu } else { mtu.max(LEAST_MTU6) }),
    }
}

/// The VIP range's route. Its source is the range's first address: what a host process shows when it calls a VIP. Of
/// IPv6 the kernel takes only a source that an interface has, and a host process shows `::1`.
pub(crate) fn vip(range: IpNet, loopback: u32) -> NewRoute {
    NewRoute {
        destination: range.trunc(),
        table: route::TABLE_LOCAL,
        kind: RouteType::Local,
        protocol: PROTOCOL,
        interface: loopback,
        gateway: None,
        source: range.addr().is_ipv4().then_some(range.network()),
        mtu: None,
    }
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
        && found.gateway == wanted.gateway
        && found.onlink() == wanted.gateway.is_some()
        && found.source == wanted.source
        && found.mtu == wanted.mtu
}

/// Whether a route is Brattice's. Those of IPv4 aliases were in the table `main` once.
pub(crate) fn ours(route: &Route) -> bool {
    route.protocol == PROTOCOL
        && match route.kind {
            RouteType::Local => route.table == route::TABLE_LOCAL,
            RouteType::Unicast => {
                [route::TABLE_LOCAL, route::TABLE_MAIN].contains(&route.table)
                    && route.gateway == Some(gateway(route.destination))
            }
            _ => false,
        }
}

/// Writes the route unless it is there as wanted, and removes what an older version wrote to another table; whether anything
/// had to be done. A route of other software to the very same range is left alone and is an error.
pub(crate) fn ensure(socket: &mut Socket, wanted: &NewRoute) -> Result<bool> {
    let all = route::list(socket).map_err(Error::netlink("listing routes"))?;
    let (there, elsewhere): (Vec<_>, Vec<_>) =
        all.iter().filter(|r| r.destination == wanted.destination).partition(|r| r.table == wanted.table);
    // The new one first, so that there is always one.
    let mut changed = write(socket, wanted, &there)?;
    for old in elsewhere.into_iter().filter(|r| ours(r)) {
        remove(socket, old)?;
        changed = true;
    }
    Ok(changed)
}

/// Writes the route unless it is among those in its table; whether it was written.
fn write(socket: &mut Socket, wanted: &NewRoute, there: &[&Route]) -> Result<bool> {
    if there.iter().any(|r| same(wanted, r)) {
        return Ok(false);
    }
    let table = wanted.table;
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

/// Removes a route of Brattice.
pub(crate) fn remove(socket: &mut Socket, found: &Route) -> Result<()> {
    let destination = found.destination;
    NewRoute {
        destination,
        table: found.table,
        kind: found.kind,
        protocol: found.protocol,
        interface: found.interfaces.first().copied().unwrap_or(0),
        gateway: (found.kind == RouteType::Unicast).then(|| gateway(destination)),
        source: None,
        mtu: None,
    }
    .delete(socket)
    .map_err(Error::netlink(format!("removing the route to {destination}")))
}

/// A line for `footprint`.
pub(crate) fn describe(found: &Route) -> String {
    if found.kind == RouteType::Local {
        let source = found.source.map(|s| format!(" src {s}")).unwrap_or_default();
        format!("route local {} dev lo{source} proto {PROTOCOL}", found.destination)
    } else {
        let mtu = found.mtu.map(|m| format!(" mtu {m}")).unwrap_or_default();
        let (destination, gateway) = (found.destination, gateway(found.destination));
        let table = if found.table == route::TABLE_LOCAL { " table local" } else { "" };
        format!("route {destination} via {gateway} dev {} onlink{mtu}{table} proto {PROTOCOL}", crate::device::DEVICE)
    }
}
