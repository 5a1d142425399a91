//! Bounds, each hit and counted, each with the control that stays below it.

use std::time::Duration;

use brattice_wire::snapshot::AliasGeneration;
use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use http::{Request, Response, StatusCode};
use tokio::io::AsyncWriteExt;

use crate::{
    frames::{self, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, block, frame},
    support::*,
};

async fn slow_server() -> Server {
    Server::start(false, TARGET, |_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Response::new(full("ok")))
    })
    .await
}

#[tokio::test]
async fn connections_of_a_workload() {
    let server = Server::echo(false).await;
    let limits = Limits { connections_per_workload: 3, ..Limits::default() };
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[server.address]).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut client = engine.http1(CALLER).await;
        assert_eq!(client.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
        kept.push(client);
    }
    assert!(engine.resets(CALLER).await);
    assert_eq!(engine.hits("connections_per_workload"), 1);
    let mut other = engine.http1(STRANGER).await;
    assert_eq!(other.send_request(get("/")).await.unwrap().status(), StatusCode::NOT_FOUND, "others have room");
    drop(kept.pop());
    engine.until("closed", |stats| stats.connections_open == 3).await;
    assert_eq!(engine.get("/").await.0, StatusCode::OK, "room again");
}

/// Four workloads take all that there is; a fifth still comes in and is served.
#[tokio::test]
async fn descriptors_are_kept_for_others() {
    const FEW: usize = 8;
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits { descriptors: 256, ..Limits::default() });
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    let callers: Vec<_> = (1..=5).map(|n| std::net::Ipv4Addr::new(127, 10, 1, n)).collect();
    world.workloads.extend((10..).zip(&callers).map(|(number, alias)| workload(*alias, REAL, 0, number)));
    engine.apply(world).await;
    let each = engine.stats().most[0] as usize;
    let [idle, most] = engine.stats().descriptors;
    assert!((FEW..(most - idle) as usize).contains(&each), "{each} connections a workload, of {most}");
    let mut kept = Vec::new();
    for caller in &callers[..4] {
        for _ in 0..each {
            kept.extend(engine.try_connect(*caller, VIP).await.ok());
        }
    }
    let refused = |stats: &brattice_wire::engine::Stats| {
        stats.limits_hit.iter().find(|(name, _)| name == "descriptors").map_or(0, |(_, hits)| *hits)
    };
    engine.until("all have come", |stats| stats.connections_open + refused(stats) == 4 * each as u64).await;
    let [used, _] = engine.stats().descriptors;
    assert!(used >= most && refused(&engine.stats()) > 0, "{used} of {most} used, and the rest was refused");
    assert!(used < most + FEW as u32, "{used} of {most} used: the reserve is for who has few");
    let mut other = engine.http1(callers[4]).await;
    assert_eq!(other.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
    assert!(engine.resets(callers[3]).await, "who has many has no more");
    drop(kept);
    engine.until("closed", |stats| stats.connections_open == 1).await;
    let mut again = engine.http1(callers[3]).await;
    assert_eq!(again.send_request(get("/")).await.unwrap().status(), StatusCode::OK, "room again");
}

#[tokio::test]
async fn requests_of_a_workload() {
    let server = slow_server().await;
    let limits = Limits { requests_per_workload: 2, ..Limits::default() };
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[server.address]).await;
    let mut first = Vec::new();
    for _ in 0..2 {
        let mut client = engine.http1(CALLER).await;
        first.push(tokio::spawn(async move { client.send_request(get("/")).await.unwrap().status() }));
    }
    engine.until("two in flight", |stats| stats.requests_open == 2).await;
    assert_eq!(engine.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(engine.hits("requests_per_workload"), 1);
    for request in first {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(engine.get("/").await.0, StatusCode::OK, "room again");
    engine.until("nothing in flight", |stats| stats.requests_open == 0).await;
}

#[tokio::test]
async fn header_bytes_and_fields() {
    let server = Server::echo(false).await;
    let limits = Limits { header_bytes: 8_000, headers: 20, ..Limits::default() };
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[server.address]).await;
    let head = |fields: usize, length: usize| {
        let line = format!("x: {}\r\n", "y".repeat(length));
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{}\r\n", line.repeat(fields))
    };
    assert_eq!(status(&engine.raw(head(18, 400).as_bytes()).await), 200, "20 fields, below 8,000 bytes");
    assert_eq!(status(&engine.raw(head(19, 10).as_bytes()).await), 431);
    assert_eq!((engine.hits("headers"), engine.hits("header_bytes")), (1, 0));
    assert_eq!(status(&engine.raw(head(1, 9_000).as_bytes()).await), 431);
    assert_eq!(engine.hits("header_bytes"), 1);
    // Without an end in sight.
    let endless = format!("GET /{} ", "a".repeat(20_000));
    assert_eq!(status(&engine.raw(endless.as_bytes()).await), 431);
    let trailers = format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{}\r\n",
        "x: y\r\n".repeat(21)
    );
    assert_eq!(status(&engine.raw(trailers.as_bytes()).await), 431);
    for (count, length, expected) in [(5, 10, 200), (25, 10, 431), (1, 9_000, 431)] {
        let mut client = engine.http2(CALLER).await;
        let mut request = get2("/");
        for n in 0..count {
            let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
            request.headers_mut().insert(name, "y".repeat(length).parse().unwrap());
        }
        assert_eq!(client.send_request(request).await.unwrap().status().as_u16(), expected, "{count} of {length}");
    }
    assert_eq!((engine.hits("headers"), engine.hits("header_bytes")), (3, 3));
}

