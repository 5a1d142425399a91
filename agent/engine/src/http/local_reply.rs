//! Responses that no target gives: problems, denials, and what a rule responds by itself.

use std::sync::Arc;

use brattice_decide::{Filters, Refusal};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};

use super::{filters, headers::REQUEST_ID, response_body::ResponseBody};
use crate::{
    active_requests::{ActiveRequest, Registration},
    auth::CALLER_GONE,
    events::{RefusedRequest, RequestEvent},
};

/// Why a request was not forwarded, or its answer not passed on, for the client: one sentence, nothing about how we
/// are made, where targets are, or what else exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) text: &'static str,
    /// The rest of the connection cannot be understood any more, or is not wanted.
    pub(crate) close: bool,
}

impl Problem {
    pub(crate) const fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text, close: false }
    }

    pub(crate) const fn closing(status: StatusCode, text: &'static str) -> Self {
        Self { status, text, close: true }
    }
}

/// What the client gets instead of a target's response.
pub(crate) enum LocalReply {
    /// The request is not served.
    Problem(Problem),
    /// Policies refuse it.
    Denied(Box<Denied>),
    /// A rule has the response.
    Own(Box<Own>),
    /// None: the caller is no caller any more, or takes no informational response; its connection is reset.
    Reset,
}

impl From<Problem> for LocalReply {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// The caller is gone, or no longer has its alias, since its connection was let in.
pub(crate) fn caller_gone(active: &ActiveRequest) -> LocalReply {
    active.span.emit(CALLER_GONE);
    LocalReply::Reset
}

/// There is no room for the request, or nowhere to send it.
pub(crate) fn unavailable(text: &'static str) -> LocalReply {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).into()
}

/// The request is none that can be served. `close`: nor can what follows it on its connection.
pub(crate) fn malformed(active: &ActiveRequest, close: bool, text: &'static str) -> LocalReply {
    active.span.emit(RequestEvent::Refused(RefusedRequest::Malformed));
    Problem { status: StatusCode::BAD_REQUEST, text, close }.into()
}

pub(crate) const UNCHANGEABLE: &str = "the path cannot be changed as the service's rule says";
pub(crate) const NOWHERE: &str = "no target of the service can be reached";

/// gRPC's status code.
const PERMISSION_DENIED: &str = "7";

/// The same for a service that does not exist and for one that the caller may not see.
pub(crate) const UNKNOWN: Problem = Problem::new(StatusCode::NOT_FOUND, "no such service");

/// A request body of more than the limit.
pub(crate) const TOO_LARGE: Problem = Problem::closing(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too long");

/// A workload has reached a limit: requests, memory or large bodies.
pub(crate) const NO_ROOM: Problem =
    Problem::closing(StatusCode::SERVICE_UNAVAILABLE, "this workload has too many large bodies in transfer");

/// A problem as an answer; without its text to a `HEAD`, whose answer has no body.
pub(crate) fn problem(
    problem: Problem,
    id: HeaderValue,
    http2: bool,
    head: bool,
    registration: Registration,
) -> Response<ResponseBody> {
    registration.active.span.fail_by_status(problem.status.as_u16());
    let text = format!("{} {}\nrequest id: {}\n", problem.status.as_u16(), problem.text, id.to_str().unwrap_or("-"));
    let mut response = Response::new(ResponseBody::own(if head { Bytes::new() } else { text.into() }, registration));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(REQUEST_ID, id);
    if problem.close && !http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request that policies refuse.
pub(crate) struct Denied {
    pub(crate) refusal: Box<Refusal>,
    /// Its client reads a gRPC status.
    pub(crate) grpc: bool,
}

/// Whether a request is a gRPC call (gRPC over HTTP/2, "Requests").
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let kind = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    kind.get(..GRPC.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(GRPC))
}

/// What the caller of a refused request gets: Lattice's words and the request's id, and nothing of which policy it
/// was. gRPC has its status in the header section, as an answer without messages may (gRPC over HTTP/2, "Responses").
pub(crate) fn denied(
    denied: Denied,
    id: HeaderValue,
    head: bool,
    registration: Registration,
) -> Response<ResponseBody> {
    let text = denied.refusal.text;
    let body = if head || denied.grpc {
        Bytes::new()
    } else {
        format!("{text}\nrequest id: {}\n", id.to_str().unwrap_or("-")).into()
    };
    let mut response = Response::new(ResponseBody::own(body, registration));
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    if denied.grpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(PERMISSION_DENIED));
        if let Ok(message) = HeaderValue::from_maybe_shared(Bytes::from(grpc_message(&text))) {
            headers.insert(HeaderName::from_static("grpc-message"), message);
        }
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    response
}

/// Percent-encoded as gRPC says: what is not visible ASCII or a space, and `%`.
fn grpc_message(text: &str) -> String {
    use std::fmt::Write;
    let mut message = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            message.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(message, "%{byte:02X}");
        }
    }
    message
}

/// What a rule answers.
pub(crate) struct Own {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) location: Option<HeaderValue>,
    pub(crate) body: Bytes,
    pub(crate) filters: Option<Arc<Filters>>,
}

/// A rule's answer; a `HEAD` gets the length of the body that it does not get.
pub(crate) fn own(own: Own, id: HeaderValue, head: bool, registration: Registration) -> Response<ResponseBody> {
    let length = own.body.len();
    let mut response = Response::new(ResponseBody::own(if head { Bytes::new() } else { own.body }, registration));
    *response.status_mut() = own.status;
    let headers = response.headers_mut();
    if head && length > 0 {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if let Some(content_type) = own.content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    if let Some(location) = own.location {
        headers.insert(LOCATION, location);
    }
    if let Some(filters) = &own.filters {
        filters::apply(&filters.response, headers);
    }
    headers.insert(REQUEST_ID, id);
    response
}
