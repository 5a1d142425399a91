//! Requests in flight, and their timeouts.
//!
//! No request has a timer of its own: each is stamped with the tick of its last progress, and once per tick the sweeper
//! looks at all of them. That costs a store per frame instead of two operations on a timer wheel.

use std::{
    cell::{Cell, OnceCell, RefCell},
    ops::Range,
    rc::Rc,
    task::{Context, Waker},
};

use brattice_wire::records::FailureReason;
use futures_util::future::AbortHandle;
use slab::Slab;

use crate::{
    admission::Transfer,
    auth::{Facts, Revoked},
    clock::Clock,
    events::{RequestEvent, request::RequestSpan},
    http::{control::Control, refusal::Refusal},
    limits::Taken,
    local::Local,
    state::Shared,
    waker::{park, wake},
};

/// The event that a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The target is to begin its answer.
    Answer,
    /// The client is to send more of its body.
    ClientBody,
    /// The target is to send more of its body.
    TargetBody,
    /// The client is to take more of the answer.
    ClientReading,
    /// Nothing: the protocol was changed, and both sides may be silent for as long as they like.
    Nothing,
}

/// The wait that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The target did not begin its answer.
    Answer,
    /// The client stopped sending its body.
    ClientBody,
    /// The target stopped sending its body.
    TargetBody,
}

/// Why a request body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client's connection or stream failed, or ended before its end.
    Client,
    /// What the client sent is no body.
    Refused(Refusal),
    /// It is over `body_bytes`.
    TooLarge,
    /// Its workload may have no more large bodies.
    NoRoom,
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct ActiveRequest {
    key: Cell<usize>,
    waits: Cell<Waits>,
    touched: Cell<u32>,
    /// Idle timeout of the service in ticks, where that is longer than the engine's own.
    silence: Cell<u32>,
    expired: Cell<Option<Expired>>,
    /// Of the future that waits for the answer, or of the body that waits for the target.
    waker: RefCell<Option<Waker>>,
    /// Its facts, and where its events go.
    pub(crate) span: RequestSpan,
    /// Why the request body ended before its end.
    pub(crate) fault: Cell<Option<Fault>>,
    /// The whole request body was handed on.
    pub(crate) sent: Cell<bool>,
    /// The response is complete: the rest of the request body is not needed any more.
    cut: Cell<bool>,
    /// Of the request body, while it waits for the client.
    body_waker: RefCell<Option<Waker>>,
    /// Facts that policies may ask about it, once it was let through.
    facts: RefCell<Option<Rc<Facts>>>,
    /// Its place among the requests of its workload.
    pub(crate) taken: RefCell<Option<Taken>>,
    /// Its place among those with a large body.
    transfer: RefCell<Option<Transfer>>,
    /// Why it was ended although it had been let through.
    revoked: OnceCell<Revoked>,
    /// Ends the request's stream (HTTP/2); without one, the connection is ended.
    stream: Option<AbortHandle>,
    control: Rc<Control>,
}

impl ActiveRequest {
    /// Progress: from now on the request waits for this.
    pub(crate) fn touch(&self, waits: Waits, clock: &Clock) {
        self.waits.set(waits);
        self.touched.set(clock.tick());
    }

    /// The service is known now, and with it how long client and target may be silent.
    pub(crate) fn may_be_silent(&self, ticks: u32) {
        self.silence.set(ticks);
    }

    /// No progress, but it is known now what the request waits for.
    pub(crate) fn wait(&self, waits: Waits) {
        self.waits.set(waits);
    }

    /// The event that it waits for.
    pub(crate) fn waits(&self) -> Waits {
        self.waits.get()
    }

    /// A body of the request, or of its answer, is large, or waits. False: its workload may have no more of these.
    pub(crate) fn transfers(&self, shared: &Shared) -> bool {
        let mut transfer = self.transfer.borrow_mut();
        if transfer.is_none()
            && let Some(taken) = self.taken.borrow().as_ref()
        {
            let events = self.span.events();
            match shared.admit_transfer(taken.usage(), events) {
                Ok(admitted) => *transfer = Some(admitted),
                Err(limit) => {
                    events.limit_reached(limit, 1);
                    return false;
                }
            }
        }
        true
    }

