//! A connection to an endpoint while a request uses it.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::{Upstream, endpoint::InFlight, http1::Http1, http2::Stream, pool::Key};
use crate::{http::target_io::Socket, limits::Limit};

/// Held until the response is complete.
pub(crate) struct Lease {
    pub(super) key: Key,
    pub(super) connection: Leased,
    pub(super) _request: InFlight,
}

pub(super) enum Leased {
    /// To be kept afterwards, unless its socket comes out because the protocol was changed.
    Http1(Rc<Upstream>, Http1, Option<oneshot::Receiver<Socket>>),
    /// A stream of a shared one, given back when dropped.
    Http2(#[allow(dead_code, reason = "counts the stream until it is dropped")] Stream),
}

impl Lease {
    /// The key of the connection in the pool.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether it is a stream of HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.connection, Leased::Http2(_))
    }

    /// The response is complete.
    pub(crate) fn give_back(self) {
        if let Leased::Http1(upstream, connection, _) = self.connection
            && upstream.allows(&self.key)
        {
            let local = &upstream.local;
            // No request waits for its socket any more.
            connection.handover.take();
            if local.crowded.get() {
                // The next request opens a new connection.
                local.events.limit_reached(Limit::Descriptors, 1);
            } else if upstream.http1.give(self.key, connection, &local.clock, local.limits().idle_per_target).is_err() {
                local.events.limit_reached(Limit::IdlePerTarget, 1);
            }
        }
    }

    /// The socket, which comes as soon as hyper has done with it; for a request that could change the protocol.
    pub(crate) fn switch(self) -> Option<oneshot::Receiver<Socket>> {
        match self.connection {
            Leased::Http1(.., socket) => socket,
            Leased::Http2(_) => None,
        }
    }
}
