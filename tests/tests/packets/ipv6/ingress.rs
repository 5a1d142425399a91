//! `workload_ingress` on well-formed packets.

use std::net::Ipv6Addr;

use brattice_abi::{Address, Counter, DropReason, MODE_DETACH, SWITCH_ALL, SWITCH_WORKLOAD};
use brattice_tests::packets::{
    checksums,
    frame::Payload,
    frame6::Frame6,
    node::{Context, Hook, IFINDEX, Node, TCX_REDIRECT, config},
};

use super::scene::*;
use crate::scene::{ACK, RST, SYN, TCP, UDP, WORKLOAD, drops, passes, passes_counting, takes, takes_as, with_alias};

#[test]
fn tcp_to_a_vip_is_taken() {
    let mut node = node();
    for flags in [SYN, ACK, ACK | 8, ACK | 1, RST, RST | ACK, SYN | ACK, 0, 0xff] {
        takes(&mut node, &to_vip(flags));
    }
    checksum_right(&with_alias(&to_vip(ACK)));
    // The same workload by its other family.
    takes(&mut node, &crate::scene::to_vip(ACK));
}

#[test]
fn udp_to_a_vip_is_taken() {
    let mut node = node();
    takes(&mut node, &Frame6::udp((REAL6, 5353), (VIP6, 443), b"datagram"));
    takes(&mut node, &Frame6::udp((REAL6, 5353), (DNS_VIP6, 53), b"\x12\x34question"));
}

#[test]
fn any_length_of_payload_keeps_its_checksum() {
    let mut node = node();
    for len in (0..70).chain([1000, 1439, 1440]) {
        let data: Vec<u8> = (0..len).map(|i| (i * 37 + 11) as u8).collect();
        for frame in
            [Frame6::tcp((REAL6, 40001), (VIP6, 80), ACK, &data), Frame6::udp((REAL6, 4001), (VIP6, 80), &data)]
        {
            takes(&mut node, &frame);
            checksum_right(&frame);
            checksum_right(&with_alias(&frame));
        }
    }
}

#[test]
fn tcp_options_and_padding_are_carried_along() {
    let mut node = node();
    for words in 0..=10 {
        let frame = to_vip(SYN).with(|f| {
            f.padding = words * 3;
            if let Payload::Tcp { options, .. } = &mut f.payload {
                *options = vec![1; words * 4];
            }
        });
        takes(&mut node, &frame);
    }
}

/// RFC 8200, 8.1: over IPv6 UDP must have a checksum.
///
/// packets.md ipv6 90: UDP without checksum (0) | dropped | `Malformed`
#[test]
fn udp_without_a_checksum_is_dropped() {
    let mut node = node();
    let without = |f: &mut Frame6| {
        if let Payload::Udp { checksum, .. } = &mut f.payload {
            *checksum = false;
        }
    };
    let frame = Frame6::udp((REAL6, 9), (VIP6, 80), b"unprotected");
    drops(&mut node, Hook::Ingress, &frame.clone().with(without).build(), DropReason::Malformed);
    takes(&mut node, &frame);
    // Of others that is not ours to judge.
    passes(&mut node, Hook::Ingress, &Frame6::udp((REAL6, 9), (STRANGER6, 80), b"x").with(without).build());
}

fn set_data(frame: &mut Frame6, start: u16) {
    match &mut frame.payload {
        Payload::Tcp { data, .. } | Payload::Udp { data, .. } => data[..2].copy_from_slice(&start.to_be_bytes()),
        Payload::Raw(..) => unreachable!("only TCP and UDP here"),
    }
}

/// Data with which the translated checksum has a value.
fn start_for(frame: &Frame6, at: usize, value: u16) -> u16 {
    (0..=u16::MAX)
        .find(|start| {
            let bytes = with_alias(frame).with(|f| set_data(f, *start)).build();
            u16::from_be_bytes([bytes[at], bytes[at + 1]]) == value
        })
        .expect("one of 65536 data words gives it")
}

#[test]
fn udp_checksum_that_becomes_zero_is_written_as_ffff() {
    let mut node = node();
    let frame = Frame6::udp((REAL6, 9), (VIP6, 80), b"..data");
    let start = start_for(&frame, 54 + 6, 0xffff);
    takes(&mut node, &frame.with(|f| set_data(f, start)));
}

