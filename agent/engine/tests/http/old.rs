//! Old and simple clients and health checkers: HTTP/1.0, heads without any field, connections closed after the request or
//! half-closed behind it. They are served as nginx would serve them, where one service is meant.

use std::time::Duration;

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

/// Name, request, and what the target saw: method, path and body.
const ONCE: &[(&str, &str, &str)] = &[
    ("a bare head of HTTP/1.0", "GET / HTTP/1.0~~", "GET / "),
    ("HTTP/1.0 with a host", "GET /a HTTP/1.0~Host: H~~", "GET /a "),
    ("HAProxy's check", "OPTIONS / HTTP/1.0~~", "OPTIONS / "),
    ("a check of the server", "OPTIONS * HTTP/1.0~~", "OPTIONS * "),
    ("a length", "POST /a HTTP/1.0~Content-Length: 5~~hello", "POST /a hello"),
    ("an absolute target of HTTP/1.0", "GET http://H/a HTTP/1.0~~", "GET /a "),
    (
        "an expectation that HTTP/1.0 has not",
        "POST / HTTP/1.0~Expect: 100-continue~Content-Length: 5~~hello",
        "POST / hello",
    ),
    ("a VIP as host", "GET / HTTP/1.0~Host: VIP~~", "GET / "),
    ("ApacheBench", "GET / HTTP/1.0~Host: VIP:80~User-Agent: ApacheBench/2.3~Accept: */*~~", "GET / "),
    ("close", "GET / HTTP/1.1~Host: H~Connection: close~~", "GET / "),
    ("an empty line first", "~GET / HTTP/1.0~~", "GET / "),
];

fn bytes(text: &str) -> String {
    text.replace('~', "\r\n")
        .replace("H\r", &format!("{HOST}\r"))
        .replace("//H/", &format!("//{HOST}/"))
        .replace("VIP", &VIP.to_string())
}

/// All that comes until the engine closes.
async fn rest(client: &mut TcpStream, name: &str) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(read.is_ok(), "{name}: still open after {answer:?}");
    answer
}

