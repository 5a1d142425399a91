//! `dns: intercept`.

use std::time::Instant;

use brattice_abi::{
    Counter, DropReason, HalfOpenCount, INTERCEPT_WINDOW_NS, MAX_INTERCEPTS, MAX_INTERCEPTS_OF_WORKLOAD, VIRTUAL_MAC,
    WORKLOAD_INTERCEPT_DNS,
};
use brattice_tests::packets::node::{
    BRATTICE0_MAC, Context, Hook, IFINDEX, Node, TCX_REDIRECT, WORKLOAD_MAC, boot_time,
};

use crate::{
    family::{Family, V4, V6, families},
    scene::*,
};

families!(
    udp_is_taken_and_answered_by_whom_it_asked,
    two_resolvers_asked_from_one_port_are_told_apart_by_id,
    an_answer_to_a_question_that_was_not_intercepted_comes_from_the_dns_vip,
    asking_the_dns_vip_itself_forgets_the_resolver,
    tcp_is_taken_and_answered_by_whom_it_asked,
    without_the_flag_nothing_is_taken,
    other_ports_and_protocols_pass,
    other_sources_pass,
    to_an_alias_is_dropped,
    a_datagram_too_short_for_dns_is_taken,
    with_options_and_extension_headers,
    of_a_fragmented_question_only_the_first_fragment_is_taken,
    a_malformed_question_is_dropped,
    the_half_open_limit_holds_for_taken_connections,
    the_mac_is_brattice0s,
    a_flood_by_one_workload_evicts_no_questions_of_others,
    answered_questions_hold_no_place,
);

const TAKEN: &[Counter] = &[Counter::FromWorkload, Counter::DnsIntercepted];

fn intercepting<F: Family>() -> Node {
    let mut node = F::node();
    node.add_workload(IFINDEX, F::REAL, F::ALIAS, WORKLOAD, WORKLOAD_INTERCEPT_DNS);
    node
}

fn question<F: Family>(port: u16, resolver: F::Address, id: u16) -> F::Frame {
    let mut data = id.to_be_bytes().to_vec();
    data.extend(b"\x01\0\0\x01\0\0\0\0\0\0\x06orders\x04shop\0\0\x01\0\x01");
    F::udp((F::REAL, port), (resolver, 53), &data)
}

/// The engine's answer, and as the workload is to see it: from `resolver`.
fn answer<F: Family>(port: u16, id: u16) -> F::Frame {
    let mut data = id.to_be_bytes().to_vec();
    data.extend(b"\x81\x80answer");
    F::udp((F::DNS_VIP, 53), (F::ALIAS, port), &data)
}

#[track_caller]
fn intercepted<F: Family>(node: &mut Node, frame: &F::Frame) {
    let expected = with_alias(frame).changed(|p| *p.destination = F::DNS_VIP);
    takes_as(node, &frame.bytes(), Context::default(), &expected.bytes(), TAKEN);
    F::checksums_right(&expected);
}

#[track_caller]
fn answered_by<F: Family>(node: &mut Node, answer: &F::Frame, resolver: F::Address) {
    let expected = with_real(answer).changed(|p| *p.source = resolver);
    delivers_as(node, &answer.bytes(), Context::default(), &expected.bytes());
    F::checksums_right(&expected);
}

/// packets.md dns 10: UDP to port 53 of any address | to the DNS VIP; the answer comes from the address that it asked |
///   `DnsIntercepted`
fn udp_is_taken_and_answered_by_whom_it_asked<F: Family>() {
    let mut node = intercepting::<F>();
    intercepted::<F>(&mut node, &question::<F>(5000, F::RESOLVERS[0], 7));
    answered_by::<F>(&mut node, &answer::<F>(5000, 7), F::RESOLVERS[0]);
    // A resolver may be asked again with the same id.
    intercepted::<F>(&mut node, &question::<F>(5000, F::RESOLVERS[0], 7));
    answered_by::<F>(&mut node, &answer::<F>(5000, 7), F::RESOLVERS[0]);
}

