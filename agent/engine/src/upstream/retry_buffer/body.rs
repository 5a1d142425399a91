//! The part of a request's body that was sent, in case that it must be sent again.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::http::{client_body::ClientBody, write_stall::Coalesced};

/// Most bytes of a request's body that are kept until the target has begun its answer ...
const BODY_BYTES: usize = 64 * 1_024;
/// ... in at most this many frames. A longer body cannot be sent again.
const BODY_FRAMES: usize = 64;

/// The part of a request's body that was sent, until the target has begun its response. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct BodyBuffer(Rc<RefCell<Parts>>);

#[derive(Default)]
struct Parts {
    frames: Vec<Part>,
    bytes: usize,
    /// This many of the frames are sent; fewer than all where they are sent again.
    sent: usize,
    /// It was too much, or the answer has begun: it will not be sent again.
    over: bool,
    rest: Option<UnsentBody>,
    waker: Option<Waker>,
}

enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// The part that was not sent yet.
pub(crate) struct UnsentBody {
    pub(crate) inner: Option<Coalesced<ClientBody>>,
    /// Bytes that may still come.
    pub(crate) left: u64,
}

impl BodyBuffer {
    /// Keeps a frame that is being sent.
    pub(crate) fn keep(&self, frame: &Frame<Bytes>) {
        let mut parts = self.0.borrow_mut();
        if parts.over {
            return;
        }
        let part = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Part::Data(data.clone()),
            (None, Some(trailers)) => Part::Trailers(trailers.clone()),
            (None, None) => return,
        };
        parts.bytes += part.len();
        parts.frames.push(part);
        parts.sent = parts.frames.len();
        if parts.bytes > BODY_BYTES || parts.frames.len() > BODY_FRAMES {
            parts.forget();
        }
    }

    /// All of it is to be sent again.
    pub(crate) fn restart(&self) {
        self.0.borrow_mut().sent = 0;
    }

    /// Whether kept frames are to be sent again.
    pub(crate) fn repeats(&self) -> bool {
        let parts = self.0.borrow();
        parts.sent < parts.frames.len()
    }

    /// The next of them.
    pub(crate) fn next(&self) -> Option<Frame<Bytes>> {
        let mut parts = self.0.borrow_mut();
        let frame = match parts.frames.get(parts.sent)? {
            Part::Data(data) => Frame::data(data.clone()),
            Part::Trailers(trailers) => Frame::trailers(trailers.clone()),
        };
        parts.sent += 1;
        if parts.over {
            parts.forget();
        }
        Some(frame)
    }

    /// The body is not sent any more; what is left of it.
    pub(crate) fn returned(&self, rest: UnsentBody) {
        let mut parts = self.0.borrow_mut();
        if !parts.over {
            parts.rest = Some(rest);
        }
        if let Some(waker) = parts.waker.take() {
            waker.wake();
        }
    }

    /// Waits until the body is not sent any more. `None`: it cannot be sent again.
    pub(crate) fn poll_rest(&self, cx: &Context<'_>) -> Poll<Option<UnsentBody>> {
        let mut parts = self.0.borrow_mut();
        match parts.rest.take() {
            Some(rest) => Poll::Ready(Some(rest)),
            None if parts.over => Poll::Ready(None),
            None => {
                parts.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// It will not be sent again.
    pub(crate) fn forget(&self) {
        self.0.borrow_mut().forget();
    }
}

impl Parts {
    fn forget(&mut self) {
        self.over = true;
        self.rest = None;
        // A part that is being sent again is still needed.
        if self.sent == self.frames.len() {
            self.frames = Vec::new();
            self.sent = 0;
        }
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(trailers) => trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_kept_up_to_its_bounds() {
        for (frames, size, kept) in [(64, 1, true), (65, 1, false), (4, 16 * 1_024, true), (5, 16 * 1_024, false)] {
            let sent = BodyBuffer::default();
            for _ in 0..frames {
                sent.keep(&Frame::data(Bytes::from(vec![7; size])));
            }
            assert!(!sent.repeats());
            sent.returned(UnsentBody { inner: None, left: 9 });
            let cx = Context::from_waker(Waker::noop());
            let Poll::Ready(rest) = sent.poll_rest(&cx) else { panic!("it was returned") };
            assert_eq!(rest.map(|rest| rest.left), kept.then_some(9), "{frames} of {size}");
            sent.restart();
            let repeated = std::iter::from_fn(|| sent.next()).count();
            assert_eq!(repeated, if kept { frames } else { 0 }, "{frames} of {size}");
        }
    }

    #[test]
    fn what_is_being_sent_again_outlives_the_answer() {
        let sent = BodyBuffer::default();
        for byte in 0..3 {
            sent.keep(&Frame::data(Bytes::from(vec![byte])));
        }
        sent.restart();
        let next = || sent.next().map(|frame| frame.data_ref().map(|data| data[0]));
        assert_eq!(next(), Some(Some(0)));
        sent.forget();
        assert_eq!([next(), next(), next()], [Some(Some(1)), Some(Some(2)), None]);
        assert!(sent.0.borrow().frames.is_empty());
    }
}
