//! The input of an explanation: model, snapshot, and what the node knows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use brattice_model::Model;
use brattice_wire::api::{OwnerView, SwitchView};
use brattice_wire::engine::Limits;
use brattice_wire::snapshot::{Snapshot, WorkloadNumber};

/// The input of an explanation.
#[derive(Clone, Copy, Debug)]
pub struct World<'w> {
    /// What the documents in force mean.
    pub model: &'w Model,
    /// What was planned of it.
    pub snapshot: &'w Snapshot,
    /// What the node knows; none: there are only documents.
    pub facts: Option<&'w Facts>,
    /// Seconds since 1970.
    pub now: i64,
}

/// What a node knows besides documents.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The engine.
    pub engine: Engine,
    /// Interfaces that some document selects, and documents that select none.
    pub attached: Vec<Attached>,
    /// Workloads that were attached and are not there any more, the latest of them.
    pub departed: Vec<Departed>,
    /// Interfaces of the host that no document selects.
    pub unselected: Vec<String>,
    /// Switches in force.
    pub switches: Vec<SwitchView>,
    /// Owners of documents.
    pub owners: BTreeMap<String, OwnerView>,
    /// Packets that the kernel programs dropped, with an event.
    pub dropped: Vec<Dropped>,
    /// Connections that a workload (by number) began and that are not answered yet.
    pub half_open: BTreeMap<WorkloadNumber, u32>,
    /// How many it may have.
    pub half_open_limit: u32,
    /// Bounds of the engine.
    pub limits: Limits,
    /// What the busiest workload has of each bound of the engine: name, used, limit.
    pub busiest: Vec<(String, u32, u32)>,
}

/// The engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// Whether it serves.
    pub state: EngineState,
    /// Revision in force.
    pub revision: u64,
    /// Why it does not serve, or refused a revision.
    pub error: Option<String>,
}

/// Whether the engine serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineState {
    /// It does.
    #[default]
    Running,
    /// In a moment.
    Starting,
    /// It does not.
    Down,
}

/// An interface that some document selects, or a document that selects none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// The workload's name.
    pub name: String,
    /// Whether that is the name of a `Workload` document, not of the interface.
    pub documented: bool,
    /// Qualified name of its VPC; of those that quarrel about it, separated by commas.
    pub vpc: String,
    /// Host-side interface.
    pub interface: String,
    /// Its index; 0 where there is none.
    pub ifindex: u32,
    /// Network namespace behind it, where it has a name.
    pub namespace: Option<String>,
    /// Its addresses, with their aliases where they have one.
    pub addresses: Vec<(IpAddr, Option<IpAddr>)>,
    /// How it stands.
    pub state: AttachedState,
    /// What is refused.
    pub refused: Vec<Refused>,
    /// Since when it is attached with this identity, seconds since 1970.
    pub since: Option<u64>,
}

/// A workload that was attached and is not there any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Departed {
    /// The workload's name.
    pub name: String,
    /// Qualified name of its VPC.
    pub vpc: String,
    /// Names of its interface, then and now.
    pub interfaces: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What became of it, in a sentence.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// Age of its departure, seconds.
    pub seconds_ago: u64,
}

/// How a workload stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachedState {
    /// Its packets are taken.
    #[default]
    Attached,
    /// They will be when the engine knows it.
    Attaching,
    /// They are not.
    Refused,
}

impl AttachedState {
    /// As `brattice workloads` shows it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Attaching => "attaching",
            Self::Refused => "refused",
        }
    }
}

/// A refusal of an interface, or of one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Absent: the whole interface.
    pub address: Option<IpAddr>,
    /// A stable word.
    pub code: String,
    /// Why, for people.
    pub text: String,
}

/// Packets that the kernel programs dropped for one reason, with an event: the first ones and samples of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Interface on which the program ran.
    pub ifindex: u32,
    /// The number of events.
    pub events: u64,
    /// The source of the latest, as the program saw it: the real address, or the alias.
    pub source: IpAddr,
    /// Its destination, likewise.
    pub destination: IpAddr,
    /// Port it went to.
    pub port: u16,
    /// Name of the reason.
    pub reason: String,
    /// The reason in words.
    pub text: String,
    /// Age of the latest, seconds.
    pub seconds_ago: u64,
}

impl World<'_> {
    /// Whether there are only documents.
    pub const fn documents_only(&self) -> bool {
        self.facts.is_none()
    }

    /// Bounds of the engine; of documents alone, those that every engine has by default.
    pub(crate) fn limits(&self) -> Limits {
        self.facts.map_or_else(Limits::default, |facts| facts.limits)
    }
}
