//! Time in ticks, which the sweeper counts.

use std::{cell::Cell, time::Duration};

use brattice_wire::engine::Limits;

/// Ticks in the shortest of the times that the sweeper watches: a time is kept with at most a quarter more.
const TICKS: u32 = 8;
/// A tick is at least this long ...
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// ... and at most this.
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// Time in ticks of the sweeper. Reading it costs a load, so every frame of a body can be stamped with it.
#[derive(Debug)]
pub(crate) struct Clock {
    tick: Cell<u32>,
    period: Duration,
}

impl Clock {
    pub(crate) fn new(limits: &Limits) -> Self {
        let shortest = limits.header_timeout_ms.min(limits.body_idle_timeout_ms).min(limits.response_timeout_ms);
        let shortest = shortest.min(limits.pool_idle_timeout_ms).min(limits.write_timeout_ms);
        let period = Duration::from_millis((shortest / TICKS).into()).clamp(SHORTEST_TICK, LONGEST_TICK);
        Self { tick: Cell::new(0), period }
    }

    /// Time between two ticks.
    pub(crate) fn period(&self) -> Duration {
        self.period
    }

    /// Now.
    pub(crate) fn tick(&self) -> u32 {
        self.tick.get()
    }

    /// The sweeper's turn.
    pub(crate) fn advance(&self) {
        self.tick.set(self.tick.get().wrapping_add(1));
    }

    /// This many ticks after a moment, at least `ms` have passed since it.
    pub(crate) fn ticks(&self, ms: u32) -> u32 {
        let ticks = u128::from(ms).div_ceil(self.period.as_millis().max(1)) + 1;
        // saturates: more ticks than a u32 counts are years, which nothing waits for.
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Whether this many ticks have passed since `since`.
    pub(crate) fn over(&self, since: u32, ticks: u32) -> bool {
        self.since(since) >= ticks
    }

    /// Ticks that have passed since `since`.
    pub(crate) fn since(&self, since: u32) -> u32 {
        self.tick.get().wrapping_sub(since)
    }
}
