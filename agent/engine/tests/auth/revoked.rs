//! What is not allowed any more ends within a second, what still is goes on.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use brattice_wire::{
    auth::AuthType,
    engine::Limits,
    index::{PolicyIndex, ServiceIndex},
    snapshot::{AliasGeneration, ProtocolVersion, Snapshot},
};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{scene::*, support::*};

/// What differs in a revision.
type Change<'a> = &'a dyn Fn(&mut Snapshot);

const PROMISED: Duration = Duration::from_secs(1);

/// A target whose answers never end: a piece every 5 ms.
async fn dripping(http2: bool) -> Server {
    Server::start(http2, TARGET, |_| async {
        let drip = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"drip"))), ()))
        });
        Ok(Response::new(StreamBody::new(drip).map_err(Into::into).boxed_unsync()))
    })
    .await
}

/// A target that takes every upgrade and then echoes.
async fn echoing() -> SocketAddr {
    raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut room = [0; 4];
        while stream.read_exact(&mut room).await.is_ok() && stream.write_all(&room).await.is_ok() {}
    })
    .await
}

/// Whether a stream goes on: a piece comes that was sent after the call.
async fn flows(body: &mut Incoming) -> bool {
    for _ in 0..40 {
        let Ok(Some(Ok(_))) = tokio::time::timeout(PROMISED, body.frame()).await else { return false };
    }
    true
}

/// Waits for the end of a stream; whether it is no orderly one.
async fn breaks(body: &mut Incoming) -> bool {
    let start = Instant::now();
    while start.elapsed() < PROMISED {
        match tokio::time::timeout(PROMISED, body.frame()).await {
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_))) => return true,
            Ok(None) | Err(_) => return false,
        }
    }
    false
}

/// Whether the engine ends a connection in time.
async fn ends(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(PROMISED, stream.read_to_end(&mut rest)).await.is_ok()
}

async fn ask(stream: &mut TcpStream, path: &str, fields: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(stream, "GET /").await
}

const PUBLIC: &str = r#"{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*/public/*"}"#;

#[tokio::test]
async fn kept_http1_connections_of_the_denied_are_closed() {
    let server = Server::echo(false).await;
    let engine = serving(&[server.address], &[PUBLIC, WEB]).await;
    let mut denied = engine.connect(CALLER).await;
    let mut latest_allowed = engine.connect(CALLER).await;
    let mut neighbour = engine.connect(NEIGHBOUR).await;
    let mut fresh = engine.connect(CALLER).await;
    ask(&mut denied, "/public/a", "").await;
    ask(&mut denied, "/private", "").await;
    ask(&mut latest_allowed, "/private", "").await;
    ask(&mut latest_allowed, "/public/a", "").await;
    ask(&mut neighbour, "/public/a", "").await;
    engine.apply(guarded(&engine, 2, ProtocolVersion::Http1, &[server.address], &[PUBLIC])).await;
    assert!(ends(&mut denied).await, "its latest request is denied now");
    for allowed in [&mut latest_allowed, &mut neighbour, &mut fresh] {
        assert!(ask(allowed, "/public/b", "").await.starts_with("HTTP/1.1 200"));
    }
    engine.until("counted", |stats| (stats.connections_open, stats.revoked) == (3, [0, 1])).await;
}

