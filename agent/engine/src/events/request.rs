//! A request from its head to the last byte of its response, or a tunnel: what is known of it, and where its events go.

use std::{
    cell::{Cell, Ref, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use brattice_decide::Refusal;
use brattice_iam::Level;
use brattice_wire::index::{NetworkIndex, TargetGroupIndex};
use brattice_wire::records::{DeniedBy, FailureReason};
use brattice_wire::snapshot::ServiceNumber;
use http::{HeaderMap, Request};

use super::{
    Events, RequestEvent, Subscriber,
    connection::{ConnectionSpan, replace},
    names::Names,
    route_names::{RouteKey, RouteNames},
};

mod texts;

pub(super) use texts::Texts;

/// `␠␠HTTP/1.1␍␊` around method and target, and the empty line.
const REQUEST_LINE: usize = 14;
/// `HTTP/1.1␠200␠␍␊`, and the empty line.
const STATUS_LINE: usize = 17;

/// The facts of a request.
#[derive(Debug)]
pub(crate) struct RequestSpan {
    pub(crate) connection: Rc<ConnectionSpan>,
    pub(super) began: Instant,
    http2: bool,
    tunnel: bool,
    /// Of the response; 0: none.
    status: Cell<u16>,
    /// `grpc-status` of the response.
    grpc: Cell<Option<u32>>,
    failure: Cell<Option<FailureReason>>,
    /// Bytes from the client.
    received: Cell<u64>,
    /// Bytes to the client.
    sent: Cell<u64>,
    request_sent: Cell<Option<Instant>>,
    response_received: Cell<Option<Instant>>,
    route: Cell<Route>,
    /// Its route in the documents' words.
    names: RefCell<Option<Rc<RouteNames>>>,
    texts: Rc<RefCell<Texts>>,
}

/// Where a request goes, as far as that is known; indices and numbers of one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// Number of the service.
    service: Option<ServiceNumber>,
    /// Index of the target group.
    group: Option<TargetGroupIndex>,
    /// Index of the service network.
    network: Option<NetworkIndex>,
    /// Real address and port of the target, its alias.
    pub(super) target: Option<(SocketAddr, IpAddr)>,
    /// Which policy denied it.
    denied: Option<DeniedBy>,
}

/// Fields as HTTP/1.1 writes them, in both versions: HPACK's size depends on what was sent before.
fn fields_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// Bytes of a request's head.
fn head_size<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    request.method().as_str().len() + target + REQUEST_LINE + fields_size(request.headers())
}

impl RequestSpan {
    /// A request as it came.
    pub(super) fn new<B>(
        connection: Rc<ConnectionSpan>,
        texts: Rc<RefCell<Texts>>,
        request: &Request<B>,
        began: Instant,
    ) -> Self {
        texts.borrow_mut().set_request(request);
        let http2 = request.version() == http::Version::HTTP_2;
        let received = Cell::new(head_size(request) as u64);
        Self { http2, received, ..Self::empty(connection, texts, began) }
    }

    /// A connection that is served as TCP.
    pub(super) fn tunnel(connection: Rc<ConnectionSpan>, texts: Rc<RefCell<Texts>>, began: Instant) -> Self {
        Self { tunnel: true, ..Self::empty(connection, texts, began) }
    }

    /// Nothing is known.
    fn empty(connection: Rc<ConnectionSpan>, texts: Rc<RefCell<Texts>>, began: Instant) -> Self {
        Self {
            connection,
            began,
            http2: false,
            tunnel: false,
            status: Cell::default(),
            grpc: Cell::default(),
            failure: Cell::default(),
            received: Cell::default(),
            sent: Cell::default(),
            request_sent: Cell::default(),
            response_received: Cell::default(),
            route: Cell::default(),
            names: RefCell::default(),
            texts,
        }
    }

    /// Something happened to it.
    #[inline]
    pub(crate) fn emit(&self, event: RequestEvent<'_>) {
        self.note(&event);
        self.connection.events.subscribers.on_request(self, &event);
    }

