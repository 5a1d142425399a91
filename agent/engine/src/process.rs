//! The process: its threads, its descriptors, its start and its end.
//!
//! ```text
//! main thread   link: the agent's orders, snapshots compiled
//! worker-0..n   one runtime each: listeners for HTTP and TCP, connections, pools
//! dns           UDP socket, TCP listener, upstream queries
//! log           writes the access log, waits where that waits
//! queries       metrics, callers that the agent hands over
//! ```

use std::{
    net::UdpSocket,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    thread,
    time::SystemTime,
};

use brattice_wire::{
    engine::{AccessLog, Limits, Settings, Stats},
    rarely,
    records::{NodeMetrics, Query},
    snapshot::Snapshot,
};
use rustix::{
    net::{AddressFamily, SocketType, getsockname, sockopt},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    stdio::dup2_stdin,
};
use tokio::{net::UnixStream, sync::mpsc};

use crate::{
    dns,
    events::access_log,
    heartbeat::Heartbeats,
    link::{self, Core, LinkError, Started},
    memory,
    orders::Dispatcher,
    queries::{self, WAITING},
    sandbox::{self, SandboxError},
    state::Shared,
    transport::ListeningSocket,
    worker::{self, Worker},
};

/// Most open files of the engine: both sides of 500,000 connections. `fs.nr_open` allows it everywhere by default.
const MOST_FILES: u64 = 1_048_576;
/// How long the end waits for the access log's last lines.
const DRAIN_TIME: std::time::Duration = std::time::Duration::from_secs(1);

/// How the engine is started.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// The engine's user; not 0, and no other process may have it.
    pub uid: u32,
    /// Its group; not 0.
    pub gid: u32,
}

/// Why the engine ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sandbox could not be entered.
    #[error("the sandbox cannot be entered: {0}")]
    Sandbox(#[from] SandboxError),
    /// The process could not be prepared.
    #[error("cannot {what}: {error}")]
    Start {
        /// The step that failed.
        what: &'static str,
        /// The error of the system.
        error: std::io::Error,
    },
    /// The link ended.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A thread ended by itself.
    #[error("the thread {0} has ended; the engine exits, so that the agent starts a new one")]
    Thread(String),
}

/// The whole engine process: sandbox, link, workers. Call it while the process has one thread, with the connection to the
/// agent as its standard input. Returns when the agent says shutdown.
///
/// # Errors
/// See [`Error`]; the process is to exit then, it cannot be used for anything else.
pub fn run(args: Args) -> Result<(), Error> {
    let Args { uid, gid } = args;
    close_strays();
    raise_file_limit();
    memory::prepare();
    let memory_bytes = memory::found();
    let link = link_of_stdin().map_err(|error| Error::Start {
        what: "use standard input as the connection to the agent (only the agent starts engines)",
        error,
    })?;
    let missing = sandbox::enter(uid, gid)?;
    for what in &missing {
        tracing::warn!(what, "a part of the sandbox is missing");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Error::Start { what: "start the runtime of the link", error })?;
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut engine = Engine { missing, ended, memory_bytes, running: None };
    runtime.block_on(async {
        let link = UnixStream::from_std(link)
            .map_err(|error| Error::Start { what: "wait for the connection to the agent", error })?;
        tokio::select! {
            biased;
            ended = link::run(link, &mut engine) => Ok(ended?),
            Some(thread) = ends.recv() => Err(Error::Thread(thread)),
        }
    })
}

/// Other descriptors from the parent than standard input, output and error are not used.
fn close_strays() {
    #[allow(unsafe_code, reason = "close_range(2) has no safe wrapper")]
    // SAFETY: called before anything in this process owns a descriptor above 2.
    unsafe {
        libc::close_range(3, u32::MAX, 0);
    }
}

/// The agent's end of a socket pair is what the engine is started with: it cannot make a Unix socket by itself.
fn link_of_stdin() -> std::io::Result<std::os::unix::net::UnixStream> {
    let stdin = std::io::stdin();
    if getsockname(&stdin)?.address_family() != AddressFamily::UNIX {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let link = std::os::unix::net::UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    link.set_nonblocking(true)?;
    // Its only descriptor: it is closed when the link is given up.
    dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(link)
}

/// As many files as allowed; where root starts us, up to [`MOST_FILES`]. A lower bound shows as refused connections.
fn raise_file_limit() {
    // None: there is no limit.
    let Some(hard) = getrlimit(Resource::Nofile).maximum else { return };
    let set = |files| setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) });
    if set(hard.max(MOST_FILES)).is_err()
        && let Err(error) = set(hard)
    {
        tracing::warn!(%error, hard, "the limit of open files cannot be raised");
    }
}

