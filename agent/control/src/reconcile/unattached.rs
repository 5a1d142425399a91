//! Which workloads may not be attached, because the kernel did not take their entries. Pure.
//!
//! A workload calls from its alias, and what comes back finds it by the entry of that alias. Attached without its entries, its
//! packets would be dropped as forged, or the responses lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use brattice_abi::{Address, Alias, Host, HostKey, Workload, WorkloadKey};

use super::{Desired, difference};

/// The aliases that were written.
#[derive(Clone, Copy, Debug)]
pub struct WrittenAliases<'a> {
    /// Map `ALIASES`.
    pub aliases: &'a HashMap<Address, Alias>,
    /// Aliases of processes of the host that are addresses of `brattice0`.
    pub host_aliases: &'a BTreeSet<IpAddr>,
}

/// What was written of workloads.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Map `WORKLOADS`.
    pub workloads: &'a HashMap<WorkloadKey, Workload>,
    /// Map `HOSTS`.
    pub hosts: &'a HashMap<HostKey, Host>,
    /// Their aliases.
    pub aliases: WrittenAliases<'a>,
}

/// Workloads that are not attached, or not with all of their addresses, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unattached {
    /// Interfaces that carry no program.
    pub interfaces: BTreeMap<u32, String>,
    /// Addresses of interfaces that carry the program already.
    pub addresses: BTreeMap<(u32, IpAddr), String>,
    /// Processes of the host.
    pub hosts: HashMap<HostKey, String>,
}

impl WrittenAliases<'_> {
    /// Whether what is sent to an alias reaches its workload. All zero stands for no alias.
    pub fn has(&self, desired: &Desired, alias: Address) -> bool {
        alias == Address([0; 16])
            || self.aliases.get(&alias).is_some_and(|own| desired.aliases.get(&alias) == Some(own))
    }

    /// Whether processes of the host may be told to call from their aliases: no other process may use these.
    pub fn may_call(&self, desired: &Desired, host: &Host) -> bool {
        [host.alias, host.alias6]
            .into_iter()
            .filter(|alias| *alias != Address([0; 16]))
            .all(|alias| self.has(desired, alias) && self.host_aliases.contains(&IpAddr::from(alias)))
    }
}

impl Written<'_> {
    /// Of interfaces, the addresses that lack an entry, with the name of the map.
    pub fn lacking_addresses(&self, desired: &Desired) -> BTreeMap<(u32, IpAddr), &'static str> {
        let workloads = difference(self.workloads, &desired.workloads).put.into_iter();
        let mut lacking: BTreeMap<(u32, IpAddr), &'static str> =
            workloads.map(|(key, _)| ((key.ifindex, key.address.into()), brattice_abi::WORKLOADS)).collect();
        // A caller is written after its alias: if both lack, the alias is the reason.
        let aliases = difference(self.aliases.aliases, &desired.aliases).put.into_iter();
        let of_interfaces = aliases.filter(|(_, alias)| alias.ifindex != 0);
        lacking.extend(of_interfaces.map(|(_, alias)| ((alias.ifindex, alias.address.into()), brattice_abi::ALIASES)));
        lacking
    }

    /// Processes of the host that the kernel does not know, with the name of the map that lacks an entry.
    pub fn lacking_hosts(&self, desired: &Desired) -> HashMap<HostKey, &'static str> {
        let lacking = difference(self.hosts, &desired.hosts).put.into_iter();
        let map = |host: Host| {
            let aliases = [host.alias, host.alias6].into_iter().all(|alias| self.aliases.has(desired, alias));
            if aliases { brattice_abi::HOSTS } else { brattice_abi::ALIASES }
        };
        lacking.map(|(key, host)| (key, map(host))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALIAS: Address = Address::v4([100, 127, 0, 1]);
    const OTHER: Address = Address::v4([100, 127, 0, 2]);
    const NONE: Address = Address([0; 16]);

    fn address(last: u8) -> Address {
        Address::v4([10, 0, 0, last])
    }

    fn alias(ifindex: u32, last: u8) -> Alias {
        Alias { address: address(last), ifindex, workload_id: 1, mac: [2; 6], mtu: 1500 }
    }

    /// Interface 7 with two addresses, and processes of the host.
    fn desired() -> Desired {
        let workload = |alias| Workload { alias, workload_id: 1, flags: 0 };
        let host_alias = Address::v4([100, 127, 0, 3]);
        Desired {
            workloads: HashMap::from([
                (WorkloadKey { ifindex: 7, address: address(1) }, workload(ALIAS)),
                (WorkloadKey { ifindex: 7, address: address(2) }, workload(OTHER)),
            ]),
            aliases: HashMap::from([(ALIAS, alias(7, 1)), (OTHER, alias(7, 2)), (host_alias, alias(0, 3))]),
            hosts: HashMap::from([(HostKey { cgroup: 9, uid: 0, pad: 0 }, Host { alias: host_alias, alias6: NONE })]),
            host_aliases: BTreeSet::from([host_alias.into()]),
            interfaces: BTreeMap::from([(7, 1500)]),
            ..Desired::default()
        }
    }

    fn written(held: &Desired) -> Written<'_> {
        let aliases = WrittenAliases { aliases: &held.aliases, host_aliases: &held.host_aliases };
        Written { workloads: &held.workloads, hosts: &held.hosts, aliases }
    }

    #[test]
    fn nothing_lacks_when_everything_is_written() {
        let desired = desired();
        let all = written(&desired);
        assert!(all.lacking_addresses(&desired).is_empty() && all.lacking_hosts(&desired).is_empty());
        assert!(desired.hosts.values().all(|host| all.aliases.may_call(&desired, host)));
    }

    #[test]
    fn a_caller_without_its_entry_lacks_it_and_one_without_its_alias_lacks_that() {
        let desired = desired();
        let mut held = desired.clone();
        held.workloads.retain(|key, _| key.address == address(1));
        let lacking = written(&held).lacking_addresses(&desired);
        assert_eq!(lacking, BTreeMap::from([((7, address(2).into()), "WORKLOADS")]));
        held.aliases.remove(&OTHER);
        let lacking = written(&held).lacking_addresses(&desired);
        assert_eq!(lacking, BTreeMap::from([((7, address(2).into()), "ALIASES")]));
        assert!(written(&held).aliases.has(&desired, ALIAS) && !written(&held).aliases.has(&desired, OTHER));
    }

    #[test]
    fn an_alias_that_still_leads_elsewhere_lacks() {
        let desired = desired();
        let mut held = desired.clone();
        held.aliases.insert(ALIAS, alias(6, 1));
        assert!(!written(&held).aliases.has(&desired, ALIAS));
        assert_eq!(written(&held).lacking_addresses(&desired), BTreeMap::from([((7, address(1).into()), "ALIASES")]));
    }

    #[test]
    fn processes_of_the_host_may_call_once_their_alias_is_theirs_alone() {
        let desired = desired();
        let host = *desired.hosts.values().next().unwrap();
        let mut held = desired.clone();
        held.hosts.clear();
        assert!(written(&held).aliases.may_call(&desired, &host));
        assert!(written(&held).lacking_hosts(&desired).values().eq(&["HOSTS"]));
        held.host_aliases.clear();
        assert!(!written(&held).aliases.may_call(&desired, &host), "it is no address of this host");
        held.host_aliases.clone_from(&desired.host_aliases);
        held.aliases.retain(|_, alias| alias.ifindex != 0);
        assert!(!written(&held).aliases.may_call(&desired, &host), "anybody could connect to it");
        assert!(written(&held).lacking_hosts(&desired).values().eq(&["ALIASES"]));
    }
}
