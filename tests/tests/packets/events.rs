//! Drop events: all of a burst, then a sample, and what does not fit is counted.

use std::net::IpAddr;

use brattice_abi::{Counter, DropReason, EVENT_BURST, EVENT_SAMPLE_MASK};
use brattice_tests::packets::{
    frame::Frame,
    node::{Hook, boot_time},
};

use crate::scene::*;

#[test]
fn an_event_tells_what_was_dropped() {
    let mut node = node();
    let before = boot_time().as_nanos() as u64;
    let frame = Frame::tcp((ENGINE, 33000), (ALIAS, 81), SYN, b"");
    drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotTarget);
    node.run(Hook::Egress, &frame.build(), Default::default());
    let events = node.events();
    let [event] = events.as_slice() else { panic!("one event expected: {events:?}") };
    assert!(event.at_ns >= before && event.at_ns <= boot_time().as_nanos() as u64);
    assert_eq!((IpAddr::from(event.source), event.source_port), (ENGINE.into(), 33000));
    assert_eq!((IpAddr::from(event.destination), event.destination_port), (ALIAS.into(), 81));
    assert_eq!((event.protocol, event.program, event.pad), (TCP, 2, [0; 2]));
}

/// On one CPU: the first `EVENT_BURST`, then each whose number is a multiple of 256. Each reason counts for itself.
#[test]
fn a_burst_then_a_sample() {
    let mut node = node();
    let _pinned = pin_to_a_cpu();
    let spoofed = Frame::udp((STRANGER, 1), (VIP, 1), b"").build();
    let total = 4 * (EVENT_SAMPLE_MASK + 1);
    node.run_many(Hook::Ingress, &spoofed, total as u32);
    assert_eq!(node.dropped(DropReason::SpoofedSource), total);
    assert_eq!(node.events().len() as u64, EVENT_BURST + 4);
    let to_alias = Frame::udp((REAL, 1), (ALIAS, 1), b"").build();
    node.run_many(Hook::Ingress, &to_alias, 5);
    assert_eq!(node.events().len(), 5);
    assert_eq!(node.counted(Counter::EventsLost), 0);
}

/// Without a reader the ring buffer fills; drops go on being counted, and so are the events that were lost.
#[test]
fn lost_events_are_counted() {
    let mut node = node();
    let spoofed = Frame::udp((STRANGER, 1), (VIP, 1), b"").build();
    let total = 5000 * (EVENT_SAMPLE_MASK + 1);
    node.run_many(Hook::Ingress, &spoofed, total as u32);
    assert_eq!(node.dropped(DropReason::SpoofedSource), total);
    let lost = node.counted(Counter::EventsLost);
    assert!(lost > 0, "the buffer holds about 4000 events; 5000 were sent");
    assert!(node.events().len() as u64 + lost >= 5000);
    drops(&mut node, Hook::Ingress, &Frame::udp((REAL, 1), (ALIAS, 1), b"").build(), DropReason::ToAlias);
}

/// Keeps the thread on the CPU it is on: bursts are counted per CPU. The test's thread ends with it.
fn pin_to_a_cpu() -> nix::sched::CpuSet {
    let mut cpus = nix::sched::CpuSet::new();
    let cpu = nix::sched::sched_getcpu().expect("a CPU");
    cpus.set(cpu).expect("its number fits");
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).expect("affinity");
    cpus
}
