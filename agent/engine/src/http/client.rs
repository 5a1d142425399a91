//! Client connections: accepted, identified, served, swept, closed.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use brattice_wire::{
    engine::Limits,
    records::{FailureReason, FlowProtocol},
};
use futures_util::future::abortable;
use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;

use super::{
    control::{Control, Verdict},
    guard::Bounds,
    io::ClientIo,
    request::{self, Closed},
    response_body::ResponseBody,
    server::Server,
    session::Session,
    target_io::HTTP1_FIELDS,
    upgrade::{self, Upgrade},
};
use crate::{
    downstream::accepted::Accepted,
    events::{
        ConnectionEvent,
        connection::{Called, ConnectionSpan},
    },
    limits::{Limit, Taken},
    tasks::Parties,
    transport::Stream,
};

/// Most that hyper buffers of an HTTP/1 connection in each direction beyond the header section: what a slow side costs.
const HTTP1_BUFFER: usize = 64 * 1024;
/// What a client may send on a stream, and on a connection, before the target has taken it.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes that wait on a stream for the client's window.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client may reset before they were looked at; then it gets `ENHANCE_YOUR_CALM`.
const HTTP2_RESETS: usize = 32;
/// Resets that a client may cause us to send.
const HTTP2_LOCAL_RESETS: usize = 256;
/// How long a connection without a service, as yet, may idle, ms; Lattice's shortest.
const FIRST_IDLE: u32 = 60_000;

/// Serves a connection as HTTP.
pub(crate) fn begin(server: &Rc<Server>, accepted: Accepted<'_>) {
    let Accepted { view, caller, source_port, vip, port, called, stream, taken } = accepted;
    let local = &server.local;
    let service = called.map(|(service, _)| service);
    let idle = service.map_or(FIRST_IDLE, |service| service.idle_timeout_ms);
    let idle_ticks = local.clock.ticks(idle);
    let (to, names) = ((service.map(|service| service.number), None), &view.state.names);
    let connection = local.events.open_connection(names, caller.id(), Called { source_port, vip, port }, to);
    let parties = Parties::default();
    parties.set(0, caller.alias, caller.generation);
    let control = Rc::new(Control::new(connection, parties.clone(), local.clock.tick(), idle_ticks));
    let open = Open::new(Rc::clone(server), Rc::clone(&control), taken);
    let session = Rc::new(Session {
        server: Rc::clone(server),
        control,
        caller: caller.id(),
        vip,
        port,
        http2: Cell::new(false),
        shown: OnceCell::new(),
        auth: brattice_decide::Connection::default(),
        parties: parties.clone(),
        switched: RefCell::default(),
    });
    stream.reset_on_drop(false);
    server.tasks.spawn(parties, async move {
        let _open = open;
        serve(session, stream).await;
    });
}

/// Counts a connection while it is open.
struct Open {
    server: Rc<Server>,
    connection: Rc<ConnectionSpan>,
    key: usize,
    _taken: Taken,
}

impl Open {
    fn new(server: Rc<Server>, control: Rc<Control>, taken: Taken) -> Self {
        let connection = Rc::clone(&control.connection);
        let key = server.clients.0.borrow_mut().insert(control);
        Self { server, connection, key, _taken: taken }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.emit(ConnectionEvent::Closed);
        self.server.clients.0.borrow_mut().try_remove(self.key);
    }
}

/// One connection, to its end. What it does not need while it idles is out of scope by then: else each had room for it.
async fn serve(session: Rc<Session>, stream: Stream) {
    let (local, control) = (session.local(), &session.control);
    let mut connection = match greet(&session, stream).await {
        None => return,
        Some(io) if session.http2.get() => return Box::pin(serve_http2(&session, io)).await,
        Some(io) => http1_builder(local.limits()).serve_connection(TokioIo::new(io), service(&session)),
    };
    if !drive(&session.server, control, Pin::new(&mut connection), http1::Connection::graceful_shutdown, false).await {
        return;
    }
    let upgrade = session.switched.take();
    Box::pin(after(connection.into_parts(), upgrade, &session)).await;
}

/// Waits for what the client begins with; `None`: it is not served.
async fn greet(session: &Session, stream: Stream) -> Option<ClientIo> {
    let (local, control) = (session.local(), &session.control);
    let limits = local.limits();
    let bounds = Bounds { bytes: limits.header_bytes as usize, fields: limits.headers as usize };
    let mut io = ClientIo::new(stream, Rc::clone(control), Rc::clone(&local.clock));
    let version = poll_fn(|cx| {
        control.park(cx);
        if control.verdict() > Verdict::Serve {
            return Poll::Ready(None);
        }
        io.poll_version(cx, (bounds, &session.server.spare_head), limits.http2_control_frames).map(Result::ok)
    })
    .await;
    let Some(http2) = version else {
        if control.verdict() == Verdict::HeaderTimeout {
            control.connection.emit(ConnectionEvent::LimitReached(Limit::HeaderTimeout));
        }
        return None;
    };
    session.http2.set(http2);
    control.connection.emit(ConnectionEvent::Protocol(if http2 { FlowProtocol::Http2 } else { FlowProtocol::Http1 }));
    Some(io)
}

