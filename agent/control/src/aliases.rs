//! Allocates aliases to workload addresses. Pure: no clock, no kernel.
//!
//! An alias belongs to one ([`Identity`], VPC, address) at a time. When that claim ends, the alias passes through two
//! states before it can be given again: *closing*, until the engine has said that no connection of it is left, and
//! *resting* for [`QUARANTINE`] after that. Allocation goes round the pool, so that an alias is also the longest unused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use brattice_wire::snapshot::{AliasGeneration, WorkloadNumber};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// How long an alias rests after its last connection was closed.
pub const QUARANTINE: Duration = Duration::from_secs(120);
/// Most aliases of one interface, resting ones included: a workload that adds addresses to itself, or changes its link
/// address again and again, uses up its own share and not the pool.
pub const MAX_PER_INTERFACE: usize = 256;
/// Most workload names whose number is remembered.
pub const MAX_NUMBERS: usize = 2 * brattice_abi::MAX_WORKLOADS as usize;

/// What makes an interface the one it was: another index, namespace or link address is another workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Host-side interface; 0: processes of the host.
    pub ifindex: u32,
    /// Inode of the workload's network namespace; of processes of the host, what their document says of them, as a number.
    pub namespace: u64,
    /// Link address on the workload's side.
    pub mac: [u8; 6],
}

/// The workload, interface and address that an alias is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The workload.
    pub identity: Identity,
    /// Its VPC.
    pub vpc: String,
    /// Its real address.
    pub address: IpAddr,
}

/// An alias in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The alias.
    pub alias: IpAddr,
    /// Unique per giving: no two holders of an alias share it.
    pub generation: AliasGeneration,
}

/// What [`Aliases::assign`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// No longer given; to be closed, then reported with [`Aliases::closed`].
    pub lost: Vec<(IpAddr, AliasGeneration)>,
    /// Newly given.
    pub given: Vec<Claim>,
    /// Claims for which the pool had nothing left.
    pub exhausted: Vec<Claim>,
    /// Claims of interfaces that have [`MAX_PER_INTERFACE`] aliases already.
    pub limited: Vec<Claim>,
}

/// What is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    cursor: u32,
    #[serde(default)]
    cursor6: u32,
    generation: AliasGeneration,
    slots: BTreeMap<IpAddr, SavedSlot>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSlot {
    generation: AliasGeneration,
    /// Absent: closing or resting.
    claim: Option<Claim>,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Given(Claim),
    Closing,
    Resting { until: Instant },
}

#[derive(Clone, Debug)]
struct Slot {
    generation: AliasGeneration,
    state: State,
    /// The previous holder, for messages.
    last: Option<Claim>,
}

/// The allocator.
#[derive(Clone, Debug)]
pub struct Aliases {
    range: Ipv4Net,
    /// None: the node has no IPv6.
    range6: Option<Ipv6Net>,
    /// Offset into the range from which the next search starts.
    cursor: u32,
    /// Likewise of IPv6.
    cursor6: u32,
    generation: AliasGeneration,
    slots: BTreeMap<IpAddr, Slot>,
    claims: HashMap<Claim, IpAddr>,
}

impl Aliases {
    /// From what was kept on disk. `same_boot`: the machine was not restarted since, so connections may live on;
    /// what was not given then counts as not closed yet. Says which aliases are to be closed.
    pub fn restore(
        range: Ipv4Net,
        range6: Option<Ipv6Net>,
        saved: &Saved,
        same_boot: bool,
    ) -> (Self, Vec<(IpAddr, AliasGeneration)>) {
        let mut aliases = Self {
            range,
            range6,
            cursor: saved.cursor,
            cursor6: saved.cursor6,
            generation: saved.generation,
            slots: BTreeMap::new(),
            claims: HashMap::new(),
        };
        let mut closing = Vec::new();
        for (alias, slot) in saved.slots.iter().filter(|_| same_boot) {
            let generation = slot.generation;
            aliases.generation = aliases.generation.max(generation);
            let state = match &slot.claim {
                Some(claim) if aliases.pools_contain(*alias) && !aliases.claims.contains_key(claim) => {
                    aliases.claims.insert(claim.clone(), *alias);
                    State::Given(claim.clone())
                }
                _ => {
                    closing.push((*alias, generation));
                    State::Closing
                }
            };
            aliases.slots.insert(*alias, Slot { generation, state, last: None });
        }
        (aliases, closing)
    }

