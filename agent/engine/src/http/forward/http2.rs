//! A request to an HTTP/2 target: as a stream of a connection that only its caller's requests use, and on another one where
//! the target did nothing with it.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    rc::Rc,
    time::Duration,
};

use brattice_wire::snapshot::Target;
use http::{Method, Request, header::CONTENT_LENGTH};
use http_body::Body;
use hyper::{
    client::conn::{TrySendError, http2},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use super::{Failure, Forwarder, Lease, Route, Sent, count_hit, idempotent, parties};
use crate::{
    aliases::CallerId,
    flights::Flight,
    http::{
        headers,
        peer::PeerState,
        request_body::RequestBody,
        retry_buffer::{BodyBuffer, RequestCopy},
        target_io::{Meter, TargetIo},
    },
    local::Local,
    stats::Limit,
    tasks::{Parties, Tasks},
    upstream::connector::ConnectError,
    upstream::pool::{Choice, Key, Multiplexed, Opened, Streams},
};

/// What a target may send on a stream, and on a connection, before the client has taken it.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What waits on a stream for the target's window.
const SEND_BUFFER: usize = 64 * 1024;
/// Header section of a target's answer.
const HEADERS: u32 = 128 * 1024;
/// How often a new connection is asked whether the target's settings came; hyper does not tell.
const GREETING_LOOK: Duration = Duration::from_millis(1);
/// Times that a request may look for a connection with room.
const LOOKS: usize = 128;
/// Times that a request is sent, if the target says each time that it did nothing with it, nor with others on the same
/// connection.
const REFUSALS: usize = 8;

/// A connection.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Streams>,
    /// As many may be open, as the target's settings say now.
    room: Rc<dyn Fn() -> usize>,
    /// What else the target said of it.
    peer: Rc<PeerState>,
}

impl Multiplexed for Http2 {
    fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.peer.is_draining()
    }

    fn room(&self) -> usize {
        (self.room)()
    }

    fn streams(&self) -> &Rc<Streams> {
        &self.streams
    }
}

/// Counts a stream of ours.
pub(crate) struct Stream {
    streams: Rc<Streams>,
    local: Rc<Local>,
}

impl Stream {
    fn new(connection: &Http2, local: &Rc<Local>) -> Self {
        connection.streams.begin();
        Self { streams: Rc::clone(&connection.streams), local: Rc::clone(local) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.end(self.local.clock.tick());
    }
}

pub(super) async fn send(forwarder: &Rc<Forwarder>, route: &Route, mut request: Request<RequestBody>) -> Sent {
    let size = header_list(&request);
    let local = &forwarder.local;
    let flight = request.body().flight();
    let body = request.body_mut().keep();
    let (mut refused, mut places) = (0, u32::MAX);
    for look in 0..LOOKS {
        let Some(mut connection) = connection(forwarder, route, places).await? else { continue };
        // Less, as some (h2) do not take what they say to the last byte.
        if size >= connection.peer.header_list() {
            return Err(Failure::TooLong);
        }
        let stream = Stream::new(&connection, local);
        request.body_mut().sent_to(&connection.peer);
        let again = forwarder.retry_buffers.copy(&request);
        let error = match connection.sender.try_send_request(request).await {
            Ok(response) => {
                if let Some(body) = body {
                    body.forget();
                }
                return Ok((response, Lease::Http2(stream)));
            }
            Err(error) => error,
        };
        drop(stream);
        match connection.peer.processed() {
            // It took others before it closed; this one was too late. The next connection is left before that.
            Some(processed) if processed > 0 => places = processed,
            _ => refused += 1,
        }
        let again = (refused < REFUSALS).then_some(again);
        // A connection that was there before may have ended for reasons of its own.
        let kept = look == 0;
        request =
            repeat(forwarder, route, &flight, (error, again), body.as_ref(), kept).await.map_err(Failure::Target)?;
    }
    Err(Failure::Busy)
}

/// What a field counts beside its bytes (RFC 9113, 6.5.2).
const OVERHEAD: usize = 32;

/// Bytes of the header section of a request to an HTTP/2 target, as RFC 9113, 6.5.2 counts them: with the pseudo-header
/// fields, and the length where hyper will say it.
fn header_list(request: &Request<RequestBody>) -> usize {
    let uri = request.uri();
    let pseudo = |name: &str, length: usize| name.len() + length + OVERHEAD;
    let mut size =
        headers::size(request.headers(), uri) + pseudo(":path", 0) + pseudo(":method", request.method().as_str().len());
    size += uri.scheme_str().map_or(0, |scheme| pseudo(":scheme", scheme.len()));
    size += uri.authority().map_or(0, |authority| pseudo(":authority", authority.as_str().len()));
    // hyper says no length where nothing is expected, nor where the request says it.
    let said = request.headers().contains_key(CONTENT_LENGTH);
    let unasked = matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE);
    match request.body().size_hint().exact() {
        None => size,
        Some(0) if unasked => size,
        Some(_) if said => size,
        Some(length) => size + pseudo(CONTENT_LENGTH.as_str(), length.max(1).ilog10() as usize + 1),
    }
}

/// A connection of the caller's to the target. `None`: look again.
async fn connection(forwarder: &Rc<Forwarder>, route: &Route, places: u32) -> Result<Option<Http2>, Failure> {
    let local = &forwarder.local;
    let most = local.limits().http2_connections_per_workload;
    let mut opened = match forwarder.http2.choose(&route.caller, &route.key, &local.clock, most, places) {
        Choice::Use(connection) => return Ok(Some(connection)),
        Choice::Full(connection) => {
            local.counts().hit(Limit::Http2ConnectionsPerWorkload);
            return connection.map(Some).ok_or(Failure::Busy);
        }
        Choice::Wait(opened) => opened,
        Choice::Open => open(forwarder, route),
    };
    match opened.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Err(error))) => Err(Failure::Connect(Rc::clone(error))),
        // Made, or the task that made it is gone; both show at the next look.
        _ => Ok(None),
    }
}

