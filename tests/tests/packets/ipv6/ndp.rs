//! Neighbour discovery on a workload's interface.

use std::net::Ipv6Addr;

use brattice_abi::{Counter, DropReason, MODE_DETACH, SWITCH_ALL, SWITCH_WORKLOAD, VIRTUAL_MAC};
use brattice_tests::packets::{
    checksums,
    frame::SENDER_MAC,
    frame6::{Extension, Frame6, Neighbour, link_address, solicited_node},
    node::{Context, Hook, Node, TCX_REDIRECT, config},
};

use super::scene::*;
use crate::scene::{WORKLOAD, drops, passes, passes_counting};

const SOLICITED: u32 = 0x4000_0000;
const OVERRIDE: u32 = 0x2000_0000;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The advertisement that RFC 4861, 7.2.4 wants, byte for byte.
fn advertisement(asked: &Neighbour) -> Neighbour {
    let probe = asked.source.is_unspecified();
    Neighbour {
        kind: 136,
        code: 0,
        flags: if probe { OVERRIDE } else { SOLICITED | OVERRIDE },
        to: if probe { [0x33, 0x33, 0, 0, 0, 1] } else { asked.from },
        from: VIRTUAL_MAC,
        source: asked.target,
        destination: if probe { ALL_NODES } else { asked.source },
        hop_limit: 255,
        target: asked.target,
        options: vec![link_address(2, VIRTUAL_MAC)],
        payload_length: None,
    }
}

#[track_caller]
fn answered(node: &mut Node, asked: &Neighbour) {
    let before = node.counted(Counter::NdpAnswered);
    let outcome = node.run(Hook::Ingress, &asked.build(), Context::default());
    assert_eq!(outcome.verdict, TCX_REDIRECT, "{asked:02x?} {:?}", node.all_counted());
    let expected = advertisement(asked).build();
    assert!(outcome.frame == expected, "got {:02x?}\nexpected {expected:02x?}", outcome.frame);
    assert!(checksums::icmpv6_is_right(&outcome.frame));
    assert_eq!(node.counted(Counter::NdpAnswered), before + 1);
}

/// packets.md ipv6 140: neighbour solicitation for a VIP, in its group or by unicast, from any address | answered with
///   the virtual MAC, solicited and override, out of the same interface only; its checksum is not looked at |
///   `NdpAnswered`
#[test]
fn a_solicitation_for_a_vip_is_answered() {
    let mut node = node();
    let net = Ipv6Addr::from(config().vip_net6.0);
    let last = Ipv6Addr::from_bits(net.to_bits() | u128::from(u64::MAX));
    for target in [VIP6, DNS_VIP6, ENGINE6, net, last] {
        // From its own and from its link-local address, and from one of no workload: the answer says nothing that the
        // asker could not know.
        for source in [REAL6, LINK_LOCAL, STRANGER6] {
            answered(&mut node, &Neighbour::solicitation(source, target));
        }
    }
}

/// Neighbour unreachability detection asks by unicast, with or without its own link address.
///
/// packets.md ipv6 140
#[test]
fn a_unicast_solicitation_is_answered() {
    let mut node = node();
    let unicast = Neighbour::solicitation(REAL6, VIP6).with(|n| (n.destination, n.to) = (VIP6, VIRTUAL_MAC));
    answered(&mut node, &unicast);
    answered(&mut node, &unicast.with(|n| n.options.clear()));
}

/// Duplicate address detection, with and without a nonce (RFC 7527): an answer to all nodes defends the VIP.
///
/// packets.md ipv6 150: … from `::` (duplicate address detection) | answered to all nodes: the VIP is defended |
///   `NdpAnswered`
#[test]
fn a_probe_is_answered() {
    let mut node = node();
    let probe = Neighbour::solicitation(Ipv6Addr::UNSPECIFIED, VIP6).with(|n| n.options.clear());
    answered(&mut node, &probe);
    answered(&mut node, &probe.with(|n| n.options = vec![vec![14, 1, 1, 2, 3, 4, 5, 6]]));
}

/// A workload that believes a VIP to be its own and asks for it: as for ARP.
///
/// packets.md ipv6 140
#[test]
fn a_solicitation_from_a_vip_is_answered() {
    answered(&mut node(), &Neighbour::solicitation(VIP6, VIP6));
}