    /// Ends it from outside, for this reason: its stream (HTTP/2), or its connection.
    fn end(&self, reason: FailureReason) {
        self.span.emit(RequestEvent::Failed(reason));
        match &self.stream {
            Some(stream) => stream.abort(),
            None => self.control.reset(reason),
        }
    }

    /// Whether the answer has begun.
    pub(crate) fn answering(&self) -> bool {
        matches!(self.waits.get(), Waits::TargetBody | Waits::ClientReading)
    }

    /// The wait that took too long; else the task of `cx` is woken when something does.
    pub(crate) fn poll_expired(&self, cx: &Context<'_>) -> Option<Expired> {
        let expired = self.expired.get();
        if expired.is_none() {
            park(&self.waker, cx);
        }
        expired
    }

    /// Ends the request body, also while it waits for the client.
    pub(crate) fn cut(&self) {
        if !self.sent.get() {
            self.cut.set(true);
            wake(&self.body_waker);
        }
    }

    /// Whether [`ActiveRequest::cut`] was called; else the task of `cx` is woken when it is.
    pub(crate) fn is_cut(&self, cx: &Context<'_>) -> bool {
        if !self.cut.get() {
            park(&self.body_waker, cx);
        }
        self.cut.get()
    }

    /// It was let through.
    pub(crate) fn passed(&self, facts: Rc<Facts>) {
        *self.facts.borrow_mut() = Some(facts);
    }

    /// Why it is not to go on, of those that were let through; asks `reason`.
    pub(crate) fn review(&self, reason: impl FnOnce(&Facts) -> Option<Revoked>) -> bool {
        let Some(revoked) = self.facts.borrow().as_deref().and_then(reason) else { return false };
        if self.revoked.set(revoked).is_err() {
            return false;
        }
        self.control.revoked.set(self.control.revoked.get() + 1);
        self.end(FailureReason::ClientAccessDenied);
        true
    }

    /// Whether it is a stream of HTTP/2.
    pub(crate) fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Why it was ended although it had been let through.
    pub(crate) fn revoked(&self) -> Option<&Revoked> {
        self.revoked.get()
    }

    fn expire(&self, expired: Expired) {
        self.expired.set(Some(expired));
        wake(&self.waker);
    }
}

/// The entry of an active request in [`ActiveRequests`], held until its response is complete.
pub(crate) struct Registration {
    active_requests: Rc<ActiveRequests>,
    pub(crate) control: Rc<Control>,
    pub(crate) active: Rc<ActiveRequest>,
    /// The response was sent in full.
    pub(crate) complete: bool,
}

impl Registration {
    pub(crate) fn local(&self) -> &Rc<Local> {
        &self.active_requests.local
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let local = &self.active_requests.local;
        let taken = self.active.taken.borrow_mut().take();
        self.active_requests.end(&self.active);
        self.active.cut();
        self.control.ended();
        self.control.touched.set(local.clock.tick());
        self.control.latest.ended();
        if let Some(revoked) = self.active.revoked() {
            self.active.span.emit(revoked.event());
            self.control.revoked.set(self.control.revoked.get() - 1);
        }
        let ended_for = self.control.ended_for();
        // A connection that a client's bytes end takes its requests back as well.
        let by_client = ended_for.is_none_or(|reason| reason == FailureReason::ClientProtocolError);
        if !self.complete && self.active.is_stream() && self.active.span.failure().is_none() && by_client {
            self.control.cancelled.set(self.control.cancelled.get() + 1);
            if let Some(taken) = &taken {
                // guard: requests-taken-back
                taken.usage().cancelled();
            }
        }
        // The response that changed the protocol was complete, what followed it was not.
        let upgraded = self.active.waits() == Waits::Nothing;
        if let Some(ended) = self.control.ended_by().filter(|_| !self.complete || upgraded) {
            // A reason of its own counts.
            self.active.span.emit(ended);
        }
        self.active.span.end(self.complete);
    }
}

/// The findings of the sweeper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Targets that did not answer.
    pub(crate) answers: u64,
    /// Bodies that stopped.
    pub(crate) bodies: u64,
}

