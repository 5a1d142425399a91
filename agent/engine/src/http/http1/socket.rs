//! A client's socket, shared by the connection's task, which reads heads and writes, and by the task that reads a request's body.
//! Both run in the worker's thread. The socket is closed when the connection's task ends, whoever still knows of it.

use std::{
    cell::RefCell,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use brattice_http1::{Limits, RequestHead};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::{
    input::{Input, Next},
    output::Output,
    spare::{HeadReader, Spare},
};
use crate::{
    clock::Clock,
    events::ConnectionEvent,
    http::{body_error::BodyError, control::Control, refusal::Refusal},
    transport::Stream,
    turn::{self, Turn},
};

/// Bytes that are read beyond a request while it is not answered, so that a client that goes away is noticed.
const AHEAD: usize = 4 * 1024;

/// See above.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    control: Rc<Control>,
    clock: Rc<Clock>,
    spare: Rc<Spare>,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None`: the connection has ended, or speaks another protocol.
    stream: Option<Stream>,
    input: Input,
    turn: Turn,
    /// Reading failed: the client is gone.
    broken: bool,
    /// Of the present request on the connection, from 1.
    number: u64,
}

/// Of a body; `None`: it has ended.
type NextFrame = Option<Result<Frame<Bytes>, BodyError>>;

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes.
    Some,
    /// The client sends no more.
    End,
    /// The client is gone.
    Broken,
}

impl ClientSocket {
    /// `bytes` were read already, into a block of `spare`.
    pub(crate) fn new(
        stream: Stream,
        bytes: BytesMut,
        (control, clock, spare): (&Rc<Control>, &Rc<Clock>, &Rc<Spare>),
    ) -> Rc<Self> {
        let inner =
            Inner { stream: Some(stream), input: Input::of(bytes), turn: Turn::default(), broken: false, number: 0 };
        let (control, clock, spare) = (Rc::clone(control), Rc::clone(clock), Rc::clone(spare));
        Rc::new(Self { control, clock, spare, inner: RefCell::new(inner) })
    }

    // ---- heads

    /// Looks for a head in what was read.
    pub(super) fn head(&self, reader: &mut HeadReader) -> Result<Option<usize>, Refusal> {
        self.inner.borrow().input.head(reader)
    }

    /// Whether nothing was read that is not consumed.
    pub(super) fn is_empty(&self) -> bool {
        self.inner.borrow().input.bytes.is_empty()
    }

    /// Reads on, into a block of the worker's where nothing was read before.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Read> {
        let inner = &mut *self.inner.borrow_mut();
        let read = ready!(self.poll_more(inner, cx, AHEAD));
        self.detach(inner);
        Poll::Ready(read)
    }

    /// Ready while something is left of the connection's turn.
    pub(super) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.borrow_mut().turn.poll(cx)
    }

    /// Takes a head of this length; its body, of which `head` says the length, is next.
    pub(super) fn take_head(&self, length: usize, head: &RequestHead, limits: &Limits) -> (Bytes, u64) {
        let inner = &mut *self.inner.borrow_mut();
        let bytes = inner.input.bytes.split_to(length).freeze();
        inner.input.begin(head, limits);
        inner.turn.spend(0, turn::REQUEST);
        inner.number += 1;
        self.release(inner);
        (bytes, inner.number)
    }

    /// What follows is not read: it is thrown away.
    pub(super) fn discard(&self) {
        self.inner.borrow_mut().input.bytes = BytesMut::new();
    }

    // ---- bodies

    /// The next part of this request's body, and whether it is the last one.
    pub(super) fn poll_body(&self, number: u64, cx: &mut Context<'_>) -> Poll<(NextFrame, bool)> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.number != number {
            // The connection has another request: this one was whole.
            return Poll::Ready((None, true));
        }
        if inner.stream.is_none() || inner.broken {
            return Poll::Ready((Some(Err(BodyError::Ended)), true));
        }
        if inner.input.want() {
            self.control.wake();
        }
        loop {
            ready!(inner.turn.poll(cx));
            let next = inner.input.next();
            let pieces = inner.input.take_pieces();
            inner.turn.spend(0, pieces);
            let frame = match next {
                Ok(Next::Frame(frame)) => Some(Ok(frame)),
                Ok(Next::End) => None,
                Err(refusal) => Some(Err(BodyError::Refused(refusal))),
                Ok(Next::More) => match ready!(self.poll_body_bytes(inner, cx)) {
                    Read::Some => continue,
                    Read::End => Some(Err(BodyError::Ended)),
                    Read::Broken => {
                        // The connection ends.
                        self.control.wake();
                        Some(Err(BodyError::Ended))
                    }
                },
            };
            let whole = inner.input.is_whole();
            if whole {
                self.release(inner);
                // The connection looks after its client again.
                self.control.wake();
            }
            return Poll::Ready((frame, whole));
        }
    }

    fn poll_body_bytes(&self, inner: &mut Inner, cx: &mut Context<'_>) -> Poll<Read> {
        let (before, room) = (inner.input.bytes.len(), inner.input.wanted());
        if inner.input.bytes.is_empty() && room <= AHEAD {
            // Less than a block has: no buffer of its own.
            let read = ready!(self.poll_more(inner, cx, room));
            self.detach(inner);
            return Poll::Ready(read);
        }
        if before == 0 {
            inner.input.bytes.reserve(room);
        }
        let read = ready!(self.poll_more(inner, cx, room));
        inner.input.brought(inner.input.bytes.len() - before, room);
        Poll::Ready(read)
    }

    /// Nobody reads the body of this request any more.
    pub(super) fn abandon_body(&self, number: u64) {
        let inner = &mut *self.inner.borrow_mut();
        if inner.number == number {
            inner.input.abandon();
        }
    }

    /// Reads to its end what is there of a body that nobody reads: a small one costs no connection.
    pub(super) fn drain_body(&self, cx: &mut Context<'_>) {
        let inner = &mut *self.inner.borrow_mut();
        let mut read = false;
        while let Ok(next) = inner.input.next() {
            match next {
                Next::Frame(_) => {}
                Next::End => break,
                Next::More if read => break,
                Next::More => {
                    read = true;
                    if self.poll_more(inner, cx, AHEAD) != Poll::Ready(Read::Some) {
                        break;
                    }
                    self.detach(inner);
                }
            }
        }
        self.release(inner);
    }

    /// Asks about the input.
    pub(super) fn input<T>(&self, ask: impl FnOnce(&mut Input) -> T) -> T {
        ask(&mut self.inner.borrow_mut().input)
    }

    // ---- the client

    /// Ready when the client of a request that is not answered is gone. A client that has closed only its sending side is not,
    /// unless it offers another protocol (`offers`).
    pub(super) fn poll_gone(&self, offers: bool, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.broken {
            return Poll::Ready(());
        }
        if !inner.input.is_whole() {
            // Who reads the body notices.
            return Poll::Pending;
        }
        while !inner.input.ended && inner.input.bytes.len() < AHEAD {
            let read = ready!(self.poll_more(inner, cx, AHEAD));
            self.detach(inner);
            match read {
                Read::Some => {}
                Read::Broken => return Poll::Ready(()),
                Read::End => break,
            }
        }
        if !inner.input.ended {
            return Poll::Pending;
        }
        // A client that is gone has reset what it was sent.
        let reset = || inner.stream.as_ref().is_none_or(|stream| !matches!(stream.take_error(), Ok(None)));
        if offers || self.control.was_probed() && reset() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reads into what there is, or into a block of the worker's.
    fn poll_more(&self, inner: &mut Inner, cx: &mut Context<'_>, room: usize) -> Poll<Read> {
        let Some(stream) = inner.stream.as_mut().filter(|_| !inner.broken) else { return Poll::Ready(Read::Broken) };
        if inner.input.ended {
            return Poll::Ready(Read::End);
        }
        ready!(inner.turn.poll(cx));
        let bytes = &mut inner.input.bytes;
        if bytes.capacity() == 0 {
            *bytes = self.spare.block();
        } else {
            bytes.reserve(room);
        }
        let read = pin!(stream.read_buf(bytes)).poll(cx);
        if !matches!(read, Poll::Ready(Ok(1..))) && bytes.is_empty() {
            self.spare.give_block(std::mem::take(bytes));
        }
        match read {
            Poll::Pending => {
                inner.turn.end();
                Poll::Pending
            }
            Poll::Ready(Ok(0)) => {
                inner.input.ended = true;
                self.control.half_closed(self.clock.tick());
                Poll::Ready(Read::End)
            }
            Poll::Ready(Ok(count)) => {
                inner.turn.spend(count, 0);
                self.control.connection.emit(ConnectionEvent::Received { bytes: count });
                Poll::Ready(Read::Some)
            }
            Poll::Ready(Err(_)) => {
                inner.broken = true;
                Poll::Ready(Read::Broken)
            }
        }
    }

    /// After a read: the room behind what came is the worker's again.
    fn detach(&self, inner: &mut Inner) {
        let bytes = &mut inner.input.bytes;
        if !bytes.is_empty() {
            let came = bytes.split();
            self.spare.give_block(std::mem::replace(bytes, came));
        }
    }

    /// A connection has no buffer while it has nothing in it.
    fn release(&self, inner: &mut Inner) {
        if inner.input.bytes.is_empty() {
            inner.input.bytes = BytesMut::new();
        }
    }

    /// Writes all that there is; ready without an error when it was.
    pub(super) fn poll_write(&self, output: &mut Output, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.inner.borrow_mut();
        let Some(stream) = &mut inner.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        while !output.is_empty() {
            let (slices, count) = output.slices();
            let written = Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]);
            match written {
                Poll::Pending => {
                    self.control.write_stall.begin(self.clock.tick());
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    output.wrote(count);
                    self.control.connection.emit(ConnectionEvent::Sent { bytes: count });
                    self.control.wrote.set(self.clock.tick());
                    self.control.write_stall.progress();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        self.control.write_stall.flushed();
        Poll::Ready(Ok(()))
    }

    /// Tells the client that no more comes.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner.borrow_mut().stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Throws away what the client sends, at most this many bytes. Ready when it sends no more, is gone, or sends on and on.
    pub(super) fn poll_discard(&self, left: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        let Some(stream) = inner.stream.as_mut().filter(|_| !inner.input.ended) else { return Poll::Ready(()) };
        let mut room = [0; AHEAD];
        loop {
            let mut buf = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() && *left >= buf.filled().len() => {
                    let bytes = buf.filled().len();
                    *left -= bytes;
                    self.control.connection.emit(ConnectionEvent::Received { bytes });
                }
                _ => return Poll::Ready(()),
            }
        }
    }

    /// The stream, and what was read behind the last message: the connection is no HTTP any more.
    pub(super) fn take(&self) -> Option<(Stream, Bytes)> {
        let inner = &mut *self.inner.borrow_mut();
        let early = std::mem::take(&mut inner.input.bytes).freeze();
        inner.stream.take().map(|stream| (stream, early))
    }
}
