//! What only we may say, in every spelling that some server takes for it.

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncWriteExt;

use crate::{scene::*, support::*};

/// One field name in each line.
const SPELLINGS: &str = include_str!("../http/spellings.txt");
const FORGED: &str = "forged-by-the-caller";

fn forged(headers: &HeaderMap) -> Vec<&HeaderName> {
    let has = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).contains(FORGED);
    headers.iter().filter(|(_, value)| has(value)).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn none_gets_through_over_http1() {
    assert!(SPELLINGS.lines().count() >= 30);
    for to in [ProtocolVersion::Http1, ProtocolVersion::Http2] {
        let server = Server::echo(to == ProtocolVersion::Http2).await;
        let engine = Engine::start(Limits::default());
        engine.apply(guarded(&engine, 1, to, &[server.address], &[EVERYBODY])).await;
        let mut client = engine.connect(CALLER).await;
        for name in SPELLINGS.lines() {
            for line in [
                format!("{name}: {FORGED}\r\n"),
                format!("{name}:{FORGED}\r\n{name}: {FORGED}\r\n"),
                format!("connection: {name}\r\n{name}: {FORGED}\r\n"),
                format!("connection: x-amzn-lattice-identity, x-amzn-lattice-target\r\n{name}: {FORGED}\r\n"),
            ] {
                let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-harmless: {FORGED}\r\n{line}\r\n");
                client.write_all(request.as_bytes()).await.unwrap();
                read_until(&mut client, "GET / ").await;
                let headers = server.last().headers;
                assert_eq!(forged(&headers), ["x-harmless"], "{line}");
                for ours in ["x-amzn-lattice-identity", "x-amzn-lattice-target", "x-forwarded-for"] {
                    assert_eq!(headers.get_all(ours).iter().count(), 1, "{ours} after {line}");
                }
            }
        }
    }
}

#[tokio::test]
async fn none_gets_through_over_http2() {
    let server = Server::echo(false).await;
    let engine = serving(&[server.address], &[EVERYBODY]).await;
    let mut client = engine.http2(CALLER).await;
    for name in SPELLINGS.lines() {
        let mut request = get2("/");
        // Names of HTTP/2 are in lower case.
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).unwrap();
        request.headers_mut().insert(name.clone(), HeaderValue::from_static(FORGED));
        request.headers_mut().insert("x-harmless", HeaderValue::from_static(FORGED));
        client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(forged(&server.last().headers), ["x-harmless"], "{name}");
    }
}

#[tokio::test]
async fn none_gets_through_in_trailers() {
    for to_http2 in [false, true] {
        let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let server = Server::start(to_http2, TARGET, move |request| {
            let sender = sender.clone();
            async move {
                let body = request.into_body().collect().await?;
                sender.send(body.trailers().cloned().unwrap_or_default())?;
                Ok(http::Response::new(full("ok")))
            }
        })
        .await;
        let to = if to_http2 { ProtocolVersion::Http2 } else { ProtocolVersion::Http1 };
        let engine = Engine::start(Limits::default());
        engine.apply(guarded(&engine, 1, to, &[server.address], &[EVERYBODY])).await;
        let mut client = engine.http2(CALLER).await;
        for name in SPELLINGS.lines() {
            let mut trailers = HeaderMap::new();
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).unwrap();
            trailers.insert(name.clone(), HeaderValue::from_static(FORGED));
            trailers.insert("x-harmless", HeaderValue::from_static(FORGED));
            let frames = [Ok::<_, std::io::Error>(Frame::data(Bytes::from("body"))), Ok(Frame::trailers(trailers))];
            let body = StreamBody::new(futures_util::stream::iter(frames)).map_err(Into::into).boxed_unsync();
            let named = format!("{name}, x-harmless");
            let request = Request::post(format!("http://{HOST}/")).header("te", "trailers").header("trailer", named);
            client.send_request(request.body(body).unwrap()).await.unwrap().into_body().collect().await.unwrap();
            let trailers = seen.recv().await.unwrap();
            let through: Vec<_> = forged(&trailers).into_iter().filter(|own| *own != "x-harmless").collect();
            assert!(through.is_empty(), "{name} to HTTP/{}: {through:?}", 1 + u8::from(to_http2));
            assert!(!to_http2 || trailers.contains_key("x-harmless"), "control");
        }
    }
}
