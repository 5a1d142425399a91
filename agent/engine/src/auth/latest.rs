//! The latest allowed request of a connection, and why it is ended.

use std::{cell::RefCell, rc::Rc};

use brattice_decide::Refusal;

use super::Facts;
use crate::events::RequestEvent;

/// The caller of a request is gone, or no longer has its alias.
pub(crate) const CALLER_GONE: RequestEvent<'static> = RequestEvent::Revoked { refusal: None, why: GONE };
const GONE: &str = "caller-gone";

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
            Self::Gone => GONE,
        }
    }

    /// What it is to the record of what it ends.
    pub(crate) fn event(&self) -> RequestEvent<'_> {
        let refusal = match self {
            Self::Denied(refusal) => Some(&**refusal),
            Self::Withdrawn | Self::Gone => None,
        };
        RequestEvent::Revoked { refusal, why: self.why() }
    }
}

/// The latest request of a connection that was let through.
#[derive(Debug, Default)]
pub(crate) struct Latest(pub(crate) RefCell<Option<Rc<Facts>>>);

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

#[cfg(test)]
mod tests {
    use brattice_decide::Head;
    use brattice_wire::snapshot::{AliasGeneration, ServiceNumber};
    use http::HeaderMap;

    use super::{super::Origin, *};

    fn noted(latest: &Latest, path: &str) -> Rc<Facts> {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let origin =
            Origin { caller: crate::aliases::CallerId::new(address, AliasGeneration::new(1)), vip: address, port: 80 };
        latest.note(|facts| facts.set(origin, ServiceNumber::new(1), ("GET", path, ""), &HeaderMap::new()))
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