    /// It has ended. `complete`: the client has the whole response.
    pub(crate) fn end(&self, complete: bool) {
        self.emit(RequestEvent::Ended { at: Instant::now(), complete });
        self.connection.events.keep_texts(&self.texts);
    }

    /// Why it is not served, where nothing more precise is known: by the status of our response.
    pub(crate) fn fail_by_status(&self, status: u16) {
        if self.failure.get().is_some() {
            return;
        }
        let reason = match status {
            400 | 413 | 414 | 431 | 501 => FailureReason::ClientProtocolError,
            408 => FailureReason::ConnectionDurationExceeded,
            502 => FailureReason::TargetProtocolError,
            503 => FailureReason::TargetConnectionError,
            504 => FailureReason::TargetDataTimeout,
            500.. => FailureReason::InternalError,
            _ => return,
        };
        self.emit(RequestEvent::Failed(reason));
    }

    // ---- what is known

    /// Where its events go.
    pub(crate) fn events(&self) -> &Rc<Events> {
        &self.connection.events
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    /// Served as TCP.
    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    /// Why it is not served.
    pub(crate) fn failure(&self) -> Option<FailureReason> {
        self.failure.get()
    }

    /// Of the response, as the client gets it; 0: none.
    pub(super) fn status(&self) -> u16 {
        self.status.get()
    }

    /// The same; 403 for all that policies refuse, as gRPC has that in a response with status 200.
    pub(super) fn decided_status(&self) -> u16 {
        let status = self.status.get();
        if self.denied_by().is_some() && status != 0 { 403 } else { status }
    }

    pub(super) fn grpc_status(&self) -> Option<u32> {
        self.grpc.get()
    }

    /// Which policy denied it.
    pub(super) fn denied_by(&self) -> Option<DeniedBy> {
        self.route.get().denied
    }

    pub(super) fn bytes_received(&self) -> u64 {
        self.received.get()
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.sent.get()
    }

    pub(super) fn request_sent(&self) -> Option<Instant> {
        self.request_sent.get()
    }

    pub(super) fn response_received(&self) -> Option<Instant> {
        self.response_received.get()
    }

    pub(super) fn route(&self) -> Route {
        self.route.get()
    }

    pub(super) fn names(&self) -> Ref<'_, Option<Rc<RouteNames>>> {
        self.names.borrow()
    }

