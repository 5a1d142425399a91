//! The socket of a connection to an HTTP/1.1 endpoint. Whoever uses the connection polls it; no task of its own does. It can be
//! closed from elsewhere at any time: with its target's alias, or when its response is complete and its request's body is not.

use std::{
    cell::RefCell,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::{
    tasks::Close,
    transport::Stream,
    waker::{park, wake},
};

/// See above.
#[derive(Debug)]
pub(super) struct Socket {
    /// `None`: it was closed, or has left HTTP.
    stream: RefCell<Option<Stream>>,
    /// Who waits for bytes of the target, and who waits until it takes some.
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

impl Socket {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream: RefCell::new(Some(stream)), reader: RefCell::default(), writer: RefCell::default() }
    }

    /// Takes the stream out: what is left here is closed.
    pub(super) fn take(&self) -> Option<Stream> {
        self.stream.borrow_mut().take()
    }

    /// Whether it is open, and the target has said nothing and not ended it. For a connection that idles; asks the kernel
    /// only if it has told of something.
    pub(super) fn is_quiet(&self) -> bool {
        let would_block = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.stream.borrow().as_ref().is_some_and(|stream| stream.try_read(&mut [0]).is_err_and(would_block))
    }

    /// Reads at most `most` bytes behind what is in the buffer; 0: the target sends no more.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = &mut *stream else { return Poll::Ready(Err(closed())) };
        park(&self.reader, cx);
        buffer.reserve(most);
        let mut room = buffer.limit(most);
        pin!(stream.read_buf(&mut room)).poll(cx)
    }

    /// Writes as much of the parts as is taken now, at least one byte.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = &mut *stream else { return Poll::Ready(Err(closed())) };
        park(&self.writer, cx);
        match ready!(Pin::new(stream).poll_write_vectored(cx, parts))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => Poll::Ready(Ok(count)),
        }
    }
}

impl Close for Socket {
    fn close(&self) {
        drop(self.take());
        wake(&self.reader);
        wake(&self.writer);
    }
}

fn closed() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}
