//! Shared state of the parts that serve one client connection: the reader, the service, the sweeper.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
};

use brattice_wire::records::FailureReason;

use super::{interim::Interim, write_stall::WriteStall};
use crate::{
    auth::Latest,
    clock::Clock,
    events::{RequestEvent, connection::ConnectionSpan},
    tasks::{Aborted, Parties},
};

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
    pub(crate) interim: Rc<Interim>,
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
            interim: Rc::default(),
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
