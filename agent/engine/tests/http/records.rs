//! Lines of the access log and numbers of the metrics, compared with what clients saw.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use brattice_engine::{
    events::metrics::{count::Count, series::Row},
    orders::Order,
};
use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{log::Log, support::*};

/// Requests of each version, 24 of them given up.
const REQUESTS: usize = 2_000;
const GIVEN_UP: usize = 24;

/// What clients saw, by status; 0: they gave up.
async fn send(engine: &Engine, server: &Server, http2: bool) -> BTreeMap<u64, u64> {
    let mut seen = BTreeMap::new();
    let mut client = Client::new(engine, http2).await;
    for n in 0..REQUESTS - GIVEN_UP {
        let (host, path) = match n % 10 {
            5 => (HOST, "/status/404"),
            6 => (HOST, "/status/503"),
            7 => (HOST, "/a%00b"),
            8 => ("nobody.example", "/"),
            9 => (HOST, "/reset"),
            _ => (HOST, "/"),
        };
        let request = client.request_to(host, Method::POST, path).body(full("a body")).unwrap();
        let (parts, body) = client.send(request).await.into_parts();
        body.collect().await.unwrap();
        *seen.entry(u64::from(parts.status.as_u16())).or_default() += 1;
        if parts.headers.get("connection").is_some_and(|value| value == "close") {
            client = Client::new(engine, http2).await;
        }
    }
    for _ in 0..GIVEN_UP {
        let before = server.seen();
        let mut client = Client::new(engine, http2).await;
        let request = client.request(Method::GET, "/never").body(full("")).unwrap();
        let given_up = tokio::spawn(async move { client.send(request).await });
        while server.seen() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        given_up.abort();
        *seen.entry(0).or_default() += 1;
    }
    seen
}

