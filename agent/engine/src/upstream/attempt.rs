//! A request at the endpoints of its target group: one attempt after the other, until one brings a response or no further
//! one may be made.

mod http1;
mod http2;

use std::{rc::Rc, time::Duration};

use brattice_wire::snapshot::ServiceNumber;
use http::{Method, Request, Response};

use super::{
    Upstream,
    connector::ConnectError,
    endpoint::{Candidates, Endpoint},
    lease::Lease,
    pool::Key,
    retry::{Attempts, Outcome, Retry, Sent, retry},
    retry_buffer::RetryBuffer,
    target_body::TargetBody,
    target_error::TargetError,
};
use crate::{
    aliases::CallerId,
    events::RequestEvent,
    http::{interim::Interim, request_body::RequestBody},
};

/// Where a request goes.
pub(crate) struct Route {
    /// [`crate::state::Service::number`]: services share no connections.
    pub(crate) service: ServiceNumber,
    /// The caller of the request.
    pub(crate) caller: CallerId,
    /// In the order in which they are tried.
    pub(crate) candidates: Candidates,
    /// They speak HTTP/2.
    pub(crate) http2: bool,
    pub(crate) connect_timeout_ms: u32,
    /// How long a connection may idle afterwards, ms.
    pub(crate) idle_ms: u32,
    /// Where informational responses of an HTTP/1 target go.
    pub(crate) informational: Option<Informational>,
}

/// The receiver of a target's informational responses.
pub(crate) struct Informational {
    pub(crate) interim: Rc<Interim>,
    /// The client can have those other than 100, too, until this request is answered.
    pub(crate) forward: Option<u64>,
}

impl Route {
    /// Under which its connections to an endpoint are kept.
    fn key(&self, endpoint: &Endpoint) -> Key {
        Key {
            service: self.service,
            alias: endpoint.target.alias,
            port: endpoint.target.port,
            generation: endpoint.target.generation,
            http2: self.http2,
            idle_ms: self.idle_ms,
        }
    }

    fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms.into())
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection.
    Connect(Rc<ConnectError>),
    /// The connection, or the response, is broken.
    Target(TargetError),
    /// No HTTP/2 connection had room.
    Busy,
    /// The header section is longer than the target takes.
    TooLong,
}

/// The result of one attempt.
enum Attempt {
    /// The head of the final response came.
    Answered(Response<TargetBody>, Lease),
    /// There will be no response.
    Unanswered {
        outcome: Outcome,
        failure: Failure,
        /// The request, if it came back whole.
        request: Option<Request<RequestBody>>,
        /// Requests that the endpoint took on the connection, where it said so.
        took: Option<u32>,
    },
}

impl Attempt {
    /// Nothing was sent.
    fn unsent(outcome: Outcome, failure: Failure, request: Request<RequestBody>) -> Self {
        Self::Unanswered { outcome, failure, request: Some(request), took: None }
    }
}

/// Sends a request, whose fields are those for the target, and waits for the head of the response.
///
/// # Errors
/// The error of the last attempt.
pub(crate) async fn attempt(
    upstream: &Rc<Upstream>,
    route: &Route,
    mut request: Request<RequestBody>,
) -> Result<(Response<TargetBody>, Lease), Failure> {
    let active = request.body().active();
    let (idempotent, body) = (is_idempotent(request.method()), !request.body().is_empty());
    let mut retry_buffer = RetryBuffer::new(&upstream.retry_buffers, &mut request, route.http2);
    let mut attempts = Attempts::default();
    let mut candidates = route.candidates.clone();
    let mut endpoint = candidates.next().ok_or(Failure::Busy)?;
    loop {
        active.span.emit(RequestEvent::AttemptBegan);
        let sent = Sent { idempotent, body, broken: false };
        let made = match route.http2 {
            true => http2::attempt(upstream, route, &endpoint, request, &attempts, &mut retry_buffer).await,
            false => http1::attempt(upstream, route, &endpoint, request, &sent, &attempts).await,
        };
        let (outcome, failure, returned, took) = match made {
            Attempt::Answered(response, lease) => {
                retry_buffer.forget();
                return Ok((response, lease));
            }
            Attempt::Unanswered { outcome, failure, request, took } => (outcome, failure, request, took),
        };
        active.span.emit(RequestEvent::AttemptFailed);
        attempts.ended(took);
        let sent = Sent { broken: active.fault.get().is_some(), ..sent };
        match retry(outcome, &sent, &attempts, candidates.clone().next().is_some()) {
            Retry::No => return Err(failure),
            Retry::SameEndpoint => {}
            Retry::NextEndpoint => {
                let Some(next) = candidates.next() else { return Err(failure) };
                tracing::debug!(target = %endpoint.real_address(), ?outcome, "a target did not take the request; the next one is tried");
                endpoint = next;
                attempts.elsewhere();
                active.span.emit(RequestEvent::TargetChosen {
                    address: endpoint.real_address(),
                    alias: endpoint.target.alias,
                });
            }
        }
        request = match returned {
            Some(request) => request,
            None => retry_buffer.request(&active, &upstream.local).await.ok_or(failure)?,
        };
    }
}

/// Methods that a target may see twice (RFC 9110, 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}
