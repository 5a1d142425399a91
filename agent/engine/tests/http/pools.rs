//! Kept connections: reused, replaced, closed with the alias.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use brattice_wire::{
    engine::Limits,
    snapshot::{AliasGeneration, PathMatchKind, ProtocolVersion, TargetGroup},
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

#[tokio::test]
async fn http1_connections_are_reused_across_clients() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    for _ in 0..50 {
        assert_eq!(engine.get("/").await.0, StatusCode::OK);
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn http2_requests_share_connections() {
    let server = Server::start(true, TARGET, |_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Response::new(full("ok")))
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http2, &[server.address]).await;
    let client = engine.http2(CALLER).await;
    let requests: Vec<_> = (0..60)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.send_request(get2("/")).await.unwrap().status() })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(server.accepted(), 1, "60 at once over one connection");
}

#[tokio::test]
async fn services_never_share_a_connection() {
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    world.services.push(service("other", VIP, &["other.example"], vec![listener(engine.port, forward(&[(0, 1)]))]));
    world.vpcs[0].services = visible(&[0, 1]);
    engine.apply(world).await;
    for _ in 0..3 {
        for host in [HOST, "other.example"] {
            let mut client = engine.http1(CALLER).await;
            let request = Request::get("/").header("host", host).body(full("")).unwrap();
            assert_eq!(client.send_request(request).await.unwrap().status(), StatusCode::OK);
        }
    }
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn idle_connections_are_bounded_in_number_and_time() {
    let server = Server::start(false, TARGET, |_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Response::new(full("ok")))
    })
    .await;
    let limits = Limits { idle_per_target: 2, pool_idle_timeout_ms: 300, ..Limits::default() };
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[server.address]).await;
    let mut requests = Vec::new();
    for _ in 0..6 {
        let mut client = engine.http1(CALLER).await;
        requests.push(tokio::spawn(async move {
            let response = client.send_request(get("/")).await.unwrap();
            response.into_body().collect().await.unwrap();
        }));
    }
    for request in requests {
        request.await.unwrap();
    }
    assert_eq!(server.accepted(), 6);
    assert_eq!(engine.hits("idle_per_target"), 4);
    engine.until("idle ones are closed", |stats| stats.limits_hit.contains(&("pool_idle_timeout_ms".into(), 2))).await;
    assert_eq!(engine.get("/").await.0, StatusCode::OK);
    assert_eq!(server.accepted(), 7, "a new one was needed");
}

/// A target that closes what idles for two seconds (gunicorn), in a group that says one; beside it groups that keep
/// connections for longer, and not at all.
#[tokio::test]
async fn a_group_says_how_long_its_connections_idle() {
    for http2 in [false, true] {
        let mut servers = Vec::new();
        for last in 1..=3 {
            let target = std::net::Ipv4Addr::new(127, 40, 2, last);
            servers.push(Server::start(http2, target, |_| async { Ok(Response::new(full("ok"))) }).await);
        }
        let engine = Engine::start(Limits::default());
        let world = |revision, first| {
            let mut world = engine.world(version(http2), &[]);
            world.revision = revision;
            world.target_groups = servers
                .iter()
                .zip([Some(first), None, Some(0)])
                .enumerate()
                .map(|(n, (server, idle_timeout_ms))| TargetGroup {
                    idle_timeout_ms,
                    ..group(&format!("g{n}"), version(http2), &[server.address])
                })
                .collect();
            let path = |n| Some((PathMatchKind::Exact, ["/0", "/1", "/2"][n]));
            world.services[0].listeners[0].rules =
                (0..3).map(|n| rule(n as u16 + 1, path(n), None, forward(&[(n, 1)]))).collect();
            world
        };
        engine.apply(world(1, 1_000)).await;
        let ask = async || {
            // Of HTTP/2 a connection that is not kept is closed a little later.
            for path in ["/0", "/1", "/2"].iter().take(if http2 { 2 } else { 3 }) {
                assert_eq!(engine.get(path).await.0, StatusCode::OK);
            }
        };
        let accepted = || servers.iter().map(Server::accepted).collect::<Vec<_>>();
        ask().await;
        ask().await;
        assert_eq!(accepted()[..2], [1, 1], "kept for the next request; HTTP/2: {http2}");
        if !http2 {
            assert_eq!(accepted()[2], 2, "not kept at all");
        }
        engine.until("closed", |stats| stats.limits_hit.contains(&("pool_idle_timeout_ms".into(), 1))).await;
        ask().await;
        assert_eq!(accepted()[..2], [2, 1], "one was closed, one was kept; HTTP/2: {http2}");
        // Another time holds at once for connections that are there.
        engine.apply(world(2, 20_000)).await;
        ask().await;
        assert_eq!(accepted()[..2], [3, 1], "HTTP/2: {http2}");
    }
}

