//! What the kernel's maps should hold, and the smallest change that gets them there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use brattice_abi::{
    Address, Alias, Host, HostKey, Listener, ListenerKey, TargetKey, WORKLOAD_INTERCEPT_DNS, WORKLOAD_MAC_DOCUMENTED,
    Workload, WorkloadKey,
};
use brattice_model::Plan;
use brattice_wire::snapshot::WorkloadNumber;

pub use self::mirror::{Entries, Mirror};
pub use self::unattached::{Unattached, Written, WrittenAliases};

mod mirror;
mod unattached;

/// A workload address with its alias, ready for the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Host-side interface; 0: processes of the host.
    pub ifindex: u32,
    /// Real address.
    pub address: IpAddr,
    /// Alias.
    pub alias: IpAddr,
    /// Number of the workload.
    pub number: WorkloadNumber,
    /// Link address of the workload's side.
    pub mac: [u8; 6],
    /// Only a document can give it: frames with another MAC are not the workload's.
    pub mac_documented: bool,
    /// Largest IP packet that reaches it, in bytes.
    pub mtu: u32,
    /// Port 53 to any address is taken.
    pub intercept_dns: bool,
}

/// What the maps should hold.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Map `WORKLOADS`.
    pub workloads: HashMap<WorkloadKey, Workload>,
    /// Map `ALIASES`.
    pub aliases: HashMap<Address, Alias>,
    /// Map `TARGETS`.
    pub targets: HashMap<TargetKey, u32>,
    /// Map `LISTENERS`.
    pub listeners: HashMap<ListenerKey, Listener>,
    /// Map `HOSTS`.
    pub hosts: HashMap<HostKey, Host>,
    /// Aliases of processes of the host: addresses of `brattice0`.
    pub host_aliases: BTreeSet<IpAddr>,
    /// Interfaces with `workload_ingress`, and their MTU.
    pub interfaces: BTreeMap<u32, u32>,
}

impl Desired {
    /// From the plan, the placed workloads, and which processes of the host are any.
    pub fn new(plan: &Plan, placed: &[Placed], hosts: HashMap<HostKey, Host>, interfaces: BTreeMap<u32, u32>) -> Self {
        let mut desired = Self { hosts, interfaces, ..Self::default() };
        for workload in placed {
            let (address, alias) = (Address::from(workload.address), Address::from(workload.alias));
            let flags = if workload.intercept_dns { WORKLOAD_INTERCEPT_DNS } else { 0 }
                | if workload.mac_documented { WORKLOAD_MAC_DOCUMENTED } else { 0 };
            if workload.ifindex == 0 {
                desired.host_aliases.insert(workload.alias);
            } else {
                desired.workloads.insert(
                    WorkloadKey { ifindex: workload.ifindex, address },
                    Workload { alias, workload_id: workload.number.get(), flags },
                );
            }
            desired.aliases.insert(
                alias,
                Alias {
                    address,
                    ifindex: workload.ifindex,
                    workload_id: workload.number.get(),
                    mac: workload.mac,
                    // saturates: 0 stands for no limit, and a larger MTU than a packet can have is as good as none.
                    mtu: u16::try_from(workload.mtu).unwrap_or(0),
                },
            );
        }
        for (alias, port, protocol) in &plan.targets {
            let key = TargetKey { alias: Address::from(*alias), port: *port, protocol: *protocol, pad: 0 };
            desired.targets.insert(key, 1);
        }
        for ((vip, port, protocol), (kind, service)) in &plan.listeners {
            let key = ListenerKey { vip: Address::from(*vip), port: *port, protocol: *protocol, pad: 0 };
            desired.listeners.insert(key, Listener { kind: *kind, service_id: service.get() });
        }
        desired
    }
}

/// What differs.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference<K, V> {
    /// New, or with another value.
    pub put: Vec<(K, V)>,
    /// Not wanted any more.
    pub remove: Vec<K>,
}

/// The smallest change from `actual` to `desired`.
pub fn difference<K: Eq + Hash + Copy, V: PartialEq + Copy>(
    actual: &HashMap<K, V>,
    desired: &HashMap<K, V>,
) -> Difference<K, V> {
    let put = desired.iter().filter(|(key, value)| actual.get(key) != Some(value)).map(|(key, value)| (*key, *value));
    let remove = actual.keys().filter(|key| !desired.contains_key(key)).copied();
    Difference { put: put.collect(), remove: remove.collect() }
}

#[cfg(test)]
mod tests {
    use brattice_abi::{IPPROTO_TCP, IPPROTO_UDP, LISTENER_DNS};
    use brattice_wire::snapshot::ServiceNumber;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn workloads_go_both_ways_and_listeners_are_taken_over() {
        let placed = [Placed {
            ifindex: 7,
            address: IpAddr::from([10, 0, 0, 10]),
            alias: IpAddr::from([100, 127, 0, 1]),
            number: WorkloadNumber::new(3),
            mac: [2; 6],
            mac_documented: true,
            mtu: 1400,
            intercept_dns: true,
        }];
        let dns = |vip: IpAddr| {
            [IPPROTO_TCP, IPPROTO_UDP].map(|protocol| ((vip, 53, protocol), (LISTENER_DNS, ServiceNumber::default())))
        };
        let listeners = dns([169, 254, 64, 17].into()).into_iter().chain(dns([0xfd00, 0, 0, 0, 0, 0, 0, 17].into()));
        let desired = Desired::new(
            &Plan { snapshot: Default::default(), listeners: listeners.collect(), targets: Default::default() },
            &placed,
            HashMap::new(),
            BTreeMap::from([(7, 1500)]),
        );
        let (real, alias) = (Address::v4([10, 0, 0, 10]), Address::v4([100, 127, 0, 1]));
        let workload = desired.workloads[&WorkloadKey { ifindex: 7, address: real }];
        let flags = WORKLOAD_INTERCEPT_DNS | WORKLOAD_MAC_DOCUMENTED;
        assert!(workload == Workload { alias, workload_id: 3, flags });
        assert!(desired.aliases[&alias] == Alias { address: real, ifindex: 7, workload_id: 3, mac: [2; 6], mtu: 1400 });
        assert_eq!(desired.listeners.len(), 4);
        assert!(desired.listeners.values().all(|listener| listener.kind == LISTENER_DNS));
    }

    proptest! {
        /// Applying the difference gives what is desired, and nothing that is right already is touched.
        #[test]
        fn the_difference_is_enough_and_minimal(
            actual in proptest::collection::hash_map(0u8..20, 0u8..3, 0..20),
            desired in proptest::collection::hash_map(0u8..20, 0u8..3, 0..20),
        ) {
            let Difference { put, remove } = difference(&actual, &desired);
            prop_assert!(put.iter().all(|(key, value)| actual.get(key) != Some(value)));
            let mut result = actual;
            result.extend(put);
            for key in remove {
                prop_assert!(result.remove(&key).is_some());
            }
            prop_assert_eq!(result, desired);
        }
    }
}