/// packets.md dns 20: two resolvers asked from one port | distinguished by DNS id | `DnsIntercepted`
fn two_resolvers_asked_from_one_port_are_told_apart_by_id<F: Family>() {
    let mut node = intercepting::<F>();
    intercepted::<F>(&mut node, &question::<F>(5000, F::RESOLVERS[0], 7));
    intercepted::<F>(&mut node, &question::<F>(5000, F::RESOLVERS[1], 8));
    answered_by::<F>(&mut node, &answer::<F>(5000, 8), F::RESOLVERS[1]);
    answered_by::<F>(&mut node, &answer::<F>(5000, 7), F::RESOLVERS[0]);
}

/// packets.md dns 40
fn an_answer_to_a_question_that_was_not_intercepted_comes_from_the_dns_vip<F: Family>() {
    let mut node = intercepting::<F>();
    takes(&mut node, &question::<F>(5000, F::DNS_VIP, 7));
    answered_by::<F>(&mut node, &answer::<F>(5000, 7), F::DNS_VIP);
}

/// The same port and id, first to a resolver and then to the DNS VIP itself: the first is forgotten.
///
/// packets.md dns 40: the DNS VIP itself, also right after a resolver | answers from the DNS VIP | `FromWorkload`
fn asking_the_dns_vip_itself_forgets_the_resolver<F: Family>() {
    let mut node = intercepting::<F>();
    intercepted::<F>(&mut node, &question::<F>(5000, F::RESOLVERS[0], 7));
    takes(&mut node, &question::<F>(5000, F::DNS_VIP, 7));
    answered_by::<F>(&mut node, &answer::<F>(5000, 7), F::DNS_VIP);

    intercepted::<F>(&mut node, &F::tcp((F::REAL, 5000), (F::RESOLVERS[0], 53), SYN, b""));
    takes(&mut node, &F::tcp((F::REAL, 5000), (F::DNS_VIP, 53), SYN, b""));
    answered_by::<F>(&mut node, &F::tcp((F::DNS_VIP, 53), (F::ALIAS, 5000), ACK | SYN, b""), F::DNS_VIP);
}

/// Router advertisements name resolvers by link-local addresses.
///
/// packets.md dns 10
#[test]
fn a_link_local_resolver_is_answered_for() {
    let mut node = intercepting::<V6>();
    let router = "fe80::1".parse().expect("an address");
    intercepted::<V6>(&mut node, &question::<V6>(5001, router, 9));
    answered_by::<V6>(&mut node, &answer::<V6>(5001, 9), router);
}

/// An IPv4 and an IPv6 exchange of the same port and id are two.
///
/// packets.md dns 20
#[test]
fn the_families_are_told_apart() {
    let mut node = intercepting::<V6>();
    node.add_workload(IFINDEX, REAL, ALIAS, WORKLOAD, WORKLOAD_INTERCEPT_DNS);
    intercepted::<V6>(&mut node, &question::<V6>(5000, V6::RESOLVERS[0], 7));
    intercepted::<V4>(&mut node, &question::<V4>(5000, V4::RESOLVERS[0], 7));
    answered_by::<V6>(&mut node, &answer::<V6>(5000, 7), V6::RESOLVERS[0]);
    answered_by::<V4>(&mut node, &answer::<V4>(5000, 7), V4::RESOLVERS[0]);
}

