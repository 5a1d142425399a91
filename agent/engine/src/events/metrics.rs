//! The subscriber that counts. Nothing else can change a counter: what does is private to this module.
//!
//! - [`counters`]: what is counted for the whole engine, for `status` and for Prometheus.
//! - [`series`]: what is counted per service, listener, target group and caller's VPC.
//!
//! `crate::metrics` serves both.

use std::{rc::Rc, sync::Arc, time::Instant};

use super::{
    ConnectionEvent, DnsEvent, RefusedConnection, RefusedRequest, RequestEvent, Subscriber, WorkerEvent,
    connection::ConnectionSpan, request::RequestSpan,
};

pub mod count;
pub mod counters;
pub mod series;

use counters::{Counters, Counts};

/// Counts what happens on one thread.
#[derive(Debug)]
pub(crate) struct Metrics {
    counters: Arc<Counters>,
    /// The thread's block; a worker's is its row in series, too.
    block: u32,
}

impl Metrics {
    /// Of a worker.
    pub(crate) fn of_worker(counters: &Arc<Counters>, worker: u32) -> Self {
        Self { counters: Arc::clone(counters), block: worker }
    }

    /// Of the DNS thread.
    pub(crate) fn of_dns(counters: &Arc<Counters>) -> Self {
        Self { counters: Arc::clone(counters), block: counters.workers() }
    }

    fn counts(&self) -> &Counts {
        self.counters.block(self.block)
    }

    fn ended(&self, request: &RequestSpan, at: Instant) {
        let counts = self.counts();
        if !request.is_tunnel() {
            counts.requests_open.sub(1);
        }
        if let Some(reason) = request.failure() {
            counts.failures[reason as usize].add(1);
        }
        if let Some(names) = &*request.names() {
            let row = names.series.row(self.block);
            row.moved(request.bytes_received(), request.bytes_sent());
            if !request.is_tunnel() {
                row.ended(request.decided_status(), request.duration(at));
                if let Some(level) = request.denied_by() {
                    row.denied[level as usize].add(1);
                }
            }
        }
    }
}

impl Subscriber for Metrics {
    #[inline]
    fn on_worker(&self, event: &WorkerEvent) {
        let counts = self.counts();
        match event {
            WorkerEvent::ConnectionAccepted => counts.connections_accepted.add(1),
            WorkerEvent::ConnectionRefused(reason) => match reason {
                RefusedConnection::UnknownPeer => counts.unknown_peers.add(1),
                RefusedConnection::UnknownService => counts.unknown_service.add(1),
                RefusedConnection::PolicyReads => counts.unrelayed.add(1),
                RefusedConnection::NoTarget => counts.connect_errors.add(1),
                RefusedConnection::Limit(limit) => counts.reached(*limit, 1),
            },
            WorkerEvent::LimitReached { limit, times } => counts.reached(*limit, *times),
            WorkerEvent::ConnectFailed => counts.connect_errors.add(1),
            WorkerEvent::UpstreamOpened => counts.targets_open.add(1),
            WorkerEvent::UpstreamClosed => counts.targets_open.sub(1),
            WorkerEvent::TransferBegan => counts.transfers_open.add(1),
            WorkerEvent::TransferEnded => counts.transfers_open.sub(1),
            WorkerEvent::Revoked { requests, connections } => {
                counts.revoked[0].add(*requests);
                counts.revoked[1].add(*connections);
            }
        }
    }

    #[inline]
    fn on_connection(&self, connection: &Rc<ConnectionSpan>, event: &ConnectionEvent) {
        let counts = self.counts();
        match event {
            ConnectionEvent::Opened => {
                counts.connections_open.add(1);
                connection.series.row(self.block).opened();
            }
            ConnectionEvent::Closed => {
                counts.connections_open.sub(1);
                connection.series.row(self.block).closed();
            }
            ConnectionEvent::Malformed => counts.refused_requests.add(1),
            ConnectionEvent::LimitReached(limit) => counts.reached(*limit, 1),
            ConnectionEvent::Protocol(_) | ConnectionEvent::Received { .. } | ConnectionEvent::Sent { .. } => {}
        }
    }

    #[inline]
    fn on_request(&self, request: &RequestSpan, event: &RequestEvent<'_>) {
        let counts = self.counts();
        match event {
            RequestEvent::Began if request.is_tunnel() => counts.connections_relayed.add(1),
            RequestEvent::Began => {
                counts.requests.add(1);
                counts.requests_open.add(1);
            }
            RequestEvent::LimitReached(limit) => counts.reached(*limit, 1),
            RequestEvent::Refused(RefusedRequest::Malformed | RefusedRequest::TooManyCancelled) => {
                counts.refused_requests.add(1);
            }
            RequestEvent::Refused(RefusedRequest::UnknownService) => counts.unknown_service.add(1),
            RequestEvent::Denied(refusal) => counts.denied[refusal.level as usize].add(1),
            RequestEvent::ResponseStarted { .. } => counts.answered(request.decided_status()),
            RequestEvent::Ended { at, .. } => self.ended(request, *at),
            _ => {}
        }
    }

    #[inline]
    fn on_dns(&self, event: &DnsEvent) {
        let counts = self.counts();
        match event {
            DnsEvent::UnknownPeer => counts.unknown_peers.add(1),
            DnsEvent::Answered => counts.dns[0].add(1),
            DnsEvent::Forwarded => counts.dns[1].add(1),
            DnsEvent::Refused => counts.dns[2].add(1),
            DnsEvent::LimitReached(limit) => counts.reached(*limit, 1),
        }
    }
}
