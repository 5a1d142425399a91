//! Links: the kernel's name for interfaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NlaBuffer, Parseable, ParseableParametrized};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkHeader,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Socket, attributes};

/// Bytes of `struct ifinfomsg`.
const HEADER: usize = 16;
/// What is read of a link; all else (statistics, settings of protocols and drivers) is not even parsed.
const READ: [u16; 7] = [
    libc::IFLA_ADDRESS,
    libc::IFLA_IFNAME,
    libc::IFLA_MTU,
    libc::IFLA_LINK,
    libc::IFLA_MASTER,
    libc::IFLA_LINK_NETNSID,
    libc::IFLA_GROUP,
];
/// `IFLA_TUN_TYPE`, which the crate does not know.
const IFLA_TUN_TYPE: u16 = 3;
/// `IFF_TAP`.
const IFF_TAP: u8 = 2;

/// One link as the kernel reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) ifindex: u32,
    pub(crate) name: String,
    /// `veth`, `bridge`, ...; `tap` for a `tun` that carries frames; empty for hardware and loopback.
    pub(crate) kind: String,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) flags: LinkFlags,
    pub(crate) master: Option<u32>,
    /// The other end of a veth pair (or the lower device).
    pub(crate) link: Option<u32>,
    /// The namespace of `link`, if it is another one.
    pub(crate) link_nsid: Option<u32>,
    pub(crate) group: u32,
}

impl Link {
    pub(crate) fn up(&self) -> bool {
        self.flags.contains(LinkFlags::Up)
    }

    pub(crate) fn running(&self) -> bool {
        self.flags.contains(LinkFlags::Running)
    }

    pub(crate) fn noarp(&self) -> bool {
        self.flags.contains(LinkFlags::Noarp)
    }

    /// `None` without a name.
    fn parse(payload: &[u8]) -> Option<Self> {
        let header = LinkHeader::parse(payload).ok()?;
        let mut link = Self { ifindex: header.index, flags: header.flags, ..Self::default() };
        for attribute in attributes(payload, HEADER) {
            if attribute.kind() == libc::IFLA_LINKINFO {
                link.kind = kind(attribute.value());
            } else if READ.contains(&attribute.kind()) {
                link.read(&attribute);
            }
        }
        Some(link).filter(|link| !link.name.is_empty())
    }

    fn read(&mut self, attribute: &NlaBuffer<&[u8]>) {
        match LinkAttribute::parse_with_param(attribute, AddressFamily::Unspec) {
            // saturates: of other lengths, it is no link address of Ethernet, and 0 stands for none.
            Ok(LinkAttribute::Address(address)) => self.mac = address.try_into().unwrap_or_default(),
            Ok(LinkAttribute::IfName(name)) => self.name = name,
            Ok(LinkAttribute::Mtu(mtu)) => self.mtu = mtu,
            Ok(LinkAttribute::Link(ifindex)) => self.link = Some(ifindex).filter(|index| *index != 0),
            Ok(LinkAttribute::Controller(ifindex)) => self.master = Some(ifindex),
            Ok(LinkAttribute::LinkNetNsId(id)) => self.link_nsid = Some(id.cast_unsigned()),
            Ok(LinkAttribute::Group(group)) => self.group = group,
            _ => {}
        }
    }
}

/// The kind of device in `IFLA_LINKINFO`. Of its settings only those of `tun` are read: an unknown one of some driver must
/// not make a bridge look like hardware.
fn kind(information: &[u8]) -> String {
    let kind = attributes(information, 0).find_map(|attribute| InfoKind::parse(&attribute).ok());
    let tap = attributes(information, 0)
        .filter(|attribute| attribute.kind() == libc::IFLA_INFO_DATA)
        .any(|data| attributes(data.value(), 0).any(|a| a.kind() == IFLA_TUN_TYPE && a.value() == [IFF_TAP]));
    match kind {
        Some(InfoKind::Tun) if tap => "tap".to_owned(),
        Some(kind) => kind.to_string(),
        None => String::new(),
    }
}

/// A message about the link with this index (0: found by its name, or to be made).
fn message(ifindex: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.attributes = attributes;
    message
}

/// Sets the flags in `change` as they are in `flags`.
fn set_flags(socket: &mut Socket, ifindex: u32, flags: LinkFlags, change: LinkFlags) -> io::Result<()> {
    let mut message = message(ifindex, Vec::new());
    message.header.flags = flags;
    message.header.change_mask = change;
    socket.acknowledged(RouteNetlinkMessage::NewLink(message), 0)
}

/// All links; of another namespace, if its id is given.
pub(crate) fn list(socket: &mut Socket, nsid: Option<u32>) -> io::Result<Vec<Link>> {
    let target = nsid.map(|id| LinkAttribute::IfNetnsId(id.cast_signed()));
    let request = RouteNetlinkMessage::GetLink(message(0, target.into_iter().collect()));
    socket.dump(&request, |links, kind, payload| {
        if kind == libc::RTM_NEWLINK {
            links.extend(Link::parse(payload));
        }
    })
}

/// What a message says of a link as a whole.
#[derive(Debug)]
pub(crate) enum Event {
    /// It came or changed.
    Is(Link),
    /// The link with this index went.
    Gone(u32),
}

impl Event {
    /// `None`: it is about something else, as a bridge's view of its port.
    pub(crate) fn parse(kind: u16, payload: &[u8]) -> Option<Self> {
        let header = LinkHeader::parse(payload).ok()?;
        match kind {
            _ if header.interface_family != AddressFamily::Unspec => None,
            libc::RTM_NEWLINK => Link::parse(payload).map(Self::Is),
            libc::RTM_DELLINK => Some(Self::Gone(header.index)),
            _ => None,
        }
    }
}

