//! Connections and requests to targets: load balancing, connecting, connection pools, retries.
//!
//! - [`balance`]: whose turn it is; [`endpoint`]: what is known of a target, over revisions.
//! - [`attempt`]: a request at one endpoint after the other; [`retry`]: whether there is another attempt; [`retry_buffer`]:
//!   what is sent again.
//! - [`http1`], [`http2`]: one attempt. [`lease`]: a connection while a request uses it.
//! - [`pool`]: kept connections. [`connector`]: new ones; [`dial`]: sockets with an engine source.
//! - [`target_body`], [`target_error`]: a response of either version of HTTP.
//! - [`failing`]: targets that cannot be connected to.

use std::rc::Rc;

use self::{
    connector::Connector,
    http1::{Http1, SpareBuffers, exchange::SpareHeads},
    http2::Http2,
    pool::{Http2Pool, Key, Pool},
    retry_buffer::RetryBuffers,
};
use crate::{
    aliases::{CallerId, ClosedAliases},
    limits::Limit,
    local::Local,
    tasks::Tasks,
};

pub(crate) mod attempt;
pub(crate) mod balance;
pub(crate) mod connector;
pub mod dial;
pub(crate) mod endpoint;
pub mod failing;
pub(crate) mod http1;
mod http2;
pub(crate) mod lease;
pub(crate) mod pool;
mod retry;
pub(crate) mod retry_buffer;
pub(crate) mod target_body;
pub(crate) mod target_error;

/// The state that the requests of one worker share on their way to targets: connections, kept or new, and retry buffers.
pub(crate) struct Upstream {
    local: Rc<Local>,
    connector: Connector,
    closed: Rc<ClosedAliases>,
    http1: Pool<Rc<Http1>>,
    http2: Http2Pool<Http2>,
    retry_buffers: RetryBuffers,
    spare_buffers: SpareBuffers,
    spare_heads: SpareHeads,
    /// Connects, and connections to targets.
    pub(crate) tasks: Rc<Tasks>,
}

impl Upstream {
    pub(crate) fn new(local: &Rc<Local>, tasks: &Rc<Tasks>, closed: &Rc<ClosedAliases>) -> Rc<Self> {
        Rc::new(Self {
            local: Rc::clone(local),
            connector: Connector::new(&local.shared, local.index, tasks, closed),
            closed: Rc::clone(closed),
            http1: Pool::default(),
            http2: Http2Pool::default(),
            retry_buffers: RetryBuffers::default(),
            spare_buffers: SpareBuffers::default(),
            spare_heads: SpareHeads::default(),
            tasks: Rc::clone(tasks),
        })
    }

    /// Whether a target has not lost its alias.
    pub(crate) fn allows(&self, key: &Key) -> bool {
        self.closed.allow(key.alias, key.generation)
    }

    /// Closes what is kept for aliases that were closed.
    pub(crate) fn close_aliases(&self) {
        self.retain(|key| self.allows(key), |caller| self.closed.allow_caller(*caller));
    }

    /// Closes idle connections that are not wanted any more, and does not use their HTTP/2 connections any more, nor
    /// those of callers that may not call any more.
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
        let events = &self.local.events;
        events.limit_reached(Limit::PoolIdleTimeout, self.http1.sweep(clock) + idled);
        events.limit_reached(Limit::IdlePerTarget, surplus);
    }
}
