//! What was let through, looked at again when a state comes in force: what would be refused now is ended.
//!
//! A request that is decided about after the state was published has seen it; every other one is in the worker's table
//! by then, with a copy of what policies may ask about it. The tables are gone through in slices, so that ten thousand
//! connections do not keep the worker from those that are served meanwhile.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
};

use brattice_decide::Refusal;

use super::Facts;
use crate::{aliases::CallerId, downstream::tcp::TcpProxy, local::Local, state::State};

/// Requests, or connections, that are looked at in one turn.
const SLICE: usize = 256;
/// Closed connections that a review tells of one by one.
const MOST_TOLD: usize = 16;

/// Why something is ended that had been let through.
#[derive(Debug)]
pub(crate) enum Revoked {
    /// Policies refuse it.
    Denied(Box<Refusal>),
    /// The caller's VPC does not see the service any more, or it is gone.
    Withdrawn,
    /// The caller has no alias any more, or another one.
    Gone,
}

impl Revoked {
    /// The id of the decision, for logs.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Denied(refusal) => &refusal.decision,
            Self::Withdrawn => "withdrawn",
            Self::Gone => "caller-gone",
        }
    }
}

/// Whose requests a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) caller: CallerId,
    /// The VIP that was called.
    pub(crate) vip: IpAddr,
    /// Its port.
    pub(crate) port: u16,
}

/// The latest request of a connection that was let through.
#[derive(Debug, Default)]
pub(crate) struct Latest(RefCell<Option<Rc<Facts>>>);

impl Latest {
    /// Notes a request. The room of the one before is used again unless that is still in flight.
    pub(crate) fn note(&self, set: impl FnOnce(&mut Facts)) -> Rc<Facts> {
        let mut latest = self.0.borrow_mut();
        if let Some(facts) = latest.as_mut().and_then(Rc::get_mut) {
            set(facts);
        } else {
            let mut facts = Facts::default();
            set(&mut facts);
            *latest = Some(Rc::new(facts));
        }
        Rc::clone(latest.get_or_insert_default())
    }

    /// A request has ended: what is left of it must be small.
    pub(crate) fn ended(&self) {
        if let Some(facts) = self.0.borrow_mut().as_mut().and_then(Rc::get_mut) {
            facts.shorten();
        }
    }
}

/// The reviews of a worker.
#[derive(Debug, Default)]
pub(crate) struct Reviews {
    running: Cell<bool>,
    again: Cell<bool>,
}

/// Looks at everything again, in a task of its own.
pub(crate) fn begin(local: &Rc<Local>, tcp: &Rc<TcpProxy>) {
    local.reviews.again.set(true);
    if local.reviews.running.replace(true) {
        return;
    }
    let (local, tcp) = (Rc::clone(local), Rc::clone(tcp));
    tokio::task::spawn_local(async move {
        while local.reviews.again.replace(false) {
            review(&local, &tcp).await;
        }
        local.reviews.running.set(false);
    });
}

async fn review(local: &Local, tcp: &TcpProxy) {
    let (mut requests, mut connections) = (0u64, 0u64);
    let mut at = 0;
    while at < local.flights.span() {
        let view = local.view();
        local.flights.slice(at..at + SLICE, |flight| {
            requests += u64::from(flight.review(|facts| revoked(local, &view.state, facts)));
        });
        at += SLICE;
        tokio::task::yield_now().await;
    }
    at = 0;
    while at < local.clients.span() {
        let view = local.view();
        local.clients.slice(at..at + SLICE, |control| {
            let latest = control.latest.0.borrow();
            let Some(revoked) = latest.as_deref().and_then(|facts| revoked(local, &view.state, facts)) else { return };
            if control.retire() {
                connections += 1;
                if connections <= MOST_TOLD as u64 {
                    brattice_wire::rarely!(info, reason = revoked.why(), "a client connection is closed");
                }
            }
        });
        at += SLICE;
        tokio::task::yield_now().await;
    }
    at = 0;
    while at < tcp.span() {
        connections += tcp.review(at..at + SLICE, &local.view().state);
        at += SLICE;
        tokio::task::yield_now().await;
    }
    if requests + connections > 0 {
        let counts = local.counts();
        counts.revoked[0].add(requests);
        counts.revoked[1].add(connections);
        let revision = local.view().state.revision;
        tracing::info!(revision, requests, connections, "ended what is not allowed any more");
    }
}

/// Why a request would not be let through now.
fn revoked(local: &Local, state: &State, facts: &Facts) -> Option<Revoked> {
    let origin = facts.origin()?;
    let Some(caller) = state.caller(origin.caller) else { return Some(Revoked::Gone) };
    let Some(service) = state.service_of(caller.vpc, origin.vip, facts.service()) else {
        return Some(Revoked::Withdrawn);
    };
    if !facts.is_whole() {
        return None;
    }
    let call = super::call(state, &caller, service, origin.port)?;
    local.authorizer.review(state, &call, facts).map(Revoked::Denied)
}

#[cfg(test)]
mod tests {
    use brattice_decide::Head;
    use http::HeaderMap;

    use super::*;

    fn noted(latest: &Latest, path: &str) -> Rc<Facts> {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let origin = Origin { caller: CallerId::new(address, 1), vip: address, port: 80 };
        latest.note(|facts| facts.set(origin, 1, ("GET", path, ""), &HeaderMap::new()))
    }

    #[test]
    fn a_kept_connection_notes_its_requests_in_the_same_room() {
        let latest = Latest::default();
        let first = noted(&latest, "/a");
        let room = Rc::as_ptr(&first);
        let second = noted(&latest, "/b");
        assert_eq!((first.path(), second.path()), ("/a", "/b"), "what is in flight keeps its own");
        drop((first, second));
        let room_now = Rc::as_ptr(&noted(&latest, "/c"));
        for path in ["/d", "/e"] {
            let facts = noted(&latest, path);
            assert!(Rc::as_ptr(&facts) == room_now && facts.path() == path);
        }
        assert!(!std::ptr::eq(room, room_now), "the first one's room went with it");
    }
}
