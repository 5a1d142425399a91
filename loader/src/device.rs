//! `brattice0`: Brattice's one device, an end of a veth pair that carries what goes to and comes from workloads. Its addresses
//! are the aliases of processes of the host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::netlink::Socket;
use crate::netlink::address::{self, NewAddress};
use crate::netlink::link::{self, Link, VethPair};
use crate::{Error, Result};

/// The device with the routes and `workload_egress`.
pub const DEVICE: &str = "brattice0";
/// Its other end, which carries nothing.
pub const PEER: &str = "brattice1";
/// Device group of both ends: distinguishes our devices from others of the same name. Set when they are made, so that a
/// half-made pair is known, too.
pub(crate) const GROUP: u32 = 187;
/// MTU of both ends until a workload needs more.
pub(crate) const DEFAULT_MTU: u32 = 1500;

/// The device, if it is there and Brattice's.
pub(crate) fn find(socket: &mut Socket) -> Result<Option<Link>> {
    let Some(found) = link::by_name(socket, DEVICE).map_err(Error::netlink(format!("looking for {DEVICE}")))? else {
        return Ok(None);
    };
    if ours(&found) {
        return Ok(Some(found));
    }
    Err(Error::ForeignDevice { name: DEVICE, found: describe(&found) })
}

fn describe(found: &Link) -> String {
    let kind = if found.kind.is_empty() { "no veth" } else { &found.kind };
    format!("{kind}, group {}", found.group)
}

/// Whether a link is one of our two devices.
pub(crate) fn ours(link: &Link) -> bool {
    link.kind == "veth" && link.group == GROUP && (link.name == DEVICE || link.name == PEER)
}

/// Makes the device or fixes it; the device, and whether anything had to be done.
pub(crate) fn ensure(socket: &mut Socket) -> Result<(Link, bool)> {
    let mut changed = false;
    let device = match find(socket)? {
        Some(device) => device,
        None => {
            if let Some(peer) = link::by_name(socket, PEER).map_err(Error::netlink(format!("looking for {PEER}")))? {
                return Err(Error::ForeignDevice { name: PEER, found: describe(&peer) });
            }
            let pair = VethPair {
                name: DEVICE,
                peer: PEER,
                group: GROUP,
                mtu: DEFAULT_MTU,
                noarp: true,
                peer_namespace: None,
            };
            link::add_veth(socket, &pair).map_err(Error::netlink(format!("making {DEVICE}")))?;
            changed = true;
            find(socket)?.ok_or_else(|| Error::Netlink {
                what: format!("{DEVICE} vanished while it was being made"),
                source: std::io::Error::from(std::io::ErrorKind::NotFound),
            })?
        }
    };
    let peer = match device.link {
        Some(ifindex) if device.link_nsid.is_none() => {
            link::by_index(socket, ifindex).map_err(Error::netlink(format!("looking for {PEER}")))?
        }
        _ => None,
    };
    for end in std::iter::once(&device).chain(peer.iter()) {
        if !end.noarp() {
            link::set_noarp(socket, end.ifindex).map_err(Error::netlink(format!("setting {} NOARP", end.name)))?;
            changed = true;
        }
        if !end.up() {
            // Before it is up for the first time, or IPv6 would have given it an address.
            link::set_no_ipv6_address(socket, end.ifindex)
                .map_err(Error::netlink(format!("keeping IPv6 from giving {} an address", end.name)))?;
            link::set_up(socket, end.ifindex, true).map_err(Error::netlink(format!("setting {} up", end.name)))?;
            changed = true;
        }
    }
    Ok((device, changed))
}

/// Lets both ends carry packets of this size.
pub(crate) fn raise_mtu(socket: &mut Socket, device: &Link, mtu: u32) -> Result<()> {
    if device.mtu >= mtu {
        return Ok(());
    }
    for ifindex in [device.link.filter(|_| device.link_nsid.is_none()), Some(device.ifindex)].into_iter().flatten() {
        link::set_mtu(socket, ifindex, mtu).map_err(Error::netlink(format!("setting the MTU of {DEVICE} to {mtu}")))?;
    }
    Ok(())
}

/// Its addresses.
pub(crate) fn addresses(socket: &mut Socket, device: &Link) -> Result<BTreeSet<IpAddr>> {
    let all = address::list(socket, None).map_err(Error::netlink(format!("asking for the addresses of {DEVICE}")))?;
    Ok(all.into_iter().filter(|own| own.ifindex == device.ifindex).map(|own| own.address).collect())
}

/// Gives it these addresses and no others; whether anything had to be done.
pub(crate) fn set_addresses(socket: &mut Socket, device: &Link, wanted: &BTreeSet<IpAddr>) -> Result<bool> {
    let there = addresses(socket, device)?;
    let whole = |address: IpAddr| {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        NewAddress { ifindex: device.ifindex, address, prefix, explicit_only: true }
    };
    for address in wanted.difference(&there) {
        whole(*address).add(socket).map_err(Error::netlink(format!("giving {DEVICE} the address {address}")))?;
    }
    for address in there.difference(wanted) {
        whole(*address)
            .remove(socket)
            .map_err(Error::netlink(format!("taking the address {address} from {DEVICE}")))?;
    }
    Ok(there != *wanted)
}

/// Removes the device if it is there and Brattice's.
pub(crate) fn remove(socket: &mut Socket) -> Result<bool> {
    match find(socket) {
        Ok(Some(device)) => {
            link::delete(socket, device.ifindex).map_err(Error::netlink(format!("removing {DEVICE}")))?;
            Ok(true)
        }
        // Of other software, so not to be removed.
        Ok(None) | Err(Error::ForeignDevice { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
