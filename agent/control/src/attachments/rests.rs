//! Addresses whose holder went away: for a while, workloads that were there before it went cannot take them. Pure: no
//! clock.
//!
//! So a workload cannot take its neighbour's address while that restarts. The holder that comes back (the same
//! host-side interface or documented workload, or an interface that was not there) has the address at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Code, Decision};
use crate::aliases::Identity;

/// How long an address rests for its holder.
pub(super) const REST: Duration = Duration::from_secs(60);
/// Most addresses that rest at once; beyond, those that began first are released.
pub(super) const MAX_RESTS: usize = 4_096;

/// An address of a VPC.
pub(super) type Place = (String, IpAddr);

/// The previous holder, as operators know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    identity: Identity,
    name: String,
    interface: String,
}

impl Holder {
    fn of(decision: &Decision) -> Option<Self> {
        let (name, interface) = (decision.name.clone(), decision.interface.clone());
        Some(Self { identity: decision.identity?, name, interface })
    }

    fn is(&self, decision: &Decision) -> bool {
        let same_interface = !self.interface.is_empty() && self.interface == decision.interface;
        decision.identity == Some(self.identity)
            || same_interface
            || (decision.documented && decision.name == self.name)
    }
}

#[derive(Clone, Debug)]
struct Rest {
    holder: Holder,
    since: Instant,
    /// Interfaces that do not get it. Not identities: a workload makes itself another by changing its link address.
    barred: BTreeSet<u32>,
}

/// All addresses that rest.
#[derive(Clone, Debug, Default)]
pub struct Rests {
    rests: BTreeMap<Place, Rest>,
    /// The holder of each address.
    holders: BTreeMap<Place, Holder>,
    /// Interfaces that claimed an address that another one held.
    rivals: BTreeMap<Place, BTreeSet<u32>>,
    /// Interfaces that were there.
    present: BTreeSet<u32>,
}

impl Rests {
    /// Why this claimant does not get an address now; `None`: it may have it.
    pub(super) fn bars(&self, place: &Place, claimant: &Decision) -> Option<String> {
        let rest = self.rests.get(place)?;
        // guard: address-rests
        if rest.holder.is(claimant) || !rest.barred.contains(&claimant.ifindex) {
            return None;
        }
        let (vpc, address) = place;
        Some(format!(
            "{address} of VPC {vpc} rests for {} ({}), which went away a moment ago: {} claims it, and gets it {} s after that. \
             If that is not meant, take the address from {}",
            rest.holder.name,
            rest.holder.interface,
            claimant.name,
            REST.as_secs(),
            claimant.interface,
        ))
    }

    /// Takes in what was decided, for the interfaces that are `present`. True: an address went to a workload that was
    /// there before its holder went, so the decisions must be made again.
    pub fn update(&mut self, decisions: &[Decision], present: &BTreeSet<u32>, now: Instant) -> bool {
        let mut holders = BTreeMap::new();
        let mut rivals: BTreeMap<Place, BTreeSet<u32>> = BTreeMap::new();
        for decision in decisions {
            let Some(holder) = Holder::of(decision) else { continue };
            let place = |address: &IpAddr| (decision.vpc.clone(), *address);
            holders.extend(decision.addresses.iter().map(|address| (place(address), holder.clone())));
            let refused = decision.refused.iter().filter(|refusal| refusal.code == Code::AddressConflict);
            for address in refused.filter_map(|refusal| refusal.address.as_ref()) {
                rivals.entry(place(address)).or_default().insert(decision.ifindex);
            }
        }
        let mut lost = false;
        for (place, before) in &self.holders {
            let next: Option<&Holder> = holders.get(place);
            if next.is_some_and(|next| next.identity == before.identity || next.interface == before.interface) {
                continue;
            }
            // If its interface went, all that were there wait. If it only gave the address up, those that claimed it
            // before wait.
            let mut barred = self.rivals.get(place).cloned().unwrap_or_default();
            if !present.contains(&before.identity.ifindex) {
                barred.extend(&self.present);
            }
            barred.retain(|ifindex| *ifindex != 0 && *ifindex != before.identity.ifindex);
            if !barred.is_empty() {
                lost |= next.is_some_and(|next| barred.contains(&next.identity.ifindex));
                self.rests.entry(place.clone()).or_insert(Rest { holder: before.clone(), since: now, barred });
            }
        }
        if lost {
            return true;
        }
        // The time is over, or a workload that may have the address has it.
        self.rests.retain(|place, rest| now.duration_since(rest.since) < REST && !holders.contains_key(place));
        while self.rests.len() > MAX_RESTS {
            let first = self.rests.iter().min_by_key(|(_, rest)| rest.since).map(|(place, _)| place.clone());
            let Some(first) = first else { break };
            self.rests.remove(&first);
        }
        (self.holders, self.rivals, self.present) = (holders, rivals, present.clone());
        false
    }

