//! The engine's side of the connection to the agent; `brattice_wire::engine` has the protocol.
//!
//! The first connection is what the engine was started with. With its start comes a listening Unix socket, on which later
//! agents call: the engine itself cannot make a Unix socket, so it reaches no other. It outlives agents, serves on
//! without one, and shows the next one its descriptors. It obeys root only, and of two agents the one that called last.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use brattice_frames::StreamError;
use brattice_wire::{
    engine::{
        AccessLog, FrameError, FromEngine, MAX_FROM_ENGINE, MAX_TO_ENGINE, PROTOCOL_VERSION, Running, SILENT, Settings,
        Stats, ToEngine, decode, encode,
    },
    rarely,
    records::{NodeMetrics, Query},
    snapshot::Snapshot,
};
use rustix::net::{AddressFamily, getsockname, sockopt};
use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

use crate::orders::{Dispatcher, Order, OrderError};

/// How long a new engine waits for its start, before it exits: no agent needs it.
pub const START_PATIENCE: Duration = Duration::from_secs(10);
/// How long all workers have to confirm an order, before the engine exits as broken.
pub const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a failed accept (no descriptor left, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Added to the grace period of a shutdown for closing what is left.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(5);
/// Longest reason of a [`FromEngine::Refused`], bytes.
const MAX_REASON: usize = 1024;

/// The core that the link drives: the process with its workers.
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

/// The parts of an engine that serves.
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
    /// No agent started this engine.
    #[error("the agent did not start this engine: {0}")]
    NotStarted(String),
    /// A worker is broken.
    #[error(transparent)]
    Worker(#[from] OrderError),
}

/// Why a connection was given up. The next one is waited for.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("user {0} holds its other end, not root: only root may command the engine")]
    NotRoot(u32),
    #[error("the agent sent nothing for {0:?}")]
    Silent(Duration),
    #[error("another agent has called")]
    Replaced,
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
    Newer(UnixStream),
    Broken(OrderError),
}

impl<E: Into<Lost>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

/// Obeys the agent at the other end of `first`, then those that call, until one says shutdown.
///
/// # Errors
/// When the first one does not start the engine, or a worker is broken.
pub async fn run(first: UnixStream, core: &mut impl Core) -> Result<(), LinkError> {
    let mut door = None;
    let mut next = Some(first);
    loop {
        let stream = match next.take() {
            Some(stream) => stream,
            None => caller(door.as_ref()).await,
        };
        let lost = match converse(&stream, &mut door, core).await {
            Ok(()) => return Ok(()),
            Err(End::Broken(error)) => return Err(error.into()),
            Err(End::Newer(newer)) => {
                next = Some(newer);
                Lost::Replaced
            }
            Err(End::Lost(lost)) => lost,
        };
        if door.is_none() {
            return Err(LinkError::NotStarted(lost.to_string()));
        }
        rarely!(warn, cause = %lost, "no connection to the agent; serving on until one calls");
    }
}

