//! Policy rules.

use std::collections::BTreeSet;
use std::io;

use ipnet::IpNet;

use super::link::ip;
use super::route::{TABLE_LOCAL, octets};
use super::{Message, Socket, attributes};

/// Bytes of `struct fib_rule_hdr`.
const HEADER: usize = 12;
const FRA_DST: u16 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
/// `FR_ACT_TO_TBL`.
const TO_TABLE: u8 = 1;
/// `FIB_RULE_INVERT`.
const INVERT: u32 = 2;
/// Tables `default`, `main` and `local`; 0 is said by rules that lead to none.
const EVERYBODYS: [u32; 4] = [0, 253, 254, 255];

/// A rule as the kernel tells it.
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
        let found = attributes(payload, HEADER);
        let [_, destination_len, source_len, tos, short_table, _, _, action] = *payload.first_chunk()?;
        let table = found.number(FRA_TABLE).unwrap_or_else(|| u32::from(short_table));
        // What else there may be are conditions, also those that this program does not know.
        let plain = |kind: u16, value: &[u8]| match kind {
            FRA_PRIORITY | FRA_TABLE | FRA_PROTOCOL | FRA_PAD => true,
            FRA_SUPPRESS_PREFIXLEN | FRA_SUPPRESS_IFGROUP => value == [0xff; 4],
            _ => false,
        };
        let flags = super::u32_at(payload, 8)?;
        Some(Self {
            priority: found.number(FRA_PRIORITY).unwrap_or(0),
            protocol: found.get(FRA_PROTOCOL).and_then(|value| value.first().copied()).unwrap_or(0),
            table: if action == TO_TABLE { table } else { 0 },
            destination: found.get(FRA_DST).and_then(ip).and_then(|net| IpNet::new(net, destination_len).ok()),
            unconditional: action == TO_TABLE
                && (destination_len, source_len, tos, flags & INVERT) == (0, 0, 0, 0)
                && found.clone().all(|(kind, value)| plain(kind, value)),
        })
    }
}

/// The rules of a family (`AF_INET`, `AF_INET6`), in the order in which they are asked. None on a kernel without IPv6.
pub(crate) fn list(socket: &mut Socket, family: i32) -> io::Result<Vec<Rule>> {
    let mut head = [0; HEADER];
    head[0] = u8::try_from(family).unwrap_or(0);
    let found = socket.dump(&Message::new(libc::RTM_GETRULE, &head), |found, kind, payload| {
        if kind == libc::RTM_NEWRULE {
            found.extend(Rule::parse(payload));
        }
    });
    match found {
        Err(error) if family == libc::AF_INET6 && error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        other => other,
    }
}

/// The tables that rules of either family lead to, but those that every host has.
pub(crate) fn tables(socket: &mut Socket) -> io::Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        all.extend(list(socket, family)?.into_iter().map(|rule| rule.table));
    }
    all.retain(|table| !EVERYBODYS.contains(table));
    Ok(all)
}

fn to_local(request: u16, destination: IpNet, protocol: u8) -> Message {
    let family = if destination.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut head = [0; HEADER];
    head[0] = u8::try_from(family).unwrap_or(0);
    head[1] = destination.prefix_len();
    head[4] = u8::try_from(TABLE_LOCAL).unwrap_or(0);
    head[7] = TO_TABLE;
    Message::new(request, &head)
        .attribute(FRA_DST, &octets(destination.network()))
        .number(FRA_PRIORITY, 0)
        .attribute(FRA_PROTOCOL, &[protocol])
}

/// Adds a rule that leads what goes to this net to the table `local`, before all rules of a higher priority number than 0.
pub(crate) fn add(socket: &mut Socket, destination: IpNet, protocol: u8) -> io::Result<()> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    socket.acknowledged(to_local(libc::RTM_NEWRULE, destination, protocol).flags(flags))
}

/// Removes it; one that is gone already is no error.
pub(crate) fn delete(socket: &mut Socket, destination: IpNet, protocol: u8) -> io::Result<()> {
    match socket.acknowledged(to_local(libc::RTM_DELRULE, destination, protocol)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
