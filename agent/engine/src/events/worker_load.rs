//! The subscriber that says what a worker has open, in its place in the `WORKERS` map: `vip_listener` reads it when it chooses a
//! worker, and so does the agent.

use std::{rc::Rc, sync::atomic::Ordering::Relaxed};

use super::{ConnectionEvent, RequestEvent, Subscriber, connection::ConnectionSpan, request::RequestSpan};
use crate::heartbeat::Slot;

/// Open connections and requests of a worker.
pub(crate) struct WorkerLoad(Slot);

impl WorkerLoad {
    pub(super) fn new(slot: Slot) -> Self {
        Self(slot)
    }
}

impl Subscriber for WorkerLoad {
    #[inline]
    fn on_connection(&self, _connection: &Rc<ConnectionSpan>, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::Opened => {
                self.0.connections().fetch_add(1, Relaxed);
            }
            ConnectionEvent::Closed => {
                self.0.connections().fetch_sub(1, Relaxed);
            }
            _ => {}
        }
    }

    #[inline]
    fn on_request(&self, request: &RequestSpan, event: &RequestEvent<'_>) {
        match event {
            // A tunnel counts as a connection.
            _ if request.is_tunnel() => {}
            RequestEvent::Began => {
                self.0.requests().fetch_add(1, Relaxed);
            }
            RequestEvent::Ended { .. } => {
                self.0.requests().fetch_sub(1, Relaxed);
            }
            _ => {}
        }
    }
}
