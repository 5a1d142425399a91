//! `dns: intercept`.

use std::{net::Ipv4Addr, time::Instant};

use brattice_abi::{
    Counter, DropReason, HalfOpenCount, INTERCEPT_WINDOW_NS, MAX_INTERCEPTS, MAX_INTERCEPTS_OF_WORKLOAD, VIRTUAL_MAC,
    WORKLOAD_INTERCEPT_DNS,
};
use brattice_tests::packets::{
    frame::Frame,
    node::{BRATTICE0_MAC, Context, Hook, IFINDEX, Node, TCX_REDIRECT, WORKLOAD_MAC, boot_time},
};

use crate::scene::*;

const RESOLVER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
const OTHER: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
const TAKEN: &[Counter] = &[Counter::FromWorkload, Counter::DnsIntercepted];

fn intercepting() -> Node {
    let mut node = node();
    node.add_workload(IFINDEX, REAL, ALIAS, WORKLOAD, WORKLOAD_INTERCEPT_DNS);
    node
}

fn question(port: u16, resolver: Ipv4Addr, id: u16) -> Frame {
    let mut data = id.to_be_bytes().to_vec();
    data.extend(b"\x01\0\0\x01\0\0\0\0\0\0\x06orders\x04shop\0\0\x01\0\x01");
    Frame::udp((REAL, port), (resolver, 53), &data)
}

/// The engine's answer, and as the workload is to see it: from `resolver`.
fn answer(port: u16, id: u16) -> Frame {
    let mut data = id.to_be_bytes().to_vec();
    data.extend(b"\x81\x80answer");
    Frame::udp((DNS_VIP, 53), (ALIAS, port), &data)
}

#[track_caller]
fn intercepted(node: &mut Node, frame: &Frame) {
    let expected = with_alias(frame).with(|f| f.destination = DNS_VIP).build();
    takes_as(node, &frame.build(), Context::default(), &expected, TAKEN);
    if frame.fragment == 0 {
        checksums_right(&expected);
    }
}

#[track_caller]
fn answered_by(node: &mut Node, answer: &Frame, resolver: Ipv4Addr) {
    let expected = with_real(answer).with(|f| f.source = resolver).build();
    delivers_as(node, &answer.build(), Context::default(), &expected);
    checksums_right(&expected);
}

/// packets.md dns 10: UDP to port 53 of any address | to the DNS VIP; the answer comes from the address that it asked |
///   `DnsIntercepted`
#[test]
fn udp_is_taken_and_answered_by_whom_it_asked() {
    let mut node = intercepting();
    intercepted(&mut node, &question(5000, RESOLVER, 7));
    answered_by(&mut node, &answer(5000, 7), RESOLVER);
    // A resolver may be asked again with the same id.
    intercepted(&mut node, &question(5000, RESOLVER, 7));
    answered_by(&mut node, &answer(5000, 7), RESOLVER);
}

/// packets.md dns 20: two resolvers asked from one port | distinguished by DNS id | `DnsIntercepted`
#[test]
fn two_resolvers_asked_from_one_port_are_told_apart_by_id() {
    let mut node = intercepting();
    intercepted(&mut node, &question(5000, RESOLVER, 7));
    intercepted(&mut node, &question(5000, OTHER, 8));
    answered_by(&mut node, &answer(5000, 8), OTHER);
    answered_by(&mut node, &answer(5000, 7), RESOLVER);
}

/// packets.md dns 40
#[test]
fn an_answer_nobody_intercepted_comes_from_the_dns_vip() {
    let mut node = intercepting();
    takes(&mut node, &question(5000, DNS_VIP, 7));
    answered_by(&mut node, &answer(5000, 7), DNS_VIP);
}

/// The same port and id, first to a resolver and then to the DNS VIP itself: the first is forgotten.
///
/// packets.md dns 40: the DNS VIP itself, also right after a resolver | answers from the DNS VIP | `FromWorkload`
#[test]
fn asking_the_dns_vip_itself_forgets_the_resolver() {
    let mut node = intercepting();
    intercepted(&mut node, &question(5000, RESOLVER, 7));
    takes(&mut node, &question(5000, DNS_VIP, 7));
    answered_by(&mut node, &answer(5000, 7), DNS_VIP);

    intercepted(&mut node, &Frame::tcp((REAL, 5000), (RESOLVER, 53), SYN, b""));
    takes(&mut node, &Frame::tcp((REAL, 5000), (DNS_VIP, 53), SYN, b""));
    answered_by(&mut node, &Frame::tcp((DNS_VIP, 53), (ALIAS, 5000), ACK | SYN, b""), DNS_VIP);
}

/// packets.md dns 30: TCP to port 53 | the same, distinguished by port | `DnsIntercepted`
#[test]
fn tcp_is_taken_and_answered_by_whom_it_asked() {
    let mut node = intercepting();
    let segment = |flags, data: &[u8]| Frame::tcp((REAL, 5000), (RESOLVER, 53), flags, data);
    let reply = |flags, data: &[u8]| Frame::tcp((DNS_VIP, 53), (ALIAS, 5000), flags, data);
    intercepted(&mut node, &segment(SYN, b""));
    answered_by(&mut node, &reply(SYN | ACK, b""), RESOLVER);
    intercepted(&mut node, &segment(ACK, b"\0\x05hello"));
    answered_by(&mut node, &reply(ACK, b"\0\x05world"), RESOLVER);
    intercepted(&mut node, &segment(ACK | 1, b""));
    answered_by(&mut node, &reply(RST, b""), RESOLVER);
}

