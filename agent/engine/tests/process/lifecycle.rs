//! The connection to the agent, from hello to shutdown.
#![allow(unsafe_code, reason = "one thread becomes another user, which only the raw call does")]

use std::{
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::Duration,
};

use brattice_wire::{
    engine::{FromEngine, MAX_FROM_ENGINE, ToEngine, encode},
    index::ServiceIndex,
    snapshot::{AliasGeneration, Snapshot, Vpc},
};

use tokio::net::UnixStream;

use crate::{
    Test,
    agent::{Agent, Engine, Kit, assert_unprivileged, block_on, settings, spawn},
};

pub(crate) const TESTS: &[Test] = &[
    ("lifecycle::starts_applies_and_shuts_down", starts_applies_and_shuts_down),
    ("lifecycle::bad_snapshots_are_refused", bad_snapshots_are_refused),
    ("lifecycle::survives_its_agent", survives_its_agent),
    ("lifecycle::junk_costs_a_connection", junk_costs_a_connection),
    ("lifecycle::wrong_descriptors_do_not_start_it", wrong_descriptors_do_not_start_it),
    ("lifecycle::obeys_root_only", obeys_root_only),
    ("lifecycle::the_agent_that_calls_last_is_obeyed", the_agent_that_calls_last_is_obeyed),
    (
        "lifecycle::a_start_without_a_connection_of_the_agent_is_refused",
        a_start_without_a_connection_of_the_agent_is_refused,
    ),
];

fn snapshot(revision: u64) -> Snapshot {
    Snapshot { revision, ..Snapshot::default() }
}

fn vpc(services: Vec<ServiceIndex>) -> Vpc {
    Vpc {
        name: "blue".into(),
        id: "vpc-1".into(),
        arn: String::new(),
        services,
        account: String::new(),
        networks: Vec::new(),
        dns_upstreams: Vec::new(),
        families: (true, false),
    }
}

fn starts_applies_and_shuts_down() {
    block_on(async {
        let kit = Kit::new();
        let (mut engine, agent) = Engine::serving(&kit, snapshot(7)).await;
        assert_unprivileged(engine.child.id());
        agent.send(&ToEngine::Stats).await;
        let FromEngine::Stats(stats) = agent.answer().await else { panic!("no statistics") };
        assert_eq!(stats.revision, 7);
        assert!(stats.sandbox_missing.is_empty(), "{:?}", stats.sandbox_missing);
        for worker in 0..2 {
            let before = kit.state(worker).0;
            assert!(before > 0);
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(kit.state(worker).0 > before, "worker {worker} does not beat");
        }
        agent
            .send(&ToEngine::CloseAliases {
                token: 99,
                aliases: vec![("127.0.0.1".parse().unwrap(), AliasGeneration::new(1))],
            })
            .await;
        assert_eq!(agent.answer().await, FromEngine::AliasesClosed { token: 99 });
        agent.send(&ToEngine::Shutdown { grace_ms: 100 }).await;
        assert!(engine.exit().await.success());
    });
}

fn bad_snapshots_are_refused() {
    block_on(async {
        let kit = Kit::new();
        let (mut engine, agent) = Engine::serving(&kit, snapshot(1)).await;
        let bad = Snapshot { vpcs: vec![vpc(vec![ServiceIndex::new(5)])], ..snapshot(2) };
        agent.send(&ToEngine::Snapshot(Arc::new(bad))).await;
        let FromEngine::Refused { revision: 2, reason } = agent.answer().await else { panic!("not refused") };
        assert!(reason.contains("blue") && reason.contains('5') && reason.len() <= 1024, "{reason}");
        agent.send(&ToEngine::Stats).await;
        let FromEngine::Stats(stats) = agent.answer().await else { panic!("no statistics") };
        assert_eq!(stats.revision, 1, "the one before stays");
        agent.send(&ToEngine::Snapshot(Arc::new(snapshot(3)))).await;
        assert_eq!(agent.answer().await, FromEngine::Applied { revision: 3 });
        assert!(engine.is_running());
    });
}

fn inodes(descriptors: &[impl AsRawFd]) -> Vec<u64> {
    let of = |fd: &dyn AsRawFd| {
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .map(|_| std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap())
            .map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
            .unwrap()
    };
    descriptors.iter().map(|descriptor| of(descriptor)).collect()
}

fn survives_its_agent() {
    block_on(async {
        let kit = Kit::new();
        let (mut engine, agent) = Engine::serving(&kit, snapshot(4)).await;
        let mut agent = agent;
        for _ in 0..3 {
            drop(agent);
            tokio::time::sleep(Duration::from_millis(120)).await;
            assert!(engine.is_running());
            let (again, running, descriptors) = engine.hello().await;
            let running = running.expect("it runs");
            assert_eq!((running.revision, &running.settings), (4, &settings()));
            assert_eq!(inodes(&descriptors), inodes(&kit.descriptors()));
            again.send(&ToEngine::Stats).await;
            assert!(matches!(again.answer().await, FromEngine::Stats(_)));
            again.send(&ToEngine::Ping).await;
            assert_eq!(again.answer().await, FromEngine::Pong);
            agent = again;
        }
        assert_unprivileged(engine.child.id());
    });
}