#[tokio::test]
async fn clients_log_and_metrics_count_alike() {
    let server = Server::start(false, TARGET, |request| async move {
        let path = request.uri().path().to_owned();
        request.into_body().collect().await?;
        match path.as_str() {
            "/reset" => Err("the connection is closed".into()),
            "/never" => std::future::pending().await,
            path => {
                let status = path.strip_prefix("/status/").map_or(200, |status| status.parse().unwrap());
                Ok(Response::builder().status(status).body(full("an answer"))?)
            }
        }
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let log = Log::of(&engine, 1);
    let mut clients = send(&engine, &server, false).await;
    for (status, count) in send(&engine, &server, true).await {
        *clients.entry(status).or_default() += count;
    }
    let total = 2 * REQUESTS;
    assert_eq!(clients.values().sum::<u64>(), total as u64);
    assert_eq!(clients.keys().copied().collect::<Vec<_>>(), [0, 200, 400, 404, 502, 503]);
    let lines = log.lines(total).await;
    let mut logged = BTreeMap::new();
    let mut reasons = BTreeMap::new();
    for line in &lines {
        *logged.entry(line["responseCode"].as_u64().unwrap_or(0)).or_default() += 1;
        *reasons.entry(line["failureReason"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(logged, clients, "log and clients");
    let expected = [
        ("-", clients[&200] + clients[&404] + clients[&503]),
        ("ClientConnectionClosed", clients[&0]),
        ("ClientProtocolError", clients[&400]),
        ("TargetConnectionClosed", clients[&502]),
    ];
    assert_eq!(reasons, BTreeMap::from(expected));
    let series = engine.shared.counters.series.all();
    let sum = |count: &dyn Fn(&Row) -> u64| series.iter().map(|series| series.sum(count)).sum::<u64>();
    for class in 0..6 {
        let expected = clients.iter().filter(|(status, _)| *status / 100 == class).map(|(_, count)| count).sum::<u64>();
        let place = usize::try_from(class).unwrap();
        assert_eq!(sum(&|row| row.responses[place].get()), expected, "metrics and clients, {class}xx");
    }
    assert_eq!(sum(&|row| row.durations.iter().map(Count::get).sum()), total as u64);
    let of_lines = |name: &str| lines.iter().map(|line| line[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum(&|row| row.received.get()), of_lines("bytesReceived"));
    assert_eq!(sum(&|row| row.sent.get()), of_lines("bytesSent"));
    let stats = engine.stats();
    assert_eq!((stats.requests, stats.log_lines), (total as u64, [total as u64, 0, 0]));
}

#[tokio::test]
async fn a_sample_has_all_failures() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let log = Log::of(&engine, 1_000);
    let mut client = Client::new(&engine, true).await;
    for n in 0..100 {
        let path = if n % 10 == 9 { "/%00" } else { "/" };
        client.ask(Method::GET, path, &[]).await;
    }
    let lines = log.lines(11).await;
    assert_eq!(lines.iter().filter(|line| line["responseCode"] == 400).count(), 10);
    assert_eq!(engine.stats().log_lines, [11, 0, 89], "the first, and every failure");
}

/// Short, for what is to run out.
const SHORT: u32 = 300;

#[tokio::test]
async fn failures_of_targets_are_named() {
    let cases: [(&'static [u8], bool, &str, u16); 8] = [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", true, "-", 200),
        (b"HTTP/1.1 503 No\r\ncontent-length: 3\r\n\r\nabc", true, "-", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", true, "TargetConnectionClosed", 200),
        (b"", true, "TargetConnectionClosed", 502),
        (b"220 mail ready\r\n\r\n", true, "TargetProtocolError", 502),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", true, "TargetProtocolError", 200),
        (b"", false, "TargetDataTimeout", 504),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", false, "TargetDataTimeout", 200),
    ];
    for (answer, closes, reason, status) in cases {
        let target = raw_server(move |mut stream| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(answer).await.unwrap();
            if !closes {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        })
        .await;
        let limits = Limits { response_timeout_ms: SHORT, body_idle_timeout_ms: SHORT, ..Limits::default() };
        let engine = Engine::serving_impatiently(limits, ProtocolVersion::Http1, &[target]).await;
        let log = Log::of(&engine, 1);
        let text = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        let mut client = engine.connect(CALLER).await;
        client.write_all(text.as_bytes()).await.unwrap();
        let mut came = Vec::new();
        let _ = client.read_to_end(&mut came).await;
        let answer = String::from_utf8_lossy(answer);
        // The line says what the client got.
        assert_eq!(crate::support::status(&came), status, "{answer:?}, closes: {closes}");
        assert_eq!(came.ends_with(b"abc") || came.ends_with(b"3\r\nabc\r\n"), answer.contains("abc"), "{answer:?}");
        assert_eq!(log.only().await, (reason.to_owned(), status.into()), "{answer:?}, closes: {closes}");
    }
    // Nothing listens; no such address.
    let unused = std::net::TcpListener::bind((TARGET, 0)).unwrap().local_addr().unwrap();
    for (targets, status) in [(&[unused][..], 502), (&[], 503)] {
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, targets).await;
        let log = Log::of(&engine, 1);
        assert_eq!(engine.get("/").await.0, status);
        assert_eq!(log.only().await, ("TargetConnectionError".to_owned(), status.into()), "{targets:?}");
    }
}

#[tokio::test]
async fn failures_of_callers_are_named() {
    let server = Server::echo(false).await;
    let limits = Limits { header_timeout_ms: SHORT, body_idle_timeout_ms: SHORT, body_bytes: 100, ..Limits::default() };
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n");
    for (text, reason, status) in [
        (format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"), "-", 200),
        (format!("{post}connection: close\r\ncontent-length: 3\r\n\r\nabc"), "-", 200),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), "ClientProtocolError", 400),
        (format!("{post}content-length: 101\r\n\r\n"), "ClientProtocolError", 413),
        (format!("{post}content-length: 3\r\n\r\na"), "ConnectionDurationExceeded", 408),
        (post.clone(), "ConnectionDurationExceeded", 408),
    ] {
        let engine = Engine::serving_impatiently(limits, ProtocolVersion::Http1, &[server.address]).await;
        let log = Log::of(&engine, 1);
        assert_eq!(crate::support::status(&engine.raw(text.as_bytes()).await), status, "{text}");
        assert_eq!(log.only().await, (reason.to_owned(), status.into()), "{text}");
    }
    // One request too many.
    let silent = raw_server(|stream| async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(stream);
    })
    .await;
    let limits = Limits { requests_per_workload: 1, ..Limits::default() };
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[silent]).await;
    let log = Log::of(&engine, 1);
    let mut first = engine.connect(CALLER).await;
    first.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    engine.until("the first", |stats| stats.requests == 1).await;
    assert_eq!(engine.get("/").await.0, 503);
    assert_eq!(log.only().await, ("ClientRateLimited".to_owned(), 503.into()));
}

/// What ends a response in the middle of its body.
#[derive(Clone, Copy, Debug)]
enum End {
    ClientCloses,
    CallerIsRemoved,
    TargetIsRemoved,
    EngineStops,
    ClientDoesNotRead,
}

/// The client is blamed for what it did, and for nothing that the engine did.
#[tokio::test]
async fn an_end_by_the_engine_has_its_own_reason() {
    for (end, reason) in [
        (End::ClientCloses, "ClientConnectionClosed"),
        (End::CallerIsRemoved, "ClientAccessDenied"),
        (End::TargetIsRemoved, "TargetConnectionClosed"),
        (End::EngineStops, "EngineStopped"),
        (End::ClientDoesNotRead, "ConnectionDurationExceeded"),
    ] {
        for http2 in [false, true] {
            let many = matches!(end, End::ClientDoesNotRead);
            let target = raw_server(move |mut stream| async move {
                read_until(&mut stream, "\r\n\r\n").await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\nabc").await;
                while many && stream.write_all(&[7; 64 * 1024]).await.is_ok() {}
                tokio::time::sleep(Duration::from_secs(20)).await;
            })
            .await;
            let limits = Limits { body_idle_timeout_ms: if many { SHORT } else { 60_000 }, ..Limits::default() };
            let engine = Engine::serving(limits, ProtocolVersion::Http1, &[target]).await;
            let log = Log::of(&engine, 1);
            if matches!(end, End::ClientCloses) && !http2 {
                // Only a reset: who has closed one direction may still wait for the rest (RFC 9112, 9.6).
                let mut client = engine.connect(CALLER).await;
                client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
                read_until(&mut client, "abc").await;
                client.set_zero_linger().unwrap();
                drop(client);
                assert_eq!(log.only().await, (reason.to_owned(), 200.into()), "{end:?}");
                continue;
            }
            let mut client = Client::new(&engine, http2).await;
            let request = client.request(Method::GET, "/").body(full("")).unwrap();
            let answer = client.send(request).await;
            assert_eq!(answer.status(), 200);
            match end {
                End::ClientCloses => drop((client, answer)),
                End::CallerIsRemoved => engine.close(&[(CALLER.into(), 1)]).await,
                End::TargetIsRemoved => engine.close(&[(TARGET.into(), 1)]).await,
                End::EngineStops => {
                    let stop = Order::Shutdown(Duration::from_millis(50));
                    engine.workers.all(&stop, Duration::from_secs(5)).await.unwrap();
                }
                End::ClientDoesNotRead => {}
            }
            assert_eq!(log.only().await, (reason.to_owned(), 200.into()), "{end:?} over HTTP/2 {http2}");
            let decision = if matches!(end, End::CallerIsRemoved) { "caller-gone" } else { "-" };
            assert_eq!(log.lines(1).await[0]["decisionId"], decision, "{end:?} over HTTP/2 {http2}");
        }
    }
}

/// The target responds at once; then the request's body goes wrong, or does not.
#[tokio::test]
async fn a_request_body_that_breaks_during_the_response_is_not_the_targets_fault() {
    let hundred = "x".repeat(100);
    for (rest, reason, limit) in [
        ("0\r\n\r\n".to_owned(), "-", 0),
        (format!("64\r\n{hundred}\r\n0\r\n\r\n"), "ClientProtocolError", 1),
        ("no size\r\n".to_owned(), "ClientProtocolError", 0),
        (String::new(), "ClientConnectionClosed", 0),
    ] {
        let target = raw_server(|mut stream| async move {
            read_until(&mut stream, "a\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc").await.unwrap();
            // The whole request, or its end.
            let mut request = Vec::new();
            while !request.ends_with(b"0\r\n\r\n") {
                match stream.read_buf(&mut request).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
            let _ = stream.write_all(b"def").await;
        })
        .await;
        let limits = Limits { body_bytes: 100, ..Limits::default() };
        let engine = Engine::serving(limits, ProtocolVersion::Http1, &[target]).await;
        let log = Log::of(&engine, 1);
        let mut client = engine.connect(CALLER).await;
        let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut client, "abc").await;
        if rest.is_empty() {
            client.set_zero_linger().unwrap();
            drop(client);
        } else {
            client.write_all(rest.as_bytes()).await.unwrap();
        }
        assert_eq!(log.only().await, (reason.to_owned(), 200.into()), "{rest:?}");
        assert_eq!(engine.hits("body_bytes"), limit, "{rest:?}");
    }
}

/// After a change of the protocol, too.
#[tokio::test]
async fn an_end_of_an_upgraded_connection_by_the_engine_has_its_own_reason() {
    for (stops, reason) in [(false, "-"), (true, "EngineStopped")] {
        let target = raw_server(|mut stream| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let answer = b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
            stream.write_all(answer).await.unwrap();
            // Until the client has finished.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
        let log = Log::of(&engine, 1);
        let mut client = engine.connect(CALLER).await;
        let offer = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        client.write_all(offer.as_bytes()).await.unwrap();
        read_until(&mut client, "hello").await;
        if stops {
            engine.workers.all(&Order::Shutdown(Duration::from_millis(50)), Duration::from_secs(5)).await.unwrap();
        } else {
            client.shutdown().await.unwrap();
        }
        assert_eq!(log.only().await, (reason.to_owned(), 101.into()), "stops: {stops}");
    }
}

#[tokio::test]
async fn grpc_statuses_are_logged() {
    let server = Server::start(true, TARGET, |request| async move {
        let path = request.uri().path().to_owned();
        let frames: Vec<Result<Frame<Bytes>, Infallible>> = match path.as_str() {
            "/trailers" => {
                let trailers = HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("5"),
                )]);
                vec![Ok(Frame::data(Bytes::from_static(b"x"))), Ok(Frame::trailers(trailers))]
            }
            _ => Vec::new(),
        };
        let mut answer = Response::builder();
        if path == "/header" {
            answer = answer.header("grpc-status", "7");
        }
        let body = StreamBody::new(futures_util::stream::iter(frames)).map_err(|never| match never {});
        Ok(answer.body(body.boxed_unsync())?)
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http2, &[server.address]).await;
    let log = Log::of(&engine, 1);
    let mut client = Client::new(&engine, true).await;
    for path in ["/trailers", "/header", "/neither"] {
        client.ask(Method::POST, path, &[("content-type", "application/grpc")]).await;
    }
    let lines = log.lines(3).await;
    let found = |path: &str| lines.iter().find(|line| line["requestPath"] == path).unwrap()["grpcResponseCode"].clone();
    assert_eq!([found("/trailers"), found("/header"), found("/neither")], [5.into(), 7.into(), Value::from("-")]);
}
