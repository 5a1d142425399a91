//! What happens to connections and requests, declared once, and its subscribers.
//!
//! Code on the path emits events, and does nothing else about them: [`ConnectionSpan::emit`] for a connection,
//! [`RequestSpan::emit`] for a request, [`Events::emit`] for the rest. Each event goes to the subscribers of the worker,
//! in the order of [`Subscribers`]:
//!
//! ```text
//! path ─► event ─► span: what is known of the request so far
//!                  ├─► metrics         counters, for `status` and Prometheus
//!                  ├─► worker_load     what is open, for `vip_listener` and the agent
//!                  ├─► flows           open connections, for `flows`
//!                  ├─► past_requests   the latest requests, for `explain` and `logs`
//!                  └─► access_log      lines, for the log thread and for `logs --follow`
//! ```
//!
//! Subscribers are called directly: no allocation, no lock, no dynamic dispatch. An event without a subscriber is
//! compiled away. Another subscriber (traces) is a file in `events/` with a field in [`Subscribers`].
//!
//! - [`connection`], [`request`]: what is known of a connection and of a request while it lasts.
//! - [`names`]: the texts of a snapshot, escaped once; [`route_names`]: those of one route.
//! - [`json`], [`time`]: how texts and times are written.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use brattice_decide::{Passed, Refusal};
use brattice_wire::index::TargetGroupIndex;
use brattice_wire::records::{FailureReason, FlowProtocol, Query};
use brattice_wire::snapshot::ServiceNumber;
use http::{HeaderMap, Request};

use crate::{aliases::CallerId, heartbeat::Slot, limits::Limit, queries::question::Question, ticker::Ticker};

pub mod access_log;
#[cfg(test)]
mod allocations;
pub(crate) mod connection;
mod flows;
pub(crate) mod json;
pub mod metrics;
pub mod names;
mod past_requests;
#[cfg(test)]
pub(crate) mod recording;
pub(crate) mod request;
mod route_names;
#[cfg(test)]
pub(crate) mod tests;
mod time;
mod worker_load;

use access_log::{AccessLog, output::LogOutput};
use connection::{Called, ConnectionSpan};
use flows::Flows;
use metrics::{Metrics, counters::Counters};
use names::Names;
use past_requests::PastRequests;
#[cfg(test)]
use recording::Recording;
use request::{RequestSpan, Texts};
use route_names::{RouteKey, RouteNames, RouteNamesCache};
use time::WallClock;
use worker_load::WorkerLoad;

/// Buffers for texts of requests that are kept for the next ones.
const KEPT_TEXTS: usize = 1_024;
/// Ids of connections begin so many for each second since 1970, so that they are not given again after a restart.
const IDS_PER_SECOND: u64 = 4_096;
/// Where the worker is in a connection's id; ids stay below 2^53, which every JSON reader can hold.
const WORKER_SHIFT: u32 = 46;

/// Happens on a worker, to no connection or request that has a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerEvent {
    /// A client connected.
    ConnectionAccepted,
    /// Its connection is reset before anything is read.
    ConnectionRefused(RefusedConnection),
    /// A bound was reached, this many times.
    LimitReached { limit: Limit, times: u64 },
    /// A connection to a target failed or took too long.
    ConnectFailed,
    /// A socket towards a target is open ...
    UpstreamOpened,
    /// ... and is closed.
    UpstreamClosed,
    /// A large body is on its way ...
    TransferBegan,
    /// ... and has passed, or has ended early.
    TransferEnded,
    /// This many were ended because policies or documents do not allow them any more.
    Revoked { requests: u64, connections: u64 },
}

/// Why a connection is reset before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedConnection {
    /// Its peer is no known alias.
    UnknownPeer,
    /// Its caller sees no service there.
    UnknownService,
    /// It is served as TCP, and a policy would have to read it.
    PolicyReads,
    /// There is no target to connect it to.
    NoTarget,
    /// A bound is reached.
    Limit(Limit),
}

/// Why a request is not served as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedRequest {
    /// It is malformed or ambiguous.
    Malformed,
    /// Its caller sees no such service.
    UnknownService,
    /// Its workload takes too many requests back.
    TooManyCancelled,
}

/// Happens to a client's connection that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEvent {
    /// The first event.
    Opened,
    /// Its protocol is known.
    Protocol(FlowProtocol),
    /// Bytes were read from the client.
    Received { bytes: usize },
    /// Bytes were written to the client.
    Sent { bytes: usize },
    /// The client's bytes are not HTTP.
    Malformed,
    /// A bound was reached.
    LimitReached(Limit),
    /// The last event.
    Closed,
}

