//! The limit on half-open connections: 8 in these tests.

use std::net::Ipv4Addr;

use brattice_abi::{
    Config, Counter, DropReason, HALF_OPEN_WINDOW_NS, HalfOpenCount, MAX_HALF_OPEN, MAX_HALF_OPEN_OF_WORKLOAD,
};
use brattice_tests::packets::{
    frame::Frame,
    node::{Context, Hook, IFINDEX, Node, TCX_REDIRECT, boot_time, config},
};

use crate::scene::*;

const LIMIT: u16 = 8;

fn segment(port: u16, flags: u8) -> Frame {
    Frame::tcp((REAL, port), (VIP, 80), flags, b"")
}

/// The SYN-ACK to a SYN from a port. The builder's numbers: 0x01020304, and 0x05060708 acknowledged.
fn syn_ack(port: u16) -> Frame {
    Frame::tcp((VIP, 80), (ALIAS, port), SYN | ACK, b"")
}

/// A segment that acknowledges so much, its checksum not minded.
fn acknowledging(port: u16, number: u32) -> Vec<u8> {
    let mut frame = segment(port, ACK).build();
    frame[42..46].copy_from_slice(&number.to_be_bytes());
    frame
}

/// Ingress takes it.
fn taken(node: &mut Node, frame: &[u8]) {
    assert_eq!(node.run(Hook::Ingress, frame, Context::default()).verdict, TCX_REDIRECT);
}

fn count(node: &mut Node) -> u32 {
    node.half_open(WORKLOAD).map_or(0, |c| c.count)
}

/// As many SYNs as the limit allows.
fn filled() -> Node {
    let mut node = node();
    for port in 0..LIMIT {
        takes(&mut node, &segment(1000 + port, SYN));
    }
    assert_eq!(count(&mut node), u32::from(LIMIT));
    node
}

/// packets.md ingress 610: SYN above the workload's half-open limit | dropped; its other traffic goes on |
///   `HalfOpenLimit`
#[test]
fn one_syn_too_many_is_dropped() {
    let mut node = filled();
    for _ in 0..3 {
        drops(&mut node, Hook::Ingress, &segment(2000, SYN).build(), DropReason::HalfOpenLimit);
    }
    assert_eq!(count(&mut node), u32::from(LIMIT), "a refused SYN holds no place");
    // Everything else of the workload goes on.
    takes(&mut node, &segment(3000, ACK));
    takes(&mut node, &Frame::udp((REAL, 9), (VIP, 80), b""));
}

/// packets.md ingress 620: SYN sent again | taken, not counted again | `FromWorkload`
#[test]
fn a_syn_sent_again_is_not_counted_again() {
    let mut node = filled();
    for _ in 0..5 {
        takes(&mut node, &segment(1000, SYN));
    }
    assert_eq!(count(&mut node), u32::from(LIMIT));
}

/// packets.md ingress 630: ACK of a half-open flow that acknowledges its SYN-ACK; RST to the workload that refuses its
///   SYN | place given back | `FromWorkload`; `ToWorkload`
#[test]
fn an_ack_gives_the_place_back() {
    let mut node = filled();
    delivers(&mut node, &syn_ack(1003));
    taken(&mut node, &acknowledging(1003, 0x0102_0305));
    assert_eq!(count(&mut node), u32::from(LIMIT) - 1);
    taken(&mut node, &acknowledging(1003, 0x0102_0305));
    assert_eq!(count(&mut node), u32::from(LIMIT) - 1, "once");
    takes(&mut node, &segment(2000, SYN));
    drops(&mut node, Hook::Ingress, &segment(2001, SYN).build(), DropReason::HalfOpenLimit);
}

/// packets.md ingress 650: ACK or RST of a flow that is not known | taken, nothing given back | `FromWorkload`
#[test]
fn an_ack_of_an_unknown_flow_gives_nothing_back() {
    let mut node = filled();
    takes(&mut node, &segment(4000, ACK));
    takes(&mut node, &Frame::tcp((REAL, 1000), (VIP, 81), ACK, b""));
    takes(&mut node, &segment(1000, 0));
    takes(&mut node, &segment(1000, RST));
    assert_eq!(count(&mut node), u32::from(LIMIT));
    drops(&mut node, Hook::Ingress, &segment(2000, SYN).build(), DropReason::HalfOpenLimit);
}