/// Serves requests, each in a box of its own, which an idle connection does not keep.
fn service(
    session: &Rc<Session>,
) -> impl Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Closed, Future: Unpin + 'static> + use<>
{
    let session = Rc::clone(session);
    service_fn(move |request| Box::pin(request::serve(Rc::clone(&session), request)))
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(HTTP1_BUFFER.max(limits.header_bytes as usize + 8 * 1024))
        // The sweeper watches this.
        .header_read_timeout(None);
    if limits.headers as usize > HTTP1_FIELDS {
        // The guard has refused what is beyond ours.
        builder.max_headers(limits.headers as usize);
    }
    builder
}

/// What follows HTTP/1 on the connection: another protocol, or the end.
async fn after<S>(parts: http1::Parts<TokioIo<ClientIo>, S>, upgrade: Option<Box<Upgrade>>, session: &Session) {
    let (control, mut io) = (&session.control, parts.io.into_inner());
    if let Some(upgrade) = upgrade {
        return upgrade::run(io, parts.read_buf, *upgrade, &session.server.copier, control).await;
    }
    // hyper leaves it open where some request offered another protocol.
    poll_fn(|cx| {
        control.park(cx);
        if control.verdict().closes() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut io).poll_shutdown(cx)
    })
    .await
    .unwrap_or_default();
}

async fn serve_http2(session: &Rc<Session>, io: ClientIo) {
    let limits = session.local().limits();
    let executor = StreamTasks { server: Rc::clone(&session.server), parties: session.parties.clone() };
    let mut builder = http2::Builder::new(executor);
    builder
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .max_concurrent_streams(limits.http2_streams)
        .max_pending_accept_reset_streams(HTTP2_RESETS)
        .max_local_error_reset_streams(HTTP2_LOCAL_RESETS)
        // h2 answers beyond this by itself and uncounted; the service answers, and counts, from the limit on.
        .max_header_list_size(limits.header_bytes.saturating_mul(2));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service(session)));
    drive(&session.server, &session.control, connection.as_mut(), http2::Connection::graceful_shutdown, true).await;
}

/// Runs a connection and carries out what is decided about it; true: it came to its own end, without an error.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    server: &Server,
    control: &Control,
    mut connection: Pin<&mut C>,
    drain: impl Fn(Pin<&mut C>),
    http2: bool,
) -> bool {
    let (connected, mut draining) = (&control.connection, false);
    poll_fn(|cx| {
        control.park(cx);
        match control.verdict() {
            Verdict::Serve => {}
            Verdict::Close | Verdict::Reset => return Poll::Ready(false),
            Verdict::Flooded => {
                connected.emit(ConnectionEvent::LimitReached(Limit::Http2ControlFrames));
                return Poll::Ready(false);
            }
            Verdict::HeaderTimeout if http2 => {
                control.ends_for(FailureReason::ConnectionDurationExceeded);
                connected.emit(ConnectionEvent::LimitReached(Limit::HeaderTimeout));
                return Poll::Ready(false);
            }
            // The reader has the refusal answered in its turn.
            Verdict::HeaderTimeout => {}
            Verdict::Drain if draining => {}
            Verdict::Drain => {
                draining = true;
                drain(connection.as_mut());
            }
        }
        connection.as_mut().poll(cx).map(|ended| {
            if control.verdict() == Verdict::Flooded {
                connected.emit(ConnectionEvent::LimitReached(Limit::Http2ControlFrames));
            }
            if let Some(error) = ended.as_ref().err().filter(|error| malformed(error)) {
                connected.emit(ConnectionEvent::Malformed);
                control.ends_for(FailureReason::ClientProtocolError);
                if error.is_parse() && !http2 {
                    // hyper has answered this one by itself.
                    let (status, state) = (StatusCode::BAD_REQUEST, &server.views.latest().state);
                    server.local.events.unreadable_request(connected, status.as_u16(), &state.names);
                }
            }
            ended.is_ok()
        })
    })
    .await
}

/// Whether a connection ended because of what the client sent: a request target that is no URI, frames that are no
/// HTTP/2, too many resets.
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
