//! Fits the bounds to the resources of the process: descriptors, memory.

use brattice_wire::engine::Limits;

/// One of this many is kept for new connections of workloads that have few, for DNS and for metrics ...
const RESERVE_SHARE: u32 = 8;
/// ... at least this many ...
const LEAST_RESERVE: u32 = 64;
/// ... and at most this many, which is twice what DNS may have.
const MOST_RESERVE: u32 = 8_192;

/// Of the process' memory, traffic may have this many eighths ...
const TRAFFIC: u64 = 5;
/// ... and one workload one part of this many of all.
const WORKLOAD: u64 = 4;
/// However small the process' memory is, traffic is left so much.
const LEAST: u64 = 16 * 1024 * 1024;

/// How many are kept of this many.
pub(crate) fn reserve(descriptors: u32) -> u32 {
    (descriptors / RESERVE_SHARE).clamp(LEAST_RESERVE, MOST_RESERVE).min(descriptors / 2)
}

/// Bounds that fit to this many descriptors. A connection takes one, a request at most one for its target: all those of
/// one workload take at most half of what is not kept.
pub(crate) fn descriptors(limits: Limits) -> Limits {
    if limits.descriptors == 0 {
        return limits;
    }
    let kept = reserve(limits.descriptors);
    let each = (limits.descriptors - kept) / 4;
    Limits {
        connections_per_workload: limits.connections_per_workload.min(each),
        requests_per_workload: limits.requests_per_workload.min(each),
        dns_in_flight: limits.dns_in_flight.min(kept / 2),
        dns_in_flight_per_workload: limits.dns_in_flight_per_workload.min(kept / 4),
        ..limits
    }
}

/// Bounds that fit to this many bytes of memory that the process may have.
pub(crate) fn memory(limits: Limits, halvings: u32) -> Limits {
    if limits.memory_bytes == 0 {
        return limits;
    }
    let all = (limits.memory_bytes / 8 * TRAFFIC).checked_shr(halvings).unwrap_or(0).max(LEAST);
    let each = (limits.memory_bytes / WORKLOAD).checked_shr(halvings).unwrap_or(0).max(LEAST / 2);
    let asked = if limits.bytes_per_workload == 0 { u64::MAX } else { limits.bytes_per_workload };
    Limits { memory_bytes: all, bytes_per_workload: asked.min(each), ..limits }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_workload_has_at_most_half_of_what_is_not_kept() {
        for descriptors in [256, 1_024, 4_096, 20_000, 1_048_576] {
            let limits = super::descriptors(Limits { descriptors, ..Limits::default() });
            let all = limits.connections_per_workload + limits.requests_per_workload;
            let kept = reserve(descriptors);
            assert!(all <= (descriptors - kept) / 2, "{descriptors}: {all}");
            assert!(limits.dns_in_flight <= kept / 2, "{descriptors}");
            assert!(all > 0 && limits.dns_in_flight_per_workload > 0, "{descriptors}");
        }
        let many = descriptors(Limits { descriptors: 1_048_576, ..Limits::default() });
        assert_eq!(many.connections_per_workload, Limits::default().connections_per_workload);
        assert_eq!(descriptors(Limits::default()), Limits::default(), "without a bound");
    }

    #[test]
    fn budgets_follow_the_memory_that_there_is() {
        let fitted = |memory_bytes, halvings| {
            let limits = memory(Limits { memory_bytes, ..Limits::default() }, halvings);
            (limits.memory_bytes, limits.bytes_per_workload)
        };
        assert_eq!(fitted(4 * GIB, 0), (5 * GIB / 2, GIB));
        assert_eq!(fitted(4 * GIB, 2), (5 * GIB / 8, GIB / 4), "after two kills");
        assert_eq!(fitted(4 * GIB, 64), (LEAST, LEAST / 2));
        assert_eq!(fitted(0, 0), (0, 0), "without a bound");
        let asked = Limits { memory_bytes: 4 * GIB, bytes_per_workload: 7, ..Limits::default() };
        assert_eq!(memory(asked, 0).bytes_per_workload, 7);
    }
}