/// The next agent; never, without a door.
async fn caller(door: Option<&UnixListener>) -> UnixStream {
    let Some(door) = door else { return std::future::pending().await };
    loop {
        match door.accept().await {
            Ok((stream, _)) => match of_root(&stream) {
                Ok(()) => return stream,
                Err(lost) => rarely!(warn, %lost, "a caller is turned away"),
            },
            Err(error) => {
                rarely!(warn, %error, "a connection of an agent cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Checks, by the kernel's `SO_PEERCRED`, that root made the connection.
fn of_root(stream: &UnixStream) -> Result<(), Lost> {
    let peer = stream.peer_cred().map_err(StreamError::Io)?;
    // guard: engine-obeys-root
    if peer.uid() != 0 {
        return Err(Lost::NotRoot(peer.uid()));
    }
    Ok(())
}

/// The agent's next message. A frame that was begun is given up where another agent calls, or none ends it in time.
async fn receive(
    stream: &UnixStream,
    door: Option<&UnixListener>,
    patience: Duration,
) -> Result<(ToEngine, Vec<OwnedFd>), End> {
    let received = tokio::select! {
        biased;
        newer = caller(door) => return Err(End::Newer(newer)),
        received = timeout(patience, brattice_frames::receive(stream, MAX_TO_ENGINE)) => received,
    };
    let frame = received.map_err(|_| Lost::Silent(patience))?.map_err(Lost::from)?;
    Ok((decode(&frame.body).map_err(Lost::from)?, frame.descriptors))
}

/// One connection, from hello to its end.
async fn converse(stream: &UnixStream, door: &mut Option<UnixListener>, core: &mut impl Core) -> Result<(), End> {
    of_root(stream)?;
    greet(stream, core).await?;
    loop {
        let patience = if door.is_some() { SILENT } else { START_PATIENCE };
        let (message, descriptors) = receive(stream, door.as_ref(), patience).await?;
        count(&message, &descriptors)?;
        match message {
            ToEngine::Start(settings) => *door = Some(start(core, settings, descriptors)?),
            ToEngine::Shutdown { grace_ms } => {
                shut_down(core, Duration::from_millis(grace_ms.into())).await;
                return Ok(());
            }
            other => obey(stream, core, other, descriptors).await?,
        }
    }
}

/// Says what this engine is, and what it serves with if it was started.
async fn greet(stream: &UnixStream, core: &impl Core) -> Result<(), Lost> {
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
    answer(stream, &FromEngine::Hello { version: PROTOCOL_VERSION, running }, &descriptors).await?;
    tracing::info!(running = core.started().is_some(), "connected to the agent");
    Ok(())
}

/// As many descriptors come with a message as it carries.
fn count(message: &ToEngine, descriptors: &[OwnedFd]) -> Result<(), Lost> {
    let due = match message {
        // Counted where they are used.
        ToEngine::Start(_) => descriptors.len(),
        ToEngine::AccessLog(Some(_)) | ToEngine::Metrics(true) | ToEngine::Attend(_) => 1,
        _ => 0,
    };
    if descriptors.len() != due {
        let why = format!("{} descriptors came with a message that carries {due}", descriptors.len());
        return Err(Lost::Protocol(why));
    }
    Ok(())
}

/// Starts serving. The last descriptor is the socket on which later agents call.
fn start(core: &mut impl Core, settings: Settings, mut descriptors: Vec<OwnedFd>) -> Result<UnixListener, Lost> {
    if core.started().is_some() {
        return Err(Lost::Protocol("start was said to a running engine".into()));
    }
    let listener = descriptors.pop().ok_or_else(|| Lost::Protocol("start came without descriptors".into()))?;
    let listener = listening(listener).map_err(Lost::Protocol)?;
    core.start(settings, descriptors).map_err(Lost::Protocol)?;
    Ok(listener)
}

/// Does what a message says, of those after which the conversation goes on as before.
async fn obey(
    stream: &UnixStream,
    core: &mut impl Core,
    message: ToEngine,
    mut descriptors: Vec<OwnedFd>,
) -> Result<(), End> {
    match message {
        ToEngine::Snapshot(snapshot) => {
            let reply = put_in_force(core, Arc::unwrap_or_clone(snapshot)).await?;
            answer(stream, &reply, &[]).await?;
        }
        ToEngine::CloseAliases { token, aliases } => {
            order(&workers(core)?, &Order::CloseAliases(aliases.into()), CONFIRM_PATIENCE).await?;
            answer(stream, &FromEngine::AliasesClosed { token }, &[]).await?;
        }
        ToEngine::AccessLog(log) => core.access_log(log.zip(descriptors.pop())),
        ToEngine::Metrics(_) => core.metrics(descriptors.pop()).map_err(Lost::Protocol)?,
        ToEngine::NodeMetrics(numbers) => core.node_metrics(*numbers),
        ToEngine::Attend(query) => {
            if let Some(connection) = descriptors.pop() {
                core.attend(query, connection);
            }
        }
        ToEngine::Ping => answer(stream, &FromEngine::Pong, &[]).await?,
        ToEngine::Stats => answer(stream, &FromEngine::Stats(core.stats()), &[]).await?,
        // See `converse`.
        ToEngine::Start(_) | ToEngine::Shutdown { .. } => {}
    }
    Ok(())
}

/// Publishes a snapshot, and has all workers see it.
async fn put_in_force(core: &impl Core, snapshot: Snapshot) -> Result<FromEngine, End> {
    let revision = snapshot.revision;
    let workers = workers(core)?;
    Ok(match core.publish(snapshot) {
        Ok(()) => {
            order(&workers, &Order::Applied, CONFIRM_PATIENCE).await?;
            tracing::info!(revision, "the snapshot is in force");
            FromEngine::Applied { revision }
        }
        Err(reason) => {
            tracing::error!(revision, reason, "the snapshot is refused; the one before stays in force");
            FromEngine::Refused { revision, reason: shortened(reason) }
        }
    })
}

/// Lets the workers finish what is in flight.
async fn shut_down(core: &impl Core, grace: Duration) {
    tracing::info!(?grace, "the agent requests shutdown");
    let Some(started) = core.started() else { return };
    let workers = started.workers.clone();
    // A worker that does not make it is ended by the exit that follows.
    if let Err(error) = workers.all(&Order::Shutdown(grace), grace + SHUTDOWN_MARGIN).await {
        tracing::warn!(%error, "not every worker finished in time");
    }
    core.drain();
}

/// The socket on which later agents call.
fn listening(socket: OwnedFd) -> Result<UnixListener, String> {
    let listens = sockopt::socket_acceptconn(&socket).map_err(|error| format!("no socket: {error}"))?;
    let unix = getsockname(&socket).is_ok_and(|address| address.address_family() == AddressFamily::UNIX);
    if !listens || !unix {
        return Err("what came in the place of the socket for later agents is none".to_owned());
    }
    let made = || -> io::Result<UnixListener> {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    made().map_err(|error| format!("the socket for later agents cannot be used: {error}"))
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
    // An agent that does not read is as good as silent.
    let sent = timeout(SILENT, brattice_frames::send(stream, &frame, descriptors)).await;
    Ok(sent.map_err(|_| Lost::Silent(SILENT))?.map_err(StreamError::from)?)
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

#[cfg(test)]
mod tests {
    use brattice_wire::engine::PING;

    use super::*;

    /// One that was started.
    struct Started;

    impl Core for Started {
        fn start(&mut self, _: Settings, _: Vec<OwnedFd>) -> Result<(), String> {
            Ok(())
        }
        fn started(&self) -> Option<super::Started<'_>> {
            None
        }
        fn publish(&self, _: Snapshot) -> Result<(), String> {
            Ok(())
        }
        fn revision(&self) -> u64 {
            7
        }
        fn stats(&self) -> Stats {
            Stats::default()
        }
        fn access_log(&self, _: Option<(AccessLog, OwnedFd)>) {}
        fn metrics(&mut self, _: Option<OwnedFd>) -> Result<(), String> {
            Ok(())
        }
        fn node_metrics(&self, _: NodeMetrics) {}
        fn attend(&self, _: Query, _: OwnedFd) {}
        fn drain(&self) {}
    }

    /// What happens to a link whose agent pings as often as `pings` says, each a pause after the one before, and then says
    /// nothing more; and after how long.
    async fn silence(pings: u32, pause: Duration) -> (End, Duration) {
        let (agent, engine) = UnixStream::pair().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut door = Some(UnixListener::bind(folder.path().join("door")).unwrap());
        let begun = tokio::time::Instant::now();
        let pinging = tokio::spawn(async move {
            let frame = encode(&ToEngine::Ping, MAX_TO_ENGINE).unwrap();
            for _ in 0..pings {
                tokio::time::sleep(pause).await;
                brattice_frames::send(&agent, &frame, &[]).await.unwrap();
                loop {
                    let frame = brattice_frames::receive(&agent, MAX_FROM_ENGINE).await.unwrap();
                    if decode::<FromEngine>(&frame.body).unwrap() == FromEngine::Pong {
                        break;
                    }
                }
            }
            agent
        });
        let end = converse(&engine, &mut door, &mut Started).await.unwrap_err();
        drop(pinging);
        (end, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_agent_is_given_up_and_one_that_pings_is_not() {
        let (end, after) = silence(0, Duration::ZERO).await;
        assert!(matches!(end, End::Lost(Lost::Silent(SILENT))));
        assert!((SILENT..SILENT + Duration::from_secs(1)).contains(&after), "{after:?}");
        let (end, after) = silence(1_000, PING).await;
        assert!(matches!(end, End::Lost(Lost::Silent(SILENT))));
        assert!(after >= 1_000 * PING + SILENT, "{after:?}");
    }
}
