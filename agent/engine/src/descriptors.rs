//! Descriptors (open sockets): how many there are, how many a workload may have, and which are kept for others.

use std::sync::Arc;

use brattice_wire::engine::Limits;

use crate::{
    limits::{Taken, Usage, Use},
    memory,
    state::Shared,
    stats::{Counts, Limit},
};

/// One of so many is kept for new connections of those who have few, for DNS and for metrics ...
const RESERVE_SHARE: u32 = 8;
/// ... at least so many ...
const LEAST_RESERVE: u32 = 64;
/// ... and at most so many, which is twice what DNS may have.
const MOST_RESERVE: u32 = 8_192;
/// Who has fewer connections than this may take of the reserve.
const FEW: u32 = 8;
/// Sockets to listen on, descriptors to wait with, the access log: of a worker, and of the process.
const WORKERS: u32 = 8;
const PROCESS: u32 = 32;

/// How many are kept of this many.
fn reserve(descriptors: u32) -> u32 {
    (descriptors / RESERVE_SHARE).clamp(LEAST_RESERVE, MOST_RESERVE).min(descriptors / 2)
}

/// Bounds that fit to so many descriptors. A connection takes one, a request at most one for its target: all those of one
/// workload take at most half of what is not kept.
pub(crate) fn fit(limits: Limits) -> Limits {
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

impl Shared {
    /// Descriptors in use, and how many may be before the reserve is touched; 0: without a bound.
    pub fn descriptors(&self) -> [u32; 2] {
        let own = self.settings.workers.saturating_mul(WORKERS).saturating_add(PROCESS);
        let open = u32::try_from(self.counts.descriptors()).unwrap_or(u32::MAX);
        let most = self.limits.descriptors;
        [own.saturating_add(open), most - reserve(most)]
    }

    /// Whether only the reserve is left.
    pub fn crowded(&self) -> bool {
        let [used, most] = self.descriptors();
        most > 0 && used >= most
    }

    /// A place for a connection of a workload, if it may have one more.
    pub(crate) fn admit(&self, usage: &Arc<Usage>, counts: &Counts) -> Option<Taken> {
        // guard: descriptor-share
        if usage.open(Use::Connection) >= FEW && self.crowded() {
            counts.hit(Limit::Descriptors);
            return None;
        }
        if !self.room(usage, memory::CONNECTION, counts) {
            return None;
        }
        let taken = usage.take(Use::Connection, self.limits.connections_per_workload);
        if taken.is_none() {
            counts.hit(Limit::ConnectionsPerWorkload);
        }
        taken
    }
}

/// Counts a socket towards a target while it is open.
#[derive(Debug)]
pub(crate) struct Held {
    shared: Arc<Shared>,
    index: u32,
}

impl Held {
    /// By a worker.
    pub(crate) fn new(shared: &Arc<Shared>, index: u32) -> Self {
        shared.counts.worker(index).targets_open.add(1);
        Self { shared: Arc::clone(shared), index }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.counts.worker(self.index).targets_open.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_has_at_most_half_of_what_is_not_kept() {
        for descriptors in [256, 1_024, 4_096, 20_000, 1_048_576] {
            let limits = fit(Limits { descriptors, ..Limits::default() });
            let all = limits.connections_per_workload + limits.requests_per_workload;
            let kept = reserve(descriptors);
            assert!(all <= (descriptors - kept) / 2, "{descriptors}: {all}");
            assert!(limits.dns_in_flight <= kept / 2, "{descriptors}");
            assert!(all > 0 && limits.dns_in_flight_per_workload > 0, "{descriptors}");
        }
        let many = fit(Limits { descriptors: 1_048_576, ..Limits::default() });
        assert_eq!(many.connections_per_workload, Limits::default().connections_per_workload);
        assert_eq!(fit(Limits::default()), Limits::default(), "without a bound");
    }
}