/// The connection stays half open for the stack, which refuses such an ACK by a RST without one.
///
/// packets.md ingress 640: ACK of a half-open flow with other numbers; the RST that refuses this ACK | taken,
///   delivered; nothing given back | `FromWorkload`; `ToWorkload`
#[test]
fn an_ack_of_made_up_numbers_gives_nothing_back() {
    let mut node = filled();
    taken(&mut node, &acknowledging(1003, 0));
    taken(&mut node, &acknowledging(1003, 1));
    delivers(&mut node, &syn_ack(1003));
    for number in [0, 0x0102_0304, 0x0102_0306, u32::MAX] {
        taken(&mut node, &acknowledging(1003, number));
    }
    delivers(&mut node, &Frame::tcp((VIP, 80), (ALIAS, 1003), RST, b""));
    assert_eq!(count(&mut node), u32::from(LIMIT));
    drops(&mut node, Hook::Ingress, &segment(2000, SYN).build(), DropReason::HalfOpenLimit);
    // The right one does, also where it was answered twice.
    delivers(&mut node, &syn_ack(1003));
    taken(&mut node, &acknowledging(1003, 0x0102_0305));
    assert_eq!(count(&mut node), u32::from(LIMIT) - 1);
}

/// The answer of a closed port.
///
/// packets.md ingress 630
#[test]
fn a_rst_to_the_workload_gives_the_place_back() {
    let mut node = filled();
    delivers(&mut node, &Frame::tcp((VIP, 80), (ALIAS, 1002), RST | ACK, b""));
    assert_eq!(count(&mut node), u32::from(LIMIT) - 1);
    delivers(&mut node, &Frame::tcp((VIP, 81), (ALIAS, 1003), RST | ACK, b""));
    delivers(&mut node, &Frame::tcp((VIP, 80), (ALIAS, 1003), ACK, b""));
    assert_eq!(count(&mut node), u32::from(LIMIT) - 1, "of that flow only, and only for a RST");
    takes(&mut node, &segment(2000, SYN));
}

/// A target that answers the engine sends SYN-ACKs: they begin nothing here.
///
/// packets.md ingress 660: SYN-ACK of a target | taken, not counted as half open | `FromWorkload`
#[test]
fn a_syn_ack_of_the_workload_is_not_counted() {
    let mut node = node();
    for port in 0..2 * LIMIT {
        takes(&mut node, &Frame::tcp((REAL, 8080), (ENGINE, 33000 + port), SYN | ACK, b""));
    }
    assert_eq!(count(&mut node), 0);
}

#[test]
fn each_workload_has_its_own_limit() {
    let mut node = filled();
    let (other, alias) = (Ipv4Addr::new(10, 0, 0, 20), Ipv4Addr::new(100, 127, 0, 3));
    node.add_workload(IFINDEX, other, alias, 6, 0);
    let frame = Frame::tcp((other, 1000), (VIP, 80), SYN, b"");
    assert_eq!(node.run(Hook::Ingress, &frame.build(), Context::default()).verdict, 7);
    drops(&mut node, Hook::Ingress, &segment(2000, SYN).build(), DropReason::HalfOpenLimit);
}

