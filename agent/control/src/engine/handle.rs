//! The agent's end of supervision: its requests, events and view.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use brattice_wire::engine::{Settings, Stats};
use brattice_wire::records::{NodeMetrics, Query};
use brattice_wire::snapshot::{AliasGeneration, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};

use super::outputs::{LogDestination, MetricsAddress};

/// What supervision needs to know.
pub struct Supervision {
    /// The program; `/proc/self/exe` but in tests.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where later agents call the engine.
    pub socket: PathBuf,
    /// Where the process is recorded for later agents.
    pub record: PathBuf,
    /// The engine's user.
    pub uid: u32,
    /// The engine's group.
    pub gid: u32,
    /// A worker whose heartbeat is older than this is stuck.
    pub stuck: Duration,
    /// An engine that does not answer for so long cannot be reached.
    pub silent: Duration,
    /// What it is started with.
    pub settings: Settings,
    /// Where the kernel counts the processes that it ended for lack of memory; `None`: its cgroup's own file.
    pub oom_events: Option<PathBuf>,
    /// Where the access log goes.
    pub access_log: LogDestination,
    /// Of the requests that were served, one in this many is logged.
    pub access_log_sample: u32,
    /// Where metrics are served.
    pub metrics: MetricsAddress,
}

/// What the agent asks of the supervisor.
#[derive(Debug)]
pub(super) enum Order {
    Snapshot(Arc<Snapshot>),
    Close(Vec<(IpAddr, AliasGeneration)>),
    Stats(oneshot::Sender<Option<Stats>>),
    /// Hand a caller's connection over; answered with whether there was an engine to take it.
    Attend(Query, OwnedFd, oneshot::Sender<bool>),
    NodeMetrics(Box<NodeMetrics>),
    /// Open the access log again.
    Reopen,
    /// The documents changed: an engine that stays down is tried again.
    Revive,
    /// Replace the engine, or start it if it stays down.
    Restart {
        /// Time for requests in flight.
        grace: Duration,
        /// Told when it has begun.
        begun: oneshot::Sender<()>,
    },
    /// Stop the engine.
    Stop {
        /// Time for requests in flight.
        grace: Duration,
        /// Told when it is gone.
        done: oneshot::Sender<()>,
    },
}

/// What the supervisor reports to the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A snapshot is in force on every worker, and the slots are filled.
    Applied(u64),
    /// The engine of an earlier agent is taken over. It serves this revision; numbers up to it were given by that agent,
    /// whether or not the disk kept them, and a snapshot with one of them is not sent.
    Adopted(u64),
    /// The engine refused a snapshot and keeps the one before.
    Refused {
        /// The revision.
        revision: u64,
        /// Why.
        reason: String,
    },
    /// No connection of these aliases is left in the engine.
    Closed(Vec<(IpAddr, AliasGeneration)>),
    /// The engine is gone.
    Down,
}

/// What is known of the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// `running`, `starting`, `down`.
    pub state: &'static str,
    /// Its process.
    pub pid: Option<u32>,
    /// Replacements since the agent's start.
    pub restarts: u64,
    /// Revision in force.
    pub revision: u64,
    /// Why the last one ended or cannot start.
    pub last_error: Option<String>,
    /// Why no engine is started any more, until the documents change or an operator asks.
    pub given_up: Option<String>,
    /// Engines that the kernel ended for lack of memory.
    pub memory_kills: u64,
    /// What follows of that, for as long as it does.
    pub short_of_memory: Option<String>,
    /// Waiting connections reset because no engine was there.
    pub reset: u64,
    /// Why there is no access log, though there should be.
    pub log_error: Option<String>,
    /// Why no metrics are served, though they should be.
    pub metrics_error: Option<String>,
}

/// The agent's end.
pub struct Handle {
    /// Asks and orders.
    pub client: Client,
    /// What happens.
    pub events: mpsc::Receiver<Event>,
}