    /// What to keep on disk.
    pub fn save(&self) -> Saved {
        let slots = self.slots.iter().map(|(alias, slot)| {
            let claim = match &slot.state {
                State::Given(claim) => Some(claim.clone()),
                _ => None,
            };
            (*alias, SavedSlot { generation: slot.generation, claim })
        });
        Saved { cursor: self.cursor, cursor6: self.cursor6, generation: self.generation, slots: slots.collect() }
    }

    /// Marks an alias that the kernel knows and we do not as in use, by an unknown workload, until it is closed.
    pub fn reserve(&mut self, alias: IpAddr) -> Option<(IpAddr, AliasGeneration)> {
        if self.slots.contains_key(&alias) {
            return None;
        }
        self.slots.insert(alias, Slot { generation: self.generation, state: State::Closing, last: None });
        Some((alias, self.generation))
    }

    /// Makes `wanted` exactly the claims that have an alias.
    pub fn assign(&mut self, wanted: &BTreeSet<Claim>) -> Assigned {
        let mut assigned = Assigned::default();
        for (alias, slot) in &mut self.slots {
            if let State::Given(claim) = &slot.state
                && !wanted.contains(claim)
            {
                self.claims.remove(claim);
                slot.last = Some(claim.clone());
                slot.state = State::Closing;
                assigned.lost.push((*alias, slot.generation));
            }
        }
        let mut shares: HashMap<u32, usize> = HashMap::new();
        for slot in self.slots.values() {
            let ((State::Given(claim), _) | (_, Some(claim))) = (&slot.state, &slot.last) else { continue };
            *shares.entry(claim.identity.ifindex).or_default() += 1;
        }
        for claim in wanted {
            if self.claims.contains_key(claim) {
                continue;
            }
            let share = shares.entry(claim.identity.ifindex).or_default();
            // Processes of the host have the addresses that documents give them, and no more.
            let of_interface = claim.identity.ifindex != 0;
            // guard: alias-share
            if of_interface && *share >= MAX_PER_INTERFACE {
                assigned.limited.push(claim.clone());
                continue;
            }
            *share += 1;
            let Some(alias) = self.next_free(claim.address) else {
                assigned.exhausted.push(claim.clone());
                continue;
            };
            self.generation = AliasGeneration::new(self.generation.get().wrapping_add(1));
            self.slots
                .insert(alias, Slot { generation: self.generation, state: State::Given(claim.clone()), last: None });
            self.claims.insert(claim.clone(), alias);
            assigned.given.push(claim.clone());
        }
        assigned
    }

    /// The engine has no connection of these left; they rest from `now` on.
    pub fn closed(&mut self, aliases: &[(IpAddr, AliasGeneration)], now: Instant) {
        for (alias, generation) in aliases {
            if let Some(slot) = self.slots.get_mut(alias)
                && slot.generation == *generation
                && slot.state == State::Closing
            {
                slot.state = State::Resting { until: now + QUARANTINE };
            }
        }
    }

    /// Whether [`Self::rested`] would free something.
    pub fn has_rested(&self, now: Instant) -> bool {
        self.slots.values().any(|slot| matches!(slot.state, State::Resting { until } if until <= now))
    }

    /// Frees what has rested. Says whether anything changed.
    pub fn rested(&mut self, now: Instant) -> bool {
        let before = self.slots.len();
        self.slots.retain(|_, slot| !matches!(slot.state, State::Resting { until } if until <= now));
        self.slots.len() != before
    }

