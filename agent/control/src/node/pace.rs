//! How often the host's interfaces are read.
//!
//! A new workload's first call waits for a look, and a workload comes in a burst of changes: interface, address, routes. So the
//! first looks after a quiet time begin at once. On a host whose interfaces and routes change all the time looks take at most a
//! third of a core. Time of the processor counts: attaching a program is mostly waiting for the kernel. What a look causes is counted as
//! its own: the plan, and its writes, which the actuator's thread makes afterwards.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Time that looks may take at once after a quiet time: several looks at a usual host.
const BURST: Duration = Duration::from_millis(30);
/// Longest time from the beginning of a look to the next, however long looks take.
pub(super) const MAX_PAUSE: Duration = Duration::from_millis(50);
/// A look is paid for by this many times its own length.
const COST: u32 = 3;

/// The time at which looks so far are paid for: at most [`MAX_PAUSE`] after the latest began, and as long ago as allows a
/// [`BURST`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    paid: Instant,
    /// The latest look, with what was used when its costs were counted last.
    latest: Option<Began>,
}

/// The beginning of a look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    at: Instant,
    /// What the agent had used of processors.
    used: Duration,
}

impl Began {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), used: used() }
    }
}

/// What this process has used of processors.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    let reason = "the kernel counts up from 0, with less than 10^9 nanoseconds";
    Duration::new(seconds.expect(reason), nanoseconds.expect(reason))
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { paid: now, latest: None }
    }

    /// When the next look may begin; not before `now`.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        self.count();
        self.paid.max(now)
    }

    /// A look has ended.
    pub(super) fn looked(&mut self, began: Began) {
        self.count();
        self.latest = Some(began);
    }

    /// Counts what was used since the latest look began, or since it was counted last.
    fn count(&mut self) {
        if let Some(mut latest) = self.latest {
            let now = used();
            self.took(latest.at, now.saturating_sub(latest.used));
            latest.used = now;
            self.latest = Some(latest);
        }
    }

    /// A look that began then has used this much of a processor.
    fn took(&mut self, began: Instant, used: Duration) {
        let earliest = began.checked_sub(BURST * COST).unwrap_or(began);
        self.paid = (self.paid.max(earliest) + used * COST).min(began + MAX_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Looks that are asked for without end and take this long: how many began at once, and how many in a second after those.
    fn flood(took: Duration) -> (u32, u32) {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(start), start + Duration::from_secs(10));
        let mut at_once = 0;
        while pace.next(now) == now && at_once < 1_000 {
            at_once += 1;
            pace.took(now, took);
            now += took;
        }
        let (end, mut later) = (now + Duration::from_secs(1), 0);
        while now < end {
            now = pace.next(now);
            pace.took(now, took);
            now += took;
            later += 1;
        }
        (at_once, later)
    }

    #[test]
    fn a_burst_is_looked_at_at_once_and_a_flood_takes_a_third_of_the_time() {
        for (took, at_once, later) in
            [(2 * MS, 20..=30, 160..=170), (10 * MS, 4..=6, 31..=35), (40 * MS, 1..=2, 19..=21)]
        {
            let found = flood(took);
            assert!(at_once.contains(&found.0) && later.contains(&found.1), "{took:?}: {found:?}");
        }
    }

    #[test]
    fn no_owner_waits_longer_than_the_longest_pause() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for took in [20 * MS, 20 * MS, 20 * MS, 500 * MS] {
            let began = now;
            pace.took(began, took);
            now += took;
            assert!(pace.next(now) <= (began + MAX_PAUSE).max(now), "{took:?}");
        }
        assert_eq!(pace.next(now), now, "never in the past");
    }
}
