//! Informational responses go before the final one.

use std::{future::poll_fn, task::Poll};

use brattice_wire::records::FailureReason;

use super::{Exchange, no_response::expired};
use crate::{active_requests::Expired, http::local_reply::Problem};

/// Waits until the informational responses of an HTTP/1 target are written. They precede the final response,
/// whether the target or the engine sends that. The connection wakes this task when it has written them.
pub(super) async fn wait_for_interim(exchange: &Exchange) -> Result<(), Problem> {
    let control = &exchange.session.control;
    if exchange.session.http2.get() {
        return Ok(());
    }
    let written = poll_fn(|cx| match exchange.active.poll_expired(cx) {
        None if control.interim.some() => Poll::Pending,
        None => Poll::Ready(Ok(())),
        Some(_) if !control.interim.some() => Poll::Ready(Ok(())),
        Some(expired) => Poll::Ready(Err(expired)),
    });
    written.await.map_err(|why| {
        // One of them may be written in part.
        control.reset(match why {
            Expired::Answer | Expired::TargetBody => FailureReason::TargetDataTimeout,
            Expired::ClientBody => FailureReason::ConnectionDurationExceeded,
        });
        expired(why)
    })
}
