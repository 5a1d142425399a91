//! Shares of target groups, turns of targets, and their change under load.

use std::net::{Ipv4Addr, SocketAddr};

use brattice_wire::{
    engine::Limits,
    snapshot::{Protocol, ProtocolVersion},
};
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

async fn servers(count: u8) -> Vec<Server> {
    let mut servers = Vec::new();
    for n in 0..count {
        let answer = || async { Ok(http::Response::new(full("ok"))) };
        servers.push(Server::start(false, Ipv4Addr::new(127, 40, 1, n + 1), move |_| answer()).await);
    }
    servers
}

#[tokio::test]
async fn shares_are_exact_to_one_after_any_number_of_requests() {
    let servers = servers(4).await;
    let weights = [90u16, 10, 0, 7];
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[]);
    let groups: Vec<(usize, u16)> = weights.into_iter().enumerate().collect();
    world.target_groups = servers
        .iter()
        .enumerate()
        .map(|(n, server)| group(&format!("g{n}"), ProtocolVersion::Http1, &[server.address]))
        .collect();
    world.services[0].listeners[0].default_action = forward(&groups);
    engine.apply(world).await;
    let mut client = engine.http1(CALLER).await;
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    for n in 1..=500u64 {
        client.ready().await.unwrap();
        let response = client.send_request(get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap();
        for (server, weight) in servers.iter().zip(weights) {
            let (seen, ideal) = (server.seen() * total, n * u64::from(weight));
            assert!(seen.abs_diff(ideal) <= total, "weight {weight}: {} of {n}", server.seen());
        }
    }
    assert_eq!(servers[2].seen(), 0, "weight 0 takes none");
}

#[tokio::test]
async fn no_weight_is_503() {
    let servers = servers(1).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[servers[0].address]);
    world.services[0].listeners[0].default_action = forward(&[(0, 0)]);
    engine.apply(world).await;
    assert_eq!(engine.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(servers[0].seen(), 0);
}

#[tokio::test]
async fn targets_take_turns() {
    let servers = servers(3).await;
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &addresses).await;
    for _ in 0..30 {
        assert_eq!(engine.get("/").await.0, StatusCode::OK);
    }
    for server in &servers {
        assert_eq!(server.seen(), 10);
    }
}

#[tokio::test]
async fn a_canary_moves_without_a_lost_request() {
    let servers = servers(2).await;
    let engine = Engine::start(Limits::default());
    let world = |weights: [u16; 2], revision| {
        let mut world = engine.world(ProtocolVersion::Http1, &[]);
        world.revision = revision;
        world.target_groups = servers
            .iter()
            .enumerate()
            .map(|(n, server)| group(&format!("g{n}"), ProtocolVersion::Http1, &[server.address]))
            .collect();
        world.services[0].listeners[0].default_action = forward(&[(0, weights[0]), (1, weights[1])]);
        world
    };
    engine.apply(world([90, 10], 1)).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = engine.http1(CALLER).await;
        clients.push(tokio::spawn(async move {
            for _ in 0..250 {
                client.ready().await.unwrap();
                let response = client.send_request(get("/")).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                response.into_body().collect().await.unwrap();
            }
        }));
    }
    engine.until("half", |stats| stats.requests > 1_000).await;
    engine.apply(world([0, 100], 2)).await;
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(servers[0].seen() + servers[1].seen(), 2_000);
    let before = servers[0].seen();
    for _ in 0..100 {
        assert_eq!(engine.get("/").await.0, StatusCode::OK);
    }
    assert_eq!(servers[0].seen(), before, "after the change nothing goes to the old version");
}

/// Requests and bypassed connections, in turn, a revision after each: every one goes where the cycle was.
#[tokio::test]
async fn a_bypass_and_new_revisions_go_on_where_requests_were() {
    let servers = servers(4).await;
    let engine = Engine::start(Limits::default());
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let world = |revision| {
        let mut world = engine.world(ProtocolVersion::Http1, &addresses);
        world.revision = revision;
        world.services[0].listeners.push(listener(engine.relay, forward(&[(0, 1)])));
        world
    };
    engine.apply(world(1)).await;
    let seen = || servers.iter().map(Server::seen).collect::<Vec<_>>();
    for round in 1..=6 {
        for n in 0..4 {
            if n % 2 == 0 {
                assert_eq!(engine.get("/").await.0, StatusCode::OK);
            } else {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind((CALLER, 0).into()).unwrap();
                let mut relayed = socket.connect((VIP, engine.relay).into()).await.unwrap();
                let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
                relayed.write_all(request.as_bytes()).await.unwrap();
                read_until(&mut relayed, "ok").await;
            }
            engine.apply(world(round * 10 + n)).await;
        }
        assert_eq!(seen(), [round; 4], "each target once per four calls");
    }
    assert_eq!(engine.stats().connections_relayed, 12, "half of them were bypassed");
}

/// By the listener's own protocol, at the socket that HTTP comes by, too.
#[tokio::test]
async fn a_tcp_listener_passes_bytes_and_alternates_over_revisions() {
    let target = |name: &'static str| {
        raw_server(move |mut stream| async move {
            // What is no HTTP, both ways.
            if read_until(&mut stream, "\0ping").await == "\0ping" {
                stream.write_all(name.as_bytes()).await.unwrap();
            }
        })
    };
    let engine = Engine::start(Limits::default());
    let targets = [target("one").await, target("two").await];
    let mut heard = Vec::new();
    for revision in 1..=8 {
        let mut world = engine.world(ProtocolVersion::Http1, &targets);
        world.revision = revision;
        world.services[0].listeners[0].protocol = Protocol::Tcp;
        engine.apply(world).await;
        let mut client = engine.connect(CALLER).await;
        client.write_all(b"\0ping").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        heard.push(answer);
    }
    let other = |name: &str| if name == "one" { "two" } else { "one" };
    assert!(heard.windows(2).all(|pair| pair[1] == other(&pair[0])), "{heard:?}");
    assert_eq!(engine.stats().connections_relayed, 8);
}
