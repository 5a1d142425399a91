//! Informational responses go before the final one.

use std::{future::poll_fn, task::Poll};

use brattice_wire::records::FailureReason;

use super::Exchange;
use crate::http::local_reply::LocalReply;

/// Waits until the informational responses of an HTTP/1 target are written. They precede the final response,
/// whether the target or the engine sends that. The connection wakes this task when it has written them.
///
/// # Errors
/// The client does not read them: its connection is reset, as one of them may be written in part.
pub(super) async fn wait_for_interim(exchange: &Exchange) -> Result<(), LocalReply> {
    let control = &exchange.session.control;
    if exchange.session.http2.get() {
        return Ok(());
    }
    let written = poll_fn(|cx| match exchange.active.poll_expired(cx) {
        _ if !control.interim.some() => Poll::Ready(true),
        None => Poll::Pending,
        Some(_) => Poll::Ready(false),
    });
    if written.await {
        return Ok(());
    }
    control.reset(FailureReason::ConnectionDurationExceeded);
    Err(LocalReply::Reset)
}
