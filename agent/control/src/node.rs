//! One node: the loop that owns everything the agent knows, and brings kernel and engine to what the documents say.

mod looking;
mod noticing;
mod numbers;
mod pace;
mod reading;
mod reconciling;
mod starting;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use brattice_abi as abi;
use brattice_loader::announce::Announcer;
use brattice_loader::interfaces::places::Places;
use brattice_loader::interfaces::{Interface, PlaceWatch, Watch as NetworkWatch};
use brattice_loader::{Datapath, Ipv6, PinWatch};
use brattice_model::{Diagnostic, Model, Owner};
use brattice_sources::directory::watch::Watch as PoliciesWatch;
use brattice_sources::owners::{LastGood, Owners};
use brattice_wire::api::{Answer, ErrorCode, Mode, Recalled, Request, Scope};
use brattice_wire::records::{MAX_BACKLOG, MAX_REQUEST_ID, Query};
use brattice_wire::snapshot::Snapshot;
use tokio::sync::{Notify, mpsc};
use tracing::{error, info, warn};

use crate::aliases::{Aliases, Claim};
use crate::api::answers::{Asked, Inquiry};
use crate::api::server::{Call, Reply};
use crate::api::views;
use crate::attachments::{Decision, Rests};
use crate::drops::Drops;
use crate::engine::{Event, Handle};
use crate::notify::Notifier;
use crate::reconcile::{Desired, Mirror};
use crate::settings::Settings;
use crate::since::Since;
use crate::state::{State, StateDirectory};
use crate::switches::{self, Names};

pub use starting::{AgentError, run};

/// What comes after the engine waits for it this long at most: a change of the documents is live within a second.
pub const ENGINE_PATIENCE: Duration = Duration::from_millis(300);
/// What the kernel or the disk refused is tried again after this long.
pub const RETRY: Duration = Duration::from_secs(5);
/// Most VIPs of services that are announced to workloads that are attached at once; they ask for others again after a second.
pub const MAX_ANNOUNCED: usize = 16_384;
/// Time that requests in flight have when the engine is stopped with the agent.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long `brattice engine restart` waits for the new engine; less than the API's time for an answer.
pub const RESTART_PATIENCE: Duration = Duration::from_secs(25);

/// The maps that are reconciled.
pub(crate) struct Maps {
    pub(crate) workloads: Mirror<abi::WorkloadKey, abi::Workload>,
    pub(crate) aliases: Mirror<abi::Address, abi::Alias>,
    pub(crate) targets: Mirror<abi::TargetKey, u32>,
    pub(crate) listeners: Mirror<abi::ListenerKey, abi::Listener>,
    pub(crate) hosts: Mirror<abi::HostKey, abi::Host>,
}

impl Maps {
    /// Reads all maps again: somebody meddled with what is ours.
    fn refresh(&mut self) {
        let results = [
            self.workloads.refresh(),
            self.aliases.refresh(),
            self.targets.refresh(),
            self.listeners.refresh(),
            self.hosts.refresh(),
        ];
        for error in results.into_iter().filter_map(Result::err) {
            error!(%error, "a map cannot be read");
        }
    }
}

/// The second half of a change, which waits until the engine knows the first: see [`Node::finish`].
struct Pending {
    revision: u64,
    deadline: Instant,
}

/// Most findings that are logged at once.
const MAX_WARNINGS: usize = 256;

