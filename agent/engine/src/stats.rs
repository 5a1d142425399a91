//! What the engine counts.
//!
//! Every worker has a block of its own, which only its thread writes: no cache line is shared on the request path, and
//! the sum is made when somebody asks. The DNS thread counts in the block of the last index.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use brattice_wire::engine::{Limits, Stats};

/// A bound of [`Limits`], for counting how often it was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `descriptors`
    Descriptors,
    /// `memory_bytes`
    MemoryBytes,
    /// `bytes_per_workload`
    BytesPerWorkload,
    /// `connections_per_workload`
    ConnectionsPerWorkload,
    /// `requests_per_workload`
    RequestsPerWorkload,
    /// `header_bytes`
    HeaderBytes,
    /// `headers`
    Headers,
    /// `body_bytes`
    BodyBytes,
    /// `header_timeout_ms`
    HeaderTimeout,
    /// `body_idle_timeout_ms`
    BodyIdleTimeout,
    /// `write_timeout_ms`
    WriteTimeout,
    /// `response_timeout_ms`
    ResponseTimeout,
    /// `idle_per_target`
    IdlePerTarget,
    /// `pool_idle_timeout_ms`
    PoolIdleTimeout,
    /// `http2_streams`
    Http2Streams,
    /// `interim_responses`
    InterimResponses,
    /// `http2_control_frames`
    Http2ControlFrames,
    /// `http2_connections_per_workload`
    Http2ConnectionsPerWorkload,
    /// `http2_cancelled_per_workload`
    Http2CancelledPerWorkload,
    /// `dns_in_flight`
    DnsInFlight,
    /// `dns_in_flight_per_workload`
    DnsInFlightPerWorkload,
}

impl Limit {
    /// How many there are.
    pub const COUNT: usize = Self::DnsInFlightPerWorkload as usize + 1;
}

/// Field names of [`Limits`], in the order of [`Limit`].
pub const LIMIT_NAMES: [&str; Limit::COUNT] = [
    "descriptors",
    "memory_bytes",
    "bytes_per_workload",
    "connections_per_workload",
    "requests_per_workload",
    "header_bytes",
    "headers",
    "body_bytes",
    "header_timeout_ms",
    "body_idle_timeout_ms",
    "write_timeout_ms",
    "response_timeout_ms",
    "idle_per_target",
    "pool_idle_timeout_ms",
    "http2_streams",
    "interim_responses",
    "http2_control_frames",
    "http2_connections_per_workload",
    "http2_cancelled_per_workload",
    "dns_in_flight",
    "dns_in_flight_per_workload",
];

/// A number that one thread adds to and any thread may read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes `n` away again; for what is open now.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    /// As it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

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
    /// Connections relayed without L7.
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
}

impl Counts {
    /// Counts that a bound was hit.
    pub fn hit(&self, limit: Limit) {
        self.limits_hit[limit as usize].add(1);
    }

    /// Counts an answer by its status code.
    pub fn answered(&self, status: u16) {
        if let Some(class) = self.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            class.add(1);
        }
    }
}

/// All threads' counts.
#[derive(Debug)]
pub struct AllCounts {
    blocks: Box<[Counts]>,
}

impl AllCounts {
    /// For `workers` workers and the DNS thread.
    pub fn new(workers: u32) -> Self {
        Self { blocks: (0..=workers).map(|_| Counts::default()).collect() }
    }

    /// Each thread's.
    pub fn all(&self) -> impl Iterator<Item = &Counts> {
        self.blocks.iter()
    }

    /// Sockets of clients and towards targets that are open now.
    pub fn descriptors(&self) -> u64 {
        let sum = self.blocks.iter().fold(0u64, |sum, counts| {
            sum.wrapping_add(counts.connections_open.get()).wrapping_add(counts.targets_open.get())
        });
        // As in `sum`.
        if sum > u64::MAX / 2 { 0 } else { sum }
    }

    /// The block of a worker.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn worker(&self, index: u32) -> &Counts {
        &self.blocks[index as usize]
    }

    /// The block of the DNS thread.
    pub fn dns(&self) -> &Counts {
        &self.blocks[self.blocks.len() - 1]
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
            limits_hit: LIMIT_NAMES
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

// A bound added to `Limits` needs a name and a counter here.
const _: fn(Limits) = |limits| {
    let Limits {
        descriptors: _,
        memory_bytes: _,
        bytes_per_workload: _,
        connections_per_workload: _,
        requests_per_workload: _,
        header_bytes: _,
        headers: _,
        body_bytes: _,
        header_timeout_ms: _,
        body_idle_timeout_ms: _,
        write_timeout_ms: _,
        response_timeout_ms: _,
        idle_per_target: _,
        pool_idle_timeout_ms: _,
        http2_streams: _,
        interim_responses: _,
        http2_control_frames: _,
        http2_connections_per_workload: _,
        http2_cancelled_per_workload: _,
        dns_in_flight: _,
        dns_in_flight_per_workload: _,
    } = limits;
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_summed() {
        let counts = AllCounts::new(2);
        counts.worker(0).requests.add(3);
        counts.worker(1).requests.add(4);
        counts.worker(1).hit(Limit::HeaderBytes);
        counts.worker(0).answered(204);
        counts.worker(0).answered(503);
        counts.dns().dns[2].add(1);
        let stats = counts.sum(9, [0; 3], Vec::new());
        assert_eq!((stats.revision, stats.requests), (9, 7));
        assert_eq!(stats.responses, [0, 1, 0, 0, 1]);
        assert!(stats.limits_hit.contains(&("header_bytes".into(), 1)));
        assert_eq!(stats.dns, [0, 0, 1]);
    }

    #[test]
    fn every_limit_has_its_name() {
        assert_eq!(LIMIT_NAMES[Limit::DnsInFlightPerWorkload as usize], "dns_in_flight_per_workload");
        assert_eq!(LIMIT_NAMES[Limit::IdlePerTarget as usize], "idle_per_target");
        assert_eq!(LIMIT_NAMES[Limit::HeaderTimeout as usize], "header_timeout_ms");
    }
}
