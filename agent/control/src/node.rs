//! One node: the loop that takes in what changes (documents, interfaces, places, the engine), has it planned, and has the
//! plan carried out. One turn after the other; questions are answered beside it, from the picture that each turn ends with.

mod documents;
mod looking;
mod noticing;
mod numbers;
mod pace;
mod reconciling;
mod starting;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use brattice_loader::announce::Announcer;
use brattice_loader::interfaces::{PlaceWatch, Watch as NetworkWatch};
use brattice_loader::{Datapath, Ipv6, PinWatch};
use brattice_sources::worker::{self, Update};
use brattice_wire::api::OwnerView;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, info, warn};

use crate::actuator::Actuator;
use crate::api::calls::{Calls, STOP_GRACE};
use crate::api::server::Call;
use crate::api::thread::Thread;
use crate::drops::Drops;
use crate::engine::{Event, Handle};
use crate::noticed::Noticed;
use crate::notify::Notifier;
use crate::picture::Picture;
use crate::planner::{Inputs, Planner};
use crate::settings::Settings;
use crate::state::{State, StateDirectory};
use crate::switches;

pub use starting::{AgentError, run};

/// The second half of a turn waits for the engine this long at most: a change of the documents is live within a second.
pub const ENGINE_PATIENCE: Duration = Duration::from_millis(300);
/// What the kernel or the disk refused is tried again after this long.
pub const RETRY: Duration = Duration::from_secs(5);
/// Most VIPs of services that are announced to workloads that are attached at once; they ask for others again after a second.
pub const MAX_ANNOUNCED: usize = 16_384;

/// The second half of a change, which waits until the engine knows the first: see [`Node::finish`].
struct Pending {
    revision: u64,
    deadline: Instant,
}

/// What the loop owns.
pub(crate) struct Node {
    settings: Arc<Settings>,
    started: Instant,
    inputs: Inputs,
    planner: Arc<Planner>,
    actuator: Actuator,
    pending: Option<Pending>,
    engine: Handle,
    /// Revision that the engine applied and whose second half is done.
    applied: u64,
    /// Why the engine refused the latest snapshot.
    refused: Option<String>,
    documents: worker::Handle,
    /// What became of each owner's documents.
    owners: Arc<BTreeMap<String, OwnerView>>,
    /// Why documents in force are not on disk.
    unkept: Arc<Vec<String>>,
    keeper: Keeper,
    host: Host,
    noticed: Arc<Noticed>,
    drops: Drops,
    numbers: numbers::Numbers,
    /// When kernel and documents were compared last.
    reconciled: Instant,
}

/// The host's side: what is looked at, and changes by others of what is ours.
struct Host {
    datapath: Arc<Datapath>,
    announcer: Announcer,
    place_watch: PlaceWatch,
    /// Whether the host does IPv6, when it was last looked at.
    ipv6: Ipv6,
    /// What was put back, and how often.
    repairs: Arc<BTreeMap<String, u64>>,
    /// Why something that vanished could not be put back last time.
    unrepaired: Option<String>,
    /// Routes and rules of others that lead elsewhere, as logged.
    astray: Vec<String>,
}

/// The control socket's thread, and what it is asked.
struct Questions {
    socket: Thread,
    calls: mpsc::Receiver<Call>,
}

/// Keeps on disk what must survive the agent.
struct Keeper {
    directory: StateDirectory,
    saved: State,
    /// Why the state is not on disk.
    unsaved: Option<String>,
}

