//! Descriptors (open sockets): how many there are, how many a workload may have, and which are kept for others.

use brattice_wire::engine::Limits;

use crate::{events::metrics::counters::Counters, limits::fit::reserve};

/// Workloads with fewer connections than this may use the reserve.
pub(crate) const FEW: u32 = 8;
/// Sockets to listen on, descriptors to wait with, the access log: of a worker, and of the process.
const WORKERS: u32 = 8;
const PROCESS: u32 = 32;

/// Descriptors in use, and how many may be before the reserve is touched; 0: without a bound.
pub(crate) fn in_use(workers: u32, limits: &Limits, counters: &Counters) -> [u32; 2] {
    let own = workers.saturating_mul(WORKERS).saturating_add(PROCESS);
    // saturates: no process has 2^32 descriptors; more are too many in any case.
    let open = u32::try_from(counters.descriptors()).unwrap_or(u32::MAX);
    let most = limits.descriptors;
    [own.saturating_add(open), most - reserve(most)]
}
