//! Partitions, regions and accounts that are not here. A policy of another place is one mistake, however many names it has.

use std::collections::BTreeSet;

use super::World;
use crate::finding::{Finding, Mark, nearest, quote};
use crate::principal::is_account;

/// Most names of each kind that a message repeats.
const SHOWN: usize = 3;

/// What a policy names of other places.
#[derive(Debug, Default)]
pub(super) struct Places {
    first: Option<Mark>,
    names: usize,
    partitions: BTreeSet<String>,
    regions: BTreeSet<String>,
    accounts: BTreeSet<String>,
}

impl Places {
    /// Whether an ARN (perhaps with wildcards) is of another place, which is kept in mind.
    pub(super) fn is_elsewhere(&mut self, arn: &str, at: Mark, world: &World<'_>) -> bool {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", partition, service, region, account, _] = parts[..] else { return false };
        let literal = |part: &str| !part.contains(['*', '?', '$']);
        let mut found = false;
        if literal(partition) && partition != world.partition {
            self.partitions.insert(partition.to_owned());
            found = true;
        }
        if service == "vpc-lattice" && literal(region) && region != world.region {
            self.regions.insert(region.to_owned());
            found = true;
        }
        if is_account(account) && !world.accounts.contains(account) {
            self.accounts.insert(account.to_owned());
            found = true;
        }
        self.count(found, at)
    }

    /// Whether an account is not here.
    pub(super) fn is_no_account(&mut self, id: &str, at: Mark, world: &World<'_>) -> bool {
        let found = is_account(id) && !world.accounts.contains(id);
        if found {
            self.accounts.insert(id.to_owned());
        }
        self.count(found, at)
    }

    /// How many names of other places there were.
    pub(super) fn names(&self) -> usize {
        self.names
    }

    fn count(&mut self, found: bool, at: Mark) -> bool {
        if found {
            self.first = Some(self.first.map_or(at, |first| first.min(at)));
            self.names += 1;
        }
        found
    }

    /// One finding about all of it.
    pub(super) fn finding(self, world: &World<'_>) -> Option<Finding> {
        let at = self.first?;
        let list = |names: &BTreeSet<String>| {
            let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
            format!("{}{more}", names.iter().take(SHOWN).map(|name| quote(name)).collect::<Vec<_>>().join(", "))
        };
        let mut parts = Vec::new();
        if !self.partitions.is_empty() {
            parts.push(format!("the partition {} (here it is {})", list(&self.partitions), quote(world.partition)));
        }
        if !self.regions.is_empty() {
            parts.push(format!("the region {} (here it is {})", list(&self.regions), quote(world.region)));
        }
        if !self.accounts.is_empty() {
            let noun = if self.accounts.len() == 1 { "the account" } else { "the accounts" };
            parts.push(format!("{noun} {} (there is none such)", list(&self.accounts)));
        }
        let (names, mean) = match self.names {
            1 => ("a name".to_owned(), "means"),
            more => (format!("{more} names"), "mean"),
        };
        let message = format!(
            "the policy is of another place: it has {names} of {}, which {mean} nothing here",
            parts.join(", of ")
        );
        let near = self.accounts.iter().find_map(|id| nearest(id, world.accounts.iter().copied()));
        let finding = Finding::warning(at, message);
        Some(match near {
            Some(near) if self.partitions.is_empty() && self.regions.is_empty() => finding.nearest(Some(near)),
            _ => finding.help("write what the documents of this node have, or `*`"),
        })
    }
}
