//! From the model and the interfaces to maps, attachments and snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use brattice_model::{Binding, Plan, plan};
use brattice_wire::rarely;
use brattice_wire::snapshot::Snapshot;
use tracing::{debug, error, warn};

use super::{ENGINE_PATIENCE, MAX_ANNOUNCED, Node, Pending};
use crate::aliases::{Claim, Identity, MAX_PER_INTERFACE};
use crate::attachments::{Code, Refusal, Wishes, aliases, decide, identity_of};
use crate::clock::unix_seconds;
use crate::reconcile::{Desired, Placed, difference};

impl Node {
    /// Brings kernel and engine to what documents and interfaces say. First the kernel learns whom the engine may call
    /// and which VIPs there are, then the engine gets its snapshot, and when it has applied that, new workloads may call
    /// and what is gone is removed ([`Self::finish`]): so the engine never calls whom the kernel does not know, and never
    /// hears of a caller that it does not know.
    pub(super) async fn reconcile(&mut self) {
        self.failures.clear();
        self.reconciled = Instant::now();
        let lost = self.give_aliases();
        let (plan, desired) = self.plan();
        self.desired = desired;

        self.add_to_kernel().await;
        self.refresh_attached();
        let changed = self.adopt_snapshot(plan.snapshot);
        // On disk before anybody hears of it: a revision or an alias is never used twice.
        self.save();
        if changed {
            self.engine.snapshot(self.snapshot.clone()).await;
        }
        if !lost.is_empty() {
            self.engine.close(lost).await;
        }
        if self.something_is_left() {
            let (applied, down) = {
                let view = self.engine.view.borrow();
                (view.revision >= self.snapshot.revision, view.state == "down")
            };
            let deadline = Instant::now() + ENGINE_PATIENCE;
            // One change after the other must not put the first off for good.
            let deadline = self.pending.as_ref().map_or(deadline, |pending| pending.deadline.min(deadline));
            self.pending = Some(Pending { revision: self.snapshot.revision, deadline });
            if applied || down {
                self.finish().await;
            }
        }
    }

    /// Decides who is attached, and gives and takes aliases. What belonged to an identity that is gone leaves the kernel
    /// here, at once.
    fn give_aliases(&mut self) -> Vec<(IpAddr, u32)> {
        let holders: BTreeMap<(String, IpAddr), Identity> =
            self.aliases.claims().map(|claim| ((claim.vpc.clone(), claim.address), claim.identity)).collect();
        let wishes = Wishes { places: self.places.clone(), ..Wishes::of(&self.model) };
        let mut decisions = decide(&self.interfaces, &wishes, &holders, &self.rests);
        let there: BTreeSet<u32> = self.interfaces.iter().map(|interface| interface.ifindex).collect();
        if self.rests.update(&decisions, &there, self.reconciled) {
            decisions = decide(&self.interfaces, &wishes, &holders, &self.rests);
            self.rests.update(&decisions, &there, self.reconciled);
        }
        let wanted: BTreeSet<Claim> =
            decisions.iter().flat_map(|decision| decision.claims().collect::<Vec<_>>()).collect();

        let hosts = decisions.iter().filter(|decision| decision.host.is_some());
        let present: BTreeSet<Identity> =
            self.interfaces.iter().filter_map(identity_of).chain(hosts.filter_map(|own| own.identity)).collect();
        let gone: BTreeSet<IpAddr> = self
            .aliases
            .claims()
            .filter(|claim| !present.contains(&claim.identity))
            .filter_map(|claim| Some(self.aliases.get(claim)?.alias))
            .collect();
        let assigned = self.aliases.assign(&wanted);
        if !gone.is_empty() {
            rarely!(info, aliases = gone.len(), "workloads are gone; their aliases are closed");
            let is_gone = |alias: &brattice_abi::Address| gone.contains(&IpAddr::from(*alias));
            let mut failed = self.maps.workloads.remove_if(|_, workload| is_gone(&workload.alias));
            failed.extend(self.maps.hosts.remove_if(|_, host| is_gone(&host.alias) || is_gone(&host.alias6)));
            failed.extend(self.maps.aliases.remove_if(|alias, _| is_gone(alias)));
            failed.extend(self.maps.targets.remove_if(|target, _| is_gone(&target.alias)));
            self.report(failed);
        }
        let without: BTreeMap<&Claim, Code> =
            (assigned.exhausted.iter().map(|claim| (claim, Code::AliasPoolExhausted)))
                .chain(assigned.limited.iter().map(|claim| (claim, Code::AliasLimit)))
                .collect();
        for decision in &mut decisions {
            let mine: Vec<(IpAddr, Code)> =
                decision.claims().filter_map(|claim| Some((claim.address, *without.get(&claim)?))).collect();
            for (address, code) in mine {
                decision.addresses.retain(|a| *a != address);
                let text = if code == Code::AliasLimit {
                    format!(
                        "{address} got no alias: an interface may have {MAX_PER_INTERFACE}, and those it had before rest for a while"
                    )
                } else {
                    format!(
                        "{address} got no alias: the pool is used up (or its aliases still rest); choose a larger --alias-range"
                    )
                };
                decision.refused.push(Refusal { address: Some(address), code, text });
            }
        }
        for decision in &decisions {
            if !self.decisions.iter().any(|old| old.ifindex == decision.ifindex && old.refused == decision.refused)
                && let Some(reason) = decision.reason()
            {
                rarely!(
                    warn,
                    workload = decision.name,
                    vpc = decision.vpc,
                    interface = decision.interface,
                    "not attached as wished: {reason}"
                );
            }
        }
        self.noticed.decided(&self.decisions, &decisions, &self.interfaces);
        self.since.update(&decisions, unix_seconds());
        self.decisions = decisions;
        assigned.lost
    }

