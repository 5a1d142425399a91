//! Plans: from documents, interfaces and places of workloads to the wanted state of kernel and engine. Pure: no clock, no
//! file, no kernel; what it remembers from plan to plan is its own state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use brattice_loader::interfaces::Interface;
use brattice_loader::interfaces::places::Places;
use brattice_model::{Binding, Model, plan};
use brattice_wire::rarely;
use brattice_wire::snapshot::{AliasGeneration, Snapshot};

use crate::aliases::{Aliases, Assigned, Claim, Identity, MAX_PER_INTERFACE};
use crate::attachments::{Code, Decision, HostProcesses, Refusal, Rests, Wishes, aliases, decide, identity_of};
use crate::reconcile::{Desired, Placed, Unattached};
use crate::since::Since;
use crate::state::State;

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The documents in force, linked.
    pub model: Arc<Model>,
    /// Interfaces of the host.
    pub interfaces: Arc<Vec<Interface>>,
    /// Where the namespaces and cgroups are that documents name.
    pub places: Arc<Places>,
}

/// When a plan is made.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For rest periods of aliases and addresses.
    pub instant: Instant,
    /// Seconds since 1970.
    pub unix: u64,
}

/// The result of a plan. The wanted state of kernel and engine is [`Planner::desired`] and [`Planner::snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The engine has connections of these aliases, which must be closed.
    pub lost: Vec<(IpAddr, AliasGeneration)>,
    /// Aliases of workloads that are gone: the kernel forgets them before anything else.
    pub gone: BTreeSet<IpAddr>,
    /// Whether the snapshot is another one, with a revision of its own.
    pub snapshot: bool,
}

/// Attachments, aliases, and what follows from them.
#[derive(Clone, Debug)]
pub struct Planner {
    /// The aliases and their holders.
    pub aliases: Aliases,
    /// What was decided about each interface and document.
    pub decisions: Vec<Decision>,
    /// Since when workloads are attached.
    pub since: Since,
    /// What the engine shall know.
    pub snapshot: Arc<Snapshot>,
    /// What the kernel shall hold.
    pub desired: Arc<Desired>,
    /// What must survive the agent.
    pub state: State,
    rests: Rests,
}

impl Planner {
    /// From what survived. Nothing is attached yet.
    pub fn new(state: State, aliases: Aliases) -> Self {
        Self {
            aliases,
            decisions: Vec::new(),
            since: Since::default(),
            snapshot: Arc::default(),
            desired: Arc::default(),
            state,
            rests: Rests::default(),
        }
    }

    /// Plans anew.
    pub fn plan(&mut self, inputs: &Inputs, now: Now) -> Changes {
        let mut decisions = self.decide(inputs, now.instant);
        let gone = self.gone(inputs, &decisions);
        let wanted: BTreeSet<Claim> =
            decisions.iter().flat_map(|decision| decision.claims().collect::<Vec<_>>()).collect();
        let assigned = self.aliases.assign(&wanted);
        without_alias(&mut decisions, &assigned);
        self.log_refusals(&decisions);
        self.since.update(&decisions, now.unix);
        self.decisions = decisions;
        let snapshot = self.join(&inputs.model);
        Changes { lost: assigned.lost, gone, snapshot: self.adopt(snapshot) }
    }

    /// Whether an address has rested, so that another plan may give it.
    pub fn is_due(&self, now: Instant) -> bool {
        self.rests.over(now)
    }

    /// The engine serves `revision` of an earlier agent, whose number the disk may not have kept: what is planned gets a
    /// higher one, as the engine takes equal numbers for equal snapshots. False: it has one already.
    pub fn number_above(&mut self, revision: u64) -> bool {
        if self.snapshot.revision > revision {
            return false;
        }
        self.state.revision = revision + 1;
        self.snapshot = Arc::new(Snapshot { revision: self.state.revision, ..Snapshot::clone(&self.snapshot) });
        true
    }

