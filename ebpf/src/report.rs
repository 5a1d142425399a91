//! Counters and drop events.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_log_ebpf::macro_support::{Level, level_enabled};
use brattice_abi::{Address, Counter, DropEvent, DropReason, EVENT_BURST, EVENT_SAMPLE_MASK};

use crate::{
    address::UNSPECIFIED,
    atomic::Atomic,
    maps::{COUNTERS, EVENTS},
};

/// [`DropEvent::program`] of each program.
#[derive(Clone, Copy)]
pub(crate) enum Program {
    WorkloadIngress = 1,
    WorkloadEgress = 2,
    VipListener = 3,
    HostSocket = 4,
}

/// What is known of a packet or lookup so far; what a drop event shows.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// `::` while unknown.
    pub(crate) source: Address,
    /// `::` while unknown.
    pub(crate) destination: Address,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u8,
}

impl Seen {
    pub(crate) const NOTHING: Self =
        Self { source: UNSPECIFIED, destination: UNSPECIFIED, source_port: 0, destination_port: 0, protocol: 0 };
}

/// Nanoseconds since boot, suspend included: the clock of switches and events.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: takes no pointer and cannot fail.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Adds one; returns the new value on this CPU.
#[inline(always)]
fn add_one(index: u32) -> u64 {
    match COUNTERS.get_ptr_mut(index) {
        Some(value) => {
            // SAFETY: the map gave the pointer for this CPU alone, and programs are not preempted by one another here
            // (soft interrupts are off while they run).
            unsafe {
                *value = (*value).wrapping_add(1);
                *value
            }
        }
        None => 0,
    }
}

/// [`add_one`] for programs that run for a process, which soft interrupts and other processes may get ahead of.
#[inline(always)]
fn add_one_preempted(index: u32) -> u64 {
    match COUNTERS.get_ptr_mut(index) {
        // SAFETY: an aligned word of the map, valid while the program runs.
        Some(value) => unsafe { Atomic::new(value) }.fetch_add(1).wrapping_add(1),
        None => 0,
    }
}

/// Counts something that is no drop.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    add_one(counter.index());
}

/// Sends a line about a drop. `seen` and its fields are read where they are, as the stack is short: 512 bytes for a program and
/// all it calls.
#[inline(never)]
fn log(program: u32, reason: u32, ifindex: u32, seen: &Seen) {
    // Numbers, which the reader gives names: a table of strings is nothing that a program can have.
    aya_log_ebpf::debug!(
        (),
        "{} {} {} {} {:i} {} {:i} {}",
        program,
        reason,
        ifindex,
        seen.protocol,
        seen.source.0,
        seen.source_port,
        seen.destination.0,
        seen.destination_port
    );
}

/// Counts a drop, and sends an event of it if it is among the first of its reason on this CPU, or sampled.
#[inline(always)]
pub(crate) fn dropped(program: Program, reason: DropReason, ifindex: u32, seen: &Seen) {
    // A constant of the loaded object: where it says no, the verifier removes the call.
    if level_enabled(Level::Debug) {
        log(program as u32, reason.index(), ifindex, seen);
    }
    let nth = match program {
        Program::HostSocket => add_one_preempted(reason.index()),
        _ => add_one(reason.index()),
    };
    if nth > EVENT_BURST && nth & EVENT_SAMPLE_MASK != 0 {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<DropEvent>(0) else {
        count(Counter::EventsLost);
        return;
    };
    entry.write(DropEvent {
        at_ns: now_ns(),
        reason: reason.index(),
        ifindex,
        source: seen.source,
        destination: seen.destination,
        source_port: seen.source_port,
        destination_port: seen.destination_port,
        protocol: seen.protocol,
        program: program as u8,
        pad: [0; 2],
    });
    entry.submit(0);
}
