//! Quotas of a workload: how much of what is unanswered it may have in a window of time. The windows follow each other by
//! themselves, so they hold without an agent.

use aya_ebpf::{bindings::BPF_NOEXIST, maps::LruHashMap};
use brattice_abi::HalfOpenCount;

use crate::{atomic::Atomic, report::now_ns};

/// Atomic views of a workload's [`HalfOpenCount`].
pub(crate) struct Window {
    start_ns: Atomic,
    /// Field and padding as one word. Signed: a release that crosses the start of a window on another CPU may take it
    /// below zero for the rest of the window.
    count: Atomic,
}

const _: () = assert!(size_of::<HalfOpenCount>() == 16 && core::mem::offset_of!(HalfOpenCount, count) == 8);

/// Two's complement.
const MINUS_ONE: u64 = u64::MAX;

impl Window {
    /// That of a workload, if it ever had one.
    #[inline(always)]
    pub(crate) fn of(counts: &LruHashMap<u32, HalfOpenCount>, workload: u32) -> Option<Self> {
        let words = counts.get_ptr_mut(workload)?.cast::<u64>();
        // SAFETY: the map's value is two words, 8-byte aligned and mapped while the program runs; the programs touch it
        // by these views alone.
        unsafe { Some(Self { start_ns: Atomic::new(words), count: Atomic::new(words.add(1)) }) }
    }

    /// That of a workload.
    #[inline(always)]
    pub(crate) fn ensure(counts: &LruHashMap<u32, HalfOpenCount>, workload: u32) -> Option<Self> {
        if let Some(window) = Self::of(counts, workload) {
            return Some(window);
        }
        // A lost race is fine: another CPU has made the entry.
        let _ = counts.insert(workload, HalfOpenCount { window_ns: now_ns(), count: 0, pad: 0 }, BPF_NOEXIST as u64);
        Self::of(counts, workload)
    }

    /// When the present window began; and whether the one before ended just now with something unanswered.
    #[inline(always)]
    pub(crate) fn present(&self, length_ns: u64) -> (u64, bool) {
        let (now, start) = (now_ns(), self.start_ns.load());
        if now <= start || now - start < length_ns {
            return (start, false);
        }
        let found = self.start_ns.compare_exchange(start, now);
        if found != start {
            // Another CPU began the window a moment ago.
            return (found, false);
        }
        (now, self.count.swap(0) as i64 > 0)
    }

    /// One more, unless there are this many.
    #[inline(always)]
    pub(crate) fn take(&self, limit: u32) -> bool {
        // guard: unanswered-limit
        if self.count.fetch_add(1) as i64 >= limit as i64 {
            self.count.fetch_add(MINUS_ONE);
            return false;
        }
        true
    }

    /// Whether something counts that can be given back.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.count.load() as i64 > 0
    }

    /// One less, if it was counted in the present window.
    #[inline(always)]
    pub(crate) fn give_back(&self, window_ns: u64) {
        if window_ns == self.start_ns.load() {
            self.count.fetch_add(MINUS_ONE);
        }
    }
}