/// Whatever options it has, the answer has one.
#[test]
fn other_options_are_looked_through() {
    let mut node = node();
    let nonce = vec![14, 1, 1, 2, 3, 4, 5, 6];
    let unknown = [&[200, 2][..], &[7; 14]].concat();
    for options in [
        vec![],
        vec![nonce.clone(), link_address(1, SENDER_MAC)],
        vec![unknown.clone(), nonce.clone(), link_address(1, SENDER_MAC)],
        vec![nonce.clone(), nonce.clone(), nonce.clone(), link_address(1, SENDER_MAC)],
    ] {
        answered(&mut node, &Neighbour::solicitation(REAL6, VIP6).with(|n| n.options = options));
    }
    // More than any host sends.
    let five = Neighbour::solicitation(REAL6, VIP6).with(|n| n.options = vec![nonce; 5]);
    passes(&mut node, Hook::Ingress, &five.build());
}

/// packets.md ipv6 170: solicitation for another address; advertisement, also one that claims a VIP | passes; from a
///   VIP dropped | –; `FromReserved`
#[test]
fn a_solicitation_for_another_address_passes() {
    let mut node = node();
    let net = Ipv6Addr::from(config().vip_net6.0).to_bits();
    let near = [net - 1, net + (1 << 64)].map(Ipv6Addr::from_bits);
    for target in near.into_iter().chain([REAL6, LINK_LOCAL, STRANGER6, ALIAS6]) {
        passes(&mut node, Hook::Ingress, &Neighbour::solicitation(REAL6, target).build());
        let probe = Neighbour::solicitation(Ipv6Addr::UNSPECIFIED, target).with(|n| n.options.clear());
        passes(&mut node, Hook::Ingress, &probe.build());
    }
    answered(&mut node, &Neighbour::solicitation(REAL6, VIP6));
}

/// An advertisement passes, also one that claims a VIP, as an ARP reply does; from a VIP nothing passes.
///
/// packets.md ipv6 170
#[test]
fn an_advertisement_passes() {
    let mut node = node();
    let claim = |source, target| {
        Neighbour::solicitation(source, target).with(|n| {
            (n.kind, n.flags, n.destination) = (136, OVERRIDE, ALL_NODES);
            n.options = vec![link_address(2, SENDER_MAC)];
        })
    };
    for (source, target) in [(LINK_LOCAL, LINK_LOCAL), (REAL6, REAL6), (LINK_LOCAL, VIP6), (REAL6, VIP6)] {
        passes(&mut node, Hook::Ingress, &claim(source, target).build());
    }
    drops(&mut node, Hook::Ingress, &claim(VIP6, VIP6).build(), DropReason::FromReserved);
    answered(&mut node, &Neighbour::solicitation(REAL6, VIP6));
}

/// Everything that RFC 4861, 7.1.1 has a receiver ignore.
///
/// packets.md ipv6 160: … with a hop limit below 255, a code, options that are broken or more than 4, cut, in another
///   group | passes; to a VIP itself dropped | –; `UnsupportedProtocol`
#[test]
fn odd_solicitations_pass() {
    let mut node = node();
    let odd: &[fn(&mut Neighbour)] = &[
        |n| n.hop_limit = 254,
        |n| n.hop_limit = 1,
        |n| n.code = 1,
        |n| n.kind = 133,
        |n| n.kind = 134,
        |n| n.kind = 137,
        |n| n.options = vec![vec![1, 0, 2, 3, 4, 5, 6, 7]],
        |n| n.options = vec![vec![1, 2, 2, 3, 4, 5, 6, 7]],
        |n| n.options = vec![link_address(1, SENDER_MAC), vec![14, 0, 0, 0, 0, 0, 0, 0]],
        |n| n.options = vec![vec![1, 1, 2, 3, 4, 5, 6]],
        |n| n.payload_length = Some(23),
        |n| n.payload_length = Some(31),
        |n| n.payload_length = Some(33),
        |n| n.payload_length = Some(0),
        // A probe tells no link address, and is asked in the group.
        |n| n.source = Ipv6Addr::UNSPECIFIED,
        // Not the group of the target.
        |n| n.destination = solicited_node(Ipv6Addr::from_bits(VIP6.to_bits() + 1)),
        |n| n.destination = ALL_NODES,
        |n| n.destination = STRANGER6,
    ];
    for change in odd {
        passes(&mut node, Hook::Ingress, &Neighbour::solicitation(LINK_LOCAL, VIP6).with(change).build());
    }
    answered(&mut node, &Neighbour::solicitation(LINK_LOCAL, VIP6));
}

