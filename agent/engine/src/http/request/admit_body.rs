//! The limits of the request's body, as far as its length is known.

use brattice_wire::records::FailureReason;
use http::Request;
use http_body::Body;

use super::Exchange;
use crate::{
    events::RequestEvent,
    http::{
        client_body::ClientBody,
        local_reply::{LocalReply, NO_ROOM, TOO_LARGE},
    },
    limits::Limit,
    memory,
};

/// Refuses a body that is too long. A body without a length is counted while it is sent.
pub(super) fn admit_body(exchange: &Exchange, request: &Request<ClientBody>) -> Result<(), LocalReply> {
    let (local, active) = (exchange.session.local(), &exchange.active);
    let (length, most) = (request.body().size_hint().lower(), local.limits().body_bytes);
    if most > 0 && length > most {
        active.span.emit(RequestEvent::LimitReached(Limit::BodyBytes));
        return Err(TOO_LARGE.into());
    }
    if length > memory::LARGE && !active.transfers(&local.shared) {
        active.span.emit(RequestEvent::Failed(FailureReason::ClientRateLimited));
        return Err(NO_ROOM.into());
    }
    Ok(())
}
