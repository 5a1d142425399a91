//! How often an engine failed, and what follows: a start at once, a start after a pause, or none until an operator asks
//! for it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// An engine that failed this often ...
pub const MAX_FAILURES: usize = 5;
/// ... within this time stays down until the documents change or an operator restarts it.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Longest pause between two starts.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The failures that count: unexpected ends, and starts that did not succeed.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// When, oldest first; those within the window.
    times: VecDeque<Instant>,
    /// Failures since an engine last served for a while.
    in_a_row: u32,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another start after this pause.
    After(Duration),
    /// No start.
    StayDown,
}

impl Failures {
    /// Counts a failure at `now`. `stable`: the engine had served for a while before, so there is no pause.
    pub(super) fn count(&mut self, now: Instant, stable: bool) -> Next {
        self.in_a_row = if stable { 0 } else { self.in_a_row + 1 };
        self.times.retain(|time| now.duration_since(*time) < FAILURE_WINDOW);
        self.times.push_back(now);
        if self.times.len() >= MAX_FAILURES { Next::StayDown } else { Next::After(pause(self.in_a_row)) }
    }

    /// What was is forgotten: documents or an operator want a fresh start.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Failures in a row, for the log.
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

/// The first two failures are followed by a start at once.
fn pause(failures: u32) -> Duration {
    match failures {
        0..=2 => Duration::ZERO,
        n => (Duration::from_millis(100) * 2u32.saturating_pow((n - 3).min(16))).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_fifth_failure_within_a_minute_is_the_last() {
        let start = Instant::now();
        let mut failures = Failures::default();
        for n in 0..4 {
            assert!(matches!(failures.count(start + seconds(n * 10), true), Next::After(_)), "failure {n}");
        }
        // The first one is 59.999 s old.
        assert_eq!(failures.count(start + seconds(60) - Duration::from_millis(1), true), Next::StayDown);
    }

    #[test]
    fn failures_older_than_a_minute_do_not_count() {
        let start = Instant::now();
        let mut failures = Failures::default();
        // One in 15 s for an hour: four at most within a minute.
        for n in 0..240 {
            assert_eq!(failures.count(start + seconds(n * 15), true), Next::After(Duration::ZERO), "failure {n}");
        }
        // One more in between is the fifth.
        assert_eq!(failures.count(start + seconds(239 * 15 + 1), true), Next::StayDown);
    }

    #[test]
    fn a_fresh_start_has_all_its_tries_again() {
        let start = Instant::now();
        let mut failures = Failures::default();
        for _ in 0..4 {
            failures.count(start, false);
        }
        failures.forget();
        for n in 0..4 {
            assert!(matches!(failures.count(start + seconds(1), false), Next::After(_)), "failure {n}");
        }
        assert_eq!(failures.count(start + seconds(1), false), Next::StayDown);
    }

    #[test]
    fn pauses_grow_for_engines_that_do_not_serve() {
        let start = Instant::now();
        let mut failures = Failures::default();
        let next: Vec<Next> = (0..5).map(|n| failures.count(start + seconds(n), false)).collect();
        let after = |ms| Next::After(Duration::from_millis(ms));
        assert_eq!(next, [after(0), after(0), after(100), after(200), Next::StayDown]);
        assert_eq!(failures.in_a_row(), 5);
        assert_eq!(failures.count(start + seconds(3600), true), after(0));
        assert_eq!(pause(100), LONGEST_PAUSE);
    }
}
