//! Waiting for conditions, with deadlines.

use std::time::{Duration, Instant};

/// Waits until `condition` holds; checks every 20 ms.
///
/// # Panics
/// When it does not hold within `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `attempt` gives something.
///
/// # Panics
/// When it gives nothing within `limit`; tells the latest reason.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) => assert!(start.elapsed() < limit, "not within {limit:?}: {what}: {reason}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
