//! The limit on half-open connections of a workload: what a SYN flood can use up, per workload instead of for all.
//!
//! A bare SYN of a flow not yet known counts. An ACK of the workload gives the place back if it acknowledges the SYN-ACK that
//! went to the workload: any other leaves the connection half open in the stack, too. So does a RST to the workload, if it
//! refuses a SYN: one without ACK only refuses such a wrong ACK. What nobody ever answers is forgotten when the window ends.
//! All of it happens here, so it holds without an agent.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use brattice_abi::{Counter, DropReason, FlowKey, HALF_OPEN_ANSWERED, HALF_OPEN_WINDOW_NS, HalfOpen, HalfOpenCount};

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
    // SAFETY: the value is only read, word by word.
    if unsafe { HALF_OPEN.get(flow) }.is_some_and(|half| half.window_ns == start) {
        return Ok(());
    }
    if window.count.fetch_add(1) as i64 >= limit as i64 {
        window.count.fetch_add(MINUS_ONE);
        return Err(DropReason::HalfOpenLimit);
    }
    if HALF_OPEN.insert(flow, HalfOpen { window_ns: start, answer: 0 }, BPF_ANY as u64).is_err() {
        window.count.fetch_add(MINUS_ONE);
        return Err(DropReason::HelperFailed);
    }
    Ok(())
}

/// A SYN-ACK goes to the workload. One that is sent again, or a SYN cookie made anew, takes the place of the one before.
#[inline(always)]
pub(crate) fn answered(flow: &FlowKey, sequence: u32) {
    if let Some(half) = HALF_OPEN.get_ptr_mut(flow) {
        // SAFETY: the map's value, mapped while the program runs; an aligned word is written whole.
        unsafe { (&raw mut (*half).answer).write_volatile(answer(sequence.wrapping_add(1))) };
    }
}

/// [`HalfOpen::answer`] of what is to be acknowledged.
#[inline(always)]
fn answer(acknowledgment: u32) -> u64 {
    HALF_OPEN_ANSWERED | acknowledgment as u64
}

/// An ACK of the workload.
#[inline(always)]
pub(crate) fn acknowledged(workload: u32, flow: &FlowKey, acknowledgment: u32) {
    release(workload, flow, |half| half.answer == answer(acknowledgment));
}

/// A SYN of the workload was refused.
#[inline(always)]
pub(crate) fn refused(workload: u32, flow: &FlowKey) {
    release(workload, flow, |_| true);
}

/// The flow is no longer half open. Costs one lookup while the workload has no half-open connection.
#[inline(always)]
fn release(workload: u32, flow: &FlowKey, really: impl FnOnce(&HalfOpen) -> bool) {
    let Some(window) = Window::of(workload) else { return };
    if window.count.load() as i64 <= 0 {
        return;
    }
    // SAFETY: the value is only read, word by word.
    let Some(half) = unsafe { HALF_OPEN.get(flow) }.copied() else { return };
    if !really(&half) {
        return;
    }
    // Of two CPUs that release the same flow, one removes it; only that one gives the place back.
    if HALF_OPEN.remove(flow).is_ok() && half.window_ns == window.start_ns.load() {
        window.count.fetch_add(MINUS_ONE);
    }
}