/// The request once more, if that does no harm.
async fn repeat(
    forwarder: &Forwarder,
    route: &Route,
    flight: &Rc<Flight>,
    (mut error, again): (TrySendError<Request<RequestBody>>, Option<RequestCopy<'_>>),
    body: Option<&BodyBuffer>,
    kept: bool,
) -> Result<Request<RequestBody>, hyper::Error> {
    let unsent = error.take_message();
    let error = error.into_error();
    // Sent as often as may be.
    let Some(again) = again else { return Err(error) };
    if let Some(unsent) = unsent {
        return Ok(unsent);
    }
    let harmless = unprocessed(&error)
        // It waited for its stream when the connection ended.
        || error.is_user() && forwarder.allows(&route.key)
        || kept && body.is_none() && idempotent(again.method()) && broken(&error);
    if !harmless || flight.fault.get().is_some() {
        return Err(error);
    }
    let body = match body {
        None => RequestBody::empty(Rc::clone(flight), Rc::clone(&forwarder.local)),
        Some(body) => match poll_fn(|cx| body.poll_rest(cx)).await {
            Some(rest) => RequestBody::again(body.clone(), rest, Rc::clone(flight), Rc::clone(&forwarder.local)),
            None => return Err(error),
        },
    };
    Ok(again.request(body))
}

/// Whether the target said that it did nothing with the request (RFC 9113, 6.8 and 8.7): the stream is above the last one
/// of its GOAWAY, or was refused. h2 gives a GOAWAY of the target as the reason only to streams above the last one.
fn unprocessed(error: &hyper::Error) -> bool {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>()).is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Whether the connection broke, and not because we ended it for what the target sent.
fn broken(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() != io::ErrorKind::InvalidData)
}

/// Makes a connection in a task of its own, as others may wait for it, too.
fn open(forwarder: &Rc<Forwarder>, route: &Route) -> Opened {
    let (sender, opened) = watch::channel(None);
    forwarder.http2.opening(route.caller, route.key, opened.clone());
    let (forwarder, caller, key) = (Rc::clone(forwarder), route.caller, route.key);
    let (target, timeout_ms) = (route.target.clone(), route.connect_timeout_ms);
    tokio::task::spawn_local(async move {
        let made = connect(&forwarder, caller, key, &target, timeout_ms).await;
        let (connection, result) = match made {
            Ok(connection) => (Some(connection), Ok(())),
            Err(error) => {
                forwarder.local.counts().connect_errors.add(1);
                (None, Err(Rc::new(error)))
            }
        };
        forwarder.http2.opened(&caller, &key, connection);
        // Nobody may be waiting any more.
        let _ = sender.send(Some(result));
    });
    opened
}

async fn connect(
    forwarder: &Rc<Forwarder>,
    caller: CallerId,
    key: Key,
    target: &Target,
    timeout_ms: u32,
) -> Result<Http2, ConnectError> {
    let timeout = Duration::from_millis(timeout_ms.into());
    let local = &forwarder.local;
    let stream = forwarder.connector.connect(target, timeout).await?;
    let peer = Rc::<PeerState>::default();
    let meter = Rc::<Meter>::default();
    let io = TokioIo::new(TargetIo::http2(stream, Rc::clone(&meter), Rc::clone(&peer), local));
    let parties = parties(&key);
    parties.set(1, caller.alias(), caller.generation());
    let executor = TargetTasks { tasks: Rc::clone(&forwarder.tasks), parties: parties.clone() };
    let handshake = http2::Builder::new(executor)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADERS)
        // None until the target has said how many it takes: those beyond it would be refused.
        .initial_max_send_streams(0)
        .handshake(io);
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let (sender, connection) =
        tokio::time::timeout(timeout, handshake).await.map_err(late)?.map_err(io::Error::other)?;
    let may_talk = || forwarder.allows(&key) && forwarder.closed.allow_caller(caller);
    if !may_talk() {
        return Err(ConnectError::Closed);
    }
    // The task owns the connection; the pool only asks it for its settings.
    let connection = Rc::new(RefCell::new(Box::pin(connection)));
    let (weak, counts) = (Rc::downgrade(&connection), Rc::clone(local));
    forwarder.tasks.spawn(parties, async move {
        // Its requests and bodies are told what went wrong.
        let _ = poll_fn(|cx| connection.borrow_mut().as_mut().poll(cx)).await;
        count_hit(&counts, &meter);
    });
    let room = Rc::new(move || {
        let connection = weak.upgrade();
        connection.map_or(0, |connection| connection.try_borrow().map_or(0, |open| open.current_max_send_streams()))
    });
    let greeted = async {
        while room() == 0 && !sender.is_closed() {
            tokio::time::sleep(GREETING_LOOK).await;
        }
    };
    tokio::time::timeout(timeout, greeted).await.map_err(late)?;
    if sender.is_closed() || !may_talk() {
        return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
    }
    Ok(Http2 { sender, streams: Streams::new(local.clock.tick()), room, peer })
}

/// Runs what hyper needs for a connection to a target, findable by the target's alias and by the caller's.
#[derive(Clone)]
struct TargetTasks {
    tasks: Rc<Tasks>,
    parties: Parties,
}

impl<F> Executor<F> for TargetTasks
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        self.tasks.spawn(self.parties.clone(), task);
    }
}