/// Everything the agent knows.
pub(crate) struct Node {
    pub(crate) settings: Settings,
    pub(crate) started: Instant,
    directory: StateDirectory,
    pub(crate) state: State,
    saved: State,
    pub(crate) datapath: Arc<Datapath>,
    pub(crate) maps: Maps,
    /// Interfaces with `workload_ingress`, as the kernel says.
    attached: BTreeSet<u32>,
    attach_errors: BTreeMap<u32, String>,
    /// Aliases of processes of the host that are addresses of `brattice0`.
    host_aliases: BTreeSet<IpAddr>,
    pub(crate) owners: Owners,
    pub(crate) model: Arc<Model>,
    pub(crate) aliases: Aliases,
    interfaces: Vec<Interface>,
    /// Whether the host does IPv6, when it was last looked at.
    pub(crate) ipv6: Ipv6,
    announcer: Announcer,
    place_watch: PlaceWatch,
    pub(crate) places: Places,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) since: Since,
    rests: Rests,
    desired: Desired,
    pub(crate) snapshot: Arc<Snapshot>,
    pending: Option<Pending>,
    /// Revision that the engine applied and whose second half is done.
    pub(crate) applied: u64,
    /// When kernel and documents were compared last.
    reconciled: Instant,
    /// Findings that do not keep documents from coming into force, as logged.
    warnings: BTreeSet<String>,
    mtu: Option<u32>,
    pub(crate) engine: Handle,
    /// Why the engine refused the latest snapshot.
    pub(crate) refused: Option<String>,
    pub(crate) repairs: BTreeMap<String, u64>,
    /// Why something that vanished could not be put back last time.
    pub(crate) unmended: Option<String>,
    /// What others' routes and rules lead elsewhere, as logged.
    astray: Vec<String>,
    /// What could not be written to the kernel last time.
    pub(crate) failures: BTreeSet<String>,
    /// Why the state is not on disk.
    pub(crate) unsaved: Option<String>,
    pub(crate) noticed: noticing::Noticed,
    /// Last good documents that are not on disk yet; none = to be removed there.
    unkept: BTreeMap<Owner, Option<LastGood>>,
    /// Why they are not.
    pub(crate) unkept_why: Vec<String>,
    readings: reading::Readings,
    pub(crate) drops: Drops,
    numbers: numbers::Numbers,
    /// Held while a probe is on its way.
    probing: Arc<tokio::sync::Mutex<()>>,
}

