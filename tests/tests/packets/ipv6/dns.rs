//! `dns: intercept`.

use std::net::Ipv6Addr;

use brattice_abi::{Counter, DropReason, WORKLOAD_INTERCEPT_DNS};
use brattice_tests::packets::{
    frame6::{Extension, Frame6},
    node::{Context, Hook, IFINDEX, Node},
};

use super::scene::*;
use crate::scene::{ACK, RST, SYN, WORKLOAD, delivers_as, drops, passes, takes, takes_as, with_alias, with_real};

const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe);
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111);
const TAKEN: &[Counter] = &[Counter::FromWorkload, Counter::DnsIntercepted];

fn intercepting() -> Node {
    let mut node = node();
    node.add_workload(IFINDEX, REAL6, ALIAS6, WORKLOAD, WORKLOAD_INTERCEPT_DNS);
    node
}

fn question(port: u16, resolver: Ipv6Addr, id: u16) -> Frame6 {
    let mut data = id.to_be_bytes().to_vec();
    data.extend(b"\x01\0\0\x01\0\0\0\0\0\0\x06orders\x04shop\0\0\x1c\0\x01");
    Frame6::udp((REAL6, port), (resolver, 53), &data)
}

/// The engine's answer.
fn answer(port: u16, id: u16) -> Frame6 {
    let mut data = id.to_be_bytes().to_vec();
    data.extend(b"\x81\x80answer");
    Frame6::udp((DNS_VIP6, 53), (ALIAS6, port), &data)
}

#[track_caller]
fn intercepted(node: &mut Node, frame: &Frame6) {
    let expected = with_alias(frame).with(|f| f.destination = DNS_VIP6);
    takes_as(node, &frame.build(), Context::default(), &expected.build(), TAKEN);
    checksum_right(&expected);
}

#[track_caller]
fn answered_by(node: &mut Node, answer: &Frame6, resolver: Ipv6Addr) {
    let expected = with_real(answer).with(|f| f.source = resolver);
    delivers_as(node, &answer.build(), Context::default(), &expected.build());
    checksum_right(&expected);
}

#[test]
fn udp_is_taken_and_answered_by_whom_it_asked() {
    let mut node = intercepting();
    intercepted(&mut node, &question(5000, RESOLVER, 7));
    intercepted(&mut node, &question(5000, OTHER, 8));
    answered_by(&mut node, &answer(5000, 8), OTHER);
    answered_by(&mut node, &answer(5000, 7), RESOLVER);
    // A link-local resolver, as router advertisements name them.
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    intercepted(&mut node, &question(5001, router, 9));
    answered_by(&mut node, &answer(5001, 9), router);
}

#[test]
fn tcp_is_taken_and_answered_by_whom_it_asked() {
    let mut node = intercepting();
    let segment = |flags, data: &[u8]| Frame6::tcp((REAL6, 5000), (RESOLVER, 53), flags, data);
    let reply = |flags, data: &[u8]| Frame6::tcp((DNS_VIP6, 53), (ALIAS6, 5000), flags, data);
    intercepted(&mut node, &segment(SYN, b""));
    answered_by(&mut node, &reply(SYN | ACK, b""), RESOLVER);
    intercepted(&mut node, &segment(ACK, b"\0\x05hello"));
    answered_by(&mut node, &reply(ACK, b"\0\x05world"), RESOLVER);
    intercepted(&mut node, &segment(ACK | 1, b""));
    answered_by(&mut node, &reply(RST, b""), RESOLVER);
}

/// Each family asks for itself: an IPv4 exchange of the same port and id is another.
#[test]
fn the_families_are_told_apart() {
    use crate::scene::{ALIAS, DNS_VIP, REAL};
    use brattice_tests::packets::frame::Frame;
    let mut node = intercepting();
    node.add_workload(IFINDEX, REAL, ALIAS, WORKLOAD, WORKLOAD_INTERCEPT_DNS);
    intercepted(&mut node, &question(5000, RESOLVER, 7));
    let v4 = Frame::udp((REAL, 5000), ([9, 9, 9, 9].into(), 53), b"\0\x07");
    let expected = with_alias(&v4).with(|f| f.destination = DNS_VIP).build();
    takes_as(&mut node, &v4.build(), Context::default(), &expected, TAKEN);
    answered_by(&mut node, &answer(5000, 7), RESOLVER);
    let v4 = Frame::udp((DNS_VIP, 53), (ALIAS, 5000), b"\0\x07");
    let expected = with_real(&v4).with(|f| f.source = [9, 9, 9, 9].into()).build();
    delivers_as(&mut node, &v4.build(), Context::default(), &expected);
}

#[test]
fn asking_the_dns_vip_itself_forgets_the_resolver() {
    let mut node = intercepting();
    intercepted(&mut node, &question(5000, RESOLVER, 7));
    takes(&mut node, &question(5000, DNS_VIP6, 7));
    answered_by(&mut node, &answer(5000, 7), DNS_VIP6);
}

#[test]
fn a_port_behind_extension_headers_is_found() {
    let mut node = intercepting();
    let extensions = [Extension::options(0, 1), Extension::options(60, 1)];
    intercepted(&mut node, &question(5000, RESOLVER, 7).behind(&extensions));
    answered_by(&mut node, &answer(5000, 7).behind(&extensions), RESOLVER);
}

#[test]
fn other_ports_sources_and_workloads_without_the_flag_pass() {
    let mut node = intercepting();
    for port in [52, 54, 80, 853, 5353] {
        passes(&mut node, Hook::Ingress, &Frame6::udp((REAL6, 53), (RESOLVER, port), b"\0\x01").build());
        passes(&mut node, Hook::Ingress, &Frame6::tcp((REAL6, 53), (RESOLVER, port), SYN, b"").build());
    }
    passes(&mut node, Hook::Ingress, &Frame6::udp((LINK_LOCAL, 5000), (RESOLVER, 53), b"\0\x01").build());
    intercepted(&mut node, &question(5000, RESOLVER, 7));
    let mut without = super::scene::node();
    passes(&mut without, Hook::Ingress, &question(5000, RESOLVER, 7).build());
    passes(&mut without, Hook::Ingress, &Frame6::tcp((REAL6, 5000), (RESOLVER, 53), SYN, b"").build());
}

/// As for IPv4: the first fragment shows the port, later ones do not, so the datagram never becomes whole.
#[test]
fn of_a_fragmented_question_only_the_first_fragment_is_taken() {
    let mut node = intercepting();
    let frame = Frame6::udp((REAL6, 5000), (RESOLVER, 53), &[7; 600]);
    let expected = with_alias(&frame).with(|f| f.destination = DNS_VIP6).fragments(256);
    let sent = frame.fragments(256);
    takes_as(&mut node, &sent[0], Context::default(), &expected[0], TAKEN);
    for later in &sent[1..] {
        passes(&mut node, Hook::Ingress, later);
    }
}

/// A broken header on port 53 of a workload that is intercepted is ours to refuse; of others it is not.
#[test]
fn a_malformed_question_is_dropped() {
    let bad = question(5000, RESOLVER, 7).with(|f| f.payload_length = Some(500));
    let mut node = intercepting();
    drops(&mut node, Hook::Ingress, &bad.build(), DropReason::Malformed);
    let cut = &question(5000, RESOLVER, 7).build()[..14 + 40 + 6];
    drops(&mut node, Hook::Ingress, cut, DropReason::Truncated);
    let mut plain = super::scene::node();
    passes(&mut plain, Hook::Ingress, &bad.build());
    passes(&mut plain, Hook::Ingress, cut);
}
