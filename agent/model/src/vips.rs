//! VIPs of services: stable for as long as a service exists, at rest for a while before another one gets them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};

use brattice_abi::FIRST_SERVICE_VIP;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::VIP_REST_SECONDS;

/// Which service has which VIP; kept on disk by the agent. [`crate::link()`] takes one and gives the next.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VipState {
    /// Service id → VIP.
    assigned: BTreeMap<String, Ipv4Addr>,
    /// Freed VIP → its previous service and since when it rests, Unix seconds.
    resting: BTreeMap<Ipv4Addr, Resting>,
    /// Offset in the range at which the search for a free one goes on, so that a freed one is taken last.
    next: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Resting {
    service: String,
    since: u64,
}

/// The address at an offset of a range.
pub(crate) fn address(range: Ipv4Net, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()).wrapping_add(offset))
}

/// The IPv6 VIPs of services by their ids, in order: the same on every node with the same range, without any state. Two
/// services with one address are as good as impossible (63 bits); the second in order of ids then takes the next hash.
pub(crate) fn vips6(range: Ipv6Net, services: &[&str]) -> Vec<Ipv6Addr> {
    vips6_by(range, services, interface_identifier)
}

/// Set in every service's interface identifier, and in none of the node's own addresses.
const SERVICE_BIT: u64 = 1 << 63;

fn interface_identifier(service: &str, attempt: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"brattice.dev/v1 vip6 ");
    hash.update(attempt.to_be_bytes());
    hash.update(service.as_bytes());
    hash.finalize().iter().take(8).fold(0, |n, &byte| n << 8 | u64::from(byte))
}

fn vips6_by(range: Ipv6Net, services: &[&str], identifier: impl Fn(&str, u32) -> u64) -> Vec<Ipv6Addr> {
    let mut taken: HashMap<u64, &str> = HashMap::with_capacity(services.len());
    let mut given: HashMap<&str, u64> = HashMap::with_capacity(services.len());
    // By id, so that the result does not depend on the order of documents.
    for service in services.iter().copied().collect::<BTreeSet<_>>() {
        let free = (0..u32::MAX)
            .map(|attempt| identifier(service, attempt) | SERVICE_BIT)
            .find(|own| !taken.contains_key(own))
            .unwrap_or(SERVICE_BIT);
        taken.insert(free, service);
        given.insert(service, free);
    }
    let at = |own: u64| Ipv6Addr::from_bits(range.network().to_bits() | u128::from(own));
    services.iter().map(|service| at(given.get(service).copied().unwrap_or(SERVICE_BIT))).collect()
}

impl VipState {
    /// VIP of a service by its id.
    pub fn of(&self, service_id: &str) -> Option<Ipv4Addr> {
        self.assigned.get(service_id).copied()
    }

    /// How many services have one, how many VIPs rest, and how many there are in a range.
    pub fn fill(&self, range: Ipv4Net) -> (usize, usize, u32) {
        (self.assigned.len(), self.resting.len(), capacity(range))
    }

    /// Frees what services no longer wanted have, and what lies outside the range; ends rests that are over.
    pub(crate) fn retain(&mut self, range: Ipv4Net, wanted: &BTreeSet<&str>, now: u64) {
        let inside = |vip: &Ipv4Addr| offsets(range).contains(&u32::from(*vip).wrapping_sub(range.network().into()));
        let resting = &mut self.resting;
        let mut taken = BTreeSet::new();
        self.assigned.retain(|service, vip| {
            // A state file written by hand could give one VIP to two services.
            if !inside(vip) || !taken.insert(*vip) {
                return false;
            }
            let keep = wanted.contains(service.as_str());
            if !keep {
                resting.insert(*vip, Resting { service: service.clone(), since: now });
            }
            keep
        });
        let assigned: BTreeSet<Ipv4Addr> = self.assigned.values().copied().collect();
        self.resting.retain(|vip, rest| {
            // A clock that went back must not make a rest endless: it starts again.
            rest.since = rest.since.min(now);
            inside(vip) && !assigned.contains(vip) && now - rest.since < VIP_REST_SECONDS
        });
    }