/// packets.md dns 30: TCP to port 53 | the same, distinguished by port | `DnsIntercepted`
fn tcp_is_taken_and_answered_by_whom_it_asked<F: Family>() {
    let mut node = intercepting::<F>();
    let segment = |flags, data: &[u8]| F::tcp((F::REAL, 5000), (F::RESOLVERS[0], 53), flags, data);
    let reply = |flags, data: &[u8]| F::tcp((F::DNS_VIP, 53), (F::ALIAS, 5000), flags, data);
    intercepted::<F>(&mut node, &segment(SYN, b""));
    answered_by::<F>(&mut node, &reply(SYN | ACK, b""), F::RESOLVERS[0]);
    intercepted::<F>(&mut node, &segment(ACK, b"\0\x05hello"));
    answered_by::<F>(&mut node, &reply(ACK, b"\0\x05world"), F::RESOLVERS[0]);
    intercepted::<F>(&mut node, &segment(ACK | 1, b""));
    answered_by::<F>(&mut node, &reply(RST, b""), F::RESOLVERS[0]);
}

/// packets.md dns 100
fn without_the_flag_nothing_is_taken<F: Family>() {
    let mut node = F::node();
    passes(&mut node, Hook::Ingress, &question::<F>(5000, F::RESOLVERS[0], 7).bytes());
    passes(&mut node, Hook::Ingress, &F::tcp((F::REAL, 5000), (F::RESOLVERS[0], 53), SYN, b"").bytes());
    let mut node = intercepting::<F>();
    intercepted::<F>(&mut node, &question::<F>(5000, F::RESOLVERS[0], 7));
}

/// packets.md dns 100: other ports, other sources on the interface, no flag | passes | –
fn other_ports_and_protocols_pass<F: Family>() {
    let mut node = intercepting::<F>();
    for port in [52, 54, 80, 853, 5353] {
        passes(&mut node, Hook::Ingress, &F::udp((F::REAL, 53), (F::RESOLVERS[0], port), b"\0\x01").bytes());
        passes(&mut node, Hook::Ingress, &F::tcp((F::REAL, 53), (F::RESOLVERS[0], port), SYN, b"").bytes());
    }
    passes(&mut node, Hook::Ingress, &F::raw(F::REAL, F::RESOLVERS[0], F::ICMP, &[F::ECHO, 0, 0, 53]).bytes());
    intercepted::<F>(&mut node, &question::<F>(5000, F::RESOLVERS[0], 7));
}

/// Only the workload's own address has the flag; others behind the same port keep their resolver.
///
/// packets.md dns 100
fn other_sources_pass<F: Family>() {
    let mut node = intercepting::<F>();
    for source in F::spoofed() {
        let frame = F::udp((source, 5000), (F::RESOLVERS[0], 53), b"\0\x01");
        passes(&mut node, Hook::Ingress, &frame.bytes());
    }
}

/// To an alias nothing goes, port 53 or not.
///
/// packets.md dns 90: port 53 of an alias | dropped | `ToAlias`
fn to_an_alias_is_dropped<F: Family>() {
    let mut node = intercepting::<F>();
    drops(&mut node, Hook::Ingress, &question::<F>(5000, F::ALIAS, 7).bytes(), DropReason::ToAlias);
}

/// No id, no question, still taken: an intercepting node takes every datagram to port 53.
///
/// packets.md dns 60: datagram too short for DNS | taken | `DnsIntercepted`
fn a_datagram_too_short_for_dns_is_taken<F: Family>() {
    let mut node = intercepting::<F>();
    for data in [&b""[..], b"\x01"] {
        intercepted::<F>(&mut node, &F::udp((F::REAL, 5000), (F::RESOLVERS[0], 53), data));
    }
}

/// IP options and extension headers shift everything behind them.
fn with_options_and_extension_headers<F: Family>() {
    let mut node = intercepting::<F>();
    intercepted::<F>(&mut node, &F::with_options(question::<F>(5000, F::RESOLVERS[0], 7), 6));
    intercepted::<F>(&mut node, &F::lengthened(question::<F>(5000, F::RESOLVERS[0], 7)).0);
    answered_by::<F>(&mut node, &F::lengthened(answer::<F>(5000, 7)).0, F::RESOLVERS[0]);
}

