//! Shared state of the parts that serve one client connection: the reader, the service, the sweeper.

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

use brattice_wire::records::FailureReason;

use super::write_stall::WriteStall;
use crate::{
    auth::Latest,
    clock::Clock,
    events::{RequestEvent, connection::ConnectionSpan},
    tasks::{Aborted, Parties},
};

/// Interim answers of a target that may wait for a client that does not read.
const MOST_INTERIM: usize = 16;

/// What is to happen to a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Go on.
    Serve,
    /// No new requests; close when those in flight are done.
    Drain,
    /// The header section took too long.
    HeaderTimeout,
    /// Close now.
    Close,
    /// Close with a reset: the client sent too many frames that carry nothing.
    Flooded,
    /// Close with a reset, so that nothing is sent any more.
    Reset,
}

impl Verdict {
    /// The connection ends now, whatever is in flight.
    pub(crate) fn closes(self) -> bool {
        self >= Self::Close
    }

    /// ... with a reset.
    pub(crate) fn resets(self) -> bool {
        self >= Self::Flooded
    }
}

/// The client's side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// It may send something, or not.
    Open,
    /// Since this tick a header section is incomplete.
    HeaderSection { since: u32 },
    /// It sends no more since this tick, and may still wait for responses (RFC 9112, 9.6). A client that has closed its
    /// socket looks the same until it is sent something.
    HalfClosed { since: u32 },
    /// It was sent bytes since: if it has closed its socket, it answers with a reset. This many more looks at the
    /// socket follow.
    Probed { since: u32, looks: u8 },
}

/// How long a half-closed client waits for its response until it is found out whether it is still there, ms.
const HALF_CLOSED_MS: u32 = 5_000;
/// Looks at the socket of a client that was probed, one a tick.
const LOOKS: u8 = 8;

/// Shared by everything that serves one client connection, on one thread.
#[derive(Debug)]
pub(crate) struct Control {
    verdict: Cell<Verdict>,
    /// Why the engine ends the connection, whatever is in flight on it.
    ended_for: Cell<Option<FailureReason>>,
    /// The peers of the connection's task: the caller and, after a change of the protocol, the target.
    pub(crate) parties: Parties,
    input: Cell<Input>,
    waker: RefCell<Option<Waker>>,
    /// Requests in flight.
    pub(crate) open: Cell<u32>,
    /// Tick of the last beginning or end of a request, or of the accept.
    pub(crate) touched: Cell<u32>,
    /// Tick of the last byte that the client's socket took.
    pub(crate) wrote: Cell<u32>,
    /// Whether the client's socket has room for what waits for it.
    pub(crate) write_stall: WriteStall,
    /// Ticks that the connection may idle.
    pub(crate) idle_ticks: Cell<u32>,
    /// Requests that the service was given.
    pub(crate) requests: Cell<u64>,
    /// HTTP/2 requests that the client took back before they were answered.
    pub(crate) cancelled: Cell<u64>,
    /// The latest request that was let through.
    pub(crate) latest: Latest,
    /// Requests in flight that were let through and are being ended.
    pub(crate) revoked: Cell<u32>,
    /// What is known of the connection.
    pub(crate) connection: Rc<ConnectionSpan>,
    /// Towards HTTP/1 clients.
    pub(crate) interim: Arc<Interim>,
}

impl Control {
    pub(crate) fn new(connection: Rc<ConnectionSpan>, parties: Parties, tick: u32, idle_ticks: u32) -> Self {
        Self {
            verdict: Cell::new(Verdict::Serve),
            ended_for: Cell::new(None),
            parties,
            input: Cell::new(Input::Open),
            waker: RefCell::default(),
            open: Cell::new(0),
            touched: Cell::new(tick),
            wrote: Cell::new(tick),
            write_stall: WriteStall::default(),
            idle_ticks: Cell::new(idle_ticks),
            requests: Cell::new(0),
            cancelled: Cell::new(0),
            latest: Latest::default(),
            revoked: Cell::new(0),
            connection,
            interim: Arc::default(),
        }
    }

    /// What is to happen to the connection.
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

    /// Ends the connection with this verdict. Requests in flight that have no reason of their own fail for this one; the
    /// first counts.
    pub(crate) fn end(&self, verdict: Verdict, reason: FailureReason) {
        self.ends_for(reason);
        self.decide(verdict);
    }

    /// Closes with a reset, for this reason.
    pub(crate) fn reset(&self, reason: FailureReason) {
        self.end(Verdict::Reset, reason);
    }

    /// The connection ends for this reason, unless there is one already.
    pub(crate) fn ends_for(&self, reason: FailureReason) {
        self.ended_for.set(self.ended_for.get().or(Some(reason)));
    }

    /// Why the engine ended the connection; `None`: it did not.
    pub(crate) fn ended_for(&self) -> Option<FailureReason> {
        self.ended_for.get().or_else(|| self.parties.aborted().map(Aborted::failure))
    }

    /// The same as an event of the requests that it ends.
    pub(crate) fn ended_by(&self) -> Option<RequestEvent<'static>> {
        let reason = self.ended_for.get().map(RequestEvent::Failed);
        reason.or_else(|| self.parties.aborted().map(Aborted::event))
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

    /// A header section is incomplete at this tick.
    pub(crate) fn header_section_begun(&self, tick: u32) {
        if self.input.get() == Input::Open {
            self.input.set(Input::HeaderSection { since: tick });
        }
    }

    /// No header section is incomplete any more.
    pub(crate) fn header_section_ended(&self) {
        if let Input::HeaderSection { .. } = self.input.get() {
            self.input.set(Input::Open);
        }
    }

    /// Tick since when a header section is incomplete.
    pub(crate) fn header_section_since(&self) -> Option<u32> {
        match self.input.get() {
            Input::HeaderSection { since } => Some(since),
            _ => None,
        }
    }

    /// The client sends no more, as it is seen at this tick.
    pub(crate) fn half_closed(&self, tick: u32) {
        if !self.is_half_closed() {
            self.input.set(Input::HalfClosed { since: tick });
        }
    }

    fn is_half_closed(&self) -> bool {
        matches!(self.input.get(), Input::HalfClosed { .. } | Input::Probed { .. })
    }

    /// Whether bytes were sent to the client to find out if it is still there: its socket knows.
    pub(crate) fn was_probed(&self) -> bool {
        matches!(self.input.get(), Input::Probed { .. })
    }

    /// Finds out whether a client that has half-closed its connection is still there, and not only waits: once per request,
    /// as long as that is not answered.
    pub(crate) fn look_for_client(&self, clock: &Clock) {
        match self.input.get() {
            Input::HalfClosed { since } if clock.over(since, clock.ticks(HALF_CLOSED_MS)) => {
                if self.interim.probe() {
                    self.input.set(Input::Probed { since, looks: LOOKS });
                }
            }
            Input::Probed { since, looks: 0 } => self.input.set(Input::HalfClosed { since }),
            Input::Probed { since, looks } => {
                self.input.set(Input::Probed { since, looks: looks - 1 });
                self.wake();
            }
            Input::Open | Input::HeaderSection { .. } | Input::HalfClosed { .. } => {}
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&self) {
        self.open.set(self.open.get() - 1);
    }

    /// Has the connection's task polled.
    pub(crate) fn wake(&self) {
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
const PROBE: &[u8] = brattice_http1::write::CONTINUE;

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

    /// The next bytes to write.
    pub(crate) fn next(&self) -> Option<Bytes> {
        if !self.some.load(Relaxed) {
            return None;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = waiting.pop_front();
        self.some.store(!waiting.is_empty(), Relaxed);
        next
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