    /// Whether a rest is over, so that it is to be decided anew.
    pub fn over(&self, now: Instant) -> bool {
        self.rests.values().any(|rest| now.duration_since(rest.since) >= REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachments::Refusal;

    /// An interface that has the address, or is refused it.
    fn decision(ifindex: u32, mac: u8, name: &str, has: bool) -> Decision {
        let address: IpAddr = [10, 0, 0, 10].into();
        let refusal = Refusal { address: Some(address), code: Code::AddressConflict, text: String::new() };
        Decision {
            name: name.to_owned(),
            documented: false,
            vpc: "blue".to_owned(),
            interface: name.to_owned(),
            ifindex,
            namespace: None,
            identity: Some(Identity { ifindex, namespace: ifindex.into(), mac: [mac; 6] }),
            host: None,
            addresses: if has { vec![address] } else { Vec::new() },
            refused: if has { Vec::new() } else { vec![refusal] },
            intercept_dns: false,
            mtu: 1500,
            mac: [mac; 6],
        }
    }

    fn place() -> Place {
        ("blue".to_owned(), [10, 0, 0, 10].into())
    }

    fn present(of: &[u32]) -> BTreeSet<u32> {
        of.iter().copied().collect()
    }

    /// The owner at 5 has it, a rival at 6 wants it.
    fn scene() -> (Rests, Instant) {
        let (mut rests, now) = (Rests::default(), Instant::now());
        let decided = [decision(5, 1, "owner", true), decision(6, 2, "rival", false)];
        assert!(!rests.update(&decided, &present(&[5, 6]), now));
        assert_eq!(rests.bars(&place(), &decided[1]), None, "nothing rests");
        (rests, now)
    }

    #[test]
    fn a_rival_does_not_win_while_the_owner_is_away_for_a_moment() {
        let (mut rests, now) = scene();
        // The owner's interface is gone, and the rival would have it.
        assert!(rests.update(&[decision(6, 2, "rival", true)], &present(&[6]), now));
        for rival in [decision(6, 2, "rival", false), decision(6, 9, "rival", false)] {
            let why = rests.bars(&place(), &rival).expect("also with another link address");
            assert!(why.contains("owner") && why.contains("rival claims it"), "{why}");
        }
        assert!(!rests.update(&[decision(6, 2, "rival", false)], &present(&[6]), now));
        // The holder that comes back has it, under its old index, another one, or as a container that was started anew.
        for back in [decision(5, 1, "owner", true), decision(7, 3, "owner", true), decision(8, 4, "veth8", true)] {
            let mut rests = rests.clone();
            assert_eq!(rests.bars(&place(), &back), None);
            let decided = [back.clone(), decision(6, 2, "rival", false)];
            assert!(!rests.update(&decided, &present(&[6, back.ifindex]), now));
            assert_eq!(rests.bars(&place(), &decided[1]), None, "nothing rests any more");
            assert!(!rests.over(now + REST));
        }
        assert!(!rests.over(now + REST - Duration::from_millis(1)) && rests.over(now + REST));
        assert!(!rests.update(&[decision(6, 2, "rival", false)], &present(&[6]), now + REST));
        assert_eq!(rests.bars(&place(), &decision(6, 2, "rival", false)), None, "then it is the rival's");
        assert!(!rests.update(&[decision(6, 2, "rival", true)], &present(&[6]), now + REST));
    }

    #[test]
    fn who_was_there_waits_although_it_claimed_nothing_yet() {
        let (mut rests, now) = scene();
        assert!(rests.update(&[decision(6, 2, "rival", true)], &present(&[6]), now));
        let mut quiet = Rests::default();
        let bystander = || Decision { refused: Vec::new(), ..decision(6, 2, "bystander", false) };
        quiet.update(&[decision(5, 1, "owner", true), bystander()], &present(&[5, 6]), now);
        assert!(quiet.update(&[decision(6, 2, "bystander", true)], &present(&[6]), now));
        // An address that moves from one living interface to another that did not claim it before moves at once.
        let mut moved = Rests::default();
        moved.update(&[decision(5, 1, "owner", true), bystander()], &present(&[5, 6]), now);
        let gave_up = Decision { addresses: Vec::new(), refused: Vec::new(), ..decision(5, 1, "owner", true) };
        assert!(!moved.update(&[gave_up.clone(), decision(6, 2, "bystander", true)], &present(&[5, 6]), now));
        // To one that did, it does not.
        let (mut rests, now) = scene();
        assert!(rests.update(&[gave_up, decision(6, 2, "rival", true)], &present(&[5, 6]), now));
    }
}