impl Handle {
    /// For others who ask.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl std::ops::Deref for Handle {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::ops::DerefMut for Handle {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Asks and orders; a copy does the same.
#[derive(Clone)]
pub struct Client {
    pub(super) orders: mpsc::Sender<Order>,
    /// What is.
    pub view: watch::Receiver<View>,
}

impl Client {
    /// Puts a snapshot in force.
    pub async fn snapshot(&self, snapshot: Arc<Snapshot>) {
        let _ = self.orders.send(Order::Snapshot(snapshot)).await;
    }

    /// Has connections closed; [`Event::Closed`] follows.
    pub async fn close(&self, aliases: Vec<(IpAddr, AliasGeneration)>) {
        let _ = self.orders.send(Order::Close(aliases)).await;
    }

    /// For another task: asks for the engine's counts.
    pub fn asker(&self) -> Asker {
        Asker(self.orders.clone())
    }

    /// Has the engine answer a caller of the API, on the caller's own connection. False: no engine serves.
    pub async fn attend(&self, query: Query, connection: OwnedFd) -> bool {
        let (taken, wait) = oneshot::channel();
        self.orders.send(Order::Attend(query, connection, taken)).await.is_ok() && wait.await.unwrap_or(false)
    }

    /// The agent's own numbers, for the metrics.
    pub async fn node_metrics(&self, numbers: NodeMetrics) {
        let _ = self.orders.send(Order::NodeMetrics(Box::new(numbers))).await;
    }

    /// Has the access log opened again, after it was renamed (log rotation).
    pub async fn reopen(&self) {
        let _ = self.orders.send(Order::Reopen).await;
    }

    /// Documents changed: an engine that stays down is tried again.
    pub async fn revive(&self) {
        let _ = self.orders.send(Order::Revive).await;
    }

    /// For another task: replaces the engine.
    pub fn restarter(&self) -> Restarter {
        Restarter { orders: self.orders.clone(), view: self.view.clone() }
    }

    /// Stops the engine: requests in flight have `grace` to finish.
    pub async fn stop(&self, grace: Duration) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Stop { grace, done }).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// Asks for the engine's counts.
#[derive(Clone)]
pub struct Asker(mpsc::Sender<Order>);

impl Asker {
    /// The engine's counts, if it answers within 500 ms.
    pub async fn stats(&self) -> Option<Stats> {
        let (answer, wait) = oneshot::channel();
        self.0.try_send(Order::Stats(answer)).ok()?;
        tokio::time::timeout(Duration::from_millis(500), wait).await.ok()?.ok()?
    }
}

/// Replaces the engine.
pub struct Restarter {
    orders: mpsc::Sender<Order>,
    view: watch::Receiver<View>,
}

impl Restarter {
    /// Replaces the engine and waits until its successor serves; requests in flight have `grace` to finish. Returns the
    /// successor's process.
    ///
    /// # Errors
    /// When none serves within `patience`, or it fails again and again; the text says why.
    pub async fn restart(mut self, grace: Duration, patience: Duration) -> Result<u32, String> {
        let before = self.view.borrow().pid;
        let (begun, wait) = oneshot::channel();
        let ending = || "the agent is ending".to_owned();
        self.orders.send(Order::Restart { grace, begun }).await.map_err(|_| ending())?;
        // What is seen from now on is about the new one.
        wait.await.map_err(|_| ending())?;
        let successor = self.view.wait_for(|view| {
            let another = view.pid.is_some() && view.pid != before;
            (another && view.state == "running") || (view.given_up.is_some() && view.pid.is_none())
        });
        let view = match tokio::time::timeout(patience, successor).await {
            Ok(Ok(view)) => view.clone(),
            Ok(Err(_)) => return Err(ending()),
            Err(_) => return Err(format!("no new engine serves after {} s; see brattice status", patience.as_secs())),
        };
        match (view.given_up, view.pid) {
            (Some(why), _) => Err(format!("the engine: {why}")),
            (None, pid) => pid.ok_or_else(|| "the engine is gone again; see brattice status".to_owned()),
        }
    }
}
