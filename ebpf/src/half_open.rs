//! The limit on half-open connections of a workload: what a SYN flood can use up, per workload instead of for all.
//!
//! A bare SYN of a flow not yet known counts; an ACK of the workload, or a RST to it, gives the place back. What nobody
//! ever answers is forgotten when the window ends. All of it happens here, so it holds without an agent.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use brattice_abi::{Counter, DropReason, FlowKey, HALF_OPEN_WINDOW_NS, HalfOpenCount};

use crate::{
    atomic::Atomic,
    maps::{HALF_OPEN, HALF_OPEN_COUNTS},
    report::{count, now_ns},
};

/// Atomic views of a workload's [`HalfOpenCount`].
struct Window {
    start_ns: Atomic,
    /// Field and padding as one word. Signed: a release that crosses the start of a window on another CPU may take it
    /// below zero for the rest of the window.
    count: Atomic,
}

const _: () = assert!(size_of::<HalfOpenCount>() == 16 && core::mem::offset_of!(HalfOpenCount, count) == 8);

impl Window {
    #[inline(always)]
    fn of(workload: u32) -> Option<Self> {
        let words = HALF_OPEN_COUNTS.get_ptr_mut(workload)?.cast::<u64>();
        // SAFETY: the map's value is two words, 8-byte aligned and mapped while the program runs; the programs touch it
        // by these views alone.
        unsafe { Some(Self { start_ns: Atomic::new(words), count: Atomic::new(words.add(1)) }) }
    }
}

/// Two's complement.
const MINUS_ONE: u64 = u64::MAX;

/// A bare SYN. Refuses it when the workload has `limit` half-open connections. A SYN sent again is not counted again.
#[inline(always)]
pub(crate) fn admit(workload: u32, flow: &FlowKey, limit: u32) -> Result<(), DropReason> {
    let now = now_ns();
    let window = match Window::of(workload) {
        Some(window) => window,
        None => {
            // Lost races are fine: whoever was first made the entry.
            let _ = HALF_OPEN_COUNTS.insert(
                workload,
                HalfOpenCount { window_ns: now, count: 0, pad: 0 },
                BPF_NOEXIST as u64,
            );
            Window::of(workload).ok_or(DropReason::HelperFailed)?
        }
    };
    let mut start = window.start_ns.load();
    if now > start && now - start >= HALF_OPEN_WINDOW_NS {
        let found = window.start_ns.compare_exchange(start, now);
        if found == start {
            if window.count.swap(0) as i64 > 0 {
                count(Counter::HalfOpenExpired);
            }
            start = now;
        } else {
            // Another CPU began the window a moment ago.
            start = found;
        }
    }
    // SAFETY: the value is only read, and is one word.
    if unsafe { HALF_OPEN.get(flow) }.is_some_and(|counted_in| *counted_in == start) {
        return Ok(());
    }
    if window.count.fetch_add(1) as i64 >= limit as i64 {
        window.count.fetch_add(MINUS_ONE);
        return Err(DropReason::HalfOpenLimit);
    }
    if HALF_OPEN.insert(flow, start, BPF_ANY as u64).is_err() {
        window.count.fetch_add(MINUS_ONE);
        return Err(DropReason::HelperFailed);
    }
    Ok(())
}

/// The flow is no longer half open. Costs one lookup while the workload has no half-open connection.
#[inline(always)]
pub(crate) fn release(workload: u32, flow: &FlowKey) {
    let Some(window) = Window::of(workload) else { return };
    if window.count.load() as i64 <= 0 {
        return;
    }
    // SAFETY: the value is only read, and is one word.
    let Some(counted_in) = unsafe { HALF_OPEN.get(flow) }.copied() else { return };
    // Of two CPUs that release the same flow, one removes it; only that one gives the place back.
    if HALF_OPEN.remove(flow).is_ok() && counted_in == window.start_ns.load() {
        window.count.fetch_add(MINUS_ONE);
    }
}