impl Node {
    /// Until a signal says stop.
    async fn serve(
        mut self,
        mut policies: PoliciesWatch,
        network: Arc<Heard>,
        mut calls: mpsc::Receiver<Call>,
        mut hangups: tokio::signal::unix::Signal,
        mut stop: impl Future<Output = ()> + Unpin,
        ready: impl FnOnce(),
    ) {
        let mut ready = Some(ready);
        let mut notifier = Notifier::default();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut pace, mut look, mut repair) = (pace::Pace::new(Instant::now()), None, false);
        loop {
            let deadline = self.pending.as_ref().map(|pending| pending.deadline);
            tokio::select! {
                // What the engine did comes before answers about it.
                biased;
                () = &mut stop => break,
                event = self.engine.events.recv() => match event {
                    Some(event) => {
                        self.engine_event(event).await;
                        notifier.tell(&self.engine.view.borrow());
                        if self.engine.view.borrow().state == "running"
                            && let Some(ready) = ready.take()
                        {
                            ready();
                        }
                    }
                    None => {
                        error!("supervision of the engine ended; the agent ends, so that it is started anew");
                        break;
                    }
                },
                () = policies.changed() => self.readings.want(Instant::now()),
                step = self.readings.next() => self.step(step).await,
                // After the workloads, and after what waits for the engine: a new workload's first call waits for those.
                () = std::future::ready(()), if repair && self.pending.is_none() => {
                    let began = pace::Began::now();
                    repair = false;
                    self.look_after_ours(network.table.swap(false, Ordering::Relaxed)).await;
                    pace.looked(began);
                }
                () = network.changed.notified(), if look.is_none() => look = Some(pace.next(Instant::now())),
                () = at(look) => {
                    let began = pace::Began::now();
                    (look, repair) = (None, true);
                    self.look_at_interfaces().await;
                    pace.looked(began);
                }
                heard = self.place_watch.changed() => {
                    if let Err(e) = heard {
                        warn!(error = %e, "changes of cgroups and mounts cannot be heard");
                        tokio::time::sleep(pace::MAX_PAUSE).await;
                    }
                    let before = self.places.clone();
                    self.look_at_places();
                    if self.places != before {
                        self.reconcile().await;
                    }
                }
                Some(call) = calls.recv() => self.take(call).await,
                () = at(deadline) => self.finish().await,
                Some(()) = hangups.recv() => self.engine.reopen().await,
                _ = second.tick() => {
                    self.tick().await;
                    self.push_numbers().await;
                    notifier.tell(&self.engine.view.borrow());
                }
            }
        }
        Notifier::stopping();
        self.save();
        if self.settings.stop_engine_on_exit {
            self.engine.stop(STOP_GRACE).await;
        }
    }

    /// Logs findings that are new.
    fn warn(&mut self, warnings: &BTreeMap<Owner, Vec<Diagnostic>>) {
        let now: BTreeSet<String> = warnings.values().flatten().map(ToString::to_string).take(MAX_WARNINGS).collect();
        for warning in now.difference(&self.warnings) {
            warn!("in force, but not as written: {warning}");
        }
        self.warnings = now;
    }

    async fn engine_event(&mut self, event: Event) {
        match event {
            Event::Applied(revision) => {
                info!(revision, "the engine serves");
                self.refused = None;
                if self.pending.as_ref().is_some_and(|pending| pending.revision <= revision) {
                    self.finish().await;
                }
                self.applied = revision;
            }
            Event::Adopted(revision) => self.number_above(revision).await,
            Event::Refused { revision, reason } => {
                error!(revision, reason, "the engine refused the snapshot and keeps the one before");
                self.refused = Some(format!("revision {revision}: {reason}"));
            }
            Event::Closed(aliases) => self.closed(aliases).await,
            Event::Down => {
                self.applied = 0;
                if self.pending.is_some() {
                    self.finish().await;
                }
            }
        }
    }

    /// The engine has no connection of these aliases any more: what the kernel still has is destroyed, and they rest.
    async fn closed(&mut self, aliases: Vec<(IpAddr, u32)>) {
        let addresses: Vec<IpAddr> = aliases.iter().map(|(alias, _)| *alias).collect();
        let destroyed = tokio::task::spawn_blocking(move || {
            addresses
                .into_iter()
                .filter_map(|alias| Some((alias, brattice_loader::sockets::destroy(alias).err()?)))
                .collect::<Vec<_>>()
        })
        .await
        .unwrap_or_default();
        // Their aliases stay closing, and so are never given again: better none than somebody else's connection.
        for (alias, e) in &destroyed {
            error!(%alias, error = %e, "connections of an alias cannot be destroyed; it is not given again");
        }
        let free: Vec<(IpAddr, u32)> =
            aliases.into_iter().filter(|(alias, _)| !destroyed.iter().any(|(failed, _)| failed == alias)).collect();
        self.aliases.closed(&free, Instant::now());
        self.save();
    }

    async fn tick(&mut self) {
        if self.aliases.rested(Instant::now()) {
            self.save();
        }
        if let Err(e) = switches::sweep(&self.datapath.maps.switches()) {
            warn!(error = %e, "ended switches cannot be removed; they are ignored anyway");
        }
        match self.datapath.whole() {
            Ok(true) if self.unmended.is_none() => {}
            Ok(_) => self.look_at_network().await,
            Err(e) => warn!(error = %e, "whether all programs are attached cannot be asked"),
        }
        self.notice();
        let failed = !self.failures.is_empty() || !self.attach_errors.is_empty() || self.unsaved.is_some();
        if self.rests.over(Instant::now()) {
            self.reconcile().await;
        }
        if self.reconciled.elapsed() >= RETRY {
            if !self.unkept.is_empty() {
                self.readings.want(Instant::now());
            } else if failed {
                self.reconcile().await;
            }
        }
    }

    /// Whether the kernel knows who calls: `workload_ingress` is attached to the interface, or it knows the cgroups.
    pub(crate) fn is_attached(&self, decision: &Decision) -> bool {
        match &decision.host {
            Some(host) => host.keys().any(|key| self.maps.hosts.known().contains_key(&key)),
            None => self.attached.contains(&decision.ifindex),
        }
    }

    /// Attached workloads whose link is down, with VPC and interface. A tap is when its guest is off, which is no fault.
    pub(crate) fn links_down(&self) -> Vec<(&str, &str, &str)> {
        let attached = self.decisions.iter().filter(|decision| decision.ifindex != 0 && decision.attached());
        let down = |ifindex: u32| {
            let interface = self.interfaces.iter().find(|interface| interface.ifindex == ifindex);
            interface.is_some_and(|interface| interface.kind == "veth" && !interface.up)
        };
        attached
            .filter(|decision| down(decision.ifindex))
            .map(|decision| (decision.name.as_str(), decision.vpc.as_str(), decision.interface.as_str()))
            .collect()
    }

    /// The alias of a workload's address, if the kernel takes what comes from there.
    pub(crate) fn alias(&self, decision: &Decision, claim: &Claim) -> Option<IpAddr> {
        let alias = self.aliases.get(claim)?.alias;
        let key = abi::WorkloadKey { ifindex: decision.ifindex, address: claim.address.into() };
        let taken = match &decision.host {
            Some(_) => self.host_aliases.contains(&alias),
            None => self.maps.workloads.known().contains_key(&key),
        };
        taken.then_some(alias)
    }

    /// Names that switches are about, now.
    pub(crate) fn names(&self) -> Names {
        Names::of(&self.state)
    }

    /// Answers a call; aside where that takes longer.
    async fn take(&mut self, Call { request, connection, answer }: Call) {
        let reply = match request {
            Request::Status => Answer::Status(Box::new(views::status(self).await)).into(),
            Request::Services => Answer::Services(views::services(self)).into(),
            Request::Workloads => Answer::Workloads(views::workloads(self)).into(),
            Request::Switch { mode, scope, on, seconds } => self.switch(mode, &scope, on, seconds).into(),
            Request::Accept { owner } => return self.accept(Owner::from(owner), answer),
            Request::Flows | Request::Logs { .. } | Request::Recall { .. } => {
                self.hand_over(&request, connection).await
            }
            Request::Probe => {
                let (datapath, alone) = (self.datapath.clone(), self.probing.clone());
                // It takes seconds where something is wrong.
                tokio::spawn(async move {
                    let result = match alone.try_lock() {
                        Ok(_alone) => views::probe(&datapath).await,
                        Err(_) => {
                            let message = "a probe is on its way already".to_owned();
                            Answer::Error { code: ErrorCode::Failed, message }
                        }
                    };
                    let _ = answer.send(result.into());
                });
                return;
            }
            Request::RestartEngine => {
                let restarter = self.engine.restarter();
                tokio::spawn(async move {
                    let result = match restarter.restart(STOP_GRACE, RESTART_PATIENCE).await {
                        Ok(pid) => Answer::Done { message: format!("a new engine serves: process {pid}") },
                        Err(message) => Answer::Error { code: ErrorCode::Failed, message },
                    };
                    let _ = answer.send(result.into());
                });
                return;
            }
            Request::Route(question) => return Inquiry::new(self, Asked::Route(question)).spawn(answer),
            Request::Explain { about } => return Inquiry::new(self, Asked::Explain(about)).spawn(answer),
        };
        let _ = answer.send(reply);
    }

    fn switch(&self, mode: Mode, scope: &Scope, on: bool, seconds: Option<u64>) -> Answer {
        let lasts = seconds.map(Duration::from_secs);
        match switches::switch(&self.datapath.maps.switches(), &self.names(), mode, scope, on, lasts) {
            Ok(message) => {
                warn!("{message}");
                if on && mode == Mode::Detach {
                    self.reset_hosts(scope);
                }
                Answer::Done { message }
            }
            Err(switches::SwitchError::NotFound(message)) => Answer::Error { code: ErrorCode::NotFound, message },
            Err(e) => Answer::Error { code: ErrorCode::Failed, message: e.to_string() },
        }
    }

    /// Ends the connections of processes of the host that were detached: no program sees their packets.
    fn reset_hosts(&self, scope: &Scope) {
        let Ok(key) = self.names().key(scope) else { return };
        let detached = |alias: &abi::Alias| match key.scope {
            abi::SWITCH_ALL => true,
            abi::SWITCH_WORKLOAD => alias.workload_id == key.id,
            _ => false,
        };
        let aliases: Vec<IpAddr> = (self.maps.aliases.known().iter())
            .filter(|(_, alias)| alias.ifindex == 0 && detached(alias))
            .map(|(address, _)| IpAddr::from(*address))
            .collect();
        tokio::task::spawn_blocking(move || {
            for alias in aliases {
                if let Err(e) = brattice_loader::sockets::destroy(alias) {
                    error!(%alias, error = %e, "connections of a detached process of the host cannot be ended");
                }
            }
        });
    }

    /// Has the engine answer, on the caller's connection.
    async fn hand_over(&self, request: &Request, connection: Option<OwnedFd>) -> Reply {
        let query = match (query(request), connection) {
            (Ok(query), Some(connection)) => (query, connection),
            (Err(message), _) => return Answer::Error { code: ErrorCode::BadRequest, message }.into(),
            (_, None) => {
                let message = "the connection is gone".to_owned();
                return Answer::Error { code: ErrorCode::Failed, message }.into();
            }
        };
        if self.engine.attend(query.0, query.1).await {
            return Reply::HandedOver;
        }
        let message = "no engine serves now, and only it knows; see brattice status".to_owned();
        Answer::Error { code: ErrorCode::Failed, message }.into()
    }

    /// Writes the state, if it changed.
    fn save(&mut self) {
        self.state.aliases = self.aliases.save();
        if self.state == self.saved {
            self.unsaved = None;
            return;
        }
        match self.directory.save(&self.state) {
            Ok(()) => {
                self.saved = self.state.clone();
                self.unsaved = None;
            }
            Err(e) => {
                error!(error = %e, "the state cannot be written; a restart now would forget aliases and revisions");
                let why = self.directory.refusal(&e);
                self.unsaved = Some(format!(
                    "the state directory keeps neither aliases nor revisions, and a restart now would forget them: {why}"
                ));
            }
        }
    }
}

