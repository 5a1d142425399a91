//! Counts what is open.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::Counters;

/// Counts what is open until it is dropped.
pub(super) struct Open {
    counters: Arc<Counters>,
    which: fn(&Counters) -> &AtomicU64,
}

impl Open {
    pub(super) fn count(counters: &Arc<Counters>, which: fn(&Counters) -> &AtomicU64) -> Self {
        which(counters).fetch_add(1, Ordering::SeqCst);
        Self { counters: counters.clone(), which }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.which)(&self.counters).fetch_sub(1, Ordering::SeqCst);
    }
}
