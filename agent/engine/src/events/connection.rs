//! A client's connection while it is open: what is known of it, and where its events go.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use brattice_wire::records::{self, FlowProtocol};

use super::{ConnectionEvent, Events, Subscriber, metrics::series::Series, names::Names, route_names::RouteNames};
use crate::aliases::CallerId;

/// The VIP and port that a client called, and its own port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) source_port: u16,
    pub(crate) vip: IpAddr,
    pub(crate) port: u16,
}

/// The facts of a connection while it is open.
#[derive(Debug)]
pub(crate) struct ConnectionSpan {
    pub(super) events: Rc<Events>,
    pub(super) id: u64,
    /// Its place among the open connections.
    pub(super) key: Cell<usize>,
    began: Instant,
    /// When it began, since 1970.
    since: Duration,
    pub(super) caller: CallerId,
    pub(super) called: Called,
    protocol: Cell<FlowProtocol>,
    /// Bytes read from the client.
    received: Cell<u64>,
    /// Bytes written to the client.
    sent: Cell<u64>,
    requests: Cell<u64>,
    open: Cell<u32>,
    pub(super) series: Arc<Series>,
    pub(super) last: RefCell<Last>,
}

/// Of the latest request. The texts are used again.
#[derive(Debug, Default)]
pub(super) struct Last {
    pub(super) request_id: String,
    pub(super) rule: String,
    pub(super) names: Option<Rc<RouteNames>>,
    pub(super) target: Option<SocketAddr>,
    pub(super) target_alias: Option<IpAddr>,
}

/// Puts a text in the place of another, without an allocation where there is room.
pub(super) fn replace(place: &mut String, text: &str) {
    if place != text {
        place.clear();
        place.push_str(text);
    }
}

impl ConnectionSpan {
    /// `began` is a moment, and the same since 1970.
    pub(super) fn new(
        events: Rc<Events>,
        id: u64,
        (began, since): (Instant, Duration),
        caller: CallerId,
        called: Called,
        series: Arc<Series>,
    ) -> Self {
        Self {
            events,
            id,
            key: Cell::default(),
            began,
            since,
            caller,
            called,
            protocol: Cell::new(FlowProtocol::Unknown),
            received: Cell::default(),
            sent: Cell::default(),
            requests: Cell::default(),
            open: Cell::default(),
            series,
            last: RefCell::default(),
        }
    }

    /// Something happened to it.
    #[inline]
    pub(crate) fn emit(self: &Rc<Self>, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Protocol(protocol) => self.protocol.set(protocol),
            ConnectionEvent::Received { bytes } => self.moved(bytes, 0),
            ConnectionEvent::Sent { bytes } => self.moved(0, bytes),
            ConnectionEvent::Opened
            | ConnectionEvent::Malformed
            | ConnectionEvent::LimitReached(_)
            | ConnectionEvent::Closed => {}
        }
        self.events.subscribers.on_connection(self, &event);
    }

    /// More bytes from the client, and to it.
    pub(super) fn moved(&self, received: usize, sent: usize) {
        self.received.set(self.received.get() + received as u64);
        self.sent.set(self.sent.get() + sent as u64);
    }

    /// One of its requests began. A tunnel is none of its requests, and open all the same.
    pub(super) fn request_began(&self, tunnel: bool) {
        self.requests.set(self.requests.get() + u64::from(!tunnel));
        self.open.set(self.open.get() + 1);
    }

    /// One of its requests, or the tunnel, ended.
    pub(super) fn request_ended(&self) {
        self.open.set(self.open.get().saturating_sub(1));
    }

    pub(super) fn upgraded(&self) {
        self.protocol.set(FlowProtocol::Upgraded);
    }

    /// As a row of `brattice flows`. `now` is a moment, names are those of now.
    pub(super) fn row(&self, names: &Names, now: Instant) -> records::Flow {
        let (alias, called) = (self.caller.alias(), self.called);
        let last = self.last.borrow();
        let route = last.names.as_deref();
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let caller = names.caller(alias).filter(|caller| caller.generation == self.caller.generation());
        let vpc = caller.and_then(|caller| names.vpc(caller.vpc));
        let target = last.target_alias.and_then(|alias| names.caller(alias));
        records::Flow {
            id: self.id,
            protocol: self.protocol.get(),
            source: SocketAddr::new(caller.map_or(alias, |caller| caller.address), called.source_port),
            source_vpc: vpc.map(|vpc| vpc.name.to_string()).unwrap_or_default(),
            source_workload: caller.map(|caller| caller.name.to_string()).unwrap_or_default(),
            alias,
            vip: SocketAddr::new(called.vip, called.port),
            service: route.and_then(|route| given(&route.service)),
            listener: route.and_then(|route| given(&route.listener)),
            rule: given(&last.rule),
            target_group: route.and_then(|route| given(&route.group)),
            target: last.target,
            target_vpc: route.and_then(|route| given(&route.target_vpc)),
            target_workload: target.map(|target| target.name.to_string()),
            since_ms: millis(self.since),
            age_ms: millis(now.saturating_duration_since(self.began)),
            bytes_received: self.received.get(),
            bytes_sent: self.sent.get(),
            requests: self.requests.get(),
            requests_open: self.open.get(),
            request_id: given(&last.request_id),
        }
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    // saturates: 2^64 milliseconds are longer than any uptime.
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