#[tokio::test]
async fn http1_answers_on_their_way_are_cut() {
    let server = dripping(false).await;
    let engine = serving(&[server.address], &[PUBLIC, WEB]).await;
    let body = async |from, path: &str| {
        let response = engine.http1(from).await.send_request(get(path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body()
    };
    let mut denied = body(CALLER, "/private").await;
    let mut allowed = [body(CALLER, "/public/a").await, body(NEIGHBOUR, "/public/a").await];
    engine.apply(guarded(&engine, 2, ProtocolVersion::Http1, &[server.address], &[PUBLIC])).await;
    assert!(breaks(&mut denied).await, "cut, not ended as if it were whole");
    for body in &mut allowed {
        assert!(flows(body).await);
    }
    engine.until("the denied one is gone", |stats| stats.requests_open == 2).await;
}

#[tokio::test]
async fn requests_that_wait_for_their_answer_are_ended_too() {
    let silent = raw_server(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let engine = serving(&[silent], &[PUBLIC, WEB]).await;
    let (mut denied, mut allowed) = (engine.connect(CALLER).await, engine.connect(CALLER).await);
    for (stream, path) in [(&mut denied, "/private"), (&mut allowed, "/public/a")] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    }
    engine.until("both wait", |stats| stats.requests_open == 2).await;
    engine.apply(guarded(&engine, 2, ProtocolVersion::Http1, &[silent], &[PUBLIC])).await;
    assert!(ends(&mut denied).await);
    assert!(!ends(&mut allowed).await, "it waits on");
}

#[tokio::test]
async fn http2_streams_of_the_denied_are_reset_and_their_neighbours_live() {
    let server = dripping(true).await;
    let engine = Engine::start(Limits::default());
    engine.apply(guarded(&engine, 1, ProtocolVersion::Http2, &[server.address], &[PUBLIC, WEB])).await;
    let mut client = engine.http2(CALLER).await;
    let mut denied = Vec::new();
    for _ in 0..5 {
        denied.push(client.send_request(get2("/private")).await.unwrap().into_body());
    }
    let mut allowed = client.send_request(get2("/public/a")).await.unwrap().into_body();
    let mut neighbour = engine.http2(NEIGHBOUR).await.send_request(get2("/public/a")).await.unwrap().into_body();
    engine.apply(guarded(&engine, 2, ProtocolVersion::Http2, &[server.address], &[PUBLIC])).await;
    for body in &mut denied {
        assert!(breaks(body).await);
    }
    assert!(flows(&mut allowed).await, "of the same connection");
    assert!(flows(&mut neighbour).await);
    assert_eq!(client.send_request(get2("/public/b")).await.unwrap().status(), StatusCode::OK, "new ones begin");
    assert_eq!(client.send_request(get2("/private")).await.unwrap().status(), StatusCode::FORBIDDEN);
    engine.until("only the allowed are open", |stats| stats.requests_open == 2).await;
    engine.until("counted", |stats| (stats.revoked, stats.denied) == ([5, 0], [0, 0, 1])).await;
}

#[tokio::test]
async fn an_http2_connection_without_anything_allowed_is_told_to_go() {
    let server = dripping(true).await;
    let engine = Engine::start(Limits::default());
    engine.apply(guarded(&engine, 1, ProtocolVersion::Http2, &[server.address], &[PUBLIC, WEB])).await;
    let (mut busy, mut idle, mut allowed) =
        (engine.http2(CALLER).await, engine.http2(CALLER).await, engine.http2(CALLER).await);
    let mut denied = busy.send_request(get2("/private")).await.unwrap().into_body();
    drop(idle.send_request(get2("/private")).await.unwrap());
    drop(allowed.send_request(get2("/public/a")).await.unwrap());
    engine.until("one is open", |stats| stats.requests_open == 1).await;
    engine.apply(guarded(&engine, 2, ProtocolVersion::Http2, &[server.address], &[PUBLIC])).await;
    assert!(breaks(&mut denied).await);
    engine.until("only the allowed connection is open", |stats| stats.connections_open == 1).await;
    assert!(busy.is_closed() && idle.is_closed());
    assert_eq!(allowed.send_request(get2("/public/a")).await.unwrap().status(), StatusCode::OK);
}

/// An upgraded connection that echoes.
async fn socket(engine: &Engine, from: std::net::Ipv4Addr, path: &str) -> TcpStream {
    let mut stream = engine.connect(from).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 101"), "{path}");
    assert!(echoes(&mut stream).await);
    stream
}

async fn echoes(stream: &mut TcpStream) -> bool {
    let mut room = [0; 4];
    stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut room).await.is_ok() && room == *b"ping"
}

#[tokio::test]
async fn upgraded_connections_of_the_denied_are_closed() {
    let target = echoing().await;
    let engine = serving(&[target], &[PUBLIC, WEB]).await;
    let mut denied = socket(&engine, CALLER, "/private").await;
    let mut allowed = [socket(&engine, CALLER, "/public/a").await, socket(&engine, NEIGHBOUR, "/public/a").await];
    engine.apply(guarded(&engine, 2, ProtocolVersion::Http1, &[target], &[PUBLIC])).await;
    assert!(ends(&mut denied).await);
    for stream in &mut allowed {
        assert!(echoes(stream).await);
    }
    assert_eq!(engine.stats().connections_open, 2);
}

/// Each way in which access can end, with a socket each; the neighbour has what it needs all along.
#[tokio::test]
async fn whatever_takes_access_away_ends_what_it_gave() {
    let target = echoing().await;
    let neighbours = r#"{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*",
        "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.11/32"}}}"#;
    let changes: [(&str, Change<'_>); 8] = [
        ("the role", &|world| world.workloads[0].role = None),
        ("another role", &|world| "arn:aws:iam::222222222222:role/other".clone_into(&mut world.roles[0].arn)),
        ("a tag", &|world| world.roles[0].tags.clear()),
        ("a statement", &|world| {
            world.policies[0] = policy(world.policies[0].attachment, "shop/orders", &[neighbours]);
        }),
        ("the network's policy", &|world| {
            let attachment = brattice_wire::auth::PolicyAttachment::ServiceNetwork;
            world.policies.push(policy(attachment, "platform/retail", &[neighbours]));
            world.networks[0].auth_type = AuthType::AwsIam;
            world.networks[0].policy = Some(PolicyIndex::new(1));
        }),
        ("the role's policy", &|world| {
            let nothing = r#"{"Effect": "Deny", "Action": "*", "Resource": "*/socket"}"#;
            world.policies.push(policy(brattice_wire::auth::PolicyAttachment::Role, "shop/web", &[nothing]));
            world.roles[0].policy = Some(PolicyIndex::new(1));
        }),
        ("the caller's generation", &|world| world.workloads[0].generation = AliasGeneration::new(2)),
        ("a header that the new policy asks for", &|world| {
            let asking = r#"{"Effect": "Deny", "Principal": {"AWS": "222222222222"}, "Action": "*", "Resource": "*",
                "Condition": {"Null": {"vpc-lattice-svcs:RequestHeader/x-ticket": "true"}}}"#;
            world.policies[0] = policy(world.policies[0].attachment, "shop/orders", &[EVERYBODY, asking]);
        }),
    ];
    let with_tag = r#"{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::222222222222:role/web"}, "Action": "*",
        "Resource": "*", "Condition": {"StringEquals": {"aws:PrincipalTag/team": "front"}}}"#;
    for (what, change) in changes {
        let engine = serving(&[target], &[with_tag, neighbours]).await;
        let mut denied = socket(&engine, CALLER, "/socket").await;
        let mut neighbour = socket(&engine, NEIGHBOUR, "/socket").await;
        // Nothing changes for them.
        engine.apply(guarded(&engine, 2, ProtocolVersion::Http1, &[target], &[with_tag, neighbours])).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(echoes(&mut denied).await && echoes(&mut neighbour).await, "{what}: control");
        let mut world = guarded(&engine, 3, ProtocolVersion::Http1, &[target], &[with_tag, neighbours]);
        change(&mut world);
        engine.apply(world).await;
        assert!(ends(&mut denied).await, "{what}");
        assert!(echoes(&mut neighbour).await, "{what}: the neighbour lives");
    }
}

