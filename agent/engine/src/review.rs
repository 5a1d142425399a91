//! What was let through, looked at again when a state comes in force: what would be refused now is ended.
//!
//! A request that is decided about after the state was published has seen it; every other one is in the worker's table
//! by then, with a copy of what policies may ask about it. The tables are gone through in slices, so that ten thousand
//! connections do not keep the worker from those that are served meanwhile.

use std::{cell::Cell, rc::Rc};

use crate::{
    auth::{self, Facts, Revoked},
    downstream::tcp::TcpProxy,
    events::WorkerEvent,
    http::Server,
    state::State,
};

/// Requests, or connections, that are looked at in one turn.
const SLICE: usize = 256;
/// Closed connections that a review logs one by one.
const MOST_TOLD: usize = 16;

/// The reviews of a worker.
pub(crate) struct Reviews {
    server: Rc<Server>,
    tcp: Rc<TcpProxy>,
    running: Cell<bool>,
    again: Cell<bool>,
}

impl Reviews {
    pub(crate) fn new(server: &Rc<Server>, tcp: &Rc<TcpProxy>) -> Rc<Self> {
        let (running, again) = (Cell::default(), Cell::default());
        Rc::new(Self { server: Rc::clone(server), tcp: Rc::clone(tcp), running, again })
    }

    /// Looks at everything again, in a task of its own.
    pub(crate) fn begin(self: &Rc<Self>) {
        self.again.set(true);
        if self.running.replace(true) {
            return;
        }
        let reviews = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while reviews.again.replace(false) {
                reviews.review().await;
            }
            reviews.running.set(false);
        });
    }

    async fn review(&self) {
        let requests = self.requests().await;
        let connections = self.clients().await + self.tcp().await;
        if requests + connections > 0 {
            self.server.local.events.emit(WorkerEvent::Revoked { requests, connections });
            let revision = self.server.views.latest().state.revision;
            tracing::info!(
                revision,
                requests,
                connections,
                "ended requests and connections that are no longer allowed"
            );
        }
    }

    /// Ends requests; how many.
    async fn requests(&self) -> u64 {
        let active_requests = &self.server.active_requests;
        let (mut ended, mut at) = (0, 0);
        while at < active_requests.span() {
            let view = self.server.views.latest();
            active_requests.slice(at..at + SLICE, |active| {
                ended += u64::from(active.review(|facts| revoked(&self.server, &view.state, facts)));
            });
            at += SLICE;
            tokio::task::yield_now().await;
        }
        ended
    }

    /// Ends kept connections of HTTP clients; how many.
    async fn clients(&self) -> u64 {
        let clients = &self.server.clients;
        let (mut ended, mut at) = (0, 0);
        while at < clients.span() {
            let view = self.server.views.latest();
            clients.slice(at..at + SLICE, |control| {
                let latest = control.latest.0.borrow();
                let revoked = latest.as_deref().and_then(|facts| revoked(&self.server, &view.state, facts));
                let Some(revoked) = revoked else { return };
                if control.retire() {
                    ended += 1;
                    if ended <= MOST_TOLD as u64 {
                        brattice_wire::rarely!(info, reason = revoked.why(), "a client connection is closed");
                    }
                }
            });
            at += SLICE;
            tokio::task::yield_now().await;
        }
        ended
    }

    /// Ends connections that are served as TCP; how many.
    async fn tcp(&self) -> u64 {
        let (mut ended, mut at) = (0, 0);
        while at < self.tcp.span() {
            ended += self.tcp.review(at..at + SLICE, &self.server.views.latest().state);
            at += SLICE;
            tokio::task::yield_now().await;
        }
        ended
    }
}

/// Why a request would not be let through now.
fn revoked(server: &Server, state: &State, facts: &Facts) -> Option<Revoked> {
    let origin = facts.origin()?;
    let Some(caller) = state.caller(origin.caller) else { return Some(Revoked::Gone) };
    let Some(service) = state.service_of(caller.vpc, origin.vip, facts.service()) else {
        return Some(Revoked::Withdrawn);
    };
    if !facts.is_whole() {
        return None;
    }
    let call = auth::call(state, &caller, service, origin.port)?;
    server.authorizer.review(state, &call, facts).map(Revoked::Denied)
}
