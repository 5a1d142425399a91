//! The engine's side of the connection to the agent; `brattice_wire::engine` has the protocol.
//!
//! The engine outlives agents: when the connection ends it serves on and connects again, to whatever socket then lies at
//! the path, and hands the new agent its descriptors. It obeys root only.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use brattice_wire::{
    engine::{
        AccessLog, FrameError, FromEngine, MAX_FROM_ENGINE, MAX_TO_ENGINE, PROTOCOL_VERSION, Running, Settings, Stats,
        ToEngine, decode, encode,
    },
    records::{NodeMetrics, Query},
    snapshot::Snapshot,
};
use tokio::{net::UnixStream, time::Instant};

use crate::{
    fds::{self, StreamError},
    orders::{Dispatcher, Order, OrderError},
};

/// Time between two attempts to reach an agent.
pub const RECONNECT: Duration = Duration::from_millis(50);
/// How long a new engine waits for an agent that starts it, before it exits: nobody wants it.
pub const START_PATIENCE: Duration = Duration::from_secs(10);
/// How long a new engine waits where the socket is out of its reach: an agent may be about to set its owner.
pub const REACH_PATIENCE: Duration = Duration::from_secs(1);
/// How long all workers have to confirm an order, before the engine exits as broken.
pub const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);
/// Added to the grace period of a shutdown for closing what is left.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(5);
/// Longest reason of a [`FromEngine::Refused`], bytes.
const MAX_REASON: usize = 1024;

/// What the link drives: the process with its workers.
pub trait Core {
    /// Starts serving with these settings and descriptors; afterwards [`Core::started`] answers.
    ///
    /// # Errors
    /// What is wrong with them, for the log.
    fn start(&mut self, settings: Settings, descriptors: Vec<OwnedFd>) -> Result<(), String>;
    /// Present after a successful [`Core::start`].
    fn started(&self) -> Option<Started<'_>>;
    /// Checks a snapshot and publishes it to the workers.
    ///
    /// # Errors
    /// Why it is refused; the one before stays.
    fn publish(&self, snapshot: Snapshot) -> Result<(), String>;
    /// Revision published last.
    fn revision(&self) -> u64;
    /// Counts since the start.
    fn stats(&self) -> Stats;
    /// The access log goes there from now on.
    fn access_log(&self, destination: Option<(AccessLog, OwnedFd)>);
    /// Metrics are served on this listening socket from now on, or nowhere.
    ///
    /// # Errors
    /// When it is none.
    fn metrics(&mut self, socket: Option<OwnedFd>) -> Result<(), String>;
    /// The agent's own numbers, for the metrics.
    fn node_metrics(&self, numbers: NodeMetrics);
    /// Answers a caller of the agent, on the caller's connection.
    fn attend(&self, query: Query, connection: OwnedFd);
    /// After the workers have finished: what they handed on is written.
    fn drain(&self);
}

/// What an engine that serves has.
pub struct Started<'a> {
    /// As given to [`Core::start`].
    pub settings: &'a Settings,
    /// As given to [`Core::start`].
    pub descriptors: &'a [OwnedFd],
    /// As given to [`Core::metrics`].
    pub metrics: Option<&'a OwnedFd>,
    /// To the workers.
    pub workers: &'a Dispatcher,
}

/// Why the link ended; the process exits.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody started this engine.
    #[error("no agent started this engine through {path} within {START_PATIENCE:?}: {last}")]
    NoAgent {
        /// The socket.
        path: String,
        /// The last failure.
        last: String,
    },
    /// The socket is out of the engine's reach, and will be after a restart of the agent.
    #[error(
        "the engine's user may not reach {path}: {error}; its directory must be searchable and the socket writable for this user"
    )]
    Unreachable {
        /// The socket.
        path: String,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// A worker is broken.
    #[error(transparent)]
    Worker(#[from] OrderError),
}

/// Why a connection was given up. The next one is tried.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("the socket belongs to user {0}, not to root: nobody else may command the engine")]
    NotRoot(u32),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the agent broke the protocol: {0}")]
    Protocol(String),
}

impl From<FrameError> for Lost {
    fn from(error: FrameError) -> Self {
        Self::Stream(error.into())
    }
}

enum End {
    Lost(Lost),
    Broken(OrderError),
    Shutdown,
}

impl<E: Into<Lost>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

