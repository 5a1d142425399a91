//! The state that all threads of the engine share, and the one in force.

use std::{net::IpAddr, ops::Deref, sync::Arc};

use arc_swap::ArcSwap;
use brattice_decide::{CompileError, Compiled};
use brattice_wire::{
    engine::{Limits, Settings, Stats},
    snapshot::{self, Snapshot},
};

use crate::{
    aliases::CallerId,
    auth::CallerFields,
    descriptors,
    events::{Sinks, access_log::output::LogOutput, metrics::counters::Counters, names::Names},
    limits::{Registry, Usage, fit},
    memory,
    upstream::failing::Failing,
};

/// The state that all threads of the engine share.
#[derive(Debug)]
pub struct Shared {
    /// The state in force; readers never wait.
    pub state: ArcSwap<State>,
    /// Counters.
    pub counters: Arc<Counters>,
    /// The settings with which the engine was started.
    pub settings: Settings,
    /// Its bounds, as they fit to what the process may have.
    pub limits: Limits,
    /// Where lines of the access log go.
    pub log: Arc<LogOutput>,
    /// Targets that cannot be connected to.
    pub failing: Failing,
    registry: Registry,
    #[cfg(test)]
    pub(crate) recorded: Arc<crate::events::recording::Recorded>,
}

impl Shared {
    /// Without any service, at revision 0.
    pub fn new(settings: Settings) -> Arc<Self> {
        let limits = settings.limits;
        Self::within(settings, limits)
    }

    /// As [`Shared::new`], within other bounds than those that the agent knows of.
    pub fn within(settings: Settings, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits: fit::memory(fit::descriptors(limits), settings.halvings),
            state: ArcSwap::from_pointee(State::default()),
            counters: Arc::new(Counters::new(settings.workers)),
            log: Arc::default(),
            failing: Failing::default(),
            registry: Registry::default(),
            #[cfg(test)]
            recorded: Arc::default(),
            settings,
        })
    }

    /// Compiles a snapshot and puts it in force. Workers see it at their next request. To know that all workers
    /// use it, send them [`crate::orders::Order::Applied`].
    ///
    /// # Errors
    /// When the snapshot is inconsistent; the state before stays.
    pub fn apply(&self, snapshot: Snapshot) -> Result<u64, CompileError> {
        let state = State::compile(snapshot, &self.registry)?;
        let revision = state.revision;
        self.state.store(Arc::new(state));
        self.registry.prune();
        self.counters.forget_series(&self.state.load().names);
        Ok(revision)
    }

    /// Where workers' events go.
    pub(crate) fn sinks(&self) -> Sinks {
        Sinks {
            counters: Arc::clone(&self.counters),
            log: Arc::clone(&self.log),
            #[cfg(test)]
            recorded: Arc::clone(&self.recorded),
        }
    }

    /// Most memory that all traffic can hold now, bytes.
    pub fn bytes(&self) -> u64 {
        memory::in_use(&self.counters)
    }

    /// Descriptors in use, and how many may be before the reserve is touched; 0: without a bound.
    pub fn descriptors(&self) -> [u32; 2] {
        descriptors::in_use(self.settings.workers, &self.limits, &self.counters)
    }

    /// Counts since the start.
    pub fn stats(&self, sandbox_missing: Vec<String>) -> Stats {
        let stats = self.counters.sum(self.state.load().revision, self.registry.busiest(), sandbox_missing);
        let limits = &self.limits;
        Stats {
            log_lines: self.log.line_counts(),
            metrics_overflow: self.counters.series.overflow(),
            descriptors: self.descriptors(),
            failing: self.failing.recent(),
            memory: [self.bytes(), limits.memory_bytes],
            busiest_memory: [self.registry.largest(), limits.bytes_per_workload],
            most: [limits.connections_per_workload, limits.requests_per_workload, limits.dns_in_flight_per_workload],
            ..stats
        }
    }
}

/// The engine's state of one revision. Look-ups in the compiled snapshot go through it.
#[derive(Debug, Default)]
pub struct State {
    compiled: Compiled,
    /// Names for lines, past requests and metrics.
    pub names: Names,
    /// Header values about callers.
    pub(crate) caller_fields: CallerFields,
    /// Settings of the DNS server.
    pub dns: snapshot::Dns,
    /// The connections and requests of each workload, by its place in the snapshot.
    usages: Vec<Arc<Usage>>,
}

/// The identity of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'s> {
    known: &'s brattice_decide::Caller,
    /// The workload's connections and requests, over all its addresses.
    pub usage: &'s Arc<Usage>,
}

impl Caller<'_> {
    /// By which it is known in later states.
    pub fn id(&self) -> CallerId {
        CallerId::new(self.alias, self.generation)
    }
}

impl Deref for Caller<'_> {
    type Target = brattice_decide::Caller;

    fn deref(&self) -> &Self::Target {
        self.known
    }
}

impl Deref for State {
    type Target = Compiled;

    fn deref(&self) -> &Self::Target {
        &self.compiled
    }
}

impl State {
    /// Checks and indexes a snapshot.
    ///
    /// # Errors
    /// When it contradicts itself, see [`CompileError`].
    pub fn compile(snapshot: Snapshot, registry: &Registry) -> Result<Self, CompileError> {
        let names = Names::of(&snapshot);
        let caller_fields = CallerFields::of(&snapshot);
        let usages = snapshot.workloads.iter().map(|workload| registry.usage(workload.number)).collect();
        let dns = snapshot.dns.clone();
        Ok(Self { compiled: Compiled::new(snapshot)?, names, caller_fields, dns, usages })
    }

    /// The workload that has this alias now. Only called where a connection or a question comes in.
    pub fn caller_at(&self, alias: IpAddr) -> Option<Caller<'_>> {
        let known = self.compiled.caller(alias)?;
        Some(Caller { known, usage: self.usages.get(known.index.position())? })
    }

    /// The caller in this state; `None` where it has its alias no more.
    pub fn caller(&self, id: CallerId) -> Option<Caller<'_>> {
        self.caller_at(id.alias()).filter(|caller| caller.generation == id.generation())
    }
}