    fn plan(&mut self) -> (Plan, Desired) {
        let mut bindings = Vec::new();
        let mut placed = Vec::new();
        let mut hosts = HashMap::new();
        let mut interfaces = BTreeMap::new();
        let mut used = BTreeSet::new();
        for decision in self.decisions.iter().filter(|decision| decision.attached()) {
            let number = self.state.workloads.number(&decision.vpc, &decision.name);
            used.insert(number);
            if let Some(host) = &decision.host {
                let given = aliases(decision, |claim| Some(self.aliases.get(claim)?.alias));
                hosts.extend(host.entries(&given));
            } else {
                interfaces.insert(decision.ifindex, decision.mtu);
            }
            for claim in decision.claims() {
                let Some(given) = self.aliases.get(&claim) else { continue };
                bindings.push(Binding {
                    vpc: decision.vpc.clone(),
                    address: claim.address,
                    alias: given.alias,
                    name: decision.name.clone(),
                    documented: decision.documented,
                    evidence: decision.evidence(),
                    number,
                    generation: given.generation,
                });
                placed.push(Placed {
                    ifindex: decision.ifindex,
                    address: claim.address,
                    alias: given.alias,
                    number,
                    mac: decision.mac,
                    // A veth's other end was asked.
                    mac_documented: decision.mac != [0; 6]
                        && decision.identity.is_some_and(|own| own.mac != decision.mac),
                    mtu: decision.mtu,
                    intercept_dns: decision.intercept_dns,
                });
            }
        }
        self.state.workloads.prune(&used);
        let plan = plan(&self.model, &bindings, &mut self.state.numbers, self.snapshot.revision);
        self.state.services =
            plan.snapshot.services.iter().map(|service| (service.name.clone(), service.number)).collect();
        let desired = Desired::new(&plan, &placed, hosts, interfaces);
        (plan, desired)
    }

    /// Takes the snapshot over, with a new revision if anything in it changed.
    fn adopt_snapshot(&mut self, mut snapshot: Snapshot) -> bool {
        snapshot.revision = self.snapshot.revision;
        if snapshot == *self.snapshot && snapshot.revision > 0 {
            return false;
        }
        self.state.revision += 1;
        snapshot.revision = self.state.revision;
        rarely!(
            info,
            revision = snapshot.revision,
            workloads = snapshot.workloads.len(),
            services = snapshot.services.len(),
            "planned"
        );
        self.snapshot = Arc::new(snapshot);
        true
    }

