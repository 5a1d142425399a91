//! Whether a target's response may be passed on.

use brattice_wire::records::FailureReason;
use http::{Response, StatusCode};
use http_body::Body;

use super::{Exchange, Plan};
use crate::{
    events::RequestEvent,
    http::{
        framing,
        local_reply::{NO_ROOM, Problem},
        upgrade,
    },
    memory::LARGE,
    upstream::target_body::TargetBody,
};

/// The same bound as for requests, so that what a target takes it may also say.
pub(super) const TOO_MANY_FIELDS: &str = "the target's answer has too many header fields, or bytes of them";

/// Its fields, its length, its protocol.
pub(super) fn check_response(
    exchange: &Exchange,
    plan: &Plan,
    response: &mut Response<TargetBody>,
) -> Result<(), Problem> {
    let (local, active) = (exchange.session.local(), &exchange.active);
    let framed = if response.headers().len() > local.limits().headers as usize {
        Err(TOO_MANY_FIELDS)
    } else {
        framing::response(response)
    };
    if let Err(why) = framed {
        active.span.emit(RequestEvent::Failed(FailureReason::TargetProtocolError));
        return Err(Problem::new(StatusCode::BAD_GATEWAY, why));
    }
    if response.body().size_hint().lower() > LARGE && !active.transfers(&local.shared) {
        active.span.emit(RequestEvent::Failed(FailureReason::ClientRateLimited));
        return Err(NO_ROOM);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && plan.offer.as_ref().and_then(|offer| upgrade::chosen(offer, response.headers())).is_none()
    {
        return Err(Problem::new(StatusCode::BAD_GATEWAY, "the target changed the protocol without being asked"));
    }
    Ok(())
}