/// packets.md dns 100
#[test]
fn without_the_flag_nothing_is_taken() {
    let mut node = node();
    passes(&mut node, Hook::Ingress, &question(5000, RESOLVER, 7).build());
    passes(&mut node, Hook::Ingress, &Frame::tcp((REAL, 5000), (RESOLVER, 53), SYN, b"").build());
    let mut node = intercepting();
    intercepted(&mut node, &question(5000, RESOLVER, 7));
}

/// packets.md dns 100: other ports, other sources on the interface, no flag | passes | –
#[test]
fn other_ports_and_protocols_pass() {
    let mut node = intercepting();
    for port in [52, 54, 80, 853, 5353] {
        passes(&mut node, Hook::Ingress, &Frame::udp((REAL, 53), (RESOLVER, port), b"\0\x01").build());
        passes(&mut node, Hook::Ingress, &Frame::tcp((REAL, 53), (RESOLVER, port), SYN, b"").build());
    }
    passes(&mut node, Hook::Ingress, &Frame::raw(REAL, RESOLVER, 1, &[8, 0, 0, 53]).build());
    intercepted(&mut node, &question(5000, RESOLVER, 7));
}

/// Only the workload's own address has the flag; others behind the same port keep their resolver.
///
/// packets.md dns 100
#[test]
fn other_sources_pass() {
    let mut node = intercepting();
    let frame = Frame::udp((STRANGER, 5000), (RESOLVER, 53), b"\0\x01");
    passes(&mut node, Hook::Ingress, &frame.build());
}

/// To an alias nothing goes, port 53 or not.
///
/// packets.md dns 90: port 53 of an alias | dropped | `ToAlias`
#[test]
fn to_an_alias_is_dropped() {
    let mut node = intercepting();
    drops(&mut node, Hook::Ingress, &question(5000, ALIAS, 7).build(), DropReason::ToAlias);
}

/// No id, no question, still taken: an intercepting node takes every datagram to port 53.
///
/// packets.md dns 60: datagram too short for DNS | taken | `DnsIntercepted`
#[test]
fn a_datagram_too_short_for_dns_is_taken() {
    let mut node = intercepting();
    for data in [&b""[..], b"\x01"] {
        intercepted(&mut node, &Frame::udp((REAL, 5000), (RESOLVER, 53), data));
    }
}

/// IP options shift everything behind them.
#[test]
fn with_ip_options() {
    let mut node = intercepting();
    intercepted(&mut node, &question(5000, RESOLVER, 7).with(|f| f.options = vec![1; 24]));
    answered_by(&mut node, &answer(5000, 7).with(|f| f.options = vec![1; 40]), RESOLVER);
}

/// The first fragment shows the port and is taken; later ones show none and pass, so the datagram never becomes whole.
///
/// packets.md dns 70: fragmented question | first fragment taken, later ones pass: never becomes whole |
///   `DnsIntercepted`
#[test]
fn of_a_fragmented_question_only_the_first_fragment_is_taken() {
    let mut node = intercepting();
    let frame = Frame::udp((REAL, 5000), (RESOLVER, 53), &[7; 600]);
    let expected = with_alias(&frame).with(|f| f.destination = DNS_VIP).fragments(256);
    let sent = frame.fragments(256);
    takes_as(&mut node, &sent[0], Context::default(), &expected[0], TAKEN);
    for later in &sent[1..] {
        passes(&mut node, Hook::Ingress, later);
    }
}

/// A broken header on port 53 of a workload that is intercepted is ours to refuse; of others it is not.
///
/// packets.md dns 80: malformed or cut off, to port 53 | dropped (passes without the flag) | `Malformed`, `Truncated`
#[test]
fn a_malformed_question_is_dropped() {
    let bad = question(5000, RESOLVER, 7).with(|f| f.total_length = Some(19));
    let mut node = intercepting();
    drops(&mut node, Hook::Ingress, &bad.build(), DropReason::Malformed);
    let cut = &question(5000, RESOLVER, 7).build()[..14 + 20 + 6];
    drops(&mut node, Hook::Ingress, cut, DropReason::Truncated);
    let mut plain = self::node();
    passes(&mut plain, Hook::Ingress, &bad.build());
}

#[test]
fn the_half_open_limit_holds_for_taken_connections() {
    let mut node = intercepting();
    for port in 0..8 {
        intercepted(&mut node, &Frame::tcp((REAL, 5000 + port), (RESOLVER, 53), SYN, b""));
    }
    let one_more = Frame::tcp((REAL, 6000), (RESOLVER, 53), SYN, b"");
    drops(&mut node, Hook::Ingress, &one_more.build(), DropReason::HalfOpenLimit);
    // What is acknowledged is in `half_open`.
    let mut answered = Frame::tcp((REAL, 5000), (RESOLVER, 53), ACK, b"").build();
    answered[42..46].copy_from_slice(&0x0102_0305u32.to_be_bytes());
    node.run(Hook::Egress, &Frame::tcp((DNS_VIP, 53), (ALIAS, 5000), SYN | ACK, b"").build(), Context::default());
    node.run(Hook::Ingress, &answered, Context::default());
    intercepted(&mut node, &one_more);
}

