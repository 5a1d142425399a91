//! Routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::link::ip;
use super::{Message, Socket, attributes, u32_at};

/// Bytes of `struct rtmsg`.
const HEADER: usize = 12;

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_IIF: u16 = 3;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_UID: u16 = 25;
const RTA_IP_PROTO: u16 = 27;
const RTAX_MTU: u16 = 2;
const RTNH_F_ONLINK: u32 = 4;
/// Bytes of `struct rtnexthop`.
const NEXT_HOP: usize = 8;

/// Table `local`.
pub(crate) const TABLE_LOCAL: u32 = 255;
/// Table `main`.
pub(crate) const TABLE_MAIN: u32 = 254;
/// Type `unicast`.
pub(crate) const UNICAST: u8 = 1;
/// Type `local`.
pub(crate) const LOCAL: u8 = 2;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;

/// A route as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) table: u32,
    pub(crate) protocol: u8,
    pub(crate) kind: u8,
    /// Every interface it leads out of.
    pub(crate) interfaces: Vec<u32>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) mtu: Option<u32>,
    /// `RTNH_F_*` and `RTM_F_*`.
    pub(crate) flags: u32,
}

impl Route {
    pub(crate) fn onlink(&self) -> bool {
        self.flags & RTNH_F_ONLINK != 0
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let found = attributes(payload, HEADER);
        let prefix = *payload.get(1)?;
        let any = match i32::from(*payload.first()?) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let destination = IpNet::new(found.get(RTA_DST).and_then(ip).unwrap_or(any), prefix).ok()?;
        let mut interfaces: Vec<u32> = found.number(RTA_OIF).into_iter().collect();
        let mut hops = found.get(RTA_MULTIPATH).unwrap_or(&[]);
        while let (Some(length), Some(ifindex)) = (super::u16_at(hops, 0), u32_at(hops, 4)) {
            interfaces.push(ifindex);
            let length = usize::from(length).max(NEXT_HOP);
            hops = hops.get((length + 3) & !3..).unwrap_or(&[]);
        }
        Some(Self {
            destination,
            table: found.number(RTA_TABLE).unwrap_or_else(|| u32::from(payload.get(4).copied().unwrap_or(0))),
            protocol: *payload.get(5)?,
            kind: *payload.get(7)?,
            interfaces,
            gateway: found.get(RTA_GATEWAY).and_then(ip),
            source: found.get(RTA_PREFSRC).and_then(ip),
            mtu: found.inside(RTA_METRICS).number(RTAX_MTU),
            flags: u32_at(payload, 8)?,
        })
    }
}

/// All routes of both families and all tables. Routes that the kernel cloned for single destinations are left out.
pub(crate) fn list(socket: &mut Socket) -> io::Result<Vec<Route>> {
    const RTM_F_CLONED: u32 = 0x200;
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut head = [0; HEADER];
        head[0] = u8::try_from(family).unwrap_or(0);
        let found = socket.dump(&Message::new(libc::RTM_GETROUTE, &head), |routes, kind, payload| {
            if kind == libc::RTM_NEWROUTE {
                routes.extend(Route::parse(payload).filter(|r| r.flags & RTM_F_CLONED == 0));
            }
        });
        match found {
            Ok(found) => all.extend(found),
            // A kernel without IPv6.
            Err(error) if family == libc::AF_INET6 && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
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
    pub(crate) kind: u8,
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
    /// Whose socket sends it.
    pub(crate) user: u32,
}

/// Asks for the way: the route, with the table it was found in. (Of IPv4, while no rule but the kernel's own exists, that is
/// `main` for what is in the table `local`, too.) Where there is none, the error says why.
pub(crate) fn lookup(socket: &mut Socket, wanted: &Lookup) -> io::Result<Route> {
    const RTM_F_LOOKUP_TABLE: u32 = 0x1000;
    const RTM_F_FIB_MATCH: u32 = 0x2000;
    let (family, bits, flags) = match wanted.destination {
        IpAddr::V4(_) => (libc::AF_INET, 32, RTM_F_LOOKUP_TABLE),
        IpAddr::V6(_) => (libc::AF_INET6, 128, RTM_F_FIB_MATCH),
    };
    let mut head = [0; HEADER];
    head[0] = u8::try_from(family).unwrap_or(0);
    (head[1], head[2]) = (bits, if wanted.source.is_some() { bits } else { 0 });
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    let mut message = Message::new(libc::RTM_GETROUTE, &head)
        .attribute(RTA_DST, &octets(wanted.destination))
        .attribute(RTA_IP_PROTO, &[u8::try_from(libc::IPPROTO_TCP).unwrap_or(0)]);
    if let Some(source) = wanted.source {
        message = message.attribute(RTA_SRC, &octets(source));
    }
    message = match wanted.from {
        Some(interface) => message.number(RTA_IIF, interface),
        None => message.number(RTA_UID, wanted.user),
    };
    let answer = socket.ask(message)?;
    Route::parse(&answer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

impl NewRoute {
    fn message(&self, request: u16) -> Message {
        let scope = match (self.kind, self.gateway) {
            (LOCAL, _) => SCOPE_HOST,
            (_, Some(_)) => SCOPE_UNIVERSE,
            (_, None) => SCOPE_LINK,
        };
        let mut head = [0; HEADER];
        let family = if self.destination.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        head[0] = u8::try_from(family).unwrap_or(0);
        head[1] = self.destination.prefix_len();
        head[4] = u8::try_from(self.table).unwrap_or(0);
        head[5] = self.protocol;
        head[6] = scope;
        head[7] = self.kind;
        let flags = if self.gateway.is_some() { RTNH_F_ONLINK } else { 0 };
        head[8..12].copy_from_slice(&flags.to_ne_bytes());
        let mut message = Message::new(request, &head)
            .attribute(RTA_DST, &octets(self.destination.network()))
            .number(RTA_OIF, self.interface);
        if let Some(gateway) = self.gateway {
            message = message.attribute(RTA_GATEWAY, &octets(gateway));
        }
        if let Some(source) = self.source {
            message = message.attribute(RTA_PREFSRC, &octets(source));
        }
        if let Some(mtu) = self.mtu {
            message = message.nested(RTA_METRICS, |m| m.number(RTAX_MTU, mtu));
        }
        message
    }

    /// Writes the route; with `replace` in place of one to the same destination, else such a one is an error.
    pub(crate) fn add(&self, socket: &mut Socket, replace: bool) -> io::Result<()> {
        let how = if replace { libc::NLM_F_REPLACE } else { libc::NLM_F_EXCL };
        socket.acknowledged(self.message(libc::RTM_NEWROUTE).flags(libc::NLM_F_CREATE | how))
    }

    /// Removes it, whatever its MTU; one that is gone already is no error.
    pub(crate) fn delete(&self, socket: &mut Socket) -> io::Result<()> {
        let plain = Self { mtu: None, source: None, ..*self };
        match socket.acknowledged(plain.message(libc::RTM_DELROUTE)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV)) => Ok(()),
            other => other,
        }
    }
}
