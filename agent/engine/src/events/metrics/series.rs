//! Metrics per service, listener, target group and caller's VPC.
//!
//! A [`Series`] has a [`Row`] per worker, which only that worker writes. A worker keeps the series it has met by their
//! names, so the registry's lock is taken once per worker and series, when it is met for the first time. All labels come
//! from documents; where there are more combinations than [`MOST_SERIES`], the rest is counted in one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::count::Count;

/// Most series. One costs about 400 bytes for each worker that meets it, and some 30 lines of the page.
pub const MOST_SERIES: usize = 4_096;
/// Label of what does not apply.
pub const NONE: &str = "-";
/// Every label of the series of everything beyond [`MOST_SERIES`].
pub const OVERFLOW: &str = "_other";
/// Upper bounds of the duration's buckets, ms. Beyond the last one is `+Inf`.
pub const BUCKETS_MS: [u64; 15] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000];

/// The labels of a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    /// Service, `account/name`.
    pub service: Arc<str>,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Target group, `account/name`.
    pub target_group: Arc<str>,
    /// The caller's VPC, `account/name`.
    pub vpc: Arc<str>,
}

/// One worker's counts of a series.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Row {
    /// Requests that have ended, by what they were answered with: nothing, 1xx to 5xx.
    pub responses: [Count; 6],
    /// The same requests, by how long they took; the last one is beyond all bounds.
    pub durations: [Count; BUCKETS_MS.len() + 1],
    /// Those of them that policies denied, by level: service, network, identity.
    pub denied: [Count; 3],
    /// Sum of these durations, µs.
    pub duration_us: Count,
    /// Bytes from callers.
    pub received: Count,
    /// Bytes to callers.
    pub sent: Count,
    /// Connections accepted.
    pub connections: Count,
    /// Connections open now.
    pub open: Count,
}

impl Row {
    /// Counts a request that has ended. `status` 0: without an answer.
    pub(crate) fn ended(&self, status: u16, duration: Duration) {
        self.responses[usize::from(status / 100).min(5)].add(1);
        let micros = u64::try_from(duration.as_micros()).expect("no request takes 580,000 years");
        let bucket = BUCKETS_MS.iter().position(|bound| micros <= bound * 1_000).unwrap_or(BUCKETS_MS.len());
        self.durations[bucket].add(1);
        self.duration_us.add(micros);
    }

    /// Counts a connection that has opened.
    pub(super) fn opened(&self) {
        self.connections.add(1);
        self.open.add(1);
    }

    /// It has closed.
    pub(super) fn closed(&self) {
        self.open.sub(1);
    }

    /// Counts bytes of a request, or of a relayed connection.
    pub(crate) fn moved(&self, received: u64, sent: u64) {
        self.received.add(received);
        self.sent.add(sent);
    }
}

/// A series, over all workers.
#[derive(Debug)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    rows: Box<[OnceLock<Box<Row>>]>,
}

impl Series {
    fn new(labels: Labels, workers: u32) -> Arc<Self> {
        Arc::new(Self { labels, rows: (0..workers).map(|_| OnceLock::new()).collect() })
    }

    /// A worker's counts.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn row(&self, worker: u32) -> &Row {
        self.rows[worker as usize].get_or_init(Box::default)
    }

    /// The sum of a count over all workers.
    pub fn sum(&self, count: impl Fn(&Row) -> u64) -> u64 {
        let total = self.rows.iter().filter_map(OnceLock::get).fold(0u64, |sum, row| sum.wrapping_add(count(row)));
        // Something closed between two reads.
        if total > u64::MAX / 2 { 0 } else { total }
    }
}

/// All series of the engine.
#[derive(Debug)]
pub struct Registry {
    workers: u32,
    known: Mutex<BTreeMap<Labels, Arc<Series>>>,
    other: Arc<Series>,
    overflow: AtomicU64,
}

impl Registry {
    /// For `workers` workers.
    pub fn new(workers: u32) -> Self {
        let name: Arc<str> = OVERFLOW.into();
        let labels = Labels { service: name.clone(), listener: name.clone(), target_group: name.clone(), vpc: name };
        Self { workers, known: Mutex::default(), other: Series::new(labels, workers), overflow: AtomicU64::new(0) }
    }

    /// The series of these labels, or the one of everything else.
    pub fn series(&self, labels: &Labels) -> Arc<Series> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(labels) {
            return Arc::clone(series);
        }
        if known.len() >= MOST_SERIES {
            self.overflow.fetch_add(1, Relaxed);
            return Arc::clone(&self.other);
        }
        let series = Series::new(labels.clone(), self.workers);
        known.insert(labels.clone(), Arc::clone(&series));
        series
    }

    /// Times that a worker met a series that there was no room for.
    pub fn overflow(&self) -> u64 {
        self.overflow.load(Relaxed)
    }

    /// Forgets the series for which `keep` is false: they are shown no more.
    pub fn retain(&self, keep: impl Fn(&Labels) -> bool) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|labels, _| keep(labels));
    }

    /// Every series, by label; the one of everything else only if something is in it.
    pub fn all(&self) -> Vec<Arc<Series>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.values().cloned().collect();
        drop(known);
        if self.other.rows.iter().any(|row| row.get().is_some()) {
            all.push(Arc::clone(&self.other));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(service: &str) -> Labels {
        let none: Arc<str> = NONE.into();
        Labels { service: service.into(), listener: none.clone(), target_group: none.clone(), vpc: none }
    }

    #[test]
    fn requests_are_counted_by_answer_and_bucket() {
        let row = Row::default();
        for (status, ms) in [(200, 0), (204, 1), (404, 2), (503, 60_000), (0, 60_001), (101, 3)] {
            row.ended(status, Duration::from_millis(ms));
            row.moved(10, 20);
        }
        assert_eq!(row.responses.each_ref().map(Count::get), [1, 1, 2, 0, 1, 1]);
        let durations = row.durations.each_ref().map(Count::get);
        assert_eq!((durations[0], durations[1], durations[2], durations[14], durations[15]), (2, 1, 1, 1, 1));
        assert_eq!(row.duration_us.get(), 120_007_000);
        assert_eq!((row.received.get(), row.sent.get()), (60, 120));
    }

    #[test]
    fn rows_are_summed_and_vanished_series_forgotten() {
        let registry = Registry::new(3);
        registry.series(&labels("a")).row(0).received.add(3);
        registry.series(&labels("a")).row(2).received.add(4);
        registry.series(&labels("b")).row(1).received.add(5);
        let sums: Vec<_> = registry.all().iter().map(|series| series.sum(|row| row.received.get())).collect();
        assert_eq!(sums, [7, 5]);
        registry.retain(|labels| &*labels.service != "a");
        assert_eq!(registry.all().len(), 1);
        assert_eq!(registry.series(&labels("a")).sum(|row| row.received.get()), 0, "begins anew");
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_together() {
        let registry = Registry::new(1);
        for n in 0..MOST_SERIES {
            registry.series(&labels(&n.to_string())).row(0).sent.add(1);
        }
        assert_eq!((registry.all().len(), registry.overflow()), (MOST_SERIES, 0));
        for n in 0..3 {
            registry.series(&labels(&format!("more-{n}"))).row(0).sent.add(1);
        }
        assert_eq!((registry.all().len(), registry.overflow()), (MOST_SERIES + 1, 3));
        let other = registry.all().pop().unwrap();
        assert_eq!((&*other.labels.service, other.sum(|row| row.sent.get())), (OVERFLOW, 3));
        registry.series(&labels("7")).row(0).sent.add(1);
        assert_eq!(registry.overflow(), 3, "known ones keep their place");
    }
}