    /// The alias of a claim.
    pub fn get(&self, claim: &Claim) -> Option<Given> {
        let alias = *self.claims.get(claim)?;
        let slot = self.slots.get(&alias)?;
        Some(Given { alias, generation: slot.generation })
    }

    /// Every claim that has an alias.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.keys()
    }

    /// (not free, size of the pool), of IPv4. That of IPv6 is never used up: what bounds it are the kernel's maps.
    pub fn fill(&self) -> (u64, u64) {
        (self.slots.keys().filter(|alias| alias.is_ipv4()).count() as u64, u64::from(self.size()))
    }

    /// Aliases that are closing or resting, and their previous holders, if known.
    pub fn leaving(&self) -> impl Iterator<Item = (IpAddr, Option<&Claim>)> {
        self.slots
            .iter()
            .filter(|(_, slot)| !matches!(slot.state, State::Given(_)))
            .map(|(alias, slot)| (*alias, slot.last.as_ref()))
    }

    /// Usable addresses: without the network's and the broadcast address, if there are others.
    fn size(&self) -> u32 {
        // saturates: no address less matters of a range that is all of IPv4, which none is.
        let all = u32::try_from(1u64 << (32 - self.range.prefix_len())).unwrap_or(u32::MAX);
        if all > 2 { all - 2 } else { all }
    }

    fn pools_contain(&self, alias: IpAddr) -> bool {
        match alias {
            IpAddr::V4(alias) => self.range.contains(&alias),
            IpAddr::V6(alias) => self.range6.is_some_and(|range| range.contains(&alias)),
        }
    }

    /// An alias of an address's family.
    fn next_free(&mut self, address: IpAddr) -> Option<IpAddr> {
        let network = self.range.network().to_bits() + u32::from(self.range.prefix_len() < 31);
        let (size, cursor, network6) = match address {
            IpAddr::V4(_) => (self.size(), self.cursor, 0),
            // The first 2^32 without the network's own: far more than a node has workloads, and the last of the whole
            // range, a probe's, is not among them.
            IpAddr::V6(_) => (u32::MAX, self.cursor6, self.range6?.network().to_bits() + 1),
        };
        for step in 0..size {
            let offset = (u64::from(cursor % size) + u64::from(step)) % u64::from(size);
            let offset = u32::try_from(offset).expect("it is smaller than the size");
            let alias: IpAddr = match address {
                IpAddr::V4(_) => Ipv4Addr::from(network + offset).into(),
                IpAddr::V6(_) => Ipv6Addr::from(network6 + u128::from(offset)).into(),
            };
            if !self.slots.contains_key(&alias) {
                let cursor = if address.is_ipv4() { &mut self.cursor } else { &mut self.cursor6 };
                *cursor = (offset + 1) % size;
                return Some(alias);
            }
        }
        None
    }
}

/// Numbers of workloads on this node, by VPC and name: a workload that comes back under its name keeps its number, and
/// with it its switches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadNumbers {
    last: WorkloadNumber,
    numbers: BTreeMap<String, WorkloadNumber>,
}

impl WorkloadNumbers {
    /// The number of a workload, never 0.
    pub fn number(&mut self, vpc: &str, name: &str) -> WorkloadNumber {
        // A VPC's name holds no blank.
        let key = format!("{vpc} {name}");
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        self.last = WorkloadNumber::new(self.last.get().wrapping_add(1).max(1));
        self.numbers.insert(key, self.last);
        self.last
    }

    /// Forgets numbers that `used` does not name, if there are too many.
    pub fn prune(&mut self, used: &BTreeSet<WorkloadNumber>) {
        if self.numbers.len() > MAX_NUMBERS {
            self.numbers.retain(|_, number| used.contains(number));
        }
    }