/// The first fragment shows the port and is taken; later ones show none and pass, so the datagram never becomes whole.
///
/// packets.md dns 70: fragmented question | first fragment taken, later ones pass: never becomes whole |
///   `DnsIntercepted`
fn of_a_fragmented_question_only_the_first_fragment_is_taken<F: Family>() {
    let mut node = intercepting::<F>();
    let frame = F::udp((F::REAL, 5000), (F::RESOLVERS[0], 53), &[7; 600]);
    let expected = with_alias(&frame).changed(|p| *p.destination = F::DNS_VIP).in_fragments(256);
    let sent = frame.in_fragments(256);
    takes_as(&mut node, &sent[0], Context::default(), &expected[0], TAKEN);
    for later in &sent[1..] {
        passes(&mut node, Hook::Ingress, later);
    }
}

/// A broken header to port 53 is dropped only for workloads whose DNS is intercepted.
///
/// packets.md dns 80: malformed or cut off, to port 53 | dropped (passes without the flag) | `Malformed`, `Truncated`
fn a_malformed_question_is_dropped<F: Family>() {
    let bad = F::with_length(question::<F>(5000, F::RESOLVERS[0], 7), F::MALFORMED_LENGTH);
    let mut node = intercepting::<F>();
    drops(&mut node, Hook::Ingress, &bad.bytes(), DropReason::Malformed);
    let cut = &question::<F>(5000, F::RESOLVERS[0], 7).bytes()[..F::FIXED + 6];
    drops(&mut node, Hook::Ingress, cut, DropReason::Truncated);
    let mut plain = F::node();
    passes(&mut plain, Hook::Ingress, &bad.bytes());
    passes(&mut plain, Hook::Ingress, cut);
}

fn the_half_open_limit_holds_for_taken_connections<F: Family>() {
    let mut node = intercepting::<F>();
    for port in 0..8 {
        intercepted::<F>(&mut node, &F::tcp((F::REAL, 5000 + port), (F::RESOLVERS[0], 53), SYN, b""));
    }
    let one_more = F::tcp((F::REAL, 6000), (F::RESOLVERS[0], 53), SYN, b"");
    drops(&mut node, Hook::Ingress, &one_more.bytes(), DropReason::HalfOpenLimit);
    // What is acknowledged is in `half_open`.
    let mut answered = F::tcp((F::REAL, 5000), (F::RESOLVERS[0], 53), ACK, b"").bytes();
    answered[F::FIXED + 8..F::FIXED + 12].copy_from_slice(&0x0102_0305u32.to_be_bytes());
    node.run(Hook::Egress, &F::tcp((F::DNS_VIP, 53), (F::ALIAS, 5000), SYN | ACK, b"").bytes(), Context::default());
    node.run(Hook::Ingress, &answered, Context::default());
    intercepted::<F>(&mut node, &one_more);
}

fn the_mac_is_brattice0s<F: Family>() {
    let mut node = intercepting::<F>();
    let outcome = node.run(Hook::Ingress, &question::<F>(5000, F::RESOLVERS[0], 7).bytes(), Context::default());
    assert_eq!(outcome.frame[..6], BRATTICE0_MAC);
}

/// Questions of a flood that were taken.
fn flood<F: Family>(node: &mut Node, ids: std::ops::Range<u32>) -> u32 {
    let taken = |n: &u32| {
        let frame = question::<F>((n >> 16) as u16 + 6000, F::RESOLVERS[0], *n as u16).bytes();
        node.run(Hook::Ingress, &frame, Context::default()).verdict == TCX_REDIRECT
    };
    ids.filter(taken).count() as u32
}