#[test]
fn tcp_checksum_that_becomes_zero_is_zero() {
    let mut node = node();
    let frame = Frame6::tcp((REAL6, 9), (VIP6, 80), ACK, b"..data");
    let start = start_for(&frame, 54 + 16, 0);
    takes(&mut node, &frame.with(|f| set_data(f, start)));
}

#[test]
fn wrong_checksums_stay_wrong() {
    let mut node = node();
    for (frame, protocol) in [(to_vip(ACK), TCP), (Frame6::udp((REAL6, 9), (VIP6, 80), b"data"), UDP)] {
        let wrong = frame.clone().with(|f| f.l4_checksum_error = 0x0101);
        let outcome = node.run(Hook::Ingress, &wrong.build(), Context::default());
        assert_eq!(outcome.verdict, 7);
        assert!(!checksums::l4_of_ipv6_is_right(&outcome.frame, 54, protocol), "a wrong checksum was mended");
        let right = node.run(Hook::Ingress, &frame.build(), Context::default());
        assert!(checksums::l4_of_ipv6_is_right(&right.frame, 54, protocol));
    }
}

/// The first and last address of a net, and those before and behind it.
fn ends(net: Ipv6Addr, prefix: u32) -> ([Ipv6Addr; 2], [Ipv6Addr; 2]) {
    let first = net.to_bits();
    let last = first | u128::MAX >> prefix;
    ([first, last].map(Ipv6Addr::from_bits), [first - 1, last + 1].map(Ipv6Addr::from_bits))
}

#[test]
fn both_ends_of_each_range_are_ours_and_their_neighbours_are_not() {
    let mut node = node();
    let from = |source, destination| Frame6::tcp((source, 1), (destination, 2), ACK, b"");
    let (vips, not_vips) = ends(Ipv6Addr::from(config().vip_net6.0), 64);
    let (aliases, not_aliases) = ends(Ipv6Addr::from(config().alias_net6.0), 48);
    for inside in vips {
        takes(&mut node, &from(REAL6, inside));
        drops(&mut node, Hook::Ingress, &from(inside, STRANGER6).build(), DropReason::FromReserved);
        drops(&mut node, Hook::Ingress, &from(inside, inside).build(), DropReason::FromReserved);
    }
    for inside in aliases {
        drops(&mut node, Hook::Ingress, &from(REAL6, inside).build(), DropReason::ToAlias);
        drops(&mut node, Hook::Ingress, &from(inside, STRANGER6).build(), DropReason::FromReserved);
    }
    let others = [
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::LOCALHOST,
        "ff02::1".parse().unwrap(),
        "::ffff:169.254.64.32".parse().unwrap(),
    ];
    for outside in not_vips.into_iter().chain(not_aliases).chain(others) {
        passes(&mut node, Hook::Ingress, &from(REAL6, outside).build());
        passes(&mut node, Hook::Ingress, &from(outside, STRANGER6).build());
    }
}

