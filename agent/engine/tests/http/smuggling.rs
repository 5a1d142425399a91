//! Raw requests that must be refused, and controls that must pass. A refused one never reaches the target.

use std::time::Duration;

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// `H` stands for the right host, `~` for CR LF.
const GOOD: &[(&str, &str)] = &[
    ("plain", "GET / HTTP/1.1~Host: H~~"),
    ("content length", "POST / HTTP/1.1~Host: H~Content-Length: 5~~hello"),
    ("length 0", "POST / HTTP/1.1~Host: H~Content-Length: 0~~"),
    ("leading zeros", "POST / HTTP/1.1~Host: H~Content-Length: 005~~hello"),
    ("spaces around a length", "POST / HTTP/1.1~Host: H~Content-Length: \t5 ~~hello"),
    ("chunked", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~5~hello~0~~"),
    ("chunked in capitals", "POST / HTTP/1.1~Host: H~TRANSFER-ENCODING: CHUNKED~~5~hello~0~~"),
    ("hexadecimal", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~00A~0123456789~000~~"),
    ("an extension", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~5;a=b;c=\"d\"~hello~0~~"),
    ("a trailer", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~0~X-Sum: 1~~"),
    ("no space before a value", "GET / HTTP/1.1~Host:H~~"),
    ("an empty line first", "~GET / HTTP/1.1~Host: H~~"),
    ("an empty value", "GET / HTTP/1.1~Host: H~X:~~"),
    ("bytes above ASCII in a value", "GET / HTTP/1.1~Host: H~X: \u{e9}~~"),
    ("all token characters", "GET / HTTP/1.1~Host: H~!#$%&'*+-.^_`|~9aZ: 1~~"),
    ("a method of one's own", "FROBNICATE / HTTP/1.1~Host: H~~"),
    ("absolute form", "GET http://H/x HTTP/1.1~Host: H~~"),
    ("HTTP/1.0", "GET / HTTP/1.0~Host: H~~"),
    ("HTTP/1.0 with a length", "POST / HTTP/1.0~Host: H~Content-Length: 5~~hello"),
    ("a host with a port", "GET / HTTP/1.1~Host: H:8080~~"),
];

const BAD: &[(&str, &str)] = &[
    ("LF alone after the request line", "GET / HTTP/1.1\nHost: H~~"),
    ("LF alone after a field", "GET / HTTP/1.1~Host: H\nX: 1~~"),
    ("LF alone at the end", "GET / HTTP/1.1~Host: H~\n"),
    ("CR alone in a field", "GET / HTTP/1.1~Host: H~X: a\rb~~"),
    ("CR alone in the request line", "GET /\r HTTP/1.1~Host: H~~"),
    ("a folded field", "GET / HTTP/1.1~Host: H~X: a~ b~~"),
    ("a folded field with a tab and a colon", "GET / HTTP/1.1~Host: H~X: a~\tY: b~~"),
    ("a folded first field", "GET / HTTP/1.1~ Host: H~~"),
    ("CL and TE", "POST / HTTP/1.1~Host: H~Content-Length: 5~Transfer-Encoding: chunked~~0~~"),
    ("TE and CL", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~Content-Length: 5~~0~~"),
    ("two different lengths", "POST / HTTP/1.1~Host: H~Content-Length: 5~Content-Length: 6~~hello!"),
    ("the same length twice", "POST / HTTP/1.1~Host: H~Content-Length: 5~Content-Length: 5~~hello"),
    ("a list of lengths", "POST / HTTP/1.1~Host: H~Content-Length: 5, 6~~hello!"),
    ("a signed length", "POST / HTTP/1.1~Host: H~Content-Length: +5~~hello"),
    ("a negative length", "POST / HTTP/1.1~Host: H~Content-Length: -5~~hello"),
    ("a hexadecimal length", "POST / HTTP/1.1~Host: H~Content-Length: 0x5~~hello"),
    ("an empty length", "POST / HTTP/1.1~Host: H~Content-Length:~~"),
    ("a length beyond 64 bits", "POST / HTTP/1.1~Host: H~Content-Length: 99999999999999999999~~hello"),
    ("a length in words", "POST / HTTP/1.1~Host: H~Content-Length: five~~hello"),
    ("identity", "POST / HTTP/1.1~Host: H~Transfer-Encoding: identity~~hello"),
    ("gzip, chunked", "POST / HTTP/1.1~Host: H~Transfer-Encoding: gzip, chunked~~0~~"),
    ("chunked, identity", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked, identity~~0~~"),
    ("xchunked", "POST / HTTP/1.1~Host: H~Transfer-Encoding: xchunked~~0~~"),
    ("quoted chunked", "POST / HTTP/1.1~Host: H~Transfer-Encoding: \"chunked\"~~0~~"),
    ("chunked twice", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~Transfer-Encoding: chunked~~0~~"),
    ("chunked with a vertical tab", "POST / HTTP/1.1~Host: H~Transfer-Encoding: \u{b}chunked~~0~~"),
    ("an empty TE", "POST / HTTP/1.1~Host: H~Transfer-Encoding:~~0~~"),
    ("a space before the colon", "POST / HTTP/1.1~Host: H~Transfer-Encoding : chunked~~0~~"),
    ("a tab before the colon", "GET / HTTP/1.1~Host\t: H~~"),
    ("no name", "GET / HTTP/1.1~Host: H~: x~~"),
    ("no colon", "GET / HTTP/1.1~Host: H~nonsense~~"),
    ("NUL in a value", "GET / HTTP/1.1~Host: H~X: a\0b~~"),
    ("NUL in a name", "GET / HTTP/1.1~Host: H~X\0: b~~"),
    ("DEL in a value", "GET / HTTP/1.1~Host: H~X: a\u{7f}b~~"),
    ("a control character in the target", "GET /\u{1} HTTP/1.1~Host: H~~"),
    ("HTTP/0.9", "GET /~"),
    ("HTTP/0.9 with a field", "GET /~Host: H~~"),
    ("HTTP/2.0 in a request line", "GET / HTTP/2.0~Host: H~~"),
    ("HTTP/1.2", "GET / HTTP/1.2~Host: H~~"),
    ("http in small letters", "GET / http/1.1~Host: H~~"),
    ("a target that is no URI", "GET /< HTTP/1.1~Host: H~~"),
    ("a target without a slash", "GET x HTTP/1.1~Host: H~~"),
    ("two spaces", "GET  / HTTP/1.1~Host: H~~"),
    ("a space at the end", "GET / HTTP/1.1 ~Host: H~~"),
    ("a tab as space", "GET\t/\tHTTP/1.1~Host: H~~"),
    ("a space in the target", "GET /a b HTTP/1.1~Host: H~~"),
    ("HTTP/1.0 with TE", "POST / HTTP/1.0~Host: H~Transfer-Encoding: chunked~~0~~"),
    ("no host", "GET / HTTP/1.1~X: 1~~"),
    ("two hosts", "GET / HTTP/1.1~Host: H~Host: H~~"),
    ("a host against the target", "GET http://other/ HTTP/1.1~Host: H~~"),
    ("another scheme", "GET https://H/ HTTP/1.1~Host: H~~"),
    ("empty lines without end", "~~~~GET / HTTP/1.1~Host: H~~"),
    ("a TLS hello", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0"),
    ("a space first", " GET / HTTP/1.1~Host: H~~"),
    ("a chunk size with a sign", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~+5~hello~0~~"),
    ("a chunk size with 0x", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~0x5~hello~0~~"),
    ("a chunk size with a space", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~5 ~hello~0~~"),
    ("no chunk size", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~~hello~0~~"),
    ("only an extension", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~;a~hello~0~~"),
    ("a chunk size beyond 64 bits", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~10000000000000005~hello~0~~"),
    ("LF alone after a chunk size", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~5\nhello~0~~"),
    ("LF alone in an extension", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~5;a\nhello~0~~"),
    ("a chunk that is longer than it says", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~5~hello!~0~~"),
    ("a chunk without its end", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~5~hello0~~"),
    ("LF alone after a chunk", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~5~hello\n0~~"),
    ("a folded trailer", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~0~X: a~ b~~"),
    ("a trailer with a space before the colon", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~0~X : a~~"),
    ("LF alone after a trailer", "POST / HTTP/1.1~Host: H~Transfer-Encoding: chunked~~0~X: a\n~"),
];

fn bytes(text: &str) -> Vec<u8> {
    // Latin-1: each character is one byte.
    let text = text
        .replace("H~", &format!("{HOST}~"))
        .replace("H:", &format!("{HOST}:"))
        .replace("//H/", &format!("//{HOST}/"));
    // `~` is a token character; the one case that means itself is written back.
    let text = text.replace("`|~9aZ", "`|\u{fffd}9aZ").replace('~', "\r\n").replace('\u{fffd}', "~");
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

#[tokio::test]
async fn good_requests_pass_whole_and_in_pieces() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    for (name, text) in GOOD {
        let mut client = engine.connect(CALLER).await;
        client.write_all(&bytes(text)).await.unwrap();
        let answer = read_until(&mut client, "\r\n\r\n").await;
        assert_eq!(status(answer.as_bytes()), 200, "{name}: {answer}");
        // One byte per packet.
        let mut client = engine.connect(CALLER).await;
        for byte in bytes(text) {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = read_until(&mut client, "\r\n\r\n").await;
        assert_eq!(status(answer.as_bytes()), 200, "{name} in pieces: {answer}");
    }
    assert_eq!(engine.stats().refused_requests, 0);
    assert_eq!(server.seen(), 2 * GOOD.len() as u64);
}

#[tokio::test]
async fn bad_requests_are_refused_and_the_connection_with_them() {
    let server = Server::start(false, TARGET, |request| async move {
        // Answers only when the whole body has come, as most servers do.
        http_body_util::BodyExt::collect(request.into_body()).await?;
        Ok(http::Response::new(full("reached")))
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    for (n, (name, text)) in BAD.iter().enumerate() {
        for pieces in [false, true] {
            // What would be smuggled is a second request.
            let mut whole = bytes(text);
            if !pieces {
                whole.extend_from_slice(&bytes("GET /smuggled HTTP/1.1~Host: H~~"));
            }
            let mut client = engine.connect(CALLER).await;
            if pieces {
                for byte in whole {
                    if client.write_all(&[byte]).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            } else {
                client.write_all(&whole).await.unwrap();
            }
            let mut answer = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(read.is_ok(), "{name}: still open after {answer:?}");
            assert_eq!(status(answer.as_bytes()), 400, "{name}: {answer:?}");
            assert!(answer.contains("connection: close"), "{name}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: one answer, {answer}");
            let expected = 2 * n as u64 + 1 + u64::from(pieces);
            // Where the parser refuses, the client may see the end of the connection before it is counted.
            engine.until(name, |stats| stats.refused_requests >= expected).await;
            assert_eq!(engine.stats().refused_requests, expected, "{name} is counted once");
        }
    }
    assert!(server.last.lock().unwrap().as_ref().is_none_or(|last| last.uri.path() != "/smuggled"));
    assert_eq!(engine.get("/").await.2, "reached", "control");
}

#[tokio::test]
async fn a_refused_request_waits_for_its_turn() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let both = bytes("POST /first HTTP/1.1~Host: H~Content-Length: 5~~helloGET / HTTP/1.1~Host: H\n~~");
    let answer = engine.raw(&both).await;
    let answer = String::from_utf8_lossy(&answer);
    let first = answer.find("POST /first hello").expect("the good one is answered");
    assert!(answer.find("HTTP/1.1 400 ").unwrap() > first, "{answer}");
}

#[tokio::test]
async fn garbage_is_refused() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let mut seed = 0x1234_5678_u32;
    for _ in 0..300 {
        let garbage: Vec<u8> = (0..200)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 17;
                seed ^= seed << 5;
                seed.to_le_bytes()[1]
            })
            .collect();
        let mut client = engine.connect(CALLER).await;
        client.write_all(&garbage).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "closed");
    }
    assert_eq!(server.seen(), 0);
    assert_eq!(engine.get("/").await.0, 200, "control");
}
