//! A workload whose entries the kernel does not take is not attached: the reason is said, and it is tried again.

use std::time::Duration;

use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
};
use brattice_abi::{ALIASES, Address, Alias, MAX_WORKLOADS, SCHEMA_VERSION, WORKLOADS, Workload, WorkloadKey};
use brattice_tests::lab::{Lab, Retail, SETTLE, Wiring, wait_until};
use brattice_wire::api::WorkloadView;

/// Interface indices that no interface has.
const NO_INTERFACE: u32 = 0x7000_0000;
/// The agent tries again after five seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A map that is full until this is dropped: of entries that the agent does not know of.
struct Full<K: Pod, V: Pod> {
    map: HashMap<MapData, K, V>,
    keys: Vec<K>,
}

impl<K: Pod, V: Pod> Full<K, V> {
    fn fill(lab: &Lab, name: &str, entry: impl Fn(u32) -> (K, V)) -> Self {
        let pin = lab.bpffs().join(format!("v{SCHEMA_VERSION}/maps/{name}"));
        let map = MapData::from_pin(&pin).unwrap();
        let mut map: HashMap<MapData, K, V> = HashMap::try_from(Map::HashMap(map)).unwrap();
        let mut keys = Vec::new();
        for number in 0..=MAX_WORKLOADS {
            let (key, value) = entry(number);
            if map.insert(key, value, 0).is_err() {
                assert!(!keys.is_empty(), "{name} takes nothing at all");
                return Self { map, keys };
            }
            keys.push(key);
        }
        panic!("{name} has no limit");
    }
}

impl<K: Pod, V: Pod> Drop for Full<K, V> {
    fn drop(&mut self) {
        for key in &self.keys {
            let _ = self.map.remove(key);
        }
    }
}

fn view(lab: &Lab, interface: &str) -> Option<WorkloadView> {
    lab.workloads().into_iter().find(|workload| workload.interface == interface)
}

fn has_program(lab: &Lab, interface: &str) -> bool {
    lab.status().programs.iter().any(|program| program.attached_to == interface)
}

/// Makes a workload while `full` is, which says why it is refused; then there is room again.
fn refused_while_full<K: Pod, V: Pod>(retail: &Retail, name: &str, full: Full<K, V>, interface: &str, address: &str) {
    let lab = &retail.lab;
    let workload = lab.workload(interface, address, Wiring::Bridged("brfull"));
    let mut reason = String::new();
    wait_until(&format!("{interface} is refused while {name} is full"), SETTLE, || {
        let seen = view(lab, interface).filter(|seen| seen.state == "refused");
        reason = seen.and_then(|seen| seen.reason).unwrap_or_default();
        // Before, it is refused as it has no address yet.
        reason.contains("AttachFailed")
    });
    for part in [name, "is full", "tried again"] {
        assert!(reason.contains(part), "{part:?}: {reason}");
    }
    assert!(!has_program(lab, interface), "attached without its entry");
    let problems = lab.status().problems;
    assert!(problems.iter().any(|problem| problem.contains(&format!("map {name} is full"))), "{problems:?}");
    // Who is attached already is served.
    let vip = retail.orders();
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
    drop(full);
    wait_until(&format!("{interface} is attached"), PATIENCE, || {
        view(lab, interface).is_some_and(|seen| seen.state == "attached")
    });
    assert!(has_program(lab, interface));
    assert_eq!(workload.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn a_workload_whose_entries_find_no_room_is_refused_and_attached_when_there_is_room() {
    let retail = Retail::start();
    let far = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        Address([0x3f, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
    };
    let alias = Alias { address: far(0), ifindex: NO_INTERFACE, workload_id: 0, mac: [0; 6], mtu: 0 };
    let full = Full::fill(&retail.lab, ALIASES, |number| (far(number), alias));
    refused_while_full(&retail, ALIASES, full, "bluefull1", "10.0.7.1");
    let workload = Workload { alias: far(0), workload_id: 0, flags: 0 };
    let full = Full::fill(&retail.lab, WORKLOADS, |number| {
        (WorkloadKey { ifindex: NO_INTERFACE + number, address: far(number) }, workload)
    });
    refused_while_full(&retail, WORKLOADS, full, "bluefull2", "10.0.7.2");
}
