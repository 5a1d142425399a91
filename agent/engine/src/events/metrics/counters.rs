//! The engine's counters. Any thread may read them; only the metrics subscriber writes.
//!
//! Every worker has a block of its own, which only its thread writes: no cache line is shared on the request path, and
//! the sum is made on reading. The DNS thread counts in the block of the last index.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use brattice_wire::{
    engine::Stats,
    records::{FailureReason, NodeMetrics},
};

use super::{
    count::Count,
    series::{NONE, Registry},
};
use crate::{events::names::Names, limits::Limit};

/// One thread's counts; the fields are those of [`Stats`]. Aligned so that two threads never share a cache line, nor
/// the pair of lines that x86 fetches together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counts {
    /// Client connections accepted.
    pub connections_accepted: Count,
    /// Client connections open now.
    pub connections_open: Count,
    /// Sockets towards targets that are open now.
    pub targets_open: Count,
    /// Large bodies on their way now.
    pub transfers_open: Count,
    /// Connections relayed as TCP.
    pub connections_relayed: Count,
    /// Requests whose head was read.
    pub requests: Count,
    /// Requests in flight now.
    pub requests_open: Count,
    /// Answers by class.
    pub responses: [Count; 5],
    /// Requests refused as malformed or smuggling.
    pub refused_requests: Count,
    /// Requests for a service unknown to the caller.
    pub unknown_service: Count,
    /// Requests that policies refused, by level: identity, network, service.
    pub denied: [Count; 3],
    /// What was ended because it is not allowed any more: requests, streams and upgraded connections; client connections
    /// between requests and relayed ones.
    pub revoked: [Count; 2],
    /// Relayed connections refused, because policies would have to be asked about what they carry.
    pub unrelayed: Count,
    /// Failed or timed out connects to targets.
    pub connect_errors: Count,
    /// Connections whose peer was no known alias.
    pub unknown_peers: Count,
    /// Times each [`Limit`] was hit.
    pub limits_hit: [Count; Limit::COUNT],
    /// DNS questions answered by us, forwarded, refused.
    pub dns: [Count; 3],
    /// Requests that failed, in the order of [`FailureReason::ALL`].
    pub failures: [Count; FailureReason::ALL.len()],
}

impl Counts {
    /// A bound was reached, this many times.
    pub(super) fn reached(&self, limit: Limit, times: u64) {
        self.limits_hit[limit as usize].add(times);
    }

    /// Counts an answer by its status code.
    pub(super) fn answered(&self, status: u16) {
        if let Some(class) = self.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            class.add(1);
        }
    }
}

/// Connections and requests that are open on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Client connections.
    pub connections: u64,
    /// Requests in flight.
    pub requests: u64,
    /// Large bodies on their way.
    pub transfers: u64,
}

/// All threads' counts.
#[derive(Debug)]
pub struct Counters {
    blocks: Box<[Counts]>,
    /// Counts by service, listener, target group and VPC.
    pub series: Registry,
    /// The agent's numbers, as it reported them last, and when that was.
    agent: Mutex<Option<(SystemTime, NodeMetrics)>>,
}

impl Counters {
    /// For `workers` workers and the DNS thread.
    pub fn new(workers: u32) -> Self {
        Self {
            blocks: (0..=workers).map(|_| Counts::default()).collect(),
            series: Registry::new(workers),
            agent: Mutex::default(),
        }
    }

    /// Connections and requests that are open on each thread.
    pub fn open(&self) -> impl Iterator<Item = Open> {
        // One that was opened on one thread may be closed on another.
        let known = |count: &Count| if count.get() > u64::MAX / 2 { 0 } else { count.get() };
        self.blocks.iter().map(move |counts| Open {
            connections: known(&counts.connections_open),
            requests: known(&counts.requests_open),
            transfers: known(&counts.transfers_open),
        })
    }

    /// Sockets of clients and towards targets that are open now.
    pub fn descriptors(&self) -> u64 {
        let sum = self.blocks.iter().fold(0u64, |sum, counts| {
            sum.wrapping_add(counts.connections_open.get()).wrapping_add(counts.targets_open.get())
        });
        // As in `sum`.
        if sum > u64::MAX / 2 { 0 } else { sum }
    }