/// To a VIP itself nothing passes that is not ours, valid or not.
///
/// packets.md ipv6 160
#[test]
fn odd_unicast_solicitations_are_dropped() {
    let mut node = node();
    let unicast = |source| Neighbour::solicitation(source, VIP6).with(|n| n.destination = VIP6);
    let hop = unicast(REAL6).with(|n| n.hop_limit = 254);
    drops(&mut node, Hook::Ingress, &hop.build(), DropReason::UnsupportedProtocol);
    let probe = unicast(Ipv6Addr::UNSPECIFIED).with(|n| n.options.clear());
    drops(&mut node, Hook::Ingress, &probe.build(), DropReason::SpoofedSource);
    let message = unicast(REAL6).build()[54..].to_vec();
    let behind =
        Frame6::raw(REAL6, VIP6, 58, &message).behind(&[Extension::options(60, 1)]).with(|f| f.hop_limit = 255);
    drops(&mut node, Hook::Ingress, &behind.build(), DropReason::UnsupportedProtocol);
    answered(&mut node, &unicast(REAL6));
}

/// packets.md ipv6 160
#[test]
fn solicitations_cut_at_every_byte_pass() {
    let mut node = node();
    let whole = Neighbour::solicitation(REAL6, VIP6);
    let bytes = whole.build();
    for len in 14 + 40..bytes.len() {
        passes(&mut node, Hook::Ingress, &bytes[..len]);
    }
    answered(&mut node, &whole);
}

/// What Ethernet pads is gone from the answer, which is long enough without.
#[test]
fn padding_is_left_out() {
    let mut node = node();
    let asked = Neighbour::solicitation(REAL6, VIP6);
    let mut padded = asked.build();
    padded.extend([0xee; 30]);
    let outcome = node.run(Hook::Ingress, &padded, Context::default());
    assert_eq!((outcome.verdict, outcome.frame), (TCX_REDIRECT, advertisement(&asked).build()));
}

/// packets.md ipv6 190: solicitation of a detached workload | passes | `DetachedPassed`
#[test]
fn a_detached_workload_gets_no_answer() {
    let mut node = node();
    let asked = Neighbour::solicitation(REAL6, VIP6);
    for (scope, id) in [(SWITCH_ALL, 0), (SWITCH_WORKLOAD, WORKLOAD)] {
        answered(&mut node, &asked);
        node.switch(scope, id, MODE_DETACH, 0);
        passes_counting(&mut node, Hook::Ingress, &asked.build(), &[Counter::DetachedPassed]);
        node.unswitch(scope, id);
    }
    node.switch(SWITCH_WORKLOAD, WORKLOAD + 1, MODE_DETACH, 0);
    answered(&mut node, &asked);
}

/// What a host does on its own (router solicitations, listener reports, link-local traffic) is not ours.
///
/// packets.md ipv6 180: router solicitations, listener reports, link-local and multicast traffic | passes | –
#[test]
fn link_local_traffic_passes() {
    let mut node = node();
    let routers = "ff02::2".parse().unwrap();
    for frame in [
        Frame6::raw(LINK_LOCAL, routers, 58, &[133, 0, 0, 0, 0, 0, 0, 0]),
        Frame6::raw(LINK_LOCAL, "ff02::16".parse().unwrap(), 58, &[143, 0, 0, 0, 0, 0, 0, 0])
            .behind(&[Extension::options(0, 1)]),
        Frame6::udp((LINK_LOCAL, 5353), ("ff02::fb".parse().unwrap(), 5353), b"mdns"),
        Frame6::udp((LINK_LOCAL, 546), ("ff02::1:2".parse().unwrap(), 547), b"dhcp"),
    ] {
        passes(&mut node, Hook::Ingress, &frame.build());
    }
    answered(&mut node, &Neighbour::solicitation(LINK_LOCAL, VIP6));
}
