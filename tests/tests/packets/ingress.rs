//! `workload_ingress` on well-formed packets.

use std::net::Ipv4Addr;

use brattice_abi::{Counter, DropReason, WORKLOAD_MAC_DOCUMENTED};
use brattice_tests::packets::{
    checksums,
    frame::{Frame, Payload},
    node::{Context, Hook, IFINDEX, Node, WORKLOAD_MAC},
};

use crate::scene::*;

#[test]
fn tcp_to_a_vip_is_taken() {
    let mut node = node();
    for flags in [SYN, ACK, ACK | 8, ACK | 1, RST, RST | ACK, SYN | ACK, 0, 0xff] {
        takes(&mut node, &to_vip(flags));
    }
    checksums_right(&with_alias(&to_vip(ACK)).build());
}

#[test]
fn udp_to_a_vip_is_taken() {
    let mut node = node();
    takes(&mut node, &Frame::udp((REAL, 5353), (VIP, 443), b"datagram"));
    takes(&mut node, &Frame::udp((REAL, 5353), (DNS_VIP, 53), b"\x12\x34question"));
}

#[test]
fn any_length_of_payload_keeps_its_checksum() {
    let mut node = node();
    for len in (0..70).chain([1000, 1459, 1460]) {
        let data: Vec<u8> = (0..len).map(|i| (i * 37 + 11) as u8).collect();
        for frame in [Frame::tcp((REAL, 40001), (VIP, 80), ACK, &data), Frame::udp((REAL, 40001), (VIP, 80), &data)] {
            takes(&mut node, &frame);
            checksums_right(&frame.build());
            checksums_right(&with_alias(&frame).build());
        }
    }
}

/// packets.md ingress 340: IP options, 0 to 40 bytes | taken, options carried along | `FromWorkload`
#[test]
fn ip_options_are_carried_along() {
    let mut node = node();
    for words in 0..=10 {
        let options = vec![1; words * 4]; // no operation
        takes(&mut node, &to_vip(ACK).with(|f| f.options.clone_from(&options)));
        let udp = Frame::udp((REAL, 9), (VIP, 80), b"x").with(|f| f.options = options);
        takes(&mut node, &udp);
        checksums_right(&with_alias(&udp).build());
    }
}

/// Whether the way is still to go, or has been gone: a stack that takes part would send its answers by it.
///
/// packets.md ingress 350: … of them a source route, loose or strict, also one that has been gone: a stack that takes
///   part answers by it | dropped | `SourceRouted`
#[test]
fn source_routes_are_dropped() {
    let mut node = node();
    let with = |options: &[u8]| to_vip(SYN).with(|f| f.options = options.to_vec());
    for kind in [131, 137] {
        for pointer in [4, 8] {
            let route = [kind, 7, pointer, 10, 9, 8, 7];
            drops(&mut node, Hook::Ingress, &with(&[&route[..], &[0]].concat()).build(), DropReason::SourceRouted);
            drops(&mut node, Hook::Ingress, &with(&[&[1][..], &route].concat()).build(), DropReason::SourceRouted);
            // Behind another option, and at the very end.
            let record = [7, 7, 4, 0, 0, 0, 0];
            let behind = [&[1; 26][..], &record, &route].concat();
            drops(&mut node, Hook::Ingress, &with(&behind).build(), DropReason::SourceRouted);
            // To somebody else it is none of our business.
            passes(
                &mut node,
                Hook::Ingress,
                &with(&[&[1][..], &route].concat()).with(|f| f.destination = STRANGER).build(),
            );
        }
    }
    // The same bytes inside of other options, behind the end of options, behind a broken one.
    for options in
        [[7, 7, 4, 131, 7, 4, 0, 0], [0, 131, 7, 4, 0, 0, 0, 0], [7, 0, 131, 7, 4, 0, 0, 0], [7, 1, 131, 3, 4, 0, 0, 0]]
    {
        takes(&mut node, &with(&options));
    }
}

/// packets.md ingress 360: TCP options, 0 to 40 bytes | taken | `FromWorkload`
#[test]
fn tcp_options_are_carried_along() {
    let mut node = node();
    for words in 0..=10 {
        let frame = to_vip(SYN).with(|f| {
            if let Payload::Tcp { options, .. } = &mut f.payload {
                *options = vec![1; words * 4];
            }
        });
        takes(&mut node, &frame);
        checksums_right(&with_alias(&frame).build());
    }
}