/// What a policy asks for the first time is known of what is open already.
#[tokio::test]
async fn header_values_are_known_that_no_policy_asked_for_when_they_came() {
    let target = echoing().await;
    let engine = Engine::start(Limits::default());
    engine.apply(open(&engine, 1, ProtocolVersion::Http1, &[target])).await;
    let with = async |ticket: &str| {
        let mut stream = engine.connect(CALLER).await;
        let request = format!(
            "GET /a?who={ticket} HTTP/1.1\r\nhost: {HOST}\r\nx-ticket: {ticket}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut stream, "\r\n\r\n").await;
        stream
    };
    for (round, key) in (0u64..).zip(["RequestHeader/X-Ticket", "RequestQueryString/who"]) {
        let (mut gold, mut tin) = (with("gold").await, with("tin").await);
        let statement = format!(
            r#"{{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*/a",
                "Condition": {{"ForAnyValue:StringEquals": {{"vpc-lattice-svcs:{key}": "gold"}}}}}}"#
        );
        engine.apply(guarded(&engine, 2 + 2 * round, ProtocolVersion::Http1, &[target], &[&statement])).await;
        assert!(ends(&mut tin).await, "{key}");
        assert!(echoes(&mut gold).await, "{key}");
        engine.apply(open(&engine, 3 + 2 * round, ProtocolVersion::Http1, &[target])).await;
    }
}