/// All requests in flight of a worker.
pub(crate) struct ActiveRequests {
    local: Rc<Local>,
    table: RefCell<Slab<Rc<ActiveRequest>>>,
}

impl ActiveRequests {
    pub(crate) fn new(local: &Rc<Local>) -> Rc<Self> {
        Rc::new(Self { local: Rc::clone(local), table: RefCell::default() })
    }

    /// A request begins.
    pub(crate) fn begin(
        self: &Rc<Self>,
        control: &Rc<Control>,
        span: RequestSpan,
        stream: Option<AbortHandle>,
    ) -> Registration {
        let active = Rc::new(ActiveRequest {
            key: Cell::new(0),
            waits: Cell::new(Waits::Answer),
            touched: Cell::new(self.local.clock.tick()),
            silence: Cell::new(0),
            expired: Cell::new(None),
            waker: RefCell::default(),
            span,
            fault: Cell::new(None),
            sent: Cell::new(false),
            cut: Cell::new(false),
            body_waker: RefCell::default(),
            facts: RefCell::default(),
            taken: RefCell::default(),
            transfer: RefCell::default(),
            revoked: OnceCell::new(),
            stream,
            control: Rc::clone(control),
        });
        active.key.set(self.table.borrow_mut().insert(Rc::clone(&active)));
        Registration { active_requests: Rc::clone(self), control: Rc::clone(control), active, complete: false }
    }

    /// A request has ended.
    fn end(&self, active: &ActiveRequest) {
        active.facts.borrow_mut().take();
        active.taken.borrow_mut().take();
        active.transfer.borrow_mut().take();
        self.table.borrow_mut().try_remove(active.key.get());
    }

    /// Places in the table, empty ones included.
    pub(crate) fn span(&self) -> usize {
        self.table.borrow().capacity()
    }

    /// Requests at some places of the table.
    pub(crate) fn slice(&self, places: Range<usize>, each: impl FnMut(&Rc<ActiveRequest>)) {
        let active_requests = self.table.borrow();
        places.filter_map(|place| active_requests.get(place)).for_each(each);
    }

    /// Counts bodies whose receiver does not read: what it does not take stays in buffers. Bodies for which no
    /// memory is left are ended.
    pub(crate) fn count_waiting(&self, clock: &Clock, shared: &Shared) {
        for (_, active) in self.table.borrow().iter() {
            let waiting = match active.waits.get() {
                Waits::ClientReading => true,
                Waits::Answer => !active.sent.get(),
                Waits::ClientBody | Waits::TargetBody | Waits::Nothing => false,
            };
            if waiting && clock.over(active.touched.get(), 1) && !active.transfers(shared) {
                active.end(FailureReason::ClientRateLimited);
            }
        }
    }

    /// Ends what takes too long.
    pub(crate) fn sweep(&self, clock: &Clock, answer_ticks: u32, body_ticks: u32) -> Swept {
        let mut swept = Swept::default();
        for (_, active) in self.table.borrow().iter() {
            if active.expired.get().is_some() {
                continue;
            }
            let since = active.touched.get();
            let silent = |ticks: u32| clock.over(since, ticks.max(active.silence.get()));
            match active.waits.get() {
                Waits::Answer if silent(answer_ticks) => {
                    swept.answers += 1;
                    active.expire(Expired::Answer);
                }
                Waits::ClientBody if silent(body_ticks) => {
                    swept.bodies += 1;
                    active.expire(Expired::ClientBody);
                }
                Waits::TargetBody if silent(body_ticks) => {
                    swept.bodies += 1;
                    active.expire(Expired::TargetBody);
                }
                // A slow reader of HTTP/1 takes long between two frames and still makes progress.
                Waits::ClientReading
                    if clock.over(since, body_ticks)
                        && (active.is_stream() || clock.over(active.control.wrote.get(), body_ticks)) =>
                {
                    swept.bodies += 1;
                    active.expired.set(Some(Expired::ClientBody));
                    active.end(FailureReason::ConnectionDurationExceeded);
                }
                _ => {}
            }
        }
        swept
    }
}
