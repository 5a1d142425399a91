//! Bounds per workload, over all workers.
//!
//! The counters of a workload hang on its callers in the state, so the request path finds them without a lock; the
//! registry is asked only when a state is compiled.

pub(crate) mod fit;

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use brattice_wire::engine::Limits;
use brattice_wire::snapshot::WorkloadNumber;

/// A bound of [`Limits`], which was reached.
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

    /// Field names of [`Limits`], in the order of the variants.
    pub const NAMES: [&str; Self::COUNT] = [
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

/// Requests that were taken back are counted for so long.
const WINDOW: Duration = Duration::from_secs(10);

/// The connections and requests of a workload now, and its recent ones, over all its addresses and all workers.
#[derive(Debug, Default)]
pub struct Usage {
    connections: AtomicU32,
    requests: AtomicU32,
    dns: AtomicU32,
    transfers: AtomicU32,
    cancelled: RecentCount,
}

/// Counts what happened in a window of time: the window's number in the upper half, the count in the lower.
#[derive(Debug, Default)]
struct RecentCount(AtomicU64);

impl RecentCount {
    /// One more, in this window.
    fn add(&self, window: u32) {
        let more = |both| {
            let count = Self::of(both, window).saturating_add(1);
            Some(u64::from(window) << 32 | u64::from(count))
        };
        // It never refuses.
        let _ = self.0.fetch_update(Relaxed, Relaxed, more);
    }

    fn count(&self, window: u32) -> u32 {
        Self::of(self.0.load(Relaxed), window)
    }

    fn of(both: u64, window: u32) -> u32 {
        if both >> 32 == u64::from(window) { (both & u64::from(u32::MAX)) as u32 } else { 0 }
    }
}

/// Number of the window that it is now.
fn window() -> u32 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u32::try_from(START.elapsed().as_secs() / WINDOW.as_secs()).expect("as many windows as fit last 1,300 years")
}

/// Which of the numbers in [`Usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Client connections.
    Connection,
    /// Requests in flight.
    Request,
    /// DNS questions in flight.
    Dns,
    /// Large bodies on their way.
    Transfer,
}

impl Usage {
    fn number(&self, which: Use) -> &AtomicU32 {
        match which {
            Use::Connection => &self.connections,
            Use::Request => &self.requests,
            Use::Dns => &self.dns,
            Use::Transfer => &self.transfers,
        }
    }

    /// One more, unless `limit` are open already. Given back when the answer is dropped.
    pub fn take(self: &Arc<Self>, which: Use, limit: u32) -> Option<Taken> {
        let number = self.number(which);
        // guard: connection-limit
        if number.fetch_add(1, Relaxed) >= limit {
            number.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Taken { usage: Arc::clone(self), which })
    }

    /// It took an HTTP/2 request back before it was answered.
    pub fn cancelled(&self) {
        self.cancelled.add(window());
    }

    /// Requests that it took back recently.
    pub fn cancelled_recently(&self) -> u32 {
        self.cancelled.count(window())
    }

    /// Open now.
    pub fn open(&self, which: Use) -> u32 {
        self.number(which).load(Relaxed)
    }
}

/// One connection, request or question, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    usage: Arc<Usage>,
    which: Use,
}

impl Taken {
    /// The usage counters of its workload.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.usage.number(self.which).fetch_sub(1, Relaxed);
    }
}

/// The usage of every workload that is in the state or still has something open.
#[derive(Debug, Default)]
pub struct Registry(Mutex<HashMap<WorkloadNumber, Weak<Usage>>>);

impl Registry {
    /// The usage counters of the workload with this number; the same object while any reference to it exists.
    pub fn usage(&self, workload: WorkloadNumber) -> Arc<Usage> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = known.get(&workload).and_then(Weak::upgrade) {
            return usage;
        }
        let usage = Arc::new(Usage::default());
        known.insert(workload, Arc::downgrade(&usage));
        usage
    }

    /// Most bytes that the workload with the most can hold now.
    pub fn largest(&self) -> u64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter_map(Weak::upgrade).map(|usage| usage.bytes()).max().unwrap_or(0)
    }

    /// Open connections, requests and DNS questions, each of the workload that has the most.
    pub fn busiest(&self) -> [u32; 3] {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter_map(Weak::upgrade).fold([0; 3], |most, usage| {
            let open = [Use::Connection, Use::Request, Use::Dns].map(|which| usage.open(which));
            std::array::from_fn(|n| most[n].max(open[n]))
        })
    }

    /// Forgets workloads without any reference left.
    pub fn prune(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, usage| usage.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_refused_and_room_comes_back() {
        let registry = Registry::default();
        let usage = registry.usage(WorkloadNumber::new(7));
        let first = usage.take(Use::Request, 2).unwrap();
        let _second = registry.usage(WorkloadNumber::new(7)).take(Use::Request, 2).unwrap();
        assert!(usage.take(Use::Request, 2).is_none());
        assert!(usage.take(Use::Connection, 1).is_some(), "kinds are counted apart");
        drop(first);
        assert!(usage.take(Use::Request, 2).is_some());
    }

    #[test]
    fn what_happened_recently_is_forgotten() {
        let recent = RecentCount::default();
        assert_eq!(recent.count(0), 0);
        for _ in 0..3 {
            recent.add(7);
        }
        assert_eq!((recent.count(7), recent.count(8)), (3, 0));
        recent.add(8);
        assert_eq!((recent.count(7), recent.count(8)), (0, 1));
    }

    #[test]
    fn the_busiest_is_found_for_each_use() {
        let registry = Registry::default();
        let (one, two) = (registry.usage(WorkloadNumber::new(1)), registry.usage(WorkloadNumber::new(2)));
        let _held = [one.take(Use::Connection, 9), one.take(Use::Connection, 9), two.take(Use::Connection, 9)];
        let _asked = two.take(Use::Dns, 9);
        assert_eq!(registry.busiest(), [2, 0, 1]);
    }

    #[test]
    fn workloads_are_forgotten() {
        let registry = Registry::default();
        let kept = registry.usage(WorkloadNumber::new(1));
        drop(registry.usage(WorkloadNumber::new(2)));
        registry.prune();
        assert_eq!(registry.0.lock().unwrap().len(), 1);
        assert_eq!(kept.open(Use::Connection), 0);
    }

    #[test]
    fn every_limit_has_its_name() {
        assert_eq!(Limit::NAMES[Limit::DnsInFlightPerWorkload as usize], "dns_in_flight_per_workload");
        assert_eq!(Limit::NAMES[Limit::IdlePerTarget as usize], "idle_per_target");
        assert_eq!(Limit::NAMES[Limit::HeaderTimeout as usize], "header_timeout_ms");
    }
}
