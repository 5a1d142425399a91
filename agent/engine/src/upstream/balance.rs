//! Whose turn it is: shares of target groups, turns of targets. Each worker counts for itself.

use std::collections::HashMap;

use brattice_decide::Forward;
use brattice_router::Shares;
use brattice_wire::snapshot::Target;

use crate::{random::Random, state::State};

/// The turns in one state.
pub(crate) struct Balance {
    /// By [`Forward::index`].
    shares: Vec<Shares>,
    /// By target group.
    turns: Vec<usize>,
}

impl Balance {
    /// For a state. What did not change since the old one goes on where it was, or every change of anything would begin
    /// all cycles anew.
    pub(crate) fn new(state: &State, old: Option<(&State, &Self)>, random: &mut Random) -> Self {
        let mut known: HashMap<(&str, Identity<'_>), &Shares> = HashMap::new();
        let mut turns: HashMap<&str, usize> = HashMap::new();
        if let Some((old, balance)) = old {
            for forward in old.forwards() {
                if let Some(shares) = balance.shares.get(forward.index as usize) {
                    known.insert((&forward.key, identity(old, forward)), shares);
                }
            }
            turns = old.groups().iter().zip(&balance.turns).map(|(group, turn)| (group.id.as_str(), *turn)).collect();
        }
        Self {
            shares: state
                .forwards()
                .map(|forward| match known.get(&(forward.key.as_str(), identity(state, forward))) {
                    Some(shares) => (*shares).clone(),
                    None => Shares::new(&forward.weights),
                })
                .collect(),
            // Workers begin at different targets, or the first one would get the first request of each.
            turns: state
                .groups()
                .iter()
                .map(|group| match turns.get(group.id.as_str()) {
                    Some(turn) => *turn,
                    None => usize::try_from(random.next() >> 32).unwrap_or_default(),
                })
                .collect(),
        }
    }

    /// The place among a forward's target groups of the one that comes next; `None` when none has a weight.
    pub(crate) fn share(&mut self, forward: &Forward) -> Option<usize> {
        self.shares.get_mut(forward.index as usize)?.choose()
    }

    /// The target of a group that comes next; `None` when it has none.
    pub(crate) fn target<'a>(&mut self, group: u32, targets: &'a [Target]) -> Option<&'a Target> {
        self.targets(group, targets).next()
    }

    /// The target of a group that comes next, then those that follow it, each once.
    pub(crate) fn targets<'a>(
        &mut self,
        group: u32,
        targets: &'a [Target],
    ) -> impl Iterator<Item = &'a Target> + use<'a> {
        let first = match self.turns.get_mut(group as usize) {
            Some(turn) => {
                let first = turn.checked_rem(targets.len());
                *turn = turn.wrapping_add(1);
                first
            }
            None => None,
        };
        let (before, from) = targets.split_at(first.unwrap_or_default());
        from.iter().chain(before)
    }
}

/// The target groups of a forward, by id, and their weights.
type Identity<'a> = Vec<(&'a str, u16)>;

fn identity<'a>(state: &'a State, forward: &Forward) -> Identity<'a> {
    let id = |group: &u32| state.group(*group).map_or("", |group| group.id.as_str());
    forward.groups.iter().zip(&forward.weights).map(|(group, weight)| (id(group), *weight)).collect()
}
