//! An attempt at an HTTP/1.1 endpoint: over a kept connection, if there is one, else over a new one.

use std::rc::Rc;

use http::Request;

use super::{Attempt, Failure, Route};
use crate::{
    events::WorkerEvent,
    http::request_body::RequestBody,
    upstream::{
        Upstream,
        endpoint::Endpoint,
        http1,
        lease::{Lease, Leased},
        retry::{Attempts, Outcome, Sent},
        retry_buffer::RetryBuffer,
    },
};

/// One attempt. After a kept connection that has ended a new one is made: others may have ended with it.
pub(super) async fn attempt(
    upstream: &Rc<Upstream>,
    route: &Route,
    endpoint: &Rc<Endpoint>,
    mut request: Request<RequestBody>,
    sent: &Sent,
    attempts: &Attempts,
    retry_buffer: &mut RetryBuffer<'_>,
) -> Attempt {
    let key = route.key(endpoint);
    let kept = if attempts.here == 0 { upstream.http1.take(&key) } else { None };
    let reused = kept.is_some();
    let mut connection = match kept {
        Some(kept) => kept,
        None => match http1::open(upstream, endpoint, route.connect_timeout()).await {
            Ok(connection) => connection,
            Err(error) => {
                upstream.local.events.emit(WorkerEvent::ConnectFailed);
                return Attempt::unsent(Outcome::NotConnected, Failure::Connect(Rc::new(error)), request);
            }
        },
    };
    if reused && sent.is_repeatable() {
        retry_buffer.keep(&request);
    }
    let active = request.body().active();
    let before = connection.meter.bytes();
    let socket = route.may_switch.then(|| connection.may_switch());
    let in_flight = endpoint.request();
    route.notice(&mut request);
    connection.meter.begin(upstream.local.limits().interim_responses);
    let mut error = match connection.sender.try_send_request(request).await {
        Ok(response) => {
            let connection = Leased::Http1(Rc::clone(upstream), connection, socket);
            return Attempt::Answered(response, Lease { key, connection, _request: in_flight });
        }
        Err(error) => error,
    };
    // The target closed the idle connection while the request was on its way: either hyper gives the request back because no
    // byte of it was sent, or no byte of a response came.
    let request = error.take_message().filter(|_| reused);
    let outcome = match &request {
        Some(_) => Outcome::Unsent,
        None if connection.meter.bytes() == before && active.fault.get().is_none() => Outcome::Closed { reused },
        None => Outcome::Failed,
    };
    Attempt::Unanswered { outcome, failure: Failure::Target(error.into_error()), request, took: None }
}