    /// The kernel refused to attach these, or to take their entries.
    pub fn not_attached(&mut self, unattached: &Unattached) {
        for decision in &mut self.decisions {
            let host = decision.host.iter().flat_map(HostProcesses::keys).find_map(|key| unattached.hosts.get(&key));
            let whole = host.or_else(|| unattached.interfaces.get(&decision.ifindex)).map(|text| (None, text));
            let ifindex = decision.ifindex;
            let single = |address: &IpAddr| Some((Some(*address), unattached.addresses.get(&(ifindex, *address))?));
            let found: Vec<_> = whole.into_iter().chain(decision.addresses.iter().filter_map(single)).collect();
            for (address, text) in found {
                let known = |own: &Refusal| own.code == Code::AttachFailed && own.address == address;
                if !decision.refused.iter().any(known) {
                    decision.refused.push(Refusal { address, code: Code::AttachFailed, text: text.clone() });
                }
            }
        }
    }

    /// The attached workloads.
    fn decide(&mut self, inputs: &Inputs, now: Instant) -> Vec<Decision> {
        let holders: BTreeMap<(String, IpAddr), Identity> =
            self.aliases.claims().map(|claim| ((claim.vpc.clone(), claim.address), claim.identity)).collect();
        let wishes = Wishes { places: Places::clone(&inputs.places), ..Wishes::of(&inputs.model) };
        let mut decisions = decide(&inputs.interfaces, &wishes, &holders, &self.rests);
        let there: BTreeSet<u32> = inputs.interfaces.iter().map(|interface| interface.ifindex).collect();
        if self.rests.update(&decisions, &there, now) {
            decisions = decide(&inputs.interfaces, &wishes, &holders, &self.rests);
            self.rests.update(&decisions, &there, now);
        }
        decisions
    }

    /// Aliases of identities that are not there any more.
    fn gone(&self, inputs: &Inputs, decisions: &[Decision]) -> BTreeSet<IpAddr> {
        let hosts = decisions.iter().filter(|decision| decision.host.is_some());
        let present: BTreeSet<Identity> =
            inputs.interfaces.iter().filter_map(identity_of).chain(hosts.filter_map(|own| own.identity)).collect();
        let gone = self.aliases.claims().filter(|claim| !present.contains(&claim.identity));
        gone.filter_map(|claim| Some(self.aliases.get(claim)?.alias)).collect()
    }

    fn log_refusals(&self, decisions: &[Decision]) {
        for decision in decisions {
            if !self.decisions.iter().any(|old| old.ifindex == decision.ifindex && old.refused == decision.refused)
                && let Some(reason) = decision.reason()
            {
                rarely!(
                    warn,
                    workload = decision.name,
                    vpc = decision.vpc,
                    interface = decision.interface,
                    "not attached: {reason}"
                );
            }
        }
    }

    /// Joins the model with the attached workloads.
    fn join(&mut self, model: &Model) -> Snapshot {
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
        let plan = plan(model, &bindings, &mut self.state.numbers, self.snapshot.revision);
        self.state.services =
            plan.snapshot.services.iter().map(|service| (service.name.clone(), service.number)).collect();
        self.desired = Arc::new(Desired::new(&plan, &placed, hosts, interfaces));
        plan.snapshot
    }

    /// Takes the snapshot over, with a new revision if anything in it changed.
    fn adopt(&mut self, mut snapshot: Snapshot) -> bool {
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
}

/// Reports the addresses that got no alias.
fn without_alias(decisions: &mut [Decision], assigned: &Assigned) {
    let without: BTreeMap<&Claim, Code> = (assigned.exhausted.iter().map(|claim| (claim, Code::AliasPoolExhausted)))
        .chain(assigned.limited.iter().map(|claim| (claim, Code::AliasLimit)))
        .collect();
    for decision in decisions {
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
}

#[cfg(test)]
mod tests;
