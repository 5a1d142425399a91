//! Bodies of requests on their way to a target: bounded, watched, never held.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::{
    body_error::BodyError, canonical, client_body::ClientBody, interim::Interim, peer::PeerState,
    write_stall::Coalesced,
};
use crate::{
    active_requests::{ActiveRequest, Fault, Waits},
    events::RequestEvent,
    limits::Limit,
    local::Local,
    memory::LARGE,
    upstream::retry_buffer::body::{BodyBuffer, UnsentBody},
};

/// How long a body waits for a target's `100 Continue` before it is sent all the same (RFC 9110, 10.1.1: a client must
/// not wait forever).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// A piece of a body that is shorter is copied where more of the body follows: it may wait for the other side in a queue that
/// counts its bytes, and would keep the whole buffer that it was read into, thousands of times its size.
const SMALL: usize = 2 * 1024;

/// A frame that keeps no more memory than about what it holds.
pub(crate) fn unshared(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.data_ref() {
        Some(data) if data.len() < SMALL => Frame::data(Bytes::copy_from_slice(data)),
        _ => frame,
    }
}

/// Holds a body back until the target asks for it.
struct Gate {
    interim: Rc<Interim>,
    patience: Option<Pin<Box<Sleep>>>,
}

/// A request body on its way to a target.
pub(crate) struct RequestBody {
    inner: Option<Coalesced<ClientBody>>,
    active: Rc<ActiveRequest>,
    local: Rc<Local>,
    gate: Option<Gate>,
    /// Bytes that may still come.
    left: u64,
    /// What is known of the HTTP/2 connection that it is sent on.
    peer: Option<Rc<PeerState>>,
    /// Keeps what is sent, where it may have to be sent again.
    kept: Option<BodyBuffer>,
    /// Bytes that came.
    passed: u64,
}

impl RequestBody {
    /// `gate`: the client waits for `100 Continue`, and the target's comes through this.
    pub(crate) fn new(
        inner: ClientBody,
        active: Rc<ActiveRequest>,
        local: Rc<Local>,
        gate: Option<Rc<Interim>>,
    ) -> Self {
        let limit = local.limits().body_bytes;
        let left = if limit == 0 { u64::MAX } else { limit };
        let inner = if inner.is_end_stream() { None } else { Some(Coalesced::new(inner)) };
        active.sent.set(inner.is_none());
        let gate = gate.filter(|_| inner.is_some()).map(|interim| Gate { interim, patience: None });
        Self { inner, active, local, gate, left, peer: None, kept: None, passed: 0 }
    }

    /// For sending a request without a body again.
    pub(crate) fn empty(active: Rc<ActiveRequest>, local: Rc<Local>) -> Self {
        Self { inner: None, active, local, gate: None, left: 0, peer: None, kept: None, passed: 0 }
    }

    /// Once more from its beginning: what is kept, then the rest.
    pub(crate) fn again(sent: BodyBuffer, rest: UnsentBody, active: Rc<ActiveRequest>, local: Rc<Local>) -> Self {
        sent.restart();
        let (inner, left) = (rest.inner, rest.left);
        let body = Self { inner, active, local, gate: None, left, peer: None, kept: Some(sent), passed: 0 };
        // Where nothing came of it, it has ended, and is not asked.
        body.active.sent.set(body.is_end_stream());
        body
    }

    /// From now on what is sent is kept; `None`: there is nothing to send.
    pub(crate) fn keep(&mut self) -> Option<BodyBuffer> {
        if self.kept.is_none() && self.inner.is_some() {
            self.kept = Some(BodyBuffer::default());
        }
        self.kept.clone()
    }

    /// It is sent on this connection.
    pub(crate) fn sent_to(&mut self, peer: &Rc<PeerState>) {
        self.peer = Some(Rc::clone(peer));
        if let Some(inner) = &mut self.inner {
            inner.sent_elsewhere();
        }
    }

    /// Frames that were kept are still to be sent.
    fn repeats(&self) -> bool {
        self.kept.as_ref().is_some_and(BodyBuffer::repeats)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_none() && !self.repeats()
    }

    /// The request of this body.
    pub(crate) fn active(&self) -> Rc<ActiveRequest> {
        Rc::clone(&self.active)
    }

