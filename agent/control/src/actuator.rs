//! Carries plans out, on a thread of its own: it alone writes to the kernel, to the state directory, and to the engine.
//!
//! It is fed by what the agent's loop has seen ([`Observed`], of which only the latest counts, so that nothing queues up) and by
//! events of the engine. It has a plan made ([`Planner`], pure), carries it out in the order of [`sequence`], and publishes
//! what is known afterwards ([`Picture`]).

mod engine_events;
mod every_second;
mod keeper;
mod kernel_state;
mod repairs;
mod sequence;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brattice_loader::announce::Announcer;
use brattice_loader::first_packets::FirstPackets;
use brattice_loader::{Datapath, Ipv6};
use brattice_model::Linked;
use brattice_wire::api::OwnerView;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

pub use self::keeper::Keeper;
pub use self::kernel_state::{Held, KernelState};
use self::repairs::Repairs;
use self::sequence::Unfinished;
use crate::drops::Drops;
use crate::engine::handle::{Client, Event};
use crate::failing_targets::FailingTargets;
use crate::host_changes::HostChanges;
use crate::noticed::Noticed;
use crate::picture::Picture;
use crate::planner::{Inputs, Planner};
use crate::settings::Settings;

/// What the kernel or the disk refused is tried again after this long.
pub const RETRY: Duration = Duration::from_secs(5);

/// What the agent's loop has seen: all that the actuator needs of it. A copy shares everything.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// What a plan is made from.
    pub(crate) inputs: Inputs,
    /// The documents in force, linked; its model is that of the inputs.
    pub(crate) linked: Arc<Linked>,
    /// What became of each owner's documents.
    pub(crate) owners: Arc<BTreeMap<String, OwnerView>>,
    /// Why documents in force are not on disk.
    pub(crate) unkept: Arc<Vec<String>>,
    /// Whether the host does IPv6.
    pub(crate) ipv6: Ipv6,
    /// How many updates of documents were taken in.
    pub(crate) updates: u64,
    /// How often other documents came into force.
    pub(crate) changes: u64,
    /// How often others may have changed parts of Brattice on the host, so that these must be checked.
    pub(crate) disturbed: u64,
    /// How often that may concern the firewall's table.
    pub(crate) table_disturbed: u64,
}

/// What the actuator is given once.
pub(crate) struct Parts {
    pub(crate) settings: Arc<Settings>,
    pub(crate) started: Instant,
    pub(crate) datapath: Arc<Datapath>,
    pub(crate) engine: Client,
    pub(crate) drops: Drops,
    pub(crate) announcer: Announcer,
    /// `None`: the kernel does not take them.
    pub(crate) first_packets: Option<FirstPackets>,
    pub(crate) planner: Planner,
    pub(crate) kernel: KernelState,
    pub(crate) keeper: Keeper,
    pub(crate) noticed: Noticed,
    /// Asks the loop to look at everything on the host again.
    pub(crate) host_changes: Arc<HostChanges>,
}

/// What the thread owns.
struct Actuator {
    settings: Arc<Settings>,
    started: Instant,
    datapath: Arc<Datapath>,
    engine: Client,
    drops: Drops,
    announcer: Announcer,
    first_packets: Option<FirstPackets>,
    planner: Arc<Planner>,
    kernel: KernelState,
    keeper: Keeper,
    noticed: Arc<Noticed>,
    host_changes: Arc<HostChanges>,
    /// What the latest plan was made from.
    observed: Observed,
    /// When the latest plan was made.
    planned: Instant,
    /// The latest plan's second half, if it waits for the engine.
    unfinished: Option<Unfinished>,
    /// Revision that the engine applied and whose second half is done.
    applied: u64,
    /// Why the engine refused the latest snapshot.
    refused: Option<String>,
    /// Whether the engine has served while everything it told was carried out in the kernel.
    ready: bool,
    repairs: Repairs,
    /// Targets that were logged as failing.
    failing_targets: FailingTargets,
}

/// The loop's end of the actuator.
pub(crate) struct Handle {
    observed: watch::Sender<Observed>,
    /// What is known, after everything that was carried out; closed when the actuator has failed.
    pub(crate) picture: watch::Receiver<Arc<Picture>>,
    ended: oneshot::Receiver<()>,
}

impl Handle {
    /// Hands over what was seen. Never waits.
    pub(crate) fn observe(&self, observed: Observed) {
        self.observed.send_replace(observed);
    }

    /// Has it end after what it is doing: what must survive is on disk then.
    pub(crate) async fn end(self) {
        drop(self.observed);
        let _ = self.ended.await;
    }
}