/// Serves one request, then closes the idle connection when the second request has arrived, unanswered.
async fn closes_in_the_wrong_moment() -> (std::net::SocketAddr, Arc<AtomicU32>) {
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    let address = raw_server(move |mut stream| {
        let number = counted.fetch_add(1, Relaxed);
        async move {
            let mut served = 0;
            loop {
                let head = read_until(&mut stream, "\r\n\r\n").await;
                if number == 0 && served == 1 {
                    // Everything was read, so this is an orderly close.
                    return;
                }
                served += 1;
                let length = if head.starts_with("POST") { 5 } else { 0 };
                let mut body = vec![0; length];
                if !head.ends_with("hello") {
                    stream.read_exact(&mut body).await.unwrap();
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    (address, connections)
}

#[tokio::test]
async fn a_request_is_sent_again_only_if_that_does_no_harm() {
    let (address, connections) = closes_in_the_wrong_moment().await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[address]).await;
    assert_eq!(engine.get("/1").await.0, StatusCode::OK);
    assert_eq!(engine.get("/2").await.0, StatusCode::OK, "sent again on a new connection");
    assert_eq!(connections.load(Relaxed), 2);
    for (method, body) in [("POST", "hello"), ("POST", "")] {
        let (address, connections) = closes_in_the_wrong_moment().await;
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[address]).await;
        assert_eq!(engine.get("/1").await.0, StatusCode::OK);
        let mut client = engine.http1(CALLER).await;
        let request = Request::builder().method(method).uri("/2").header("host", HOST).body(full(body)).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), StatusCode::BAD_GATEWAY);
        assert_eq!(connections.load(Relaxed), 1, "a POST might have been carried out");
    }
}

#[tokio::test]
async fn connections_that_the_target_closed_are_not_used() {
    let address = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[address]).await;
    for n in 0..20 {
        let mut client = engine.http1(CALLER).await;
        let post = Request::post("/").header("host", HOST).body(full("x")).unwrap();
        assert_eq!(client.send_request(post).await.unwrap().status(), StatusCode::OK, "request {n}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn http2_connections_are_replaced_when_the_target_sends_goaway() {
    let listener = tokio::net::TcpListener::bind((TARGET, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let accepted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            accepted.fetch_add(1, Relaxed);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(|_| async {
                    Ok::<_, std::convert::Infallible>(Response::new(full("ok")))
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(2)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::pin!(connection);
                tokio::select! {
                    _ = connection.as_mut() => {}
                    () = tokio::time::sleep(Duration::from_millis(100)) => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
            });
        }
    });
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http2, &[address]).await;
    for n in 0..40 {
        let (status, ..) = engine.get("/").await;
        assert_eq!(status, StatusCode::OK, "request {n}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let count = connections.load(Relaxed);
    assert!((3..=20).contains(&count), "{count} connections for 40 requests in more than 400 ms");
}

#[tokio::test]
async fn streams_beyond_a_targets_limit_get_another_connection() {
    let listener = tokio::net::TcpListener::bind((TARGET, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let accepted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            accepted.fetch_add(1, Relaxed);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(|_| async {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok::<_, std::convert::Infallible>(Response::new(full("ok")))
                });
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(4)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http2, &[address]).await;
    assert_eq!(engine.get("/").await.0, StatusCode::OK);
    let client = engine.http2(CALLER).await;
    let requests: Vec<_> = (0..32)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.send_request(get2("/")).await.unwrap().status() })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
    let count = connections.load(Relaxed);
    assert!((5..=16).contains(&count), "{count} connections of 4 streams for 32 requests at once");
}

#[tokio::test]
async fn closing_an_alias_closes_everything_with_it() {
    for http2 in [false, true] {
        let server = Server::start(http2, TARGET, |request| async move {
            if request.uri().path() == "/hang" {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Ok(Response::new(full("ok")))
        })
        .await;
        let protocol = if http2 { ProtocolVersion::Http2 } else { ProtocolVersion::Http1 };
        let engine = Engine::serving(Limits::default(), protocol, &[server.address]).await;
        assert_eq!(engine.get("/").await.0, StatusCode::OK);
        // The target's alias: what waits for it fails, and the idle connection is not used again.
        let mut client = engine.http1(CALLER).await;
        let hanging = tokio::spawn(async move { client.send_request(get("/hang")).await.unwrap().status() });
        engine.until("in flight", |stats| stats.requests_open == 1).await;
        engine.close(&[(IpAddr::from(TARGET), 1)]).await;
        // 503 where it was safe to try again, which then found the target gone.
        let ended = hanging.await.unwrap();
        assert!([StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE].contains(&ended), "{http2}: {ended}");
        let accepted = server.accepted();
        assert_eq!(engine.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE, "the old generation is gone");
        assert_eq!(server.accepted(), accepted);
        let mut world = engine.world(protocol, &[server.address]);
        world.target_groups[0].targets[0].generation = AliasGeneration::new(2);
        engine.apply(world.clone()).await;
        assert_eq!(engine.get("/").await.0, StatusCode::OK, "the new one is served");
        // The caller's alias: its connections go at once, others stay.
        world.vpcs[1].services = visible(&[0]);
        engine.apply(world).await;
        let mut idle = engine.connect(CALLER).await;
        let mut two = engine.http2(CALLER).await;
        two.send_request(get2("/")).await.unwrap();
        let mut other = engine.http1(STRANGER).await;
        assert_eq!(other.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
        engine.until("accepted", |stats| stats.connections_open >= 3).await;
        engine.close(&[(IpAddr::from(CALLER), 1)]).await;
        let mut room = [0; 1];
        assert!(matches!(idle.read(&mut room).await, Ok(0) | Err(_)));
        assert!(two.send_request(get2("/")).await.is_err());
        other.ready().await.unwrap();
        assert_eq!(other.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
        assert!(engine.resets(CALLER).await, "the old generation cannot come back");
        assert_eq!(engine.stats().connections_open, 1);
    }
}

#[tokio::test]
async fn targets_that_left_the_state_lose_their_connections() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    assert_eq!(engine.get("/").await.0, StatusCode::OK);
    let without = engine.world(ProtocolVersion::Http1, &[]);
    let with = engine.world(ProtocolVersion::Http1, &[server.address]);
    engine.apply(without).await;
    engine.apply(with).await;
    assert_eq!(engine.get("/").await.0, StatusCode::OK);
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn callers_never_share_an_http2_connection() {
    let server = Server::echo(true).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http2, &[server.address]);
    world.vpcs[1].services = visible(&[0]);
    engine.apply(world).await;
    for _ in 0..3 {
        for from in [CALLER, STRANGER] {
            let mut client = engine.http1(from).await;
            assert_eq!(client.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
        }
    }
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn http2_connections_of_a_caller_are_bounded() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        let server = Server::start(true, TARGET, |request| async move {
            if request.uri().path() == "/slow" {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Ok(Response::new(full("ok")))
        });
        servers.push(server.await);
    }
    let targets: Vec<_> = servers.iter().map(|server| server.address).collect();
    let limits = Limits { http2_connections_per_workload: 2, ..Limits::default() };
    let engine = Engine::start(limits);
    let mut world = engine.world(ProtocolVersion::Http2, &targets);
    world.vpcs[1].services = visible(&[0]);
    engine.apply(world).await;
    let accepted = || servers.iter().map(Server::accepted).sum::<u64>();
    // Idle ones go for new ones.
    for _ in 0..6 {
        assert_eq!(engine.get("/").await.0, StatusCode::OK);
    }
    assert!(accepted() > 3, "each target in turn, and two are kept: {}", accepted());
    assert_eq!(engine.hits("http2_connections_per_workload"), 0);
    // Those in use stay: the third target cannot be reached, the other two can.
    let client = engine.http2(CALLER).await;
    for held in 1..=2 {
        let mut client = client.clone();
        tokio::spawn(async move { client.send_request(get2("/slow")).await.is_ok() });
        engine.until("held", |stats| stats.requests_open == held).await;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while servers.iter().filter(|server| server.last().uri.path() == "/slow").count() < 2 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(engine.get("/").await.0.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    assert_eq!(engine.hits("http2_connections_per_workload"), 1);
    // Another caller has its own.
    let mut other = engine.http1(STRANGER).await;
    for _ in 0..3 {
        other.ready().await.unwrap();
        assert_eq!(other.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn idle_http2_connections_are_closed_when_descriptors_are_few() {
    let server = Server::echo(true).await;
    let engine = Engine::start(Limits { descriptors: 128, ..Limits::default() });
    let mut world = engine.world(ProtocolVersion::Http2, &[server.address]);
    let crowd: Vec<_> = (1..=5).map(|n| std::net::Ipv4Addr::new(127, 10, 1, n)).collect();
    world.workloads.extend((10..).zip(&crowd).map(|(number, alias)| workload(*alias, REAL, 0, number)));
    engine.apply(world).await;
    for _ in 0..3 {
        assert_eq!(engine.get("/").await.0, StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert_eq!((server.accepted(), engine.hits("idle_per_target")), (1, 0), "it is kept while there are enough");
    let mut held = Vec::new();
    for alias in crowd {
        for _ in 0..8 {
            held.push(engine.connect(alias).await);
        }
    }
    engine.until("closed", |stats| stats.limits_hit.contains(&("idle_per_target".into(), 1))).await;
    assert_eq!(engine.get("/").await.0, StatusCode::OK, "another is made");
    assert_eq!(server.accepted(), 2);
}
