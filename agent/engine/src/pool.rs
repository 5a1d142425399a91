//! Kept connections to targets, of one worker.
//!
//! A connection belongs to one service and one generation of one alias: two services never share one, and a workload
//! that gets an alias anew never meets its predecessor's. One of HTTP/1.1 carries one request at a time, whoever makes it;
//! one of HTTP/2 carries many, of one caller.

mod http2;

use std::{
    cell::{Cell, RefCell},
    io,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use brattice_router::hash::FastMap;
use hyper::client::conn::http1;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};

pub(crate) use self::http2::{Caller, Choice, Http2, Http2Pool, Opened};
use crate::{
    descriptors::Held,
    http::{
        Socket,
        body::RequestBody,
        frames::{Allowance, Frames},
        interim::{Heads, TooMany},
        said::{Follower, Said},
    },
    local::{Clock, Local},
    stats::Limit,
    turn::Turn,
};

/// Targets that a worker keeps connections to.
const MOST_KEYS: usize = 16_384;
/// Idle connections that a worker keeps, over all targets.
const MOST_IDLE: usize = 65_536;

/// Requests of a connection to an HTTP/2 target whose header sections may all still come.
const MOST_STREAMS: u32 = 256;

/// Whose connections they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// [`crate::state::Service::number`].
    pub(crate) service: u32,
    pub(crate) alias: IpAddr,
    pub(crate) port: u16,
    pub(crate) generation: u32,
    pub(crate) http2: bool,
    /// How long a connection may idle, ms; with 0 none is kept.
    pub(crate) idle_ms: u32,
}

/// A connection to an HTTP/1.1 target, for one request at a time.
pub(crate) struct Http1 {
    pub(crate) sender: http1::SendRequest<RequestBody>,
    pub(crate) meter: Rc<Meter>,
    pub(crate) handover: Handover,
}

/// Who gets a connection's socket when HTTP ends on it: the request that may change the protocol.
pub(crate) type Handover = Rc<RefCell<Option<oneshot::Sender<Socket>>>>;

impl Http1 {
    /// The next request may change the protocol.
    pub(crate) fn may_switch(&self) -> oneshot::Receiver<Socket> {
        let (sender, receiver) = oneshot::channel();
        *self.handover.borrow_mut() = Some(sender);
        receiver
    }
}

/// Idle ones of one key, the latest last: it is the likeliest to live.
type Idle = Vec<(Http1, u32)>;

/// All kept connections of a worker.
#[derive(Default)]
pub(crate) struct Pool {
    kept: RefCell<FastMap<Key, Idle>>,
    idle: Cell<usize>,
    pub(crate) http2: Http2Pool,
}

impl Pool {
    /// An idle connection that is alive, the one that idled for the shortest time.
    pub(crate) fn take(&self, key: &Key) -> Option<Http1> {
        let mut kept = self.kept.borrow_mut();
        let idle = kept.get_mut(key)?;
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            if idle[at].0.sender.is_closed() {
                idle.remove(at);
                self.idle.set(self.idle.get() - 1);
            } else if idle[at].0.sender.is_ready() {
                self.idle.set(self.idle.get() - 1);
                return Some(idle.remove(at).0);
            }
        }
        None
    }

    /// Keeps a connection for the next request. False: there is no room, or it is closed already.
    pub(crate) fn give(&self, key: Key, connection: Http1, clock: &Clock, limit: u32) -> Result<(), Full> {
        connection.handover.take();
        if connection.sender.is_closed() || key.idle_ms == 0 {
            return Ok(());
        }
        let mut kept = self.kept.borrow_mut();
        if self.idle.get() >= MOST_IDLE || kept.len() >= MOST_KEYS && !kept.contains_key(&key) {
            return Err(Full);
        }
        let idle = kept.entry(key).or_default();
        if idle.len() >= limit as usize {
            return Err(Full);
        }
        idle.push((connection, clock.tick()));
        self.idle.set(self.idle.get() + 1);
        Ok(())
    }

    /// Closes idle connections of keys that are not wanted any more, and gives nobody their HTTP/2 connections, nor those
    /// of callers that may not call any more.
    pub(crate) fn retain(&self, wanted: impl Fn(&Key) -> bool, may_call: impl Fn(&Caller) -> bool) {
        let mut all = self.kept.borrow_mut();
        all.retain(|key, _| wanted(key));
        self.idle.set(all.values().map(Vec::len).sum());
        self.http2.retain(wanted, may_call);
    }

    /// Closes what idled for too long, or is too much; the answer is how many connections of each. `crowded`: descriptors
    /// are few.
    pub(crate) fn sweep(&self, clock: &Clock, crowded: bool) -> (u64, u64) {
        let mut closed = 0;
        let mut all = self.kept.borrow_mut();
        all.retain(|key, idle| {
            let idle_ticks = clock.ticks(key.idle_ms);
            // What the target closed is not counted as timed out.
            idle.retain(|(connection, _)| !connection.sender.is_closed());
            let living = idle.len();
            idle.retain(|(_, since)| !clock.over(*since, idle_ticks));
            closed += (living - idle.len()) as u64;
            !idle.is_empty()
        });
        self.idle.set(all.values().map(Vec::len).sum());
        let (timed_out, surplus) = self.http2.sweep(clock, crowded);
        (closed + timed_out, surplus)
    }
}