/// The table of questions is one for all. As many as a workload may have unanswered evict no other workload's.
///
/// packets.md dns 50: a question above the 1,024 unanswered ones of a workload in 5 s; the same one again, or one that
///   was answered, does not count | dropped | `InterceptLimit`
fn a_flood_by_one_workload_evicts_no_questions_of_others<F: Family>() {
    let mut node = intercepting::<F>();
    let (real, alias) = F::NEIGHBOUR;
    node.add_workload(IFINDEX, real, alias, 6, WORKLOAD_INTERCEPT_DNS);
    let other = F::udp((real, 5000), (F::RESOLVERS[1], 53), b"\0\x07?").bytes();
    assert_eq!(node.run(Hook::Ingress, &other, Context::default()).verdict, TCX_REDIRECT);
    let begun = Instant::now();
    let taken = flood::<F>(&mut node, 0..2 * MAX_INTERCEPTS);
    // On a busy machine it lasts for several windows, each of which has places of its own.
    let windows = begun.elapsed().as_nanos() / u128::from(INTERCEPT_WINDOW_NS) + 2;
    assert!(taken >= MAX_INTERCEPTS_OF_WORKLOAD, "{taken} were taken");
    assert!(u128::from(taken) <= windows * u128::from(MAX_INTERCEPTS_OF_WORKLOAD), "{taken} were taken");
    assert_eq!(node.dropped(DropReason::InterceptLimit), u64::from(2 * MAX_INTERCEPTS - taken), "the rest is counted");
    let answer = F::udp((F::DNS_VIP, 53), (alias, 5000), b"\0\x07!");
    let expected = answer.clone().changed(|p| {
        (*p.source, *p.destination) = (F::RESOLVERS[1], real);
        (*p.to, *p.from) = (WORKLOAD_MAC, VIRTUAL_MAC);
    });
    delivers_as(&mut node, &answer.bytes(), Context::default(), &expected.bytes());
}

/// A place is given back by the answer, over UDP; by a question to the DNS VIP; and when the window ends.
///
/// packets.md dns 50
fn answered_questions_hold_no_place<F: Family>() {
    let mut node = intercepting::<F>();
    let count = |node: &mut Node| node.unanswered(WORKLOAD).map_or(0, |c| c.count);
    for id in 0..3 * MAX_INTERCEPTS_OF_WORKLOAD as u16 {
        intercepted::<F>(&mut node, &question::<F>(5000, F::RESOLVERS[0], id));
        answered_by::<F>(&mut node, &answer::<F>(5000, id), F::RESOLVERS[0]);
    }
    assert_eq!(count(&mut node), 0);
    // The same question again is one; over TCP it keeps its place.
    for _ in 0..3 {
        intercepted::<F>(&mut node, &question::<F>(5000, F::RESOLVERS[0], 7));
        intercepted::<F>(&mut node, &F::tcp((F::REAL, 5001), (F::RESOLVERS[0], 53), SYN, b""));
    }
    assert_eq!(count(&mut node), 2);
    answered_by::<F>(&mut node, &F::tcp((F::DNS_VIP, 53), (F::ALIAS, 5001), ACK | SYN, b""), F::RESOLVERS[0]);
    assert_eq!(count(&mut node), 2);
    takes(&mut node, &question::<F>(5000, F::DNS_VIP, 7));
    assert_eq!(count(&mut node), 1);
    // A full window, and its end.
    let full = MAX_INTERCEPTS_OF_WORKLOAD - 1;
    assert_eq!(flood::<F>(&mut node, 0..MAX_INTERCEPTS_OF_WORKLOAD + 5), full);
    drops(&mut node, Hook::Ingress, &question::<F>(7000, F::RESOLVERS[0], 1).bytes(), DropReason::InterceptLimit);
    // What was asked already may be asked again.
    assert_eq!(flood::<F>(&mut node, 0..1), 1);
    let window_ns = boot_time().as_nanos() as u64 - INTERCEPT_WINDOW_NS;
    node.set_unanswered(WORKLOAD, HalfOpenCount { window_ns, count: MAX_INTERCEPTS_OF_WORKLOAD, pad: 0 });
    intercepted::<F>(&mut node, &question::<F>(7000, F::RESOLVERS[0], 1));
    assert_eq!(count(&mut node), 1);
}
