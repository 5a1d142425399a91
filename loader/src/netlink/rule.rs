//! Policy rules.

use std::collections::BTreeSet;
use std::io;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, Nla, Parseable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage};

use super::route::family;
use super::{Socket, attributes};

/// Bytes of `struct fib_rule_hdr`.
const HEADER: usize = 12;
/// `FRA_PAD`.
const PADDING: u16 = 18;
/// The value of the two `suppress` attributes that suppresses nothing: -1.
const NOTHING: u32 = u32::MAX;
/// Tables `default`, `main` and `local`; 0 is in rules that lead to none.
const TABLES_OF_EVERY_HOST: [u32; 4] = [0, 253, 254, 255];

/// A rule as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) priority: u32,
    pub(crate) protocol: u8,
    /// The table it leads to; 0: none.
    pub(crate) table: u32,
    pub(crate) destination: Option<IpNet>,
    /// It is for all packets, and its table alone decides.
    pub(crate) unconditional: bool,
}

impl Rule {
    fn parse(payload: &[u8]) -> Option<Self> {
        let header = RuleHeader::parse(payload).ok()?;
        let to_table = header.action == RuleAction::ToTable;
        let mut rule = Self {
            priority: 0,
            protocol: 0,
            table: header.table.into(),
            destination: None,
            unconditional: to_table
                && (header.dst_len, header.src_len, header.tos) == (0, 0, 0)
                && !header.flags.contains(RuleFlags::Invert),
        };
        for attribute in attributes(payload, HEADER) {
            match RuleAttribute::parse(&attribute) {
                Ok(RuleAttribute::Priority(priority)) => rule.priority = priority,
                Ok(RuleAttribute::Protocol(protocol)) => rule.protocol = protocol.into(),
                Ok(RuleAttribute::Table(table)) => rule.table = table,
                Ok(RuleAttribute::SuppressIfGroup(NOTHING) | RuleAttribute::SuppressPrefixLen(NOTHING)) => {}
                Ok(RuleAttribute::Other(other)) if other.kind() == PADDING => {}
                // All else are conditions, also those that this program does not know.
                Ok(RuleAttribute::Destination(address)) => {
                    rule.destination = IpNet::new(address, header.dst_len).ok();
                    rule.unconditional = false;
                }
                _ => rule.unconditional = false,
            }
        }
        if !to_table {
            rule.table = 0;
        }
        Some(rule)
    }
}

/// The rules of a family, in the order in which they are asked. None on a kernel without IPv6.
pub(crate) fn list(socket: &mut Socket, ipv4: bool) -> io::Result<Vec<Rule>> {
    let mut request = RuleMessage::default();
    request.header.family = family(ipv4);
    let found = socket.dump(&RouteNetlinkMessage::GetRule(request), |found, kind, payload| {
        if kind == libc::RTM_NEWRULE {
            found.extend(Rule::parse(payload));
        }
    });
    match found {
        Err(error) if !ipv4 && error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        other => other,
    }
}

/// The tables that rules of either family lead to, but those that every host has.
pub(crate) fn tables(socket: &mut Socket) -> io::Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for ipv4 in [true, false] {
        all.extend(list(socket, ipv4)?.into_iter().map(|rule| rule.table));
    }
    all.retain(|table| !TABLES_OF_EVERY_HOST.contains(table));
    Ok(all)
}

fn to_local(destination: IpNet, protocol: u8) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family(destination.addr().is_ipv4());
    rule.header.dst_len = destination.prefix_len();
    rule.header.table = libc::RT_TABLE_LOCAL;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Destination(destination.network()),
        RuleAttribute::Priority(0),
        RuleAttribute::Protocol(RouteProtocol::from(protocol)),
    ];
    rule
}

/// Adds a rule that leads what goes to this net to the table `local`, before all rules of a higher priority number than 0.
pub(crate) fn add(socket: &mut Socket, destination: IpNet, protocol: u8) -> io::Result<()> {
    let request = RouteNetlinkMessage::NewRule(to_local(destination, protocol));
    socket.acknowledged(request, NLM_F_CREATE | NLM_F_EXCL)
}

/// Removes it; one that is gone already is no error.
pub(crate) fn delete(socket: &mut Socket, destination: IpNet, protocol: u8) -> io::Result<()> {
    match socket.acknowledged(RouteNetlinkMessage::DelRule(to_local(destination, protocol)), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DefaultNla, Emitable};

    use super::*;

    fn parsed(change: impl FnOnce(&mut RuleMessage)) -> Rule {
        let mut message = RuleMessage::default();
        message.header.table = libc::RT_TABLE_LOCAL;
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Priority(7),
            RuleAttribute::SuppressPrefixLen(NOTHING),
            RuleAttribute::Other(DefaultNla::new(PADDING, Vec::new())),
        ];
        change(&mut message);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        Rule::parse(&bytes).unwrap()
    }

    #[test]
    fn a_condition_that_is_not_known_makes_a_rule_conditional() {
        assert!(parsed(|_| {}).unconditional);
        for attribute in [
            RuleAttribute::Other(DefaultNla::new(200, vec![1])),
            // A value that cannot be read.
            RuleAttribute::Other(DefaultNla::new(10, vec![1])),
            RuleAttribute::SuppressPrefixLen(0),
            RuleAttribute::FwMark(1),
        ] {
            let rule = parsed(|message| message.attributes.push(attribute.clone()));
            assert!(!rule.unconditional, "{attribute:?}");
            assert_eq!((rule.priority, rule.table), (7, libc::RT_TABLE_LOCAL.into()));
        }
        assert!(!parsed(|message| message.header.flags = RuleFlags::Invert).unconditional);
        assert_eq!(parsed(|message| message.header.action = RuleAction::Prohibit).table, 0);
    }
}
