//! Descriptors (open sockets): how many there are, how many a workload may have, and which are kept for others.

use std::sync::Arc;

use crate::{
    limits::{Taken, Usage, Use, fit::reserve},
    memory,
    state::Shared,
    stats::{Counts, Limit},
};

/// Who has fewer connections than this may take of the reserve.
const FEW: u32 = 8;
/// Sockets to listen on, descriptors to wait with, the access log: of a worker, and of the process.
const WORKERS: u32 = 8;
const PROCESS: u32 = 32;

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
