//! A counter.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that the metrics subscriber of one thread adds to, and any thread may read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`.
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes `n` away again; for what is open now.
    pub(super) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    /// For tests of what reads it.
    #[cfg(test)]
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// As it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