/// Descriptors that the process may have.
fn file_limit() -> u32 {
    // saturates: without a limit, there can be as many as a number can say.
    getrlimit(Resource::Nofile).current.map_or(u32::MAX, |soft| u32::try_from(soft).unwrap_or(u32::MAX))
}

struct Engine {
    missing: Vec<String>,
    /// Memory that the process may have.
    memory_bytes: u64,
    ended: mpsc::UnboundedSender<String>,
    running: Option<Serving>,
}

struct Serving {
    shared: Arc<Shared>,
    descriptors: Vec<OwnedFd>,
    workers: Dispatcher,
    metrics: Option<OwnedFd>,
    queries: mpsc::Sender<queries::Request>,
}

impl Core for Engine {
    fn start(&mut self, settings: Settings, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let sockets = Sockets::check(&settings, &descriptors)?;
        // The last queue is the DNS thread's.
        let (workers, mut queues) = Dispatcher::new(settings.workers as usize + 1);
        let files = if settings.limits.descriptors == 0 { file_limit() } else { settings.limits.descriptors };
        let memory_bytes =
            if settings.limits.memory_bytes == 0 { self.memory_bytes } else { settings.limits.memory_bytes };
        let shared = Shared::within(settings.clone(), Limits { descriptors: files, memory_bytes, ..settings.limits });
        let dns = queues.pop().ok_or("no queue for the DNS thread")?;
        let mut work = Vec::new();
        for (index, (((http, tcp), orders), slot)) in
            (0..).zip(sockets.http.into_iter().zip(sockets.tcp).zip(queues).zip(sockets.slots))
        {
            work.push(Worker { index, http, tcp, shared: Arc::clone(&shared), orders, slot });
        }
        for worker in work {
            self.spawn(format!("worker-{}", worker.index), move || worker::serve(worker))?;
        }
        let server =
            dns::Server { udp: sockets.dns_udp, tcp: sockets.dns_tcp, shared: Arc::clone(&shared), orders: dns };
        self.spawn("dns".into(), move || dns::serve(server))?;
        let log = Arc::clone(&shared.log);
        self.spawn("log".into(), move || access_log::writer::run(&log))?;
        let (asking, requests) = mpsc::channel(WAITING);
        let (asked, answering, missing) = (Arc::clone(&shared), workers.clone(), self.missing.clone());
        self.spawn("queries".into(), move || queries::run(asked, answering, missing, requests))?;
        tracing::info!(workers = settings.workers, "started");
        self.running = Some(Serving { shared, descriptors, workers, metrics: None, queries: asking });
        Ok(())
    }

    fn started(&self) -> Option<Started<'_>> {
        self.running.as_ref().map(|serving| Started {
            settings: &serving.shared.settings,
            descriptors: &serving.descriptors,
            metrics: serving.metrics.as_ref(),
            workers: &serving.workers,
        })
    }

    fn publish(&self, snapshot: Snapshot) -> Result<(), String> {
        let serving = self.running.as_ref().ok_or("the engine was not started yet")?;
        serving.shared.apply(snapshot).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn revision(&self) -> u64 {
        self.running.as_ref().map_or(0, |serving| serving.shared.state.load().revision)
    }

    fn stats(&self) -> Stats {
        match &self.running {
            Some(serving) => serving.shared.stats(self.missing.clone()),
            None => Stats { sandbox_missing: self.missing.clone(), ..Stats::default() },
        }
    }

    fn access_log(&self, destination: Option<(AccessLog, OwnedFd)>) {
        if let Some(serving) = &self.running {
            serving.shared.log.set_log(destination);
        }
    }

    fn metrics(&mut self, given: Option<OwnedFd>) -> Result<(), String> {
        let Some(serving) = &mut self.running else { return Err("the engine was not started yet".into()) };
        let served = given.as_ref().map(|fd| socket(fd.as_fd(), SocketType::STREAM, true)).transpose()?;
        serving.metrics = given;
        ask(&serving.queries, queries::Request::Metrics(served));
        Ok(())
    }

    fn node_metrics(&self, numbers: NodeMetrics) {
        if let Some(serving) = &self.running {
            serving.shared.counters.set_agent(SystemTime::now(), numbers);
        }
    }

    fn attend(&self, query: Query, connection: OwnedFd) {
        if let Some(serving) = &self.running {
            ask(&serving.queries, queries::Request::Attend(query, connection));
        }
    }

    fn drain(&self) {
        if let Some(serving) = &self.running {
            serving.shared.log.drain(DRAIN_TIME);
        }
    }
}

/// Without waiting: queries over the limit are not answered.
fn ask(queries: &mpsc::Sender<queries::Request>, request: queries::Request) {
    if queries.try_send(request).is_err() {
        rarely!(warn, "too many callers wait for an answer; one is turned away");
    }
}

