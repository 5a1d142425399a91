//! Memory, in a cgroup of 256 MiB: a caller that lets thousands of downloads stall is refused more of them, and another
//! workload loses nothing. Without budgets the same ends the engine.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use brattice_wire::engine::{FromEngine, Limits, Settings, Stats, ToEngine};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

use crate::{
    Test,
    agent::{Agent, Engine, Kit, PATIENCE, block_on, settings},
    relaying::{BLIND, SEEING, snapshot},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "budget::who_lets_downloads_stall_is_shed_and_others_lose_nothing",
        who_lets_downloads_stall_is_shed_and_others_lose_nothing,
    ),
    ("budget::without_budgets_the_same_ends_the_engine", without_budgets_the_same_ends_the_engine),
];

const MIB: u64 = 1 << 20;
/// What agent and engine may have. Of cgroup v1, sockets have a part of their own.
const ALL: u64 = 256 * MIB;
const V1_SOCKETS: u64 = 64 * MIB;
/// Downloads that stall.
const DOWNLOADS: usize = 2_500;
/// Name of the service.
const HOST: &str = "orders-svc-1.svc.brattice.internal";

/// A cgroup with a bound of memory; removed when dropped.
struct Cgroup {
    folder: PathBuf,
    /// Where this process was before.
    before: PathBuf,
}

