//! A stream in memory, for tests: what one end writes the other reads, in the same thread.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::io::ReadBuf;

/// One end.
#[derive(Debug)]
pub(super) struct End {
    reads: Rc<RefCell<Pipe>>,
    writes: Rc<RefCell<Pipe>>,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    state: State,
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// No more bytes come.
    Ended,
    /// Bytes that were not read are lost.
    Reset,
}

pub(super) fn pair(capacity: usize) -> (End, End) {
    let pipe = || {
        let (bytes, wakers) = (VecDeque::new(), Vec::new());
        Rc::new(RefCell::new(Pipe { bytes, capacity, state: State::Open, wakers }))
    };
    let (there, back) = (pipe(), pipe());
    (End { reads: Rc::clone(&back), writes: Rc::clone(&there) }, End { reads: there, writes: back })
}

impl Pipe {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    fn end(&mut self, state: State) {
        if self.state != State::Reset {
            self.state = state;
        }
        self.wake();
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.state {
            State::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            State::Open if self.bytes.is_empty() => return Err(io::ErrorKind::WouldBlock.into()),
            State::Open | State::Ended => {}
        }
        let count = buffer.len().min(self.bytes.len());
        self.bytes.drain(..count).zip(buffer).for_each(|(byte, place)| *place = byte);
        self.wake();
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.capacity - self.bytes.len();
        match self.state {
            State::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            State::Ended => return Err(io::ErrorKind::BrokenPipe.into()),
            State::Open if room == 0 => return Err(io::ErrorKind::WouldBlock.into()),
            State::Open => {}
        }
        let count = bytes.len().min(room);
        self.bytes.extend(&bytes[..count]);
        self.wake();
        Ok(count)
    }
}

/// The result, or `Pending` where it would block.
fn poll<T>(
    pipe: &RefCell<Pipe>,
    cx: &Context<'_>,
    attempt: impl Fn(&mut Pipe) -> io::Result<T>,
) -> Poll<io::Result<T>> {
    let mut pipe = pipe.borrow_mut();
    match attempt(&mut pipe) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            pipe.wakers.push(cx.waker().clone());
            Poll::Pending
        }
        result => Poll::Ready(result),
    }
}

impl End {
    pub(super) fn shutdown_write(&self) {
        self.writes.borrow_mut().end(State::Ended);
    }

    pub(super) fn reset(&self) {
        self.writes.borrow_mut().end(State::Reset);
        self.reads.borrow_mut().end(State::Reset);
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads.borrow_mut().read(buffer)
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.writes.borrow_mut().write(bytes)
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        let ready = |pipe: &mut Pipe| match pipe.state {
            State::Open if pipe.bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        };
        poll_fn(|cx| poll(&self.reads, cx, ready)).await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        let ready = |pipe: &mut Pipe| match pipe.state {
            State::Open if pipe.bytes.len() == pipe.capacity => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        };
        poll_fn(|cx| poll(&self.writes, cx, ready)).await
    }

    pub(super) fn poll_read(&self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.reads.borrow_mut();
        match pipe.read(buf.initialize_unfilled()) {
            Ok(count) => {
                buf.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pipe.wakers.push(cx.waker().clone());
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(super) fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll(&self.writes, cx, |pipe| pipe.write(bytes))
    }
}

/// As a socket's: what was written is still read.
impl Drop for End {
    fn drop(&mut self) {
        self.writes.borrow_mut().end(State::Ended);
        self.reads.borrow_mut().end(State::Ended);
    }
}
