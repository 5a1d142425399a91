//! The length of a message: one decision, in both directions and versions.

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{log::Log, support::*};

/// Lengths of a body `hello`, and the field that the target gets; `None`: malformed.
const LENGTHS: &[(&[&str], Option<&[&str]>)] = &[
    (&["5"], Some(&["5"])),
    (&["05"], Some(&["5"])),
    (&["5", "5"], None),
    (&["5", "05"], None),
    (&["005", "5"], None),
];

#[tokio::test]
async fn a_length_reaches_the_target_once_or_not_at_all() {
    for to in [false, true] {
        let server = Server::echo(to).await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        for (came, goes) in LENGTHS {
            for from in [false, true] {
                let seen = server.seen();
                let status = if from {
                    let mut client = engine.http2(CALLER).await;
                    let mut request = get2("/").map(|_| full("hello"));
                    *request.method_mut() = Method::POST;
                    for length in *came {
                        request.headers_mut().append("content-length", length.parse().unwrap());
                    }
                    // Malformed: answered, or the stream is reset.
                    client.send_request(request).await.map_or(400, |answer| answer.status().as_u16())
                } else {
                    let lines: String = came.iter().map(|length| format!("content-length: {length}\r\n")).collect();
                    let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{lines}\r\nhello");
                    status(&engine.raw(head.as_bytes()).await)
                };
                match goes {
                    Some(goes) => {
                        assert_eq!((status, server.seen()), (200, seen + 1), "{came:?} from {from} to {to}");
                        let headers = server.last().headers;
                        assert_eq!(headers.get_all("content-length").iter().collect::<Vec<_>>(), *goes, "{came:?}");
                        assert!(!headers.contains_key("transfer-encoding"));
                    }
                    None => assert_eq!((status, server.seen()), (400, seen), "{came:?} from {from} to {to}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_request_without_a_body_has_the_same_length_for_every_target() {
    for (from, to) in ALL {
        let server = Server::echo(to).await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        let mut client = Client::new(&engine, from).await;
        for (method, length) in [(Method::POST, Some("0")), (Method::PUT, Some("0")), (Method::GET, None)] {
            assert_eq!(client.ask(method.clone(), "/", &[]).await.0, StatusCode::OK);
            let headers = server.last().headers;
            let found = headers.get("content-length").map(|length| length.to_str().unwrap());
            assert_eq!(found, length, "{method} from {from} to {to}");
            assert!(!headers.contains_key("transfer-encoding"), "{method}");
        }
    }
}

/// Heads and bodies of HTTP/1 targets, and status and body that the client gets.
const ANSWERS: &[(&str, &str, u16, &str)] = &[
    ("200 OK~content-length: 5~content-length: 5", "hello", 200, "hello"),
    ("200 OK~content-length: 5, 5", "hello", 200, "hello"),
    ("200 OK~content-length: 05", "hello", 200, "hello"),
    ("200 OK~content-length: 5", "hello", 200, "hello"),
    ("200 OK~transfer-encoding: chunked", "5~hello~0~~", 200, "hello"),
    ("200 OK~connection: close", "hello", 200, "hello"),
    ("200 OK~content-length: 5~transfer-encoding: chunked", "b~hello world~0~~", 502, ""),
    ("200 OK~Transfer-Encoding: Chunked~Content-Length: 5", "b~hello world~0~~", 502, ""),
    ("200 OK~transfer-encoding: chunked~content-length: 5, 6", "b~hello world~0~~", 502, ""),
    ("304 Not Modified~content-length: 5~transfer-encoding: chunked", "", 502, ""),
    ("200 OK~content-length: 5~content-length: 6", "hello!", 502, ""),
    ("200 OK~content-length: 5, 6", "hello!", 502, ""),
    ("200 OK~content-length: +5", "hello", 502, ""),
    ("200 OK~content-length: five", "hello", 502, ""),
    ("200 OK~transfer-encoding: gzip, chunked", "5~hello~0~~", 502, ""),
    ("200 OK~transfer-encoding: gzip~transfer-encoding: chunked", "5~hello~0~~", 502, ""),
    ("200 OK~transfer-encoding: chunked, chunked", "5~hello~0~~", 502, ""),
    ("200 OK~transfer-encoding: identity~content-length: 5", "hello", 502, ""),
    ("204 No Content~content-length: 5", "", 204, ""),
    ("204 No Content~transfer-encoding: chunked", "", 204, ""),
];

#[tokio::test]
async fn what_a_target_says_twice_is_decided_once() {
    for (head, body, status, text) in ANSWERS {
        let answer = format!("HTTP/1.1 {head}~~{body}").replace('~', "\r\n");
        let target = answering(answer).await;
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            let request = client.request(Method::GET, "/").body(full("")).unwrap();
            let (parts, body) = client.send(request).await.into_parts();
            assert_eq!(parts.status, *status, "{head} over HTTP/2 {http2}");
            let lengths: Vec<_> = parts.headers.get_all("content-length").iter().cloned().collect();
            let collected = body.collect().await.unwrap().to_bytes();
            if *status == 502 {
                continue;
            }
            assert_eq!(collected, *text, "{head} over HTTP/2 {http2}");
            match lengths.as_slice() {
                [] => {}
                [one] => assert_eq!(*one, text.len().to_string(), "{head}"),
                more => panic!("{head}: {more:?}"),
            }
            assert!(*status != 204 || lengths.is_empty(), "{head}: {lengths:?}");
        }
    }
}

/// A target that answers every request on a connection with these bytes, and counts its connections.
async fn keeping(answer: String) -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicU32>) {
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&connections);
    let address = raw_server(move |mut stream| {
        let answer = answer.clone();
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            let mut came = Vec::new();
            while stream.read_buf(&mut came).await.is_ok_and(|count| count > 0) {
                if came.ends_with(b"\r\n\r\n") {
                    came.clear();
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        }
    })
    .await;
    (address, connections)
}

/// What follows a response whose length another reader could take for another one is not known to be a response.
#[tokio::test]
async fn a_connection_whose_target_says_two_lengths_is_not_used_again() {
    for (head, body, status, connections) in [
        // The controls: one length, in one field or several.
        ("200 OK~content-length: 5", "hello", 200, 1),
        ("200 OK~content-length: 5~content-length: 5", "hello", 200, 1),
        ("200 OK~transfer-encoding: chunked", "5~hello~0~~", 200, 1),
        ("200 OK~content-length: 5~transfer-encoding: chunked", "5~hello~0~~", 502, 3),
        ("200 OK~transfer-encoding: chunked~content-length: 5", "5~hello~0~~", 502, 3),
        ("200 OK~content-length: 5~content-length: 6", "hello", 502, 3),
        ("304 Not Modified~content-length: 5~transfer-encoding: chunked", "", 502, 3),
        ("304 Not Modified~content-length: 5~content-length: 6", "", 502, 3),
    ] {
        let (target, accepted) = keeping(format!("HTTP/1.1 {head}~~{body}").replace('~', "\r\n")).await;
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
        let log = Log::of(&engine, 1);
        let mut client = Client::new(&engine, true).await;
        for _ in 0..3 {
            assert_eq!(client.ask(Method::GET, "/", &[]).await.0, status, "{head}");
        }
        assert_eq!(accepted.load(std::sync::atomic::Ordering::Relaxed), connections, "{head}");
        let reason = if status == 502 { "TargetProtocolError" } else { "-" };
        for line in log.lines(3).await {
            assert_eq!(line["failureReason"], reason, "{head}");
        }
    }
}

/// Heads and data that come with what breaks the response, in one segment, and the data that reaches the client before the cut.
#[tokio::test]
async fn what_came_before_a_response_broke_reaches_the_client() {
    for (body, text, whole) in [
        ("3~abc~0~~", "abc", true),
        ("3~abc~zz~", "abc", false),
        ("zz~", "", false),
        ("3~abc~0~no colon~~", "abc", false),
        ("3~abc~3~de", "abcde", false),
    ] {
        let answer = format!("HTTP/1.1 200 OK~transfer-encoding: chunked~~{body}").replace('~', "\r\n");
        let target = answering(answer).await;
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            let request = client.request(Method::GET, "/").body(full("")).unwrap();
            let (parts, mut response) = client.send(request).await.into_parts();
            assert_eq!(parts.status, StatusCode::OK, "{body} over HTTP/2 {http2}");
            let (mut came, mut ended) = (Vec::new(), true);
            while let Some(frame) = response.frame().await {
                match frame.map(|frame| frame.into_data().unwrap_or_default()) {
                    Ok(data) => came.extend_from_slice(&data),
                    Err(_) => {
                        ended = false;
                        break;
                    }
                }
            }
            assert_eq!((&came[..], ended), (text.as_bytes(), whole), "{body} over HTTP/2 {http2}");
        }
    }
}

#[tokio::test]
async fn an_http2_target_says_its_length_once() {
    let server = Server::start(true, TARGET, |_| async {
        let answer = http::Response::builder().header("content-length", "5").header("content-length", "05");
        Ok(answer.header("x-blank", " a ").body(full("hello"))?)
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http2, &[server.address]).await;
    for http2 in [false, true] {
        let mut client = Client::new(&engine, http2).await;
        let (status, headers, body) = client.ask(Method::GET, "/", &[]).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello"[..]));
        assert_eq!(headers.get_all("content-length").iter().collect::<Vec<_>>(), ["5"], "HTTP/2 {http2}");
        assert_eq!(headers["x-blank"], "a", "HTTP/2 {http2}");
    }
}

/// A target that answers with these bytes.
async fn answering(answer: String) -> std::net::SocketAddr {
    raw_server(move |mut stream| {
        let answer = answer.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            // The engine may close before it has read all that it refuses.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

/// A target whose response has these fields.
async fn with_fields(lines: &str) -> std::net::SocketAddr {
    answering(format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok")).await
}

#[tokio::test]
async fn blanks_and_folds_in_a_targets_fields_are_repaired() {
    let target = with_fields("X-Space : a\r\nX-Tab\t: b\r\nX-Folded: a\r\n  b\r\n\tc\r\nX-End: d \t\r\n").await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    for http2 in [false, true] {
        let mut client = Client::new(&engine, http2).await;
        let (status, headers, body) = client.ask(Method::GET, "/", &[]).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"ok"[..]), "HTTP/2 {http2}");
        for (name, value) in [("x-space", "a"), ("x-tab", "b"), ("x-folded", "a b c"), ("x-end", "d")] {
            assert_eq!(headers[name], value, "{name} over HTTP/2 {http2}");
        }
    }
}

#[tokio::test]
async fn one_bound_of_fields_holds_in_both_directions() {
    for bound in [20, 100, 150] {
        let limits = Limits { headers: bound, ..Limits::default() };
        for to in [false, true] {
            for (fields, fits) in [(bound, true), (bound + 1, false)] {
                // One of them is `content-length`; hyper's server adds `date`.
                let target = if to {
                    let server = Server::start(true, TARGET, move |_| async move {
                        let mut answer = http::Response::builder();
                        for n in 0..fields - 2 {
                            answer = answer.header(format!("x-{n}"), "1");
                        }
                        Ok(answer.body(full("ok"))?)
                    })
                    .await;
                    server.address
                } else {
                    with_fields(&(0..fields - 1).map(|n| format!("x-{n}: 1\r\n")).collect::<String>()).await
                };
                let engine = Engine::serving(limits, version(to), &[target]).await;
                // hyper's client of HTTP/1 has a bound of its own.
                let mut client = Client::new(&engine, true).await;
                let (answer, headers, body) = client.ask(Method::GET, "/", &[]).await;
                let text = String::from_utf8_lossy(&body).into_owned();
                if fits {
                    assert_eq!((answer, &*text), (StatusCode::OK, "ok"), "{fields} fields of {bound}, HTTP/2 {to}");
                    assert!(headers.contains_key(format!("x-{}", fields - 3)));
                } else {
                    assert_eq!(answer, StatusCode::BAD_GATEWAY, "{fields} fields of {bound}, HTTP/2 {to}");
                    assert!(text.contains("too many header fields"), "{text}");
                }
                // And of requests: two of them are `host` and `connection`.
                let lines: String = (0..fields - 2).map(|n| format!("x-{n}: 1\r\n")).collect();
                let head = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{lines}\r\n");
                assert_eq!(status(&engine.raw(head.as_bytes()).await) != 431, fits, "{fields} of {bound}");
            }
        }
    }
}
