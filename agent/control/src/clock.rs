//! The clock that kernel programs and agent share (`CLOCK_BOOTTIME`), and the wall clock.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` in ns: what `bpf_ktime_get_boot_ns` returns.
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let part = |value: i64| u64::try_from(value).expect("the time since the boot is not negative");
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
