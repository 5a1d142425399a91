//! Backpressure from a socket to the HTTP/2 bodies that are sent over it.
//!
//! HTTP/2's windows say how many bytes of a body may be sent, not how many frames. The HTTP library queues each piece of a
//! body as a frame of its own until the socket takes it, at hundreds of bytes a frame: a peer that opens its windows and
//! does not read its socket would have a body in pieces of a byte cost hundreds of times its length. So while the socket
//! takes nothing, bodies give the library no frames; what comes meanwhile is joined to one.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// Most bytes of a body that are read while its socket is stalled: as many as the library would queue.
const READ_AHEAD: usize = 64 * 1024;
/// A piece of this size, bytes, is not worth a copy: it waits as it is, and nothing is read behind it.
const LARGE_PIECE: usize = 2 * 1024;

/// Whether a socket takes bytes, and the bodies that wait until it does.
#[derive(Debug, Default)]
pub(crate) struct WriteStall {
    since: Cell<Option<u32>>,
    /// Counts how often `waiting` was emptied.
    round: Cell<u32>,
    waiting: RefCell<Vec<Waker>>,
}

/// A body's place among those that wait.
#[derive(Clone, Copy, Debug)]
struct Place {
    round: u32,
    index: usize,
}

impl WriteStall {
    /// Tick since when the socket has no room for what waits for it.
    pub(crate) fn since(&self) -> Option<u32> {
        self.since.get()
    }

    /// The socket has no room, as it is seen at this tick.
    pub(crate) fn begin(&self, tick: u32) {
        if self.since.get().is_none() {
            self.since.set(Some(tick));
        }
    }

    /// The socket took something.
    pub(crate) fn progress(&self) {
        self.since.set(None);
    }

    /// The socket took all that the library had for it: bodies may go on.
    pub(crate) fn flushed(&self) {
        self.since.set(None);
        if self.waiting.borrow().is_empty() {
            return;
        }
        self.round.set(self.round.get().wrapping_add(1));
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Whether a body has to wait; its task is woken when that ends.
    fn holds(&self, place: &mut Option<Place>, cx: &Context<'_>) -> bool {
        if self.since.get().is_none() {
            return false;
        }
        let mut waiting = self.waiting.borrow_mut();
        match *place {
            Some(Place { round, index }) if round == self.round.get() => waiting[index].clone_from(cx.waker()),
            _ => {
                *place = Some(Place { round: self.round.get(), index: waiting.len() });
                waiting.push(cx.waker().clone());
            }
        }
        true
    }
}

/// A body whose pieces are joined while the socket that they go to is stalled.
#[derive(Debug)]
pub(crate) struct Coalesced<B> {
    body: B,
    /// In a box of its own, as few bodies ever have it.
    ahead: Option<Box<ReadAhead>>,
}

/// What was read while the socket was stalled.
#[derive(Debug, Default)]
struct ReadAhead {
    place: Option<Place>,
    data: BytesMut,
    /// What follows `data`: a large piece, or the trailers.
    frame: Option<Frame<Bytes>>,
    /// The body has ended.
    ended: bool,
}

impl ReadAhead {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.frame.is_none()
    }

    fn is_full(&self) -> bool {
        self.ended || self.frame.is_some() || self.data.len() >= READ_AHEAD
    }

    fn push(&mut self, frame: Frame<Bytes>) {
        match frame.data_ref() {
            Some(piece) if piece.len() < LARGE_PIECE => self.data.extend_from_slice(piece),
            _ => self.frame = Some(frame),
        }
    }

    fn pop(&mut self) -> Option<Frame<Bytes>> {
        if self.data.is_empty() { self.frame.take() } else { Some(Frame::data(self.data.split().freeze())) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Coalesced<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, ahead: None }
    }

