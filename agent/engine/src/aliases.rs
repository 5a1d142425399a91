//! Aliases, their callers, and which were closed.

use std::{cell::RefCell, net::IpAddr};

use brattice_router::hash::FastMap;
use brattice_wire::snapshot::AliasGeneration;

/// Who calls: an alias in one of its generations, which stands for one address of one workload for as long as that has it.
///
/// It is made where a connection is accepted, from what attests the caller ([`State::caller_at`](crate::state::State::caller_at)).
/// Everything behind knows the caller by it, and none by an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallerId {
    alias: IpAddr,
    generation: AliasGeneration,
}

impl CallerId {
    /// The workload that has this alias in this generation.
    pub(crate) const fn new(alias: IpAddr, generation: AliasGeneration) -> Self {
        Self { alias, generation }
    }

    /// The alias: by it the caller's connections are found when it is closed, and named in records.
    pub fn alias(&self) -> IpAddr {
        self.alias
    }

    /// Raised whenever the alias is given to another workload.
    pub fn generation(&self) -> AliasGeneration {
        self.generation
    }
}

/// Aliases that were closed, each with the last generation that was. A state that is not the latest may still name them.
#[derive(Debug, Default)]
pub(crate) struct ClosedAliases(RefCell<FastMap<IpAddr, AliasGeneration>>);

impl ClosedAliases {
    /// These generations, and those before them, are closed.
    pub(crate) fn close(&self, aliases: &[(IpAddr, AliasGeneration)]) {
        let mut closed = self.0.borrow_mut();
        for (alias, generation) in aliases {
            let latest = closed.entry(*alias).or_default();
            *latest = (*latest).max(*generation);
        }
    }

    /// Whether this generation of an alias was not closed.
    pub(crate) fn allow(&self, alias: IpAddr, generation: AliasGeneration) -> bool {
        self.0.borrow().get(&alias).is_none_or(|closed| generation > *closed)
    }

    /// Whether a caller was not closed.
    pub(crate) fn allow_caller(&self, caller: CallerId) -> bool {
        self.allow(caller.alias, caller.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_stays_closed() {
        let closed = ClosedAliases::default();
        let alias = IpAddr::from([100, 127, 0, 1]);
        assert!(closed.allow(alias, AliasGeneration::new(0)));
        closed.close(&[(alias, AliasGeneration::new(4))]);
        closed.close(&[(alias, AliasGeneration::new(2))]);
        for (generation, allowed) in [(3, false), (4, false), (5, true)] {
            let generation = AliasGeneration::new(generation);
            assert_eq!(closed.allow_caller(CallerId::new(alias, generation)), allowed, "{generation}");
        }
    }
}
