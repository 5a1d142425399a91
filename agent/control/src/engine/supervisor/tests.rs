//! Supervision with a fake engine: this test program again, controlled by its environment.

mod fake_engine;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;

use brattice_abi::{SLOT_HTTP, WorkerState};
use brattice_wire::engine::{
    FromEngine, Limits, MAX_FROM_ENGINE, MAX_TO_ENGINE, PROTOCOL_VERSION, Running, Settings, body_length, decode,
    descriptor_count, encode,
};
use brattice_wire::records::Query;
use brattice_wire::snapshot::AliasGeneration;
use rustix::net::sockopt::socket_cookie;

use tokio::net::UnixStream;

use super::failures::MAX_FAILURES;
use super::messages::MAX_STATS_NAME;
use super::*;
use crate::engine::link::send;
use crate::engine::outputs::{LogDestination, MetricsAddress};

const WORKERS: u32 = 1;

/// The slots of a data path that is none: real sockets on loopback, and a table.
#[derive(Default)]
struct FakeSlots {
    table: Mutex<BTreeMap<u32, u64>>,
    address: Mutex<Option<std::net::SocketAddr>>,
    made: Mutex<u32>,
    /// Whether heartbeats stand still.
    silent: Mutex<bool>,
}

impl Slots for FakeSlots {
    fn set(&self, slot: u32, socket: BorrowedFd<'_>) -> Result<(), String> {
        self.table.lock().unwrap().insert(slot, socket_cookie(socket).unwrap());
        Ok(())
    }

    fn clear(&self, slot: u32) -> Result<(), String> {
        self.table.lock().unwrap().remove(&slot);
        Ok(())
    }

    fn cookie(&self, slot: u32) -> Option<u64> {
        self.table.lock().unwrap().get(&slot).copied()
    }

    fn worker_states(&self, _: u32) -> Vec<WorkerState> {
        let heartbeat_ns = if *self.silent.lock().unwrap() { 1 } else { crate::clock::boottime_ns() };
        vec![WorkerState { heartbeat_ns, connections: 0, requests: 0 }]
    }

    fn sockets(&self) -> Result<Sockets, String> {
        *self.made.lock().unwrap() += 1;
        let tcp = || OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        *self.address.lock().unwrap() = Some(http.local_addr().unwrap());
        let udp = OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let map = OwnedFd::from(tempfile::tempfile().unwrap());
        Ok(Sockets::new(WORKERS, false, vec![http.into(), tcp(), udp, tcp(), map]).unwrap())
    }
}

fn settings() -> Settings {
    Settings {
        workers: WORKERS,
        sources: vec![[169, 254, 64, 1].into()],
        sources6: Vec::new(),
        limits: Limits::default(),
        halvings: 0,
    }
}

struct Bench {
    root: tempfile::TempDir,
    slots: Arc<FakeSlots>,
    handle: Handle,
}

fn supervision(root: &std::path::Path, behaviour: &str) -> Supervision {
    // The behaviour is a file, so that the next engine can behave otherwise.
    std::fs::write(root.join("behaviour"), behaviour).unwrap();
    Supervision {
        program: std::env::current_exe().unwrap(),
        arguments: vec![
            "--ignored".into(),
            "--exact".into(),
            "engine::supervisor::tests::fake_engine".into(),
            "--nocapture".into(),
            "--".into(),
        ],
        socket: root.join("engine.sock"),
        record: root.join("engine.json"),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        stuck: STUCK,
        silent: UNANSWERED,
        settings: settings(),
        oom_events: Some(root.join("memory.events")),
        access_log: LogDestination::None,
        access_log_sample: 1,
        metrics: MetricsAddress::None,
    }
}

impl Bench {
    async fn start(behaviour: &str) -> Self {
        Self::start_with(behaviour, STUCK).await
    }

