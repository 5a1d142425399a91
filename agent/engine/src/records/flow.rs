//! A live connection.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use brattice_wire::records::{self, FlowProtocol};

use super::{names::Names, place::Named};
use crate::metrics::series::Series;

/// What is known of a connection while it lasts.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) id: u64,
    pub(super) key: Cell<usize>,
    pub(super) began: Instant,
    /// Since 1970.
    pub(super) since: Duration,
    pub(crate) alias: IpAddr,
    pub(crate) generation: u32,
    pub(crate) source_port: u16,
    pub(crate) vip: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: Cell<FlowProtocol>,
    /// Bytes read from the caller.
    pub(crate) received: Cell<u64>,
    /// Bytes written to the caller.
    pub(crate) sent: Cell<u64>,
    pub(super) requests: Cell<u64>,
    pub(super) open: Cell<u32>,
    pub(super) series: Arc<Series>,
    pub(super) last: RefCell<Last>,
}

/// Of the latest request. The texts are used again.
#[derive(Debug, Default)]
pub(super) struct Last {
    pub(super) request_id: String,
    pub(super) rule: String,
    pub(super) named: Option<Rc<Named>>,
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

impl Flow {
    /// More bytes from the caller.
    pub(crate) fn read(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
    }

    /// More bytes to the caller.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    /// As a row of `brattice flows`. `now` is a moment, names are those of now.
    pub(super) fn row(&self, names: &Names, now: Instant) -> records::Flow {
        let last = self.last.borrow();
        let named = last.named.as_deref();
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let caller = names.caller(self.alias).filter(|caller| caller.generation == self.generation);
        let vpc = caller.and_then(|caller| names.vpc(caller.vpc));
        let target = last.target_alias.and_then(|alias| names.caller(alias));
        records::Flow {
            id: self.id,
            protocol: self.protocol.get(),
            source: SocketAddr::new(caller.map_or(self.alias, |caller| caller.address), self.source_port),
            source_vpc: vpc.map(|vpc| vpc.name.to_string()).unwrap_or_default(),
            source_workload: caller.map(|caller| caller.name.to_string()).unwrap_or_default(),
            alias: self.alias,
            vip: SocketAddr::new(self.vip, self.port),
            service: named.and_then(|named| given(&named.service)),
            listener: named.and_then(|named| given(&named.listener)),
            rule: given(&last.rule),
            target_group: named.and_then(|named| given(&named.group)),
            target: last.target,
            target_vpc: named.and_then(|named| given(&named.target_vpc)),
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
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
