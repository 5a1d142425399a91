//! CLI and agent, over a Unix stream socket: one JSON request on a line, one JSON answer on a line, then close.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::Stats;
use crate::explain::{Explanation, Question};
use crate::records::Past;

/// Longest request, bytes, newline included: room for a remembered request with all its header fields, escaped.
pub const MAX_REQUEST: usize = 512 * 1024;

/// A request of the CLI to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Read-only: [`Answer::Status`].
    Status,
    /// Read-only: [`Answer::Services`].
    Services,
    /// Read-only: [`Answer::Workloads`].
    Workloads,
    /// Root only: set or end a switch.
    Switch {
        /// Bypass or detach.
        mode: Mode,
        /// The service or workload concerned, or all.
        scope: Scope,
        /// True to switch on, false to end it.
        on: bool,
        /// Ends by itself after this many seconds; absent = never.
        seconds: Option<u64>,
    },
    /// Root only: accept a change that was held back because it removes more than half of an owner's services.
    Accept {
        /// Account name, or `operator`.
        owner: String,
    },
    /// Root only: send a real packet through the data path and back, [`Answer::Probe`].
    Probe,
    /// Root only: replace the engine, or start it again after it failed too often. [`Answer::Done`] once the new one serves.
    RestartEngine,
    /// Read-only: which rule a made-up request meets, [`Answer::Explained`].
    Route(Box<Question>),
    /// Read-only: what happens to a request and why, [`Answer::Explained`].
    Explain {
        /// Which request.
        about: Box<Subject>,
    },
    /// Read-only, answered by the engine: live connections.
    Flows,
    /// Read-only, answered by the engine: access log lines, the latest and then what comes.
    Logs {
        /// How many of the latest.
        backlog: u32,
    },
    /// Read-only, answered by the engine: a request that it remembers.
    Recall {
        /// Which.
        what: Recalled,
    },
}

/// A request to explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A made-up request.
    MadeUp(Question),
    /// One that the engine remembers.
    Past(Box<Past>),
}

/// What the engine is to remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recalled {
    /// A request by its id.
    Request(String),
    /// The last request of a connection, by the connection's id.
    Flow(String),
}

impl Request {
    /// Whether members of the read-only group may ask it.
    pub fn is_read_only(&self) -> bool {
        !matches!(self, Self::Switch { .. } | Self::Accept { .. } | Self::Probe | Self::RestartEngine)
    }

    /// Whether the engine answers it, on the caller's own connection: JSON lines of its own, not an [`Answer`]. Where it
    /// cannot, the agent gives an [`Answer::Error`].
    pub fn is_for_engine(&self) -> bool {
        matches!(self, Self::Flows | Self::Logs { .. } | Self::Recall { .. })
    }
}

/// A kind of switch, see `brattice_abi::Switch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Relay as TCP, without L7.
    Bypass,
    /// Out of Brattice.
    Detach,
}

/// The scope of a switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Everything on the node.
    All,
    /// A workload by name, as `brattice workloads` shows it.
    Workload(String),
    /// A service: `account/name`, name (if unique) or id.
    Service(String),
}

/// A response of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "content", rename_all = "kebab-case")]
pub enum Answer {
    /// The node.
    Status(Box<Status>),
    /// Its services.
    Services(Vec<ServiceView>),
    /// Its workloads.
    Workloads(Vec<WorkloadView>),
    /// The result of the probe.
    Probe(ProbeView),
    /// The explanation of a request.
    Explained(Box<Explanation>),
    /// Done.
    Done {
        /// The change that was made, for people.
        message: String,
    },
    /// Not done.
    Error {
        /// Which kind.
        code: ErrorCode,
        /// The failure, its likely cause, and what to do.
        message: String,
    },
}

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// Not JSON, unknown verb or field, too long.
    BadRequest,
    /// The caller's user may not.
    Forbidden,
    /// No such service, workload or owner.
    NotFound,
    /// As many callers are connected as may be.
    Busy,
    /// Something failed on the agent's side.
    Failed,
}

/// How bad things are; the exit code of `brattice status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// 0: all as the documents say.
    Ok,
    /// 1: serving, but something needs attention.
    Degraded,
    /// 2: not serving.
    Down,
}

/// `brattice status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The worst of all below.
    pub health: Health,
    /// Why, if not ok: one line each.
    pub problems: Vec<String>,
    /// Version of the agent.
    pub version: String,
    /// Process id of the agent.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Revision the agent has planned.
    pub revision: u64,
    /// Per owner (`operator` or account name).
    pub owners: BTreeMap<String, OwnerView>,
    /// The engine.
    pub engine: EngineView,
    /// VIP range, alias range.
    pub ranges: Ranges,
    /// Attached programs and where, as the kernel lists them.
    pub programs: Vec<ProgramView>,
    /// Routes, tables, devices and pins of Brattice on the host, one line each.
    pub footprint: Vec<String>,
    /// Switches in force.
    pub switches: Vec<SwitchView>,
    /// Drop counters by `DropReason` name, those above 0.
    pub drops: BTreeMap<String, u64>,
    /// Other counters by `Counter` name.
    pub counters: BTreeMap<String, u64>,
    /// Fill of every bounded table: name → (used, limit).
    pub limits: BTreeMap<String, (u64, u64)>,
    /// Latest sampled drops, newest first, at most 16.
    pub recent_drops: Vec<String>,
    /// Things put back because another process removed them: name → times.
    pub repairs: BTreeMap<String, u64>,
}

