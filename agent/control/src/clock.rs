//! The clock that kernel programs and agent share.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` in ns: what `bpf_ktime_get_boot_ns` returns.
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
