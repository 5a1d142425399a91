//! The caller's limits: memory, requests in flight.

use brattice_wire::records::FailureReason;

use super::Exchange;
use crate::{
    http::local_reply::{LocalReply, NO_ROOM, unavailable},
    limits::Use,
    memory,
    state::Caller,
    stats::Limit,
};

/// Takes a place among the requests of the caller's workload.
pub(super) fn admit(exchange: &Exchange, caller: &Caller<'_>) -> Result<(), LocalReply> {
    let (local, flight) = (exchange.session.local(), &exchange.flight);
    let counts = local.counts();
    if !local.shared.room(caller.usage, memory::REQUEST, counts) {
        flight.record.fail(FailureReason::ClientRateLimited);
        return Err(NO_ROOM.into());
    }
    let taken = caller.usage.take(Use::Request, local.limits().requests_per_workload);
    let refused = taken.is_none();
    *flight.taken.borrow_mut() = taken;
    if refused {
        counts.hit(Limit::RequestsPerWorkload);
        flight.record.fail(FailureReason::ClientRateLimited);
        return Err(unavailable("this workload has too many requests in flight"));
    }
    Ok(())
}