/// An owner of documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerView {
    /// Revision of the owner's documents that is in force.
    pub revision: u64,
    /// `in-force`, `invalid` (last good kept), `held-back` (mass deletion), `missing`.
    pub state: String,
    /// Errors of the documents on disk, rendered, with file, line and column.
    pub errors: Vec<String>,
    /// Documents that are in force, but not as written: an association without a grant, a policy that does nothing. Rendered likewise.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Documents in force.
    pub documents: u32,
}

/// The engine's health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineView {
    /// `running`, `starting`, `down`.
    pub state: String,
    /// Its process.
    pub pid: Option<u32>,
    /// Restarts since the agent's start.
    pub restarts: u64,
    /// Revision in force on every worker.
    pub revision: u64,
    /// Age of the oldest worker's heartbeat, ms.
    pub heartbeat_age_ms: Option<u64>,
    /// Its counts.
    pub stats: Option<Stats>,
}

/// The pools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranges {
    /// VIP range, CIDR.
    pub vip: String,
    /// DNS VIP.
    pub dns: String,
    /// Alias range, CIDR.
    pub alias: String,
    /// IPv6: what the host does of it, for people, and the ranges; the latter absent where the node has none.
    pub ipv6: Ipv6View,
}

/// IPv6 on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6View {
    /// `on`, or why not.
    pub state: String,
    /// VIP range, CIDR.
    pub vip: Option<String>,
    /// DNS VIP.
    pub dns: Option<String>,
    /// Alias range, CIDR.
    pub alias: Option<String>,
}

/// An attached program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramView {
    /// Program name.
    pub program: String,
    /// Interface, or `netns` for `vip_listener`.
    pub attached_to: String,
    /// How: `TCX`, `clsact` (kernels without TCX) or `sk_lookup`.
    #[serde(default)]
    pub hook: String,
    /// Kernel's program id.
    pub program_id: u32,
    /// Instructions that the verifier went through when it was loaded, all paths counted.
    #[serde(default)]
    pub instructions: u32,
    /// Kernel's link id; 0 with `clsact`, which has none.
    pub link_id: u32,
}

/// A switch in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchView {
    /// Bypass or detach.
    pub mode: Mode,
    /// About what.
    pub scope: Scope,
    /// Seconds left; absent = until ended.
    pub seconds_left: Option<u64>,
}

/// The result of `brattice preflight`'s probe with real packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeView {
    /// From a workload to a VIP and back: why it failed; absent = it works.
    pub to_vip: Option<String>,
    /// From the engine to a workload and back: likewise.
    pub to_workload: Option<String>,
    /// The same over IPv6; absent: the node does none now.
    pub ipv6: Option<LegsView>,
    /// Rules or programs that dropped the packets.
    pub culprits: Vec<CulpritView>,
    /// Other facts, where no culprit was found.
    pub hints: Vec<String>,
}

impl ProbeView {
    /// Whether all directions work.
    pub fn passed(&self) -> bool {
        let ipv6 = self.ipv6.as_ref().is_none_or(|legs| legs.to_vip.is_none() && legs.to_workload.is_none());
        self.to_vip.is_none() && self.to_workload.is_none() && ipv6
    }
}

/// Both directions of a family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegsView {
    /// See [`ProbeView::to_vip`].
    pub to_vip: Option<String>,
    /// See [`ProbeView::to_workload`].
    pub to_workload: Option<String>,
}

/// A firewall rule that ate a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CulpritView {
    /// Family, table, chain, hook and rule.
    pub place: String,
    /// The command that lets service traffic pass.
    pub fix: String,
}

/// `brattice services`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// `account/name`.
    pub name: String,
    /// Id.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Lattice's status word.
    pub status: String,
    /// VIP.
    pub vip: String,
    /// IPv6 VIP; absent where the node has no IPv6 now.
    pub vip6: Option<String>,
    /// Custom DNS names, then the generated one.
    pub names: Vec<String>,
    /// Labels of its document.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `port/protocol` of its listeners.
    pub listeners: Vec<String>,
    /// Networks it is associated with and the association's status.
    pub service_networks: Vec<AssociationView>,
    /// Target groups with reachable / configured targets.
    pub target_groups: Vec<TargetGroupView>,
    /// `file:line`.
    pub origin: String,
}

/// An association with a service network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociationView {
    /// `account/name` of the network.
    pub service_network: String,
    /// Lattice's status word.
    pub status: String,
    /// Code and text if failed.
    pub failure: Option<String>,
}

/// A target group of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroupView {
    /// `account/name`.
    pub name: String,
    /// With an alias now.
    pub reachable: u32,
    /// In the documents.
    pub configured: u32,
}

/// `brattice workloads`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadView {
    /// Name.
    pub name: String,
    /// VPC.
    pub vpc: String,
    /// Host-side interface.
    pub interface: String,
    /// Named network namespace of the workload's side, where known.
    pub namespace: Option<String>,
    /// Real address → alias.
    pub addresses: BTreeMap<String, String>,
    /// The role that it calls as; none: it calls as anonymous.
    #[serde(default)]
    pub role: Option<String>,
    /// Labels of its document.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `attached`, `attaching` (until the engine knows it), `link-down`, `detached`, `refused`, `quarantined`.
    pub state: String,
    /// Why it is not attached; of a refusal a code (`AddressConflict`, ...) and a sentence.
    pub reason: Option<String>,
}
