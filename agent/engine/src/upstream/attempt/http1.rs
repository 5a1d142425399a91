//! An attempt at an HTTP/1.1 endpoint: over a kept connection, if there is one, else over a new one.

use std::{future::poll_fn, rc::Rc};

use http::{HeaderMap, Request, StatusCode};

use super::{Attempt, Failure, Informational, Route};
use crate::{
    events::WorkerEvent,
    http::request_body::RequestBody,
    upstream::{
        Upstream,
        endpoint::Endpoint,
        http1::{self, exchange::Exchange},
        lease::Lease,
        retry::{Attempts, Outcome, Sent},
        target_body::TargetBody,
    },
};

/// One attempt. After a kept connection that has ended a new one is made: others may have ended with it.
pub(super) async fn attempt(
    upstream: &Rc<Upstream>,
    route: &Route,
    endpoint: &Rc<Endpoint>,
    request: Request<RequestBody>,
    sent: &Sent,
    attempts: &Attempts,
) -> Attempt {
    let key = route.key(endpoint);
    let kept = if attempts.here == 0 { upstream.http1.take(&key) } else { None };
    let reused = kept.is_some();
    let connection = match kept {
        Some(kept) => kept,
        None => match http1::open(upstream, endpoint, route.connect_timeout()).await {
            Ok(connection) => connection,
            Err(error) => {
                upstream.local.events.emit(WorkerEvent::ConnectFailed);
                return Attempt::unsent(Outcome::NotConnected, Failure::Connect(Rc::new(error)), request);
            }
        },
    };
    let active = request.body().active();
    let before = connection.received();
    let (parts, body) = request.into_parts();
    let lease = Lease::http1(upstream, key, &connection, endpoint.request());
    let mut exchange = Exchange::new(upstream, &connection, &parts, body);
    let interim = &mut |status: StatusCode, headers: &HeaderMap| {
        if let Some(Informational { interim, forward }) = &route.informational {
            interim.received(status, headers, *forward);
        }
    };
    match poll_fn(|cx| exchange.poll(interim, cx)).await {
        Ok(response) => {
            exchange.upload_beside(endpoint);
            Attempt::Answered(response.map(TargetBody::Http1), lease)
        }
        Err(error) => {
            // The target closed the idle connection while the request was on its way: no byte of a response came.
            let closed = connection.received() == before && active.fault.get().is_none();
            let outcome = if closed { Outcome::Closed { reused } } else { Outcome::Failed };
            let repeat = outcome == Outcome::Closed { reused: true } && sent.is_repeatable();
            let request =
                repeat.then(|| Request::from_parts(parts, RequestBody::empty(active, Rc::clone(&upstream.local))));
            Attempt::Unanswered { outcome, failure: Failure::Target(error), request, took: None }
        }
    }
}
