//! What is wrong with the request itself: what the reader of HTTP/1 found, and the bounds of an HTTP/2 header section.

use brattice_wire::records::FailureReason;
use http::{Request, StatusCode};

use super::Exchange;
use crate::{
    events::{RefusedRequest, RequestEvent},
    http::{client_body::ClientBody, headers, local_reply::Problem, refusal::Refusal, session::Session},
    limits::Limit,
};

/// A connection is not reset for requests that were taken back if this share of all on it was answered: one of this many.
const ANSWERED_SHARE: u64 = 2;

/// Refuses a request that is malformed or too long. A connection whose caller takes too many requests back is reset.
///
/// `refused`: why it was found to be none while it was read.
pub(super) fn verify(
    exchange: &Exchange,
    refused: Option<Refusal>,
    request: &Request<ClientBody>,
) -> Result<(), Problem> {
    let session = &exchange.session;
    let span = &exchange.active.span;
    if let Some(refusal) = refused {
        span.emit(refusal.event());
        return Err(Problem::closing(refusal.status(), refusal.text()));
    }
    if !session.http2.get() {
        return Ok(());
    }
    let limits = session.local().limits();
    let (limit, text) = if request.headers().len() > limits.headers as usize {
        (Limit::Headers, "there are too many header fields")
    } else if headers::size(request.headers(), request.uri()) > limits.header_bytes as usize {
        (Limit::HeaderBytes, "the header section is too long")
    } else {
        if takes_back_too_much(session) {
            span.emit(RequestEvent::Refused(RefusedRequest::TooManyCancelled));
            span.emit(RequestEvent::LimitReached(Limit::Http2CancelledPerWorkload));
            session.control.reset(FailureReason::ClientRateLimited);
        }
        return Ok(());
    };
    span.emit(RequestEvent::LimitReached(limit));
    Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text))
}

/// Whether most requests of the connection were taken back, and its workload takes back more than it may.
fn takes_back_too_much(session: &Session) -> bool {
    let (cancelled, all) = (session.control.cancelled.get(), session.control.requests.get());
    if cancelled <= all / ANSWERED_SHARE {
        return false;
    }
    let view = session.view();
    let recent = view.state.caller(session.caller).map_or(0, |caller| caller.usage.cancelled_recently());
    recent > session.local().limits().http2_cancelled_per_workload
}
