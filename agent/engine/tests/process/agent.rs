//! A fake agent, and an engine process that talks with it.
#![allow(unsafe_code, reason = "a file in memory stands for the WORKERS map")]

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::PathBuf,
    process::{Child, ExitStatus},
    sync::Arc,
    time::Duration,
};

use brattice_wire::{
    engine::{
        FromEngine, Limits, MAX_FROM_ENGINE, MAX_TO_ENGINE, PROTOCOL_VERSION, Running, Settings, ToEngine, decode,
        encode,
    },
    snapshot::Snapshot,
};
use tokio::net::UnixStream;

/// Users that nothing else on the machine has.
pub(crate) const ENGINE_UID: u32 = 61_234;
/// See [`ENGINE_UID`].
pub(crate) const ENGINE_GID: u32 = 61_235;
/// Workers of the engines under test.
pub(crate) const WORKERS: u32 = 2;
/// How long an answer may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test's body.
pub(crate) fn block_on<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(3 * PATIENCE, body).await.expect("the test hangs") })
}

/// No capability in any set, no new privileges, the filter in force; in every thread.
pub(crate) fn assert_unprivileged(pid: u32) {
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for expected in [
            "CapInh:\t0000000000000000".to_owned(),
            "CapPrm:\t0000000000000000".to_owned(),
            "CapEff:\t0000000000000000".to_owned(),
            "CapBnd:\t0000000000000000".to_owned(),
            "CapAmb:\t0000000000000000".to_owned(),
            "NoNewPrivs:\t1".to_owned(),
            "Seccomp:\t2".to_owned(),
            "Seccomp_filters:\t3".to_owned(),
            format!("Uid:\t{ENGINE_UID}\t{ENGINE_UID}\t{ENGINE_UID}\t{ENGINE_UID}"),
            format!("Gid:\t{ENGINE_GID}\t{ENGINE_GID}\t{ENGINE_GID}\t{ENGINE_GID}"),
            "Groups:\t ".to_owned(),
        ] {
            assert!(status.lines().any(|line| line == expected), "{expected:?} is not in\n{status}");
        }
        threads += 1;
    }
    assert!(threads > 0);
    // Undumpable: /proc/<pid> belongs to root, not to the engine's user.
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}/mem")).unwrap());
    assert_eq!(owner, 0);
    // The directory itself shows the user all the same, by which an agent recognises its own engine.
    let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).unwrap());
    assert_eq!(user, ENGINE_UID);
}

/// The sockets and the map of an engine, as the agent keeps them.
pub(crate) struct Kit {
    pub(crate) http: Vec<TcpListener>,
    pub(crate) relay: Vec<TcpListener>,
    pub(crate) dns_udp: UdpSocket,
    pub(crate) dns_tcp: TcpListener,
    pub(crate) map: OwnedFd,
}

impl Kit {
    pub(crate) fn new() -> Self {
        let listener = || TcpListener::bind("127.77.0.1:0").unwrap();
        // SAFETY: a valid C string; the descriptor is new and ours.
        let map = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"workers".as_ptr(), libc::MFD_CLOEXEC)) };
        nix::unistd::ftruncate(&map, 4096).unwrap();
        let dns_udp = UdpSocket::bind("127.77.0.1:0").unwrap();
        // The same port for both protocols, as the real one has.
        let dns_tcp = TcpListener::bind(dns_udp.local_addr().unwrap()).unwrap();
        Self {
            http: (0..WORKERS).map(|_| listener()).collect(),
            relay: (0..WORKERS).map(|_| listener()).collect(),
            dns_udp,
            dns_tcp,
            map,
        }
    }

    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let http = self.http.iter().map(AsFd::as_fd);
        let relay = self.relay.iter().map(AsFd::as_fd);
        http.chain(relay).chain([self.dns_udp.as_fd(), self.dns_tcp.as_fd(), self.map.as_fd()]).collect()
    }

    /// VIP and port of the relayed service of worker 0.
    pub(crate) fn relay_address(&self) -> SocketAddr {
        self.relay[0].local_addr().unwrap()
    }

    /// Heartbeat, connections and requests of a worker.
    pub(crate) fn state(&self, worker: u32) -> (u64, u32, u32) {
        let mut bytes = [0; 16];
        nix::sys::uio::pread(&self.map, &mut bytes, i64::from(worker) * 16).unwrap();
        (
            u64::from_ne_bytes(bytes[..8].try_into().unwrap()),
            u32::from_ne_bytes(bytes[8..12].try_into().unwrap()),
            u32::from_ne_bytes(bytes[12..].try_into().unwrap()),
        )
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        workers: WORKERS,
        sources: vec![Ipv4Addr::new(127, 77, 0, 5)],
        sources6: Vec::new(),
        limits: Limits::default(),
        halvings: 0,
    }
}