/// SYNs that were never answered are forgotten when the window ends, also without an agent.
///
/// packets.md ingress 680: SYNs that are never answered | forgotten when their window of 30 s ends | `HalfOpenExpired`
#[test]
fn the_window_ends() {
    let mut node = filled();
    drops(&mut node, Hook::Ingress, &segment(2000, SYN).build(), DropReason::HalfOpenLimit);

    let now = boot_time().as_nanos() as u64;
    let long_ago = now - HALF_OPEN_WINDOW_NS - 1;
    node.set_half_open(WORKLOAD, HalfOpenCount { window_ns: long_ago, count: u32::from(LIMIT), pad: 0 });
    let outcome = node.run(Hook::Ingress, &segment(2000, SYN).build(), Context::default());
    assert_eq!(outcome.verdict, 7);
    assert_eq!(node.counted(Counter::HalfOpenExpired), 1);
    let window = node.half_open(WORKLOAD).expect("still counted");
    assert_eq!(window.count, 1);
    assert!(window.window_ns >= now, "a new window began");

    // A flow of the last window is over: its ACK takes nothing from this one.
    delivers(&mut node, &syn_ack(1000));
    taken(&mut node, &acknowledging(1000, 0x0102_0305));
    assert_eq!(count(&mut node), 1);
    // And a SYN of it sent again is a new one here.
    takes(&mut node, &segment(1001, SYN));
    assert_eq!(count(&mut node), 2);
}

/// Half a window is not the end of it.
#[test]
fn the_window_does_not_end_early() {
    let mut node = filled();
    let start = boot_time().as_nanos() as u64 - HALF_OPEN_WINDOW_NS / 2;
    node.set_half_open(WORKLOAD, HalfOpenCount { window_ns: start, count: u32::from(LIMIT), pad: 0 });
    drops(&mut node, Hook::Ingress, &segment(2000, SYN).build(), DropReason::HalfOpenLimit);
}

/// A count below zero (two CPUs at the end of a window) lets more in, never fewer.
#[test]
fn a_count_below_zero_blocks_no_connection() {
    let mut node = node();
    let now = boot_time().as_nanos() as u64;
    node.set_half_open(WORKLOAD, HalfOpenCount { window_ns: now, count: u32::MAX, pad: u32::MAX });
    for port in 0..=LIMIT {
        takes(&mut node, &segment(1000 + port, SYN));
    }
    drops(&mut node, Hook::Ingress, &segment(2000, SYN).build(), DropReason::HalfOpenLimit);
}

/// Another workload behind the same interface.
const OTHER: (Ipv4Addr, Ipv4Addr, u32) = (Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(100, 127, 0, 3), 6);

/// Places of the other workload that are left after a flood and the ACK that gives its one back.
fn left_after_a_flood(limit: u32) -> (u32, u32) {
    let (real, alias, workload) = OTHER;
    let mut node = node();
    node.configure(Config { half_open_limit: limit, ..config() });
    node.add_workload(IFINDEX, real, alias, workload, 0);
    let other = |flags| Frame::tcp((real, 40_000), (VIP, 80), flags, b"");
    taken(&mut node, &other(SYN).build());
    let answer = Frame::tcp((VIP, 80), (alias, 40_000), SYN | ACK, b"").build();
    assert_eq!(node.run(Hook::Egress, &answer, Context::default()).verdict, TCX_REDIRECT);
    let mut flooded = 0;
    for port in 1..=2 * MAX_HALF_OPEN {
        let (source, destination) = ((port & 0xffff) as u16, (port >> 16) as u16 + 1);
        let syn = Frame::tcp((REAL, source), (VIP, destination), SYN, b"").build();
        // Twice: what was asked for again goes last.
        node.run(Hook::Ingress, &syn, Context::default());
        flooded += u32::from(node.run(Hook::Ingress, &syn, Context::default()).verdict == TCX_REDIRECT);
    }
    let mut ack = other(ACK).build();
    ack[42..46].copy_from_slice(&0x0102_0305u32.to_be_bytes());
    taken(&mut node, &ack);
    (flooded, node.half_open(workload).map_or(0, |c| c.count))
}

/// The table is one for all. As many SYNs as a workload may have at most evict no other workload's.
///
/// packets.md ingress 670: … of as many as a workload may have at most (1,024) | no other workload's half-open connection is
///   forgotten for them | `HalfOpenLimit`
#[test]
fn a_flood_by_one_workload_evicts_no_connections_of_others() {
    assert_eq!(left_after_a_flood(MAX_HALF_OPEN_OF_WORKLOAD), (MAX_HALF_OPEN_OF_WORKLOAD, 0));
    assert_eq!(left_after_a_flood(u32::MAX >> 1), (2 * MAX_HALF_OPEN, 1), "control: without a limit they do");
}
