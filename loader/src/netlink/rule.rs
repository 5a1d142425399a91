//! Policy rules.

use std::collections::BTreeSet;
use std::io;

use super::{Message, Socket, attributes};

/// Bytes of `struct fib_rule_hdr`.
const HEADER: usize = 12;
const FRA_TABLE: u16 = 15;
/// Tables `default`, `main` and `local`; 0 is said by rules that lead to none.
const EVERYBODYS: [u32; 4] = [0, 253, 254, 255];

/// The tables that rules of either family lead to, but those that every host has.
pub(crate) fn tables(socket: &mut Socket) -> io::Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut head = [0; HEADER];
        head[0] = u8::try_from(family).unwrap_or(0);
        let found = socket.dump(&Message::new(libc::RTM_GETRULE, &head), |found, kind, payload| {
            if kind == libc::RTM_NEWRULE {
                let short = payload.get(4).copied().map(u32::from);
                found.extend(attributes(payload, HEADER).number(FRA_TABLE).or(short));
            }
        });
        match found {
            Ok(found) => all.extend(found),
            // A kernel without IPv6.
            Err(error) if family == libc::AF_INET6 && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    all.retain(|table| !EVERYBODYS.contains(table));
    Ok(all)
}
