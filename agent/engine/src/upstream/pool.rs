//! Kept connections to targets, of one worker.
//!
//! A connection belongs to one service and one generation of one alias: two services never share one, and a workload
//! that gets an alias anew never meets its predecessor's. An HTTP/1.1 connection carries one request at a time, of any
//! caller; an HTTP/2 connection carries many, of one caller.

mod http2;

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
};

use brattice_router::hash::FastMap;
use brattice_wire::snapshot::{AliasGeneration, ServiceNumber};

pub(crate) use self::http2::{Choice, Http2Pool, Multiplexed, Opened, Streams};
use crate::clock::Clock;

/// Targets that a worker keeps connections to.
const MOST_KEYS: usize = 16_384;
/// Idle connections that a worker keeps, over all targets.
const MOST_IDLE: usize = 65_536;

/// The key of connections in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// [`crate::state::Service::number`].
    pub(crate) service: ServiceNumber,
    pub(crate) alias: IpAddr,
    pub(crate) port: u16,
    pub(crate) generation: AliasGeneration,
    pub(crate) http2: bool,
    /// How long a connection may idle, ms; with 0 none is kept.
    pub(crate) idle_ms: u32,
}

/// A connection that carries one request at a time.
pub(crate) trait Reusable {
    /// Whether it has ended.
    fn is_closed(&self) -> bool;
}

/// Idle ones of one key, the latest last: it is the likeliest to live.
type Idle<C> = Vec<(C, u32)>;

/// Kept connections of a worker, each for one request at a time.
pub(crate) struct Pool<C> {
    kept: RefCell<FastMap<Key, Idle<C>>>,
    idle: Cell<usize>,
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Self { kept: RefCell::default(), idle: Cell::default() }
    }
}

impl<C: Reusable> Pool<C> {
    /// An idle connection that is alive, the one that idled for the shortest time.
    pub(crate) fn take(&self, key: &Key) -> Option<C> {
        let mut kept = self.kept.borrow_mut();
        let idle = kept.get_mut(key)?;
        while let Some((connection, _)) = idle.pop() {
            self.idle.set(self.idle.get() - 1);
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request. False: there is no room, or it is closed already.
    pub(crate) fn give(&self, key: Key, connection: C, clock: &Clock, limit: u32) -> Result<(), Full> {
        if connection.is_closed() || key.idle_ms == 0 {
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

    /// Closes idle connections of keys that are not wanted any more.
    pub(crate) fn retain(&self, wanted: impl Fn(&Key) -> bool) {
        let mut all = self.kept.borrow_mut();
        all.retain(|key, _| wanted(key));
        self.idle.set(all.values().map(Vec::len).sum());
    }

    /// Closes what idled for too long; how many connections.
    pub(crate) fn sweep(&self, clock: &Clock) -> u64 {
        let mut closed = 0;
        let mut all = self.kept.borrow_mut();
        all.retain(|key, idle| {
            let idle_ticks = clock.ticks(key.idle_ms);
            // A connection that the target closed is not counted as timed out.
            idle.retain(|(connection, _)| !connection.is_closed());
            let living = idle.len();
            idle.retain(|(_, since)| !clock.over(*since, idle_ticks));
            closed += (living - idle.len()) as u64;
            !idle.is_empty()
        });
        self.idle.set(all.values().map(Vec::len).sum());
        closed
    }
}

/// There was no room for an idle connection.
#[derive(Debug)]
pub(crate) struct Full;
