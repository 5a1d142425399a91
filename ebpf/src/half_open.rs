//! The limit on half-open connections of a workload: what a SYN flood can use up, per workload instead of for all.
//!
//! A bare SYN of a flow not yet known counts. An ACK of the workload gives the place back if it acknowledges the SYN-ACK that
//! went to the workload: any other leaves the connection half open in the stack, too. So does a RST to the workload, if it
//! refuses a SYN: one without ACK only refuses such a wrong ACK. A SYN that is never answered is forgotten when the
//! window ends. All of it happens here, so it holds without an agent.

use aya_ebpf::bindings::BPF_ANY;
use brattice_abi::{Counter, DropReason, FlowKey, HALF_OPEN_ANSWERED, HALF_OPEN_WINDOW_NS, HalfOpen};

use crate::{
    maps::{HALF_OPEN, HALF_OPEN_COUNTS},
    report::count,
    window::Window,
};

/// A bare SYN. Refuses it when the workload has `limit` half-open connections. A SYN sent again is not counted again.
#[inline(always)]
pub(crate) fn admit(workload: u32, flow: &FlowKey, limit: u32) -> Result<(), DropReason> {
    let window = Window::ensure(&HALF_OPEN_COUNTS, workload).ok_or(DropReason::HelperFailed)?;
    let (start, expired) = window.present(HALF_OPEN_WINDOW_NS);
    if expired {
        count(Counter::HalfOpenExpired);
    }
    // SAFETY: the value is only read, word by word.
    if unsafe { HALF_OPEN.get(flow) }.is_some_and(|half| half.window_ns == start) {
        return Ok(());
    }
    if !window.take(limit) {
        return Err(DropReason::HalfOpenLimit);
    }
    if HALF_OPEN.insert(flow, HalfOpen { window_ns: start, answer: 0 }, BPF_ANY as u64).is_err() {
        window.give_back(start);
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
    let Some(window) = Window::of(&HALF_OPEN_COUNTS, workload) else { return };
    if !window.any() {
        return;
    }
    // SAFETY: the value is only read, word by word.
    let Some(half) = unsafe { HALF_OPEN.get(flow) }.copied() else { return };
    if !really(&half) {
        return;
    }
    // Of two CPUs that release the same flow, one removes it; only that one gives the place back.
    if HALF_OPEN.remove(flow).is_ok() {
        window.give_back(half.window_ns);
    }
}
