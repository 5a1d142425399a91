//! A bypass passes no policy by.

use brattice_wire::{
    auth::{AuthType, PolicyAttachment},
    engine::Limits,
    index::{NetworkIndex, PolicyIndex},
    snapshot::{AliasGeneration, ProtocolVersion, Snapshot},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{log::Log, scene::*, support::*};

/// What differs in a revision.
type Change<'a> = &'a dyn Fn(&mut Snapshot);

/// A relayed connection: whether the target echoes on it.
async fn echoes(stream: &mut TcpStream) -> bool {
    let mut room = [0; 4];
    stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut room).await.is_ok() && room == *b"ping"
}

async fn relayed(engine: &Engine, from: std::net::Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect((VIP, engine.relay).into()).await
}

#[tokio::test]
async fn services_with_policies_are_not_relayed_and_open_connections_end() {
    let target = raw_server(|mut stream| async move {
        let mut room = [0; 4];
        while stream.read_exact(&mut room).await.is_ok() && stream.write_all(&room).await.is_ok() {}
    })
    .await;
    let engine = Engine::start(Limits::default());
    let world = |revision: u64, change: &dyn Fn(&mut Snapshot)| {
        let mut world = open(&engine, revision, ProtocolVersion::Http1, &[target]);
        world.services[0].listeners = vec![listener(engine.relay, forward(&[(0, 1)]))];
        change(&mut world);
        world
    };
    engine.apply(world(1, &|_| {})).await;
    let log = Log::of(&engine, 1);
    // What differs, and the level and the decision that the line of the connection names.
    let changes: [(&str, Change<'_>, &str, &str); 7] = [
        (
            "AWS_IAM at the service",
            &|world| world.services[0].auth_type = AuthType::AwsIam,
            "Service",
            "not-evaluated:service:shop/orders",
        ),
        (
            "AWS_IAM at the network",
            &|world| world.networks[0].auth_type = AuthType::AwsIam,
            "Network",
            "not-evaluated:network:platform/retail",
        ),
        (
            "no network in common where a policy decides",
            &|world| {
                world.services[0].auth_type = AuthType::AwsIam;
                world.vpcs[0].networks.clear();
            },
            "Network",
            "no-network",
        ),
        (
            "a policy of the role",
            &|world| {
                let nothing = r#"{"Effect": "Deny", "Action": "*", "Resource": "*/private"}"#;
                world.policies.push(policy(PolicyAttachment::Role, "shop/web", &[nothing]));
                world.roles[0].policy = Some(PolicyIndex::new(0));
            },
            "Identity",
            "not-evaluated:identity:shop/web",
        ),
        ("not associated", &|world| world.vpcs[0].services.clear(), "-", "withdrawn"),
        (
            "gone",
            &|world| {
                world.vpcs[0].services.clear();
                world.services.clear();
            },
            "-",
            "withdrawn",
        ),
        (
            "the alias is another workload's",
            &|world| world.workloads[0].generation = AliasGeneration::new(2),
            "-",
            "caller-gone",
        ),
    ];
    let ended = changes.len();
    for (round, (what, change, level, decision)) in (0u64..).zip(changes) {
        let mut kept = relayed(&engine, CALLER).await.unwrap();
        assert!(echoes(&mut kept).await, "{what}: control");
        let ended = engine.stats().connections_open;
        engine.apply(world(2 + 2 * round, change)).await;
        engine.until(what, |stats| stats.connections_open < ended).await;
        assert!(!echoes(&mut kept).await, "{what}: an open connection ends");
        if what != "the alias is another workload's" {
            let begins = match relayed(&engine, CALLER).await {
                Ok(mut new) => echoes(&mut new).await,
                Err(_) => false,
            };
            assert!(!begins, "{what}: no new one begins");
        }
        engine.apply(world(3 + 2 * round, &|_| {})).await;
        let lines = log.lines(usize::try_from(round).unwrap() + 1).await;
        let line = lines.last().unwrap();
        let found = ["failureReason", "authDeniedReason", "decisionId"].map(|field| line[field].as_str().unwrap());
        assert_eq!(found, ["ClientAccessDenied", level, decision], "{what}");
    }
    engine.until("counted", |stats| (stats.unrelayed, stats.revoked) == (4, [0, 7])).await;
    // What stays allowed is not touched, and nothing is said of it.
    let mut kept = relayed(&engine, CALLER).await.unwrap();
    assert!(echoes(&mut kept).await);
    engine.apply(world(100, &|world| world.vpcs[1].networks = vec![NetworkIndex::new(0)])).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(echoes(&mut kept).await);
    drop(kept);
    let line = log.lines(ended + 1).await.pop().unwrap();
    assert_eq!([&line["failureReason"], &line["authDeniedReason"], &line["decisionId"]], ["-", "-", "-"]);
    // Nor is an end that comes with the caller's alias without its reason.
    let mut kept = relayed(&engine, CALLER).await.unwrap();
    assert!(echoes(&mut kept).await);
    engine.close(&[(CALLER.into(), 1)]).await;
    let line = log.lines(ended + 2).await.pop().unwrap();
    assert_eq!((&line["failureReason"], &line["decisionId"]), (&"ClientAccessDenied".into(), &"caller-gone".into()));
}
