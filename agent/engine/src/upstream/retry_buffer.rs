//! What a request's next attempt sends: a copy of it, taken before each attempt, in a buffer that is used again, as nearly no
//! copy is ever read; and what was sent of its body ([`body`]).

pub(crate) mod body;

use std::{cell::RefCell, future::poll_fn, mem, rc::Rc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use self::body::BodyBuffer;
use crate::{active_requests::ActiveRequest, http::request_body::RequestBody, local::Local};

/// Buffers that a worker keeps ...
const KEPT: usize = 1_024;
/// ... of at most this size, bytes.
const KEPT_BYTES: usize = 4 * 1_024;
/// Buffers for copies, of one worker.
#[derive(Debug, Default)]
pub(crate) struct RetryBuffers(RefCell<Vec<Vec<u8>>>);

/// Method, request target and header fields of a request.
struct RequestCopy<'a> {
    pool: &'a RetryBuffers,
    method: Method,
    uri: Uri,
    version: Version,
    /// Name and value of each field, each behind its length.
    fields: Vec<u8>,
}

impl RetryBuffers {
    /// Copies a request without its body.
    fn copy<B>(&self, request: &Request<B>) -> RequestCopy<'_> {
        let mut fields = self.0.borrow_mut().pop().unwrap_or_default();
        for (name, value) in request.headers() {
            put(&mut fields, name.as_str().as_bytes());
            put(&mut fields, value.as_bytes());
        }
        let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
        RequestCopy { pool: self, method, uri, version, fields }
    }
}

impl RequestCopy<'_> {
    /// The request, with this body.
    fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers();
        request
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut rest = &self.fields[..];
        while let (Some(name), Some(value)) = (take(&mut rest), take(&mut rest)) {
            // Both were valid when they were copied.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        headers
    }
}

impl Drop for RequestCopy<'_> {
    fn drop(&mut self) {
        let mut pool = self.pool.0.borrow_mut();
        if pool.len() < KEPT && self.fields.capacity() <= KEPT_BYTES {
            let mut buffer = mem::take(&mut self.fields);
            buffer.clear();
            pool.push(buffer);
        }
    }
}

/// The copy of one request that is kept from its first attempt to the head of the response.
pub(super) struct RetryBuffer<'a> {
    buffers: &'a RetryBuffers,
    /// Of the request without its body, as the latest attempt sends it.
    copy: Option<RequestCopy<'a>>,
    /// Of its body; none: it has none, or it is not kept.
    body: Option<BodyBuffer>,
    /// Its body is gone once an attempt has begun.
    body_is_lost: bool,
}

impl<'a> RetryBuffer<'a> {
    /// Nothing yet. `keeps_body`: what is sent of the body is kept from now on.
    pub(super) fn new(buffers: &'a RetryBuffers, request: &mut Request<RequestBody>, keeps_body: bool) -> Self {
        let body_is_lost = !keeps_body && !request.body().is_empty();
        let body = if keeps_body { request.body_mut().keep() } else { None };
        Self { buffers, copy: None, body, body_is_lost }
    }

    /// Copies the request that is about to be sent.
    pub(super) fn keep<B>(&mut self, request: &Request<B>) {
        // The buffer of the copy before can be used at once.
        self.copy = None;
        self.copy = Some(self.buffers.copy(request));
    }

    /// The request for another attempt. Waits until the one before lets go of the body. `None`: too much of it was sent, or
    /// it was not kept.
    pub(super) async fn request(&self, active: &Rc<ActiveRequest>, local: &Rc<Local>) -> Option<Request<RequestBody>> {
        let copy = self.copy.as_ref().filter(|_| !self.body_is_lost)?;
        let body = match &self.body {
            None => RequestBody::empty(Rc::clone(active), Rc::clone(local)),
            Some(body) => {
                let rest = poll_fn(|cx| body.poll_rest(cx)).await?;
                RequestBody::again(body.clone(), rest, Rc::clone(active), Rc::clone(local))
            }
        };
        Some(copy.request(body))
    }

    /// There will be no other attempt.
    pub(super) fn forget(&self) {
        if let Some(body) = &self.body {
            body.forget();
        }
    }
}

/// Lengths are those of one header section, which is far shorter than 4 GiB.
fn put(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
    buffer.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, more) = rest.split_first_chunk()?;
    let (bytes, more) = more.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
    *rest = more;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_request() {
        let pool = RetryBuffers::default();
        let request = Request::put("/a?b=c")
            .header("host", "a.example")
            .header("x-many", "1")
            .header("accept", "*/*")
            .header("x-many", HeaderValue::from_bytes(b"\xfe").unwrap())
            .header("empty", "")
            .body(())
            .unwrap();
        let again = pool.copy(&request).request(());
        assert_eq!(
            (again.method(), again.uri(), again.version()),
            (request.method(), request.uri(), request.version())
        );
        assert_eq!(again.headers(), request.headers());
        assert_eq!(pool.0.borrow().len(), 1, "the buffer is kept");
        let fewer = Request::get("/").header("host", "b").body(()).unwrap();
        assert_eq!(pool.copy(&fewer).request(()).headers(), fewer.headers(), "and empty");
    }
}