    /// The VIP of each service, in order; `None` where none is left. Call [`VipState::retain`] first.
    pub(crate) fn assign(&mut self, range: Ipv4Net, services: &[&str]) -> Vec<Option<Ipv4Addr>> {
        let mut taken: BTreeSet<Ipv4Addr> = self.assigned.values().copied().collect();
        if !offsets(range).contains(&self.next) || self.assigned.is_empty() && self.resting.is_empty() {
            self.next = offsets(range).start;
        }
        // A service that comes back while its VIP rests gets the same VIP: clients that still have it cached are right
        // again.
        let wanted: BTreeSet<&str> = services.iter().copied().collect();
        let returning: Vec<(Ipv4Addr, String)> = self
            .resting
            .iter()
            .filter(|(_, rest)| wanted.contains(rest.service.as_str()))
            .map(|(vip, rest)| (*vip, rest.service.clone()))
            .collect();
        for (vip, service) in returning {
            if !self.assigned.contains_key(&service) {
                self.resting.remove(&vip);
                taken.insert(vip);
                self.assigned.insert(service, vip);
            }
        }
        let bounds = offsets(range);
        let total = capacity(range);
        // Once around the range at most, over all services: what was passed is taken.
        let mut tried = 0;
        services
            .iter()
            .map(|service| {
                if let Some(vip) = self.assigned.get(*service) {
                    return Some(*vip);
                }
                while tried < total {
                    tried += 1;
                    let offset = if bounds.contains(&self.next) { self.next } else { bounds.start };
                    self.next = offset + 1;
                    let vip = address(range, offset);
                    if !taken.contains(&vip) && !self.resting.contains_key(&vip) {
                        taken.insert(vip);
                        self.assigned.insert((*service).to_owned(), vip);
                        return Some(vip);
                    }
                }
                None
            })
            .collect()
    }
}

/// Offsets of services' VIPs; the range's last address is left out, as it would be a broadcast address elsewhere.
fn offsets(range: Ipv4Net) -> std::ops::Range<u32> {
    let size = u32::from(range.broadcast()) - u32::from(range.network());
    FIRST_SERVICE_VIP.min(size)..size
}

fn capacity(range: Ipv4Net) -> u32 {
    let offsets = offsets(range);
    offsets.end - offsets.start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: &mut VipState, services: &[&str], now: u64) -> Vec<Option<u8>> {
        let range: Ipv4Net = "169.254.64.0/26".parse().unwrap();
        state.retain(range, &services.iter().copied().collect(), now);
        state.assign(range, services).into_iter().map(|vip| vip.map(|v| v.octets()[3])).collect()
    }

    #[test]
    fn a_service_keeps_its_vip_and_a_freed_one_rests() {
        let mut state = VipState::default();
        assert_eq!(run(&mut state, &["a", "b"], 0), [Some(32), Some(33)]);
        assert_eq!(run(&mut state, &["b", "c"], 10), [Some(33), Some(34)]);
        // `a` is back within its rest.
        assert_eq!(run(&mut state, &["a", "b", "c"], 20), [Some(32), Some(33), Some(34)]);
        assert_eq!(run(&mut state, &["b", "c"], 30), [Some(33), Some(34)]);
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<VipState>(&json).unwrap(), state);
    }

    #[test]
    fn an_exhausted_pool_gives_none_until_a_rest_is_over() {
        let mut state = VipState::default();
        let names: Vec<String> = (0..32).map(|n| format!("s{n:02}")).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        // 64 addresses, 32 reserved, the last left out.
        let first = run(&mut state, &all, 0);
        assert_eq!(first.iter().flatten().count(), 31);
        assert_eq!(first[31], None);
        assert_eq!(run(&mut state, &["new"], 100), [None]);
        assert_eq!(run(&mut state, &["new"], 100 + VIP_REST_SECONDS - 1), [None]);
        assert_eq!(run(&mut state, &["new"], 100 + VIP_REST_SECONDS), [Some(32)]);
    }

    #[test]
    fn ipv6_vips_hang_on_the_id_alone() {
        let range: Ipv6Net = "fd00:a9fe::/64".parse().unwrap();
        let all = vips6(range, &["svc-a", "svc-b", "svc-c"]);
        assert!(all.iter().all(|vip| range.contains(vip) && vip.octets()[8] & 0x80 != 0), "{all:?}");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(vips6(range, &["svc-c", "svc-a"]), [all[2], all[0]]);
        // The expected addresses are written out: if the same id got another address, clients that know the old one
        // would reach another service.
        assert_eq!(
            vips6(range, &["svc-0123456789abcdefg"])[0],
            "fd00:a9fe::d0a6:4689:fa89:fd81".parse::<Ipv6Addr>().unwrap()
        );
    }

    #[test]
    fn services_with_one_hash_get_two_vips_whatever_their_order() {
        let range: Ipv6Net = "fd00:a9fe::/64".parse().unwrap();
        let same = |_: &str, attempt: u32| u64::from(attempt / 2);
        let there = vips6_by(range, &["a", "b", "c"], same);
        assert_eq!(there.iter().collect::<BTreeSet<_>>().len(), 3);
        let back = vips6_by(range, &["c", "b", "a"], same);
        assert_eq!(there, back.into_iter().rev().collect::<Vec<_>>());
    }

    #[test]
    fn another_range_gives_new_vips() {
        let mut state = VipState::default();
        run(&mut state, &["a"], 0);
        let range: Ipv4Net = "169.254.96.0/20".parse().unwrap();
        state.retain(range, &["a"].into(), 1);
        assert_eq!(state.assign(range, &["a"]), [Some(Ipv4Addr::new(169, 254, 96, 32))]);
    }
}
