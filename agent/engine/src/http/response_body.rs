//! Bodies of responses on their way to a client: bounded, watched, never held.
//!
//! The HTTP library takes a piece of an HTTP/2 body before the client's window has room for it, and asks for the next one when the
//! window has let this one through. So a piece counts as sent, and the response as complete, at the next question; the end of an
//! HTTP/2 body is never said together with its last piece.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use brattice_wire::records::FailureReason;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{body_error::BodyError, failure::body_failure, headers, request_body::unshared, write_stall::Coalesced};
use crate::{
    active_requests::{Expired, Registration, Waits},
    events::RequestEvent,
    memory::LARGE,
    upstream::{lease::Lease, target_body::TargetBody},
};

/// An answer's body.
pub(crate) enum ResponseBody {
    /// Ours.
    Own(Own),
    /// A target's.
    Forwarded(Forwarded),
    /// None: the connection is no HTTP any more.
    Switched,
}

/// Our own body on its way to the client.
pub(crate) struct Own {
    text: Option<Bytes>,
    /// Bytes of a piece that was given to the HTTP library and is not known to be sent.
    given: usize,
    registration: Registration,
}

/// A target's body on its way to the client.
pub(crate) struct Forwarded {
    inner: Coalesced<TargetBody>,
    lease: Option<Lease>,
    registration: Registration,
    /// Bytes that came.
    passed: u64,
    /// As [`Own::given`].
    given: usize,
    /// Nothing follows that piece.
    ended: bool,
    /// Why it ends before its end: told when what came before it had its turn.
    failed: Option<BodyError>,
}

impl ResponseBody {
    /// Our own response.
    pub(crate) fn own(text: Bytes, mut registration: Registration) -> Self {
        registration.complete = text.is_empty();
        // A client whose window is closed has it waited for.
        registration.active.touch(Waits::ClientReading, &registration.local().clock);
        Self::Own(Own { text: Some(text).filter(|text| !text.is_empty()), given: 0, registration })
    }

    /// A target's answer; `lease` is the connection that it comes on.
    pub(crate) fn forwarded(inner: TargetBody, lease: Lease, registration: Registration) -> Self {
        // Until it is asked for, the client's window is closed.
        registration.active.touch(Waits::ClientReading, &registration.local().clock);
        let (inner, lease) = (Coalesced::new(inner), Some(lease));
        let mut body = Forwarded { inner, lease, registration, passed: 0, given: 0, ended: false, failed: None };
        if body.inner.is_end_stream() {
            body.completed();
        }
        Self::Forwarded(body)
    }
}

impl Own {
    fn poll_frame(&mut self) -> Option<Frame<Bytes>> {
        let active = &self.registration.active;
        self.given = match &self.text {
            Some(text) => text.len(),
            None => {
                active.span.emit(RequestEvent::BodySent { bytes: std::mem::take(&mut self.given) });
                self.registration.complete = true;
                0
            }
        };
        if !active.is_stream() {
            active.span.emit(RequestEvent::BodySent { bytes: std::mem::take(&mut self.given) });
            self.registration.complete = true;
        }
        self.text.take().map(Frame::data)
    }
}

impl Forwarded {
    /// The client has the whole response, as far as its window says.
    fn completed(&mut self) {
        self.answered();
        self.registration.complete = true;
    }

    /// The target's answer is complete; its connection can serve another request.
    fn answered(&mut self) {
        let sent = self.registration.active.sent.get();
        self.registration.active.cut();
        if let Some(lease) = self.lease.take()
            && sent
        {
            lease.give_back();
        }
    }

    /// The HTTP/2 library throws away what it has not written when a body fails: the head, and data. So it is told one turn later,
    /// when it has written what the socket takes.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.given > 0 {
            self.registration.active.span.emit(RequestEvent::BodySent { bytes: std::mem::take(&mut self.given) });
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.ended {
            self.completed();
            return Poll::Ready(None);
        }
        let next = self.poll_next(cx);
        let Poll::Ready(Some(Err(error))) = next else { return next };
        self.failed = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let active = &self.registration.active;
        let stall = active.is_stream().then_some(&self.registration.control.write_stall);
        match self.inner.poll_frame(stall, cx) {
            Poll::Pending if self.inner.holds_back() => {
                if active.waits() != Waits::ClientReading {
                    active.touch(Waits::ClientReading, &self.registration.local().clock);
                }
                Poll::Pending
            }
            Poll::Pending => {
                active.wait(Waits::TargetBody);
                if active.poll_expired(cx) == Some(Expired::TargetBody) {
                    active.span.emit(RequestEvent::Failed(FailureReason::TargetDataTimeout));
                    self.lease = None;
                    return Poll::Ready(Some(Err(BodyError::Stopped)));
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                active.touch(Waits::ClientReading, &self.registration.local().clock);
                if let Some(data) = frame.data_ref() {
                    if active.is_stream() {
                        self.given = data.len();
                    } else {
                        active.span.emit(RequestEvent::BodySent { bytes: data.len() });
                    }
                    self.passed = self.passed.saturating_add(data.len() as u64);
                    let local = self.registration.local();
                    if self.passed > LARGE && !active.transfers(&local.shared) {
                        active.span.emit(RequestEvent::Failed(FailureReason::ClientRateLimited));
                        self.lease = None;
                        return Poll::Ready(Some(Err(BodyError::NoRoom)));
                    }
                }
                if let Some(trailers) = frame.trailers_mut() {
                    if trailers.len() > self.registration.local().limits().headers as usize {
                        active.span.emit(RequestEvent::Failed(FailureReason::TargetProtocolError));
                        self.lease = None;
                        return Poll::Ready(Some(Err(BodyError::Trailers)));
                    }
                    headers::clean_response_trailers(trailers);
                    active.span.emit(RequestEvent::Trailers(trailers));
                    self.completed();
                } else if self.inner.is_end_stream() {
                    self.ended = active.is_stream();
                    if self.ended { self.answered() } else { self.completed() }
                } else if active.is_stream() {
                    frame = unshared(frame);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let by_request = active.fault.get().map(body_failure);
                let reason = by_request.unwrap_or_else(|| error.reason());
                active.span.emit(RequestEvent::Failed(reason));
                self.lease = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) if self.lease.as_ref().is_some_and(Lease::is_http2) && self.inner.was_cut() => {
                active.span.emit(RequestEvent::Failed(FailureReason::TargetConnectionClosed));
                self.lease = None;
                Poll::Ready(Some(Err(BodyError::Reset)))
            }
            Poll::Ready(None) => {
                self.completed();
                Poll::Ready(None)
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Own(own) => Poll::Ready(own.poll_frame().map(Ok)),
            Self::Forwarded(body) => body.poll_frame(cx),
            Self::Switched => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(own) => own.registration.complete,
            Self::Forwarded(body) => body.inner.is_end_stream() && (!body.ended || body.registration.complete),
            Self::Switched => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(own) => SizeHint::with_exact(own.text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Forwarded(body) => body.inner.size_hint(),
            Self::Switched => SizeHint::with_exact(0),
        }
    }
}
