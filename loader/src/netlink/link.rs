//! Links and addresses.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::Attributes;
use super::{Message, Socket, attributes, u16_at, u32_at};

/// Bytes of `struct ifinfomsg`.
const HEADER: usize = 16;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_TARGET_NETNSID: u16 = 46;
const VETH_INFO_PEER: u16 = 1;
const IFLA_TUN_TYPE: u16 = 3;
const IFF_TAP: u8 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_TARGET_NETNSID: u16 = 10;

/// One link as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) ifindex: u32,
    pub(crate) name: String,
    /// `veth`, `bridge`, ...; `tap` for a `tun` that carries frames; empty for hardware and loopback.
    pub(crate) kind: String,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) flags: u32,
    pub(crate) master: Option<u32>,
    /// The other end of a veth pair (or the lower device).
    pub(crate) link: Option<u32>,
    /// The namespace of `link`, if it is another one.
    pub(crate) link_nsid: Option<u32>,
    pub(crate) group: u32,
}

impl Link {
    pub(crate) fn up(&self) -> bool {
        self.flags & libc::IFF_UP.cast_unsigned() != 0
    }

    pub(crate) fn running(&self) -> bool {
        self.flags & libc::IFF_RUNNING.cast_unsigned() != 0
    }

    pub(crate) fn noarp(&self) -> bool {
        self.flags & libc::IFF_NOARP.cast_unsigned() != 0
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let found = attributes(payload, HEADER);
        let mut mac = [0; 6];
        if let Some(address) = found.get(IFLA_ADDRESS).filter(|a| a.len() == 6) {
            mac.copy_from_slice(address);
        }
        Some(Self {
            ifindex: u32_at(payload, 4)?,
            name: found.text(IFLA_IFNAME)?,
            kind: kind(&found.inside(IFLA_LINKINFO)),
            mac,
            mtu: found.number(IFLA_MTU).unwrap_or(0),
            flags: u32_at(payload, 8)?,
            master: found.number(IFLA_MASTER),
            link: found.number(IFLA_LINK).filter(|i| *i != 0),
            link_nsid: found.number(IFLA_LINK_NETNSID),
            group: found.number(IFLA_GROUP).unwrap_or(0),
        })
    }
}

fn kind(information: &Attributes<'_>) -> String {
    let kind = information.text(IFLA_INFO_KIND).unwrap_or_default();
    let tap = kind == "tun" && information.inside(IFLA_INFO_DATA).get(IFLA_TUN_TYPE) == Some(&[IFF_TAP]);
    if tap { "tap".to_owned() } else { kind }
}

fn header(ifindex: u32, flags: libc::c_int, change: libc::c_int) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// All links; of another namespace, if its id is given.
pub(crate) fn list(socket: &mut Socket, nsid: Option<u32>) -> io::Result<Vec<Link>> {
    let mut request = Message::new(libc::RTM_GETLINK, &header(0, 0, 0));
    if let Some(nsid) = nsid {
        request = request.number(IFLA_TARGET_NETNSID, nsid);
    }
    socket.dump(&request, |links, kind, payload| {
        if kind == libc::RTM_NEWLINK {
            links.extend(Link::parse(payload));
        }
    })
}

fn missing_as_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The link with this index.
pub(crate) fn by_index(socket: &mut Socket, ifindex: u32) -> io::Result<Option<Link>> {
    let answer = missing_as_none(socket.ask(Message::new(libc::RTM_GETLINK, &header(ifindex, 0, 0))))?;
    Ok(answer.as_deref().and_then(Link::parse))
}

/// The link with this name.
pub(crate) fn by_name(socket: &mut Socket, name: &str) -> io::Result<Option<Link>> {
    let request = Message::new(libc::RTM_GETLINK, &header(0, 0, 0)).text(IFLA_IFNAME, name);
    Ok(missing_as_none(socket.ask(request))?.as_deref().and_then(Link::parse))
}

/// What a veth pair to be made looks like.
pub(crate) struct VethPair<'a> {
    pub(crate) name: &'a str,
    pub(crate) peer: &'a str,
    /// Marks both ends, so that a half-made pair is known as ours, too.
    pub(crate) group: u32,
    pub(crate) mtu: u32,
    pub(crate) noarp: bool,
    /// Where the peer goes; `None`: beside.
    pub(crate) peer_namespace: Option<BorrowedFd<'a>>,
}

/// Makes a veth pair, both ends down.
pub(crate) fn add_veth(socket: &mut Socket, pair: &VethPair<'_>) -> io::Result<()> {
    let flags = if pair.noarp { libc::IFF_NOARP } else { 0 };
    let head = header(0, flags, flags);
    let request = Message::new(libc::RTM_NEWLINK, &head)
        .flags(libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .text(IFLA_IFNAME, pair.name)
        .number(IFLA_MTU, pair.mtu)
        .number(IFLA_GROUP, pair.group)
        .nested(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |m| {
                m.nested(VETH_INFO_PEER, |m| {
                    let m = m
                        .raw(&head)
                        .text(IFLA_IFNAME, pair.peer)
                        .number(IFLA_MTU, pair.mtu)
                        .number(IFLA_GROUP, pair.group);
                    match pair.peer_namespace {
                        Some(fd) => m.number(IFLA_NET_NS_FD, fd.as_raw_fd().cast_unsigned()),
                        None => m,
                    }
                })
            })
        });
    socket.acknowledged(request)
}

