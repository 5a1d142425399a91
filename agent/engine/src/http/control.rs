//! What the parts that serve one client connection tell each other: the reader, the service, the sweeper.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};

use super::{refusal::Refusal, write_stall::WriteStall};
use crate::{auth::Latest, clock::Clock, records::flow::Flow};

/// Interim answers of a target that may wait for a client that does not read.
const MOST_INTERIM: usize = 16;

/// What is to become of a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Go on.
    Serve,
    /// No new requests; close when those in flight are done.
    Drain,
    /// The header section took too long.
    HeaderTimeout,
    /// Close now.
    Abort,
}

/// Whether a client still sends, or is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// It may send more.
    Sending,
    /// It sends no more since this tick, and may still wait for answers (RFC 9112, 9.6). One that has closed its socket
    /// looks the same until it is sent something.
    HalfClosed { since: u32 },
    /// It was sent something: if it has closed its socket, the answer is a reset. So many looks at the socket are left.
    Probed { since: u32, looks: u8 },
}

/// How long a half-closed client waits for its response until it is found out whether it is still there, ms.
const HALF_CLOSED_MS: u32 = 5_000;
/// Looks at the socket of a client that was probed, one a tick.
const LOOKS: u8 = 8;

/// What the guard refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The request of this number is none: the guard put it there to have the refusal answered in its turn.
    Request(u64),
    /// The body that is being read.
    Body,
}

/// Shared by everything that serves one client connection, on one thread.
#[derive(Debug)]
pub(crate) struct Control {
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
    /// Reset when closed, so that nothing is sent any more.
    pub(crate) reset: Cell<bool>,
    /// Requests in flight.
    pub(crate) open: Cell<u32>,
    /// Tick of the last beginning or end of a request, or of the accept.
    pub(crate) touched: Cell<u32>,
    /// Tick of the last byte that the client's socket took.
    pub(crate) wrote: Cell<u32>,
    /// Whether the client's socket has room for what waits for it.
    pub(crate) write_stall: WriteStall,
    /// Tick since when a header section is incomplete.
    pub(crate) head_since: Cell<Option<u32>>,
    /// Ticks that the connection may idle.
    pub(crate) idle_ticks: Cell<u32>,
    /// Requests that the service was given.
    pub(crate) requests: Cell<u64>,
    /// What is refused. Behind it nothing is read, so there is one.
    refused: Cell<Option<(Refused, Refusal)>>,
    /// The request of this number offers another protocol, and is not answered yet.
    pub(crate) offer: Cell<Option<u64>>,
    /// The client sent too many frames that carry nothing.
    pub(crate) flooded: Cell<bool>,
    /// Whether the client still sends, or is there at all.
    presence: Cell<Presence>,
    /// HTTP/2 requests that the client took back before they were answered.
    pub(crate) cancelled: Cell<u64>,
    /// The latest request that was let through.
    pub(crate) latest: Latest,
    /// Requests in flight that were let through and are being ended.
    pub(crate) revoked: Cell<u32>,
    /// What is known of the connection.
    pub(crate) flow: Rc<Flow>,
    /// Towards HTTP/1 clients.
    pub(crate) interim: Arc<Interim>,
}

impl Control {
    pub(crate) fn new(flow: Rc<Flow>, tick: u32, idle_ticks: u32) -> Self {
        Self {
            verdict: Cell::new(Verdict::Serve),
            waker: RefCell::default(),
            reset: Cell::new(false),
            open: Cell::new(0),
            touched: Cell::new(tick),
            wrote: Cell::new(tick),
            write_stall: WriteStall::default(),
            head_since: Cell::new(None),
            idle_ticks: Cell::new(idle_ticks),
            requests: Cell::new(0),
            refused: Cell::new(None),
            offer: Cell::new(None),
            flooded: Cell::new(false),
            presence: Cell::new(Presence::Sending),
            cancelled: Cell::new(0),
            latest: Latest::default(),
            revoked: Cell::new(0),
            flow,
            interim: Arc::default(),
        }
    }