    fn fail(&mut self, fault: Fault, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.inner = None;
        self.active.fault.set(Some(fault));
        if let Some(limit) = limit_of(fault) {
            self.active.span.emit(RequestEvent::LimitReached(limit));
        }
        Poll::Ready(Some(Err(error)))
    }

    fn progress(&self, waits: Waits) {
        // A target may answer before it has the whole body; then its answer is what is watched, and a body that goes on
        // is progress all the same.
        let waits = if self.active.answering() { self.active.waits() } else { waits };
        self.active.touch(waits, &self.local.clock);
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // hyper lets go of a body when it has written all of it.
        if self.active.sent.get() {
            self.active.span.emit(RequestEvent::RequestSent);
        }
        if let Some(kept) = self.kept.take() {
            kept.returned(UnsentBody { inner: self.inner.take(), left: self.left });
        }
    }
}

impl Gate {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.interim.poll_continued(cx).is_ready() {
            return Poll::Ready(());
        }
        self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(CONTINUE_PATIENCE))).as_mut().poll(cx)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.active.is_cut(cx) {
            this.inner = None;
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        if let Some(gate) = &mut this.gate {
            if gate.poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.gate = None;
        }
        if let Some(frame) = this.kept.as_ref().and_then(BodyBuffer::next) {
            this.progress(Waits::Answer);
            this.active.sent.set(this.is_end_stream());
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        match inner.poll_frame(this.peer.as_ref().map(|peer| &peer.write_stall), cx) {
            Poll::Pending if inner.holds_back() => {
                if this.active.waits() == Waits::ClientBody {
                    this.progress(Waits::Answer);
                }
                Poll::Pending
            }
            Poll::Pending => {
                if !this.active.answering() {
                    this.active.wait(Waits::ClientBody);
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                this.progress(Waits::Answer);
                if let Some(data) = frame.data_ref() {
                    let length = data.len() as u64;
                    if length > this.left {
                        return this.fail(Fault::TooLarge, BodyError::TooLarge);
                    }
                    this.left -= length;
                    this.passed = this.passed.saturating_add(length);
                    if this.passed > LARGE && !this.active.transfers(&this.local.shared) {
                        return this.fail(Fault::NoRoom, BodyError::NoRoom);
                    }
                    this.active.span.emit(RequestEvent::BodyReceived { bytes: data.len() });
                    if this.inner.as_ref().is_some_and(Coalesced::is_end_stream) {
                        this.active.sent.set(true);
                    }
                } else if let Some(trailers) = frame.trailers_mut() {
                    let many = trailers.len() > this.local.limits().headers as usize;
                    if many || canonical::request_trailers(trailers).is_err() {
                        return this.fail(Fault::Client, BodyError::Trailers);
                    }
                    this.active.sent.set(true);
                }
                if !this.active.sent.get() {
                    frame = unshared(frame);
                }
                if let Some(kept) = &this.kept {
                    kept.keep(&frame);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let fault =
                    if let BodyError::Refused(refusal) = error { Fault::Refused(refusal) } else { Fault::Client };
                this.fail(fault, error)
            }
            Poll::Ready(None) if this.active.is_stream() && inner.was_cut() => {
                this.fail(Fault::Client, BodyError::Reset)
            }
            Poll::Ready(None) => {
                this.progress(Waits::Answer);
                this.active.sent.set(true);
                this.inner = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.repeats() && self.inner.as_ref().is_none_or(Coalesced::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        if self.repeats() {
            // The request says its length itself, if it is known.
            return SizeHint::default();
        }
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Coalesced::size_hint)
    }
}

/// The bound that a fault or a stop hit, if it is one.
fn limit_of(fault: Fault) -> Option<Limit> {
    match fault {
        Fault::TooLarge => Some(Limit::BodyBytes),
        // Counted where there was no room, or where it is answered.
        Fault::Client | Fault::Refused(_) | Fault::NoRoom => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn a_small_piece_keeps_no_buffer() {
        for (length, alone) in [(1, true), (SMALL - 1, true), (SMALL, false)] {
            let mut room = BytesMut::from(&[7; 8 * SMALL][..]);
            let piece = unshared(Frame::data(room.split_to(length).freeze()));
            assert_eq!(piece.data_ref().unwrap(), &vec![7; length]);
            assert_eq!(room.freeze().is_unique(), alone, "{length}");
        }
    }
}
