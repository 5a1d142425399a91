//! Interim responses (1xx) to an HTTP/1 connection's present request: those of its target, and the engine's own.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::headers;
use crate::waker::{park, wake};

/// Interim responses of a target that may wait for a client that does not read.
const MOST_INTERIM: usize = 16;

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Interim {
    waiting: RefCell<VecDeque<Bytes>>,
    /// The target has asked for the body.
    continued: Cell<bool>,
    /// Number of the request to which they may be sent, from 1; 0: its final response has begun, or there is none, or its
    /// client speaks HTTP/1.0.
    open: Cell<u64>,
    /// The present request's client was sent [`PROBE`].
    probed: Cell<bool>,
    /// The connection's task, which writes them.
    client: RefCell<Option<Waker>>,
    /// The task that sends the request's body.
    gate: RefCell<Option<Waker>>,
}

/// What any client of HTTP/1.1 reads and ignores (RFC 9110, 15.2).
const PROBE: &[u8] = brattice_http1::write::CONTINUE;

impl Interim {
    /// A request begins: forgets what an earlier one left.
    pub(crate) fn begin(&self, number: u64, http11: bool) {
        self.continued.set(false);
        self.probed.set(false);
        self.open.set(if http11 { number } else { 0 });
    }

    /// The final response begins.
    pub(crate) fn end(&self) {
        self.open.set(0);
    }

    /// A target sent an interim response. 100 opens the gate of the body, others are kept for the client if it can have
    /// them (`forward`: the number of its request).
    pub(crate) fn received(&self, status: StatusCode, headers: &HeaderMap, forward: Option<u64>) {
        if status == StatusCode::CONTINUE {
            self.continued.set(true);
            wake(&self.gate);
        } else if forward == Some(self.open.get())
            && let Some(bytes) = written(status, headers)
        {
            self.push(bytes);
        }
    }

    /// Has the client sent something that it ignores if it is there, and resets the connection for if it is not. False: it
    /// cannot be sent such a thing now, or was sent it for its present request already.
    pub(super) fn probe(&self) -> bool {
        if self.open.get() == 0 || self.probed.replace(true) {
            return false;
        }
        self.push(Bytes::from_static(PROBE));
        true
    }

    fn push(&self, bytes: Bytes) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < MOST_INTERIM {
            waiting.push_back(bytes);
        }
        drop(waiting);
        wake(&self.client);
    }

    /// The connection's task is polled with this waker.
    pub(crate) fn park(&self, cx: &Context<'_>) {
        park(&self.client, cx);
    }

    /// Whether the target asked for the body; `cx` is woken when it does.
    pub(crate) fn poll_continued(&self, cx: &Context<'_>) -> Poll<()> {
        park(&self.gate, cx);
        if self.continued.get() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The next bytes to write.
    pub(crate) fn next(&self) -> Option<Bytes> {
        self.waiting.borrow_mut().pop_front()
    }
}

/// An interim response as HTTP/1.1 writes it; `None` for 101, which would end HTTP.
fn written(status: StatusCode, headers: &HeaderMap) -> Option<Bytes> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return None;
    }
    let mut headers = headers.clone();
    headers::clean_response(&mut headers);
    headers.remove(http::header::CONTENT_LENGTH);
    let mut bytes =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in &headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    Some(bytes.into())
}
