//! A request to a target, over a kept connection or a new one.

mod http1;
mod http2;

use std::{rc::Rc, sync::Arc};

use brattice_wire::snapshot::Target;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::oneshot;

pub(crate) use self::http1::Http1;
use self::http2::Http2;
use super::{
    control::Interim,
    request_body::RequestBody,
    retry_buffer::{RequestCopy, RetryBuffers},
    target_io::{Meter, Socket},
};
use crate::{
    aliases::{CallerId, ClosedAliases},
    local::Local,
    stats::Limit,
    tasks::{Parties, Tasks},
    upstream::{
        connector::{ConnectError, Connector},
        pool::{Http2Pool, Key, Pool},
    },
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
    Http1(Rc<Forwarder>, Key, Http1, Option<oneshot::Receiver<Socket>>),
    /// A stream of a shared one, given back when dropped.
    Http2(#[allow(dead_code, reason = "counts the stream until it is dropped")] http2::Stream),
}

impl Lease {
    /// The answer is complete.
    pub(crate) fn give_back(self) {
        if let Self::Http1(forwarder, key, connection, _) = self
            && forwarder.allows(&key)
        {
            let local = &forwarder.local;
            // Nobody waits for its socket any more.
            connection.handover.take();
            if local.crowded.get() {
                // Whoever needs it next makes it anew.
                local.counts().hit(Limit::Descriptors);
            } else if forwarder.http1.give(key, connection, &local.clock, local.limits().idle_per_target).is_err() {
                local.counts().hit(Limit::IdlePerTarget);
            }
        }
    }

    /// The socket, which comes as soon as hyper has done with it; for a request that could change the protocol.
    pub(crate) fn switch(self) -> Option<oneshot::Receiver<Socket>> {
        match self {
            Self::Http1(.., socket) => socket,
            Self::Http2(_) => None,
        }
    }
}

type Sent = Result<(Response<Incoming>, Lease), Failure>;

/// Sends requests of one worker to targets, over connections that it keeps.
pub(crate) struct Forwarder {
    local: Rc<Local>,
    connector: Connector,
    closed: Rc<ClosedAliases>,
    http1: Pool<Http1>,
    http2: Http2Pool<Http2>,
    /// For requests that may be sent again.
    retry_buffers: RetryBuffers,
    /// Connects, and connections to targets.
    pub(super) tasks: Rc<Tasks>,
}

impl Forwarder {
    pub(crate) fn new(local: &Rc<Local>, tasks: &Rc<Tasks>, closed: &Rc<ClosedAliases>) -> Rc<Self> {
        Rc::new(Self {
            local: Rc::clone(local),
            connector: Connector::new(&local.shared, local.index, tasks, closed),
            closed: Rc::clone(closed),
            http1: Pool::default(),
            http2: Http2Pool::default(),
            retry_buffers: RetryBuffers::default(),
            tasks: Rc::clone(tasks),
        })
    }

    /// Sends a request, whose fields are those for the target, and waits for the head of the answer.
    pub(crate) async fn send(self: &Rc<Self>, route: &Route, request: Request<RequestBody>) -> Sent {
        if route.key.http2 { http2::send(self, route, request).await } else { over_http1(self, route, request).await }
    }

    /// Whether a target has not lost its alias.
    pub(crate) fn allows(&self, key: &Key) -> bool {
        self.closed.allow(key.alias, key.generation)
    }

    /// Closes what is kept for aliases that were closed.
    pub(crate) fn close_aliases(&self) {
        self.retain(|key| self.allows(key), |caller| self.closed.allow_caller(*caller));
    }

    /// Closes idle connections that are not wanted any more, and gives nobody their HTTP/2 connections, nor those of
    /// callers that may not call any more.
    pub(crate) fn retain(&self, wanted: impl Fn(&Key) -> bool, may_call: impl Fn(&CallerId) -> bool) {
        self.http1.retain(&wanted);
        self.http2.retain(&wanted, may_call);
    }

    /// Closes what idled for too long, or is too much.
    pub(crate) fn sweep(&self) {
        let Local { clock, crowded, .. } = &*self.local;
        if crowded.get() {
            self.http1.retain(|_| false);
        }
        let (idled, surplus) = self.http2.sweep(clock, crowded.get());
        let counts = self.local.counts();
        counts.limits_hit[Limit::PoolIdleTimeout as usize].add(self.http1.sweep(clock) + idled);
        counts.limits_hit[Limit::IdlePerTarget as usize].add(surplus);
    }
}

/// A copy of a request that may be sent a second time. One with a body may not: the body is used up.
fn copy<'a>(forwarder: &'a Forwarder, request: &Request<RequestBody>) -> Option<RequestCopy<'a>> {
    let again = idempotent(request.method()) && request.body().is_empty();
    again.then(|| forwarder.retry_buffers.copy(request))
}

/// Methods that a target may see twice (RFC 9110, 9.2.2).
fn idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// At most two attempts: over a kept connection, if there is one, then over a new one.
async fn over_http1(forwarder: &Rc<Forwarder>, route: &Route, mut request: Request<RequestBody>) -> Sent {
    let local = &forwarder.local;
    let mut kept = forwarder.http1.take(&route.key);
    loop {
        let retriable = kept.is_some();
        let mut connection = match kept.take() {
            Some(kept) => kept,
            None => http1::open(forwarder, route).await?,
        };
        let again = if retriable { copy(forwarder, &request) } else { None };
        let flight = request.body().flight();
        let before = connection.meter.bytes();
        let socket = route.may_switch.then(|| connection.may_switch());
        route.notice(&mut request);
        connection.meter.begin(local.limits().interim_responses);
        let mut error = match connection.sender.try_send_request(request).await {
            Ok(response) => {
                return Ok((response, Lease::Http1(Rc::clone(forwarder), route.key, connection, socket)));
            }
            Err(error) => error,
        };
        // The target closed the idle connection while the request was on its way: either hyper gives the request back
        // because no byte of it was sent, or no byte of an answer came and sending it again does no harm.
        let unsent = error.take_message().filter(|_| retriable);
        let silent = connection.meter.bytes() == before && flight.fault.get().is_none();
        let repeated = || {
            let again = again.filter(|_| silent)?;
            Some(again.request(RequestBody::empty(Rc::clone(&flight), Rc::clone(local))))
        };
        request = unsent.or_else(repeated).ok_or_else(|| Failure::Target(error.into_error()))?;
    }
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
