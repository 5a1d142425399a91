//! Times, each run out and counted, each with the control that is quick enough.

use std::time::{Duration, Instant};

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// Short times; what runs out does so between these two. The sweeper needs at most a quarter more; the rest is for
/// machines that do other things, too.
const SHORT: u32 = 400;
const EARLIEST: Duration = Duration::from_millis(SHORT as u64);
const LATEST: Duration = Duration::from_millis(4 * SHORT as u64);

fn within(started: Instant, what: &str) {
    let took = started.elapsed();
    assert!((EARLIEST..LATEST).contains(&took), "{what} took {took:?}");
}

#[tokio::test]
async fn a_header_section_must_come_to_its_end() {
    let server = Server::echo(false).await;
    let limits = Limits { header_timeout_ms: SHORT, ..Limits::default() };
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[server.address]).await;
    for (n, text) in ["GET / HTTP/1.1\r\n", "G", "PRI * HTTP/2.0\r\n"].iter().enumerate() {
        let started = Instant::now();
        let answer = engine.raw(text.as_bytes()).await;
        within(started, text);
        let expected = if n < 2 { 408 } else { 0 };
        assert_eq!(status(&answer), expected, "{text}");
        assert_eq!(engine.hits("header_timeout_ms"), n as u64 + 1);
    }
    // Dripping does not help.
    let mut client = engine.connect(CALLER).await;
    let started = Instant::now();
    let mut open = true;
    while open && started.elapsed() < Duration::from_secs(5) {
        open = client.write_all(b"x").await.is_ok();
        tokio::time::sleep(Duration::from_millis(20)).await;
        open &= engine.hits("header_timeout_ms") == 3;
    }
    assert!(started.elapsed() < 2 * LATEST);
    // HTTP/2: a HEADERS frame without END_HEADERS, and nothing after it.
    let mut client = engine.connect(CALLER).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x01\0\0\0\x01\x82";
    client.write_all(preface).await.unwrap();
    let started = Instant::now();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    within(started, "CONTINUATION");
    assert_eq!(engine.hits("header_timeout_ms"), 5);
    // A second request on a kept connection has the same time; a quick one passes.
    let mut client = engine.connect(CALLER).await;
    client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut client, "GET / ").await;
    tokio::time::sleep(LATEST).await;
    client.write_all(b"GET /second HTTP/1.1\r\nhost:").await.unwrap();
    tokio::time::sleep(EARLIEST / 4).await;
    client.write_all(format!(" {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut client, "GET /second ").await;
}

#[tokio::test]
async fn a_target_must_begin_its_answer() {
    for http2 in [false, true] {
        let server = Server::start(http2, TARGET, |request| async move {
            let slow = request.uri().path() == "/slow";
            request.into_body().collect().await?;
            if slow {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
            Ok(Response::new(full("ok")))
        })
        .await;
        let protocol = if http2 { ProtocolVersion::Http2 } else { ProtocolVersion::Http1 };
        let limits = Limits { response_timeout_ms: SHORT, ..Limits::default() };
        let engine = Engine::serving_impatiently(limits, protocol, &[server.address]).await;
        let started = Instant::now();
        assert_eq!(engine.get("/slow").await.0, StatusCode::GATEWAY_TIMEOUT);
        within(started, "an answer");
        assert_eq!(engine.hits("response_timeout_ms"), 1);
        assert_eq!(engine.get("/").await.0, StatusCode::OK);
        // A long upload is no slow answer.
        let mut client = engine.connect(CALLER).await;
        client
            .write_all(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 8\r\n\r\n").as_bytes())
            .await
            .unwrap();
        for _ in 0..8 {
            tokio::time::sleep(EARLIEST / 4).await;
            client.write_all(b"x").await.unwrap();
        }
        assert!(read_until(&mut client, "ok").await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_target_must_be_reached() {
    let engine = Engine::start(Limits::default());
    // A full accept queue: the kernel answers no SYN.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((TARGET, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _first = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut world = engine.world(ProtocolVersion::Http1, &[address]);
    world.target_groups[0].connect_timeout_ms = SHORT;
    engine.apply(world).await;
    let started = Instant::now();
    assert_eq!(engine.get("/").await.0, StatusCode::GATEWAY_TIMEOUT);
    within(started, "a connect");
    assert_eq!(engine.stats().connect_errors, 1);
}

#[tokio::test]
async fn bodies_must_go_on() {
    let limits = Limits { body_idle_timeout_ms: SHORT, ..Limits::default() };
    // The client stops.
    let server = Server::echo(false).await;
    let engine = Engine::serving_impatiently(limits, ProtocolVersion::Http1, &[server.address]).await;
    let started = Instant::now();
    let half = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\nhalf");
    let answer = engine.raw(half.as_bytes()).await;
    within(started, "an upload");
    assert_eq!(status(&answer), 408);
    assert_eq!(engine.hits("body_idle_timeout_ms"), 1);
    // The target stops.
    let stops = raw_server(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await.unwrap();
        for _ in 0..10 {
            stream.write_all(b"x").await.unwrap();
            if head.starts_with("GET /stop") {
                break;
            }
            tokio::time::sleep(EARLIEST / 4).await;
        }
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let engine = Engine::serving_impatiently(limits, ProtocolVersion::Http1, &[stops]).await;
    for http2 in [false, true] {
        let started = Instant::now();
        let response = if http2 {
            engine.http2(CALLER).await.send_request(get2("/stop")).await.unwrap()
        } else {
            engine.http1(CALLER).await.send_request(get("/stop")).await.unwrap()
        };
        assert!(response.into_body().collect().await.is_err());
        within(started, "a download");
    }
    assert_eq!(engine.hits("body_idle_timeout_ms"), 2);
    assert_eq!(engine.get("/slowly").await.2, "xxxxxxxxxx", "slow is not stopped");
}

/// `idleTimeoutSeconds`: long polls, event streams and slow uploads that are silent for longer than the engine's own bounds,
/// and no longer than the service's.
#[tokio::test]
async fn a_service_allows_as_much_silence_as_it_says() {
    const ALLOWED: Duration = Duration::from_millis(4 * SHORT as u64);
    let target = raw_server(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let silence = if head.contains("/longer") { 20 * ALLOWED } else { ALLOWED / 2 };
        if head.starts_with("GET /poll") {
            tokio::time::sleep(silence).await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n").await.unwrap();
        for event in [b"a", b"b", b"c"] {
            if head.starts_with("GET /events") {
                tokio::time::sleep(silence).await;
            }
            stream.write_all(event).await.unwrap();
        }
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let limits = Limits { body_idle_timeout_ms: SHORT / 4, response_timeout_ms: SHORT / 4, ..Limits::default() };
    for http2 in [false, true] {
        let engine = Engine::start(limits);
        let mut world = engine.world(ProtocolVersion::Http1, &[target]);
        world.services[0].idle_timeout_ms = 4 * SHORT;
        engine.apply(world).await;
        let ask = async |path: &str| -> (StatusCode, Option<bytes::Bytes>) {
            let response = if http2 {
                engine.http2(CALLER).await.send_request(get2(path)).await.unwrap()
            } else {
                engine.http1(CALLER).await.send_request(get(path)).await.unwrap()
            };
            (response.status(), response.into_body().collect().await.ok().map(http_body_util::Collected::to_bytes))
        };
        for path in ["/poll", "/events"] {
            assert_eq!(ask(path).await, (StatusCode::OK, Some("abc".into())), "{path}, HTTP/2: {http2}");
        }
        assert_eq!((engine.hits("response_timeout_ms"), engine.hits("body_idle_timeout_ms")), (0, 0));
        let started = Instant::now();
        assert_eq!(ask("/poll/longer").await.0, StatusCode::GATEWAY_TIMEOUT, "HTTP/2: {http2}");
        assert_eq!(ask("/events/longer").await, (StatusCode::OK, None), "HTTP/2: {http2}");
        let took = started.elapsed();
        assert!((2 * ALLOWED..10 * ALLOWED).contains(&took), "{took:?}");
        assert_eq!((engine.hits("response_timeout_ms"), engine.hits("body_idle_timeout_ms")), (1, 1));
    }
    // An upload that pauses.
    let server = Server::echo(false).await;
    let engine = Engine::start(limits);
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    world.services[0].idle_timeout_ms = 4 * SHORT;
    engine.apply(world).await;
    let mut client = engine.connect(CALLER).await;
    let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..2 {
        tokio::time::sleep(ALLOWED / 2).await;
        client.write_all(b"x").await.unwrap();
    }
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 200);
}

#[tokio::test]
async fn a_client_that_stops_reading_is_given_up() {
    let limits = Limits { body_idle_timeout_ms: SHORT, ..Limits::default() };
    let endless = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
        let piece = vec![7; 64 * 1024];
        while stream.write_all(&piece).await.is_ok() {}
    })
    .await;
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[endless]).await;
    let mut client = engine.connect(CALLER).await;
    client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    engine.until("given up", |stats| stats.requests == 1 && stats.connections_open == 0).await;
    assert_eq!(engine.hits("body_idle_timeout_ms"), 1);
    // HTTP/2: only the stream is ended, the connection serves on.
    let stream = engine.connect(CALLER).await;
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client = client.ready().await.unwrap();
    let request = http::Request::get(format!("http://{HOST}/")).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    engine.until("given up", |stats| stats.requests_open == 0).await;
    assert_eq!(engine.hits("body_idle_timeout_ms"), 2);
    assert_eq!(engine.stats().connections_open, 1);
    let ended = loop {
        match body.data().await {
            Some(Ok(data)) => drop(body.flow_control().release_capacity(data.len())),
            end => break end,
        }
    };
    assert!(matches!(ended, Some(Err(_))), "never a whole answer: {ended:?}");
    client = client.ready().await.unwrap();
    let request = http::Request::get("http://unknown.example/").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_client_that_pipelines_and_reads_nothing_is_given_up() {
    let limits = Limits { write_timeout_ms: SHORT, ..Limits::default() };
    let server = Server::echo(false).await;
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[server.address]).await;
    let request = format!("GET /{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", "x".repeat(4_000));
    let client = engine.connect(CALLER).await;
    let (mut reader, mut writer) = client.into_split();
    let written = tokio::spawn(async move {
        for _ in 0..20_000 {
            if writer.write_all(request.as_bytes()).await.is_err() {
                return true;
            }
        }
        false
    });
    engine.until("given up", |stats| stats.requests > 10 && stats.connections_open == 0).await;
    assert_eq!(engine.hits("write_timeout_ms"), 1);
    assert!(written.await.unwrap(), "reset while it wrote");
    drop(reader.read(&mut [0; 1]).await);
    // One that reads all the time, slowly, is served.
    let mut slow = engine.connect(CALLER).await;
    let request = format!("GET /{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", "x".repeat(40_000));
    for _ in 0..8 {
        slow.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(EARLIEST / 4).await;
        let mut left = 40_000;
        while left > 0 {
            left -= slow.read(&mut vec![0; 8_000]).await.unwrap().min(left);
        }
    }
    assert_eq!(engine.hits("write_timeout_ms"), 1);
}

/// Our own response, and a target's, for a stream whose window never opens.
#[tokio::test]
async fn streams_without_a_window_are_given_up() {
    let limits = Limits { body_idle_timeout_ms: SHORT, ..Limits::default() };
    let server = Server::echo(false).await;
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[server.address]).await;
    let stream = engine.connect(CALLER).await;
    let mut builder = h2::client::Builder::new();
    let (mut client, connection) = builder.initial_window_size(0).handshake::<_, bytes::Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let started = Instant::now();
    let mut bodies = Vec::new();
    for host in [HOST, "unknown.example"] {
        client = client.ready().await.unwrap();
        let request = http::Request::get(format!("http://{host}/")).body(()).unwrap();
        bodies.push(client.send_request(request, true).unwrap().0.await.unwrap().into_body());
    }
    for body in &mut bodies {
        assert!(matches!(body.data().await, Some(Err(_))), "reset");
    }
    within(started, "a closed window");
    engine.until("given up", |stats| stats.requests_open == 0).await;
    assert_eq!(engine.hits("body_idle_timeout_ms"), 2);
    assert_eq!(engine.stats().connections_open, 1, "the connection serves on");
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    world.services[0].idle_timeout_ms = 1_000;
    engine.apply(world).await;
    let started = Instant::now();
    let mut silent = engine.connect(CALLER).await;
    let mut one = engine.connect(CALLER).await;
    one.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut one, "GET / ").await;
    let mut two = engine.http2(CALLER).await;
    two.send_request(get2("/")).await.unwrap().into_body().collect().await.unwrap();
    for client in [&mut silent, &mut one] {
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "an orderly close");
        assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&started.elapsed()));
    }
    engine.until("closed", |stats| stats.connections_open == 0).await;
    assert!(two.send_request(get2("/")).await.is_err());
}

#[tokio::test]
async fn a_shutdown_lets_requests_finish() {
    use brattice_engine::orders::Order;
    let server = Server::start(false, TARGET, |_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Response::new(full("ok")))
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let _idle = engine.connect(CALLER).await;
    let mut client = engine.http1(CALLER).await;
    let request = tokio::spawn(async move {
        let response = client.send_request(get("/")).await.unwrap();
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    });
    engine.until("in flight", |stats| stats.requests_open == 1 && stats.connections_open == 2).await;
    let started = Instant::now();
    let order = Order::Shutdown(Duration::from_secs(5));
    engine.workers.all(&order, Duration::from_secs(8)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(request.await.unwrap(), (StatusCode::OK, "ok".into()));
    assert_eq!(engine.stats().connections_open, 0);
}