/// What the engine is asked.
fn query(request: &Request) -> Result<Query, String> {
    match request {
        Request::Flows => Ok(Query::Flows),
        Request::Logs { backlog } => Ok(Query::Follow { backlog_lines: (*backlog).min(MAX_BACKLOG) }),
        Request::Recall { what: Recalled::Request(id) } if id.len() > MAX_REQUEST_ID => {
            Err(format!("a request id has at most {MAX_REQUEST_ID} characters"))
        }
        Request::Recall { what: Recalled::Request(id) } => Ok(Query::Recall { request_id: id.clone() }),
        Request::Recall { what: Recalled::Flow(flow) } => {
            let flow = flow.parse().map_err(|_| format!("{flow:?} is no flow's id; brattice flows shows them"))?;
            Ok(Query::RecallFlow { flow })
        }
        _ => Err("the engine does not answer this".to_owned()),
    }
}

/// What was heard since the loop looked last.
#[derive(Default)]
struct Heard {
    changed: Notify,
    /// Firewall rules, ours perhaps.
    table: AtomicBool,
}

/// Listens in a task of its own, so that no change is lost while the loop is busy with something else.
fn listen(mut network: NetworkWatch, mut pins: PinWatch) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    let tell = heard.clone();
    tokio::spawn(async move {
        loop {
            let table = tokio::select! {
                change = network.changed() => change.map(|change| change.firewall),
                change = pins.changed() => change.map(|()| false),
            };
            if let Err(e) = &table {
                // Looking once a second instead.
                warn!(error = %e, "changes of interfaces or pins cannot be heard");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            tell.table.fetch_or(table.unwrap_or(true), Ordering::Relaxed);
            tell.changed.notify_one();
        }
    });
    heard
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
