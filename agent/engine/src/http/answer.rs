//! Answers of our own.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE},
};

use super::{
    body::{Finish, ResponseBody},
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

/// What a document says: a status and no body.
pub(crate) fn fixed(status: StatusCode, id: HeaderValue, finish: Finish) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(Bytes::new(), finish));
    *response.status_mut() = status;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}
