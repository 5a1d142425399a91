//! Our policy rules: none, as long as the table `local`, where our routes are, is asked first. Other software may have
//! moved its rule (as for VRFs) so that another table is asked before; then a rule of Brattice for each range leads there.

use ipnet::IpNet;

use crate::netlink::Socket;
use crate::netlink::route::TABLE_LOCAL;
use crate::netlink::rule::{self, Rule};
use crate::routes::PROTOCOL;
use crate::{Error, Result};

/// Rules of one family, in the order in which they are asked.
pub(crate) fn list(socket: &mut Socket, ipv4: bool) -> Result<Vec<Rule>> {
    rule::list(socket, ipv4).map_err(Error::netlink("listing policy rules"))
}

/// The range that a rule of Brattice is for.
fn ours(rule: &Rule) -> Option<IpNet> {
    rule.destination.filter(|_| rule.protocol == PROTOCOL && rule.table == TABLE_LOCAL && rule.priority == 0)
}

/// Whether a rule is Brattice's.
pub(crate) fn is_ours(rule: &Rule) -> bool {
    ours(rule).is_some()
}

/// Whether what others made lets the table `local` be asked before any other.
fn local_is_first(rules: &[Rule]) -> bool {
    rules.iter().find(|rule| ours(rule).is_none()).is_some_and(|rule| rule.unconditional && rule.table == TABLE_LOCAL)
}

/// Adds our rules where they are needed, and removes them where they are not; whether anything had to be done.
pub(crate) fn ensure(socket: &mut Socket, ranges: &[IpNet]) -> Result<bool> {
    let mut changed = false;
    for ipv4 in [true, false] {
        let rules = list(socket, ipv4)?;
        let there: Vec<IpNet> = rules.iter().filter_map(ours).collect();
        let family = || ranges.iter().map(IpNet::trunc).filter(|range| range.addr().is_ipv4() == ipv4);
        let wanted: Vec<IpNet> = if local_is_first(&rules) { Vec::new() } else { family().collect() };
        for range in wanted.iter().filter(|range| !there.contains(range)) {
            rule::add(socket, *range, PROTOCOL).map_err(Error::netlink(format!("adding a rule for {range}")))?;
            changed = true;
        }
        for range in there.iter().filter(|range| !wanted.contains(range)) {
            remove(socket, *range)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// The ranges that rules of Brattice are for.
pub(crate) fn present(socket: &mut Socket) -> Result<Vec<IpNet>> {
    let mut all: Vec<IpNet> = list(socket, true)?.iter().filter_map(ours).collect();
    all.extend(list(socket, false)?.iter().filter_map(ours));
    Ok(all)
}

/// Removes a rule of Brattice.
pub(crate) fn remove(socket: &mut Socket, range: IpNet) -> Result<()> {
    rule::delete(socket, range, PROTOCOL).map_err(Error::netlink(format!("removing the rule for {range}")))
}

/// A line for `footprint`.
pub(crate) fn describe(range: IpNet) -> String {
    format!("rule 0: to {range} lookup local proto {PROTOCOL} (the table local is not asked first on this host)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(priority: u32, table: u32) -> Rule {
        Rule { priority, protocol: 2, table, destination: None, unconditional: true }
    }

    #[test]
    fn a_rule_of_ours_is_needed_where_another_is_before_the_table_local() {
        let local = rule(0, TABLE_LOCAL);
        let own = Rule {
            protocol: PROTOCOL,
            destination: "100.127.0.0/16".parse().ok(),
            unconditional: false,
            ..rule(0, TABLE_LOCAL)
        };
        assert!(local_is_first(&[local.clone(), rule(5270, 52), rule(32_766, 254)]));
        assert!(local_is_first(&[own.clone(), local.clone()]), "ours does not count");
        assert!(!local_is_first(&[rule(0, 52), local.clone()]));
        assert!(!local_is_first(&[own, rule(1000, 7), local.clone()]));
        assert!(!local_is_first(&[Rule { unconditional: false, ..local }, rule(32_766, 254)]), "only for some packets");
        assert!(!local_is_first(&[]));
    }
}