/// Sets a link up or down.
pub(crate) fn set_up(socket: &mut Socket, ifindex: u32, up: bool) -> io::Result<()> {
    let flags = if up { libc::IFF_UP } else { 0 };
    socket.acknowledged(Message::new(libc::RTM_NEWLINK, &header(ifindex, flags, libc::IFF_UP)))
}

/// Sets `NOARP`.
pub(crate) fn set_noarp(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    socket.acknowledged(Message::new(libc::RTM_NEWLINK, &header(ifindex, libc::IFF_NOARP, libc::IFF_NOARP)))
}

/// Sets the MTU.
pub(crate) fn set_mtu(socket: &mut Socket, ifindex: u32, mtu: u32) -> io::Result<()> {
    socket.acknowledged(Message::new(libc::RTM_NEWLINK, &header(ifindex, 0, 0)).number(IFLA_MTU, mtu))
}

/// Keeps IPv6 from giving the link an address of its own. On a kernel without IPv6 there is nothing to keep it from.
pub(crate) fn set_no_ipv6_address(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    let inet6 = u16::try_from(libc::AF_INET6).unwrap_or(0);
    let request = Message::new(libc::RTM_NEWLINK, &header(ifindex, 0, 0)).nested(IFLA_AF_SPEC, |m| {
        m.nested(inet6, |m| m.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]))
    });
    match socket.acknowledged(request) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP)) => {
            Ok(())
        }
        other => other,
    }
}

/// Removes a link (of a veth pair: both ends).
pub(crate) fn delete(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    missing_as_none(socket.acknowledged(Message::new(libc::RTM_DELLINK, &header(ifindex, 0, 0)))).map(drop)
}

/// `IFA_F_*` of an address that nobody is called by: not yet checked for duplicates, a duplicate, on its way out, or a
/// temporary one (RFC 8981) that will be another tomorrow.
const PASSING: u32 = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED | libc::IFA_F_DEPRECATED | libc::IFA_F_TEMPORARY;

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceAddress {
    pub(crate) ifindex: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Whether it is an IPv6 address that will not last, or does not count yet.
    pub(crate) passing: bool,
}

/// An address from an attribute.
pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// All addresses; of another namespace, if its id is given.
pub(crate) fn addresses(socket: &mut Socket, nsid: Option<u32>) -> io::Result<Vec<InterfaceAddress>> {
    let mut request = Message::new(libc::RTM_GETADDR, &[0; ADDRESS_HEADER]);
    if let Some(nsid) = nsid {
        request = request.number(IFA_TARGET_NETNSID, nsid);
    }
    socket.dump(&request, |all, kind, payload| {
        if kind != libc::RTM_NEWADDR {
            return;
        }
        let found = attributes(payload, ADDRESS_HEADER);
        // IFA_LOCAL is ours on a point-to-point link, where IFA_ADDRESS is the other end's.
        let address = found.get(IFA_LOCAL).or_else(|| found.get(IFA_ADDRESS)).and_then(ip);
        let prefix = u16_at(payload, 0).map(|w| w.to_ne_bytes()[1]);
        if let (Some(address), Some(prefix), Some(ifindex)) = (address, prefix, u32_at(payload, 4)) {
            let flags = found.number(IFA_FLAGS).unwrap_or_else(|| u32::from(payload.get(2).copied().unwrap_or(0)));
            // Of IPv4 addresses the same bit says "secondary".
            let passing = address.is_ipv6() && flags & PASSING != 0;
            all.push(InterfaceAddress { ifindex, address, prefix, passing });
        }
    })
}

/// An address to be added or removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewAddress {
    pub(crate) ifindex: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Only for who asks for it: no packet gets it as its source otherwise.
    pub(crate) aside: bool,
}

impl NewAddress {
    fn message(&self, request: u16) -> Message {
        let (family, octets) = match self.address {
            IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
        };
        let mut head = [0; ADDRESS_HEADER];
        head[0] = u8::try_from(family).unwrap_or(0);
        head[1] = self.prefix;
        if self.address.is_ipv6() {
            head[2] = u8::try_from(libc::IFA_F_NODAD).unwrap_or(0);
        } else if self.aside {
            head[3] = libc::RT_SCOPE_HOST;
        }
        head[4..8].copy_from_slice(&self.ifindex.to_ne_bytes());
        let mut message = Message::new(request, &head).attribute(IFA_LOCAL, &octets).attribute(IFA_ADDRESS, &octets);
        if self.aside && self.address.is_ipv6() {
            // `struct ifa_cacheinfo`: never preferred, and valid for ever.
            let mut lifetimes = [0; 16];
            lifetimes[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
            message = message.attribute(IFA_CACHEINFO, &lifetimes);
        }
        message
    }

    /// Adds it; of IPv6 without looking for duplicates first.
    pub(crate) fn add(&self, socket: &mut Socket) -> io::Result<()> {
        socket.acknowledged(self.message(libc::RTM_NEWADDR).flags(libc::NLM_F_CREATE))
    }

    /// Removes it; one that is gone already is no error.
    pub(crate) fn remove(&self, socket: &mut Socket) -> io::Result<()> {
        match socket.acknowledged(self.message(libc::RTM_DELADDR)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(()),
            other => other,
        }
    }
}
