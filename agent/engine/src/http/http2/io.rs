//! A client's socket as the HTTP/2 library sees it: frames are followed, counted, and checked before it gets them.

use std::{
    io,
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use brattice_wire::records::FailureReason;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::{
    clock::Clock,
    events::ConnectionEvent,
    http::{
        control::{Control, Verdict},
        frames::{Allowance, Frames, PREFACE},
        sections::{self, Malformed, Sections},
    },
    local::Local,
    transport::Stream,
    turn::{self, Turn},
};

/// Read at once: as much as a frame has (RFC 9113, 4.2), and as many frames as a turn has.
const READ: usize = 16 * 1024;
/// Read at once while a header section is incomplete.
const PIECE: usize = 4 * 1024;

/// A client's socket.
pub(super) struct ClientIo {
    stream: Stream,
    control: Rc<Control>,
    clock: Rc<Clock>,
    turn: Turn,
    /// Read and not passed on yet: `ready` bytes that may be, then a header section that is not complete.
    held: BytesMut,
    ready: usize,
    /// Given to the library in place of what is refused, once something is: nothing more is read.
    stand_in: Option<&'static [u8]>,
    /// The frames of both directions.
    read: Frames,
    written: Frames,
    allowance: Allowance,
    sections: Sections,
}

impl ClientIo {
    /// `held` was read already, and begins with the preface.
    pub(super) fn new(stream: Stream, held: BytesMut, control: Rc<Control>, local: &Local) -> Self {
        let (limits, clock) = (local.limits(), &local.clock);
        let mut io = Self {
            stream,
            control,
            clock: Rc::clone(clock),
            turn: Turn::default(),
            held,
            ready: PREFACE.len(),
            stand_in: None,
            read: Frames::default(),
            written: Frames::default(),
            allowance: Allowance::new(limits.http2_control_frames, clock),
            sections: Sections::new(limits.header_bytes as usize),
        };
        io.scanned(PREFACE.len()..io.held.len());
        io.check_sections();
        io
    }

    /// A header section is incomplete, or is not any more.
    fn section(&self, open: bool) {
        if open {
            self.control.header_section_begun(self.clock.tick());
        } else {
            self.control.header_section_ended();
        }
    }

    /// Gives what may be passed on; false: there is nothing.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.ready > 0 {
            let count = self.ready.min(buf.remaining());
            buf.put_slice(&self.held[..count]);
            self.held.advance(count);
            self.ready -= count;
            return true;
        }
        match &mut self.stand_in {
            Some(stand_in) if !stand_in.is_empty() => {
                let count = stand_in.len().min(buf.remaining());
                buf.put_slice(&stand_in[..count]);
                *stand_in = &stand_in[count..];
                true
            }
            _ => false,
        }
    }

    /// Reads at most this many bytes in this turn.
    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, most: usize) -> Poll<io::Result<()>> {
        ready!(self.turn.poll(cx));
        let before = buf.filled().len();
        let read = Pin::new(&mut (&mut self.stream).take(most as u64)).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        match read {
            Poll::Pending => self.turn.end(),
            Poll::Ready(_) => self.turn.spend(bytes, 0),
        }
        if bytes > 0 {
            self.control.connection.emit(ConnectionEvent::Received { bytes });
        }
        read
    }

    /// Follows frames that are in `held`.
    fn scanned(&mut self, place: Range<usize>) {
        let open = self.read.scan(&self.held[place]);
        self.section(open);
        self.admit();
    }

    /// Counts the frames that were read against those that the client may send.
    fn admit(&mut self) {
        let seen = self.read.seen();
        self.turn.spend(0, seen.frames().saturating_add((seen.headers as usize).saturating_mul(turn::REQUEST)));
        self.allowance.earn(self.written.seen());
        // guard: control-frames
        if !self.allowance.spend(seen, &self.clock) {
            self.control.end(Verdict::Flooded, FailureReason::ClientProtocolError);
        }
    }

    /// Gives the reader of header sections what is held.
    fn check_sections(&mut self) {
        let (accepted, sound) = self.sections.scan(&self.held[self.ready..]);
        self.ready += accepted;
        self.checked(sound);
    }

    /// What the reader of header sections found, after what it accepted was taken out of `held` or is `ready`.
    fn checked(&mut self, sound: Result<(), Malformed>) {
        if sound.is_err() {
            self.section(false);
            self.held.truncate(self.ready);
            self.stand_in = Some(sections::STAND_IN);
        }
    }

    /// Reads into `held`.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [0; PIECE];
        let mut buf = ReadBuf::new(&mut room);
        ready!(self.poll_socket(cx, &mut buf, PIECE))?;
        self.held.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Notes that the socket takes nothing.
    fn or_stalled<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() {
            self.control.write_stall.begin(self.clock.tick());
        }
        written
    }

    /// The socket took this many of these bytes.
    fn wrote<'a>(&mut self, count: usize, bufs: impl Iterator<Item = &'a [u8]>) {
        self.control.connection.emit(ConnectionEvent::Sent { bytes: count });
        self.control.wrote.set(self.clock.tick());
        self.control.write_stall.progress();
        self.written.scan_first(count, bufs);
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.control.verdict() == Verdict::Flooded {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if this.stand_in.is_some() {
                // The library ends the connection.
                return Poll::Pending;
            }
            if !this.held.is_empty() {
                let before = this.held.len();
                if ready!(this.poll_more(cx))? == 0 {
                    return Poll::Ready(Ok(()));
                }
                this.scanned(before..this.held.len());
                this.check_sections();
                continue;
            }
            let before = buf.filled().len();
            ready!(this.poll_socket(cx, buf, READ))?;
            let new = &buf.filled()[before..];
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let open = this.read.scan(new);
            let (accepted, sound) = this.sections.scan(new);
            this.held.extend_from_slice(&new[accepted..]);
            buf.set_filled(before + accepted);
            this.section(open);
            this.admit();
            this.checked(sound);
            if accepted > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        let count = ready!(this.or_stalled(written))?;
        this.wrote(count, std::iter::once(buf));
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        let count = ready!(this.or_stalled(written))?;
        this.wrote(count, bufs.iter().map(|buf| &**buf));
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.control.write_stall.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if self.control.verdict().resets() {
            self.stream.reset_on_drop(true);
        }
    }
}
