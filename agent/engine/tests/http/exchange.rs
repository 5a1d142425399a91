//! Requests and answers in every combination of versions, streamed, with trailers and interim answers.

use std::{convert::Infallible, time::Duration};

use brattice_wire::{
    engine::Limits,
    snapshot::{PathMatchKind, ProtocolVersion},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use crate::support::*;

/// A body that a channel feeds.
fn fed() -> (mpsc::Sender<Frame<Bytes>>, TestBody) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Frame<Bytes>>| async move {
        receiver.recv().await.map(|frame| (Ok::<_, Infallible>(frame), receiver))
    });
    (sender, StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync())
}

#[tokio::test]
async fn every_version_in_and_out() {
    for (from, to) in ALL {
        let server = Server::echo(to).await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        let mut client = Client::new(&engine, from).await;
        for n in 0..20 {
            let request = client.request(Method::POST, &format!("/p{n}?q=1")).body(full(format!("body {n}"))).unwrap();
            let response = client.send(request).await;
            assert_eq!(response.status(), StatusCode::OK, "{from} {to}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("POST /p{n} body {n}"), "{from} {to}");
            assert_eq!(server.last().uri.query(), Some("q=1"));
            if to {
                assert_eq!(server.last().uri.authority().unwrap(), HOST);
            } else {
                assert_eq!(server.last().headers["host"], HOST);
            }
        }
        assert_eq!(server.accepted(), 1, "one kept connection, {from} {to}");
        assert!(server.peers.lock().unwrap().iter().all(|peer| *peer == SOURCE), "from an engine source address");
        let head = client.request(Method::HEAD, "/x").body(full("")).unwrap();
        let response = client.send(head).await;
        assert_eq!(response.headers()["content-length"], "8", "{from} {to}");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    for (from, to) in ALL {
        // Answers each frame with the same bytes, in capitals, before the next one comes.
        let server = Server::start(to, TARGET, |request| async move {
            let (sender, body) = fed();
            tokio::spawn(async move {
                let mut incoming = request.into_body();
                while let Some(Ok(frame)) = incoming.frame().await {
                    let data = frame.into_data().unwrap().to_ascii_uppercase();
                    if sender.send(Frame::data(data.into())).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Response::new(body))
        })
        .await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        let mut client = Client::new(&engine, from).await;
        let (sender, body) = fed();
        sender.send(Frame::data("hello 0".into())).await.unwrap();
        let request = client.request(Method::POST, "/").body(body).unwrap();
        let mut answer = client.send(request).await.into_body();
        for n in 1..=5 {
            let frame = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame, format!("HELLO {}", n - 1), "{from} {to}");
            sender.send(Frame::data(format!("hello {n}").into())).await.unwrap();
        }
        drop(sender);
        let rest = answer.collect().await.unwrap().to_bytes();
        assert_eq!(rest, "HELLO 5", "{from} {to}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_and_ours_do_not() {
    for (from, to) in ALL {
        let server = Server::start(to, TARGET, |request| async move {
            let trailers = request.into_body().collect().await?.trailers().cloned().unwrap_or_default();
            let (sender, body) = fed();
            let mut answer = HeaderMap::new();
            let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
            answer.insert("x-saw", HeaderValue::from_str(&names.join(","))?);
            answer.insert("x-brattice-secret", HeaderValue::from_static("1"));
            tokio::spawn(async move {
                sender.send(Frame::data("data".into())).await.unwrap();
                sender.send(Frame::trailers(answer)).await.unwrap();
            });
            Ok(Response::builder().header("trailer", "x-saw, x-brattice-secret").body(body)?)
        })
        .await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        let mut client = Client::new(&engine, from).await;
        let (sender, body) = fed();
        let request = client
            .request(Method::POST, "/")
            .header("te", "trailers")
            .header("trailer", "x-checksum, x-amzn-lattice-identity, x-forwarded-for, x_brattice_a")
            .body(body)
            .unwrap();
        tokio::spawn(async move {
            sender.send(Frame::data("data".into())).await.unwrap();
            let mut trailers = HeaderMap::new();
            for name in ["x-checksum", "x-amzn-lattice-identity", "x-forwarded-for", "x_brattice_a"] {
                trailers.insert(name, HeaderValue::from_static("1"));
            }
            sender.send(Frame::trailers(trailers)).await.unwrap();
        });
        let answer = client.send(request).await.into_body().collect().await.unwrap();
        let trailers = answer.trailers().cloned().unwrap_or_default();
        assert_eq!(trailers.get("x-saw").map(HeaderValue::as_bytes), Some(&b"x-checksum"[..]), "{from} {to}");
        assert!(!trailers.contains_key("x-brattice-secret"), "{from} {to}");
        assert_eq!(answer.to_bytes(), "data");
    }
}

#[tokio::test]
async fn empty_answers_are_empty() {
    for code in [204u16, 304, 205, 200] {
        let server = Server::start(false, TARGET, move |_| async move {
            Ok(Response::builder().status(code).header("etag", "\"x\"").body(full(""))?)
        })
        .await;
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
        for _ in 0..2 {
            let (status, headers, body) = engine.get("/").await;
            assert_eq!((status.as_u16(), body.len()), (code, 0));
            assert_eq!(headers["etag"], "\"x\"");
        }
        assert_eq!(server.accepted(), 1, "the connection is kept after {code}");
    }
}

#[tokio::test]
async fn fixed_responses_and_rules() {
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    world.services[0].listeners[0].rules = vec![
        rule(1, Some((PathMatchKind::Exact, "/gone")), None, fixed(410)),
        rule(2, Some((PathMatchKind::Prefix, "/api")), Some("DELETE"), fixed(404)),
    ];
    engine.apply(world).await;
    let (status, headers, body) = engine.get("/gone?x").await;
    assert_eq!((status, body.len()), (StatusCode::GONE, 0));
    assert_eq!(headers["x-amzn-requestid"].len(), 36);
    assert_eq!(engine.get("/gone/x").await.0, StatusCode::OK);
    let mut client = engine.http1(CALLER).await;
    let delete = Request::delete("/api/x").header("host", HOST).body(full("")).unwrap();
    assert_eq!(client.send_request(delete).await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(engine.get("/api/x").await.0, StatusCode::OK);
}

#[tokio::test]
async fn continue_comes_from_the_target() {
    // Asks for the body only after a while, and refuses some requests without it.
    let target = raw_server(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue"), "{head}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut early = [0; 1];
        let nothing = tokio::time::timeout(Duration::from_millis(100), stream.peek(&mut early)).await;
        assert!(nothing.is_err(), "the body came before it was asked for");
        if head.starts_with("PUT /refused") {
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            return;
        }
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"hello");
        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let head = |path: &str| {
        format!("PUT {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
    };
    let mut client = engine.connect(CALLER).await;
    client.write_all(head("/wanted").as_bytes()).await.unwrap();
    let interim = read_until(&mut client, "\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100 Continue\r\n\r\n"), "{interim}");
    client.write_all(b"hello").await.unwrap();
    assert!(read_until(&mut client, "ok").await.contains("201 Created"));
    let mut client = engine.connect(CALLER).await;
    client.write_all(head("/refused").as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "no").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn continue_is_not_waited_for_for_ever() {
    let target = raw_server(|mut stream| async move {
        read_until(&mut stream, "hello").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let mut client = engine.connect(CALLER).await;
    let head = format!("PUT / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut client, "100 Continue").await;
    client.write_all(b"hello").await.unwrap();
    assert!(read_until(&mut client, "ok").await.contains("200 OK"));
}

#[tokio::test]
async fn early_hints_reach_the_client_before_the_answer() {
    let target = raw_server(|mut stream| async move {
        for _ in 0..2 {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nx-brattice-x: 1\r\n\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream
                .write_all(
                    b"HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                )
                .await
                .unwrap();
        }
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let mut client = engine.connect(CALLER).await;
    for _ in 0..2 {
        client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        let first = read_until(&mut client, "\r\n\r\n").await;
        assert_eq!(first, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
        let rest = read_until(&mut client, "\r\n\r\nok").await;
        assert!(rest.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\nHTTP/1.1 200 OK\r\n"), "{rest}");
    }
}

#[tokio::test]
async fn an_early_answer_ends_the_upload() {
    for to in [false, true] {
        let server =
            Server::start(to, TARGET, |_| async move { Ok(Response::builder().status(403).body(full("enough"))?) })
                .await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        let mut client = engine.connect(CALLER).await;
        let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100000000\r\n\r\nsome");
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "enough").await;
        assert_eq!(status(answer.as_bytes()), 403);
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the connection cannot be used any more, so it is closed");
        assert_eq!(engine.get("/").await.0, StatusCode::FORBIDDEN, "the next one is fine");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(false, TARGET, |request| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Response::new(full(format!("<{}>", request.uri().path()))))
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut client = engine.connect(CALLER).await;
    let all = [request("/slow"), request("/b"), request("/c")].concat();
    client.write_all(all.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "</c>").await;
    let places: Vec<_> = ["</slow>", "</b>", "</c>"].iter().map(|text| answer.find(text).unwrap()).collect();
    assert!(places.is_sorted());
}

#[tokio::test]
async fn http_1_0_and_connection_close() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let answer = engine.raw(format!("GET /old HTTP/1.0\r\nhost: {HOST}\r\n\r\n").as_bytes()).await;
    assert!(String::from_utf8_lossy(&answer).ends_with("GET /old "));
    let answer = engine.raw(format!("GET /x HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n").as_bytes()).await;
    assert_eq!(status(&answer), 200);
    let answer = engine.raw(b"GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&answer), 200, "without a host the only service is meant");
}

#[tokio::test]
async fn connect_is_refused() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let answer = engine.raw(format!("CONNECT {HOST}:80 HTTP/1.1\r\nhost: {HOST}:80\r\n\r\n").as_bytes()).await;
    assert_eq!(status(&answer), 501);
    let mut client = engine.http2(CALLER).await;
    let request = Request::connect(format!("{HOST}:80")).body(full("")).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(server.seen(), 0);
    assert_eq!(engine.get("/").await.0, StatusCode::OK, "control");
}

/// RFC 8441 (extended CONNECT) is not offered. A client that sends it all the same has the stream reset and keeps
/// the connection.
#[tokio::test]
async fn extended_connect_is_refused() {
    let server = Server::echo(false).await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let (client, connection) = h2::client::handshake(engine.connect(CALLER).await).await.unwrap();
    tokio::spawn(connection);
    let ask = |method: Method, protocol: Option<&str>| {
        let mut request = Request::builder().method(method).uri(format!("http://{HOST}/chat")).body(()).unwrap();
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
        }
        let mut client = client.clone();
        async move { client.send_request(request, true).unwrap().0.await }
    };
    assert_eq!(ask(Method::GET, None).await.unwrap().status(), StatusCode::OK);
    assert!(!client.is_extended_connect_protocol_enabled());
    let error = ask(Method::CONNECT, Some("websocket")).await.unwrap_err();
    assert_eq!((error.is_remote(), error.reason()), (true, Some(h2::Reason::PROTOCOL_ERROR)));
    assert_eq!(server.seen(), 1, "the control");
    assert_eq!(ask(Method::GET, None).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn broken_targets_are_502_and_half_answers_are_never_whole() {
    let garbage = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[garbage]).await;
    let (status, _, body) = engine.get("/").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(!String::from_utf8_lossy(&body).contains("127."), "nothing internal in {body:?}");
    let half = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[half]).await;
    let mut client = engine.http1(CALLER).await;
    let response = client.send_request(get("/")).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    let mut client = engine.http2(CALLER).await;
    let response = client.send_request(get2("/")).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    // Nothing listens there.
    let closed = tokio::net::TcpListener::bind((TARGET, 0)).await.unwrap().local_addr().unwrap();
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[closed]).await;
    assert_eq!(engine.get("/").await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(engine.stats().connect_errors, 1);
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[]).await;
    assert_eq!(engine.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

/// An informational response never follows the final one, whether the target or the engine sends that.
#[tokio::test]
async fn interim_responses_come_before_a_bad_gateway() {
    let target = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\nSSH-2.0-OpenSSH\r\n").await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let mut client = engine.connect(CALLER).await;
    for _ in 0..20 {
        client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "request id: ").await;
        let (interim, last) = (answer.find("HTTP/1.1 103 "), answer.find("HTTP/1.1 502 "));
        assert!(interim < last && last.is_some(), "{answer}");
    }
}

/// As many trailers as header fields, in either direction.
#[tokio::test]
async fn trailers_of_http2_are_bounded() {
    fn with(count: u32) -> TestBody {
        let trailers = (0..count)
            .map(|number| (http::HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from_static("1")));
        let frames = [Ok::<_, Infallible>(Frame::data("x".into())), Ok(Frame::trailers(trailers.collect()))];
        StreamBody::new(stream::iter(frames)).map_err(|never| match never {}).boxed_unsync()
    }
    let server = Server::start(true, TARGET, |request| async move {
        let count = request.uri().path().trim_start_matches('/').parse().unwrap();
        request.into_body().collect().await?;
        Ok(Response::new(with(count)))
    })
    .await;
    let engine = Engine::serving(Limits::default(), version(true), &[server.address]).await;
    let most = Limits::default().headers;
    for (sent, answered, good) in [(most, most, true), (most + 1, 1, false), (1, most + 1, false)] {
        let mut sender = engine.http2(CALLER).await;
        let mut request = get2(&format!("/{answered}")).map(|_| with(sent));
        *request.method_mut() = Method::POST;
        let whole = match sender.send_request(request).await {
            Ok(response) if response.status() == StatusCode::OK => {
                let body = response.into_body().collect().await;
                body.is_ok_and(|body| {
                    body.trailers().is_some_and(|own| own.len() == usize::try_from(answered).unwrap())
                })
            }
            _ => false,
        };
        assert_eq!(whole, good, "{sent} sent, {answered} answered");
    }
}

/// A target may merge trailers into the fields by which it decides (RFC 9110, 6.5.1).
#[tokio::test]
async fn an_http1_target_gets_the_trailers_that_a_head_announces_and_that_may_be_some() {
    const END: &str = "0\r\nx-announced: 1\r\nx-hidden: 1\r\nauthorization: 1\r\ncontent-type: 1\r\n\r\n";
    let target = raw_server(|mut stream| async move {
        let mut body = read_until(&mut stream, "\r\n0\r\n").await;
        if !body.ends_with("\r\n\r\n") {
            body += &read_until(&mut stream, "\r\n\r\n").await;
        }
        let trailers = body.split_once("\r\n0\r\n").map_or("", |(_, trailers)| trailers).replace("\r\n", ";");
        let answer = format!("HTTP/1.1 200 OK\r\nx-saw: {trailers}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    for (announced, saw) in [
        ("trailer: x-announced, authorization, content-type\r\n", "x-saw: x-announced: 1;;"),
        ("", "x-saw: ;"),
        ("trailer: x-other\r\n", "x-saw: ;"),
    ] {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{announced}transfer-encoding: chunked\r\n\r\n"
        );
        let response = engine.raw(format!("{head}2\r\nok\r\n{END}").as_bytes()).await;
        let response = String::from_utf8_lossy(&response);
        assert!(response.contains(&format!("{saw}\r\n")), "{announced}: {response}");
    }
}

#[tokio::test]
async fn a_reason_phrase_reaches_the_client_as_the_target_says_it() {
    for line in ["200 OK", "200 All is well", "299 Nearly", "200 "] {
        let target = raw_server(move |mut stream| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        })
        .await;
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
        let response =
            engine.raw(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n").as_bytes()).await;
        let response = String::from_utf8_lossy(&response);
        assert!(response.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{line}: {response}");
    }
}