#[test]
fn the_mac_is_brattice0s() {
    let mut node = intercepting();
    let outcome = node.run(Hook::Ingress, &question(5000, RESOLVER, 7).build(), Context::default());
    assert_eq!(outcome.frame[..6], BRATTICE0_MAC);
}

/// Questions of a flood that were taken.
fn flood(node: &mut Node, ids: std::ops::Range<u32>) -> u32 {
    let taken = |n: &u32| {
        let frame = question((n >> 16) as u16 + 6000, RESOLVER, *n as u16).build();
        node.run(Hook::Ingress, &frame, Context::default()).verdict == TCX_REDIRECT
    };
    ids.filter(taken).count() as u32
}

/// The table of questions is one for all. As many as a workload may have unanswered evict no other workload's.
///
/// packets.md dns 50: a question above the 1,024 unanswered ones of a workload in 5 s; the same one again, or one that
///   was answered, does not count | dropped | `InterceptLimit`
#[test]
fn a_flood_by_one_workload_pushes_out_nobody_elses() {
    let mut node = intercepting();
    let (real, alias) = (Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(100, 127, 0, 3));
    node.add_workload(IFINDEX, real, alias, 6, WORKLOAD_INTERCEPT_DNS);
    let other = Frame::udp((real, 5000), (OTHER, 53), b"\0\x07?").build();
    assert_eq!(node.run(Hook::Ingress, &other, Context::default()).verdict, TCX_REDIRECT);
    let begun = Instant::now();
    let taken = flood(&mut node, 0..2 * MAX_INTERCEPTS);
    // On a busy machine it lasts for several windows, each of which has places of its own.
    let windows = begun.elapsed().as_nanos() / u128::from(INTERCEPT_WINDOW_NS) + 2;
    assert!(taken >= MAX_INTERCEPTS_OF_WORKLOAD, "{taken} were taken");
    assert!(u128::from(taken) <= windows * u128::from(MAX_INTERCEPTS_OF_WORKLOAD), "{taken} were taken");
    assert_eq!(node.dropped(DropReason::InterceptLimit), u64::from(2 * MAX_INTERCEPTS - taken), "the rest is counted");
    let answer = Frame::udp((DNS_VIP, 53), (alias, 5000), b"\0\x07!");
    let expected = answer.clone().with(|f| {
        (f.source, f.destination) = (OTHER, real);
        (f.to, f.from) = (WORKLOAD_MAC, VIRTUAL_MAC);
    });
    delivers_as(&mut node, &answer.build(), Context::default(), &expected.build());
}

/// A place is given back by the answer, over UDP; by a question to the DNS VIP; and when the window ends.
///
/// packets.md dns 50
#[test]
fn answered_questions_hold_no_place() {
    let mut node = intercepting();
    let count = |node: &mut Node| node.unanswered(WORKLOAD).map_or(0, |c| c.count);
    for id in 0..3 * MAX_INTERCEPTS_OF_WORKLOAD as u16 {
        intercepted(&mut node, &question(5000, RESOLVER, id));
        answered_by(&mut node, &answer(5000, id), RESOLVER);
    }
    assert_eq!(count(&mut node), 0);
    // The same question again is one; over TCP it keeps its place.
    for _ in 0..3 {
        intercepted(&mut node, &question(5000, RESOLVER, 7));
        intercepted(&mut node, &Frame::tcp((REAL, 5001), (RESOLVER, 53), SYN, b""));
    }
    assert_eq!(count(&mut node), 2);
    answered_by(&mut node, &Frame::tcp((DNS_VIP, 53), (ALIAS, 5001), ACK | SYN, b""), RESOLVER);
    assert_eq!(count(&mut node), 2);
    takes(&mut node, &question(5000, DNS_VIP, 7));
    assert_eq!(count(&mut node), 1);
    // A full window, and its end.
    let full = MAX_INTERCEPTS_OF_WORKLOAD - 1;
    assert_eq!(flood(&mut node, 0..MAX_INTERCEPTS_OF_WORKLOAD + 5), full);
    drops(&mut node, Hook::Ingress, &question(7000, RESOLVER, 1).build(), DropReason::InterceptLimit);
    // What was asked already may be asked again.
    assert_eq!(flood(&mut node, 0..1), 1);
    let window_ns = boot_time().as_nanos() as u64 - INTERCEPT_WINDOW_NS;
    node.set_unanswered(WORKLOAD, HalfOpenCount { window_ns, count: MAX_INTERCEPTS_OF_WORKLOAD, pad: 0 });
    intercepted(&mut node, &question(7000, RESOLVER, 1));
    assert_eq!(count(&mut node), 1);
}