fn missing_as_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn get(socket: &mut Socket, request: LinkMessage) -> io::Result<Option<Link>> {
    let answer = missing_as_none(socket.ask(RouteNetlinkMessage::GetLink(request)))?;
    Ok(answer.as_deref().and_then(Link::parse))
}

/// The link with this index.
pub(crate) fn by_index(socket: &mut Socket, ifindex: u32) -> io::Result<Option<Link>> {
    get(socket, message(ifindex, Vec::new()))
}

/// The link with this name.
pub(crate) fn by_name(socket: &mut Socket, name: &str) -> io::Result<Option<Link>> {
    get(socket, message(0, vec![LinkAttribute::IfName(name.to_owned())]))
}

/// What a veth pair to be made looks like.
pub(crate) struct VethPair<'a> {
    pub(crate) name: &'a str,
    pub(crate) peer: &'a str,
    /// Marks both ends, so that a half-made pair is known as Brattice's, too.
    pub(crate) group: u32,
    pub(crate) mtu: u32,
    pub(crate) noarp: bool,
    /// Where the peer goes; `None`: beside.
    pub(crate) peer_namespace: Option<BorrowedFd<'a>>,
}

impl VethPair<'_> {
    fn end(&self, name: &str) -> LinkMessage {
        let (name, mtu, group) = (name.to_owned(), self.mtu, self.group);
        let mut end =
            message(0, vec![LinkAttribute::IfName(name), LinkAttribute::Mtu(mtu), LinkAttribute::Group(group)]);
        end.header.flags = if self.noarp { LinkFlags::Noarp } else { LinkFlags::empty() };
        end.header.change_mask = end.header.flags;
        end
    }
}

/// Makes a veth pair, both ends down.
pub(crate) fn add_veth(socket: &mut Socket, pair: &VethPair<'_>) -> io::Result<()> {
    let mut peer = pair.end(pair.peer);
    peer.attributes.extend(pair.peer_namespace.map(|fd| LinkAttribute::NetNsFd(fd.as_raw_fd())));
    let mut request = pair.end(pair.name);
    request.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    socket.acknowledged(RouteNetlinkMessage::NewLink(request), NLM_F_CREATE | NLM_F_EXCL)
}

/// Sets a link up or down.
pub(crate) fn set_up(socket: &mut Socket, ifindex: u32, up: bool) -> io::Result<()> {
    set_flags(socket, ifindex, if up { LinkFlags::Up } else { LinkFlags::empty() }, LinkFlags::Up)
}

/// Sets `NOARP`.
pub(crate) fn set_noarp(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    set_flags(socket, ifindex, LinkFlags::Noarp, LinkFlags::Noarp)
}

/// Sets the MTU.
pub(crate) fn set_mtu(socket: &mut Socket, ifindex: u32, mtu: u32) -> io::Result<()> {
    socket.acknowledged(RouteNetlinkMessage::NewLink(message(ifindex, vec![LinkAttribute::Mtu(mtu)])), 0)
}

/// Keeps IPv6 from giving the link an address of its own. On a kernel without IPv6 there is nothing to keep it from.
pub(crate) fn set_no_ipv6_address(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let request = message(ifindex, vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])]);
    match socket.acknowledged(RouteNetlinkMessage::NewLink(request), 0) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP)) => {
            Ok(())
        }
        other => other,
    }
}

/// Removes a link (of a veth pair: both ends).
pub(crate) fn delete(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    let request = RouteNetlinkMessage::DelLink(message(ifindex, Vec::new()));
    missing_as_none(socket.acknowledged(request, 0)).map(drop)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DefaultNla, Emitable};

    use super::*;

    fn parsed(attributes: Vec<LinkAttribute>) -> Option<Link> {
        let message = message(3, attributes);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        Link::parse(&bytes)
    }

    fn raw(kind: u16, value: &[u8]) -> LinkAttribute {
        LinkAttribute::Other(DefaultNla::new(kind, value.to_vec()))
    }

    #[test]
    fn an_attribute_that_cannot_be_read_costs_itself_alone() {
        let name = LinkAttribute::IfName("eth0".to_owned());
        // A bridge with a setting too short for the crate, a group of one byte, statistics of nothing.
        let bridge = [&[11, 0, 1, 0][..], b"bridge\0\0", &[12, 0, 2, 0, 8, 0, 1, 0, 1, 0, 0, 0]].concat();
        let found =
            parsed(vec![raw(libc::IFLA_GROUP, &[1]), raw(23, &[]), raw(libc::IFLA_LINKINFO, &bridge), name]).unwrap();
        assert_eq!((found.ifindex, &*found.name, &*found.kind, found.group), (3, "eth0", "bridge", 0));
        assert_eq!(parsed(vec![LinkAttribute::Mtu(1500)]), None);
    }

    #[test]
    fn a_tun_that_carries_frames_is_a_tap() {
        for (kind, expected) in [(IFF_TAP, "tap"), (1, "tun")] {
            let tun = [&[8, 0, 1, 0][..], b"tun\0", &[12, 0, 2, 0, 5, 0, 3, 0, kind, 0, 0, 0]].concat();
            let name = LinkAttribute::IfName("tap0".to_owned());
            assert_eq!(parsed(vec![name, raw(libc::IFLA_LINKINFO, &tun)]).unwrap().kind, expected);
        }
    }
}
