//! A connection to an endpoint while a request uses it.

use std::rc::Rc;

use super::{
    Upstream,
    endpoint::InFlight,
    http1::{Http1, TargetSocket},
    http2::Stream,
    pool::Key,
};
use crate::limits::Limit;

/// Held until the response is complete.
pub(crate) struct Lease {
    key: Key,
    connection: Leased,
    _request: InFlight,
}

enum Leased {
    /// To be kept afterwards; closed where the response is not complete.
    Http1(Rc<Upstream>, Rc<Http1>),
    /// A stream of a shared one, given back when dropped.
    Http2(#[allow(dead_code, reason = "counts the stream until it is dropped")] Stream),
    /// It was given back.
    Returned,
}

impl Lease {
    /// Of a connection for one request at a time.
    pub(super) fn http1(upstream: &Rc<Upstream>, key: Key, connection: &Rc<Http1>, request: InFlight) -> Self {
        let connection = Leased::Http1(Rc::clone(upstream), Rc::clone(connection));
        Self { key, connection, _request: request }
    }

    /// Of a stream.
    pub(super) fn http2(key: Key, stream: Stream, request: InFlight) -> Self {
        Self { key, connection: Leased::Http2(stream), _request: request }
    }

    /// The key of the connection in the pool.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether it is a stream of HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.connection, Leased::Http2(_))
    }

    /// The response is complete.
    pub(crate) fn give_back(mut self) {
        let Leased::Http1(upstream, connection) = std::mem::replace(&mut self.connection, Leased::Returned) else {
            return;
        };
        if !connection.rest(&upstream.spare_buffers) || !upstream.allows(&self.key) {
            return connection.close();
        }
        let local = &upstream.local;
        if local.crowded.get() {
            // The next request opens a new connection.
            local.events.limit_reached(Limit::Descriptors, 1);
        } else if upstream.http1.give(self.key, connection, &local.clock, local.limits().idle_per_target).is_err() {
            local.events.limit_reached(Limit::IdlePerTarget, 1);
        }
    }

    /// The socket, for another protocol. `None`: it was closed meanwhile.
    pub(crate) fn switch(self) -> Option<TargetSocket> {
        match &self.connection {
            Leased::Http1(_, connection) => connection.switch(),
            Leased::Http2(_) | Leased::Returned => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Leased::Http1(_, connection) = &self.connection {
            connection.close();
        }
    }
}
