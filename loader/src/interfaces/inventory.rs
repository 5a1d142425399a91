//! The interfaces, and the peer of each.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::programs::{self, Program, cni_of};
use crate::namespace::{self, Namespace};
use crate::netlink::address::{self, InterfaceAddress};
use crate::netlink::link::{self, Link};
use crate::netlink::route::{self, Route, RouteType};
use crate::netlink::{Family, Socket};
use crate::own_thread::on_own_thread;
use crate::{Error, Result, device};

/// An interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// `veth`, `bridge`, `vxlan`, `tap`, `tun`, ...; empty for hardware and loopback.
    pub kind: String,
    /// Its MAC; zero where it has none.
    pub mac: [u8; 6],
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is set up, and so is what it is connected to (of a veth pair, the other end).
    pub up: bool,
    /// The bridge (or bond) it is a port of.
    pub master: Option<u32>,
    /// Whether a default route, of either family and in any table, leads out of it.
    pub has_default_route: bool,
    /// Whether it is one of Brattice's own devices, or a probe's.
    pub ours: bool,
    /// Its own addresses here.
    pub addresses: Vec<IpAddr>,
    /// eBPF programs of other software on it.
    pub programs: Vec<Program>,
    /// The other end of a veth pair.
    pub peer: Option<Peer>,
}

impl Interface {
    /// The CNI whose data path it is part of, and the program that shows it.
    #[must_use]
    pub fn cni(&self) -> Option<(&'static str, &Program)> {
        self.programs.iter().find_map(|program| Some((cni_of(&self.name, &program.name)?, program)))
    }
}

/// The other end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its index, in its namespace.
    pub ifindex: u32,
    /// Its name there; empty if it cannot be asked for.
    pub name: String,
    /// Its MAC; zero if it cannot be asked for.
    pub mac: [u8; 6],
    /// Its MTU in bytes; 0 if it cannot be asked for. The pair drops what is larger than the receiving end's.
    pub mtu: u32,
    /// Name of its namespace in `/run/netns`, if it has one.
    pub namespace: Option<String>,
    /// Inode of its namespace; `None` if no name and no process leads to it.
    pub namespace_inode: Option<u64>,
    /// Its addresses there, without IPv6 ones that are link-local, temporary, deprecated or not yet (or not) unique.
    pub addresses: Vec<IpAddr>,
    /// Destinations of the routes in its namespace (main table), without default routes.
    pub routes: Vec<IpNet>,
}

/// Name of the throw-away devices of the active probe starts so.
pub(crate) const PROBE_PREFIX: &str = "brattice-p";

/// Facts of a foreign namespace, read once for all peers in it.
struct Inside {
    links: HashMap<u32, Link>,
    addresses: Vec<InterfaceAddress>,
    routes: Vec<Route>,
}

/// Lists all interfaces with their peers.
///
/// A namespace that vanishes meanwhile shows as a peer without name and addresses; the next [`super::Watch`] event
/// reports it.
///
/// # Errors
/// When the kernel refuses to list this namespace's own interfaces, routes or eBPF programs.
pub async fn inventory() -> Result<Vec<Interface>> {
    on_own_thread("inventory", list).await
}

/// See [`inventory`].
pub(crate) fn list() -> Result<Vec<Interface>> {
    let mut socket = Socket::open(Family::Route).map_err(Error::netlink("opening a routing socket"))?;
    let own = namespace::own()?;
    // First the links: being listed gives the namespaces of their peers an id.
    let links = link::list(&mut socket, None).map_err(Error::netlink("listing interfaces"))?;
    let routes = route::list(&mut socket).map_err(Error::netlink("listing routes"))?;
    let addresses = address::list(&mut socket, None).map_err(Error::netlink("listing addresses"))?;
    let namespaces = if links.iter().any(|l| l.link_nsid.is_some()) {
        namespace::known(&mut socket).map_err(Error::netlink("looking for network namespaces"))?
    } else {
        BTreeMap::new()
    };
    let filtered = programs::filtered(&mut socket)?;
    let mut inside: HashMap<u32, Option<Inside>> = HashMap::new();
    let mut all = Vec::with_capacity(links.len());
    for link in &links {
        let peer = match (link.kind.as_str(), link.link, link.link_nsid) {
            ("veth", Some(ifindex), None) => {
                let beside = links.iter().find(|l| l.ifindex == ifindex);
                Some(peer(ifindex, beside, &addresses, &[], None, Some(own.inode)))
            }
            ("veth", Some(ifindex), Some(nsid)) => {
                let namespace = namespaces.get(&nsid);
                let facts =
                    inside.entry(nsid).or_insert_with(|| look_inside(&mut socket, nsid, namespace).ok()).as_ref();
                let (link, addresses, routes) = match facts {
                    Some(f) => (f.links.get(&ifindex), f.addresses.as_slice(), f.routes.as_slice()),
                    None => (None, [].as_slice(), [].as_slice()),
                };
                let name = namespace.and_then(|n| n.name.clone());
                Some(peer(ifindex, link, addresses, routes, name, namespace.map(|n| n.inode)))
            }
            _ => None,
        };
        all.push(Interface {
            ifindex: link.ifindex,
            name: link.name.clone(),
            kind: link.kind.clone(),
            mac: link.mac,
            mtu: link.mtu,
            up: link.up() && link.running(),
            master: link.master,
            has_default_route: routes.iter().any(|r| {
                r.kind == RouteType::Unicast && r.destination.prefix_len() == 0 && r.interfaces.contains(&link.ifindex)
            }),
            ours: device::ours(link) || link.name.starts_with(PROBE_PREFIX),
            addresses: own_addresses(link.ifindex, &addresses),
            programs: programs::on(&mut socket, link, &filtered)?,
            peer,
        });
    }
    Ok(all)
}

fn own_addresses(ifindex: u32, all: &[InterfaceAddress]) -> Vec<IpAddr> {
    let own = all.iter().filter(|a| a.ifindex == ifindex && !a.unstable);
    own.map(|a| a.address).filter(|a| !is_link_local_v6(*a)).collect()
}

fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn peer(
    ifindex: u32,
    link: Option<&Link>,
    addresses: &[InterfaceAddress],
    routes: &[Route],
    namespace: Option<String>,
    namespace_inode: Option<u64>,
) -> Peer {
    Peer {
        ifindex,
        name: link.map(|l| l.name.clone()).unwrap_or_default(),
        mac: link.map(|l| l.mac).unwrap_or_default(),
        mtu: link.map_or(0, |l| l.mtu),
        namespace,
        namespace_inode,
        addresses: own_addresses(ifindex, addresses),
        routes: routes
            .iter()
            .filter(|r| r.table == route::TABLE_MAIN && r.kind == RouteType::Unicast && r.destination.prefix_len() != 0)
            .map(|r| r.destination)
            .collect(),
    }
}

fn look_inside(here: &mut Socket, nsid: u32, namespace: Option<&Namespace>) -> io::Result<Inside> {
    let by_index = |links: Vec<Link>| links.into_iter().map(|l| (l.ifindex, l)).collect();
    match namespace {
        Some(namespace) => {
            let mut there = namespace.socket()?;
            Ok(Inside {
                links: by_index(link::list(&mut there, None)?),
                addresses: address::list(&mut there, None)?,
                routes: route::list(&mut there)?,
            })
        }
        // No way in: the kernel gives links and addresses by id, but no routes.
        None => Ok(Inside {
            links: by_index(link::list(here, Some(nsid))?),
            addresses: address::list(here, Some(nsid))?,
            routes: Vec::new(),
        }),
    }
}
