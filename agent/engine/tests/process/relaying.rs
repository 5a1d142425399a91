//! Bypassed connections through the whole process. Loopback addresses stand for VIPs and aliases.

use std::{net::SocketAddr, time::Duration};

use brattice_wire::{
    auth::AuthType,
    engine::{FromEngine, Stats, ToEngine},
    index::{ServiceIndex, TargetGroupIndex, VpcIndex},
    snapshot::{
        Action, AliasGeneration, Filters, Forward, ForwardedHeaders, Listener, Origin, Precedence, Protocol,
        ProtocolVersion, Service, Snapshot, Target, TargetGroup, Vpc, WeightedTargetGroup, Workload, WorkloadNumber,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::{
    Test,
    agent::{Agent, Engine, Kit, PATIENCE, block_on},
};

pub(crate) const TESTS: &[Test] = &[
    ("relaying::both_directions_end_on_their_own", both_directions_end_on_their_own),
    ("relaying::who_may_not_see_is_reset", who_may_not_see_is_reset),
    ("relaying::aliases_are_closed", aliases_are_closed),
    ("relaying::a_slow_receiver_holds_the_sender", a_slow_receiver_holds_the_sender),
    ("relaying::a_shutdown_lets_connections_finish", a_shutdown_lets_connections_finish),
];

/// Alias of a workload that sees the service.
pub(crate) const SEEING: &str = "127.88.0.1";
/// Alias of one that does not.
pub(crate) const BLIND: &str = "127.88.0.2";
/// No alias.
const STRANGER: &str = "127.88.0.3";

pub(crate) fn snapshot(revision: u64, vip: SocketAddr, targets: &[SocketAddr]) -> Snapshot {
    let vpc = |name: &str, services: &[usize]| Vpc {
        name: name.into(),
        id: format!("vpc-{name}"),
        arn: String::new(),
        services: services.iter().copied().map(ServiceIndex::new).collect(),
        account: String::new(),
        networks: Vec::new(),
        dns_upstreams: Vec::new(),
        families: (true, false),
    };
    let workload = |alias: &str, vpc, number| Workload {
        alias: alias.parse().unwrap(),
        address: "10.0.0.10".parse().unwrap(),
        vpc: VpcIndex::new(vpc),
        name: format!("w{number}"),
        number: WorkloadNumber::new(number),
        generation: AliasGeneration::new(3),
        attested: String::new(),
        evidence: Vec::new(),
        role: None,
        session: String::new(),
    };
    let listener = Listener {
        name: "tcp".into(),
        id: "listener-1".into(),
        port: vip.port(),
        protocol: Protocol::Http,
        forwarded_headers: ForwardedHeaders::Replace,
        precedence: Precedence::Priority,
        rules: Vec::new(),
        default_filters: Filters::default(),
        default_action: Action::Forward(Forward {
            groups: vec![WeightedTargetGroup { target_group: TargetGroupIndex::new(0), weight: 1 }],
            stickiness: None,
        }),
        origin: Origin::default(),
    };
    Snapshot {
        revision,
        vpcs: vec![vpc("blue", &[0]), vpc("red", &[])],
        workloads: vec![workload(SEEING, 0, 1), workload(BLIND, 1, 2)],
        services: vec![Service {
            name: "shop/orders".into(),
            id: "svc-1".into(),
            arn: String::new(),
            number: brattice_wire::snapshot::ServiceNumber::new(1),
            vip: vip.ip(),
            vip6: None,
            generated_name: "orders-svc-1.svc.brattice.internal".into(),
            domains: Vec::new(),
            listeners: vec![listener],
            account: String::new(),
            tags: Vec::new(),
            auth_type: AuthType::None,
            policy: None,
            networks: Vec::new(),
            idle_timeout_ms: 60_000,
            origin: Origin::default(),
        }],
        target_groups: vec![TargetGroup {
            name: "shop/orders".into(),
            id: "tg-1".into(),
            arn: String::new(),
            vpc: None,
            protocol_version: ProtocolVersion::Http1,
            targets: targets
                .iter()
                .map(|target| Target {
                    alias: target.ip(),
                    port: target.port(),
                    address: target.ip(),
                    generation: AliasGeneration::new(5),
                })
                .collect(),
            configured: u32::try_from(targets.len()).unwrap(),
            connect_timeout_ms: 1000,
            idle_timeout_ms: None,
            origin: Origin::default(),
        }],
        ..Snapshot::default()
    }
}

async fn try_connect(alias: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{alias}:0").parse().unwrap())?;
    socket.connect(to).await
}

pub(crate) async fn connect(alias: &str, to: SocketAddr) -> TcpStream {
    try_connect(alias, to).await.unwrap()
}

async fn lab() -> (Kit, TcpListener, Engine, Agent) {
    let kit = Kit::new();
    let target = TcpListener::bind("127.99.0.1:0").await.unwrap();
    let snapshot = snapshot(1, kit.relay_address(), &[target.local_addr().unwrap()]);
    let (engine, agent) = Engine::serving(&kit, snapshot).await;
    (kit, target, engine, agent)
}

pub(crate) async fn stats(agent: &Agent) -> Stats {
    agent.send(&ToEngine::Stats).await;
    match agent.answer().await {
        FromEngine::Stats(stats) => stats,
        other => panic!("{other:?}"),
    }
}

/// The peer's reset may come so early that the connect already shows it.
async fn assert_refused(alias: &str, to: SocketAddr) {
    match try_connect(alias, to).await {
        Ok(mut stream) => assert_reset(&mut stream).await,
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

async fn assert_reset(stream: &mut TcpStream) {
    let result = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("it hangs");
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

fn both_directions_end_on_their_own() {
    block_on(async {
        let (kit, target, _engine, agent) = lab().await;
        let mut client = connect(SEEING, kit.relay_address()).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut server, from) = target.accept().await.unwrap();
        assert_eq!(from.ip().to_string(), "127.77.0.5", "an engine source");
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        assert_eq!(kit.state(0).1, 1, "open while half closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
        let stats = stats(&agent).await;
        assert_eq!((stats.connections_relayed, stats.connections_accepted), (1, 1));
        for _ in 0..200 {
            if kit.state(0).1 == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the connection stays counted");
    });
}

fn who_may_not_see_is_reset() {
    block_on(async {
        let (kit, target, _engine, agent) = lab().await;
        for alias in [BLIND, STRANGER] {
            assert_refused(alias, kit.relay_address()).await;
        }
        let counted = stats(&agent).await;
        assert_eq!((counted.unknown_peers, counted.unknown_service, counted.connections_relayed), (1, 1, 0));
        // The positive control.
        let mut client = connect(SEEING, kit.relay_address()).await;
        let (mut server, _) = target.accept().await.unwrap();
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        // A target that is gone: reset, and counted.
        drop((target, server));
        assert_refused(SEEING, kit.relay_address()).await;
        assert_eq!(stats(&agent).await.connect_errors, 1);
    });
}

fn aliases_are_closed() {
    block_on(async {
        for (callers, old, now) in [(true, 2, 3), (false, 4, 5)] {
            let [old, now] = [old, now].map(AliasGeneration::new);
            let (kit, target, _engine, agent) = lab().await;
            let alias = if callers { SEEING.parse().unwrap() } else { target.local_addr().unwrap().ip() };
            let mut client = connect(SEEING, kit.relay_address()).await;
            let (mut server, _) = target.accept().await.unwrap();
            client.write_all(b"x").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            agent.send(&ToEngine::CloseAliases { token: 1, aliases: vec![(alias, old)] }).await;
            assert_eq!(agent.answer().await, FromEngine::AliasesClosed { token: 1 });
            client.write_all(b"y").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            agent.send(&ToEngine::CloseAliases { token: 2, aliases: vec![(alias, now)] }).await;
            assert_eq!(agent.answer().await, FromEngine::AliasesClosed { token: 2 });
            // Closed before it is acknowledged.
            assert_eq!(kit.state(0).1, 0);
            assert_reset(&mut client).await;
            assert_reset(&mut server).await;
            // The state in force still names that generation, and nothing new begins from or to it.
            assert_refused(SEEING, kit.relay_address()).await;
            let stats = stats(&agent).await;
            assert_eq!((stats.unknown_peers, stats.connect_errors), (u64::from(callers), u64::from(!callers)));
        }
    });
}

fn a_slow_receiver_holds_the_sender() {
    block_on(async {
        let (kit, target, engine, _agent) = lab().await;
        let client = connect(SEEING, kit.relay_address()).await;
        let (server, _) = target.accept().await.unwrap();
        let before = resident(engine.child.id());
        let (_keep, mut sender) = client.into_split();
        let mut sent = 0;
        let chunk = vec![7_u8; 256 * 1024];
        while let Ok(result) = tokio::time::timeout(Duration::from_millis(700), sender.write(&chunk)).await {
            sent += result.unwrap();
            assert!(sent < 1 << 30, "nothing holds the sender");
        }
        let grown = resident(engine.child.id()).saturating_sub(before);
        assert!(grown < 2 << 20, "the engine keeps {grown} bytes");
        let (mut receiver, _keep) = server.into_split();
        let finish = tokio::spawn(async move { sender.shutdown().await });
        let mut received = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match receiver.read(&mut buffer).await.unwrap() {
                0 => break,
                count => {
                    assert!(buffer[..count].iter().all(|&byte| byte == 7));
                    received += count;
                }
            }
        }
        finish.await.unwrap().unwrap();
        assert_eq!(received, sent);
    });
}

/// Resident memory, bytes.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn a_shutdown_lets_connections_finish() {
    block_on(async {
        let (kit, target, mut engine, agent) = lab().await;
        let mut client = connect(SEEING, kit.relay_address()).await;
        let (mut server, _) = target.accept().await.unwrap();
        let mut hanging = connect(SEEING, kit.relay_address()).await;
        let (_held, _) = target.accept().await.unwrap();
        agent.send(&ToEngine::Shutdown { grace_ms: 1500 }).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.write_all(b"late").await.unwrap();
        drop(server);
        let mut heard = [0; 4];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"late");
        // Waits in the queue, for a successor with the same socket.
        let waiting = connect(SEEING, kit.relay_address()).await;
        assert_reset(&mut hanging).await;
        assert!(engine.exit().await.success());
        kit.relay[0].set_nonblocking(true).unwrap();
        assert_eq!(kit.relay[0].accept().unwrap().1, waiting.local_addr().unwrap());
    });
}
