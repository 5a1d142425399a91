//! Targets that cannot be connected to: another one of the group is tried, as no byte of the request was sent.

use std::{net::SocketAddr, time::Duration};

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use http::{Method, StatusCode};
use http_body_util::BodyExt;

use crate::support::*;

/// Addresses without a listener; the ports are free as long as nothing binds them, so each is on an address of its own.
fn dead(count: u8) -> Vec<SocketAddr> {
    let unused = |last| std::net::TcpListener::bind((std::net::Ipv4Addr::new(127, 40, 9, last), 0)).unwrap();
    (1..=count).map(|last| unused(last).local_addr().unwrap()).collect()
}

#[tokio::test]
async fn a_dead_target_costs_no_request_while_another_one_lives() {
    for http2 in [false, true] {
        let server = Server::echo(http2).await;
        let targets = [dead(1)[0], server.address];
        let limits = Limits { pool_idle_timeout_ms: 0, ..Limits::default() };
        let engine = Engine::serving(limits, version(http2), &targets).await;
        let mut client = Client::new(&engine, http2).await;
        for method in [Method::GET, Method::POST, Method::PUT, Method::POST] {
            let request = client.request(method.clone(), "/a").body(full("x".repeat(100_000))).unwrap();
            let (parts, body) = client.send(request).await.into_parts();
            assert_eq!(parts.status, StatusCode::OK, "{method}, HTTP/2: {http2}");
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), format!("{method} /a ").len() + 100_000, "the whole body came");
        }
        let stats = engine.stats();
        assert_eq!((server.seen(), stats.connect_errors), (4, 2), "every other request met the dead one first");
        assert_eq!(stats.failing.len(), 1, "operators are told: {:?}", stats.failing);
    }
}

#[tokio::test]
async fn three_targets_are_tried_and_no_more() {
    let server = Server::echo(false).await;
    let mut targets = dead(3);
    targets.push(server.address);
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &targets).await;
    let mut refused = 0;
    for _ in 0..targets.len() {
        match engine.get("/").await.0 {
            StatusCode::OK => {}
            StatusCode::BAD_GATEWAY => refused += 1,
            other => panic!("{other}"),
        }
    }
    // Whichever of the four targets comes first: only one request meets the three dead ones.
    assert_eq!((refused, engine.stats().connect_errors), (1, 3 + 2 + 1));
}

/// A kept connection that has ended counts for its own target, which is connected to again before another one is tried.
#[tokio::test]
async fn a_target_that_goes_away_hands_its_requests_to_the_others() {
    let (ends, ended) = tokio::sync::watch::channel(false);
    let listener = tokio::net::TcpListener::bind((TARGET, 0)).await.unwrap();
    let leaving = listener.local_addr().unwrap();
    let serves = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        let mut ended = ended;
        ended.wait_for(|ended| *ended).await.unwrap();
    });
    let server = Server::start(false, std::net::Ipv4Addr::new(127, 40, 9, 200), |_| async {
        Ok(http::Response::new(full("ok")))
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[leaving, server.address]).await;
    for _ in 0..2 {
        assert_eq!(engine.get("/").await.0, StatusCode::OK);
    }
    assert_eq!(server.seen(), 1, "they take turns");
    ends.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(5), serves).await.unwrap().unwrap();
    for _ in 0..4 {
        assert_eq!(engine.get("/").await.0, StatusCode::OK);
    }
    assert_eq!(server.seen(), 5);
}