    /// The engine serves `revision` of an earlier agent, whose number the disk may not have kept: what is planned gets a
    /// higher one, as the engine takes equal numbers for equal snapshots.
    pub(super) async fn number_above(&mut self, revision: u64) {
        if self.snapshot.revision > revision {
            return;
        }
        warn!(
            serving = revision,
            known = self.state.revision,
            "the engine serves a revision that the state directory does not know; numbers go on from there"
        );
        self.state.revision = revision + 1;
        self.snapshot = Arc::new(Snapshot { revision: self.state.revision, ..Snapshot::clone(&self.snapshot) });
        self.save();
        self.engine.snapshot(self.snapshot.clone()).await;
        if let Some(pending) = &mut self.pending {
            pending.revision = self.snapshot.revision;
        }
    }

    async fn add_to_kernel(&mut self) {
        let mut failed = self.maps.aliases.put(&self.desired.aliases);
        failed.extend(self.maps.targets.put(&self.desired.targets));
        failed.extend(self.maps.listeners.put(&self.desired.listeners));
        self.report(failed);
        self.set_host_aliases(self.host_aliases.union(&self.desired.host_aliases).copied().collect()).await;

        // The largest: what is too large for one workload, `workload_egress` answers with that one's MTU.
        if let Some(mtu) = self.desired.interfaces.values().max().copied()
            && self.mtu != Some(mtu)
        {
            match self.datapath.set_mtu(mtu).await {
                Ok(()) => self.mtu = Some(mtu),
                Err(e) => self.report(vec![format!("the MTU of the alias route: {e}")]),
            }
        }
    }

    /// What comes after the engine: workloads may call, and what is not wanted any more goes.
    pub(super) async fn finish(&mut self) {
        self.pending = None;
        // The map before the attachment, so that the first packet finds its workload.
        let mut failed = self.maps.workloads.put(&self.desired.workloads);
        failed.extend(self.maps.hosts.put(&self.desired.hosts));
        self.report(failed);
        self.attach().await;
        let mut failed = self.maps.listeners.remove(&self.desired.listeners);
        failed.extend(self.maps.hosts.remove(&self.desired.hosts));
        failed.extend(self.maps.targets.remove(&self.desired.targets));
        failed.extend(self.maps.workloads.remove(&self.desired.workloads));
        failed.extend(self.maps.aliases.remove(&self.desired.aliases));
        self.report(failed);
        self.set_host_aliases(self.desired.host_aliases.clone()).await;
        for ifindex in self.attached.clone() {
            if self.desired.interfaces.contains_key(&ifindex) {
                continue;
            }
            match self.datapath.detach(ifindex).await {
                Ok(()) => drop(self.attached.remove(&ifindex)),
                Err(e) => self.report(vec![format!("detaching interface {ifindex}: {e}")]),
            }
        }
    }

    /// Which aliases are addresses of this host.
    async fn set_host_aliases(&mut self, aliases: BTreeSet<IpAddr>) {
        if aliases == self.host_aliases {
            return;
        }
        match self.datapath.set_host_aliases(aliases.clone()).await {
            Ok(()) => self.host_aliases = aliases,
            Err(e) => self.report(vec![format!("aliases of processes of the host: {e}")]),
        }
    }

    /// Whether the maps lack something.
    pub(super) fn something_to_do(&self) -> bool {
        let (maps, desired) = (&self.maps, &self.desired);
        !difference(maps.workloads.known(), &desired.workloads).put.is_empty()
            || !difference(maps.aliases.known(), &desired.aliases).put.is_empty()
            || !difference(maps.targets.known(), &desired.targets).put.is_empty()
            || !difference(maps.listeners.known(), &desired.listeners).put.is_empty()
            || !difference(maps.hosts.known(), &desired.hosts).put.is_empty()
    }

