//! One request on a connection, until the head of its final response is there. Writing and reading go on at once: a target may
//! respond before it has the whole request.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};

use brattice_http1::{BadResponse, ResponseHead, ResponseReader};
use http::{HeaderMap, Method, Response, StatusCode, request::Parts};

use super::{
    super::{Upstream, connector::parties, endpoint::Endpoint, target_error::TargetError},
    Http1,
    response::{Heads, Http1Body, limits},
    upload::Upload,
};
use crate::{http::request_body::RequestBody, limits::Limit};

/// Rooms that a worker keeps.
const SPARE: usize = 64;

/// Room for the head of a request and the index of a response's, of a worker; used again.
#[derive(Debug, Default)]
pub(in crate::upstream) struct SpareHeads(RefCell<Vec<(Vec<u8>, ResponseHead)>>);

/// See above.
pub(in crate::upstream) struct Exchange<'u> {
    upstream: &'u Upstream,
    connection: Rc<Http1>,
    /// `None`: the request is written.
    upload: Option<Upload>,
    heads: Heads,
    text: Vec<u8>,
}

impl<'u> Exchange<'u> {
    /// Nothing is written yet.
    pub(in crate::upstream) fn new(
        upstream: &'u Upstream,
        connection: &Rc<Http1>,
        parts: &Parts,
        body: RequestBody,
    ) -> Self {
        let (text, head) = upstream.spare_heads.0.borrow_mut().pop().unwrap_or_default();
        connection.begin(&upstream.spare_buffers);
        let limits = limits(upstream.local.limits());
        let reader = ResponseReader::new(&limits, parts.method == Method::HEAD);
        Self {
            upstream,
            connection: Rc::clone(connection),
            upload: Some(Upload::new(&connection.socket, parts, body, text)),
            heads: Heads { limits, reader, head },
            text: Vec::new(),
        }
    }

    /// Writes and reads on.
    ///
    /// # Errors
    /// When there is no response; the connection is of no use any more.
    pub(in crate::upstream) fn poll(
        &mut self,
        interim: &mut dyn FnMut(StatusCode, &HeaderMap),
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Http1Body>, TargetError>> {
        let uploaded = self.poll_upload(cx);
        // What came before the request's body broke, or the socket, is the response.
        match (self.heads.poll(&self.connection, interim, cx), uploaded) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Ready(Err(error)), _) => {
                if matches!(error, TargetError::Head(BadResponse::TooManyInterim)) {
                    self.upstream.local.events.limit_reached(Limit::InterimResponses, 1);
                }
                Poll::Ready(Err(error))
            }
            (read, _) => read,
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TargetError>> {
        let Some(upload) = &mut self.upload else { return Poll::Ready(Ok(())) };
        let uploaded = upload.poll(cx);
        if uploaded.is_ready()
            && let Some(upload) = self.upload.take()
        {
            if upload.deaf {
                self.connection.keeps.set(false);
            }
            self.text = upload.into_text();
        }
        uploaded
    }

    /// The response has begun: what is left of the request is written by a task of its own, as nobody asks for the response's
    /// body while the client takes none of it.
    pub(in crate::upstream) fn upload_beside(mut self, endpoint: &Endpoint) {
        let Some(mut upload) = self.upload.take() else { return };
        let connection = Rc::clone(&self.connection);
        connection.uploads.set(true);
        self.upstream.tasks.spawn(parties(&endpoint.target), async move {
            let written = std::future::poll_fn(|cx| upload.poll(cx)).await;
            connection.uploads.set(false);
            connection.keeps.set(connection.keeps.get() && !upload.deaf);
            // The target will not get the whole request: it must not take what it got for that.
            if written.is_err() {
                connection.close();
            }
        });
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let mut spare = self.upstream.spare_heads.0.borrow_mut();
        if spare.len() < SPARE {
            let mut head = std::mem::take(&mut self.heads.head);
            head.clear();
            spare.push((std::mem::take(&mut self.text), head));
        }
    }
}