    /// (VPC, name, number) of every number given.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str, WorkloadNumber)> {
        self.numbers.iter().filter_map(|(key, number)| key.split_once(' ').map(|(vpc, name)| (vpc, name, *number)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(n: u32) -> Claim {
        Claim {
            identity: Identity { ifindex: n, namespace: u64::from(n), mac: [2, 0, 0, 0, 0, n as u8] },
            vpc: "blue".into(),
            address: IpAddr::from([10, 0, 0, 10]),
        }
    }

    const RANGE6: &str = "fd00:64::/48";

    fn claim6(n: u32) -> Claim {
        Claim { address: IpAddr::from([0xfd10, 0, 0, 0, 0, 0, 0, 0x10]), ..claim(n) }
    }

    fn set(numbers: &[u32]) -> BTreeSet<Claim> {
        numbers.iter().map(|n| claim(*n)).collect()
    }

    fn small() -> Aliases {
        Aliases::restore("100.127.0.0/29".parse().unwrap(), None, &Saved::default(), true).0
    }

    #[test]
    fn an_alias_rests_after_it_was_closed_and_before_it_is_given_again() {
        let mut aliases = small();
        let now = Instant::now();
        assert_eq!(aliases.assign(&set(&[1, 2, 3, 4, 5, 6])).given.len(), 6);
        assert_eq!(aliases.assign(&set(&[1, 2, 3, 4, 5, 6, 7])).exhausted, vec![claim(7)]);
        let first = aliases.get(&claim(1)).unwrap();
        let lost = aliases.assign(&set(&[2, 3, 4, 5, 6, 7]));
        assert_eq!(lost.lost, vec![(first.alias, first.generation)]);
        assert_eq!(lost.exhausted, vec![claim(7)]);
        // Not closed yet: time alone frees nothing.
        assert!(!aliases.rested(now + QUARANTINE * 10));
        aliases.closed(&lost.lost, now);
        assert!(!aliases.rested(now + QUARANTINE - Duration::from_millis(1)));
        assert_eq!(aliases.assign(&set(&[2, 3, 4, 5, 6, 7])).exhausted, vec![claim(7)]);
        assert!(aliases.rested(now + QUARANTINE));
        assert!(aliases.assign(&set(&[2, 3, 4, 5, 6, 7])).exhausted.is_empty());
        let again = aliases.get(&claim(7)).unwrap();
        assert_eq!(again.alias, first.alias);
        assert!(again.generation > first.generation);
    }

    #[test]
    fn an_interface_has_its_share_of_the_pool_and_no_more() {
        let mut aliases = Aliases::restore("100.127.0.0/16".parse().unwrap(), None, &Saved::default(), true).0;
        // One workload with more addresses than that, and an honest one.
        let of = |interface: u32, namespace: u64, addresses: u32| {
            (0..addresses).map(move |n| {
                let identity = Identity { ifindex: interface, namespace, mac: [2; 6] };
                Claim { identity, vpc: "blue".into(), address: Ipv4Addr::from(0x0a00_0000 + n).into() }
            })
        };
        let most = u32::try_from(MAX_PER_INTERFACE).unwrap();
        let wanted: BTreeSet<Claim> = of(1, 1, most + 50).chain(of(2, 2, 1)).collect();
        let assigned = aliases.assign(&wanted);
        assert_eq!((assigned.given.len(), assigned.limited.len()), (MAX_PER_INTERFACE + 1, 50));
        assert!(assigned.exhausted.is_empty());
        // What it had counts until it has rested, so that being another again and again gains nothing.
        let now = Instant::now();
        let changed: BTreeSet<Claim> = of(1, 3, 10).chain(of(2, 2, 1)).collect();
        let assigned = aliases.assign(&changed);
        assert_eq!((assigned.lost.len(), assigned.limited.len()), (MAX_PER_INTERFACE, 10));
        aliases.closed(&assigned.lost, now);
        assert_eq!(aliases.assign(&changed).limited.len(), 10);
        aliases.rested(now + QUARANTINE);
        assert_eq!(aliases.assign(&changed).given.len(), 10);
    }

    #[test]
    fn allocation_goes_round() {
        let mut aliases = small();
        aliases.assign(&set(&[1]));
        let first = aliases.get(&claim(1)).unwrap().alias;
        let lost = aliases.assign(&set(&[])).lost;
        aliases.closed(&lost, Instant::now());
        aliases.rested(Instant::now() + QUARANTINE * 2);
        aliases.assign(&set(&[2]));
        assert_ne!(aliases.get(&claim(2)).unwrap().alias, first);
    }

    #[test]
    fn a_workload_that_comes_back_as_another_gets_another_alias() {
        let mut aliases = small();
        aliases.assign(&set(&[1]));
        let before = aliases.get(&claim(1)).unwrap();
        let mut changed = claim(1);
        changed.identity.namespace = 77;
        let assigned = aliases.assign(&[changed.clone()].into());
        assert_eq!(assigned.lost, vec![(before.alias, before.generation)]);
        assert_ne!(aliases.get(&changed).unwrap().alias, before.alias);
    }

    #[test]
    fn each_family_has_its_pool_and_an_interface_one_share_of_both() {
        let (mut aliases, _) =
            Aliases::restore("100.127.0.0/29".parse().unwrap(), RANGE6.parse().ok(), &Saved::default(), true);
        let both: BTreeSet<Claim> = [claim(1), claim6(1), claim6(2)].into();
        assert_eq!(aliases.assign(&both).given.len(), 3);
        let of = |claim: Claim| aliases.get(&claim).map(|given| given.alias.to_string());
        assert_eq!(of(claim(1)).as_deref(), Some("100.127.0.1"));
        assert_eq!((of(claim6(1)).as_deref(), of(claim6(2)).as_deref()), (Some("fd00:64::1"), Some("fd00:64::2")));
        assert_eq!(aliases.fill(), (1, 6), "IPv4's");
        // What one holds of IPv6 is given to no other until it has rested, and kept over a restart.
        let saved = aliases.save();
        let (mut restored, closing) =
            Aliases::restore("100.127.0.0/29".parse().unwrap(), RANGE6.parse().ok(), &saved, true);
        assert!(closing.is_empty() && restored.get(&claim6(2)) == aliases.get(&claim6(2)));
        let lost = restored.assign(&[claim6(3)].into()).lost;
        assert_eq!(lost.len(), 3);
        assert_eq!(restored.get(&claim6(3)).unwrap().alias.to_string(), "fd00:64::3");
        // Without IPv6 they are closed, and none is given.
        let (mut without, closing) = Aliases::restore("100.127.0.0/29".parse().unwrap(), None, &saved, true);
        assert_eq!(closing.len(), 2);
        assert_eq!(without.assign(&[claim6(1)].into()).exhausted, [claim6(1)]);
        // One share.
        let identity = claim(9).identity;
        let address =
            |n: u32| if n.is_multiple_of(2) { Ipv4Addr::from(n).into() } else { Ipv6Addr::from(u128::from(n)).into() };
        let many: BTreeSet<Claim> =
            (0..300).map(|n| Claim { identity, vpc: "blue".into(), address: address(n) }).collect();
        let (mut aliases, _) =
            Aliases::restore("100.127.0.0/16".parse().unwrap(), RANGE6.parse().ok(), &Saved::default(), true);
        let assigned = aliases.assign(&many);
        assert_eq!((assigned.given.len(), assigned.limited.len()), (MAX_PER_INTERFACE, 300 - MAX_PER_INTERFACE));
    }

    #[test]
    fn what_is_on_disk_survives() {
        let mut aliases = small();
        aliases.assign(&set(&[1, 2]));
        let lost = aliases.assign(&set(&[1])).lost;
        aliases.closed(&lost, Instant::now());
        let json = serde_json::to_string(&aliases.save()).unwrap();
        let saved: Saved = serde_json::from_str(&json).unwrap();
        let (restored, closing) = Aliases::restore("100.127.0.0/29".parse().unwrap(), None, &saved, true);
        assert_eq!(restored.get(&claim(1)), aliases.get(&claim(1)));
        // The two minutes start anew, after a new acknowledgement.
        assert_eq!(closing, lost);
        let (rebooted, closing) = Aliases::restore("100.127.0.0/29".parse().unwrap(), None, &saved, false);
        assert!(closing.is_empty() && rebooted.get(&claim(1)).is_none());
        assert_eq!(rebooted.generation, aliases.generation);
    }

    #[test]
    fn an_alias_outside_a_new_range_is_closed() {
        let mut aliases = small();
        aliases.assign(&set(&[1]));
        let (restored, closing) = Aliases::restore("198.18.0.0/16".parse().unwrap(), None, &aliases.save(), true);
        assert_eq!(closing.len(), 1);
        assert!(restored.get(&claim(1)).is_none());
    }

    #[test]
    fn numbers_are_stable_and_never_zero() {
        let mut numbers = WorkloadNumbers::default();
        let one = numbers.number("blue", "a");
        assert_eq!(one.get(), 1);
        assert_ne!(numbers.number("green", "a"), one);
        assert_eq!(numbers.number("blue", "a"), one);
        assert_eq!(numbers.entries().collect::<Vec<_>>(), [("blue", "a", one), ("green", "a", WorkloadNumber::new(2))]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Assign(Vec<u32>),
        Close,
        Wait(u64),
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => proptest::collection::vec(0u32..12, 0..8).prop_map(Step::Assign),
            2 => Just(Step::Close),
            2 => (0u64..200).prop_map(Step::Wait),
            1 => Just(Step::Restart),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        /// Whatever happens: no alias has two holders, and between two holders lie a close and two minutes.
        #[test]
        fn an_alias_is_never_given_twice(steps in steps()) {
            let range: Ipv4Net = "100.127.0.0/28".parse().unwrap();
            let mut aliases = small();
            aliases.range = range;
            aliases.range6 = RANGE6.parse().ok();
            let mut now = Instant::now();
            let mut closing: Vec<(IpAddr, AliasGeneration)> = Vec::new();
            // The naive model: when each alias may be given again.
            let mut free_at: BTreeMap<IpAddr, Option<Instant>> = BTreeMap::new();
            let mut generations = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Assign(wanted) => {
                        // Every third is of IPv6.
                        let of = |n: &u32| if n.is_multiple_of(3) { claim6(*n) } else { claim(*n) };
                        let wanted: BTreeSet<Claim> = wanted.iter().map(of).collect();
                        let assigned = aliases.assign(&wanted);
                        for lost in &assigned.lost {
                            free_at.insert(lost.0, None);
                            closing.push(*lost);
                        }
                        for claim in &assigned.given {
                            let given = aliases.get(claim).unwrap();
                            prop_assert!(aliases.pools_contain(given.alias));
                            prop_assert_eq!(given.alias.is_ipv4(), claim.address.is_ipv4());
                            prop_assert!(generations.insert(given.generation));
                            match free_at.remove(&given.alias) {
                                Some(Some(at)) => prop_assert!(at <= now, "given {} too early", given.alias),
                                Some(None) => prop_assert!(false, "{} given while it was closing or held", given.alias),
                                None => {}
                            }
                            free_at.insert(given.alias, None);
                        }
                        let held: Vec<_> = wanted.iter().filter_map(|c| aliases.get(c)).map(|g| g.alias).collect();
                        prop_assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), held.len());
                        prop_assert_eq!(held.len() + assigned.exhausted.len(), wanted.len());
                    }
                    Step::Close => {
                        aliases.closed(&closing, now);
                        for (alias, _) in closing.drain(..) {
                            free_at.insert(alias, Some(now + QUARANTINE));
                        }
                    }
                    Step::Wait(seconds) => {
                        now += Duration::from_secs(seconds);
                        aliases.rested(now);
                    }
                    Step::Restart => {
                        let (restored, to_close) = Aliases::restore(range, RANGE6.parse().ok(), &aliases.save(), true);
                        for (alias, _) in &to_close {
                            free_at.insert(*alias, None);
                        }
                        closing = to_close;
                        aliases = restored;
                    }
                }
            }
        }
    }
}
