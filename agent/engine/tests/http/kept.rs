//! Which connections of HTTP/1 are kept after a response, and what goes over them.

use std::time::Duration;

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use http::Response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

const STRANGE: &str = "nobody.example";

fn post(host: &str, length: usize) -> String {
    format!("POST /p HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n")
}

fn next() -> String {
    format!("GET /next HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")
}

/// All that comes until the engine closes.
async fn rest(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(read.is_ok(), "still open after {answer:?}");
    answer
}

#[tokio::test]
async fn a_body_that_nobody_reads_costs_its_connection_unless_it_is_there() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let chunked = format!("POST /p HTTP/1.1\r\nhost: {STRANGE}\r\ntransfer-encoding: chunked\r\n\r\n");
    for (text, kept) in [
        (format!("{}hello", post(STRANGE, 5)), true),
        (format!("{chunked}5\r\nhello\r\n0\r\nx: 1\r\n\r\n"), true),
        (format!("{}he", post(STRANGE, 5)), false),
        (format!("{chunked}5\r\nhello\r\n"), false),
        (format!("{chunked}5\r\nhello\r\nzz\r\n"), false),
    ] {
        let mut client = engine.connect(CALLER).await;
        client.write_all(text.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "request id: ").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{text}: {answer}");
        assert_eq!(answer.contains("connection: close\r\n"), !kept, "{text}: {answer}");
        if kept {
            client.write_all(next().as_bytes()).await.unwrap();
        }
        assert_eq!(rest(&mut client).await.contains("GET /next "), kept, "{text}");
    }
}

/// The rest of a request that its target does not want is read, if it is there.
#[tokio::test]
async fn an_early_response_costs_no_connection_where_the_request_is_there() {
    let server =
        Server::start(false, TARGET, |_| async { Ok(Response::builder().status(403).body(full("no"))?) }).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    for _ in 0..20 {
        let mut client = engine.connect(CALLER).await;
        client.write_all(format!("{}hello", post(HOST, 5)).as_bytes()).await.unwrap();
        assert!(read_until(&mut client, "\r\n\r\nno").await.starts_with("HTTP/1.1 403 "));
        client.write_all(next().as_bytes()).await.unwrap();
        assert!(rest(&mut client).await.ends_with("\r\n\r\nno"));
    }
}

/// Nothing but the responses goes over a connection, whatever their methods and statuses.
#[tokio::test]
async fn pipelined_responses_are_whole_and_nothing_is_between_them() {
    let server = Server::start(false, TARGET, |request| async move {
        let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap();
        let body = if status == 200 { full("hello") } else { full("") };
        Ok(Response::builder().status(status).header("date", "now").body(body)?)
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let requests = [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 200), ("GET", 205)];
    let all: String = requests
        .iter()
        .map(|(method, status)| format!("{method} /{status} HTTP/1.1\r\nhost: {HOST}\r\nx-amzn-requestid: i\r\n\r\n"))
        .collect();
    let expected = [
        "200 OK~date: now~x-amzn-requestid: i~content-length: 5~~",
        "204 No Content~date: now~x-amzn-requestid: i~~",
        "304 Not Modified~date: now~x-amzn-requestid: i~~",
        "200 OK~date: now~x-amzn-requestid: i~content-length: 5~~hello",
        "205 Reset Content~date: now~x-amzn-requestid: i~content-length: 0~~",
    ];
    let expected: String = expected.iter().map(|text| format!("HTTP/1.1 {}", text.replace('~', "\r\n"))).collect();
    // All at once, and in two pieces cut anywhere.
    for cut in (0..all.len()).step_by(7) {
        let mut client = engine.connect(CALLER).await;
        client.write_all(&all.as_bytes()[..cut]).await.unwrap();
        tokio::task::yield_now().await;
        client.write_all(&all.as_bytes()[cut..]).await.unwrap();
        client.shutdown().await.unwrap();
        let came = rest(&mut client).await;
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.split("HTTP/1.1 ").map(ToOwned::to_owned).collect();
            for response in &mut lines {
                let (head, body) = response.split_once("\r\n\r\n").unwrap_or_default();
                let mut fields: Vec<&str> = head.split("\r\n").collect();
                fields.sort_unstable();
                *response = format!("{fields:?} {body}");
            }
            lines
        };
        assert_eq!(sorted(&came), sorted(&expected), "cut at {cut}");
    }
}

/// A body of many small chunks reaches the target whole, however it is cut.
#[tokio::test]
async fn small_chunks_are_joined_on_their_way() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let text: String = (0..3_000_u32).map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
    let chunks: String = text.chars().map(|letter| format!("1\r\n{letter}\r\n")).collect();
    let head = format!("POST /c HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    let whole = format!("{head}{chunks}0\r\n\r\n");
    for piece in [whole.len(), 1_000, 7] {
        let mut client = engine.connect(CALLER).await;
        for piece in whole.as_bytes().chunks(piece) {
            client.write_all(piece).await.unwrap();
        }
        assert!(rest(&mut client).await.ends_with(&format!("POST /c {text}")), "in pieces of {piece}");
    }
}