    /// Workers; the block behind theirs is the DNS thread's.
    pub(super) fn workers(&self) -> u32 {
        u32::try_from(self.blocks.len() - 1).expect("there is a block for each of a u32 of workers, and one more")
    }

    /// A thread's block.
    ///
    /// # Panics
    /// When there is no such thread.
    pub(super) fn block(&self, thread: u32) -> &Counts {
        &self.blocks[thread as usize]
    }

    /// Requests that failed, in the order of [`FailureReason::ALL`].
    pub fn failures(&self) -> [u64; FailureReason::ALL.len()] {
        std::array::from_fn(|reason| {
            self.blocks.iter().fold(0, |sum: u64, counts| sum.wrapping_add(counts.failures[reason].get()))
        })
    }

    /// The agent's own numbers, which arrived at this time.
    pub fn set_agent(&self, arrived: SystemTime, numbers: NodeMetrics) {
        *self.lock_agent() = Some((arrived, numbers));
    }

    /// The agent's numbers, as it reported them last, and when that was.
    pub fn agent(&self) -> Option<(SystemTime, NodeMetrics)> {
        self.lock_agent().clone()
    }

    fn lock_agent(&self) -> MutexGuard<'_, Option<(SystemTime, NodeMetrics)>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the series of services that are gone.
    pub(crate) fn forget_series(&self, names: &Names) {
        let services: HashSet<&str> = names.service_names().collect();
        self.series.retain(|labels| &*labels.service == NONE || services.contains(&*labels.service));
    }

    /// The sum over all threads, beside what is no sum.
    pub fn sum(&self, revision: u64, busiest: [u32; 3], sandbox_missing: Vec<String>) -> Stats {
        let sum = |field: &dyn Fn(&Counts) -> u64| {
            // An opened thing may be closed on another thread's block between two reads; never show that as huge.
            let total = self.blocks.iter().map(field).fold(0u64, u64::wrapping_add);
            if total > u64::MAX / 2 { 0 } else { total }
        };
        Stats {
            revision,
            connections_accepted: sum(&|c| c.connections_accepted.get()),
            connections_open: sum(&|c| c.connections_open.get()),
            connections_relayed: sum(&|c| c.connections_relayed.get()),
            requests: sum(&|c| c.requests.get()),
            requests_open: sum(&|c| c.requests_open.get()),
            responses: std::array::from_fn(|class| sum(&|c| c.responses[class].get())),
            refused_requests: sum(&|c| c.refused_requests.get()),
            unknown_service: sum(&|c| c.unknown_service.get()),
            denied: std::array::from_fn(|level| sum(&|c| c.denied[level].get())),
            revoked: std::array::from_fn(|kind| sum(&|c| c.revoked[kind].get())),
            unrelayed: sum(&|c| c.unrelayed.get()),
            connect_errors: sum(&|c| c.connect_errors.get()),
            unknown_peers: sum(&|c| c.unknown_peers.get()),
            limits_hit: Limit::NAMES
                .iter()
                .enumerate()
                .map(|(n, name)| ((*name).to_owned(), sum(&|c| c.limits_hit[n].get())))
                .collect(),
            busiest,
            most: [0; 3],
            descriptors: [0; 2],
            memory: [0; 2],
            busiest_memory: [0; 2],
            dns: std::array::from_fn(|n| sum(&|c| c.dns[n].get())),
            sandbox_missing,
            log_lines: [0; 3],
            metrics_overflow: 0,
            failing: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_summed() {
        let counts = Counters::new(2);
        counts.block(0).requests.add(3);
        counts.block(1).requests.add(4);
        counts.block(1).reached(Limit::HeaderBytes, 1);
        counts.block(0).answered(204);
        counts.block(0).answered(503);
        counts.block(2).dns[2].add(1);
        let stats = counts.sum(9, [0; 3], Vec::new());
        assert_eq!((stats.revision, stats.requests), (9, 7));
        assert_eq!(stats.responses, [0, 1, 0, 0, 1]);
        assert!(stats.limits_hit.contains(&("header_bytes".into(), 1)));
        assert_eq!(stats.dns, [0, 0, 1]);
    }
}
