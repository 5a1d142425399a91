//! Load balancing: shares of target groups, turns of endpoints. Each worker counts for itself.

use std::{collections::HashMap, rc::Rc};

use brattice_decide::Forward;
use brattice_router::Shares;
use brattice_wire::index::TargetGroupIndex;

use super::endpoint::{Candidates, Endpoint, EndpointKey, GroupEndpoints};
use crate::{random::Random, state::State};

/// The turns in one state.
pub(crate) struct Balance {
    /// By [`Forward::index`].
    shares: Vec<Shares>,
    /// By target group.
    groups: Vec<Group>,
}

/// The endpoints of a target group, and whose turn it is.
struct Group {
    endpoints: Rc<GroupEndpoints>,
    turn: usize,
}

impl Balance {
    /// For a state that comes in force. What did not change since the old one goes on where it was, or every change of anything would begin
    /// all cycles anew. An endpoint that the old one has stays the same object, in whatever group it is.
    pub(crate) fn new(state: &State, old: Option<(&State, &Self)>, random: &mut Random) -> Self {
        let mut known: HashMap<(&str, Identity<'_>), &Shares> = HashMap::new();
        let mut groups: HashMap<&str, &Group> = HashMap::new();
        let mut endpoints: HashMap<EndpointKey, Rc<Endpoint>> = HashMap::new();
        if let Some((old, balance)) = old {
            for forward in old.forwards() {
                if let Some(shares) = balance.shares.get(forward.index.position()) {
                    known.insert((&forward.key, identity(old, forward)), shares);
                }
            }
            groups = old.groups().iter().map(|group| group.id.as_str()).zip(&balance.groups).collect();
            let all = balance.groups.iter().flat_map(|group| group.endpoints.all());
            endpoints = all.map(|endpoint| (Endpoint::key(&endpoint.target), Rc::clone(endpoint))).collect();
        }
        let shares =
            state.forwards().map(|forward| match known.get(&(forward.key.as_str(), identity(state, forward))) {
                Some(shares) => (*shares).clone(),
                None => Shares::new(&forward.weights),
            });
        let shares = shares.collect();
        let mut group = |group: &brattice_decide::Group| {
            let all = group.targets.iter().map(|target| {
                let endpoint = endpoints.entry(Endpoint::key(target));
                Rc::clone(endpoint.or_insert_with(|| Endpoint::new(target.clone())))
            });
            let all = all.collect();
            match groups.remove(group.id.as_str()) {
                Some(old) => Group { endpoints: GroupEndpoints::new(all, Some(&old.endpoints)), turn: old.turn },
                // Workers begin at different targets, or the first one would get the first request of each.
                None => Group {
                    endpoints: GroupEndpoints::new(all, None),
                    // saturates: never; 32 bits fit. Any place will do to begin with.
                    turn: usize::try_from(random.next() >> 32).unwrap_or_default(),
                },
            }
        };
        let next = Self { shares, groups: state.groups().iter().map(&mut group).collect() };
        groups.values().for_each(|removed| removed.endpoints.remove());
        next
    }

    /// The place among a forward's target groups of the one that comes next; `None` when none has a weight.
    pub(crate) fn share(&mut self, forward: &Forward) -> Option<usize> {
        self.shares.get_mut(forward.index.position())?.choose()
    }

    /// The endpoint of a group that comes next, then those that follow it; `None` when it has none.
    pub(crate) fn pick(&mut self, group: TargetGroupIndex) -> Option<Candidates> {
        let group = self.groups.get_mut(group.position())?;
        let first = group.turn.checked_rem(group.endpoints.all().len())?;
        group.turn = group.turn.wrapping_add(1);
        Some(Candidates::new(&group.endpoints, first))
    }
}

/// The target groups of a forward, by id, and their weights.
type Identity<'a> = Vec<(&'a str, u16)>;

fn identity<'a>(state: &'a State, forward: &Forward) -> Identity<'a> {
    let id = |group: &TargetGroupIndex| state.group(*group).map_or("", |group| group.id.as_str());
    forward.groups.iter().zip(&forward.weights).map(|(group, weight)| (id(group), *weight)).collect()
}

#[cfg(test)]
mod tests {
    use brattice_wire::snapshot::{AliasGeneration, Origin, ProtocolVersion, Snapshot, Target, TargetGroup};