/// An engine process and the directory its socket lies in.
pub(crate) struct Engine {
    pub(crate) child: Child,
    pub(crate) directory: tempfile::TempDir,
    /// Our end of what it was started with, until its hello.
    first: Option<UnixStream>,
}

impl Engine {
    /// An engine with a connection, and a directory for its socket that all users may enter.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let (ours, its) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let first = Some(UnixStream::from_std(ours).unwrap());
        Self { child: spawn(its.into()), directory, first }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    /// The socket for later agents, which goes with a start.
    pub(crate) fn door(&self) -> OwnedFd {
        let listener = std::os::unix::net::UnixListener::bind(self.path()).unwrap();
        // All users may connect: the engine itself decides whom it obeys.
        std::fs::set_permissions(self.path(), PermissionsExt::from_mode(0o666)).unwrap();
        listener.into()
    }

    /// A connection, the first one or one of a later agent, and what the engine says first on it.
    pub(crate) async fn hello(&mut self) -> (Agent, Option<Running>, Vec<OwnedFd>) {
        let stream = match self.first.take() {
            Some(first) => first,
            None => UnixStream::connect(self.path()).await.unwrap(),
        };
        let agent = Agent { stream };
        let (message, descriptors) = agent.receive().await;
        let FromEngine::Hello { version, running } = message else { panic!("{message:?}") };
        assert_eq!(version, PROTOCOL_VERSION);
        (agent, running, descriptors)
    }

    /// Up to the first snapshot in force.
    pub(crate) async fn serving(kit: &Kit, snapshot: Snapshot) -> (Self, Agent) {
        Self::serving_with(settings(), kit, snapshot).await
    }

    /// As [`Engine::serving`], with settings of the test's own.
    pub(crate) async fn serving_with(settings: Settings, kit: &Kit, snapshot: Snapshot) -> (Self, Agent) {
        Self::start().served(settings, kit, snapshot).await
    }

    /// As [`Engine::serving_with`], of an engine that was started already.
    pub(crate) async fn served(self, settings: Settings, kit: &Kit, snapshot: Snapshot) -> (Self, Agent) {
        let mut engine = self;
        let (agent, running, none) = engine.hello().await;
        assert!(running.is_none() && none.is_empty());
        let door = engine.door();
        let mut descriptors = kit.descriptors();
        descriptors.push(door.as_fd());
        agent.send_with(&ToEngine::Start(settings), &descriptors).await;
        let revision = snapshot.revision;
        agent.send(&ToEngine::Snapshot(Arc::new(snapshot))).await;
        assert_eq!(agent.answer().await, FromEngine::Applied { revision });
        (engine, agent)
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "the engine does not exit");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An engine with this as its standard input.
pub(crate) fn spawn(link: OwnedFd) -> Child {
    crate::sandbox::start_with("engine", link.into())
}

/// The agent's end of a connection.
pub(crate) struct Agent {
    pub(crate) stream: UnixStream,
}

impl Agent {
    pub(crate) async fn send(&self, message: &ToEngine) {
        self.send_with(message, &[]).await;
    }

    pub(crate) async fn send_with(&self, message: &ToEngine, descriptors: &[BorrowedFd<'_>]) {
        let frame = encode(message, MAX_TO_ENGINE).unwrap();
        brattice_frames::send(&self.stream, &frame, descriptors).await.unwrap();
    }

    pub(crate) async fn receive(&self) -> (FromEngine, Vec<OwnedFd>) {
        let received = tokio::time::timeout(PATIENCE, brattice_frames::receive(&self.stream, MAX_FROM_ENGINE)).await;
        let frame = received.expect("no answer").unwrap();
        (decode(&frame.body).unwrap(), frame.descriptors)
    }

    pub(crate) async fn answer(&self) -> FromEngine {
        self.receive().await.0
    }

    /// Waits until the engine closes the connection.
    pub(crate) async fn closed(&self) {
        let received = tokio::time::timeout(PATIENCE, brattice_frames::receive(&self.stream, MAX_FROM_ENGINE)).await;
        assert!(received.expect("the connection stays open").is_err());
    }
}
