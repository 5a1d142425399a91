//! A request to a target, over a kept connection or a new one.

mod http2;

use std::{rc::Rc, sync::Arc, time::Duration};

use brattice_wire::snapshot::Target;
use http::{Method, Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::{
    body::RequestBody,
    control::Interim,
    retry_buffer::RequestCopy,
    target_io::{Meter, Socket, TargetIo},
};
use crate::{
    aliases::CallerId,
    flights::Flight,
    local::Local,
    stats::Limit,
    tasks::Parties,
    upstream::connector::ConnectError,
    upstream::pool::{Handover, Http1, Key},
};

/// Most that hyper buffers of an HTTP/1 connection in each direction: what a slow side costs. Bounds a target's header
/// section, too.
const HTTP1_BUFFER: usize = 128 * 1024;
/// Fields of a header section that hyper reads unless it is told otherwise, which costs allocations.
pub(super) const HTTP1_FIELDS: usize = 100;

/// Where a request goes.
pub(crate) struct Route {
    pub(crate) key: Key,
    /// Whose request it is.
    pub(crate) caller: CallerId,
    pub(crate) target: Target,
    pub(crate) connect_timeout_ms: u32,
    /// The target may change the protocol.
    pub(crate) may_switch: bool,
    /// Where interim answers of an HTTP/1 target go.
    pub(crate) noticed: Option<Noticed>,
}

/// What takes a target's interim answers.
pub(crate) struct Noticed {
    pub(crate) interim: Arc<Interim>,
    /// The client can have those other than 100, too, until this request is answered.
    pub(crate) forward: Option<u64>,
}

impl Route {
    /// Has interim answers noticed; last of all, so that what is kept of a request for a second time is without.
    fn notice(&self, request: &mut Request<RequestBody>) {
        let Some(Noticed { interim, forward }) = &self.noticed else { return };
        let (interim, forward) = (Arc::clone(interim), *forward);
        hyper::ext::on_informational(request, move |response| {
            interim.received(response.status(), response.headers(), forward);
        });
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection.
    Connect(Rc<ConnectError>),
    /// The connection, or the answer, is broken.
    Target(hyper::Error),
    /// No HTTP/2 connection had room.
    Busy,
    /// The header section is longer than the target takes.
    TooLong,
}

/// A connection while a request uses it.
pub(crate) enum Lease {
    /// To be kept afterwards, unless its socket comes out because the protocol was changed.
    Http1(Key, Http1, Option<oneshot::Receiver<Socket>>),
    /// A stream of a shared one, given back when dropped.
    Http2(#[allow(dead_code, reason = "counts the stream until it is dropped")] http2::Stream),
}

impl Lease {
    /// The answer is complete.
    pub(crate) fn give_back(self, local: &Local) {
        if let Self::Http1(key, connection, _) = self
            && local.closed.allow(key.alias, key.generation)
        {
            if local.crowded.get() {
                // Whoever needs it next makes it anew.
                local.counts().hit(Limit::Descriptors);
            } else if local.pool.give(key, connection, &local.clock, local.limits().idle_per_target).is_err() {
                local.counts().hit(Limit::IdlePerTarget);
            }
        }
    }

    /// The socket, which comes as soon as hyper has done with it; for a request that could change the protocol.
    pub(crate) fn switch(self) -> Option<oneshot::Receiver<Socket>> {
        match self {
            Self::Http1(_, _, socket) => socket,
            Self::Http2(_) => None,
        }
    }
}

type Sent = Result<(Response<Incoming>, Lease), Failure>;

/// Sends a request, whose fields are those for the target, and waits for the head of the answer.
pub(crate) async fn send(local: &Rc<Local>, route: &Route, request: Request<RequestBody>) -> Sent {
    if route.key.http2 { http2::send(local, route, request).await } else { over_http1(local, route, request).await }
}

/// A copy of a request that may be sent a second time. One with a body may not: the body is used up.
fn copy<'a>(local: &'a Local, request: &Request<RequestBody>) -> Option<RequestCopy<'a>> {
    request.body().is_empty().then(|| local.retry_buffers.copy(request))
}

fn empty(local: &Rc<Local>, flight: &Rc<Flight>) -> RequestBody {
    RequestBody::empty(Rc::clone(flight), Rc::clone(local))
}

/// Methods that a target may see twice (RFC 9110, 9.2.2).
fn idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

async fn over_http1(local: &Rc<Local>, route: &Route, mut request: Request<RequestBody>) -> Sent {
    if let Some(mut kept) = local.pool.take(&route.key) {
        let again = if idempotent(request.method()) { copy(local, &request) } else { None };
        let (flight, _) = request.body().parts();
        let before = kept.meter.bytes();
        let socket = route.may_switch.then(|| kept.may_switch());
        route.notice(&mut request);
        kept.meter.begin(local.limits().interim_responses);
        match kept.sender.try_send_request(request).await {
            Ok(response) => return Ok((response, Lease::Http1(route.key, kept, socket))),
            Err(mut error) => {
                // The target closed the idle connection while the request was on its way: either hyper gives the request
                // back because no byte of it was sent, or no byte of an answer came and sending it again does no harm.
                let unsent = error.take_message();
                let retried = match unsent {
                    Some(unsent) => Some(unsent),
                    None if kept.meter.bytes() == before && flight.fault.get().is_none() => {
                        again.map(|again| again.request(empty(local, &flight)))
                    }
                    None => None,
                };
                match retried {
                    Some(retried) => request = retried,
                    None => return Err(Failure::Target(error.into_error())),
                }
            }
        }
    }
    let mut new = open_http1(local, route).await?;
    let socket = route.may_switch.then(|| new.may_switch());
    route.notice(&mut request);
    new.meter.begin(local.limits().interim_responses);
    match new.sender.try_send_request(request).await {
        Ok(response) => Ok((response, Lease::Http1(route.key, new, socket))),
        Err(error) => Err(Failure::Target(error.into_error())),
    }
}

async fn open_http1(local: &Rc<Local>, route: &Route) -> Result<Http1, Failure> {
    let stream =
        match local.connector.connect(&route.target, Duration::from_millis(route.connect_timeout_ms.into())).await {
            Ok(stream) => stream,
            Err(error) => {
                local.counts().connect_errors.add(1);
                return Err(Failure::Connect(Rc::new(error)));
            }
        };
    let meter = Rc::<Meter>::default();
    let io = TokioIo::new(TargetIo::new(stream, Rc::clone(&meter), local.held()));
    let (sender, mut connection) = http1_builder(local).handshake(io).await.map_err(Failure::Target)?;
    let handover = Handover::default();
    let (given, counts, followed) = (Rc::clone(&handover), Rc::clone(local), Rc::clone(&meter));
    local.tasks.spawn(parties(&route.key), async move {
        // Its requests and bodies are told what went wrong.
        let _ = (&mut connection).await;
        count_hit(&counts, &followed);
        if let Some(wanted) = given.take() {
            let parts = connection.into_parts();
            // Whoever wanted it may be gone: then it is closed.
            let _ = wanted.send((parts.io.into_inner(), parts.read_buf));
        }
    });
    Ok(Http1 { sender, meter, handover })
}

/// What a target's response may look like: what RFC 9112 has a proxy mend is mended (5.1 and 5.2).
fn http1_builder(local: &Local) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(HTTP1_BUFFER)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    let fields = local.limits().headers as usize;
    if fields > HTTP1_FIELDS {
        builder.max_headers(fields);
    }
    builder
}

/// Counts the bound over which a target's connection was ended, if there is one.
fn count_hit(local: &Local, meter: &Meter) {
    if let Some(limit) = meter.hit() {
        local.counts().hit(limit);
    }
}

fn parties(key: &Key) -> Parties {
    let parties = Parties::default();
    parties.set(0, key.alias, key.generation);
    parties
}