#[tokio::test]
async fn association_and_service_that_go_take_what_is_open_with_them() {
    let target = echoing().await;
    let changes: [(&str, Change<'_>); 2] = [
        ("association", &|world| {
            world.vpcs[0].services.clear();
            world.vpcs[0].networks.clear();
        }),
        ("service", &|world| {
            world.services.remove(0);
            world
                .vpcs
                .iter_mut()
                .for_each(|vpc| vpc.services.iter_mut().for_each(|index| *index = ServiceIndex::new(0)));
            world.vpcs[0].services.clear();
        }),
    ];
    for (what, change) in changes {
        let engine = Engine::start(Limits::default());
        // Without any policy: membership alone. The other VPC sees another service at the same VIP.
        let world = |revision| {
            let mut world = open(&engine, revision, ProtocolVersion::Http1, &[target]);
            let mut other = world.services[0].clone();
            (other.id, other.number) = ("svc-other".into(), brattice_wire::snapshot::ServiceNumber::new(999));
            world.services.push(other);
            world.vpcs[1].services = visible(&[1]);
            world
        };
        engine.apply(world(1)).await;
        let mut denied = socket(&engine, CALLER, "/socket").await;
        let mut neighbour = socket(&engine, STRANGER, "/socket").await;
        for change_it in [false, true] {
            let mut world = world(2 + u64::from(change_it));
            if change_it {
                change(&mut world);
            }
            engine.apply(world).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if !change_it {
                assert!(echoes(&mut denied).await && echoes(&mut neighbour).await, "{what}: control");
            }
        }
        assert!(ends(&mut denied).await, "{what}");
        assert!(echoes(&mut neighbour).await, "{what}: the neighbour lives");
    }
}

/// A thousand connections are gone through while others are served.
#[tokio::test]
async fn many_are_gone_through_in_time() {
    let server = Server::echo(false).await;
    let engine = serving(&[server.address], &[PUBLIC, WEB]).await;
    let mut open = Vec::new();
    for number in 0..600 {
        let mut stream = engine.connect(CALLER).await;
        ask(&mut stream, if number % 3 == 0 { "/public/a" } else { "/private" }, "").await;
        open.push(stream);
    }
    let start = Instant::now();
    engine.apply(guarded(&engine, 2, ProtocolVersion::Http1, &[server.address], &[PUBLIC])).await;
    engine.until("two thirds are closed", |stats| stats.connections_open == 200).await;
    assert!(start.elapsed() < PROMISED, "{:?}", start.elapsed());
    assert!(ask(&mut open[0], "/public/b", "").await.starts_with("HTTP/1.1 200"));
}