    /// From now on it is given another stall than before.
    pub(crate) fn sent_elsewhere(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.place = None;
        }
    }

    /// Whether something is held back until the socket takes bytes again.
    pub(crate) fn holds_back(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| !ahead.is_empty())
    }

    /// The next frame; `stall`: of the socket that it goes to, if that is HTTP/2.
    pub(crate) fn poll_frame(
        &mut self,
        stall: Option<&WriteStall>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(stall) = stall
            && stall.since().is_some()
        {
            let ahead = self.ahead.get_or_insert_default();
            if stall.holds(&mut ahead.place, cx) {
                return self.read_ahead(cx);
            }
        }
        if let Some(ahead) = &mut self.ahead {
            if let Some(frame) = ahead.pop() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if ahead.ended {
                return Poll::Ready(None);
            }
            self.ahead = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    /// Reads as much as may be held back; ready only with an error.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let ahead = self.ahead.get_or_insert_default();
        while !ahead.is_full() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => ahead.push(frame),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => ahead.ended = true,
            }
        }
        Poll::Pending
    }

    /// Whether nothing follows.
    pub(crate) fn is_end_stream(&self) -> bool {
        !self.holds_back() && (self.body.is_end_stream() || self.ahead.as_ref().is_some_and(|ahead| ahead.ended))
    }

    /// Whether a body of HTTP/2 that has ended was cut: its stream was reset with `NO_ERROR`, which the HTTP library takes for the
    /// end. A stream that has its end says so.
    pub(crate) fn was_cut(&self) -> bool {
        !self.body.is_end_stream()
    }

    /// How much follows, as far as it is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.holds_back() { SizeHint::default() } else { self.body.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::Wake,
    };

    use http::HeaderMap;

    use super::*;

    /// Frames that are there at once, and then the end, or more to come.
    struct Pieces(VecDeque<Frame<Bytes>>, bool);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn pieces(count: usize, size: usize) -> VecDeque<Frame<Bytes>> {
        (0..count).map(|_| Frame::data(Bytes::from(vec![7; size]))).collect()
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Lengths of the data frames that come, and whether trailers and the end do.
    fn drain(body: &mut Coalesced<Pieces>, stall: &WriteStall) -> (Vec<usize>, bool, bool) {
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut lengths, mut trailers) = (Vec::new(), false);
        loop {
            match body.poll_frame(Some(stall), cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                    Some(data) => lengths.push(data.len()),
                    None => trailers = true,
                },
                Poll::Ready(_) => return (lengths, trailers, true),
                Poll::Pending => return (lengths, trailers, false),
            }
        }
    }

    #[test]
    fn pieces_are_joined_only_while_the_socket_is_stalled() {
        let stall = WriteStall::default();
        let mut body = Coalesced::new(Pieces(pieces(3, 1), false));
        assert_eq!(drain(&mut body, &stall), (vec![1; 3], false, false));
        body.body.0 = pieces(3, 1);
        stall.begin(0);
        assert_eq!(drain(&mut body, &stall), (vec![], false, false));
        assert!(body.holds_back() && !body.is_end_stream());
        stall.flushed();
        assert_eq!(drain(&mut body, &stall), (vec![3], false, false));
        body.body.0 = pieces(2, 1);
        assert_eq!(drain(&mut body, &stall), (vec![1; 2], false, false));
    }

    #[test]
    fn no_more_than_is_allowed_is_read_ahead() {
        let stall = WriteStall::default();
        stall.begin(0);
        for (size, left) in [(1, 100_000 - READ_AHEAD), (LARGE_PIECE, 99_999)] {
            let mut body = Coalesced::new(Pieces(pieces(100_000, size), true));
            for _ in 0..3 {
                assert_eq!(drain(&mut body, &stall), (vec![], false, false));
                assert_eq!(body.body.0.len(), left, "{size}");
            }
        }
    }

    #[test]
    fn the_order_is_kept_to_the_end() {
        let stall = WriteStall::default();
        let mut frames = pieces(5, 10);
        frames.push_back(Frame::trailers(HeaderMap::new()));
        let mut body = Coalesced::new(Pieces(frames, true));
        stall.begin(0);
        assert_eq!(drain(&mut body, &stall), (vec![], false, false));
        stall.flushed();
        assert_eq!(drain(&mut body, &stall), (vec![50], true, true));
        let mut body = Coalesced::new(Pieces(pieces(1, 10), true));
        stall.begin(0);
        assert_eq!(drain(&mut body, &stall), (vec![], false, false));
        stall.flushed();
        assert_eq!(drain(&mut body, &stall), (vec![10], false, true));
        assert!(body.is_end_stream());
    }

    #[test]
    fn each_body_waits_once_and_is_woken_once() {
        let (stall, woken) = (WriteStall::default(), Arc::<Woken>::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut bodies: Vec<_> = (0..3).map(|_| Coalesced::new(Pieces(VecDeque::new(), false))).collect();
        for round in 1..4 {
            stall.begin(round);
            for _ in 0..5 {
                for body in &mut bodies {
                    assert!(body.poll_frame(Some(&stall), &mut Context::from_waker(&waker)).is_pending());
                }
            }
            assert_eq!(stall.waiting.borrow().len(), 3);
            stall.progress();
            stall.begin(round);
            stall.flushed();
            assert_eq!(woken.0.load(Relaxed), 3 * round as usize);
        }
    }
}
