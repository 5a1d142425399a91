//! Answers of our own.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};

use super::{
    body::{Finish, ResponseBody},
    filters::Filters,
    headers::REQUEST_ID,
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

/// The same for a service that does not exist and for one that the caller may not see.
pub(crate) const UNKNOWN: Problem = Problem::new(StatusCode::NOT_FOUND, "no such service");

/// A request body of more than the limit.
pub(crate) const TOO_LARGE: Problem = Problem::closing(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too long");

/// A problem as an answer; without its text to a `HEAD`, whose answer has no body.
pub(crate) fn problem(
    problem: Problem,
    id: HeaderValue,
    http2: bool,
    head: bool,
    finish: Finish,
) -> Response<ResponseBody> {
    let text = format!("{} {}\nrequest id: {}\n", problem.status.as_u16(), problem.text, id.to_str().unwrap_or("-"));
    let mut response = Response::new(ResponseBody::own(if head { Bytes::new() } else { text.into() }, finish));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(REQUEST_ID, id);
    if problem.close && !http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
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
pub(crate) fn own(own: Own, id: HeaderValue, head: bool, finish: Finish) -> Response<ResponseBody> {
    let length = own.body.len();
    let mut response = Response::new(ResponseBody::own(if head { Bytes::new() } else { own.body }, finish));
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
        filters.response.apply(headers);
    }
    headers.insert(REQUEST_ID, id);
    response
}