    use super::{super::endpoint::tests::target, *};
    use crate::limits::Registry;

    fn state(groups: &[(&str, &[Target])]) -> State {
        let target_groups = groups
            .iter()
            .map(|(id, targets)| TargetGroup {
                name: (*id).into(),
                id: (*id).into(),
                arn: String::new(),
                vpc: None,
                protocol_version: ProtocolVersion::Http1,
                targets: targets.to_vec(),
                configured: 1,
                connect_timeout_ms: 1_000,
                idle_timeout_ms: None,
                origin: Origin::default(),
            })
            .collect();
        let snapshot = Snapshot { revision: 1, target_groups, ..Snapshot::default() };
        State::compile(snapshot, &Registry::default()).unwrap()
    }

    fn first(balance: &mut Balance, group: usize) -> Rc<Endpoint> {
        balance.pick(TargetGroupIndex::new(group)).unwrap().next().unwrap()
    }

    #[test]
    fn endpoints_take_turns_over_revisions() {
        let mut random = Random::from_system();
        let [a, b, c] = [1, 2, 3].map(target);
        let old = state(&[("one", &[a.clone(), b.clone()]), ("none", &[])]);
        let mut balance = Balance::new(&old, None, &mut random);
        let [empty, absent] = [1, 2].map(TargetGroupIndex::new);
        assert!(balance.pick(empty).is_none() && balance.pick(absent).is_none());
        let (one, two) = (first(&mut balance, 0), first(&mut balance, 0));
        assert!(!Rc::ptr_eq(&one, &two));
        // Another group comes before it, and has one of its targets, too.
        let new = state(&[("new", &[c, a.clone()]), ("one", &[a, b])]);
        let mut balance = Balance::new(&new, Some((&old, &balance)), &mut random);
        assert!(Rc::ptr_eq(&first(&mut balance, 1), &one), "the turn goes on, and the endpoints are the same objects");
        let shared = [first(&mut balance, 0), first(&mut balance, 0)];
        assert_eq!(
            shared.iter().filter(|endpoint| Rc::ptr_eq(endpoint, &one) || Rc::ptr_eq(endpoint, &two)).count(),
            1
        );
    }

    #[test]
    fn no_request_goes_on_to_an_endpoint_that_its_group_lost() {
        let mut random = Random::from_system();
        let [a, b, c] = [1, 2, 3].map(target);
        let old = state(&[("one", &[a.clone(), b.clone(), c.clone()]), ("gone", &[a.clone(), c.clone()])]);
        let mut balance = Balance::new(&old, None, &mut random);
        let begun = |balance: &mut Balance, group, first: &Target| loop {
            let mut candidates = balance.pick(TargetGroupIndex::new(group)).unwrap();
            if candidates.next().unwrap().target.alias == first.alias {
                return candidates;
            }
        };
        let aliases = |candidates: &Candidates| candidates.clone().map(|next| next.target.alias).collect::<Vec<_>>();
        let (one, gone) = (begun(&mut balance, 0, &a), begun(&mut balance, 1, &a));
        assert_eq!((aliases(&one), aliases(&gone)), (vec![b.alias, c.alias], vec![c.alias]), "control");
        // The second one is another group's now.
        let new = state(&[("one", &[a, c.clone()]), ("other", &[b])]);
        let _in_force = Balance::new(&new, Some((&old, &balance)), &mut random);
        assert_eq!((aliases(&one), aliases(&gone)), (vec![c.alias], vec![]));
    }

    #[test]
    fn what_no_revision_names_is_forgotten() {
        let mut random = Random::from_system();
        let old = state(&[("one", &[target(1), target(2)])]);
        let balance = Balance::new(&old, None, &mut random);
        let known: Vec<_> = balance.groups[0].endpoints.all().iter().map(Rc::downgrade).collect();
        // One is gone, the other one is another workload's by now.
        let new = state(&[("one", &[Target { generation: AliasGeneration::new(2), ..target(2) }])]);
        let next = Balance::new(&new, Some((&old, &balance)), &mut random);
        drop(balance);
        assert!(known.iter().all(|endpoint| endpoint.upgrade().is_none()));
        assert_eq!(next.groups[0].endpoints.all().len(), 1);
    }
}