/// packets.md ipv6 130: from a link-local address that is not attached | dropped | `SpoofedSource`
#[test]
fn spoofed_source_is_dropped() {
    let mut node = node();
    let neighbour = Ipv6Addr::from_bits(REAL6.to_bits() + 1);
    for source in [neighbour, STRANGER6, LINK_LOCAL, Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST] {
        for frame in [
            Frame6::tcp((source, 40001), (VIP6, 80), SYN, b""),
            Frame6::udp((source, 9), (VIP6, 80), b""),
            Frame6::raw(source, VIP6, 58, &[128, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            drops(&mut node, Hook::Ingress, &frame.build(), DropReason::SpoofedSource);
        }
    }
    takes(&mut node, &to_vip(SYN));
    // A link-local address is as good as another where it is the workload's.
    node.add_workload(IFINDEX, LINK_LOCAL, ALIAS6, WORKLOAD, 0);
    takes(&mut node, &Frame6::tcp((LINK_LOCAL, 40001), (VIP6, 80), SYN, b""));
}

#[test]
fn an_address_counts_only_on_its_interface() {
    let mut node = Node::new();
    node.add_workload(2, REAL6, ALIAS6, WORKLOAD, 0);
    drops(&mut node, Hook::Ingress, &to_vip(SYN).build(), DropReason::SpoofedSource);
    node.add_workload(1, REAL6, ALIAS6, WORKLOAD, 0);
    takes(&mut node, &to_vip(SYN));
}

#[test]
fn to_an_alias_is_dropped() {
    let mut node = node();
    for destination in [ALIAS6, Ipv6Addr::from_bits(ALIAS6.to_bits() + 1)] {
        for frame in [
            Frame6::tcp((REAL6, 1), (destination, 80), SYN, b""),
            Frame6::udp((REAL6, 1), (destination, 80), b""),
            Frame6::raw(REAL6, destination, 58, b"\x80\0\0\0"),
            Frame6::tcp((STRANGER6, 1), (destination, 80), ACK, b""),
        ] {
            drops(&mut node, Hook::Ingress, &frame.build(), DropReason::ToAlias);
        }
    }
    takes(&mut node, &to_vip(SYN));
}

#[test]
fn from_a_reserved_address_is_dropped() {
    let mut node = node();
    for source in [VIP6, ENGINE6, DNS_VIP6, ALIAS6] {
        for destination in [VIP6, STRANGER6, "ff02::1".parse().unwrap()] {
            let tcp = Frame6::tcp((source, 1), (destination, 80), SYN, b"");
            drops(&mut node, Hook::Ingress, &tcp.build(), DropReason::FromReserved);
            let ping = Frame6::raw(source, destination, 58, b"\x80\0\0\0");
            drops(&mut node, Hook::Ingress, &ping.build(), DropReason::FromReserved);
        }
    }
    takes(&mut node, &to_vip(SYN));
}

#[test]
fn other_protocols_to_a_vip_are_dropped() {
    let mut node = node();
    // Not those of extension headers; 59 says that nothing follows.
    for protocol in (0..=255).filter(|p| ![TCP, UDP, 0, 43, 44, 51, 60].contains(p)) {
        let frame = Frame6::raw(REAL6, VIP6, protocol, &[128, 0, 0, 0, 0, 0, 0, 0]);
        let outcome = node.run(Hook::Ingress, &frame.build(), Context::default());
        assert_eq!(outcome.verdict, 2, "protocol {protocol}");
    }
    assert_eq!(node.dropped(DropReason::UnsupportedProtocol), 249);
    takes(&mut node, &to_vip(SYN));
}

/// `ping` of a VIP, whole and in fragments.
///
/// packets.md ipv6 120
#[test]
fn icmp_to_a_vip_is_dropped() {
    let mut node = node();
    let ping = Frame6::raw(REAL6, VIP6, 58, &[128, 0, 0xf7, 0xff, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    drops(&mut node, Hook::Ingress, &ping.build(), DropReason::UnsupportedProtocol);
    for fragment in ping.fragments(8) {
        drops(&mut node, Hook::Ingress, &fragment, DropReason::UnsupportedProtocol);
    }
    passes(&mut node, Hook::Ingress, &Frame6::raw(REAL6, STRANGER6, 58, &[128, 0, 0, 0]).build());
}

#[test]
fn without_a_configuration_everything_passes() {
    let mut node = Node::unconfigured();
    passes(&mut node, Hook::Ingress, &to_vip(SYN).build());
    passes(&mut node, Hook::Ingress, &Frame6::tcp((REAL6, 1), (ALIAS6, 2), SYN, b"").build());
}

/// No IPv6 ranges: nothing of IPv6 is ours, not even what lies in the unspecified net; and IPv4 goes on.
///
/// packets.md ingress 20: all IPv6 on a node without IPv6 ranges | passes | –
/// packets.md egress 20
#[test]
fn a_node_without_ipv6_leaves_it_alone() {
    let mut node = node();
    let mut without = config();
    (without.vip_net6, without.alias_net6) = (Address::default(), Address::default());
    node.configure(without);
    for destination in [VIP6, ALIAS6, Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED] {
        passes(&mut node, Hook::Ingress, &Frame6::tcp((REAL6, 1), (destination, 80), SYN, b"").build());
        passes(&mut node, Hook::Ingress, &Frame6::tcp((destination, 1), (STRANGER6, 80), SYN, b"").build());
    }
    let outcome = node.run(Hook::Egress, &to_target(ACK).build(), Context::default());
    assert_eq!((outcome.verdict, node.dropped(DropReason::NotForWorkload)), (2, 1));
    takes(&mut node, &crate::scene::to_vip(ACK));
    node.configure(config());
    takes(&mut node, &to_vip(ACK));
}

/// A GSO packet is one packet with one header; of more than 64 KiB its payload length is 0 (BIG TCP).
///
/// packets.md ipv6 100: payload length 0: GSO packet of more than 64 KiB (BIG TCP) | taken, also with a jumbo payload
///   option | `FromWorkload`
#[test]
fn gso_packets_are_taken() {
    let mut node = node();
    let data: Vec<u8> = (0..3000).map(|i| i as u8).collect();
    let frame = Frame6::tcp((REAL6, 40001), (VIP6, 80), ACK, &data);
    let gso = Context { gso_segs: 3, gso_size: 1428, ..Context::default() };
    takes_as(&mut node, &frame.build(), gso, &with_alias(&frame).build(), &[Counter::FromWorkload]);

    let big = frame.with(|f| f.payload_length = Some(0));
    takes_as(&mut node, &big.build(), gso, &with_alias(&big).build(), &[Counter::FromWorkload]);
    drops(&mut node, Hook::Ingress, &big.build(), DropReason::Truncated);
}

/// The limit is the workload's, whichever family its connections are of.
#[test]
fn half_open_connections_are_limited() {
    let mut node = node();
    let syn = |port| Frame6::tcp((REAL6, port), (VIP6, 80), SYN, b"");
    for port in 0..7 {
        takes(&mut node, &syn(1000 + port));
    }
    takes(&mut node, &crate::scene::to_vip(SYN));
    drops(&mut node, Hook::Ingress, &syn(2000).build(), DropReason::HalfOpenLimit);
    drops(
        &mut node,
        Hook::Ingress,
        &crate::scene::to_vip(SYN)
            .with(|f| f.source = crate::scene::REAL)
            .with(|f| {
                if let Payload::Tcp { source, .. } = &mut f.payload {
                    *source = 2;
                }
            })
            .build(),
        DropReason::HalfOpenLimit,
    );
    // An ACK of the workload and a RST to it each give a place back.
    crate::scene::delivers(&mut node, &Frame6::tcp((VIP6, 80), (ALIAS6, 1003), SYN | ACK, b""));
    let mut frame = Frame6::tcp((REAL6, 1003), (VIP6, 80), ACK, b"").build();
    takes(&mut node, &Frame6::tcp((REAL6, 1003), (VIP6, 80), ACK, b""));
    assert_eq!(node.half_open(WORKLOAD).map(|c| c.count), Some(8), "it acknowledged something else");
    // What the builder's SYN-ACK wants.
    frame[62..66].copy_from_slice(&0x0102_0305u32.to_be_bytes());
    assert_eq!(node.run(Hook::Ingress, &frame, Context::default()).verdict, TCX_REDIRECT);
    crate::scene::delivers(&mut node, &Frame6::tcp((VIP6, 80), (ALIAS6, 1004), RST | ACK, b""));
    assert_eq!(node.half_open(WORKLOAD).map(|c| c.count), Some(6));
    takes(&mut node, &syn(2000));
    takes(&mut node, &syn(2001));
    drops(&mut node, Hook::Ingress, &syn(2002).build(), DropReason::HalfOpenLimit);
}

#[test]
fn a_detached_workload_is_left_alone() {
    let mut node = node();
    for (scope, id) in [(SWITCH_ALL, 0), (SWITCH_WORKLOAD, WORKLOAD)] {
        takes(&mut node, &to_vip(ACK));
        node.switch(scope, id, MODE_DETACH, 0);
        for frame in [
            to_vip(ACK),
            to_vip(SYN),
            Frame6::udp((REAL6, 1), (VIP6, 1), b""),
            Frame6::raw(REAL6, VIP6, 58, &[128, 0, 0, 0]),
            Frame6::tcp((REAL6, 1), (ALIAS6, 1), SYN, b""),
            to_vip(ACK).with(|f| f.version = 3),
        ] {
            passes_counting(&mut node, Hook::Ingress, &frame.build(), &[Counter::DetachedPassed]);
        }
        drops(&mut node, Hook::Egress, &to_target(ACK).build(), DropReason::Detached);
        node.unswitch(scope, id);
        crate::scene::delivers(&mut node, &to_target(ACK));
    }
}