    pub(super) fn texts(&self) -> Ref<'_, Texts> {
        self.texts.borrow()
    }

    /// Duration until `end`.
    pub(super) fn duration(&self, end: Instant) -> Duration {
        end.saturating_duration_since(self.began)
    }

    /// Has the connection's row show it as the latest request.
    pub(super) fn show_in_connection(&self) {
        let last = &mut *self.connection.last.borrow_mut();
        let (texts, target) = (self.texts.borrow(), self.route.get().target);
        replace(&mut last.request_id, texts.request_id());
        replace(&mut last.rule, texts.rule());
        (last.target, last.target_alias) = (target.map(|(address, _)| address), target.map(|(_, alias)| alias));
        last.names.clone_from(&self.names.borrow());
    }

    // ---- what events add to it

    #[inline]
    fn note(&self, event: &RequestEvent<'_>) {
        match *event {
            RequestEvent::Began => self.connection.request_began(self.tunnel),
            RequestEvent::Identified { id } => self.texts.borrow_mut().set_request_id(id),
            RequestEvent::ServiceFound { service } => self.routed(|route| route.service = Some(service)),
            RequestEvent::HeadRead { service, host, path, headers, names } => {
                let listener = names.service(service).and_then(|found| found.listener(self.connection.called.port));
                self.texts.borrow_mut().set_head(host, path, headers, listener);
            }
            RequestEvent::Allowed(passed) => {
                self.routed(|route| route.network = passed.network);
                if let Some(audited) = &passed.audited {
                    self.texts.borrow_mut().set_decision(audited);
                }
            }
            RequestEvent::Denied(refusal) => self.set_denied(refusal),
            RequestEvent::RuleMatched { id } => self.texts.borrow_mut().set_rule(id),
            RequestEvent::GroupChosen { group } => self.routed(|route| route.group = Some(group)),
            RequestEvent::TargetChosen { address, alias } => self.routed(|route| route.target = Some((address, alias))),
            RequestEvent::Decided { names } => self.decided(names),
            RequestEvent::RequestSent => self.request_sent.set(Some(Instant::now())),
            RequestEvent::RequestNotSent => self.request_sent.set(None),
            RequestEvent::ResponseReceived => self.response_received.set(Some(Instant::now())),
            RequestEvent::Failed(reason) => self.set_failure(reason),
            RequestEvent::BodyReceived { bytes } => self.moved(bytes, 0),
            RequestEvent::BodySent { bytes } => self.moved(0, bytes),
            RequestEvent::ResponseStarted { status, headers } => {
                self.status.set(status);
                self.moved(0, STATUS_LINE + fields_size(headers));
                self.note_trailers(headers);
            }
            RequestEvent::Trailers(trailers) => self.note_trailers(trailers),
            RequestEvent::Upgraded => self.connection.upgraded(),
            RequestEvent::LimitReached(_)
            | RequestEvent::Refused(_)
            | RequestEvent::AttemptBegan
            | RequestEvent::AttemptFailed
            | RequestEvent::TunnelOpened => {}
            RequestEvent::TunnelReceived { bytes } => {
                self.moved(bytes, 0);
                self.connection.moved(bytes, 0);
            }
            RequestEvent::TunnelSent { bytes } => {
                self.moved(0, bytes);
                self.connection.moved(0, bytes);
            }
            RequestEvent::Revoked { refusal: Some(refusal), .. } => self.set_denied(refusal),
            RequestEvent::Revoked { refusal: None, why } => {
                self.set_failure(FailureReason::ClientAccessDenied);
                // What failed for another reason before was not ended by this.
                if self.failure.get() == Some(FailureReason::ClientAccessDenied) {
                    self.texts.borrow_mut().set_decision(why);
                }
            }
            RequestEvent::Ended { complete, .. } => {
                self.connection.request_ended();
                if !complete {
                    self.set_failure(FailureReason::ClientConnectionClosed);
                }
            }
        }
    }

    fn routed(&self, change: impl FnOnce(&mut Route)) {
        let mut route = self.route.get();
        change(&mut route);
        self.route.set(route);
    }

    /// Its route has names, of the snapshot that it was decided by.
    fn decided(&self, names: &Names) {
        let (connection, route) = (&self.connection, self.route.get());
        let key = RouteKey {
            alias: connection.caller.alias(),
            generation: connection.caller.generation(),
            port: connection.called.port,
            service: route.service,
            group: route.group,
            network: route.network,
        };
        // Most requests of a connection go where the one before went.
        let last = connection.last.borrow();
        let same = last.names.as_ref().filter(|last| last.key == key && last.revision == names.revision);
        let found = same.map_or_else(|| connection.events.route_names(names, key), Rc::clone);
        *self.names.borrow_mut() = Some(found);
    }

    fn set_denied(&self, refusal: &Refusal) {
        let by = match refusal.level {
            Level::Identity => DeniedBy::Identity,
            Level::Network => DeniedBy::Network,
            Level::Service => DeniedBy::Service,
        };
        self.routed(|route| route.denied = Some(by));
        self.texts.borrow_mut().set_decision(&refusal.decision);
        self.set_failure(FailureReason::ClientAccessDenied);
    }

    fn set_failure(&self, reason: FailureReason) {
        if self.failure.get().is_none() {
            self.failure.set(Some(reason));
        }
    }

    fn moved(&self, received: usize, sent: usize) {
        self.received.set(self.received.get() + received as u64);
        self.sent.set(self.sent.get() + sent as u64);
    }

    /// Fields that may have `grpc-status`.
    fn note_trailers(&self, headers: &HeaderMap) {
        if let Some(value) = headers.get("grpc-status") {
            self.grpc.set(value.to_str().ok().and_then(|text| text.parse().ok()));
        }
    }
}
