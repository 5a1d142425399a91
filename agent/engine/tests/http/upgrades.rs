//! Other protocols over a connection that began as HTTP/1.1.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use brattice_engine::orders::Order;
use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use http::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

/// Long enough for what is passed on to have come; short, as it is waited for where nothing may come.
const A_WHILE: Duration = Duration::from_millis(200);

fn offer(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\n{fields}\r\n")
}

const WEBSOCKET: &str =
    "upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";

/// Changes to whatever is offered first, says `ready`, then answers every byte with its capital; until the client has
/// finished, after which it says `bye`. A path `/no` is answered in HTTP, and the connection kept.
async fn switcher() -> SocketAddr {
    raw_server(|mut stream| async move {
        loop {
            let head = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
            let protocol = head.lines().find_map(|line| line.strip_prefix("upgrade: "));
            let Some(protocol) = protocol.filter(|_| !head.contains(" /no ")) else {
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-seen: yes\r\n\r\n{head}", head.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                continue;
            };
            let protocol = protocol.split(',').next().unwrap();
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\
                 sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nx-amzn-lattice-identity: forged\r\n\r\nready"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut room = [0; 4096];
            loop {
                match stream.read(&mut room).await {
                    Ok(0) => break,
                    Ok(count) => {
                        let capitals = room[..count].to_ascii_uppercase();
                        if stream.write_all(&capitals).await.is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
            let _ = stream.write_all(b"bye").await;
            return;
        }
    })
    .await
}

async fn switched(engine: &Engine) -> TcpStream {
    let mut client = engine.connect(CALLER).await;
    client.write_all(offer("/chat", WEBSOCKET).as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "ready").await;
    assert_eq!(status(answer.as_bytes()), 101, "{answer}");
    client
}

async fn says(client: &mut TcpStream, text: &str, expected: &str) {
    client.write_all(text.as_bytes()).await.unwrap();
    let mut room = vec![0; expected.len()];
    tokio::time::timeout(Duration::from_secs(5), client.read_exact(&mut room)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&room), expected);
}

/// Whether the next thing that comes is a reset.
async fn is_reset(client: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(5), client.read(&mut [0; 64])).await.expect("still open");
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn both_sides_talk_for_as_long_as_they_like() {
    let target = switcher().await;
    // Every time that could end it is shorter than the silence.
    let limits = Limits {
        header_timeout_ms: 100,
        body_idle_timeout_ms: 100,
        response_timeout_ms: 100,
        pool_idle_timeout_ms: 100,
        ..Limits::default()
    };
    let engine = Engine::start(limits);
    let mut world = engine.world(ProtocolVersion::Http1, &[target]);
    world.services[0].idle_timeout_ms = 1_000;
    engine.apply(world).await;
    let mut client = engine.connect(CALLER).await;
    let fields = format!("{WEBSOCKET}keep-alive: 5\r\nx-amzn-lattice-identity: forged\r\n");
    client.write_all(offer("/chat?room=1", &fields).as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "ready").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let head = answer.split_once("\r\n\r\n").unwrap().0.to_ascii_lowercase();
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
        "x-amzn-requestid: ",
    ] {
        assert!(head.contains(&format!("\r\n{line}")), "{line} in {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    assert!(!head.contains("x-amzn-lattice-identity"), "{head}");
    says(&mut client, "hello", "HELLO").await;
    assert_eq!((engine.stats().connections_open, engine.stats().responses[0]), (1, 1));
    assert_eq!(engine.stats().busiest[..2], [1, 0], "a connection of the workload, and no request");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for n in 0..100 {
        says(&mut client, &format!("still here {n}"), &format!("STILL HERE {n}")).await;
    }
    // Half-close: the target gets the end, and still sends its data.
    client.shutdown().await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye");
    engine.until("closed", |stats| stats.connections_open == 0 && stats.requests_open == 0).await;
    assert_eq!(engine.hits("body_idle_timeout_ms") + engine.hits("response_timeout_ms"), 0);
}

#[tokio::test]
async fn a_target_that_finishes_first_leaves_the_other_way_open() {
    let target = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: tail/1\r\n\r\nlast words").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "thanks");
        // The test ends when this connection does.
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let mut client = engine.connect(CALLER).await;
    client.write_all(offer("/", "upgrade: tail/1, other\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("last words"), "{answer}");
    assert_eq!(engine.stats().connections_open, 1, "one way is open");
    client.write_all(b"thanks").await.unwrap();
    client.shutdown().await.unwrap();
    engine.until("closed", |stats| stats.connections_open == 0).await;
}

#[tokio::test]
async fn much_passes_whole_and_slow_sides_hold_it_back() {
    const SIZE: usize = 16 * 1024 * 1024;
    let target = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: bulk\r\n\r\n").await.unwrap();
        tokio::time::sleep(A_WHILE).await;
        let (mut reader, mut writer) = stream.into_split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let mut client = engine.connect(CALLER).await;
    client.write_all(offer("/", "upgrade: bulk\r\n").as_bytes()).await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    let (mut reader, mut writer) = client.into_split();
    let bytes: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8).collect();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    tokio::time::sleep(A_WHILE).await;
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await.unwrap();
    sending.await.unwrap();
    assert!(received == bytes, "{} of {SIZE} bytes, or others", received.len());
}

#[tokio::test]
async fn an_answer_in_http_is_just_an_answer() {
    let target = switcher().await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let mut client = engine.connect(CALLER).await;
    // Behind the offer comes another request: it is HTTP, as the offer is not taken.
    let next = format!("GET /next HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    client.write_all(format!("{next}{}{next}{next}", offer("/no", WEBSOCKET)).as_bytes()).await.unwrap();
    let mut answers = String::new();
    while answers.matches("get /next ").count() < 3 {
        let mut room = [0; 4096];
        let count = tokio::time::timeout(Duration::from_secs(5), client.read(&mut room)).await.unwrap().unwrap();
        assert!(count > 0, "{answers}");
        answers.push_str(&String::from_utf8_lossy(&room[..count]));
    }
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 4, "{answers}");
    assert!(answers.contains("get /no ") && answers.contains("upgrade: websocket"), "{answers}");
    // And again on the kept connection, whole and byte by byte.
    for byte in offer("/no", WEBSOCKET).bytes() {
        client.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read_until(&mut client, "get /no ").await.starts_with("HTTP/1.1 200 "));
    client.write_all(next.as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "get /next ").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(engine.stats().refused_requests, 0);
}

#[tokio::test]
async fn nothing_behind_an_offer_is_read_before_its_answer() {
    // Answers late, and never in HTTP.
    let target = raw_server(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.ends_with("\r\n\r\n"), "something came before the change: {head:?}");
        let early = tokio::time::timeout(A_WHILE, stream.read(&mut [0; 64])).await;
        assert!(early.is_err(), "something came before the change");
        stream.write_all(b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    for early in ["\x01\x02 this is no HTTP\n\n", "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut client = engine.connect(CALLER).await;
        client.write_all([offer("/", "upgrade: x\r\n").as_str(), early].concat().as_bytes()).await.unwrap();
        let answer = read_until(&mut client, early).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
    }
    // A client that sends on and on is held back by its window, not kept in memory.
    let mut client = engine.connect(CALLER).await;
    client.write_all(offer("/", "upgrade: x\r\n").as_bytes()).await.unwrap();
    let much = vec![b'm'; 1024 * 1024];
    let (mut reader, mut writer) = client.into_split();
    let writing = tokio::spawn(async move {
        writer.write_all(&much).await.unwrap();
        writer
    });
    let mut received = 0;
    let mut room = vec![0; 64 * 1024];
    while received < 1024 * 1024 {
        let count = tokio::time::timeout(Duration::from_secs(5), reader.read(&mut room)).await.unwrap().unwrap();
        received += room[..count].iter().filter(|byte| **byte == b'm').count();
    }
    drop(writing.await.unwrap());
    // A client that goes away while it waits is noticed.
    let hanging = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[hanging]).await;
    let mut client = engine.connect(CALLER).await;
    client.write_all(offer("/", "upgrade: x\r\n").as_bytes()).await.unwrap();
    engine.until("waits", |stats| stats.requests_open == 1).await;
    drop(client);
    engine.until("gone", |stats| stats.requests_open == 0 && stats.connections_open == 0).await;
}

#[tokio::test]
async fn http_is_never_offered_again() {
    let target = switcher().await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    for fields in [
        "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "connection: HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "upgrade: H2C\r\n",
        "upgrade: h2c, h2\r\n",
        "upgrade: HTTP/2.0\r\n",
        "upgrade: TLS/1.2\r\n",
        "upgrade: TLS/1.0, HTTP/1.1\r\n",
        "upgrade:\r\n",
        "upgrade: ,\r\n",
        "http2_settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    ] {
        let mut client = engine.connect(CALLER).await;
        client.write_all(offer("/", fields).as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "x-amzn-requestid: ").await.to_ascii_lowercase();
        assert_eq!(status(answer.to_ascii_uppercase().as_bytes()), 200, "{fields}: {answer}");
        let seen = answer.split_once("get / ").map_or_else(|| answer.clone(), |(_, head)| head.to_owned());
        for never in ["upgrade:", "http2-settings", "http2_settings", "connection:"] {
            assert!(!seen.contains(never), "{never} of {fields} in {seen}");
        }
        // The connection is HTTP as before: what would be HTTP/2 is refused.
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        assert!(read_until(&mut client, "connection: close").await.contains("HTTP/1.1 400 "), "{fields}");
    }
    // Among others, only the others are.
    let mut client = engine.connect(CALLER).await;
    client.write_all(offer("/no", "upgrade: h2c, websocket\r\nupgrade: TLS/1.3\r\n").as_bytes()).await.unwrap();
    let mut seen = String::new();
    // The answer's head, and in its body the one that the target saw.
    while seen.matches("\r\n\r\n").count() < 2 {
        let mut room = [0; 4096];
        let count = tokio::time::timeout(Duration::from_secs(5), client.read(&mut room)).await.unwrap().unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&room[..count]));
    }
    assert!(seen.contains("upgrade: websocket\r\n"), "{seen}");
}

#[tokio::test]
async fn what_is_no_offer_passes_as_a_request() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\n";
    for (what, head) in [
        ("a body", format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n{websocket}content-length: 5\r\n\r\nhello")),
        (
            "chunks",
            format!(
                "POST / HTTP/1.1\r\nhost: {HOST}\r\n{websocket}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
        ),
        ("HTTP/1.0", format!("POST / HTTP/1.0\r\nhost: {HOST}\r\n{websocket}content-length: 5\r\n\r\nhello")),
        (
            "no connection option",
            format!("POST / HTTP/1.1\r\nhost: {HOST}\r\nupgrade: websocket\r\ncontent-length: 5\r\n\r\nhello"),
        ),
    ] {
        let mut client = engine.connect(CALLER).await;
        client.write_all(head.as_bytes()).await.unwrap();
        assert!(read_until(&mut client, "POST / hello").await.contains(" 200 "), "{what}");
        let last = server.last();
        assert!(!last.headers.contains_key("upgrade") && !last.headers.contains_key("connection"), "{what}");
    }
    let mut client = engine.connect(CALLER).await;
    let without = format!("GET /x HTTP/1.1\r\nhost: {HOST}\r\nupgrade: websocket\r\n\r\n");
    client.write_all([without.as_str(), &without].concat().as_bytes()).await.unwrap();
    let mut answers = String::new();
    while answers.matches("GET /x ").count() < 2 {
        answers += &read_until(&mut client, "GET /x ").await;
    }
    assert!(!server.last().headers.contains_key("upgrade"), "it is not named in Connection");
    client.write_all(offer("/", WEBSOCKET).as_bytes()).await.unwrap();
    read_until(&mut client, "GET / ").await;
    assert_eq!(server.last().headers["upgrade"], "websocket", "control");
    assert_eq!(server.last().headers["connection"], "upgrade");
    // Towards HTTP/2 there is nothing to upgrade.
    let server = Server::echo(true).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http2, &[server.address]).await;
    let mut client = engine.connect(CALLER).await;
    client.write_all(offer("/", WEBSOCKET).as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "GET / ").await.starts_with("HTTP/1.1 200 "));
    assert!(!server.last().headers.contains_key("upgrade") && !server.last().headers.contains_key("connection"));
    assert_eq!(server.last().headers["sec-websocket-version"], "13");
}

#[tokio::test]
async fn a_change_that_was_not_offered_is_502() {
    for (what, fields, answer) in [
        ("not asked", "", "upgrade: websocket\r\nconnection: upgrade\r\n"),
        ("another one", "connection: upgrade\r\nupgrade: websocket\r\n", "upgrade: other\r\nconnection: upgrade\r\n"),
        ("HTTP/2", "connection: upgrade\r\nupgrade: h2c, websocket\r\n", "upgrade: h2c\r\nconnection: upgrade\r\n"),
        ("none at all", "connection: upgrade\r\nupgrade: websocket\r\n", "connection: upgrade\r\n"),
    ] {
        let target = raw_server(move |mut stream| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let head = format!("HTTP/1.1 101 Switching Protocols\r\n{answer}\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.read(&mut [0; 1]).await;
        })
        .await;
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
        let mut client = engine.connect(CALLER).await;
        let head = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{fields}\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "\r\n\r\n").await;
        assert_eq!(status(answer.as_bytes()), 502, "{what}: {answer}");
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            assert_eq!(client.ask(Method::GET, "/", &[]).await.0, StatusCode::BAD_GATEWAY, "{what}");
        }
    }
}

