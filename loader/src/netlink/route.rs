//! Routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, ParseableParametrized};
pub(crate) use netlink_packet_route::route::RouteType;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Socket, attributes};

/// Bytes of `struct rtmsg`.
const HEADER: usize = 12;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// Table `local`.
pub(crate) const TABLE_LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;
/// Table `main`.
pub(crate) const TABLE_MAIN: u32 = libc::RT_TABLE_MAIN as u32;

/// A route as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) table: u32,
    pub(crate) protocol: u8,
    pub(crate) kind: RouteType,
    /// Every interface it leads out of.
    pub(crate) interfaces: Vec<u32>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) mtu: Option<u32>,
    pub(crate) flags: RouteFlags,
}

/// The family's number in headers.
pub(super) fn family(ipv4: bool) -> AddressFamily {
    if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match *address {
        RouteAddress::Inet(v4) => Some(v4.into()),
        RouteAddress::Inet6(v6) => Some(v6.into()),
        _ => None,
    }
}

impl Route {
    pub(crate) fn onlink(&self) -> bool {
        self.flags.contains(RouteFlags::Onlink)
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let header = RouteHeader::parse(payload).ok()?;
        let mut destination = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let mut table = header.table.into();
        let mut interfaces = Vec::new();
        let [mut gateway, mut source] = [None; 2];
        let mut mtu = None;
        for attribute in attributes(payload, HEADER) {
            // What a tunnel puts around the packets is nothing to us, so its type need not be known.
            let context = (header.address_family, header.kind, RouteLwEnCapType::None);
            match RouteAttribute::parse_with_param(&attribute, context) {
                Ok(RouteAttribute::Destination(address)) => destination = ip(&address)?,
                Ok(RouteAttribute::Table(number)) => table = number,
                Ok(RouteAttribute::Oif(ifindex)) => interfaces.push(ifindex),
                Ok(RouteAttribute::MultiPath(hops)) => interfaces.extend(hops.iter().map(|hop| hop.interface_index)),
                Ok(RouteAttribute::Gateway(address)) => gateway = ip(&address),
                Ok(RouteAttribute::PrefSource(address)) => source = ip(&address),
                Ok(RouteAttribute::Metrics(metrics)) => {
                    mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
        let (protocol, kind, flags) = (header.protocol.into(), header.kind, header.flags);
        Some(Self { destination, table, protocol, kind, interfaces, gateway, source, mtu, flags })
    }
}

/// All routes of both families and all tables. Routes that the kernel cloned for single destinations are left out.
pub(crate) fn list(socket: &mut Socket) -> io::Result<Vec<Route>> {
    let mut all = Vec::new();
    for ipv4 in [true, false] {
        let mut request = RouteMessage::default();
        request.header.address_family = family(ipv4);
        let found = socket.dump(&RouteNetlinkMessage::GetRoute(request), |routes, kind, payload| {
            if kind == libc::RTM_NEWROUTE {
                routes.extend(Route::parse(payload).filter(|route| !route.flags.contains(RouteFlags::Cloned)));
            }
        });
        match found {
            Ok(found) => all.extend(found),
            // A kernel without IPv6.
            Err(error) if !ipv4 && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// A route to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRoute {
    pub(crate) destination: IpNet,
    pub(crate) table: u32,
    pub(crate) kind: RouteType,
    pub(crate) protocol: u8,
    pub(crate) interface: u32,
    /// Taken as reachable on the interface, and never asked for. Of the destination's family, as is the source.
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) mtu: Option<u32>,
}

/// A question to the kernel: which way would a TCP segment take?
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    pub(crate) destination: IpAddr,
    pub(crate) source: Option<IpAddr>,
    /// The interface that it comes in by; `None`: this host sends it.
    pub(crate) from: Option<u32>,
    /// The user of the socket that sends it.
    pub(crate) user: u32,
}

/// Asks for the way: the route, with the table it was found in. (Of IPv4, while no rule but the kernel's own exists, that is
/// `main` for what is in the table `local`, too.) Where there is none, the error says why.
pub(crate) fn lookup(socket: &mut Socket, wanted: &Lookup) -> io::Result<Route> {
    let (bits, flags) = match wanted.destination {
        IpAddr::V4(_) => (32, RouteFlags::LookupTable),
        IpAddr::V6(_) => (128, RouteFlags::FibMatch),
    };
    let mut request = RouteMessage::default();
    request.header.address_family = family(wanted.destination.is_ipv4());
    request.header.destination_prefix_length = bits;
    request.header.flags = flags;
    request.attributes = vec![RouteAttribute::Destination(wanted.destination.into()), RouteAttribute::IpProto(TCP)];
    if let Some(source) = wanted.source {
        request.header.source_prefix_length = bits;
        request.attributes.push(RouteAttribute::Source(source.into()));
    }
    request.attributes.push(match wanted.from {
        Some(interface) => RouteAttribute::Iif(interface),
        None => RouteAttribute::Uid(wanted.user),
    });
    let answer = socket.ask(RouteNetlinkMessage::GetRoute(request))?;
    Route::parse(&answer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

impl NewRoute {
    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(self.destination.addr().is_ipv4()),
            destination_prefix_length: self.destination.prefix_len(),
            protocol: RouteProtocol::from(self.protocol),
            scope: match (self.kind, self.gateway) {
                (RouteType::Local, _) => RouteScope::Host,
                (_, Some(_)) => RouteScope::Universe,
                (_, None) => RouteScope::Link,
            },
            kind: self.kind,
            flags: if self.gateway.is_some() { RouteFlags::Onlink } else { RouteFlags::empty() },
            ..RouteHeader::default()
        };
        message.attributes = vec![
            RouteAttribute::Destination(self.destination.network().into()),
            RouteAttribute::Oif(self.interface),
            RouteAttribute::Table(self.table),
        ];
        message.attributes.extend(self.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        message.attributes.extend(self.source.map(|source| RouteAttribute::PrefSource(source.into())));
        message.attributes.extend(self.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
        message
    }

    /// Writes the route; with `replace` in place of one to the same destination, else such a one is an error.
    pub(crate) fn add(&self, socket: &mut Socket, replace: bool) -> io::Result<()> {
        let how = if replace { NLM_F_REPLACE } else { NLM_F_EXCL };
        socket.acknowledged(RouteNetlinkMessage::NewRoute(self.message()), NLM_F_CREATE | how)
    }

    /// Removes it, whatever its MTU; one that is gone already is no error.
    pub(crate) fn delete(&self, socket: &mut Socket) -> io::Result<()> {
        let plain = Self { mtu: None, source: None, ..*self };
        match socket.acknowledged(RouteNetlinkMessage::DelRoute(plain.message()), 0) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV)) => Ok(()),
            other => other,
        }
    }
}
