//! HTTP/2 connections to targets. Each belongs to one caller: streams of a connection share its flow control, its frame
//! budgets and its end, so no other caller's may be on it (RFC 9113, 5.2).

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use brattice_router::hash::FastMap;
use tokio::sync::watch;

use super::Key;
use crate::{aliases::CallerId, clock::Clock, upstream::connector::ConnectError};

/// Connections of a caller to one target; when all have as many streams as the target allows, requests wait in the one
/// that has fewest.
const MOST_PER_TARGET: usize = 16;
/// Idle connections that a worker keeps, over all callers and targets; of more, those that idle longest are closed.
const MOST_IDLE: usize = 8_192;

/// A connection that carries several requests at a time; a clone is the same connection.
pub(crate) trait Multiplexed: Clone {
    /// Whether it takes requests.
    fn is_open(&self) -> bool;
    /// Streams that may be open, as the target's settings say now.
    fn room(&self) -> usize;
    /// The streams on it.
    fn streams(&self) -> &Rc<Streams>;
}

/// Our streams on a connection.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Cell<usize>,
    begun: Cell<u32>,
    /// Tick when the last one ended.
    since: Cell<u32>,
}

impl Streams {
    /// Of a connection that was made at this tick.
    pub(crate) fn new(tick: u32) -> Rc<Self> {
        Rc::new(Self { since: Cell::new(tick), ..Self::default() })
    }

    /// One more is open.
    pub(crate) fn begin(&self) {
        self.open.set(self.open.get() + 1);
        self.begun.set(self.begun.get().saturating_add(1));
    }

    /// One has ended at this tick.
    pub(crate) fn end(&self, tick: u32) {
        self.open.set(self.open.get() - 1);
        self.since.set(tick);
    }

    fn idles(&self) -> bool {
        self.open.get() == 0
    }
}

/// The result of a connect in progress; requests that wait for it share it.
pub(crate) type Opened = watch::Receiver<Option<Result<(), Rc<ConnectError>>>>;

/// The next step for a request.
pub(crate) enum Choice<C> {
    /// Use this one.
    Use(C),
    /// Another request is opening a connection: wait, then look again.
    Wait(Opened),
    /// Make one.
    Open,
    /// The caller has as many as it may, all of them in use; this one leads to the target.
    Full(Option<C>),
}

/// A caller's, to one target.
struct Kept<C> {
    connections: Vec<C>,
    /// One is being made.
    opening: Option<Opened>,
}

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self { connections: Vec::new(), opening: None }
    }
}

impl<C: Multiplexed> Kept<C> {
    fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.opening.is_none()
    }

    /// How many there are, and will be.
    fn len(&self) -> usize {
        self.connections.len() + usize::from(self.opening.is_some())
    }

    /// The one with the fewest streams.
    fn least(&self) -> Option<&C> {
        self.connections.iter().min_by_key(|connection| connection.streams().open.get())
    }
}

/// A caller's, to all targets.
struct Own<C>(FastMap<Key, Kept<C>>);

impl<C> Default for Own<C> {
    fn default() -> Self {
        Self(FastMap::default())
    }
}

impl<C: Multiplexed> Own<C> {
    fn len(&self) -> usize {
        self.0.values().map(Kept::len).sum()
    }

    /// Forgets what is closed, as far as `keep` says, and what is empty then.
    fn retain(&mut self, mut keep: impl FnMut(&Key, &C) -> bool) {
        self.0.retain(|key, kept| {
            kept.connections.retain(|connection| keep(key, connection));
            !kept.is_empty()
        });
    }

    /// Closes the one that idles longest, if any does.
    fn evict(&mut self, clock: &Clock) -> bool {
        let idle = self.0.values().flat_map(|kept| &kept.connections).filter(|connection| connection.streams().idles());
        let Some(oldest) = idle.max_by_key(|connection| clock.since(connection.streams().since.get())) else {
            return false;
        };
        let oldest = Rc::clone(oldest.streams());
        self.retain(|_, connection| !Rc::ptr_eq(connection.streams(), &oldest));
        true
    }
}

/// All HTTP/2 connections of a worker.
pub(crate) struct Http2Pool<C>(RefCell<FastMap<CallerId, Own<C>>>);

