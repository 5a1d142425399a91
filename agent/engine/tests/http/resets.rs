//! Streams of HTTP/2 that are reset in the middle: what came before reaches the other side, and what is missing is never taken
//! for the end.

use std::{net::SocketAddr, sync::Arc};

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, begun, block, frame},
    log::Log,
    support::*,
};

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;
/// HPACK's `:status: 200`.
const OK: &[u8] = &[0x88];

/// Acknowledges settings, and answers each stream with these frames in one segment.
async fn answer(mut stream: TcpStream, frames: &(dyn Fn(u32) -> Vec<u8> + Send + Sync)) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, id @ ..] = head;
        stream.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize]).await?;
        match kind {
            SETTINGS if flags & 1 == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?,
            HEADERS => stream.write_all(&frames(u32::from_be_bytes(id))).await?,
            _ => {}
        }
    }
}

async fn target(frames: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let frames = Arc::new(frames);
    raw_server(move |stream| {
        let frames = Arc::clone(&frames);
        async move {
            // It ends when the engine closes.
            let _ = answer(stream, &*frames).await;
        }
    })
    .await
}

/// What an HTTP/2 target sends in one segment, and whether its response is whole.
#[derive(Clone, Copy, Debug)]
struct Case {
    data: &'static [u8],
    /// The data ends the stream.
    ends: bool,
    reset: Option<u32>,
    whole: bool,
}

const CASES: [Case; 7] = [
    // The controls.
    Case { data: b"abc", ends: true, reset: None, whole: true },
    Case { data: b"abc", ends: true, reset: Some(NO_ERROR), whole: true },
    Case { data: b"abc", ends: false, reset: Some(CANCEL), whole: false },
    Case { data: b"abc", ends: false, reset: Some(INTERNAL_ERROR), whole: false },
    // Hyper takes this code for an orderly end of the body.
    Case { data: b"abc", ends: false, reset: Some(NO_ERROR), whole: false },
    Case { data: b"", ends: false, reset: Some(CANCEL), whole: false },
    Case { data: b"", ends: false, reset: Some(NO_ERROR), whole: false },
];

#[tokio::test]
async fn a_response_that_its_target_resets_is_cut_where_it_stopped() {
    for case in CASES {
        let target = target(move |id| {
            let data = frame(DATA, if case.ends { END_STREAM } else { 0 }, id, case.data);
            let reset = case.reset.map(|code| frame(RST_STREAM, 0, id, &code.to_be_bytes()));
            [frame(HEADERS, END_HEADERS, id, OK), data, reset.unwrap_or_default()].concat()
        })
        .await;
        for http2 in [false, true] {
            let engine = Engine::serving(Limits::default(), ProtocolVersion::Http2, &[target]).await;
            let log = Log::of(&engine, 1);
            let mut client = Client::new(&engine, http2).await;
            let request = client.request(Method::GET, "/").body(full("")).unwrap();
            let (parts, mut body) = client.send(request).await.into_parts();
            let (mut came, mut whole) = (Vec::new(), true);
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => came.extend_from_slice(&frame.into_data().unwrap_or_default()),
                    Err(_) => {
                        whole = false;
                        break;
                    }
                }
            }
            assert_eq!((parts.status, &came[..], whole), (StatusCode::OK, case.data, case.whole), "{case:?}, {http2}");
            let reason = if case.whole { "-" } else { "TargetConnectionClosed" };
            assert_eq!(log.only().await, (reason.to_owned(), 200.into()), "{case:?} over HTTP/2 {http2}");
        }
    }
}

/// What a target got of a request, told when it is done with it: hyper drops a handler whose connection ends.
struct Seen {
    body: Option<Bytes>,
    tell: tokio::sync::mpsc::UnboundedSender<Option<Bytes>>,
}

impl Seen {
    fn took(&mut self, body: Option<Bytes>) {
        self.body = body;
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let _ = self.tell.send(self.body.take());
    }
}

/// A request that its client resets never reaches the target as a whole one.
#[tokio::test]
async fn a_request_that_its_client_resets_is_cut_where_it_stopped() {
    for to in [false, true] {
        for (ends, reset) in
            [(true, None), (false, Some(CANCEL)), (false, Some(INTERNAL_ERROR)), (false, Some(NO_ERROR))]
        {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let server = Server::start(to, TARGET, move |request| {
                let mut seen = Seen { body: None, tell: tell.clone() };
                async move {
                    seen.took(request.into_body().collect().await.ok().map(http_body_util::Collected::to_bytes));
                    Ok(http::Response::new(full("ok")))
                }
            })
            .await;
            let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
            let log = Log::of(&engine, 1);
            let fields: &[(&str, &[u8])] =
                &[(":method", b"POST"), (":scheme", b"http"), (":path", b"/"), (":authority", HOST.as_bytes())];
            let head = [frame(SETTINGS, 0, 0, &[]), frame(HEADERS, END_HEADERS, 1, &block(fields))].concat();
            let mut client = begun(&engine, &head).await;
            // The request has reached the target before it is reset.
            let since = std::time::Instant::now();
            while server.seen() == 0 {
                assert!(since.elapsed() < std::time::Duration::from_secs(10), "the target does not get the request");
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            let data = frame(DATA, if ends { END_STREAM } else { 0 }, 1, b"abc");
            let reset_frame = reset.map(|code| frame(RST_STREAM, 0, 1, &code.to_be_bytes()));
            client.write_all(&[data, reset_frame.unwrap_or_default()].concat()).await.unwrap();
            let what = format!("reset: {reset:?} to HTTP/2 {to}");
            let whole = tokio::time::timeout(std::time::Duration::from_secs(10), told.recv()).await.expect("an end");
            assert_eq!(whole.flatten().as_deref(), reset.is_none().then_some(&b"abc"[..]), "{what}");
            let reason = if ends { "-" } else { "ClientConnectionClosed" };
            assert_eq!(log.only().await.0, reason, "{what}");
        }
    }
}
