//! The kernel's state that belongs to Brattice, and each single step that brings it closer to a plan. In which order the steps are
//! taken is not decided here but in [`super::sequence`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brattice_abi as abi;
use brattice_loader::Datapath;
use brattice_wire::rarely;
use tracing::{debug, error};

use super::RETRY;
use crate::reconcile::{Desired, Mirror, Unattached, Written, WrittenAliases, difference};

/// Most failures remembered.
const MAX_FAILURES: usize = 64;

/// The maps that are reconciled.
#[derive(Debug)]
struct Maps {
    workloads: Mirror<abi::WorkloadKey, abi::Workload>,
    aliases: Mirror<abi::Address, abi::Alias>,
    targets: Mirror<abi::TargetKey, u32>,
    listeners: Mirror<abi::ListenerKey, abi::Listener>,
    hosts: Mirror<abi::HostKey, abi::Host>,
}

/// Our state in the kernel, as known here.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Map `WORKLOADS`.
    pub workloads: Arc<HashMap<abi::WorkloadKey, abi::Workload>>,
    /// Map `ALIASES`.
    pub aliases: Arc<HashMap<abi::Address, abi::Alias>>,
    /// Map `HOSTS`.
    pub hosts: Arc<HashMap<abi::HostKey, abi::Host>>,
    /// Used and limit of each map, by name.
    pub fill: BTreeMap<&'static str, (u64, u64)>,
    /// Interfaces with `workload_ingress`.
    pub attached: Arc<BTreeSet<u32>>,
    /// Aliases of processes of the host that are addresses of `brattice0`.
    pub host_aliases: Arc<BTreeSet<IpAddr>>,
    /// What could not be written last time.
    pub failures: Arc<BTreeSet<String>>,
}

/// The kernel's side.
pub struct KernelState {
    datapath: Arc<Datapath>,
    maps: Maps,
    /// Interfaces with `workload_ingress`, as the kernel says.
    attached: Arc<BTreeSet<u32>>,
    /// What could not be attached at the last try, and why.
    unattached: Unattached,
    /// Aliases of processes of the host that are addresses of `brattice0`.
    host_aliases: Arc<BTreeSet<IpAddr>>,
    /// MTU of the alias route, once it was set.
    mtu: Option<u32>,
    /// What could not be written last time.
    failures: Arc<BTreeSet<String>>,
    desired: Arc<Desired>,
}

