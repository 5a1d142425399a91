//! Rate limits for log lines that a caller can cause.
//!
//! Each place that logs what an unknown caller can cause has a bound of its own, so that no one fills the disk and no one
//! hides another's line. What was left out is counted, and logged with the next line of the same place.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Lines of one place ...
pub const LINES: u64 = 5;
/// ... in this time.
pub const PERIOD: Duration = Duration::from_secs(10);

/// The half of [`Rarely`]'s number that counts lines.
const LINES_MASK: u64 = u32::MAX as u64;

/// The bound of one place.
#[derive(Debug, Default)]
pub struct Rarely {
    /// The number of the period in the upper half, lines written in it in the lower.
    written: AtomicU64,
    left_out: AtomicU64,
}

impl Rarely {
    /// Nothing was written yet.
    pub const fn new() -> Self {
        Self { written: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether a line may be written, this long after the process began; with how many were left out since the last one.
    pub fn admit(&self, now: Duration) -> Option<u64> {
        // From 1 on: 0 is the time before the first line.
        let period = (now.as_secs() / PERIOD.as_secs() + 1) << 32;
        let one_more = |written: u64| {
            if written & !LINES_MASK != period {
                return Some(period | 1);
            }
            // guard: log-lines
            (written & LINES_MASK < LINES).then_some(written + 1)
        };
        if self.written.fetch_update(Relaxed, Relaxed, one_more).is_ok() {
            return Some(self.left_out.swap(0, Relaxed));
        }
        self.left_out.fetch_add(1, Relaxed);
        None
    }

    /// As [`Rarely::admit`], now.
    pub fn admit_now(&self) -> Option<u64> {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        self.admit(BEGIN.get_or_init(Instant::now).elapsed())
    }
}

/// Logs as the macro of `tracing` whose name comes first, but at most [`LINES`](crate::rarely::LINES) lines of this place in
/// [`PERIOD`](crate::rarely::PERIOD). The field `left_out` says how many were not written.
///
/// `rarely!(warn, %error, "a connection cannot be accepted")`
#[macro_export]
macro_rules! rarely {
    ($level:ident, $($line:tt)+) => {{
        static PLACE: $crate::rarely::Rarely = $crate::rarely::Rarely::new();
        match PLACE.admit_now() {
            Some(0) => ::tracing::$level!($($line)+),
            Some(left_out) => ::tracing::$level!(left_out, $($line)+),
            None => {}
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_writes_so_many_lines_in_a_period_and_counts_the_rest() {
        let place = Rarely::new();
        let begin = Duration::from_secs(3);
        for _ in 0..LINES {
            assert_eq!(place.admit(begin), Some(0));
        }
        for _ in 0..100_000 {
            assert_eq!(place.admit(begin + Duration::from_secs(1)), None);
        }
        let next = PERIOD + Duration::from_secs(2);
        assert_eq!(place.admit(next), Some(100_000), "told with the next line");
        assert_eq!(place.admit(next), Some(0));
        // After a long silence, as at the beginning.
        for _ in 2..=LINES {
            assert!(place.admit(next + 1_000 * PERIOD).is_some());
        }
    }

    #[test]
    fn threads_share_the_bound() {
        let place = Rarely::new();
        let written = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        written.fetch_add(u64::from(place.admit(Duration::ZERO).is_some()), Relaxed);
                    }
                });
            }
        });
        assert_eq!(written.into_inner(), LINES);
        assert_eq!(place.admit(PERIOD), Some(8_000 - LINES));
    }
}
