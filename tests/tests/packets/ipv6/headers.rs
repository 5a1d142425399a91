//! Extension headers: carried along unread, up to a bound.

use brattice_abi::{DropReason, MAX_EXTENSION_HEADERS};
use brattice_tests::packets::{
    frame6::{Extension, Frame6},
    node::Hook,
};

use super::scene::*;
use crate::scene::{ACK, SYN, TARGET_PORT, UDP, delivers, drops, passes, takes, with_alias, with_real};

const HOP_BY_HOP: u8 = 0;
const DESTINATION: u8 = 60;

fn kinds() -> Vec<Vec<Extension>> {
    vec![
        vec![Extension::options(HOP_BY_HOP, 1)],
        vec![Extension::options(HOP_BY_HOP, 256)],
        vec![Extension::options(DESTINATION, 1)],
        vec![Extension::options(DESTINATION, 7)],
        vec![Extension::routing(2, 0)],
        vec![Extension::routing(253, 0)],
        vec![Extension::authentication(0)],
        vec![Extension::authentication(12)],
        vec![Extension::authentication(1008)],
        vec![Extension::fragment(0, false)],
        // All of them, in the order of RFC 8200, 4.1.
        vec![
            Extension::options(HOP_BY_HOP, 1),
            Extension::options(DESTINATION, 1),
            Extension::routing(2, 0),
            Extension::fragment(0, false),
            Extension::authentication(12),
            Extension::options(DESTINATION, 3),
        ],
    ]
}

/// packets.md ipv6 10: hop-by-hop, destination options, routing, AH, fragment headers, 8 at most | carried along
///   unread; what is behind them is judged | `FromWorkload`, `ToWorkload`
#[test]
fn each_is_carried_along() {
    let mut node = node();
    node.add_target(ALIAS6, 9, UDP);
    for extensions in kinds() {
        for frame in [to_vip(SYN), to_vip(ACK), Frame6::udp((REAL6, 9), (VIP6, 80), b"datagram")] {
            let frame = frame.behind(&extensions);
            takes(&mut node, &frame);
            checksum_right(&with_alias(&frame));
        }
        for frame in [to_target(SYN), to_target(ACK), Frame6::udp((ENGINE6, 9), (ALIAS6, 9), b"datagram")] {
            let frame = frame.behind(&extensions);
            delivers(&mut node, &frame);
            checksum_right(&with_real(&frame));
        }
    }
}

/// What is behind them is judged as it is without them.
///
/// packets.md ipv6 10
/// packets.md ipv6 120: no next header (59), ICMPv6 that is neither an error nor below | dropped |
///   `UnsupportedProtocol`
#[test]
fn they_hide_nothing() {
    let mut node = node();
    for extensions in kinds() {
        let ping = Frame6::raw(REAL6, VIP6, 58, &[128, 0, 0, 0, 0, 0, 0, 0]).behind(&extensions);
        drops(&mut node, Hook::Ingress, &ping.build(), DropReason::UnsupportedProtocol);
        let nothing = Frame6::raw(REAL6, VIP6, 59, b"").behind(&extensions);
        drops(&mut node, Hook::Ingress, &nothing.build(), DropReason::UnsupportedProtocol);
        let spoofed = Frame6::tcp((STRANGER6, 1), (VIP6, 80), SYN, b"").behind(&extensions);
        drops(&mut node, Hook::Ingress, &spoofed.build(), DropReason::SpoofedSource);
        let no_target = Frame6::tcp((ENGINE6, 1), (ALIAS6, TARGET_PORT + 1), SYN, b"").behind(&extensions);
        drops(&mut node, Hook::Egress, &no_target.build(), DropReason::NotTarget);
        let ping = Frame6::raw(ENGINE6, ALIAS6, 58, &[128, 0, 0, 0, 0, 0, 0, 0]).behind(&extensions);
        drops(&mut node, Hook::Egress, &ping.build(), DropReason::NotForWorkload);
    }
}

/// packets.md ipv6 20: more of them | dropped | `TooManyHeaders`
#[test]
fn more_than_the_bound_are_dropped() {
    let mut node = node();
    let most = MAX_EXTENSION_HEADERS as usize;
    for n in 1..=most + 4 {
        let extensions = vec![Extension::options(DESTINATION, 1); n];
        let (sent, answered) = (to_vip(ACK).behind(&extensions), to_target(ACK).behind(&extensions));
        if n <= most {
            takes(&mut node, &sent);
            delivers(&mut node, &answered);
        } else {
            drops(&mut node, Hook::Ingress, &sent.build(), DropReason::TooManyHeaders);
            drops(&mut node, Hook::Egress, &answered.build(), DropReason::TooManyHeaders);
        }
        let foreign = Frame6::tcp((REAL6, 1), (STRANGER6, 80), SYN, b"").behind(&extensions);
        passes(&mut node, Hook::Ingress, &foreign.build());
    }
}

/// RFC 5095 (type 0), and any that is not at its end: the destination is not where it goes.
///
/// packets.md ipv6 40: routing header of type 0, or with segments left | dropped | `SourceRouted`
#[test]
fn routing_headers_that_name_a_way_are_dropped() {
    let mut node = node();
    for (kind, segments_left) in [(0, 0), (0, 1), (2, 1), (3, 1), (4, 2), (253, 255)] {
        let extensions = [Extension::routing(kind, segments_left)];
        drops(&mut node, Hook::Ingress, &to_vip(SYN).behind(&extensions).build(), DropReason::SourceRouted);
        drops(&mut node, Hook::Egress, &to_target(SYN).behind(&extensions).build(), DropReason::SourceRouted);
        let foreign = Frame6::tcp((REAL6, 1), (STRANGER6, 80), SYN, b"").behind(&extensions);
        passes(&mut node, Hook::Ingress, &foreign.build());
    }
    takes(&mut node, &to_vip(SYN).behind(&[Extension::routing(4, 0)]));
}

/// RFC 8200, 4.1.
///
/// packets.md ipv6 50: hop-by-hop options that are not first | dropped | `Malformed`
#[test]
fn hop_by_hop_options_are_first_or_dropped() {
    let mut node = node();
    let (hop_by_hop, other) = (Extension::options(HOP_BY_HOP, 1), Extension::options(DESTINATION, 1));
    let second = to_vip(SYN).behind(&[other.clone(), hop_by_hop.clone()]);
    drops(&mut node, Hook::Ingress, &second.build(), DropReason::Malformed);
    takes(&mut node, &to_vip(SYN).behind(&[hop_by_hop, other]));
}

/// A jumbo payload option (RFC 2675) with a payload length of 0, without GSO: no link of ours carries more than 64 KiB.
///
/// packets.md ipv6 100
/// packets.md ipv6 110: … without GSO (jumbogram) | dropped | `Truncated`
#[test]
fn jumbograms_are_dropped() {
    let mut node = node();
    let jumbo = Extension { number: HOP_BY_HOP, bytes: vec![0, 0xc2, 4, 0, 1, 0, 1] };
    let frame = to_vip(ACK).behind(&[jumbo]);
    drops(&mut node, Hook::Ingress, &frame.clone().with(|f| f.payload_length = Some(0)).build(), DropReason::Truncated);
    // As the kernel writes it into a GSO packet of more than 64 KiB.
    let gso = brattice_tests::packets::node::Context { gso_segs: 2, gso_size: 1000, ..Default::default() };
    let big = frame.with(|f| f.payload_length = Some(0));
    crate::scene::takes_as(
        &mut node,
        &big.build(),
        gso,
        &with_alias(&big).build(),
        &[brattice_abi::Counter::FromWorkload],
    );
}