    /// What is to become of the connection.
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict.get()
    }

    /// Decides, unless something harder was decided before, and wakes the connection.
    pub(crate) fn decide(&self, verdict: Verdict) {
        if verdict > self.verdict.get() {
            self.verdict.set(verdict);
            self.wake();
        }
    }

    /// The guard refuses something.
    pub(crate) fn refuse(&self, what: Refused, refusal: Refusal) {
        self.refused.set(Some((what, refusal)));
    }

    /// Why this was refused, if it was.
    pub(crate) fn refused(&self, what: Refused) -> Option<Refusal> {
        self.refused.get().filter(|(refused, _)| *refused == what).map(|(_, refusal)| refusal)
    }

    /// Closes with a reset.
    pub(crate) fn reset(&self) {
        self.reset.set(true);
        self.decide(Verdict::Abort);
    }

    /// The request of this number is answered in HTTP: if it offered another protocol, the client's socket is read on.
    pub(crate) fn answered(&self, number: u64) {
        if self.offer.get() == Some(number) {
            self.offer.set(None);
            self.wake();
        }
    }

    /// The latest request would not be let through now: closes the connection unless it carries another one that is.
    /// Whether it was this that closed it.
    pub(crate) fn retire(&self) -> bool {
        if self.verdict.get() > Verdict::Serve || self.open.get() > self.revoked.get() {
            return false;
        }
        self.decide(Verdict::Drain);
        true
    }

    /// The connection's task is polled with this waker.
    pub(crate) fn park(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match waker.as_mut() {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    /// The client sends no more.
    pub(crate) fn half_close(&self, tick: u32) {
        if self.presence.get() == Presence::Sending {
            self.presence.set(Presence::HalfClosed { since: tick });
        }
    }

    /// Whether it was found out that the client is there still, or is gone: its socket tells which.
    pub(crate) fn was_probed(&self) -> bool {
        matches!(self.presence.get(), Presence::Probed { .. })
    }

    /// Finds out whether a client that has half-closed its connection is still there, and not only waits: once per request,
    /// as long as that is not answered.
    pub(crate) fn look_for_client(&self, clock: &Clock) {
        match self.presence.get() {
            Presence::HalfClosed { since } if clock.over(since, clock.ticks(HALF_CLOSED_MS)) => {
                if self.interim.probe() {
                    self.presence.set(Presence::Probed { since, looks: LOOKS });
                }
            }
            Presence::Probed { since, looks: 0 } => self.presence.set(Presence::HalfClosed { since }),
            Presence::Probed { since, looks } => {
                self.presence.set(Presence::Probed { since, looks: looks - 1 });
                self.wake();
            }
            Presence::Sending | Presence::HalfClosed { .. } => {}
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&self) {
        self.open.set(self.open.get() - 1);
        if self.presence.get() != Presence::Sending {
            // The reader tells hyper of the end now.
            self.wake();
        }
    }

    fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Interim responses (1xx) to an HTTP/1 connection's present request: those of its target, and ours. They come from a
/// callback that must be `Send`, hence the lock; it is taken for a 1xx only.
#[derive(Debug, Default)]
pub(crate) struct Interim {
    waiting: Mutex<VecDeque<Bytes>>,
    continued: AtomicBool,
    some: AtomicBool,
    /// Number of the request to which they may be sent, from 1; 0: its final response has begun, or there is none, or its
    /// client speaks HTTP/1.0.
    open: AtomicU64,
    /// The present request's client was sent [`PROBE`].
    probed: AtomicBool,
    /// The connection's task, which writes them.
    client: AtomicWaker,
    /// The task that sends the request's body.
    gate: AtomicWaker,
}

/// What any client of HTTP/1.1 reads and ignores (RFC 9110, 15.2).
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Interim {
    /// A request begins: forgets what an earlier one left.
    pub(crate) fn begin(&self, number: u64, http11: bool) {
        self.continued.store(false, Relaxed);
        self.probed.store(false, Relaxed);
        self.open.store(if http11 { number } else { 0 }, Relaxed);
    }

    /// The final response begins.
    pub(crate) fn end(&self) {
        self.open.store(0, Relaxed);
    }

    /// A target sent an interim response. 100 opens the gate of the body, others are kept for the client if it can have
    /// them (`forward`: the number of its request).
    pub(crate) fn received(&self, status: StatusCode, headers: &HeaderMap, forward: Option<u64>) {
        if status == StatusCode::CONTINUE {
            self.continued.store(true, Relaxed);
            self.gate.wake();
        } else if forward == Some(self.open.load(Relaxed))
            && let Some(bytes) = written(status, headers)
        {
            self.push(bytes);
        }
    }

    /// Has the client sent something that it ignores if it is there, and resets the connection for if it is not. False: it
    /// cannot be sent such a thing now, or was sent it for its present request already.
    fn probe(&self) -> bool {
        if self.open.load(Relaxed) == 0 || self.probed.swap(true, Relaxed) {
            return false;
        }
        self.push(Bytes::from_static(PROBE));
        true
    }

    fn push(&self, bytes: Bytes) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST_INTERIM {
            waiting.push_back(bytes);
            self.some.store(true, Relaxed);
        }
        drop(waiting);
        self.client.wake();
    }

    /// The connection's task is polled with this waker.
    pub(crate) fn park(&self, cx: &Context<'_>) {
        self.client.register(cx.waker());
    }

    /// Whether the target asked for the body; `cx` is woken when it does.
    pub(crate) fn poll_continued(&self, cx: &Context<'_>) -> Poll<()> {
        self.gate.register(cx.waker());
        if self.continued.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether some wait to be written.
    pub(crate) fn some(&self) -> bool {
        self.some.load(Relaxed)
    }

    /// The next bytes to write.
    pub(crate) fn next(&self) -> Option<Bytes> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = waiting.pop_front();
        self.some.store(!waiting.is_empty(), Relaxed);
        next
    }

    /// Puts back what could not be written whole.
    pub(crate) fn put_back(&self, rest: Bytes) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_front(rest);
        self.some.store(true, Relaxed);
    }
}

/// An interim answer as HTTP/1.1 writes it; `None` for 101, which would end HTTP.
fn written(status: StatusCode, headers: &HeaderMap) -> Option<Bytes> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return None;
    }
    let mut headers = headers.clone();
    super::headers::clean_response(&mut headers);
    headers.remove(http::header::CONTENT_LENGTH);
    let mut bytes =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in &headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    Some(bytes.into())
}