impl Engine {
    /// A thread whose end, also by a panic, ends the process.
    fn spawn<E: std::fmt::Display>(
        &self,
        name: String,
        body: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> Result<(), String> {
        let guard = Guard { name: name.clone(), ended: self.ended.clone() };
        thread::Builder::new()
            .name(name)
            .spawn(move || {
                let guard = guard;
                match body() {
                    // After a shutdown; the link ends the process.
                    Ok(()) => std::mem::forget(guard),
                    Err(error) => tracing::error!(thread = guard.name, %error, "the thread has failed"),
                }
            })
            .map(drop)
            .map_err(|error| format!("cannot start a thread: {error}"))
    }
}

struct Guard {
    name: String,
    ended: mpsc::UnboundedSender<String>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Only the process's end closes the channel.
        let _ = self.ended.send(std::mem::take(&mut self.name));
    }
}

/// The descriptors of a start message, duplicated for the workers and checked for what they are.
struct Sockets {
    http: Vec<ListeningSocket>,
    tcp: Vec<ListeningSocket>,
    dns_udp: Vec<UdpSocket>,
    dns_tcp: ListeningSocket,
    slots: Vec<crate::heartbeat::Slot>,
}

impl Sockets {
    fn check(settings: &Settings, descriptors: &[OwnedFd]) -> Result<Self, String> {
        let workers = settings.workers;
        if workers == 0 || workers > brattice_abi::MAX_WORKERS {
            return Err(format!("{workers} workers; there can be 1 to {}", brattice_abi::MAX_WORKERS));
        }
        if settings.sources.is_empty() {
            return Err("no engine source address".into());
        }
        let count = settings.descriptors();
        if descriptors.len() != count {
            return Err(format!("{} descriptors came, {count} belong to {workers} workers", descriptors.len()));
        }
        let (http, rest) = descriptors.split_at(workers as usize);
        let (tcp, rest) = rest.split_at(workers as usize);
        let [udp, dns_tcp, udp6 @ .., map] = rest else { return Err("the last descriptors are missing".into()) };
        let datagrams = |fd: &OwnedFd| socket(fd.as_fd(), SocketType::DGRAM, false).map(UdpSocket::from);
        let heartbeats = Heartbeats::map(map).map_err(|error| format!("the WORKERS map cannot be mapped: {error}"))?;
        Ok(Self {
            http: http.iter().map(listener).collect::<Result<_, _>>()?,
            tcp: tcp.iter().map(listener).collect::<Result<_, _>>()?,
            dns_udp: std::iter::once(udp).chain(udp6).map(datagrams).collect::<Result<_, _>>()?,
            dns_tcp: listener(dns_tcp)?,
            slots: (0..workers).filter_map(|worker| heartbeats.slot(worker)).collect(),
        })
    }
}

fn listener(descriptor: &OwnedFd) -> Result<ListeningSocket, String> {
    Ok(socket(descriptor.as_fd(), SocketType::STREAM, true)?.into())
}

/// A duplicate of a socket that is what it should be, non-blocking (a flag that the agent's copy shares).
fn socket(descriptor: BorrowedFd<'_>, kind: SocketType, listening: bool) -> Result<OwnedFd, String> {
    let found = sockopt::socket_type(descriptor).map_err(|error| format!("no socket: {error}"))?;
    let listens = sockopt::socket_acceptconn(descriptor).map_err(|error| format!("no socket: {error}"))?;
    if found != kind || listens != listening {
        return Err(format!("a socket of kind {found:?} (listening: {listens}) came in the place of {kind:?}"));
    }
    let duplicate = descriptor.try_clone_to_owned().map_err(|error| format!("cannot duplicate a socket: {error}"))?;
    let socket = socket2::Socket::from(duplicate);
    socket.set_nonblocking(true).map_err(|error| format!("cannot make a socket non-blocking: {error}"))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_ends_by_itself_is_reported() {
        let (ended, mut ends) = mpsc::unbounded_channel();
        let engine = Engine { missing: Vec::new(), memory_bytes: 0, ended, running: None };
        engine.spawn("finished".into(), || Ok::<_, String>(())).unwrap();
        engine.spawn("failed".into(), || Err("a test")).unwrap();
        engine
            .spawn("panicked".into(), || {
                std::panic::resume_unwind(Box::new("a test"));
                #[allow(unreachable_code, reason = "gives the closure its type")]
                Ok::<_, String>(())
            })
            .unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.push(ends.blocking_recv().unwrap());
        }
        seen.sort();
        assert_eq!(seen, ["failed", "panicked"]);
        thread::sleep(Duration::from_millis(20));
        assert!(ends.try_recv().is_err(), "an ordered end is none");
    }
}
