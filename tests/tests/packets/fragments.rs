//! Fragments, in both directions: translated one by one, without state.

use brattice_abi::{Counter, DropReason};
use brattice_tests::packets::{
    frame::{Frame, Payload},
    node::{Context, Hook, Node},
};

use crate::scene::*;

fn data() -> Vec<u8> {
    (0..1000).map(|i| (i * 7 + 3) as u8).collect()
}

/// Every fragment is translated; together they are what the whole packet would have become.
fn all_taken(node: &mut Node, frame: &Frame, size: usize) {
    let expected = with_alias(frame).fragments(size);
    let sent = frame.fragments(size);
    assert!(sent.len() > 1, "not fragmented");
    for (fragment, expected) in sent.iter().zip(&expected) {
        takes_as(node, fragment, Context::default(), expected, &[Counter::FromWorkload]);
    }
}

/// packets.md ingress 460: fragments of UDP | each taken: address in all, checksum in the first | `FromWorkload`
#[test]
fn each_of_a_udp_datagram_is_taken() {
    let mut node = node();
    let frame = Frame::udp((REAL, 9), (VIP, 80), &data());
    for size in [8, 16, 512, 1000] {
        all_taken(&mut node, &frame, size);
    }
    all_taken(&mut node, &frame.with(|f| f.options = vec![1; 40]), 512);
}

/// packets.md ingress 470: fragments of UDP without checksum | each taken, 0 stays | `FromWorkload`
#[test]
fn each_of_a_udp_datagram_without_checksum_is_taken() {
    let mut node = node();
    let frame = Frame::udp((REAL, 9), (VIP, 80), &data()).with(|f| {
        if let Payload::Udp { checksum, .. } = &mut f.payload {
            *checksum = false;
        }
    });
    all_taken(&mut node, &frame, 256);
}

/// packets.md ingress 480: fragments of TCP | each taken | `FromWorkload`
#[test]
fn each_of_a_tcp_segment_is_taken() {
    let mut node = node();
    for size in [24, 32, 512] {
        all_taken(&mut node, &Frame::tcp((REAL, 9), (VIP, 80), ACK, &data()), size);
    }
}

/// Any order, any one alone: there is no state that could miss the first.
///
/// packets.md ingress 490: later fragment alone, any order | taken: no state | `FromWorkload`
#[test]
fn a_later_one_alone_is_taken() {
    let mut node = node();
    let frame = Frame::udp((REAL, 9), (VIP, 80), &data());
    let (sent, expected) = (frame.fragments(256), with_alias(&frame).fragments(256));
    for i in (1..sent.len()).rev() {
        takes_as(&mut node, &sent[i], Context::default(), &expected[i], &[Counter::FromWorkload]);
    }
}

/// packets.md ingress 500: later fragment, spoofed source | dropped | `SpoofedSource`
#[test]
fn a_later_one_with_a_spoofed_source_is_dropped() {
    let mut node = node();
    for fragment in Frame::udp((STRANGER, 9), (VIP, 80), &data()).fragments(256) {
        drops(&mut node, Hook::Ingress, &fragment, DropReason::SpoofedSource);
    }
    all_taken(&mut node, &Frame::udp((REAL, 9), (VIP, 80), &data()), 256);
}

/// RFC 1858: flags that the first fragment does not show cannot be judged.
///
/// packets.md ingress 510: first fragment without the whole TCP header (RFC 1858) | dropped | `Truncated`
#[test]
fn a_first_one_without_the_whole_tcp_header_is_dropped() {
    let mut node = node();
    for size in [8, 16] {
        let fragments = Frame::tcp((REAL, 9), (VIP, 80), SYN, &data()).fragments(size);
        drops(&mut node, Hook::Ingress, &fragments[0], DropReason::Truncated);
    }
    all_taken(&mut node, &Frame::tcp((REAL, 9), (VIP, 80), SYN, &data()), 24);
}

/// RFC 3128: a later fragment must not replace flags that were judged.
///
/// packets.md ingress 520: TCP fragment at offset 8 or 16 (RFC 3128), either direction | dropped | `Malformed`
#[test]
fn a_later_one_that_reaches_into_the_tcp_header_is_dropped() {
    let mut node = node();
    for offset in [1, 2] {
        let fragment = Frame::raw(REAL, VIP, TCP, &[0; 64]).with(|f| f.fragment = offset);
        drops(&mut node, Hook::Ingress, &fragment.build(), DropReason::Malformed);
        let fragment = Frame::raw(ENGINE, ALIAS, TCP, &[0; 64]).with(|f| f.fragment = offset);
        drops(&mut node, Hook::Egress, &fragment.build(), DropReason::Malformed);
    }
    takes(&mut node, &Frame::raw(REAL, VIP, TCP, &[0; 64]).with(|f| f.fragment = 3));
    delivers(&mut node, &Frame::raw(ENGINE, ALIAS, TCP, &[0; 64]).with(|f| f.fragment = 3));
    // UDP has 8 bytes of header: every later offset lies behind it.
    takes(&mut node, &Frame::raw(REAL, VIP, UDP, &[0; 64]).with(|f| f.fragment = 1));
}

/// packets.md egress 190: fragments | each delivered, stateless | `ToWorkload`
#[test]
fn each_to_a_workload_is_delivered() {
    let mut node = node();
    node.add_target(ALIAS, 9, UDP);
    for frame in [
        Frame::tcp((ENGINE, 33000), (ALIAS, TARGET_PORT), ACK, &data()),
        Frame::udp((ENGINE, 33000), (ALIAS, 9), &data()),
    ] {
        for (fragment, expected) in frame.fragments(256).iter().zip(with_real(&frame).fragments(256)) {
            delivers_as(&mut node, fragment, Context::default(), &expected);
        }
    }
}

/// A later fragment shows no port; that it is UDP of the engine is asked all the same.
///
/// packets.md egress 200: later UDP fragment of another user | dropped | `NotEngine`
#[test]
fn later_udp_ones_of_others_are_not_delivered() {
    let mut node = node();
    node.add_target(ALIAS, 9, UDP);
    let fragments = Frame::udp((ENGINE, 33000), (ALIAS, 9), &data()).fragments(256);
    let mut config = brattice_tests::packets::node::config();
    config.engine_uid = 4242;
    node.configure(config);
    for fragment in &fragments {
        drops(&mut node, Hook::Egress, fragment, DropReason::NotEngine);
    }
}