/// Serves agents until one says shutdown.
///
/// # Errors
/// When no agent starts the engine, or a worker is broken.
pub async fn run(path: &Path, core: &mut impl Core) -> Result<(), LinkError> {
    let begun = Instant::now();
    let mut patience = begun + START_PATIENCE;
    let mut reported = String::new();
    loop {
        let lost = match session(path, core).await {
            End::Shutdown => return Ok(()),
            End::Broken(error) => return Err(error.into()),
            End::Lost(lost) => lost,
        };
        let last = lost.to_string();
        if core.started().is_some() {
            patience = Instant::now() + START_PATIENCE;
        } else {
            match lost {
                Lost::Connect(error)
                    if error.kind() == std::io::ErrorKind::PermissionDenied && begun.elapsed() >= REACH_PATIENCE =>
                {
                    return Err(LinkError::Unreachable { path: path.display().to_string(), error });
                }
                _ if Instant::now() >= patience => {
                    return Err(LinkError::NoAgent { path: path.display().to_string(), last });
                }
                _ => {}
            }
        }
        // Once per cause, or a missing agent would fill the log at 20 lines a second.
        if last != reported {
            tracing::warn!(cause = %last, "no connection to the agent; serving on and trying again");
            reported = last;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// One connection, from hello to its end.
async fn session(path: &Path, core: &mut impl Core) -> End {
    match converse(path, core).await {
        Ok(()) => End::Shutdown,
        Err(end) => end,
    }
}

async fn converse(path: &Path, core: &mut impl Core) -> Result<(), End> {
    let stream = UnixStream::connect(path).await.map_err(Lost::Connect)?;
    // The credentials of the listener: who called listen(2) on the path.
    let peer = stream.peer_cred().map_err(Lost::Connect)?;
    if peer.uid() != 0 {
        return Err(Lost::NotRoot(peer.uid()).into());
    }
    let (running, descriptors): (_, Vec<BorrowedFd<'_>>) = match core.started() {
        Some(started) => (
            Some(Running {
                settings: started.settings.clone(),
                revision: core.revision(),
                metrics: started.metrics.is_some(),
            }),
            started.descriptors.iter().chain(started.metrics).map(AsFd::as_fd).collect(),
        ),
        None => (None, Vec::new()),
    };
    answer(&stream, &FromEngine::Hello { version: PROTOCOL_VERSION, running }, &descriptors).await?;
    tracing::info!(socket = %path.display(), running = core.started().is_some(), "connected to the agent");
    loop {
        let (body, mut descriptors) = fds::receive(&stream, MAX_TO_ENGINE).await.map_err(Lost::from)?;
        let message: ToEngine = decode(&body).map_err(Lost::from)?;
        drop(body);
        let due = match &message {
            // Counted where they are used.
            ToEngine::Start(_) => descriptors.len(),
            ToEngine::AccessLog(Some(_)) | ToEngine::Metrics(true) | ToEngine::Attend(_) => 1,
            _ => 0,
        };
        if descriptors.len() != due {
            let why = format!("{} descriptors came with a message that carries {due}", descriptors.len());
            return Err(Lost::Protocol(why).into());
        }
        match message {
            ToEngine::Start(settings) => {
                if core.started().is_some() {
                    return Err(Lost::Protocol("start was said to a running engine".into()).into());
                }
                core.start(settings, descriptors).map_err(Lost::Protocol)?;
            }
            ToEngine::Snapshot(snapshot) => {
                let revision = snapshot.revision;
                let workers = workers(core)?;
                let reply = match core.publish(*snapshot) {
                    Ok(()) => {
                        order(&workers, &Order::Applied, CONFIRM_PATIENCE).await?;
                        tracing::info!(revision, "the snapshot is in force");
                        FromEngine::Applied { revision }
                    }
                    Err(reason) => {
                        tracing::error!(revision, reason, "the snapshot is refused; the one before stays in force");
                        FromEngine::Refused { revision, reason: shortened(reason) }
                    }
                };
                answer(&stream, &reply, &[]).await?;
            }
            ToEngine::CloseAliases { token, aliases } => {
                order(&workers(core)?, &Order::CloseAliases(aliases.into()), CONFIRM_PATIENCE).await?;
                answer(&stream, &FromEngine::AliasesClosed { token }, &[]).await?;
            }
            ToEngine::AccessLog(log) => core.access_log(log.zip(descriptors.pop())),
            ToEngine::Metrics(_) => core.metrics(descriptors.pop()).map_err(Lost::Protocol)?,
            ToEngine::NodeMetrics(numbers) => core.node_metrics(*numbers),
            ToEngine::Attend(query) => {
                if let Some(connection) = descriptors.pop() {
                    core.attend(query, connection);
                }
            }
            ToEngine::Stats => answer(&stream, &FromEngine::Stats(core.stats()), &[]).await?,
            ToEngine::Shutdown { grace_ms } => {
                let grace = Duration::from_millis(grace_ms.into());
                tracing::info!(?grace, "the agent says shutdown");
                if let Some(started) = core.started() {
                    let workers = started.workers.clone();
                    // A worker that does not make it is ended by the exit that follows.
                    if let Err(error) = workers.all(&Order::Shutdown(grace), grace + SHUTDOWN_MARGIN).await {
                        tracing::warn!(%error, "not every worker finished in time");
                    }
                    core.drain();
                }
                return Ok(());
            }
        }
    }
}

fn workers(core: &impl Core) -> Result<Dispatcher, Lost> {
    let started = core.started().ok_or_else(|| Lost::Protocol("the engine was not started yet".into()))?;
    Ok(started.workers.clone())
}

async fn order(workers: &Dispatcher, order: &Order, patience: Duration) -> Result<(), End> {
    workers.all(order, patience).await.map_err(End::Broken)
}

async fn answer(stream: &UnixStream, message: &FromEngine, descriptors: &[BorrowedFd<'_>]) -> Result<(), Lost> {
    let frame = encode(message, MAX_FROM_ENGINE)?;
    Ok(fds::send(stream, &frame, descriptors).await?)
}

/// At most [`MAX_REASON`] bytes, cut between characters.
fn shortened(mut reason: String) -> String {
    let mut end = MAX_REASON.min(reason.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}