/// packets.md ingress 370: Ethernet padding behind the packet | taken, padding kept | `FromWorkload`
#[test]
fn ethernet_padding_is_kept() {
    let mut node = node();
    for padding in [1, 6, 46, 200] {
        takes(&mut node, &Frame::udp((REAL, 9), (VIP, 80), b"").with(|f| f.padding = padding));
        takes(&mut node, &to_vip(ACK).with(|f| f.padding = padding));
    }
}

/// A UDP packet without a checksum, and the control with one.
///
/// packets.md ingress 380: UDP without checksum (0) | taken, stays 0 | `FromWorkload`
#[test]
fn udp_checksum_zero_stays_zero() {
    let mut node = node();
    let without = Frame::udp((REAL, 9), (VIP, 80), b"unprotected").with(|f| {
        if let Payload::Udp { checksum, .. } = &mut f.payload {
            *checksum = false;
        }
    });
    takes(&mut node, &without);
    assert_eq!(with_alias(&without).build()[40..42], [0, 0]);
    let with = Frame::udp((REAL, 9), (VIP, 80), b"unprotected");
    takes(&mut node, &with);
    assert_ne!(with_alias(&with).build()[40..42], [0, 0]);
}

/// The checksum of `frame` when its first two bytes of data are `start`.
fn checksum_with(frame: &Frame, start: u16, at: usize) -> u16 {
    let bytes = frame.clone().with(|f| set_data(f, start)).build();
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn set_data(frame: &mut Frame, start: u16) {
    match &mut frame.payload {
        Payload::Tcp { data, .. } | Payload::Udp { data, .. } => data[..2].copy_from_slice(&start.to_be_bytes()),
        Payload::Raw(..) => unreachable!("only TCP and UDP here"),
    }
}

/// RFC 768: a computed 0 is sent as 0xffff. Data is searched for which the translated checksum is just that.
///
/// packets.md ingress 390: UDP checksum that becomes 0 by translation | written as 0xffff (RFC 768) | `FromWorkload`
#[test]
fn udp_checksum_that_becomes_zero_is_written_as_ffff() {
    let mut node = node();
    let frame = Frame::udp((REAL, 9), (VIP, 80), b"..data");
    let start = (0..=u16::MAX)
        .find(|s| checksum_with(&with_alias(&frame), *s, 40) == 0xffff)
        .expect("one of 65536 data words gives it");
    takes(&mut node, &frame.with(|f| set_data(f, start)));
}

/// TCP has no such rule: 0 is 0.
///
/// packets.md ingress 400: TCP checksum that becomes 0 by translation | 0 | `FromWorkload`
#[test]
fn tcp_checksum_that_becomes_zero_is_zero() {
    let mut node = node();
    let frame = Frame::tcp((REAL, 9), (VIP, 80), ACK, b"..data");
    let start = (0..=u16::MAX)
        .find(|s| checksum_with(&with_alias(&frame), *s, 50) == 0)
        .expect("one of 65536 data words gives it");
    takes(&mut node, &frame.with(|f| set_data(f, start)));
}

/// packets.md ingress 410: wrong IP, TCP or UDP checksum | taken, stays wrong; the receiver drops it | `FromWorkload`
#[test]
fn wrong_checksums_stay_wrong() {
    let mut node = node();
    for frame in [to_vip(ACK), Frame::udp((REAL, 9), (VIP, 80), b"data")] {
        let wrong_ip = frame.clone().with(|f| f.ip_checksum_error = 0x0101).build();
        let outcome = node.run(Hook::Ingress, &wrong_ip, Context::default());
        assert!(!checksums::ip_is_right(&outcome.frame), "a wrong IP checksum was mended");
        assert_eq!(checksums::l4_is_right(&outcome.frame), Some(true));

        let wrong_l4 = frame.clone().with(|f| f.l4_checksum_error = 0x0101).build();
        let outcome = node.run(Hook::Ingress, &wrong_l4, Context::default());
        assert!(checksums::ip_is_right(&outcome.frame));
        assert_eq!(checksums::l4_is_right(&outcome.frame), Some(false), "a wrong checksum was mended");

        let right = node.run(Hook::Ingress, &frame.build(), Context::default());
        checksums_right(&right.frame);
    }
    assert_eq!(node.counted(Counter::FromWorkload), 6);
}

/// packets.md ingress 90: to addresses next to our ranges, metadata 169.254.169.254 | passes | –
#[test]
fn both_ends_of_each_range_are_ours_and_their_neighbours_are_not() {
    let mut node = node();
    let from = |source: [u8; 4], destination: [u8; 4]| {
        Frame::tcp((Ipv4Addr::from(source), 1), (Ipv4Addr::from(destination), 2), ACK, b"")
    };
    let real = REAL.octets();
    for inside in [[169, 254, 64, 0], [169, 254, 79, 255], [169, 254, 64, 1], [169, 254, 64, 17]] {
        takes(&mut node, &from(real, inside));
        drops(&mut node, Hook::Ingress, &from(inside, [203, 0, 113, 7]).build(), DropReason::FromReserved);
        drops(&mut node, Hook::Ingress, &from(inside, inside).build(), DropReason::FromReserved);
    }
    for inside in [[100, 127, 0, 0], [100, 127, 255, 255]] {
        drops(&mut node, Hook::Ingress, &from(real, inside).build(), DropReason::ToAlias);
        drops(&mut node, Hook::Ingress, &from(inside, [203, 0, 113, 7]).build(), DropReason::FromReserved);
    }
    for outside in [
        [169, 254, 63, 255],
        [169, 254, 80, 0],
        [169, 254, 169, 254],
        [100, 126, 255, 255],
        [100, 128, 0, 0],
        [255, 255, 255, 255],
        [0, 0, 0, 0],
    ] {
        passes(&mut node, Hook::Ingress, &from(real, outside).build());
        passes(&mut node, Hook::Ingress, &from(outside, [203, 0, 113, 7]).build());
    }
}

/// Of any other workload the MAC is its own affair.
///
/// packets.md ingress 200: another MAC than the document of a guest names; an ICMP error likewise | dropped |
///   `SpoofedSource`
#[test]
fn another_mac_than_the_documented_one_is_dropped() {
    let mut node = node();
    let with = |mac: [u8; 6]| to_vip(ACK).with(|f| f.from = mac);
    let (own, other) = (with(WORKLOAD_MAC), with([2, 9, 9, 9, 9, 9]));
    takes(&mut node, &other);
    node.add_workload(IFINDEX, REAL, ALIAS, WORKLOAD, WORKLOAD_MAC_DOCUMENTED);
    takes(&mut node, &own);
    drops(&mut node, Hook::Ingress, &other.build(), DropReason::SpoofedSource);
    passes(&mut node, Hook::Ingress, &other.with(|f| f.destination = STRANGER).build());
}

/// packets.md ingress 190: source is not the workload's, to a VIP | dropped | `SpoofedSource`
#[test]
fn spoofed_source_is_dropped() {
    let mut node = node();
    for source in [Ipv4Addr::new(10, 0, 0, 11), STRANGER, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST] {
        drops(
            &mut node,
            Hook::Ingress,
            &Frame::tcp((source, 40001), (VIP, 80), SYN, b"").build(),
            DropReason::SpoofedSource,
        );
        drops(&mut node, Hook::Ingress, &Frame::udp((source, 9), (VIP, 80), b"").build(), DropReason::SpoofedSource);
    }
    takes(&mut node, &to_vip(SYN));
}

/// The right address on the wrong interface, until that interface has it as well.
///
/// packets.md ingress 210: source is a workload's on another interface | dropped | `SpoofedSource`
#[test]
fn an_address_counts_only_on_its_interface() {
    let mut node = Node::new();
    node.add_workload(2, REAL, ALIAS, WORKLOAD, 0);
    drops(&mut node, Hook::Ingress, &to_vip(SYN).build(), DropReason::SpoofedSource);
    node.add_workload(1, REAL, ALIAS, WORKLOAD, 0);
    takes(&mut node, &to_vip(SYN));
}

/// packets.md ingress 230: destination in the alias range | dropped | `ToAlias`
#[test]
fn to_an_alias_is_dropped() {
    let mut node = node();
    let other = Ipv4Addr::new(100, 127, 9, 9);
    for destination in [ALIAS, other] {
        for frame in [
            Frame::tcp((REAL, 1), (destination, 80), SYN, b""),
            Frame::udp((REAL, 1), (destination, 80), b""),
            Frame::raw(REAL, destination, 1, b"\x08\0\0\0"),
            Frame::tcp((STRANGER, 1), (destination, 80), ACK, b""),
        ] {
            drops(&mut node, Hook::Ingress, &frame.build(), DropReason::ToAlias);
        }
    }
    takes(&mut node, &to_vip(SYN));
}

/// packets.md ingress 220: source in the VIP or alias range, to anywhere | dropped | `FromReserved`
#[test]
fn from_a_reserved_address_is_dropped() {
    let mut node = node();
    for source in [VIP, ENGINE, DNS_VIP, ALIAS] {
        for destination in [VIP, STRANGER] {
            drops(
                &mut node,
                Hook::Ingress,
                &Frame::tcp((source, 1), (destination, 80), SYN, b"").build(),
                DropReason::FromReserved,
            );
            drops(
                &mut node,
                Hook::Ingress,
                &Frame::raw(source, destination, 1, b"\x08\0\0\0").build(),
                DropReason::FromReserved,
            );
        }
    }
    takes(&mut node, &to_vip(SYN));
}

/// packets.md ingress 330: any other protocol to a VIP | dropped | `UnsupportedProtocol`
#[test]
fn other_protocols_to_a_vip_are_dropped() {
    let mut node = node();
    for protocol in (0..=255).filter(|p| ![TCP, UDP].contains(p)) {
        let frame = Frame::raw(REAL, VIP, protocol, &[8, 0, 0, 0, 0, 0, 0, 0]);
        let outcome = node.run(Hook::Ingress, &frame.build(), Context::default());
        assert_eq!(outcome.verdict, 2, "protocol {protocol}");
    }
    assert_eq!(node.dropped(DropReason::UnsupportedProtocol), 254);
    takes(&mut node, &to_vip(SYN));
}

/// `ping` of a VIP, whole and in fragments.
///
/// packets.md ingress 240: ICMP or ICMPv6 to a VIP that is no error (echo, redirects, source quench, ...): a VIP
///   answers no ping, as in Lattice | dropped | `UnsupportedProtocol`
#[test]
fn icmp_to_a_vip_is_dropped() {
    let mut node = node();
    let ping = Frame::raw(REAL, VIP, 1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    drops(&mut node, Hook::Ingress, &ping.build(), DropReason::UnsupportedProtocol);
    for fragment in ping.fragments(8) {
        drops(&mut node, Hook::Ingress, &fragment, DropReason::UnsupportedProtocol);
    }
    passes(&mut node, Hook::Ingress, &Frame::raw(REAL, STRANGER, 1, &[8, 0, 0, 0]).build());
}

/// packets.md ingress 100: before the agent has configured the programs | passes | –
#[test]
fn without_a_configuration_everything_passes() {
    let mut node = Node::unconfigured();
    passes(&mut node, Hook::Ingress, &to_vip(SYN).build());
    passes(&mut node, Hook::Ingress, &Frame::tcp((REAL, 1), (ALIAS, 2), SYN, b"").build());
}

/// A GSO packet is one packet with one header; of more than 64 KiB its total length is 0 (BIG TCP).
///
/// packets.md ingress 430: GSO packet; of more than 64 KiB with total length 0 (BIG TCP) | taken, one header for all
///   segments | `FromWorkload`
/// packets.md ingress 440: total length 0 without GSO | dropped | `Malformed`
#[test]
fn gso_packets_are_taken() {
    let mut node = node();
    let data: Vec<u8> = (0..3000).map(|i| i as u8).collect();
    let frame = Frame::tcp((REAL, 40001), (VIP, 80), ACK, &data);
    let gso = Context { gso_segs: 3, gso_size: 1448, ..Context::default() };
    takes_as(&mut node, &frame.build(), gso, &with_alias(&frame).build(), &[Counter::FromWorkload]);

    let big = frame.with(|f| f.total_length = Some(0));
    takes_as(&mut node, &big.build(), gso, &with_alias(&big).build(), &[Counter::FromWorkload]);
    drops(&mut node, Hook::Ingress, &big.build(), DropReason::Malformed);
}