/// There was no room for an idle connection.
#[derive(Debug)]
pub(crate) struct Full;

/// What a connection to a target and the requests on it know of each other.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: Cell<u64>,
    heads: RefCell<Heads>,
    hit: Cell<Option<Limit>>,
}

impl Meter {
    /// Bytes that came from the target so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// A request is sent, to which so many interim responses may come.
    pub(crate) fn begin(&self, interim: u32) {
        self.heads.borrow_mut().begin(interim);
    }

    /// The bound over which the target's connection was ended.
    pub(crate) fn hit(&self) -> Option<Limit> {
        self.hit.get()
    }
}

/// Read at once while a head is waited for, and of HTTP/2: what has many pieces has a bounded number of them.
const PIECE: u64 = 8 * 1024;

/// A target's socket.
pub(crate) struct TargetIo {
    stream: TcpStream,
    meter: Rc<Meter>,
    turn: Turn,
    http2: Option<Box<TargetFrames>>,
    /// The target takes no more bytes; what is still written is thrown away.
    deaf: bool,
    _held: Held,
}

/// Frames to and from a target.
struct TargetFrames {
    follower: Follower,
    read: Frames,
    written: Frames,
    allowance: Allowance,
    /// Header sections that it may send still: for each request a final response, trailers and ...
    sections: u32,
    /// ... so many interim responses, which h2 takes without end.
    interim: u32,
    clock: Rc<Clock>,
}

impl TargetFrames {
    /// Counts what was read; an error: it is more than the target may send.
    fn admit(&mut self, new: &[u8]) -> Result<usize, Limit> {
        let written = self.written.seen();
        let each = self.interim.saturating_add(2);
        // What answered requests left over counts for later ones, but not without end.
        let earned = self.sections.saturating_add(written.headers.saturating_mul(each));
        self.sections = earned.min(each.saturating_mul(MOST_STREAMS));
        self.allowance.earn(written);
        self.follower.scan(new);
        self.read.scan(new);
        let seen = self.read.seen();
        self.sections = self.sections.checked_sub(seen.headers).ok_or(Limit::InterimResponses)?;
        if self.allowance.spend(seen, &self.clock) { Ok(seen.frames()) } else { Err(Limit::Http2ControlFrames) }
    }
}

impl TargetIo {
    pub(crate) fn new(stream: TcpStream, meter: Rc<Meter>, held: Held) -> Self {
        Self { stream, meter, turn: Turn::default(), http2: None, deaf: false, _held: held }
    }

    /// For HTTP/2; what the target says of the connection is noted.
    pub(crate) fn http2(stream: TcpStream, meter: Rc<Meter>, said: Rc<Said>, local: &Local) -> Self {
        let (limits, clock) = (local.limits(), &local.clock);
        let frames = TargetFrames {
            follower: Follower::new(said),
            read: Frames::default(),
            written: Frames::behind_preface(),
            allowance: Allowance::new(limits.http2_control_frames, clock),
            sections: 0,
            interim: limits.interim_responses,
            clock: Rc::clone(clock),
        };
        Self { http2: Some(Box::new(frames)), ..Self::new(stream, meter, local.held()) }
    }

    /// Counts what was read; an error: it is too much.
    fn admit(&mut self, new: &[u8]) -> io::Result<()> {
        self.meter.bytes.set(self.meter.bytes.get() + new.len() as u64);
        let admitted = match &mut self.http2 {
            None => self.meter.heads.borrow_mut().scan(new).map_err(|TooMany| Limit::InterimResponses),
            Some(frames) => frames.admit(new),
        };
        let pieces = admitted.map_err(|limit| {
            self.meter.hit.set(Some(limit));
            io::Error::new(io::ErrorKind::InvalidData, "the target sends what has no end")
        })?;
        self.turn.spend(new.len(), pieces);
        Ok(())
    }

    fn wrote<'a>(&mut self, count: usize, bufs: impl Iterator<Item = &'a [u8]>) {
        if let Some(frames) = &mut self.http2 {
            frames.written.scan_first(count, bufs);
        }
    }

    /// The socket, once HTTP has ended on it.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// A target that closes with bytes unread has its kernel reset the connection, often right behind an answer, which can
    /// still be read. So it is the reader who learns that the connection has ended.
    fn written<'a>(
        &mut self,
        written: Poll<io::Result<usize>>,
        bufs: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
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
        let bounded = this.http2.is_some() || this.meter.heads.borrow().waits();
        let most = if bounded { PIECE } else { u64::MAX };
        match Pin::new(&mut (&mut this.stream).take(most)).poll_read(cx, buf) {
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
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
