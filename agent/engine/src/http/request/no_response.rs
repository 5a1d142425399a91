//! The response to the client where no target has responded.

use std::io;

use http::StatusCode;

use super::{Exchange, check_response::TOO_MANY_FIELDS};
use crate::{
    active_requests::{Expired, Fault},
    events::RequestEvent,
    http::{
        failure::body_failure,
        local_reply::{NO_ROOM, Problem, TOO_LARGE},
    },
    upstream::{attempt::Failure, connector::ConnectError},
};

/// The last attempt failed. Where the request's body broke that is the reason, whatever the target made of it.
pub(super) fn failed(exchange: &Exchange, failure: Failure) -> Problem {
    let active = &exchange.active;
    if let Some(fault) = active.fault.get() {
        return body_broke(exchange, fault);
    }
    match failure {
        Failure::Connect(error) => match &*error {
            ConnectError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "the target could not be reached in time")
            }
            ConnectError::Io(_) => Problem::new(StatusCode::BAD_GATEWAY, "the target could not be reached"),
            ConnectError::Closed => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the target has just been taken away")
            }
        },
        Failure::Target(error) => {
            active.span.emit(RequestEvent::Failed(error.reason()));
            tracing::debug!(%error, "a target did not answer");
            let text = if error.is_too_long() { TOO_MANY_FIELDS } else { "the target did not answer as HTTP says" };
            Problem::new(StatusCode::BAD_GATEWAY, text)
        }
        Failure::Busy => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the target has no room for a request"),
        Failure::TooLong => Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the header section is longer than the target takes",
        ),
    }
}

fn body_broke(exchange: &Exchange, fault: Fault) -> Problem {
    let span = &exchange.active.span;
    span.emit(RequestEvent::Failed(body_failure(fault)));
    match fault {
        Fault::TooLarge => TOO_LARGE,
        Fault::NoRoom => NO_ROOM,
        Fault::Refused(refusal) => {
            span.emit(refusal.event());
            Problem::closing(refusal.status(), refusal.text())
        }
        Fault::Client => Problem::closing(StatusCode::BAD_REQUEST, "the request ended before its body was complete"),
    }
}

/// Something took too long.
pub(super) fn expired(expired: Expired) -> Problem {
    match expired {
        Expired::Answer => Problem::new(StatusCode::GATEWAY_TIMEOUT, "the target did not answer in time"),
        Expired::ClientBody | Expired::TargetBody => {
            Problem::closing(StatusCode::REQUEST_TIMEOUT, "the request body stopped for too long")
        }
    }
}