/// Happens to a request, or to a connection that is tunnelled: served as TCP.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestEvent<'a> {
    /// Its head was read, or the tunnel was asked for. The first event.
    Began,
    /// It has this id.
    Identified { id: &'a [u8] },
    /// A bound was reached.
    LimitReached(Limit),
    /// It is not served as it came.
    Refused(RefusedRequest),
    /// The service that it calls, by number.
    ServiceFound { service: ServiceNumber },
    /// Its head in the form that rules and policies see.
    HeadRead { service: ServiceNumber, host: &'a str, path: &'a str, headers: &'a HeaderMap, names: &'a Names },
    /// Policies let it through.
    Allowed(&'a Passed),
    /// Policies refuse it.
    Denied(&'a Refusal),
    /// The rule that matches.
    RuleMatched { id: &'a str },
    /// The target group of the rule's action, by index.
    GroupChosen { group: TargetGroupIndex },
    /// The next target of the group.
    TargetChosen { address: SocketAddr, alias: IpAddr },
    /// It is known who answers it; the names are those of the snapshot that said so.
    Decided { names: &'a Names },
    /// An attempt at the target that was chosen last begins: maybe a connection, then the request.
    AttemptBegan,
    /// The attempt brought no response.
    AttemptFailed,
    /// The whole request was handed on.
    RequestSent,
    /// The target had none of it, although it was handed on.
    RequestNotSent,
    /// The target's response begins.
    ResponseReceived,
    /// Why it is not served; the first reason counts.
    Failed(FailureReason),
    /// More bytes of its body.
    BodyReceived { bytes: usize },
    /// The head of the response, as the client gets it.
    ResponseStarted { status: u16, headers: &'a HeaderMap },
    /// More bytes of the response's body.
    BodySent { bytes: usize },
    /// The response's trailer section.
    Trailers(&'a HeaderMap),
    /// The connection speaks another protocol from now on, and may last.
    Upgraded,
    /// Client and target of a tunnel are connected.
    TunnelOpened,
    /// Bytes of another protocol, or of a tunnel, from the client.
    TunnelReceived { bytes: usize },
    /// The same, to the client.
    TunnelSent { bytes: usize },
    /// It was let through, and is not any more: a policy's refusal, or else the id of the reason.
    Revoked { refusal: Option<&'a Refusal>, why: &'a str },
    /// The last event. `complete`: the client has the whole response.
    Ended { at: Instant, complete: bool },
}

/// Happens to DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DnsEvent {
    /// A client that is no known alias.
    UnknownPeer,
    /// A question was answered here.
    Answered,
    /// A question goes to the VPC's resolvers.
    Forwarded,
    /// A question, or a connection for questions, is refused.
    Refused,
    /// A bound was reached.
    LimitReached(Limit),
}

/// Receives events. Events that a subscriber does not handle cost nothing.
pub(crate) trait Subscriber {
    /// On a worker.
    #[inline]
    fn on_worker(&self, _event: &WorkerEvent) {}

    /// To a connection.
    #[inline]
    fn on_connection(&self, _connection: &Rc<ConnectionSpan>, _event: &ConnectionEvent) {}

    /// To a request; its span knows of the event already.
    #[inline]
    fn on_request(&self, _request: &RequestSpan, _event: &RequestEvent<'_>) {}

    /// To DNS.
    #[inline]
    fn on_dns(&self, _event: &DnsEvent) {}
}

/// The subscribers of a worker, in the order in which they are called.
struct Subscribers {
    metrics: Metrics,
    worker_load: WorkerLoad,
    flows: Flows,
    past_requests: Rc<PastRequests>,
    /// Hands on the lines that `past_requests` has written.
    access_log: AccessLog,
    /// For tests.
    #[cfg(test)]
    recording: Recording,
}

impl Subscriber for Subscribers {
    #[inline]
    fn on_worker(&self, event: &WorkerEvent) {
        self.metrics.on_worker(event);
        #[cfg(test)]
        self.recording.on_worker(event);
    }

    #[inline]
    fn on_connection(&self, connection: &Rc<ConnectionSpan>, event: &ConnectionEvent) {
        self.metrics.on_connection(connection, event);
        self.worker_load.on_connection(connection, event);
        self.flows.on_connection(connection, event);
        #[cfg(test)]
        self.recording.on_connection(connection, event);
    }

    #[inline]
    fn on_request(&self, request: &RequestSpan, event: &RequestEvent<'_>) {
        self.metrics.on_request(request, event);
        self.worker_load.on_request(request, event);
        self.flows.on_request(request, event);
        self.past_requests.on_request(request, event);
        self.access_log.on_request(request, event);
        #[cfg(test)]
        self.recording.on_request(request, event);
    }
}

/// The state that the subscribers of all workers share.
#[derive(Clone, Debug)]
pub(crate) struct Sinks {
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Arc<LogOutput>,
    #[cfg(test)]
    pub(crate) recorded: Arc<recording::Recorded>,
}

/// A worker's events: the subscribers, and what spans are made of. Only its thread touches them, and in a steady state they
/// allocate nothing.
pub(crate) struct Events {
    subscribers: Subscribers,
    counters: Arc<Counters>,
    route_names: RefCell<RouteNamesCache>,
    texts: RefCell<Vec<Rc<RefCell<Texts>>>>,
    next_connection: Cell<u64>,
    clock: WallClock,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Of a worker. `slot`: its place in the `WORKERS` map.
    pub(crate) fn new(sinks: &Sinks, slot: Slot, worker: u32) -> Rc<Self> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let first =
            u64::from(worker) << WORKER_SHIFT | seconds.wrapping_mul(IDS_PER_SECOND) & ((1 << WORKER_SHIFT) - 1);
        let past_requests = Rc::<PastRequests>::default();
        let subscribers = Subscribers {
            metrics: Metrics::of_worker(&sinks.counters, worker),
            worker_load: WorkerLoad::new(slot),
            flows: Flows::default(),
            access_log: AccessLog::new(&sinks.log, &past_requests, worker),
            past_requests,
            #[cfg(test)]
            recording: Recording(Arc::clone(&sinks.recorded)),
        };
        Rc::new(Self {
            subscribers,
            counters: Arc::clone(&sinks.counters),
            route_names: RefCell::default(),
            texts: RefCell::default(),
            next_connection: Cell::new(first),
            clock: WallClock::default(),
        })
    }

    /// Hands lines of the access log on in time, forever. `ticker`: of [`access_log::output::CHUNK_TIME`].
    pub(crate) async fn run(self: Rc<Self>, ticker: Ticker) {
        loop {
            ticker.tick().await;
            self.flush();
        }
    }

    /// Hands on the lines that there are.
    pub(crate) fn flush(&self) {
        self.subscribers.access_log.flush();
    }

    /// Something happened on the worker.
    #[inline]
    pub(crate) fn emit(&self, event: WorkerEvent) {
        self.subscribers.on_worker(&event);
    }

    /// A bound was reached, this many times.
    pub(crate) fn limit_reached(&self, limit: Limit, times: u64) {
        if times > 0 {
            self.emit(WorkerEvent::LimitReached { limit, times });
        }
    }

    /// A client's connection was let in. `service` and `group` that it is connected to, as far as they are known: number and
    /// index.
    pub(crate) fn open_connection(
        self: &Rc<Self>,
        names: &Names,
        caller: CallerId,
        called: Called,
        (service, group): (Option<ServiceNumber>, Option<TargetGroupIndex>),
    ) -> Rc<ConnectionSpan> {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        let (alias, generation) = (caller.alias(), caller.generation());
        let key = RouteKey { alias, generation, port: called.port, service, group, network: None };
        let series = Arc::clone(&self.route_names(names, key).series);
        let began = Instant::now();
        let since = self.clock.at(began);
        let connection = Rc::new(ConnectionSpan::new(Rc::clone(self), id, (began, since), caller, called, series));
        connection.emit(ConnectionEvent::Opened);
        connection
    }

    /// A request begins on a connection.
    pub(crate) fn begin_request<B>(&self, connection: &Rc<ConnectionSpan>, request: &Request<B>) -> RequestSpan {
        let span = RequestSpan::new(Rc::clone(connection), self.texts(), request, Instant::now());
        span.emit(RequestEvent::Began);
        span
    }

    /// A connection is served as TCP.
    pub(crate) fn begin_tunnel(&self, connection: &Rc<ConnectionSpan>) -> RequestSpan {
        let span = RequestSpan::tunnel(Rc::clone(connection), self.texts(), Instant::now());
        span.emit(RequestEvent::Began);
        connection.emit(ConnectionEvent::Protocol(FlowProtocol::Relayed));
        span
    }

    /// Answers a question from outside.
    pub(crate) fn answer(&self, names: &Names, question: &Question) {
        let Subscribers { flows, past_requests, access_log, .. } = &self.subscribers;
        match &question.query {
            Query::Flows => flows.answer(names, question),
            Query::Follow { backlog_lines } => {
                // Lines before this moment are the backlog, those after it are followed.
                access_log.flush();
                let next = past_requests.backlog(*backlog_lines, question);
                question.follows_from(access_log.worker(), next);
            }
            Query::Recall { request_id } => {
                if let Some(past) = past_requests.recall(request_id.as_bytes()) {
                    question.row(&past);
                }
            }
            Query::RecallFlow { flow } => {
                if let Some(past) = past_requests.recall_of_connection(*flow) {
                    question.row(&past);
                }
            }
        }
    }

    /// A new snapshot is in force.
    pub(crate) fn applied(&self, names: &Names) {
        self.route_names.borrow_mut().applied(names);
    }

    /// The names of a route.
    fn route_names(&self, names: &Names, key: RouteKey) -> Rc<RouteNames> {
        self.route_names.borrow_mut().get(names, key, &self.counters.series)
    }

    /// Buffers of a request that has ended, or new ones.
    fn texts(&self) -> Rc<RefCell<Texts>> {
        self.texts.borrow_mut().pop().filter(|texts| Rc::strong_count(texts) == 1).unwrap_or_default()
    }

    /// A request has ended, and needs its buffers no more.
    fn keep_texts(&self, texts: &Rc<RefCell<Texts>>) {
        let mut kept = self.texts.borrow_mut();
        if kept.len() < KEPT_TEXTS && texts.borrow_mut().clear() {
            kept.push(Rc::clone(texts));
        }
    }
}
