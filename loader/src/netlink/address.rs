//! Addresses of interfaces.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, Parseable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};

use super::route::family;
use super::{Socket, attributes};

/// Bytes of `struct ifaddrmsg`.
const HEADER: usize = 8;

/// `IFA_F_*` of an address that cannot be used: not yet checked for duplicates, a duplicate, on its way out, or a
/// temporary one (RFC 8981), which is another tomorrow; of IPv6, the bit of `Secondary` says that.
const UNSTABLE: AddressFlags = AddressFlags::Tentative
    .union(AddressFlags::Dadfailed)
    .union(AddressFlags::Deprecated)
    .union(AddressFlags::Secondary);

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceAddress {
    pub(crate) ifindex: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Whether it is an IPv6 address that will not last, or does not count yet.
    pub(crate) unstable: bool,
}

impl InterfaceAddress {
    fn parse(payload: &[u8]) -> Option<Self> {
        let header = AddressHeader::parse(payload).ok()?;
        let [mut address, mut local] = [None; 2];
        let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
        for attribute in attributes(payload, HEADER) {
            match AddressAttribute::parse(&attribute) {
                Ok(AddressAttribute::Address(found)) => address = Some(found),
                Ok(AddressAttribute::Local(found)) => local = Some(found),
                Ok(AddressAttribute::Flags(found)) => flags = found,
                _ => {}
            }
        }
        // On a point-to-point link the other address is the other end's.
        let address = local.or(address)?;
        // Of IPv4 addresses the same bit says "secondary".
        let unstable = address.is_ipv6() && flags.intersects(UNSTABLE);
        Some(Self { ifindex: header.index, address, prefix: header.prefix_len, unstable })
    }
}

/// All addresses; of another namespace, if its id is given.
pub(crate) fn list(socket: &mut Socket, nsid: Option<u32>) -> io::Result<Vec<InterfaceAddress>> {
    let mut request = AddressMessage::default();
    request.attributes.extend(nsid.map(|id| AddressAttribute::TargetNetNsId(id.cast_signed())));
    socket.dump(&RouteNetlinkMessage::GetAddress(request), |all, kind, payload| {
        if kind == libc::RTM_NEWADDR {
            all.extend(InterfaceAddress::parse(payload));
        }
    })
}

/// An address to be added or removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewAddress {
    pub(crate) ifindex: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// No packet gets it as its source unless its socket is bound to it: scope `host`, of IPv6 deprecated.
    pub(crate) explicit_only: bool,
}

impl NewAddress {
    fn message(&self) -> AddressMessage {
        let ipv4 = self.address.is_ipv4();
        let mut message = AddressMessage::default();
        message.header = AddressHeader {
            family: family(ipv4),
            prefix_len: self.prefix,
            flags: if ipv4 { AddressHeaderFlags::empty() } else { AddressHeaderFlags::Nodad },
            scope: if ipv4 && self.explicit_only { AddressScope::Host } else { AddressScope::Universe },
            index: self.ifindex,
        };
        message.attributes = vec![AddressAttribute::Local(self.address), AddressAttribute::Address(self.address)];
        if self.explicit_only && !ipv4 {
            // Never preferred, and valid forever.
            let mut lifetimes = CacheInfo::default();
            lifetimes.ifa_valid = u32::MAX;
            message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
        }
        message
    }

    /// Adds it; of IPv6 without looking for duplicates first.
    pub(crate) fn add(&self, socket: &mut Socket) -> io::Result<()> {
        socket.acknowledged(RouteNetlinkMessage::NewAddress(self.message()), NLM_F_CREATE)
    }

    /// Removes it; one that is gone already is no error.
    pub(crate) fn remove(&self, socket: &mut Socket) -> io::Result<()> {
        match socket.acknowledged(RouteNetlinkMessage::DelAddress(self.message()), 0) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(()),
            other => other,
        }
    }
}