impl<C> Default for Http2Pool<C> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<C: Multiplexed> Http2Pool<C> {
    /// A connection of the caller's with room for a stream, or what to do to get one. `limit`: of its connections to
    /// all targets. `places`: streams that a connection is expected to take before the target closes it; no later one is
    /// chosen.
    pub(crate) fn choose(&self, caller: &CallerId, key: &Key, clock: &Clock, limit: u32, places: u32) -> Choice<C> {
        let mut all = self.0.borrow_mut();
        let Some(own) = all.get_mut(caller) else { return Choice::Open };
        if let Some(kept) = own.0.get_mut(key) {
            kept.connections.retain(C::is_open);
            let room = |connection: &&C| {
                let streams = connection.streams();
                streams.open.get() < connection.room() && streams.begun.get() < places
            };
            if let Some(connection) = kept.connections.iter().find(room) {
                return Choice::Use(connection.clone());
            }
            if let Some(opening) = &kept.opening {
                return Choice::Wait(opening.clone());
            }
            if kept.connections.len() >= MOST_PER_TARGET
                && let Some(connection) = kept.least()
            {
                return Choice::Use(connection.clone());
            }
        }
        if own.len() >= limit as usize {
            own.retain(|_, connection| connection.is_open());
            if own.len() >= limit as usize && !own.evict(clock) {
                return Choice::Full(own.0.get(key).and_then(Kept::least).cloned());
            }
        }
        Choice::Open
    }

    /// Says that a connection is being made.
    pub(crate) fn opening(&self, caller: CallerId, key: Key, opened: Opened) {
        self.0.borrow_mut().entry(caller).or_default().0.entry(key).or_default().opening = Some(opened);
    }

    /// The connection was made, or not.
    pub(crate) fn opened(&self, caller: &CallerId, key: &Key, connection: Option<C>) {
        let mut all = self.0.borrow_mut();
        let Some(own) = all.get_mut(caller) else { return };
        if let Some(kept) = own.0.get_mut(key) {
            kept.opening = None;
            kept.connections.extend(connection);
            if kept.is_empty() {
                own.0.remove(key);
            }
        }
        if own.0.is_empty() {
            all.remove(caller);
        }
    }

    /// Connections that are not wanted any more get no new requests.
    pub(crate) fn retain(&self, wanted: impl Fn(&Key) -> bool, may_call: impl Fn(&CallerId) -> bool) {
        self.0.borrow_mut().retain(|caller, own| {
            own.0.retain(|key, _| wanted(key));
            may_call(caller) && !own.0.is_empty()
        });
    }

    /// Closes what idled for too long, or is too much; the answer is how many of each. `crowded`: descriptors are few.
    pub(crate) fn sweep(&self, clock: &Clock, crowded: bool) -> (u64, u64) {
        let mut all = self.0.borrow_mut();
        // A connection that the target closed is not counted as timed out.
        all.values_mut().for_each(|own| own.retain(|_, connection| connection.is_open()));
        let most_ticks = most_ticks(&all, clock, if crowded { 0 } else { MOST_IDLE });
        let (mut timed_out, mut surplus) = (0, 0);
        all.retain(|_, own| {
            own.retain(|key, connection| {
                let idle_ticks = clock.ticks(key.idle_ms);
                let idle = if connection.streams().idles() { clock.since(connection.streams().since.get()) } else { 0 };
                timed_out += u64::from(idle >= idle_ticks);
                surplus += u64::from(idle >= most_ticks && idle < idle_ticks);
                idle < idle_ticks.min(most_ticks)
            });
            !own.0.is_empty()
        });
        (timed_out, surplus)
    }
}

/// How long connections may idle, in ticks, so that about `most` of them are left.
fn most_ticks<C: Multiplexed>(all: &FastMap<CallerId, Own<C>>, clock: &Clock, most: usize) -> u32 {
    let idle = || {
        all.values()
            .flat_map(|own| own.0.values())
            .flat_map(|kept| &kept.connections)
            .filter(|held| held.streams().idles())
    };
    if idle().count() <= most {
        return u32::MAX;
    }
    let mut ticks: Vec<u32> = idle().map(|held| clock.since(held.streams().since.get())).collect();
    // Those of this tick stay until the next one.
    (*ticks.select_nth_unstable(most).1).max(1)
}