    /// Attaches what is to be attached.
    async fn attach(&mut self) {
        self.refresh_attached();
        self.attach_errors.clear();
        let mut new = Vec::new();
        for ifindex in self.desired.interfaces.keys().copied().collect::<Vec<_>>() {
            if self.attached.contains(&ifindex) {
                continue;
            }
            match self.datapath.attach(ifindex).await {
                Ok(()) => {
                    debug!(ifindex, "attached");
                    self.attached.insert(ifindex);
                    new.push(ifindex);
                }
                Err(e) => {
                    rarely!(warn, ifindex, error = %e, "an interface cannot be attached");
                    self.attach_errors.insert(ifindex, e.to_string());
                }
            }
        }
        let mut left = MAX_ANNOUNCED;
        for ifindex in new {
            left = left.saturating_sub(self.announce(ifindex, left));
        }
        for decision in &mut self.decisions {
            if let Some(text) = self.attach_errors.get(&decision.ifindex) {
                decision.refused.push(Refusal { address: None, code: Code::AttachFailed, text: text.clone() });
            }
        }
    }

    /// Tells a workload that was just attached what it may have asked before, when nobody answered.
    fn announce(&self, ifindex: u32, most: usize) -> usize {
        let Some(decision) = self.decisions.iter().find(|decision| decision.ifindex == ifindex) else { return 0 };
        let mut vips = vec![self.model.dns_vip()];
        vips.extend(self.model.dns_vip6());
        let vpc = self.snapshot.vpcs.iter().find(|vpc| vpc.name == decision.vpc);
        let services = vpc
            .into_iter()
            .flat_map(|vpc| &vpc.services)
            .filter_map(|at| self.snapshot.services.get(usize::try_from(*at).ok()?));
        vips.extend(services.flat_map(|service| std::iter::once(service.vip).chain(service.vip6)).take(most));
        match self.announcer.announce(ifindex, decision.mac, &decision.addresses, &vips) {
            Ok(count) => {
                debug!(ifindex, count, "VIPs announced");
                count
            }
            // It asks again after a second.
            Err(e) => {
                rarely!(warn, ifindex, error = %e, "the VIPs cannot be announced to a new workload");
                0
            }
        }
    }

    /// Whether there is anything for [`Self::finish`] to do.
    fn something_is_left(&self) -> bool {
        let (maps, desired) = (&self.maps, &self.desired);
        maps.workloads.known().keys().any(|key| !desired.workloads.contains_key(key))
            || maps.aliases.known().keys().any(|key| !desired.aliases.contains_key(key))
            || maps.targets.known().keys().any(|key| !desired.targets.contains_key(key))
            || maps.listeners.known().keys().any(|key| !desired.listeners.contains_key(key))
            || self.attached.iter().any(|ifindex| !desired.interfaces.contains_key(ifindex))
            || maps.hosts.known().keys().any(|key| !desired.hosts.contains_key(key))
            || self.host_aliases != desired.host_aliases
            || !difference(maps.hosts.known(), &desired.hosts).put.is_empty()
            || !difference(maps.workloads.known(), &desired.workloads).put.is_empty()
            || desired.interfaces.keys().any(|ifindex| !self.attached.contains(ifindex))
    }

    /// Whether what is attached is not what should be.
    pub(super) fn attachments_differ(&mut self) -> bool {
        self.refresh_attached();
        self.desired.interfaces.keys().any(|ifindex| !self.attached.contains(ifindex))
    }

    fn refresh_attached(&mut self) {
        match self.datapath.attached() {
            Ok(attached) => {
                self.attached = attached
                    .into_iter()
                    .filter(|attachment| attachment.program == brattice_abi::WORKLOAD_INGRESS)
                    .map(|attachment| attachment.ifindex)
                    .collect();
            }
            Err(e) => self.report(vec![format!("asking what is attached: {e}")]),
        }
    }

    fn report(&mut self, failed: Vec<String>) {
        for text in failed {
            if self.failures.len() < 64 && self.failures.insert(text.clone()) {
                error!("the kernel refused a change: {text}");
            }
        }
    }
}
