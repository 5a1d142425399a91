//! The caller's limits: memory, requests in flight.

use brattice_wire::records::FailureReason;

use super::Exchange;
use crate::{
    events::RequestEvent,
    http::local_reply::{LocalReply, NO_ROOM, unavailable},
    limits::{Limit, Use},
    memory,
    state::Caller,
};

/// Takes a place among the requests of the caller's workload.
pub(super) fn admit(exchange: &Exchange, caller: &Caller<'_>) -> Result<(), LocalReply> {
    let (local, active) = (exchange.session.local(), &exchange.active);
    if let Err(limit) = local.shared.admit_bytes(caller.usage, memory::REQUEST) {
        active.span.emit(RequestEvent::LimitReached(limit));
        active.span.emit(RequestEvent::Failed(FailureReason::ClientRateLimited));
        return Err(NO_ROOM.into());
    }
    let taken = caller.usage.take(Use::Request, local.limits().requests_per_workload);
    let refused = taken.is_none();
    *active.taken.borrow_mut() = taken;
    if refused {
        active.span.emit(RequestEvent::LimitReached(Limit::RequestsPerWorkload));
        active.span.emit(RequestEvent::Failed(FailureReason::ClientRateLimited));
        return Err(unavailable("this workload has too many requests in flight"));
    }
    Ok(())
}