fn junk_costs_a_connection() {
    block_on(async {
        let kit = Kit::new();
        let (mut engine, agent) = Engine::serving(&kit, snapshot(1)).await;
        let hello = encode(&FromEngine::AliasesClosed { token: u64::MAX }, MAX_FROM_ENGINE).unwrap();
        let again = encode(&ToEngine::Start(settings()), MAX_FROM_ENGINE).unwrap();
        let mut agent = agent;
        for junk in
            [&[0xff; 64][..], b"GET / HTTP/1.1\r\n\r\n", &[0, 0, 0, 3, 200, 1, 2], &[0, 0, 0, 0], &hello, &again]
        {
            brattice_frames::send(&agent.stream, junk, &[]).await.unwrap();
            if junk.len() < 4 {
                continue;
            }
            // A length that is allowed but never comes: the agent hangs up.
            nix::sys::socket::shutdown(agent.stream.as_raw_fd(), nix::sys::socket::Shutdown::Write).unwrap();
            agent.closed().await;
            let (next, running, _) = engine.hello().await;
            assert_eq!(running.expect("still running").revision, 1);
            agent = next;
        }
        // Descriptors where none belong.
        let stats = encode(&ToEngine::Stats, MAX_FROM_ENGINE).unwrap();
        brattice_frames::send(&agent.stream, &stats, &kit.descriptors()).await.unwrap();
        agent.closed().await;
        let (agent, ..) = engine.hello().await;
        agent.send(&ToEngine::Stats).await;
        assert!(matches!(agent.answer().await, FromEngine::Stats(_)));
        assert!(engine.is_running());
    });
}

fn wrong_descriptors_do_not_start_it() {
    block_on(async {
        let kit = Kit::new();
        let all = kit.descriptors();
        let mut swapped = all.clone();
        swapped.swap(0, 4);
        let mut no_map = all.clone();
        no_map[6] = all[0];
        // Of the last all are right but the socket for later agents: one of TCP is none.
        let cases = [(&all[..6], true), (&[], true), (&swapped, true), (&no_map, true), (&all, false)];
        for (wrong, with_door) in cases {
            let mut engine = Engine::start();
            let (agent, running, _) = engine.hello().await;
            assert!(running.is_none());
            let door = engine.door();
            let mut descriptors = wrong.to_vec();
            descriptors.push(if with_door { door.as_fd() } else { all[0] });
            agent.send_with(&ToEngine::Start(settings()), &descriptors).await;
            agent.closed().await;
            assert_eq!(engine.exit().await.code(), Some(3), "it cannot be started any more");
        }
        let mut engine = Engine::start();
        let (agent, ..) = engine.hello().await;
        agent.send(&ToEngine::Snapshot(Arc::default())).await;
        agent.closed().await;
        assert_eq!(engine.exit().await.code(), Some(3), "a snapshot is no start");
        // The control.
        let (mut engine, agent) = Engine::serving(&kit, snapshot(1)).await;
        agent.send(&ToEngine::Stats).await;
        assert!(matches!(agent.answer().await, FromEngine::Stats(_)));
        assert!(engine.is_running());
    });
}

fn obeys_root_only() {
    block_on(async {
        let kit = Kit::new();
        let (mut engine, agent) = Engine::serving(&kit, snapshot(1)).await;
        let path = engine.path();
        // The raw call changes this thread only.
        let foreign = std::thread::spawn(move || {
            // SAFETY: takes integers only.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 61_300, 61_300, 61_300) }, 0);
            let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        });
        let foreign = Agent { stream: UnixStream::from_std(foreign.join().unwrap()).unwrap() };
        // Not a byte, not a descriptor.
        foreign.closed().await;
        // And the agent did not lose its place.
        agent.send(&ToEngine::Stats).await;
        assert!(matches!(agent.answer().await, FromEngine::Stats(_)));
        drop(agent);
        let (agent, running, _) = engine.hello().await;
        assert!(running.is_some());
        agent.send(&ToEngine::Stats).await;
        assert!(matches!(agent.answer().await, FromEngine::Stats(_)));
    });
}

/// An agent that hangs keeps its connection open: its successor is obeyed all the same.
fn the_agent_that_calls_last_is_obeyed() {
    block_on(async {
        let kit = Kit::new();
        let (mut engine, first) = Engine::serving(&kit, snapshot(1)).await;
        let (second, running, _) = engine.hello().await;
        assert_eq!(running.expect("it runs").revision, 1);
        first.closed().await;
        second.send(&ToEngine::Snapshot(Arc::new(snapshot(2)))).await;
        assert_eq!(second.answer().await, FromEngine::Applied { revision: 2 });
    });
}

fn a_start_without_a_connection_of_the_agent_is_refused() {
    // Whatever is not a socket.
    let output = crate::sandbox::start("engine").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("standard input") && text.contains("the agent starts"), "{text}");
    // Whose other end is closed.
    let (_, its) = std::os::unix::net::UnixStream::pair().unwrap();
    let output = spawn(its.into()).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stdout).unwrap().contains("did not start this engine"));
}