impl Cgroup {
    fn new() -> Self {
        let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = |controller: &str| {
            let line = cgroups.lines().find(|line| line.split(':').nth(1) == Some(controller)).unwrap();
            line.splitn(3, ':').nth(2).unwrap().trim_start_matches('/').to_owned()
        };
        let name = format!("brattice-budget-{}", std::process::id());
        let v2 = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].into_iter().find(|root| {
            fs::read_to_string(format!("{root}/cgroup.controllers"))
                .is_ok_and(|controllers| controllers.split_ascii_whitespace().any(|controller| controller == "memory"))
        });
        let set = |folder: &Path, file: &str, value: &str| {
            fs::write(folder.join(file), value).unwrap_or_else(|e| panic!("{}/{file}: {e}", folder.display()));
        };
        if let Some(root) = v2 {
            set(Path::new(root), "cgroup.subtree_control", "+memory");
            let folder = Path::new(root).join(name);
            fs::create_dir(&folder).unwrap();
            set(&folder, "memory.max", &ALL.to_string());
            // There may be no swap.
            let _ = fs::write(folder.join("memory.swap.max"), "0");
            return Self { folder, before: Path::new(root).join(own("")) };
        }
        // No memory controller in v2 here: v1 counts the memory of sockets apart, so the two bounds together are what v2
        // would have in one.
        let root = Path::new("/sys/fs/cgroup/memory");
        let folder = root.join(name);
        fs::create_dir(&folder).expect("neither v2 nor v1 has a memory controller");
        set(&folder, "memory.limit_in_bytes", &(ALL - V1_SOCKETS).to_string());
        set(&folder, "memory.kmem.tcp.limit_in_bytes", &V1_SOCKETS.to_string());
        Self { folder, before: root.join(own("memory")) }
    }

    /// What is started there.
    fn within<T>(&self, start: impl FnOnce() -> T) -> T {
        let enter = |folder: &Path| fs::write(folder.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        enter(&self.folder);
        let started = start();
        enter(&self.before);
        started
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let started = Instant::now();
        while fs::remove_dir(&self.folder).is_err() && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// `/bulk` never ends; everything else is `ok`.
async fn target() -> SocketAddr {
    let listener = TcpSocket::new_v4().unwrap();
    // What waits in the target is not the engine's.
    listener.set_send_buffer_size(32 * 1024).unwrap();
    listener.bind("127.88.1.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1_024).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let piece: Rc<[u8]> = vec![7; 64 * 1024].into();
        while let Ok((mut stream, _)) = listener.accept().await {
            let piece = Rc::clone(&piece);
            tokio::task::spawn_local(async move {
                while let Some(head) = read_until(&mut stream, b"\r\n\r\n").await {
                    if !head.starts_with("GET /bulk ") {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n").await;
                    while stream.write_all(&piece).await.is_ok() {}
                    return;
                }
            });
        }
    });
    address
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(bytes).ok()
}

async fn connect(alias: &str, vip: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{alias}:0").parse().unwrap())?;
    socket.connect(vip).await
}

/// Asks all the time until it is stopped; every call must be answered. How often it asked, and its longest wait.
async fn bystander(vip: SocketAddr, mut end: oneshot::Receiver<()>) -> (usize, Duration) {
    let (mut calls, mut worst) = (0, Duration::ZERO);
    let mut stream = connect(BLIND, vip).await.unwrap();
    while end.try_recv().is_err() {
        if calls % 10 == 9 {
            stream = connect(BLIND, vip).await.unwrap();
        }
        let started = Instant::now();
        stream.write_all(format!("GET /tick HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, read_until(&mut stream, b"\r\n\r\nok")).await;
        let answer = answer.expect("an answer in time").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        worst = worst.max(started.elapsed());
        calls += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (calls, worst)
}

/// Begins downloads and reads nothing; those that are still open.
async fn stall(vip: SocketAddr) -> Vec<TcpStream> {
    let mut begun = JoinSet::new();
    for _ in 0..DOWNLOADS {
        begun.spawn_local(async move {
            // The engine may be gone: then nothing accepts.
            let connected = tokio::time::timeout(Duration::from_secs(2), connect(SEEING, vip)).await;
            let mut stream = connected.ok()?.ok()?;
            stream.write_all(format!("GET /bulk HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.ok()?;
            Some(stream)
        });
        if begun.len() >= 64
            && let Some(Ok(Some(stream))) = begun.join_next().await
        {
            KEPT.with_borrow_mut(|kept| kept.push(stream));
        }
    }
    let rest = begun.join_all().await;
    let kept = KEPT.with_borrow_mut(std::mem::take);
    kept.into_iter().chain(rest.into_iter().flatten()).collect()
}

thread_local! {
    static KEPT: std::cell::RefCell<Vec<TcpStream>> = const { std::cell::RefCell::new(Vec::new()) };
}

async fn stats(agent: &Agent) -> Stats {
    agent.send(&ToEngine::Stats).await;
    match agent.answer().await {
        FromEngine::Stats(stats) => stats,
        other => panic!("{other:?}"),
    }
}

fn hits(stats: &Stats, name: &str) -> u64 {
    stats.limits_hit.iter().find(|(limit, _)| limit == name).unwrap().1
}

/// Resident memory of a process, bytes.
fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

async fn serving(cgroup: &Cgroup, kit: &Kit, settings: Settings) -> (Engine, Agent, SocketAddr) {
    let vip = kit.http[0].local_addr().unwrap();
    let mut snapshot = snapshot(1, vip, &[target().await]);
    snapshot.vpcs[1].services = vec![brattice_wire::index::ServiceIndex::new(0)];
    let (engine, agent) = cgroup.within(Engine::start).served(settings, kit, snapshot).await;
    (engine, agent, vip)
}

fn who_lets_downloads_stall_is_shed_and_others_lose_nothing() {
    let (cgroup, kit) = (Cgroup::new(), Kit::new());
    block_on(tokio::task::LocalSet::new().run_until(async {
        let (mut engine, agent, vip) = serving(&cgroup, &kit, settings()).await;
        let [_, all] = stats(&agent).await.memory;
        assert!((32 * MIB..ALL).contains(&all), "traffic may have {all} bytes of the cgroup's");
        let (end, ended) = oneshot::channel();
        let other = tokio::task::spawn_local(bystander(vip, ended));
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = resident(engine.child.id());
        let stalled = stall(vip).await;
        // What is let in stays for a while, beside the bystander.
        let started = Instant::now();
        let mut most = 0;
        while started.elapsed() < Duration::from_secs(3) {
            assert!(engine.is_running(), "the engine is gone");
            let now = stats(&agent).await;
            assert!(now.busiest_memory[0] <= now.busiest_memory[1], "{now:?}");
            most = most.max(resident(engine.child.id()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let during = stats(&agent).await;
        assert!(hits(&during, "bytes_per_workload") > DOWNLOADS as u64 / 2, "{during:?}");
        assert!(during.requests_open > 10, "some are let in: {during:?}");
        drop(stalled);
        let _ = end.send(());
        let (calls, worst) = other.await.unwrap();
        assert!(calls > 100, "{calls} calls");
        // What the flood took is given back.
        let started = Instant::now();
        while resident(engine.child.id()) > before + 8 * MIB {
            let now = resident(engine.child.id());
            assert!(started.elapsed() < PATIENCE, "{before} bytes before, {most} at most, {now} now");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let after = resident(engine.child.id());
        println!(
            "{} of {DOWNLOADS} downloads were open, {} KiB before, {} at most, {} after {:?}; a bystander waited at most \
             {worst:?} in {calls} calls",
            during.requests_open,
            before >> 10,
            most >> 10,
            after >> 10,
            started.elapsed()
        );
    }));
}

fn without_budgets_the_same_ends_the_engine() {
    let (cgroup, kit) = (Cgroup::new(), Kit::new());
    block_on(tokio::task::LocalSet::new().run_until(async {
        let limits = Limits { memory_bytes: 1 << 50, ..Limits::default() };
        let (mut engine, _agent, vip) = serving(&cgroup, &kit, Settings { limits, ..settings() }).await;
        let mut stalled = Vec::new();
        let started = Instant::now();
        while engine.is_running() && started.elapsed() < PATIENCE {
            if stalled.len() < DOWNLOADS {
                stalled.extend(stall(vip).await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let status = engine.exit().await;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL), "{status}");
        println!("the kernel ended it at {} downloads", stalled.len());
    }));
}