/// Starts the actuator. Returns when what was seen first is carried out, as far as that does not wait for the engine.
///
/// # Errors
/// When no thread can be started.
pub(crate) async fn start(parts: Parts, events: mpsc::Receiver<Event>, seen: Observed) -> io::Result<Handle> {
    let (observed, observed_in) = watch::channel(seen.clone());
    let actuator = Actuator::new(parts, seen);
    let (published, mut picture) = watch::channel(Arc::new(actuator.picture()));
    let (ends, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("actuator".to_owned()).spawn(move || {
        runtime.block_on(actuator.run(observed_in, events, published));
        let _ = ends.send(());
    })?;
    // If it has failed already, the loop learns it from the picture.
    let _ = picture.changed().await;
    Ok(Handle { observed, picture, ended })
}

impl Actuator {
    fn new(parts: Parts, observed: Observed) -> Self {
        let Parts { settings, started, datapath, engine, drops, announcer, .. } = parts;
        Self {
            settings,
            started,
            datapath,
            engine,
            drops,
            announcer,
            first_packets: parts.first_packets,
            planner: Arc::new(parts.planner),
            kernel: parts.kernel,
            keeper: parts.keeper,
            noticed: Arc::new(parts.noticed),
            host_changes: parts.host_changes,
            observed,
            planned: Instant::now(),
            unfinished: None,
            applied: 0,
            refused: None,
            ready: false,
            repairs: Repairs::default(),
            failing_targets: FailingTargets::default(),
        }
    }

    /// Until the loop ends, or supervision of the engine does.
    async fn run(
        mut self,
        mut observed: watch::Receiver<Observed>,
        mut events: mpsc::Receiver<Event>,
        published: watch::Sender<Arc<Picture>>,
    ) {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.plan().await;
        // What is finished in parts leaves a turn to what was seen meanwhile, and the other way round.
        let mut finished_last = false;
        loop {
            published.send_replace(Arc::new(self.picture()));
            let deadline = self.unfinished.as_ref().map(|unfinished| unfinished.deadline);
            let was_finished = std::mem::take(&mut finished_last);
            tokio::select! {
                biased; // What the engine did comes before anything that is planned anew.
                event = events.recv() => match event {
                    Some(event) => self.engine_event(event).await,
                    None => {
                        error!("supervision of the engine ended");
                        break;
                    }
                },
                () = at(deadline), if !was_finished => {
                    self.finish().await;
                    finished_last = true;
                }
                seen = observed.changed() => match seen {
                    Ok(()) => {
                        let seen = observed.borrow_and_update().clone();
                        self.observe(seen).await;
                    }
                    // The agent ends.
                    Err(_) => break,
                },
                () = at(deadline), if was_finished => {
                    self.finish().await;
                    finished_last = true;
                }
                // After the workloads, and after what waits for the engine: a new workload's first call waits for those.
                () = at(self.repairs.at()), if self.unfinished.is_none() => self.look_after_ours().await,
                _ = second.tick() => self.every_second().await,
            }
        }
        self.keeper.save(&self.planner);
    }

    /// Takes in what was seen, and carries out what follows.
    async fn observe(&mut self, seen: Observed) {
        let before = std::mem::replace(&mut self.observed, seen);
        let now = &self.observed;
        if now.disturbed != before.disturbed {
            let table = now.table_disturbed != before.table_disturbed;
            self.repairs.disturbed(table, Instant::now());
        }
        let documents = !Arc::ptr_eq(&now.inputs.model, &before.inputs.model);
        let host = !Arc::ptr_eq(&now.inputs.interfaces, &before.inputs.interfaces)
            || !Arc::ptr_eq(&now.inputs.places, &before.inputs.places);
        let changed = now.changes != before.changes;
        if documents {
            Arc::make_mut(&mut self.planner).state.vips = now.linked.vips.clone();
        }
        if documents || host {
            self.plan().await;
        }
        // After the engine was given them: documents that changed are a new chance for an engine that stays down.
        if changed {
            self.engine.revive().await;
        }
    }

    /// What is known now.
    fn picture(&self) -> Picture {
        Picture {
            settings: self.settings.clone(),
            started: self.started,
            datapath: self.datapath.clone(),
            engine: self.engine.clone(),
            drops: self.drops.clone(),
            owners: self.observed.owners.clone(),
            unkept: self.observed.unkept.clone(),
            updates: self.observed.updates,
            inputs: self.observed.inputs.clone(),
            planner: self.planner.clone(),
            held: self.kernel.held(),
            ipv6: self.observed.ipv6,
            applied: self.applied,
            refused: self.refused.clone(),
            ready: self.ready,
            repairs: self.repairs.counts.clone(),
            unrepaired: self.repairs.failed.clone(),
            unsaved: self.keeper.unsaved().cloned(),
            noticed: self.noticed.clone(),
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
