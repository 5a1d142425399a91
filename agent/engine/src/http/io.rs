//! A client's socket as hyper sees it: behind the [`Guard`], with interim answers and a close that loses no answer.

use std::{
    io,
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use brattice_wire::records::FailureReason;
use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{
    control::{Control, Refused, Verdict},
    frames::{Allowance, Frames},
    guard::{Bounds, Guard, Scan, SpareHead},
    refusal::Refusal,
    sections::{self, Malformed, Sections},
};
use crate::{
    clock::Clock,
    events::ConnectionEvent,
    transport::Stream,
    turn::{self, Turn},
};

/// The first bytes of HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Given to hyper in place of a refused request; see [`Control::refused`].
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n";
/// Read at once of HTTP/2: as much as a frame has (RFC 9113, 4.2), and as many frames as a turn has.
const HTTP2_PIECE: usize = 16 * 1024;
/// Read at once while a head is incomplete.
const PIECE: usize = 4 * 1024;
/// After an answer to a request that was not read to its end, what the client still sends is thrown away for so long,
/// or a reset would overtake the answer.
const LINGER: Duration = Duration::from_secs(1);
/// And no more than this many bytes.
const LINGER_BYTES: usize = 512 * 1024;

/// A client's socket.
pub(crate) struct ClientIo {
    stream: Stream,
    control: Rc<Control>,
    clock: Rc<Clock>,
    reader: Reader,
    turn: Turn,
    /// Read and not passed on yet: `ready` bytes that may be, then a head that is not complete.
    held: BytesMut,
    ready: usize,
    input: Input,
    closing: Closing,
}

/// Where reading from the client is.
enum Input {
    /// Input is read, and passed on as far as it is complete.
    Open,
    /// What is held may have whole heads: it is looked at again in the next turn.
    Unscanned,
    /// Nothing more is read. The HTTP library is given these bytes in place of what is refused.
    Refused { stand_in: &'static [u8] },
    /// The client sends no more.
    Ended,
}

/// Where the end of the connection is.
enum Closing {
    Open,
    /// What the client still sends is thrown away, this many bytes at most.
    Lingering {
        until: Pin<Box<Sleep>>,
        left: usize,
    },
    Closed,
}

enum Reader {
    Unknown,
    Http1(Guard),
    Http2(Box<Http2>),
}

/// The frames of both directions.
struct Http2 {
    read: Frames,
    written: Frames,
    allowance: Allowance,
    sections: Sections,
}

impl ClientIo {
    pub(crate) fn new(stream: Stream, control: Rc<Control>, clock: Rc<Clock>) -> Self {
        Self {
            stream,
            control,
            clock,
            reader: Reader::Unknown,
            turn: Turn::default(),
            held: BytesMut::new(),
            ready: 0,
            input: Input::Open,
            closing: Closing::Open,
        }
    }

    /// Waits for the first bytes; true: this is HTTP/2.
    ///
    /// # Errors
    /// When the socket fails, or ends before anything came.
    pub(crate) fn poll_version(
        &mut self,
        cx: &mut Context<'_>,
        (bounds, spare): (Bounds, &Rc<SpareHead>),
        control_frames: u32,
    ) -> Poll<io::Result<bool>> {
        loop {
            let known = self.held.len().min(PREFACE.len());
            if self.held[..known] != PREFACE[..known] {
                let mut guard = Guard::new(bounds, spare);
                self.rescan(&mut guard);
                self.reader = Reader::Http1(guard);
                return Poll::Ready(Ok(false));
            }
            if known == PREFACE.len() {
                let allowance = Allowance::new(control_frames, &self.clock);
                let sections = Sections::new(bounds.bytes);
                let (read, written) = (Frames::default(), Frames::default());
                let mut http2 = Box::new(Http2 { read, written, allowance, sections });
                self.scanned_http2(&mut http2, known..self.held.len());
                self.ready = known;
                self.resection(&mut http2.sections);
                self.reader = Reader::Http2(http2);
                return Poll::Ready(Ok(true));
            }
            if ready!(self.poll_more(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.head(true);
        }
    }

    /// A header section is incomplete, or is not any more.
    fn head(&self, open: bool) {
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
        match &mut self.input {
            Input::Refused { stand_in } if !stand_in.is_empty() => {
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
        match read {
            Poll::Pending => self.turn.end(),
            Poll::Ready(_) => {
                let bytes = buf.filled().len() - before;
                self.turn.spend(bytes, 0);
                self.control.connection.emit(ConnectionEvent::Received { bytes });
            }
        }
        read
    }

    /// Follows frames that are in `held`.
    fn scanned_http2(&mut self, http2: &mut Http2, place: Range<usize>) {
        let open = http2.read.scan(&self.held[place]);
        self.head(open);
        self.admit(http2);
    }

    /// Counts the frames that were read against those that the client may send.
    fn admit(&mut self, http2: &mut Http2) {
        let seen = http2.read.seen();
        self.turn.spend(0, seen.frames().saturating_add((seen.headers as usize).saturating_mul(turn::REQUEST)));
        http2.allowance.earn(http2.written.seen());
        // guard: control-frames
        if !http2.allowance.spend(seen, &self.clock) {
            self.control.end(Verdict::Flooded, FailureReason::ClientProtocolError);
        }
    }

    fn poll_http2(&mut self, http2: &mut Http2, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.control.verdict() == Verdict::Flooded {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if self.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Input::Refused { .. } = self.input {
                // The library ends the connection.
                return Poll::Pending;
            }
            if !self.held.is_empty() {
                let before = self.held.len();
                if ready!(self.poll_more(cx))? == 0 {
                    return Poll::Ready(Ok(()));
                }
                self.scanned_http2(http2, before..self.held.len());
                self.resection(&mut http2.sections);
                continue;
            }
            let before = buf.filled().len();
            ready!(self.poll_socket(cx, buf, HTTP2_PIECE))?;
            let new = &buf.filled()[before..];
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let open = http2.read.scan(new);
            let (accepted, sound) = http2.sections.scan(new);
            self.held.extend_from_slice(&new[accepted..]);
            buf.set_filled(before + accepted);
            self.head(open);
            self.admit(http2);
            self.sectioned(sound);
            if accepted > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Gives the reader of header sections what is held.
    fn resection(&mut self, sections: &mut Sections) {
        let (accepted, sound) = sections.scan(&self.held[self.ready..]);
        self.ready += accepted;
        self.sectioned(sound);
    }

    /// What the reader of header sections found, after what it accepted was taken out of `held` or is `ready`.
    fn sectioned(&mut self, sound: Result<(), Malformed>) {
        if sound.is_err() {
            self.head(false);
            self.held.truncate(self.ready);
            self.input = Input::Refused { stand_in: sections::STAND_IN };
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

    /// Gives the guard what is held.
    fn rescan(&mut self, guard: &mut Guard) {
        let before = guard.heads();
        let scan = guard.scan(&self.held[self.ready..]);
        self.ready += scan.accepted;
        self.scanned(guard, before, &scan);
    }

    /// What the guard found, after what it accepted was taken out of `held` or is `ready`.
    fn scanned(&mut self, guard: &Guard, heads_before: u64, scan: &Scan) {
        // saturates: a scan passes on a few heads; too many cost the turn.
        let heads = usize::try_from(guard.heads() - heads_before).unwrap_or(usize::MAX);
        self.turn.spend(0, heads.saturating_mul(turn::REQUEST));
        self.input = if scan.more { Input::Unscanned } else { Input::Open };
        match scan.refused {
            Some(refusal) => self.refuse(guard, refusal),
            None if guard.offered() => {
                self.head(false);
                self.control.offer_upgrade(guard.heads() - 1);
            }
            None => self.head(guard.in_head() && self.held.len() > self.ready && !scan.more),
        }
    }

    /// After a head that offers another protocol, until it is answered: a little is read, so that a client that goes
    /// away is noticed, and nothing is passed on.
    fn poll_offered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.len() < PIECE {
            if ready!(self.poll_more(cx))? == 0 {
                // A client that asked for another protocol and closes its side needs no answer.
                self.input = Input::Ended;
                return Poll::Ready(Ok(()));
            }
        }
        // The service wakes the connection with its answer.
        Poll::Pending
    }

    /// The socket, once HTTP has ended on it.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What was read and not passed on.
    pub(crate) fn take_held(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    /// Nothing more is read. A refused head is answered in its turn, a refused body ends the request that has it.
    fn refuse(&mut self, guard: &Guard, refusal: Refusal) {
        self.head(false);
        self.held.truncate(self.ready);
        let (what, stand_in): (_, &[u8]) =
            if guard.in_head() { (Refused::Request(guard.heads()), STAND_IN) } else { (Refused::Body, &[]) };
        self.control.refuse(what, refusal);
        self.input = Input::Refused { stand_in };
    }

    /// The client sends no more. What it sent before is answered (RFC 9112, 9.6), so hyper, which would drop a request
    /// whose client is gone, hears of it only between requests, or where bytes are missing. A client that is gone altogether
    /// is noticed by what it is sent.
    fn poll_end(&mut self, guard: &Guard) -> Poll<io::Result<()>> {
        self.input = Input::Ended;
        self.control.half_closed(self.clock.tick());
        let waits = self.control.open.get() > 0 || guard.heads() > self.control.requests.get();
        let whole = guard.in_head() && !guard.offered();
        if !(waits && whole) {
            return Poll::Ready(Ok(()));
        }
        match if self.control.was_probed() { self.stream.take_error()? } else { None } {
            // It is gone: it has reset what it was sent.
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }

    fn poll_guarded(&mut self, guard: &mut Guard, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if self.control.refused(Refused::Body).is_some() {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if guard.offered() {
                if self.control.waits_for_upgrade() {
                    return self.poll_offered(cx);
                }
                guard.go_on();
                self.rescan(guard);
                continue;
            }
            match self.input {
                Input::Open => {}
                Input::Unscanned => {
                    ready!(self.turn.poll(cx));
                    self.rescan(guard);
                    continue;
                }
                // The service wakes the connection with its answer, and hyper closes then.
                Input::Refused { .. } => return Poll::Pending,
                Input::Ended => return self.poll_end(guard),
            }
            if self.control.verdict() == Verdict::HeaderTimeout && guard.in_head() && !self.held.is_empty() {
                self.refuse(guard, Refusal::HeaderTimeout);
                continue;
            }
            if !self.held.is_empty() {
                if ready!(self.poll_more(cx))? == 0 {
                    return self.poll_end(guard);
                }
                self.rescan(guard);
                continue;
            }
            let before = buf.filled().len();
            ready!(self.poll_socket(cx, buf, usize::MAX))?;
            let new = &buf.filled()[before..];
            if new.is_empty() {
                return self.poll_end(guard);
            }
            let heads = guard.heads();
            let scan = guard.scan(new);
            self.held.extend_from_slice(&new[scan.accepted..]);
            buf.set_filled(before + scan.accepted);
            self.scanned(guard, heads, &scan);
            if scan.accepted > 0 {
                return Poll::Ready(Ok(()));
            }
        }
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
        if let Reader::Http2(http2) = &mut self.reader {
            http2.written.scan_first(count, bufs);
        }
    }

    /// Writes the interim responses that wait.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(mut bytes) = self.control.interim.next() {
            while !bytes.is_empty() {
                let written = Pin::new(&mut self.stream).poll_write(cx, &bytes);
                match self.or_stalled(written) {
                    Poll::Ready(Ok(count)) => {
                        self.wrote(count, std::iter::once(&*bytes));
                        bytes.advance(count);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.control.interim.put_back(bytes);
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the client may be sending bytes that will never be read.
    fn unread(&self) -> bool {
        match (&self.input, &self.reader) {
            (Input::Ended, _) | (_, Reader::Unknown) => false,
            (Input::Refused { .. }, _) => true,
            (_, Reader::Http1(guard)) => !guard.in_head() || !self.held.is_empty(),
            (_, Reader::Http2(_)) => false,
        }
    }

    /// Throws away what the client still sends, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Closing::Lingering { until, left } = &mut self.closing else { return Poll::Ready(()) };
        let mut room = [0; PIECE];
        loop {
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && *left >= buf.filled().len() => {
                    let bytes = buf.filled().len();
                    *left -= bytes;
                    self.control.connection.emit(ConnectionEvent::Received { bytes });
                }
                Poll::Pending => return until.as_mut().poll(cx),
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match std::mem::replace(&mut this.reader, Reader::Unknown) {
            Reader::Http1(mut guard) => {
                let read = this.poll_guarded(&mut guard, cx, buf);
                this.reader = Reader::Http1(guard);
                read
            }
            Reader::Http2(mut http2) => {
                let read = this.poll_http2(&mut http2, cx, buf);
                this.reader = Reader::Http2(http2);
                read
            }
            Reader::Unknown => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
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

    /// hyper flushes the socket only after it has written all it had, and the service holds an answer back while interim
    /// ones wait: so here, and only here, they can be written without tearing a message.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.control.interim.some() {
            ready!(this.poll_interim(cx))?;
            // The service waits for it.
            cx.waker().wake_by_ref();
        }
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.control.write_stall.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Closing::Open = this.closing {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.closing = if this.unread() {
                Closing::Lingering { until: Box::pin(tokio::time::sleep(LINGER)), left: LINGER_BYTES }
            } else {
                Closing::Closed
            };
        }
        ready!(this.poll_linger(cx));
        this.closing = Closing::Closed;
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if self.control.verdict().resets() {
            self.stream.reset_on_drop(true);
        }
    }
}