impl Keeper {
    /// Writes the state, if it changed.
    fn save(&mut self, planner: &Planner) {
        let state = State { aliases: planner.aliases.save(), ..planner.state.clone() };
        if state == self.saved {
            self.unsaved = None;
            return;
        }
        match self.directory.save(&state) {
            Ok(()) => {
                self.saved = state;
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

impl Node {
    /// Until a signal says stop.
    async fn serve(
        mut self,
        mut documents: mpsc::Receiver<Update>,
        network: Arc<Heard>,
        questions: Questions,
        mut hangups: tokio::signal::unix::Signal,
        mut stop: impl Future<Output = ()> + Unpin,
        ready: impl FnOnce(),
    ) {
        let (published, picture) = watch::channel(Arc::new(self.picture()));
        let Questions { socket, calls } = questions;
        socket.spawn(Calls::new(picture, self.documents.clone()).serve(calls));
        let mut ready = Some(ready);
        let mut notifier = Notifier::default();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut pace, mut look, mut repair) = (pace::Pace::new(Instant::now()), None, false);
        loop {
            let deadline = self.pending.as_ref().map(|pending| pending.deadline);
            let (mut accepted, mut told) = (None, false);
            tokio::select! {
                biased; // What the engine did comes before answers about it.
                () = &mut stop => break,
                event = self.engine.events.recv() => match event {
                    Some(event) => {
                        self.engine_event(event).await;
                        told = true;
                        notifier.tell(&self.engine.view.borrow());
                    }
                    None => {
                        error!("supervision of the engine ended; the agent ends, so that it is started anew");
                        break;
                    }
                },
                update = documents.recv() => match update {
                    Some(update) => accepted = self.follow(update).await,
                    None => {
                        error!("documents are not read any more; the agent ends, so that it is started anew");
                        break;
                    }
                },
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
                heard = self.host.place_watch.changed() => self.places_changed(heard).await,
                () = at(deadline) => self.finish().await,
                Some(()) = hangups.recv() => self.engine.reopen().await,
                _ = second.tick() => {
                    self.tick().await;
                    self.push_numbers().await;
                    notifier.tell(&self.engine.view.borrow());
                }
            }
            // Before any answer is sent: a request after that answer sees the change.
            published.send_replace(Arc::new(self.picture()));
            if let Some(accepted) = accepted {
                accepted.tell();
            }
            // The view may be ahead of what the loop has done with the engine's word: only then is everything in the kernel.
            if let Some(ready) = ready.take_if(|_| told && self.engine.view.borrow().state == "running") {
                ready();
            }
        }
        Notifier::stopping();
        self.save();
        if self.settings.stop_engine_on_exit {
            self.engine.stop(STOP_GRACE).await;
        }
    }

    /// What is known now.
    fn picture(&self) -> Picture {
        Picture {
            settings: self.settings.clone(),
            started: self.started,
            datapath: self.host.datapath.clone(),
            engine: self.engine.client().clone(),
            drops: self.drops.clone(),
            owners: self.owners.clone(),
            unkept: self.unkept.clone(),
            inputs: self.inputs.clone(),
            planner: self.planner.clone(),
            held: self.actuator.held(),
            ipv6: self.host.ipv6,
            applied: self.applied,
            refused: self.refused.clone(),
            repairs: self.host.repairs.clone(),
            unrepaired: self.host.unrepaired.clone(),
            unsaved: self.keeper.unsaved.clone(),
            noticed: self.noticed.clone(),
        }
    }

    fn save(&mut self) {
        self.keeper.save(&self.planner);
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
        // Their aliases stay closing and are never given again: no workload may get the connections of another one.
        for (alias, e) in &destroyed {
            error!(%alias, error = %e, "connections of an alias cannot be destroyed; it is not given again");
        }
        let free: Vec<(IpAddr, u32)> =
            aliases.into_iter().filter(|(alias, _)| !destroyed.iter().any(|(failed, _)| failed == alias)).collect();
        Arc::make_mut(&mut self.planner).aliases.closed(&free, Instant::now());
        self.save();
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        if self.planner.aliases.has_rested(now) {
            Arc::make_mut(&mut self.planner).aliases.rested(now);
            self.save();
        }
        if let Err(e) = switches::sweep(&self.host.datapath.maps.switches()) {
            warn!(error = %e, "ended switches cannot be removed; they are ignored anyway");
        }
        match self.host.datapath.whole() {
            Ok(true) if self.host.unrepaired.is_none() => {}
            Ok(_) => self.look_at_network().await,
            Err(e) => warn!(error = %e, "cannot check whether all programs are attached"),
        }
        self.notice();
        let failed = self.actuator.has_failed() || self.keeper.unsaved.is_some();
        if self.planner.is_due(Instant::now()) {
            self.reconcile().await;
        }
        if failed && self.reconciled.elapsed() >= RETRY {
            self.reconcile().await;
        }
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
                warn!(error = %e, "cannot watch changes of interfaces and pins");
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