#[tokio::test]
async fn simple_requests_are_answered_and_the_connection_closed() {
    for to in [false, true] {
        let server = Server::echo(to).await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        for (name, text, seen) in ONCE {
            for half_closed in [false, true] {
                let mut client = engine.connect(CALLER).await;
                client.write_all(bytes(text).as_bytes()).await.unwrap();
                if half_closed {
                    client.shutdown().await.unwrap();
                }
                let answer = rest(&mut client, name).await;
                assert_eq!(status(answer.as_bytes()), 200, "{name}, half-closed {half_closed}: {answer}");
                assert!(answer.ends_with(&format!("\r\n\r\n{seen}")), "{name}, half-closed {half_closed}: {answer}");
                let last = server.last();
                let host = if to {
                    last.uri.authority().unwrap().to_string()
                } else {
                    last.headers["host"].to_str().unwrap().to_owned()
                };
                assert!(host.starts_with(HOST) || host.starts_with(&VIP.to_string()), "{name}: {host}");
                assert!(!last.headers.contains_key("expect"), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_half_closed_client_gets_all_of_its_answers() {
    let server = Server::start(false, TARGET, |request| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let path = request.uri().path().to_owned();
        Ok(Response::new(full(path.repeat(10_000))))
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    // Kept, pipelined, and closed behind.
    let mut client = engine.connect(CALLER).await;
    let requests: String =
        ["/a", "/b", "/c"].iter().map(|p| format!("GET {p} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")).collect();
    client.write_all(requests.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let answers = rest(&mut client, "pipelined").await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{}", answers.len());
    assert_eq!(["/a/a", "/b/b", "/c/c"].map(|two| answers.contains(two)), [true; 3]);
    engine.until("nothing is left", |stats| stats.connections_open == 0).await;
    // Nothing that is not whole.
    for (name, text) in [
        ("no byte", ""),
        ("half a head", "GET / HTTP/1.1\r\nhost"),
        ("half a body", "POST / HTTP/1.1\r\nhost: orders.example\r\ncontent-length: 5\r\n\r\nhe"),
    ] {
        let seen = server.seen();
        let mut client = engine.connect(CALLER).await;
        client.write_all(text.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let answer = rest(&mut client, name).await;
        assert_ne!(status(answer.as_bytes()), 200, "{name}: {answer}");
        assert!(server.seen() <= seen + 1, "{name}");
    }
    engine.until("nothing is left", |stats| stats.connections_open == 0 && stats.requests_open == 0).await;
}

/// The response timeout bounds it, as for other requests.
#[tokio::test]
async fn a_half_closed_client_is_answered_however_long_its_target_thinks() {
    let target = raw_server(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        if head.starts_with("GET /begun") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await.unwrap();
        } else if head.starts_with("GET /hint") {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(8)).await;
        let rest: &[u8] = if head.starts_with("GET /begun") {
            b"hello"
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhellohello"
        };
        stream.write_all(rest).await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let ask = async |path: &str, version: &str| {
        let mut client = engine.connect(CALLER).await;
        client.write_all(format!("GET {path} HTTP/{version}\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let answer = rest(&mut client, path).await;
        assert!(answer.contains(&format!("HTTP/{version} 200 OK")), "{path} {version}: {answer}");
        assert!(answer.ends_with("\r\n\r\nhellohello"), "{path} {version}: {answer}");
        answer
    };
    let answers = tokio::join!(
        ask("/silent", "1.1"),
        ask("/silent", "1.0"),
        ask("/begun", "1.1"),
        ask("/begun", "1.0"),
        ask("/hint", "1.1"),
        ask("/hint", "1.0"),
    );
    // Whether a client of HTTP/1.1 is still there is found out by an interim response; HTTP/1.0 has none.
    let continued = |answer: &String| answer.matches("HTTP/1.1 100 Continue\r\n\r\n").count();
    let answers: [String; 6] = answers.into();
    assert_eq!(answers.each_ref().map(continued), [1, 0, 0, 0, 1, 0], "{answers:?}");
}

#[tokio::test]
async fn a_client_that_is_gone_is_noticed_by_what_it_is_sent() {
    let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(false, TARGET, move |_| {
        let sender = sender.clone();
        async move {
            // Ends with the connection to the engine.
            let frames = futures_util::stream::unfold(Gone(sender), |gone| async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Some((Ok::<_, std::convert::Infallible>(http_body::Frame::data("tick\n".into())), gone))
            });
            Ok(Response::new(StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync()))
        }
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let mut client = engine.connect(CALLER).await;
    client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut client, "tick").await;
    client.shutdown().await.unwrap();
    read_until(&mut client, "tick").await;
    assert!(dropped.try_recv().is_err(), "control: a half-closed client goes on");
    drop(client);
    let gone = tokio::time::timeout(Duration::from_secs(10), dropped.recv()).await;
    assert!(gone.is_ok(), "the target is told");
    engine.until("nothing is left", |stats| stats.requests_open == 0).await;
}

#[tokio::test]
async fn a_client_that_is_gone_does_not_keep_its_target_busy() {
    let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(false, TARGET, move |_| {
        let gone = Gone(sender.clone());
        async move {
            std::future::pending::<()>().await;
            drop(gone);
            Ok(Response::new(full("")))
        }
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let mut client = engine.connect(CALLER).await;
    client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    engine.until("in flight", |stats| stats.requests_open == 1).await;
    drop(client);
    engine.until("nothing is left", |stats| stats.requests_open == 0 && stats.connections_open == 0).await;
    let gone = tokio::time::timeout(Duration::from_secs(5), dropped.recv()).await;
    assert!(gone.is_ok(), "the target is told");
}

struct Gone(tokio::sync::mpsc::UnboundedSender<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn http_1_0_is_kept_where_it_asks_and_never_chunked() {
    let server = Server::start(false, TARGET, |_| async {
        let frames = ["he", "llo"].map(|part| Ok::<_, std::convert::Infallible>(http_body::Frame::data(part.into())));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        Ok(Response::new(body.map_err(|never| match never {}).boxed_unsync()))
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let answer = engine.raw(b"GET / HTTP/1.0\r\n\r\n").await;
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    assert!(answer.ends_with("\r\n\r\nhello") && !answer.contains("transfer-encoding"), "{answer}");
    // Its end is the end of the connection, so that is not kept (RFC 9112, 6.3 and 9.3).
    let answer = engine.raw(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    assert!(answer.ends_with("\r\n\r\nhello") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(!answer.contains("keep-alive"), "{answer}");
    // A response without a body has an end.
    let mut client = engine.connect(CALLER).await;
    for _ in 0..2 {
        client.write_all(b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        let answer = read_until(&mut client, "\r\n\r\n").await.to_ascii_lowercase();
        assert!(answer.contains("connection: keep-alive\r\n"), "{answer}");
    }
    let echo = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[echo.address]).await;
    let mut client = engine.connect(CALLER).await;
    for n in 0..3 {
        let request = format!("GET /{n} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, &format!("GET /{n} ")).await.to_ascii_lowercase();
        assert!(answer.contains("connection: keep-alive") && answer.contains("content-length: "), "{answer}");
    }
    // HTTP/1.1 must name its host (RFC 9112, 3.2).
    assert_eq!(status(&engine.raw(b"GET / HTTP/1.1\r\n\r\n").await), 400);
}

#[tokio::test]
async fn requests_without_host_reach_only_visible_services() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let mut client = engine.connect(STRANGER).await;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let answer = rest(&mut client, "a stranger").await;
    assert_eq!(status(answer.as_bytes()), StatusCode::NOT_FOUND.as_u16(), "{answer}");
    let answer = engine.raw(b"GET / HTTP/1.0\r\nHost: other.example\r\n\r\n").await;
    assert_eq!(status(&answer), 404, "another name is another service");
    let answer = engine.raw(b"GET / HTTP/1.0\r\nHost:\r\n\r\n").await;
    assert_eq!(status(&answer), 404, "an empty name is nobody's");
    assert_eq!(server.seen(), 0);
    assert_eq!(status(&engine.raw(b"GET / HTTP/1.0\r\n\r\n").await), 200, "control");
}
