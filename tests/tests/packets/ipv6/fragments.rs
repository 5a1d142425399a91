//! Fragments, in both directions: translated one by one, without state.

use brattice_abi::{Counter, DropReason};
use brattice_tests::packets::{
    frame6::{Extension, Frame6},
    node::{Context, Hook, Node, config},
};

use super::scene::*;
use crate::scene::{
    ACK, SYN, TARGET_PORT, TCP, UDP, delivers, delivers_as, drops, takes, takes_as, with_alias, with_real,
};

fn data() -> Vec<u8> {
    (0..1000).map(|i| (i * 7 + 3) as u8).collect()
}

/// Every fragment is translated; together they are what the whole packet would have become.
#[track_caller]
fn all_taken(node: &mut Node, frame: &Frame6, size: usize) {
    let expected = with_alias(frame).fragments(size);
    let sent = frame.fragments(size);
    assert!(sent.len() > 1, "not fragmented");
    for (fragment, expected) in sent.iter().zip(&expected) {
        takes_as(node, fragment, Context::default(), expected, &[Counter::FromWorkload]);
    }
}

#[test]
fn each_of_a_udp_datagram_is_taken() {
    let mut node = node();
    let frame = Frame6::udp((REAL6, 9), (VIP6, 80), &data());
    for size in [8, 16, 512, 1000] {
        all_taken(&mut node, &frame, size);
    }
}

#[test]
fn each_of_a_tcp_segment_is_taken() {
    let mut node = node();
    for size in [24, 32, 512] {
        all_taken(&mut node, &Frame6::tcp((REAL6, 9), (VIP6, 80), ACK, &data()), size);
    }
}

/// Extension headers before the fragment header are in each, those behind it in the first.
///
/// packets.md ipv6 80: later fragment that begins with destination options or AH | taken: its first fragment says what
///   it is. To a workload only of the engine | `FromWorkload`, `ToWorkload`; `NotEngine`
#[test]
fn extension_headers_may_be_before_and_behind() {
    let mut node = node();
    let frame = Frame6::udp((REAL6, 9), (VIP6, 80), &data());
    let before = [Extension::options(0, 1), Extension::options(60, 2)];
    all_taken(&mut node, &frame.clone().behind(&before).with(|f| f.repeated = 2), 256);
    let behind = [Extension::options(60, 2), Extension::authentication(12)];
    all_taken(&mut node, &frame.clone().behind(&behind), 256);
    all_taken(&mut node, &frame.behind(&behind).with(|f| f.extensions.reverse()), 256);
}

/// Any order, any one alone: there is no state that could miss the first.
#[test]
fn a_later_one_alone_is_taken() {
    let mut node = node();
    let frame = Frame6::udp((REAL6, 9), (VIP6, 80), &data());
    let (sent, expected) = (frame.fragments(256), with_alias(&frame).fragments(256));
    for i in (1..sent.len()).rev() {
        takes_as(&mut node, &sent[i], Context::default(), &expected[i], &[Counter::FromWorkload]);
    }
}

#[test]
fn a_later_one_with_a_spoofed_source_is_dropped() {
    let mut node = node();
    for fragment in Frame6::udp((STRANGER6, 9), (VIP6, 80), &data()).fragments(256) {
        drops(&mut node, Hook::Ingress, &fragment, DropReason::SpoofedSource);
    }
    all_taken(&mut node, &Frame6::udp((REAL6, 9), (VIP6, 80), &data()), 256);
}

/// RFC 7112: the first fragment holds all headers; what it does not show cannot be judged.
///
/// packets.md ipv6 70: first fragment without all headers (RFC 7112) | dropped | `Truncated`
#[test]
fn a_first_one_without_all_headers_is_dropped() {
    let mut node = node();
    let frame = Frame6::tcp((REAL6, 9), (VIP6, 80), SYN, &data());
    for size in [8, 16] {
        drops(&mut node, Hook::Ingress, &frame.fragments(size)[0], DropReason::Truncated);
    }
    all_taken(&mut node, &frame, 24);
    let long = frame.behind(&[Extension::options(60, 4)]);
    for size in [8, 24, 32, 40, 48] {
        drops(&mut node, Hook::Ingress, &long.fragments(size)[0], DropReason::Truncated);
    }
    all_taken(&mut node, &long, 56);
}

/// RFC 3128: a later fragment must not replace flags that were judged.
#[test]
fn a_later_one_that_reaches_into_the_tcp_header_is_dropped() {
    let mut node = node();
    let at = |frame: Frame6, offset| frame.behind(&[Extension::fragment(offset, false)]);
    let (sent, answered) = (Frame6::raw(REAL6, VIP6, TCP, &[0; 64]), Frame6::raw(ENGINE6, ALIAS6, TCP, &[0; 64]));
    for offset in [1, 2] {
        drops(&mut node, Hook::Ingress, &at(sent.clone(), offset).build(), DropReason::Malformed);
        drops(&mut node, Hook::Egress, &at(answered.clone(), offset).build(), DropReason::Malformed);
    }
    takes(&mut node, &at(sent, 3));
    delivers(&mut node, &at(answered, 3));
    // UDP has 8 bytes of header: every later offset lies behind it.
    takes(&mut node, &at(Frame6::raw(REAL6, VIP6, UDP, &[0; 64]), 1));
}

/// RFC 6946: a fragment header without fragments is a header like others.
///
/// packets.md ipv6 60: fragment header without fragments (RFC 6946) | a whole packet | `FromWorkload`, `ToWorkload`
#[test]
fn an_atomic_one_is_a_whole_packet() {
    let mut node = node();
    let atomic = to_vip(SYN).behind(&[Extension::fragment(0, false)]);
    takes(&mut node, &atomic);
    checksum_right(&with_alias(&atomic));
    delivers(&mut node, &to_target(SYN).behind(&[Extension::fragment(0, false)]));
    // Judged as any other SYN.
    let to_nobody = Frame6::tcp((ENGINE6, 1), (ALIAS6, TARGET_PORT + 1), SYN, b"");
    let atomic = to_nobody.behind(&[Extension::fragment(0, false)]);
    drops(&mut node, Hook::Egress, &atomic.build(), DropReason::NotTarget);
}

#[test]
fn each_to_a_workload_is_delivered() {
    let mut node = node();
    node.add_target(ALIAS6, 9, UDP);
    for frame in [
        Frame6::tcp((ENGINE6, 33000), (ALIAS6, TARGET_PORT), ACK, &data()),
        Frame6::udp((ENGINE6, 33000), (ALIAS6, 9), &data()),
        Frame6::udp((ENGINE6, 33000), (ALIAS6, 9), &data()).behind(&[Extension::options(60, 1)]),
    ] {
        for (fragment, expected) in frame.fragments(256).iter().zip(with_real(&frame).fragments(256)) {
            delivers_as(&mut node, fragment, Context::default(), &expected);
        }
    }
}

/// A later fragment shows no port, and perhaps no protocol; that it is the engine's is asked all the same.
///
/// packets.md ipv6 80
#[test]
fn later_ones_of_others_are_not_delivered() {
    let mut node = node();
    node.add_target(ALIAS6, 9, UDP);
    let plain = Frame6::udp((ENGINE6, 33000), (ALIAS6, 9), &data());
    let hidden = plain.clone().behind(&[Extension::options(60, 1)]);
    let mut other = config();
    other.engine_uid = 4242;
    node.configure(other);
    for fragment in plain.fragments(256).iter().chain(&hidden.fragments(256)) {
        drops(&mut node, Hook::Egress, fragment, DropReason::NotEngine);
    }
    node.configure(config());
    delivers(&mut node, &plain);
}
