//! Connections of clients that speak HTTP/2, served by hyper: each stream is a request, in a task of its own.

mod io;

use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll};

use brattice_wire::records::FailureReason;
use bytes::BytesMut;
use futures_util::{FutureExt, future::abortable};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::http2,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;

use self::io::ClientIo;
use super::{
    client_body::ClientBody,
    control::Verdict,
    request::{self, Arrival, Closed},
    response_body::ResponseBody,
    server::Server,
    session::Session,
};
use crate::{events::ConnectionEvent, limits::Limit, tasks::Parties, transport::Stream};

/// What a client may send on a stream, and on a connection, before the target has taken it.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes that wait on a stream for the client's window.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client may reset before they were looked at; then it gets `ENHANCE_YOUR_CALM`.
const RESETS: usize = 32;
/// Resets that a client may cause us to send.
const LOCAL_RESETS: usize = 256;

/// Serves a connection to its end; `bytes`, which begin with the preface, were read already.
pub(super) async fn serve(session: Rc<Session>, stream: Stream, bytes: BytesMut) {
    let (server, control) = (&session.server, &session.control);
    let limits = session.local().limits();
    let io = ClientIo::new(stream, bytes, session.control.clone(), session.local());
    let executor = StreamTasks { server: Rc::clone(server), parties: session.parties.clone() };
    let mut builder = http2::Builder::new(executor);
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(limits.http2_streams)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        // h2 answers beyond this by itself and uncounted; the service answers, and counts, from the limit on.
        .max_header_list_size(limits.header_bytes.saturating_mul(2));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service(&session)));
    let (connected, mut draining) = (&control.connection, false);
    let ended = poll_fn(|cx| {
        control.park(cx);
        match control.verdict() {
            Verdict::Drain if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            Verdict::Serve | Verdict::Drain => {}
            Verdict::Close | Verdict::Reset => return Poll::Ready(None),
            Verdict::Flooded => {
                connected.emit(ConnectionEvent::LimitReached(Limit::Http2ControlFrames));
                return Poll::Ready(None);
            }
            Verdict::HeaderTimeout => {
                control.ends_for(FailureReason::ConnectionDurationExceeded);
                connected.emit(ConnectionEvent::LimitReached(Limit::HeaderTimeout));
                return Poll::Ready(None);
            }
        }
        connection.poll_unpin(cx).map(Some)
    })
    .await;
    let Some(ended) = ended else { return };
    if control.verdict() == Verdict::Flooded {
        connected.emit(ConnectionEvent::LimitReached(Limit::Http2ControlFrames));
    }
    if ended.is_err_and(|error| malformed(&error)) {
        connected.emit(ConnectionEvent::Malformed);
        control.ends_for(FailureReason::ClientProtocolError);
    }
}

/// Serves requests, each in a box of its own, which an idle connection does not keep.
fn service(
    session: &Rc<Session>,
) -> impl Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Closed, Future: Unpin + 'static> + use<>
{
    let session = Rc::clone(session);
    service_fn(move |request: Request<Incoming>| {
        Box::pin(request::serve(Rc::clone(&session), request.map(ClientBody::Http2), Arrival::default()))
    })
}

/// Whether a connection ended because of what the client sent: frames that are no HTTP/2, too many resets.
fn malformed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_parse() || source.is_some_and(|error| error.is_library() && error.reason() != Some(h2::Reason::NO_ERROR))
}

/// Runs the streams of an HTTP/2 connection, findable by the client's alias, each with a handle that ends it alone.
#[derive(Clone)]
struct StreamTasks {
    server: Rc<Server>,
    parties: Parties,
}

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        let server = Rc::clone(&self.server);
        let (stream, handle) = abortable(stream);
        let stream = Box::pin(stream);
        self.server.tasks.spawn(self.parties.clone(), async move {
            // The stream's first turn begins its request, which takes the handle.
            *server.stream.borrow_mut() = Some(handle);
            // Ended early: h2 resets the stream.
            let _ = stream.await;
        });
    }
}
