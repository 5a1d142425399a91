//! An HTTP/2 target's socket as hyper sees it: its frames are counted, and bounded.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::super::endpoint::OpenConnection;
use crate::{
    clock::Clock,
    http::{
        frames::{Allowance, Frames},
        peer::{PeerReader, PeerState},
        write_stall::WriteStall,
    },
    limits::Limit,
    local::Local,
    transport::Stream,
    turn::Turn,
};

/// Requests of a connection whose header sections may all still come.
const MOST_STREAMS: u32 = 256;
/// Read at once: what has many frames has a bounded number of them.
const PIECE: u64 = 8 * 1024;

/// The bound over which a connection was ended, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Hit(Cell<Option<Limit>>);

impl Hit {
    /// Counts it.
    pub(crate) fn count(&self, local: &Local) {
        if let Some(limit) = self.0.get() {
            local.events.limit_reached(limit, 1);
        }
    }
}

/// See above.
pub(crate) struct TargetIo {
    stream: Stream,
    hit: Rc<Hit>,
    turn: Turn,
    frames: Box<TargetFrames>,
    /// The target takes no more bytes; what is still written is thrown away.
    deaf: bool,
    _open: OpenConnection,
}

/// Frames to and from a target.
struct TargetFrames {
    reader: PeerReader,
    read: Frames,
    written: Frames,
    allowance: Allowance,
    /// Header sections that it may send still: for each request a final response, trailers and ...
    sections: u32,
    /// ... for this many interim responses, which h2 takes without end.
    interim: u32,
    clock: Rc<Clock>,
}

impl TargetFrames {
    fn write_stall(&self) -> &WriteStall {
        &self.reader.state().write_stall
    }

    /// Counts what was read; an error: it is more than the target may send.
    fn admit(&mut self, new: &[u8]) -> Result<usize, Limit> {
        let written = self.written.seen();
        let each = self.interim.saturating_add(2);
        // What answered requests left over counts for later ones, but not without end.
        let earned = self.sections.saturating_add(written.headers.saturating_mul(each));
        self.sections = earned.min(each.saturating_mul(MOST_STREAMS));
        self.allowance.earn(written);
        self.reader.scan(new);
        self.read.scan(new);
        let seen = self.read.seen();
        self.sections = self.sections.checked_sub(seen.headers).ok_or(Limit::InterimResponses)?;
        if self.allowance.spend(seen, &self.clock) { Ok(seen.frames()) } else { Err(Limit::Http2ControlFrames) }
    }
}

impl TargetIo {
    /// What the target says of the connection is noted in `peer`, and in `hit` what it is ended for.
    pub(crate) fn new(
        stream: Stream,
        (hit, peer): (Rc<Hit>, Rc<PeerState>),
        open: OpenConnection,
        local: &Local,
    ) -> Self {
        let (limits, clock) = (local.limits(), &local.clock);
        let frames = Box::new(TargetFrames {
            reader: PeerReader::new(peer),
            read: Frames::default(),
            written: Frames::behind_preface(),
            allowance: Allowance::new(limits.http2_control_frames, clock),
            sections: 0,
            interim: limits.interim_responses,
            clock: Rc::clone(clock),
        });
        Self { stream, hit, turn: Turn::default(), frames, deaf: false, _open: open }
    }

    /// Counts what was read; an error: it is too much.
    fn admit(&mut self, new: &[u8]) -> io::Result<()> {
        let frames = self.frames.admit(new).map_err(|limit| {
            self.hit.0.set(Some(limit));
            io::Error::new(io::ErrorKind::InvalidData, "the target sends what has no end")
        })?;
        self.turn.spend(new.len(), frames);
        Ok(())
    }

    fn wrote<'a>(&mut self, count: usize, bufs: impl Iterator<Item = &'a [u8]>) {
        self.frames.written.scan_first(count, bufs);
        self.frames.write_stall().progress();
    }

    /// A target that closes with bytes unread has its kernel reset the connection, often right behind an answer, which can
    /// still be read. So it is the reader who learns that the connection has ended.
    fn written<'a>(
        &mut self,
        written: Poll<io::Result<usize>>,
        bufs: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.frames.write_stall().begin(self.frames.clock.tick());
        }
        match ready!(written) {
            Ok(count) => {
                self.wrote(count, bufs);
                Poll::Ready(Ok(count))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                self.deaf = true;
                Poll::Ready(Ok(bufs.map(<[u8]>::len).sum()))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncRead for TargetIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.turn.poll(cx));
        let before = buf.filled().len();
        match Pin::new(&mut (&mut this.stream).take(PIECE)).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(this.admit(&buf.filled()[before..])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                this.turn.end();
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for TargetIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(written, [buf].into_iter())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(written, bufs.iter().map(|buf| &**buf))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.frames.write_stall().flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
