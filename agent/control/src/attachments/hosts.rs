//! Processes of the host that are workloads: by cgroup and user, without an interface.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use brattice_abi::{ANY_USER, Address, Host, HostKey};
use brattice_loader::interfaces::places::Places;
use brattice_model::Evidence;

use super::{Code, Decision, HostWish, WorkloadWish};
use crate::aliases::{Claim, Identity};

/// A workload of processes of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostProcesses {
    /// Their user; none: any.
    pub uid: Option<u32>,
    /// Ids of the cgroups that the document means now, by path.
    pub cgroups: BTreeMap<String, u64>,
    /// What the document says.
    pub(super) addresses: Vec<IpAddr>,
}

impl HostProcesses {
    pub(super) fn evidence(&self) -> Vec<Evidence> {
        std::iter::once(Evidence::Cgroup).chain(self.uid.map(|_| Evidence::Uid)).collect()
    }

    /// What the kernel knows them by.
    pub fn keys(&self) -> impl Iterator<Item = HostKey> {
        let uid = self.uid.unwrap_or(ANY_USER);
        self.cgroups.values().map(move |cgroup| HostKey { cgroup: *cgroup, uid, pad: 0 })
    }

    /// Entries of the map `HOSTS`: they call from the first alias of each family.
    pub fn entries(&self, aliases: &[IpAddr]) -> HashMap<HostKey, Host> {
        let first = |ipv4: bool| {
            let found = aliases.iter().find(|alias| alias.is_ipv4() == ipv4);
            found.map_or(Address([0; 16]), |alias| Address::from(*alias))
        };
        let host = Host { alias: first(true), alias6: first(false) };
        if aliases.is_empty() { HashMap::new() } else { self.keys().map(|key| (key, host)).collect() }
    }
}

/// What makes processes of the host one workload: the words of its document. A cgroup that is made anew, as a service is started
/// again, is the same to it; its connections ended with its processes.
fn identity(wish: &WorkloadWish, host: &HostWish) -> Identity {
    let words = format!("{} {} {:?}", wish.name, host.cgroup, host.uid);
    // FNV-1a: it is kept on disk, so another build must come to the same.
    let hash = words
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Identity { ifindex: 0, namespace: hash, mac: [0; 6] }
}

/// Decides for every document that means processes of the host.
pub(super) fn decide(wishes: &[WorkloadWish], places: &Places) -> Vec<Decision> {
    let mut found: Vec<(&WorkloadWish, &HostWish, HostProcesses)> = Vec::new();
    let mut named: BTreeMap<(u64, Option<u32>), Vec<&str>> = BTreeMap::new();
    for (wish, host) in wishes.iter().filter_map(|wish| Some((wish, wish.host.as_ref()?))) {
        let fits = places.hosts.iter().filter(|(path, _)| host.cgroup.matches(path));
        let cgroups: BTreeMap<String, u64> = fits.map(|(path, id)| (path.clone(), *id)).collect();
        for id in cgroups.values() {
            named.entry((*id, host.uid)).or_default().push(&wish.name);
        }
        found.push((wish, host, HostProcesses { uid: host.uid, cgroups, addresses: wish.addresses.clone() }));
    }
    let mut decisions = Vec::new();
    for (wish, host, processes) in found {
        let mut decision = Decision { namespace: Some(host.place()), ..Decision::of_document(wish) };
        let others = |id: &u64| named.get(&(*id, host.uid)).filter(|names| names.len() > 1);
        let quarrel = processes.cgroups.iter().find_map(|(path, id)| Some((path, others(id)?)));
        if let Some((path, names)) = quarrel {
            let text = format!("the cgroup {path} is meant by the Workloads {}", names.join(" and "));
            decision.refuse(None, Code::AmbiguousWorkload, text);
        } else if processes.cgroups.is_empty() {
            let text = format!("there is no {} now; it is attached when it appears", host.place());
            decision.refuse(None, Code::NoCgroup, text);
        } else {
            decision.identity = Some(identity(wish, host));
        }
        decision.host = Some(processes);
        decisions.push(decision);
    }
    decisions
}

/// Aliases of a decision, in the order of its addresses.
pub fn aliases(decision: &Decision, alias: impl Fn(&Claim) -> Option<IpAddr>) -> Vec<IpAddr> {
    decision.claims().filter_map(|claim| alias(&claim)).collect()
}
