//! Sends the request, within the time that it has.

use std::{future::poll_fn, pin::pin, task::Poll};

use brattice_wire::records::FailureReason;
use http::{Request, Response};

use super::{
    Exchange, Plan,
    no_response::{expired, failed},
};
use crate::{
    events::RequestEvent,
    http::{local_reply::Problem, request_body::RequestBody},
    upstream::{
        attempt::{Failure, attempt},
        lease::Lease,
        target_body::TargetBody,
    },
};

/// The head of the target's response, by however many attempts ([`crate::upstream::attempt`]).
pub(super) async fn send(
    exchange: &Exchange,
    plan: &Plan,
    request: Request<RequestBody>,
) -> Result<(Response<TargetBody>, Lease), Problem> {
    let (session, active) = (&exchange.session, &exchange.active);
    let mut attempts = pin!(attempt(&session.server.upstream, &plan.route, request));
    let sent = poll_fn(|cx| {
        if let Some(expired) = active.poll_expired(cx) {
            return Poll::Ready(Err(expired));
        }
        attempts.as_mut().poll(cx).map(Ok)
    })
    .await;
    match sent {
        Ok(Ok(answered)) => {
            active.span.emit(RequestEvent::ResponseReceived);
            Ok(answered)
        }
        Ok(Err(failure)) => {
            match failure {
                Failure::Connect(_) | Failure::Busy => {
                    active.span.emit(RequestEvent::RequestNotSent);
                    active.span.emit(RequestEvent::Failed(FailureReason::TargetConnectionError));
                }
                Failure::TooLong => active.span.emit(RequestEvent::RequestNotSent),
                Failure::Target(_) => {}
            }
            Err(failed(exchange, failure))
        }
        Err(why) => Err(expired(why)),
    }
}