    async fn start_with(behaviour: &str, stuck: Duration) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), behaviour, stuck, UNANSWERED).await
    }

    async fn start_in(root: tempfile::TempDir, behaviour: &str, stuck: Duration, silent: Duration) -> Self {
        let slots = Arc::new(FakeSlots::default());
        let mut supervision = supervision(root.path(), behaviour);
        (supervision.stuck, supervision.silent) = (stuck, silent);
        supervision.arguments.pop();
        // A test program takes no arguments of ours: the folder travels as a filter that matches nothing.
        supervision.arguments.extend(["--skip".into(), root.path().join("folder").into_os_string()]);
        let handle = start(supervision, slots.clone()).unwrap();
        handle.snapshot(Arc::new(Snapshot { revision: 1, ..Snapshot::default() })).await;
        Self { root, slots, handle }
    }

    fn behave(&self, behaviour: &str) {
        std::fs::write(self.root.path().join("behaviour"), behaviour).unwrap();
    }

    async fn event(&mut self) -> Event {
        tokio::time::timeout(Duration::from_secs(10), self.handle.events.recv()).await.expect("an event").unwrap()
    }

    async fn until(&mut self, wanted: &Event) {
        while self.event().await != *wanted {}
    }

    fn pid(&self) -> u32 {
        self.handle.view.borrow().pid.expect("an engine")
    }

    /// `"running"` with another process than `not`.
    async fn running(&mut self, not: u32) -> u32 {
        let view = self.handle.view.wait_for(|view| view.state == "running" && view.pid.is_some_and(|pid| pid != not));
        tokio::time::timeout(Duration::from_secs(10), view).await.expect("a running engine").unwrap().pid.unwrap()
    }

    fn kill(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    async fn stays_down(&mut self) {
        let view = self.handle.view.wait_for(|view| view.given_up.is_some() && view.state == "down");
        tokio::time::timeout(Duration::from_secs(10), view).await.expect("it stays down").unwrap();
    }

    fn filled(&self) -> bool {
        self.slots.table.lock().unwrap().len() == 4
    }

    async fn end(self) {
        self.handle.stop(Duration::ZERO).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_started_fed_and_stopped() {
    let mut bench = Bench::start("good").await;
    assert_eq!(bench.event().await, Event::Applied(1));
    bench.running(0).await;
    assert!(bench.filled());
    bench.handle.snapshot(Arc::new(Snapshot { revision: 2, ..Snapshot::default() })).await;
    assert_eq!(bench.event().await, Event::Applied(2));
    let aliases = vec![(IpAddr::from([100, 127, 0, 1]), AliasGeneration::new(7))];
    bench.handle.close(aliases.clone()).await;
    assert_eq!(bench.event().await, Event::Closed(aliases));
    assert_eq!(bench.handle.asker().stats().await.unwrap().requests, 42);
    bench.handle.stop(Duration::from_millis(100)).await;
    assert!(bench.slots.table.lock().unwrap().is_empty(), "nobody answers any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_is_replaced_with_the_same_sockets() {
    let mut bench = Bench::start("good").await;
    let first = bench.running(0).await;
    let cookies = bench.slots.table.lock().unwrap().clone();
    // Asked of the first, never answered by it: its death is the answer.
    bench.behave("good silent");
    bench.kill();
    let second = bench.running(first).await;
    assert_ne!(first, second);
    assert_eq!(*bench.slots.table.lock().unwrap(), cookies, "the same sockets in the same slots");
    assert_eq!(*bench.slots.made.lock().unwrap(), 1);
    bench.until(&Event::Applied(1)).await;
    let aliases = vec![(IpAddr::from([100, 127, 0, 9]), AliasGeneration::new(1))];
    bench.handle.close(aliases.clone()).await;
    bench.behave("good");
    tokio::time::sleep(Duration::from_millis(100)).await;
    bench.kill();
    bench.until(&Event::Closed(aliases)).await;
    bench.running(second).await;
    assert_eq!(bench.handle.view.borrow().restarts, 2);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_successor_the_slots_are_emptied_and_what_waits_is_reset() {
    let mut bench = Bench::start("good").await;
    let first = bench.running(0).await;
    let address = bench.slots.address.lock().unwrap().unwrap();
    let mut waiting = std::net::TcpStream::connect(address).unwrap();
    waiting.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    bench.behave("slow");
    bench.kill();
    let started = std::time::Instant::now();
    let error =
        tokio::task::spawn_blocking(move || std::io::Read::read(&mut waiting, &mut [0; 1]).unwrap_err()).await.unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(bench.slots.table.lock().unwrap().is_empty());
    bench.handle.view.wait_for(|view| view.reset == 1).await.unwrap();
    bench.running(first).await;
    assert!(bench.filled(), "filled again by the successor");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_engine_is_killed_and_replaced() {
    for behaviour in ["junk", "huge", "future", "token", "flood", "descriptors", "wordy", "version", "wrong-hello"] {
        let mut bench = Bench::start(behaviour).await;
        let killed = bench.handle.view.wait_for(|view| view.last_error.is_some());
        tokio::time::timeout(Duration::from_secs(10), killed).await.expect(behaviour).unwrap();
        bench.behave("good");
        loop {
            let replaced = |view: &View| view.state == "running" && view.restarts > 0;
            let one = bench.handle.view.wait_for(|view| replaced(view) || view.given_up.is_some());
            let view = tokio::time::timeout(Duration::from_secs(10), one).await.expect(behaviour).unwrap().clone();
            if replaced(&view) {
                break;
            }
            // It failed five times before it became good.
            bench.handle.restarter().restart(Duration::ZERO, Duration::from_secs(10)).await.unwrap();
        }
        assert!(bench.handle.view.borrow().last_error.is_some(), "{behaviour}");
        bench.end().await;
    }
}

/// As the kernel does it: the count goes up, then the process is gone.
#[tokio::test(flavor = "multi_thread")]
async fn ends_for_want_of_memory_are_no_crash_loop() {
    let mut bench = Bench::start("good").await;
    let mut pid = bench.running(0).await;
    for kills in 1..=MAX_FAILURES as u64 + 2 {
        std::fs::write(bench.root.path().join("memory.events"), format!("low 0\noom 9\noom_kill {kills}\n")).unwrap();
        bench.kill();
        pid = bench.running(pid).await;
        let view = bench.handle.view.borrow().clone();
        assert_eq!((view.memory_kills, view.restarts, view.given_up), (kills, kills, None));
        let halvings = std::fs::read_to_string(bench.root.path().join("halvings")).unwrap();
        let expected = u32::try_from(kills).unwrap().min(memory::MOST_HALVINGS);
        assert_eq!(halvings, expected.to_string(), "the successor has smaller budgets");
        let says = view.short_of_memory.unwrap();
        assert!(says.contains("want of memory") && says.contains(&format!("1/{}", 1 << expected)), "{says}");
    }
    // A crash is one, though the kernel ended others before.
    for _ in 0..MAX_FAILURES {
        bench.kill();
        if bench
            .handle
            .view
            .wait_for(|view| view.given_up.is_some() || view.pid.is_some_and(|now| now != pid))
            .await
            .unwrap()
            .given_up
            .is_some()
        {
            break;
        }
        let view = bench
            .handle
            .view
            .wait_for(|view| view.given_up.is_some() || view.state == "running")
            .await
            .unwrap()
            .clone();
        pid = view.pid.unwrap_or(pid);
    }
    bench.stays_down().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_fails_five_times_stays_down_until_the_documents_change() {
    let mut bench = Bench::start("crash").await;
    bench.stays_down().await;
    bench.behave("good");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let view = bench.handle.view.borrow().clone();
    assert_eq!((view.state, view.restarts, view.pid), ("down", MAX_FAILURES as u64, None), "no more tries");
    assert!(view.given_up.unwrap().contains("5 times within 60 s"));
    // Workloads come and go: no reason to try again.
    bench.handle.snapshot(Arc::new(Snapshot { revision: 2, ..Snapshot::default() })).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.handle.view.borrow().state, "down");
    bench.handle.revive().await;
    bench.running(0).await;
    bench.until(&Event::Applied(2)).await;
    assert!(bench.filled());
    assert_eq!(bench.handle.view.borrow().given_up, None);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_it_stays_down_what_waits_and_what_comes_is_reset_until_an_operator_restarts_it() {
    let mut bench = Bench::start("good").await;
    let mut pid = 0;
    for _ in 1..MAX_FAILURES {
        pid = bench.running(pid).await;
        bench.kill();
    }
    bench.running(pid).await;
    assert!(bench.filled(), "four failures are no reason to stay down");
    let address = bench.slots.address.lock().unwrap().unwrap();
    let waits = |address| {
        let mut waiting = std::net::TcpStream::connect(address).unwrap();
        waiting.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        move || std::io::Read::read(&mut waiting, &mut [0; 1]).unwrap_err().kind()
    };
    let early = waits(address);
    bench.kill();
    bench.stays_down().await;
    assert!(bench.slots.table.lock().unwrap().is_empty());
    let late = waits(address);
    for wait in [early, late] {
        let kind = tokio::task::spawn_blocking(wait).await.unwrap();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
    }
    let restart = || bench.handle.restarter().restart(Duration::ZERO, Duration::from_secs(10));
    let pid = restart().await.unwrap();
    assert_eq!(bench.running(0).await, pid);
    assert!(bench.filled());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_an_engine_that_still_fails_says_so() {
    let mut bench = Bench::start("crash").await;
    bench.stays_down().await;
    let error = bench.handle.restarter().restart(Duration::ZERO, Duration::from_secs(10)).await.unwrap_err();
    assert!(error.contains("stays down"), "{error}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_by_an_operator_are_no_failures() {
    let mut bench = Bench::start("good").await;
    let mut pid = bench.running(0).await;
    for _ in 0..MAX_FAILURES + 2 {
        let next = bench.handle.restarter().restart(Duration::from_secs(1), Duration::from_secs(10)).await.unwrap();
        assert_ne!(next, pid);
        pid = next;
    }
    // One that does not finish is ended.
    bench.behave("good deaf");
    bench.kill();
    pid = bench.running(pid).await;
    bench.behave("good");
    let next = bench.handle.restarter().restart(Duration::ZERO, Duration::from_secs(10)).await.unwrap();
    assert_ne!(next, pid);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_engine_is_replaced() {
    let mut bench = Bench::start_with("good", Duration::from_millis(500)).await;
    let first = bench.running(0).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(bench.pid(), first, "not while its heart beats");
    *bench.slots.silent.lock().unwrap() = true;
    bench.running(first).await;
    assert!(bench.handle.view.borrow().last_error.as_ref().is_some_and(|why| why.contains("heartbeat")));
    *bench.slots.silent.lock().unwrap() = false;
    bench.end().await;
}

/// Its heart beats and it serves, but it would never take a revocation.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_cannot_be_told_anything_is_replaced() {
    for (behaviour, why) in [("good hangs-up", "its link is closed"), ("good mute", "it does not answer")] {
        let root = tempfile::tempdir().unwrap();
        let mut bench = Bench::start_in(root, behaviour, STUCK, Duration::from_secs(1)).await;
        assert_eq!(bench.event().await, Event::Applied(1));
        let first = bench.pid();
        let began = std::time::Instant::now();
        bench.behave("good");
        // Asked of an engine that never answers: its end is the answer.
        let aliases = vec![(IpAddr::from([100, 127, 0, 9]), AliasGeneration::new(1))];
        bench.handle.close(aliases.clone()).await;
        bench.until(&Event::Closed(aliases)).await;
        bench.running(first).await;
        assert!(began.elapsed() < Duration::from_secs(9), "{behaviour}: {:?}", began.elapsed());
        let view = bench.handle.view.borrow().clone();
        assert!(view.last_error.as_ref().is_some_and(|error| error.contains(why)), "{behaviour}: {view:?}");
        assert_eq!(view.restarts, 1);
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_loses_its_link_and_answers_a_call_stays() {
    let root = tempfile::tempdir().unwrap();
    let mut bench = Bench::start_in(root, "good redial", STUCK, Duration::from_secs(1)).await;
    assert_eq!(bench.event().await, Event::Applied(1));
    let first = bench.pid();
    // Sent on the second link, as the first one is closed by now or soon.
    let aliases = vec![(IpAddr::from([100, 127, 0, 9]), AliasGeneration::new(1))];
    bench.handle.close(aliases.clone()).await;
    bench.until(&Event::Closed(aliases)).await;
    // It is asked for signs of life, and gives them.
    tokio::time::sleep(brattice_wire::engine::PING * 2).await;
    let view = bench.handle.view.borrow().clone();
    assert_eq!((view.pid, view.restarts, view.state), (Some(first), 0, "running"), "{view:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_waits_where_its_socket_cannot_be_made() {
    let root = tempfile::tempdir().unwrap();
    let obstacle = root.path().join("engine.sock");
    std::fs::create_dir(&obstacle).unwrap();
    let mut bench = Bench::start_in(root, "good", STUCK, UNANSWERED).await;
    let waits =
        bench.handle.view.wait_for(|view| view.last_error.as_ref().is_some_and(|why| why.contains("engine.sock")));
    tokio::time::timeout(Duration::from_secs(10), waits).await.expect("it says why").unwrap();
    let pid = bench.pid();
    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(bench.running(0).await, pid, "the same one is started");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&obstacle).unwrap());
    assert_eq!(mode & 0o777, 0o600, "for root alone");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_takes_the_running_engine_over() {
    let mut bench = Bench::start("good").await;
    let pid = bench.running(0).await;
    let Bench { root, slots, handle } = bench;
    // The agent ends; the engine and the slots stay.
    drop(handle);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut again = supervision(root.path(), "good");
    again.arguments.pop();
    again.arguments.extend(["--skip".into(), root.path().join("folder").into_os_string()]);
    let handle = start(again, slots.clone()).unwrap();
    handle.snapshot(Arc::new(Snapshot { revision: 5, ..Snapshot::default() })).await;
    let mut bench = Bench { root, slots, handle };
    assert_eq!(bench.running(0).await, pid);
    bench.until(&Event::Applied(5)).await;
    assert_eq!(bench.handle.view.borrow().restarts, 0);
    assert_eq!(*bench.slots.made.lock().unwrap(), 1);
    bench.kill();
    bench.running(pid).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_engine_with_other_sockets_is_not_taken_over() {
    let mut bench = Bench::start("good").await;
    let pid = bench.running(0).await;
    let Bench { root, slots, handle } = bench;
    drop(handle);
    tokio::time::sleep(Duration::from_millis(100)).await;
    slots.table.lock().unwrap().insert(SLOT_HTTP, 1);
    let mut again = supervision(root.path(), "good");
    again.arguments.pop();
    again.arguments.extend(["--skip".into(), root.path().join("folder").into_os_string()]);
    let handle = start(again, slots.clone()).unwrap();
    handle.snapshot(Arc::new(Snapshot { revision: 5, ..Snapshot::default() })).await;
    let mut bench = Bench { root, slots, handle };
    assert_ne!(bench.running(0).await, pid);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_engine_gets_the_outputs_and_callers_are_handed_over() {
    let root = tempfile::tempdir().unwrap();
    let (log, moved, socket) =
        (root.path().join("access.log"), root.path().join("access.log.1"), root.path().join("metrics.sock"));
    let supervision = || {
        let mut supervision = supervision(root.path(), "good");
        supervision.arguments.pop();
        supervision.arguments.extend(["--skip".into(), root.path().join("folder").into_os_string()]);
        supervision.access_log = LogDestination::File(log.clone());
        supervision.access_log_sample = 3;
        supervision.metrics = MetricsAddress::Unix(socket.clone());
        supervision
    };
    let slots = Arc::new(FakeSlots::default());
    let handle = start(supervision(), slots.clone()).unwrap();
    let (connection, _keep) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(!handle.attend(Query::Flows, connection.into()).await, "no engine serves yet");
    handle.snapshot(Arc::new(Snapshot { revision: 1, ..Snapshot::default() })).await;
    let first = running(&handle, 0).await;
    assert_eq!(eventually(&log, |text| text.lines().count() == 1).await, format!("{first}\n"));
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&socket).unwrap());

    // Renamed and opened again: the new file has the next word.
    std::fs::rename(&log, &moved).unwrap();
    handle.reopen().await;
    assert_eq!(eventually(&log, |text| text.lines().count() == 1).await, format!("{first}\n"));
    assert_eq!(std::fs::read_to_string(&moved).unwrap().lines().count(), 1);

    // A caller's connection arrives, and the answer on it.
    let (connection, mut caller) = std::os::unix::net::UnixStream::pair().unwrap();
    let asked = Query::Follow { backlog_lines: 7 };
    assert!(handle.attend(asked.clone(), connection.into()).await);
    let answer = tokio::task::spawn_blocking(move || std::io::read_to_string(&mut caller).unwrap()).await.unwrap();
    assert_eq!(answer, format!("{asked:?}\n"));

    // A successor gets them, too.
    let pid = rustix::process::Pid::from_raw(first.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let second = running(&handle, first).await;
    assert_eq!(eventually(&log, |text| text.lines().count() == 2).await, format!("{first}\n{second}\n"));

    // A new agent gives the log anew and takes the metrics' socket over.
    drop(handle);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let handle = start(supervision(), slots).unwrap();
    handle.snapshot(Arc::new(Snapshot { revision: 5, ..Snapshot::default() })).await;
    assert_eq!(running(&handle, 0).await, second, "adopted");
    eventually(&log, |text| text.lines().count() == 3).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(handle.view.borrow().metrics_error, None);
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&socket).unwrap()), inode);
    handle.stop(Duration::ZERO).await;
}

async fn running(handle: &Handle, not: u32) -> u32 {
    let mut view = handle.view.clone();
    let view = view.wait_for(|view| view.state == "running" && view.pid.is_some_and(|pid| pid != not));
    tokio::time::timeout(Duration::from_secs(10), view).await.expect("a running engine").unwrap().pid.unwrap()
}

async fn eventually(path: &std::path::Path, fits: impl Fn(&str) -> bool) -> String {
    for _ in 0..500 {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if fits(&text) {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}: {:?}", path.display(), std::fs::read_to_string(path));
}

/// The fake engine. `--skip <folder>/folder` says where the socket and the behaviour are.
#[test]
#[ignore = "started by other tests as an engine"]
fn fake_engine() {
    let argument = std::env::args().next_back().unwrap();
    let folder = PathBuf::from(argument);
    let folder = folder.parent().unwrap();
    let behaviour = std::fs::read_to_string(folder.join("behaviour")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fake_engine::run(folder, &behaviour));
    std::process::exit(0);
}