#[tokio::test]
async fn closing_an_alias_ends_both_sides() {
    for alias in [CALLER, TARGET] {
        let target = switcher().await;
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
        let mut client = switched(&engine).await;
        engine.close(&[(IpAddr::from(STRANGER), 1)]).await;
        says(&mut client, "others", "OTHERS").await;
        engine.close(&[(IpAddr::from(alias), 1)]).await;
        assert!(is_reset(&mut client).await, "{alias}");
        engine.until("closed", |stats| stats.connections_open == 0 && stats.requests_open == 0).await;
    }
}

#[tokio::test]
async fn a_side_that_breaks_resets_the_other() {
    let target = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nready").await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let mut client = switched(&engine).await;
    client.write_all(b"x").await.unwrap();
    assert!(is_reset(&mut client).await, "what was cut short does not look finished");
    engine.until("closed", |stats| stats.connections_open == 0 && stats.requests_open == 0).await;
}

#[tokio::test]
async fn a_shutdown_waits_as_long_as_it_says() {
    let target = switcher().await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let mut client = switched(&engine).await;
    let mut finishing = switched(&engine).await;
    let started = Instant::now();
    let workers = engine.workers.clone();
    let shutdown =
        tokio::spawn(
            async move { workers.all(&Order::Shutdown(Duration::from_secs(1)), Duration::from_secs(5)).await },
        );
    tokio::time::sleep(A_WHILE).await;
    says(&mut client, "still", "STILL").await;
    finishing.shutdown().await.unwrap();
    let mut rest = String::new();
    finishing.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye");
    assert!(is_reset(&mut client).await);
    let took = started.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&took), "{took:?}");
    shutdown.await.unwrap().unwrap();
    assert_eq!(engine.stats().connections_open, 0);
}

#[tokio::test]
async fn an_upgraded_connection_counts_as_one() {
    let target = switcher().await;
    let limits = Limits { connections_per_workload: 2, requests_per_workload: 1, ..Limits::default() };
    let engine = Engine::serving(limits, ProtocolVersion::Http1, &[target]).await;
    let first = switched(&engine).await;
    let _second = switched(&engine).await;
    assert!(engine.resets(CALLER).await, "the third");
    assert_eq!((engine.hits("connections_per_workload"), engine.hits("requests_per_workload")), (1, 0));
    drop(first);
    engine.until("closed", |stats| stats.connections_open == 1).await;
    drop(switched(&engine).await);
}
