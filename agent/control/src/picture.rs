//! What the agent knows, as it was after what the actuator carried out last. Questions are answered from it, so that they
//! wait neither for the actuator nor for the agent's loop. A copy shares everything.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brattice_abi as abi;
use brattice_loader::{Datapath, Ipv6};
use brattice_wire::api::OwnerView;
use brattice_wire::engine::Stats;

use crate::actuator::Held;
use crate::aliases::Claim;
use crate::attachments::Decision;
use crate::drops::Drops;
use crate::engine::handle::Client;
use crate::noticed::Noticed;
use crate::planner::{Inputs, Planner};
use crate::settings::Settings;
use crate::switches::Names;

/// All of it.
#[derive(Clone)]
pub(crate) struct Picture {
    pub(crate) settings: Arc<Settings>,
    pub(crate) started: Instant,
    /// What can be asked of the kernel at any time.
    pub(crate) datapath: Arc<Datapath>,
    pub(crate) engine: Client,
    pub(crate) drops: Drops,
    /// What became of each owner's documents.
    pub(crate) owners: Arc<BTreeMap<String, OwnerView>>,
    /// Why documents in force are not on disk.
    pub(crate) unkept: Arc<Vec<String>>,
    /// How many updates of documents were taken in.
    pub(crate) updates: u64,
    /// What the latest plan was made from.
    pub(crate) inputs: Inputs,
    /// The latest plan.
    pub(crate) planner: Arc<Planner>,
    /// What the kernel holds of it.
    pub(crate) held: Held,
    /// Whether the host does IPv6, when it was last looked at.
    pub(crate) ipv6: Ipv6,
    /// Revision that the engine applied and whose second half is done in the kernel.
    pub(crate) applied: u64,
    /// Why the engine refused the latest snapshot.
    pub(crate) refused: Option<String>,
    /// Whether the engine has served since the agent's start, with everything that it told carried out in the kernel.
    pub(crate) ready: bool,
    /// What was put back, and how often.
    pub(crate) repairs: Arc<BTreeMap<String, u64>>,
    /// Why something that vanished could not be put back last time.
    pub(crate) unrepaired: Option<String>,
    /// Why the state is not on disk.
    pub(crate) unsaved: Option<String>,
    pub(crate) noticed: Arc<Noticed>,
}

/// How long an answer waits for the engine's counts.
const STATS_PATIENCE: Duration = Duration::from_millis(50);

impl Picture {
    /// The engine's counts. It answers in turn: while it puts a large snapshot in force, its last answer is taken,
    /// which are one or two seconds old.
    pub(crate) async fn stats(&self) -> Option<Stats> {
        match tokio::time::timeout(STATS_PATIENCE, self.engine.asker().stats()).await {
            Ok(stats) => stats,
            Err(_) => self.noticed.stats(),
        }
    }

    /// Whether the kernel knows who calls: `workload_ingress` is attached to the interface, or it knows the cgroups.
    pub(crate) fn is_attached(&self, decision: &Decision) -> bool {
        match &decision.host {
            Some(host) => host.keys().any(|key| self.held.hosts.contains_key(&key)),
            None => self.held.attached.contains(&decision.ifindex),
        }
    }

    /// Attached workloads whose link is down, with VPC and interface. A tap is when its guest is off, which is no fault.
    pub(crate) fn links_down(&self) -> Vec<(&str, &str, &str)> {
        let attached = self.planner.decisions.iter().filter(|decision| decision.ifindex != 0 && decision.attached());
        let down = |ifindex: u32| {
            let interface = self.inputs.interfaces.iter().find(|interface| interface.ifindex == ifindex);
            interface.is_some_and(|interface| interface.kind == "veth" && !interface.up)
        };
        attached
            .filter(|decision| down(decision.ifindex))
            .map(|decision| (decision.name.as_str(), decision.vpc.as_str(), decision.interface.as_str()))
            .collect()
    }

    /// The alias of a workload's address, if the kernel takes what comes from there.
    pub(crate) fn alias(&self, decision: &Decision, claim: &Claim) -> Option<IpAddr> {
        let alias = self.planner.aliases.get(claim)?.alias;
        let key = abi::WorkloadKey { ifindex: decision.ifindex, address: claim.address.into() };
        let taken = match &decision.host {
            Some(_) => self.held.host_aliases.contains(&alias),
            None => self.held.workloads.contains_key(&key),
        };
        taken.then_some(alias)
    }

    /// Names that switches are about, now.
    pub(crate) fn names(&self) -> Names {
        Names::of(&self.planner.state)
    }
}