#[tokio::test]
async fn body_bytes() {
    let server = Server::echo(false).await;
    let limits = Limits { body_bytes: 1_000, ..Limits::default() };
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[server.address]).await;
    let with_length = |length: usize| {
        format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{}",
            "x".repeat(length)
        )
    };
    assert_eq!(status(&engine.raw(with_length(1_000).as_bytes()).await), 200);
    assert_eq!(status(&engine.raw(with_length(1_001).as_bytes()).await), 413);
    let chunked = format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        format!("1f4\r\n{}\r\n", "x".repeat(500)).repeat(3)
    );
    assert_eq!(status(&engine.raw(chunked.as_bytes()).await), 413);
    assert_eq!(engine.hits("body_bytes"), 2);
}

#[tokio::test]
async fn http2_streams() {
    let server = slow_server().await;
    let limits = Limits { http2_streams: 4, ..Limits::default() };
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[server.address]).await;
    let mut client = engine.http2(CALLER).await;
    client.send_request(get2("/")).await.unwrap();
    let requests: Vec<_> = (0..12)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.send_request(get2("/")).await.unwrap().status() })
        })
        .collect();
    engine.until("four in flight", |stats| stats.requests_open == 4).await;
    for request in requests {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
        assert!(engine.stats().requests_open <= 4);
    }
    assert!(engine.hits("http2_streams") > 0);
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let server = Server::start(false, TARGET, |_| async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        Ok(Response::new(full("late")))
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let stream = engine.connect(CALLER).await;
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sent = 0;
    for _ in 0..20_000 {
        let Ok(ready) = client.ready().await else { break };
        client = ready;
        let request = Request::get(format!("http://{HOST}/")).body(()).unwrap();
        let Ok((answer, mut stream)) = client.send_request(request, true) else { break };
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
        sent += 1;
        if sent % 8 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(sent < 20_000, "cut off");
    let _ = connection.await;
    engine.until("all ended", |stats| stats.requests_open == 0 && stats.connections_open == 0).await;
    assert!(engine.stats().requests <= 1_000, "{} requests were begun", engine.stats().requests);
}

/// Fewer on each connection than are too many, and then another connection.
#[tokio::test]
async fn paced_resets_are_counted_over_all_connections() {
    const CONNECTIONS: u64 = 8;
    const EACH: u64 = 150;
    let server = Server::start(false, TARGET, |request| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        Ok(Response::new(full("ok")))
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let cancel = async || {
        let (mut client, connection) = h2::client::handshake(engine.connect(CALLER).await).await.unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..EACH {
            let Ok(ready) = client.ready().await else { break };
            client = ready;
            let request = Request::get(format!("http://{HOST}/slow")).body(()).unwrap();
            let Ok((answer, mut stream)) = client.send_request(request, true) else { break };
            tokio::time::sleep(Duration::from_millis(1)).await;
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
        }
        connection.abort();
    };
    // One that is answered meanwhile, now and later.
    let mut honest = engine.http2(CALLER).await;
    for number in 0..CONNECTIONS {
        cancel().await;
        assert_eq!(honest.send_request(get2("/")).await.unwrap().status(), StatusCode::OK, "connection {number}");
    }
    engine.until("all ended", |stats| stats.requests_open == 0).await;
    let begun = engine.stats().requests - CONNECTIONS;
    assert!(begun >= EACH, "{begun}: below the bound they are begun");
    assert!(begun <= 3 * EACH, "{begun} requests were begun on {CONNECTIONS} connections");
    assert!(engine.hits("http2_cancelled_per_workload") > 0);
    let mut new = engine.http2(CALLER).await;
    for _ in 0..5 {
        assert_eq!(new.send_request(get2("/")).await.unwrap().status(), StatusCode::OK, "it is not locked out");
    }
}

/// A client that breaks its connection takes back what is in flight on it, as with resets; the engine's own end does not count.
#[tokio::test]
async fn requests_on_a_connection_that_its_client_breaks_are_taken_back() {
    const EACH: u32 = 100;
    let silent = raw_server(|stream| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(stream);
    })
    .await;
    let fields = [(":method", &b"GET"[..]), (":scheme", b"http"), (":path", b"/"), (":authority", HOST.as_bytes())];
    let get = |number: u32| frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &block(&fields));
    let begun = async |engine: &Engine, count: u32| {
        let before = engine.stats().requests;
        let requests: Vec<u8> = (0..count).flat_map(get).collect();
        let stream = frames::begun(engine, &[frame(SETTINGS, 0, 0, &[]), requests].concat()).await;
        engine.until("begun", |stats| stats.requests == before + u64::from(count)).await;
        stream
    };
    for broken in [false, true] {
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[silent]).await;
        for generation in 1..4 {
            let mut stream = begun(&engine, EACH).await;
            if broken {
                // No stream has this number.
                stream.write_all(&frame(DATA, 0, 0, b"x")).await.unwrap();
            } else {
                engine.close(&[(CALLER.into(), generation)]).await;
                let mut world = engine.world(ProtocolVersion::Http1, &[silent]);
                world.revision += u64::from(generation);
                world.workloads[0].generation = AliasGeneration::new(generation + 1);
                engine.apply(world).await;
            }
            engine.until("ended", |stats| stats.requests_open == 0).await;
        }
        // Two that are taken back, and the next one: more than half of its connection's.
        let mut stream = begun(&engine, 2).await;
        for id in [1, 3] {
            stream.write_all(&frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())).await.unwrap();
        }
        engine.until("taken back", |stats| stats.requests_open == 0).await;
        stream.write_all(&get(2)).await.unwrap();
        engine.until("begun or reset", |stats| stats.requests_open == 1 || stats.connections_open == 0).await;
        assert_eq!(engine.hits("http2_cancelled_per_workload") > 0, broken, "broken by its client: {broken}");
    }
}