impl KernelState {
    /// Reads what the kernel holds.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn read(datapath: Arc<Datapath>) -> Result<Self, brattice_loader::Error> {
        let maps = Maps {
            workloads: Mirror::read(abi::WORKLOADS, datapath.maps.workloads())?,
            aliases: Mirror::read(abi::ALIASES, datapath.maps.aliases())?,
            targets: Mirror::read(abi::TARGETS, datapath.maps.targets())?,
            listeners: Mirror::read(abi::LISTENERS, datapath.maps.listeners())?,
            hosts: Mirror::read(abi::HOSTS, datapath.maps.hosts())?,
        };
        let host_aliases = Arc::new(datapath.host_aliases()?);
        Ok(Self {
            datapath,
            maps,
            attached: Arc::default(),
            unattached: Unattached::default(),
            host_aliases,
            mtu: None,
            failures: Arc::default(),
            desired: Arc::default(),
        })
    }

    /// What the kernel holds, for others to look at.
    pub fn held(&self) -> Held {
        let maps = &self.maps;
        Held {
            workloads: maps.workloads.known().clone(),
            aliases: maps.aliases.known().clone(),
            hosts: maps.hosts.known().clone(),
            fill: BTreeMap::from([
                ("workloads", maps.workloads.fill()),
                ("targets", maps.targets.fill()),
                ("listeners", maps.listeners.fill()),
            ]),
            attached: self.attached.clone(),
            host_aliases: self.host_aliases.clone(),
            failures: self.failures.clone(),
        }
    }

    /// Aliases that the kernel knows.
    pub fn aliases(&self) -> impl Iterator<Item = IpAddr> {
        self.maps.aliases.known().keys().map(|alias| IpAddr::from(*alias))
    }

    /// Reads all maps again, after another process changed them.
    pub fn refresh(&mut self) {
        let maps = &mut self.maps;
        let results = [
            maps.workloads.refresh(),
            maps.aliases.refresh(),
            maps.targets.refresh(),
            maps.listeners.refresh(),
            maps.hosts.refresh(),
        ];
        for error in results.into_iter().filter_map(Result::err) {
            error!(%error, "a map cannot be read");
        }
    }

    /// What could not be attached at the last try, and why.
    pub fn unattached(&self) -> &Unattached {
        &self.unattached
    }

    /// Whether something was refused, and is worth another try.
    pub fn has_failed(&self) -> bool {
        !self.failures.is_empty() || self.unattached != Unattached::default()
    }

    /// Takes another plan as what is wanted; nothing is written yet.
    pub fn want(&mut self, desired: Arc<Desired>) {
        self.failures = Arc::default();
        self.desired = desired;
    }

    /// Removes what belongs to the aliases of workloads that are gone.
    pub fn remove_gone(&mut self, gone: &BTreeSet<IpAddr>) {
        if gone.is_empty() {
            return;
        }
        rarely!(info, aliases = gone.len(), "workloads are gone; their aliases are closed");
        let is_gone = |alias: &abi::Address| gone.contains(&IpAddr::from(*alias));
        let maps = &mut self.maps;
        let mut failed = maps.workloads.remove_if(|_, workload| is_gone(&workload.alias));
        failed.extend(maps.hosts.remove_if(|_, host| is_gone(&host.alias) || is_gone(&host.alias6)));
        failed.extend(maps.aliases.remove_if(|alias, _| is_gone(alias)));
        failed.extend(maps.targets.remove_if(|target, _| is_gone(&target.alias)));
        self.report(failed);
    }

    /// Writes new and changed aliases.
    pub fn put_aliases(&mut self) {
        let failed = self.maps.aliases.put(&self.desired.aliases);
        self.report(failed);
    }

    /// Writes new targets.
    pub fn put_targets(&mut self) {
        let failed = self.maps.targets.put(&self.desired.targets);
        self.report(failed);
    }

    /// Writes new and changed listeners.
    pub fn put_listeners(&mut self) {
        let failed = self.maps.listeners.put(&self.desired.listeners);
        self.report(failed);
    }

    /// Makes new aliases of processes of the host addresses of `brattice0`; none is removed yet.
    pub async fn add_host_aliases(&mut self) {
        self.set_host_aliases(self.host_aliases.union(&self.wanted_host_aliases()).copied().collect()).await;
    }

    /// Sets the MTU of the alias route: the largest, as what is too large for one workload, `workload_egress` answers with that
    /// one's MTU.
    pub async fn set_mtu(&mut self) {
        if let Some(mtu) = self.desired.interfaces.values().max().copied()
            && self.mtu != Some(mtu)
        {
            match self.datapath.set_mtu(mtu).await {
                Ok(()) => self.mtu = Some(mtu),
                Err(e) => self.report(vec![format!("the MTU of the alias route: {e}")]),
            }
        }
    }

    /// Writes new and changed workloads, and processes of the host that are any: from here on they may call. One whose alias could
    /// not be written is left out, as no response would reach it.
    pub fn put_callers(&mut self) {
        let desired = &self.desired;
        let Maps { workloads, aliases, hosts, .. } = &mut self.maps;
        let written = WrittenAliases { aliases: aliases.known(), host_aliases: &self.host_aliases };
        let mut failed = workloads.put_if(&desired.workloads, |own| written.has(desired, own.alias));
        failed.extend(hosts.put_if(&desired.hosts, |own| written.may_call(desired, own)));
        self.report(failed);
    }

    /// Removes listeners that are not wanted any more, then callers, targets and aliases.
    pub fn remove_unwanted(&mut self) {
        let (maps, desired) = (&mut self.maps, &self.desired);
        let mut failed = maps.listeners.remove(&desired.listeners);
        failed.extend(maps.hosts.remove(&desired.hosts));
        failed.extend(maps.targets.remove(&desired.targets));
        failed.extend(maps.workloads.remove(&desired.workloads));
        failed.extend(maps.aliases.remove(&desired.aliases));
        self.report(failed);
    }

    /// Takes aliases of processes of the host from `brattice0` that are not wanted any more.
    pub async fn remove_host_aliases(&mut self) {
        self.set_host_aliases(self.wanted_host_aliases()).await;
    }

    /// Detaches interfaces that are not wanted any more.
    pub async fn detach(&mut self) {
        let wanted = &self.desired.interfaces;
        let unwanted: Vec<u32> =
            self.attached.iter().filter(|ifindex| !wanted.contains_key(ifindex)).copied().collect();
        for ifindex in unwanted {
            match self.datapath.detach(ifindex).await {
                Ok(()) => drop(Arc::make_mut(&mut self.attached).remove(&ifindex)),
                Err(e) => self.report(vec![format!("detaching interface {ifindex}: {e}")]),
            }
        }
    }

    /// Attaches the interfaces that are wanted and have all of their entries, at least one, and no further one after the time `within`.
    /// With `again`, those that were refused before are tried again. `attached` is told of each one that was not attached before, as
    /// soon as it is: the next takes the kernel a grace period of RCU. Returns whether some are left.
    pub async fn attach(&mut self, again: bool, within: Duration, mut attached: impl FnMut(u32)) -> bool {
        self.refresh_attached();
        if again {
            self.unattached = Unattached::default();
        }
        self.find_lacking();
        let (began, mut tried) = (Instant::now(), false);
        for ifindex in self.desired.interfaces.keys() {
            if self.attached.contains(ifindex) || self.unattached.interfaces.contains_key(ifindex) {
                continue;
            }
            if tried && began.elapsed() >= within {
                return true;
            }
            tried = true;
            match self.datapath.attach(*ifindex).await {
                Ok(()) => {
                    debug!(ifindex, "attached");
                    Arc::make_mut(&mut self.attached).insert(*ifindex);
                    attached(*ifindex);
                }
                Err(e) => {
                    rarely!(warn, ifindex, error = %e, "an interface cannot be attached");
                    self.unattached.interfaces.insert(*ifindex, tried_again(&e.to_string()));
                }
            }
        }
        false
    }

    /// Notes which workloads lack an entry.
    fn find_lacking(&mut self) {
        let (maps, written) = (&self.maps, self.written());
        let reason = |map: &str| {
            tried_again(&match map {
                abi::WORKLOADS => maps.workloads.refusal(),
                abi::HOSTS => maps.hosts.refusal(),
                _ => maps.aliases.refusal(),
            })
        };
        let (addresses, hosts) = (written.lacking_addresses(&self.desired), written.lacking_hosts(&self.desired));
        for ((ifindex, address), map) in addresses {
            let text = format!("the kernel has no entry for {address}: {}", reason(map));
            if self.attached.contains(&ifindex) {
                self.unattached.addresses.insert((ifindex, address), text);
            } else {
                self.unattached.interfaces.entry(ifindex).or_insert(text);
            }
        }
        for (key, map) in hosts {
            let text = format!("the kernel has no entry for cgroup {}: {}", key.cgroup, reason(map));
            self.unattached.hosts.insert(key, text);
        }
    }

    /// What was written of workloads.
    fn written(&self) -> Written<'_> {
        let aliases = WrittenAliases { aliases: self.maps.aliases.known(), host_aliases: &self.host_aliases };
        Written { workloads: self.maps.workloads.known(), hosts: self.maps.hosts.known(), aliases }
    }

    /// Aliases that processes of the host shall have. Without its entry in `ALIASES`, any process could connect to one.
    fn wanted_host_aliases(&self) -> BTreeSet<IpAddr> {
        let (written, desired) = (self.written(), &self.desired);
        let wanted = desired.host_aliases.iter().copied();
        wanted.filter(|alias| written.aliases.has(desired, abi::Address::from(*alias))).collect()
    }

    /// Which aliases are addresses of this host.
    async fn set_host_aliases(&mut self, aliases: BTreeSet<IpAddr>) {
        if aliases == *self.host_aliases {
            return;
        }
        match self.datapath.set_host_aliases(aliases.clone()).await {
            Ok(()) => self.host_aliases = aliases.into(),
            Err(e) => self.report(vec![format!("aliases of processes of the host: {e}")]),
        }
    }

    /// Whether the maps lack something.
    pub fn lacks(&self) -> bool {
        let (maps, desired) = (&self.maps, &self.desired);
        !difference(maps.workloads.known(), &desired.workloads).put.is_empty()
            || !difference(maps.aliases.known(), &desired.aliases).put.is_empty()
            || !difference(maps.targets.known(), &desired.targets).put.is_empty()
            || !difference(maps.listeners.known(), &desired.listeners).put.is_empty()
            || !difference(maps.hosts.known(), &desired.hosts).put.is_empty()
    }

    /// Whether anything is left to write once the engine serves the plan.
    pub fn is_unfinished(&self) -> bool {
        let (maps, desired) = (&self.maps, &self.desired);
        maps.workloads.known().keys().any(|key| !desired.workloads.contains_key(key))
            || maps.aliases.known().keys().any(|key| !desired.aliases.contains_key(key))
            || maps.targets.known().keys().any(|key| !desired.targets.contains_key(key))
            || maps.listeners.known().keys().any(|key| !desired.listeners.contains_key(key))
            || self.attached.iter().any(|ifindex| !desired.interfaces.contains_key(ifindex))
            || maps.hosts.known().keys().any(|key| !desired.hosts.contains_key(key))
            || *self.host_aliases != desired.host_aliases
            || !difference(maps.hosts.known(), &desired.hosts).put.is_empty()
            || !difference(maps.workloads.known(), &desired.workloads).put.is_empty()
            || desired.interfaces.keys().any(|ifindex| !self.attached.contains(ifindex))
    }

    /// Whether an interface that should be attached is not.
    pub fn lacks_attachments(&mut self) -> bool {
        self.refresh_attached();
        self.desired.interfaces.keys().any(|ifindex| !self.attached.contains(ifindex))
    }

    /// Asks the kernel which interfaces are attached.
    pub fn refresh_attached(&mut self) {
        match self.datapath.attached() {
            Ok(attached) => {
                let ingress = attached.into_iter().filter(|attachment| attachment.program == abi::WORKLOAD_INGRESS);
                let now: BTreeSet<u32> = ingress.map(|attachment| attachment.ifindex).collect();
                if now != *self.attached {
                    self.attached = now.into();
                }
            }
            Err(e) => self.report(vec![format!("asking what is attached: {e}")]),
        }
    }

    fn report(&mut self, failed: Vec<String>) {
        for text in failed {
            if self.failures.len() < MAX_FAILURES && !self.failures.contains(&text) {
                rarely!(error, "the kernel refused a change: {text}");
                Arc::make_mut(&mut self.failures).insert(text);
            }
        }
    }
}

/// Why something is not attached, for people.
fn tried_again(why: &str) -> String {
    format!("{why}. It is tried again every {} s", RETRY.as_secs())
}
