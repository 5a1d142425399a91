//! Fragments of IPv6: extension headers before and behind the fragment header.

use brattice_abi::DropReason;
use brattice_tests::packets::{
    frame6::{Extension, Frame6},
    node::{Context, Hook, config},
};

use super::scene::*;
use crate::{
    fragments::{all_taken, data},
    scene::{SYN, TARGET_PORT, UDP, delivers, delivers_as, drops, takes, with_alias, with_real},
};

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

/// RFC 7112: the first fragment holds all headers; what it does not show cannot be judged.
///
/// packets.md ipv6 70: first fragment without all headers (RFC 7112) | dropped | `Truncated`
#[test]
fn a_first_one_without_all_headers_is_dropped() {
    let mut node = node();
    let frame = Frame6::tcp((REAL6, 9), (VIP6, 80), SYN, &data());
    let long = frame.behind(&[Extension::options(60, 4)]);
    for size in [8, 24, 32, 40, 48] {
        drops(&mut node, Hook::Ingress, &long.fragments(size)[0], DropReason::Truncated);
    }
    all_taken(&mut node, &long, 56);
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
fn each_to_a_workload_is_delivered_with_extension_headers_behind() {
    let mut node = node();
    node.add_target(ALIAS6, 9, UDP);
    let frame = Frame6::udp((ENGINE6, 33000), (ALIAS6, 9), &data()).behind(&[Extension::options(60, 1)]);
    for (fragment, expected) in frame.fragments(256).iter().zip(with_real(&frame).fragments(256)) {
        delivers_as(&mut node, fragment, Context::default(), &expected);
    }
}

/// A later fragment shows no port, and perhaps no protocol; that it is the engine's is asked all the same.
///
/// packets.md ipv6 80
#[test]
fn later_ones_of_others_that_hide_their_protocol_are_not_delivered() {
    let mut node = node();
    node.add_target(ALIAS6, 9, UDP);
    let hidden = Frame6::udp((ENGINE6, 33000), (ALIAS6, 9), &data()).behind(&[Extension::options(60, 1)]);
    let mut other = config();
    other.engine_uid = 4242;
    node.configure(other);
    for fragment in &hidden.fragments(256) {
        drops(&mut node, Hook::Egress, fragment, DropReason::NotEngine);
    }
    node.configure(config());
    delivers(&mut node, &hidden);
}
