//! The HTTP server's answers.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv6Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::{Counters, fill, hex, open::Open, upgrade};

type Body = BoxBody<Bytes, Infallible>;

/// Bytes of one frame of `/bytes/N`.
const FRAME: usize = 64 * 1024;
/// Beginning of an HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI";

/// A listener on all addresses of both families with room for thousands of waiting connections.
pub(crate) fn listen(port: u16) -> TcpListener {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
    socket.set_only_v6(false).expect("IPV6_V6ONLY");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
        .bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())
        .unwrap_or_else(|error| panic!("port {port}: {error}"));
    socket.listen(4_096).expect("listen");
    TcpListener::from_std(socket.into()).expect("inside a runtime")
}

/// Accepts forever.
pub(crate) async fn serve(listener: TcpListener, name: String, counters: Arc<Counters>) {
    let name: Arc<str> = name.into();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        counters.accepted(peer);
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(stream, peer, name.clone(), counters.clone()));
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, name: Arc<str>, counters: Arc<Counters>) {
    let mut first = [0; PREFACE.len()];
    let length = loop {
        match stream.peek(&mut first).await {
            Ok(length) if length == PREFACE.len() || length == 0 || first[..length] != PREFACE[..length] => {
                break length;
            }
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(_) => return,
        }
    };
    let service = service_fn(move |request| answer(request, peer, name.clone(), counters.clone()));
    let io = TokioIo::new(stream);
    if length == PREFACE.len() && first == PREFACE {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(io, service)
            .with_upgrades()
            .await;
    }
}

/// Aborts the connection: an error of the service ends it without an answer.
#[derive(Debug)]
struct Abort;

impl std::fmt::Display for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("asked to close without an answer")
    }
}

impl std::error::Error for Abort {}

async fn answer(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    name: Arc<str>,
    counters: Arc<Counters>,
) -> Result<Response<Body>, Abort> {
    counters.requests.fetch_add(1, Ordering::SeqCst);
    if let Some(mut response) = upgrade::accept(&mut request, &counters) {
        response.headers_mut().insert("x-server", HeaderValue::from_str(&name).expect("a server's name is ASCII"));
        counters.answers.fetch_add(1, Ordering::SeqCst);
        return Ok(response.map(|()| full(Bytes::new())));
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let nonce = head.headers.get("x-nonce").cloned();
    let mut words = path.strip_prefix("/public").unwrap_or(&path).trim_start_matches('/').split('/');
    let (first, second) = (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse::<u64>().ok()));
    let mut response = match (first, second) {
        ("bytes", Some(length)) => Response::new(bytes(length)),
        ("hash", _) => hash(body, rate(head.uri.query())).await?,
        ("status", Some(status)) => {
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = u16::try_from(status)
                .ok()
                .and_then(|status| StatusCode::from_u16(status).ok())
                .unwrap_or(StatusCode::OK);
            response
        }
        ("trailers", _) => trailers(),
        ("drip", pause) => Response::new(drip(Duration::from_millis(pause.unwrap_or(50)), &counters)),
        ("reset", _) => return Err(Abort),
        (first, second) => {
            if first == "slow" {
                tokio::time::sleep(Duration::from_millis(second.unwrap_or(100))).await;
            }
            let collected = body.collect().await.map_err(|_| Abort)?;
            let sent_trailers = collected.trailers().map(headers).unwrap_or(json!({}));
            let about = json!({
                "server": &*name,
                "nonce": nonce.as_ref().and_then(|value| value.to_str().ok()),
                "method": head.method.as_str(),
                "path": path,
                "query": head.uri.query(),
                "authority": head.uri.authority().map(ToString::to_string),
                "version": format!("{:?}", head.version),
                "headers": headers(&head.headers),
                "trailers": sent_trailers,
                "peer": peer.to_string(),
                "body": String::from_utf8_lossy(&collected.to_bytes()),
            });
            let mut response = Response::new(full(Bytes::from(about.to_string())));
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
            response
        }
    };
    let own = response.headers_mut();
    own.insert("x-server", HeaderValue::from_str(&name).expect("a server's name is ASCII"));
    if let Some(nonce) = nonce {
        own.insert("x-nonce", nonce);
    }
    counters.answers.fetch_add(1, Ordering::SeqCst);
    Ok(response)
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed()
}

/// All fields, values of the same name in order.
fn headers(map: &HeaderMap) -> Value {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in map {
        all.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    json!(all)
}

fn bytes(length: u64) -> Body {
    let frames = stream::unfold(0_u64, move |at| async move {
        if at >= length {
            return None;
        }
        let count = usize::try_from(length - at).map_or(FRAME, |left| left.min(FRAME));
        let mut buffer = vec![0; count];
        fill(at, &mut buffer);
        Some((Ok(Frame::data(Bytes::from(buffer))), at + count as u64))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// A line now, and one after every pause, forever.
fn drip(pause: Duration, counters: &Arc<Counters>) -> Body {
    let open = Open::count(counters, |counters| &counters.dripping);
    let frames = stream::unfold((open, 0_u64), move |(open, number)| async move {
        if number > 0 {
            tokio::time::sleep(pause).await;
        }
        Some((Ok(Frame::data(Bytes::from(format!("drip {number}\n")))), (open, number + 1)))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// `rate=BYTES` of a query, bytes a second.
fn rate(query: Option<&str>) -> Option<u64> {
    query?.split('&').find_map(|pair| pair.strip_prefix("rate="))?.parse().ok()
}

async fn hash(mut body: Incoming, rate: Option<u64>) -> Result<Response<Body>, Abort> {
    let mut hash = Sha256::new();
    let mut length = 0_u64;
    let mut sent_trailers = json!({});
    let start = Instant::now();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Abort)?;
        match frame.into_data() {
            Ok(data) => {
                hash.update(&data);
                length += data.len() as u64;
                if let Some(rate) = rate {
                    let due = Duration::from_secs_f64(length as f64 / rate as f64);
                    tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
                }
            }
            Err(frame) => {
                if let Ok(map) = frame.into_trailers() {
                    sent_trailers = headers(&map);
                }
            }
        }
    }
    let about = json!({"sha256": hex(&hash.finalize()), "length": length, "trailers": sent_trailers});
    Ok(Response::new(full(Bytes::from(about.to_string()))))
}

fn trailers() -> Response<Body> {
    let mut map = HeaderMap::new();
    map.insert(HeaderName::from_static("x-checksum"), HeaderValue::from_static("abc123"));
    let frames = stream::iter([Ok(Frame::data(Bytes::from_static(b"with trailers"))), Ok(Frame::trailers(map))]);
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
    response
}
