//! `workload_ingress` on well-formed packets.

use brattice_abi::{Counter, DropReason, WORKLOAD_MAC_DOCUMENTED};
use brattice_tests::packets::{
    checksums,
    frame::{Frame, Payload},
    node::{Context, Hook, IFINDEX, Node, WORKLOAD_MAC},
};

use crate::{
    family::{Family, families},
    scene::*,
};

families!(
    tcp_to_a_vip_is_taken,
    udp_to_a_vip_is_taken,
    any_length_of_payload_keeps_its_checksum,
    tcp_options_are_carried_along,
    ethernet_padding_is_kept,
    udp_checksum_that_becomes_zero_is_written_as_ffff,
    tcp_checksum_that_becomes_zero_is_zero,
    wrong_checksums_stay_wrong,
    both_ends_of_each_range_are_ours_and_their_neighbours_are_not,
    another_mac_than_the_documented_one_is_dropped,
    spoofed_source_is_dropped,
    an_address_counts_only_on_its_interface,
    to_an_alias_is_dropped,
    from_a_reserved_address_is_dropped,
    other_protocols_to_a_vip_are_dropped,
    icmp_to_a_vip_is_dropped,
    without_a_configuration_everything_passes,
    gso_packets_are_taken,
);

fn tcp_to_a_vip_is_taken<F: Family>() {
    let mut node = F::node();
    for flags in [SYN, ACK, ACK | 8, ACK | 1, RST, RST | ACK, SYN | ACK, 0, 0xff] {
        takes(&mut node, &F::to_vip(flags));
    }
    F::checksums_right(&with_alias(&F::to_vip(ACK)));
}

fn udp_to_a_vip_is_taken<F: Family>() {
    let mut node = F::node();
    takes(&mut node, &F::udp((F::REAL, 5353), (F::VIP, 443), b"datagram"));
    takes(&mut node, &F::udp((F::REAL, 5353), (F::DNS_VIP, 53), b"\x12\x34question"));
}

fn any_length_of_payload_keeps_its_checksum<F: Family>() {
    let mut node = F::node();
    for len in (0..70).chain([1000, usize::from(F::SEGMENT) + 11, usize::from(F::SEGMENT) + 12]) {
        let data: Vec<u8> = (0..len).map(|i| (i * 37 + 11) as u8).collect();
        for frame in [F::tcp((F::REAL, 40001), (F::VIP, 80), ACK, &data), F::udp((F::REAL, 40001), (F::VIP, 80), &data)]
        {
            takes(&mut node, &frame);
            F::checksums_right(&frame);
            F::checksums_right(&with_alias(&frame));
        }
    }
}

/// The packet, its data beginning with this word.
fn beginning_with<P: Packet>(packet: &P, start: u16) -> P {
    packet.clone().changed(|f| match f.payload {
        Payload::Tcp { data, .. } | Payload::Udp { data, .. } => data[..2].copy_from_slice(&start.to_be_bytes()),
        Payload::Raw(..) => unreachable!("only TCP and UDP here"),
    })
}

/// Data with which the translated checksum has a value.
fn start_for<P: Packet>(packet: &P, at: usize, value: u16) -> u16 {
    (0..=u16::MAX)
        .find(|start| {
            let bytes = beginning_with(&with_alias(packet), *start).bytes();
            u16::from_be_bytes([bytes[at], bytes[at + 1]]) == value
        })
        .expect("one of 65536 data words gives it")
}

/// packets.md ingress 360: TCP options, 0 to 40 bytes | taken | `FromWorkload`
fn tcp_options_are_carried_along<F: Family>() {
    let mut node = F::node();
    for words in 0..=10 {
        for padding in [0, words * 3] {
            let frame = F::to_vip(SYN).changed(|f| {
                *f.padding = padding;
                if let Payload::Tcp { options, .. } = f.payload {
                    *options = vec![1; words * 4];
                }
            });
            takes(&mut node, &frame);
            if padding == 0 {
                F::checksums_right(&with_alias(&frame));
            }
        }
    }
}

/// packets.md ingress 370: Ethernet padding behind the packet | taken, padding kept | `FromWorkload`
fn ethernet_padding_is_kept<F: Family>() {
    let mut node = F::node();
    for padding in [1, 6, 46, 200] {
        takes(&mut node, &F::udp((F::REAL, 9), (F::VIP, 80), b"").changed(|f| *f.padding = padding));
        takes(&mut node, &F::to_vip(ACK).changed(|f| *f.padding = padding));
    }
}

/// RFC 768: a computed 0 is sent as 0xffff. Data is searched for which the translated checksum is just that.
///
/// packets.md ingress 390: UDP checksum that becomes 0 by translation | written as 0xffff (RFC 768) | `FromWorkload`
fn udp_checksum_that_becomes_zero_is_written_as_ffff<F: Family>() {
    let mut node = F::node();
    let frame = F::udp((F::REAL, 9), (F::VIP, 80), b"..data");
    let start = start_for(&frame, F::FIXED + 6, 0xffff);
    takes(&mut node, &beginning_with(&frame, start));
}

/// TCP has no such rule: 0 is 0.
///
/// packets.md ingress 400: TCP checksum that becomes 0 by translation | 0 | `FromWorkload`
fn tcp_checksum_that_becomes_zero_is_zero<F: Family>() {
    let mut node = F::node();
    let frame = F::tcp((F::REAL, 9), (F::VIP, 80), ACK, b"..data");
    let start = start_for(&frame, F::FIXED + 16, 0);
    takes(&mut node, &beginning_with(&frame, start));
}

/// packets.md ingress 410: wrong IP, TCP or UDP checksum | taken, stays wrong; the receiver drops it | `FromWorkload`
fn wrong_checksums_stay_wrong<F: Family>() {
    let mut node = F::node();
    for (frame, protocol) in [(F::to_vip(ACK), TCP), (F::udp((F::REAL, 9), (F::VIP, 80), b"data"), UDP)] {
        let wrong = frame.clone().changed(|f| *f.l4_checksum_error = 0x0101);
        let outcome = node.run(Hook::Ingress, &wrong.bytes(), Context::default());
        assert_eq!(F::are_right(&outcome.frame, protocol), (true, false), "a wrong checksum was repaired");

        let right = node.run(Hook::Ingress, &frame.bytes(), Context::default());
        assert_eq!(F::are_right(&right.frame, protocol), (true, true));
    }
    assert_eq!(node.counted(Counter::FromWorkload), 4);
}

/// packets.md ingress 90: to addresses next to our ranges, metadata 169.254.169.254 | passes | –
fn both_ends_of_each_range_are_ours_and_their_neighbours_are_not<F: Family>() {
    let mut node = F::node();
    let from = |source, destination| F::tcp((source, 1), (destination, 2), ACK, b"");
    for inside in F::vips() {
        takes(&mut node, &from(F::REAL, inside));
        drops(&mut node, Hook::Ingress, &from(inside, F::STRANGER).bytes(), DropReason::FromReserved);
        drops(&mut node, Hook::Ingress, &from(inside, inside).bytes(), DropReason::FromReserved);
    }
    for inside in F::aliases() {
        drops(&mut node, Hook::Ingress, &from(F::REAL, inside).bytes(), DropReason::ToAlias);
        drops(&mut node, Hook::Ingress, &from(inside, F::STRANGER).bytes(), DropReason::FromReserved);
    }
    for outside in F::neighbours() {
        passes(&mut node, Hook::Ingress, &from(F::REAL, outside).bytes());
        passes(&mut node, Hook::Ingress, &from(outside, F::STRANGER).bytes());
    }
}

/// Of any other workload the MAC is its own affair.
///
/// packets.md ingress 200: another MAC than the document of a guest names; an ICMP error likewise | dropped |
///   `SpoofedSource`
fn another_mac_than_the_documented_one_is_dropped<F: Family>() {
    let mut node = F::node();
    let with = |mac: [u8; 6]| F::to_vip(ACK).changed(|f| *f.from = mac);
    let (own, other) = (with(WORKLOAD_MAC), with([2, 9, 9, 9, 9, 9]));
    takes(&mut node, &other);
    node.add_workload(IFINDEX, F::REAL, F::ALIAS, WORKLOAD, WORKLOAD_MAC_DOCUMENTED);
    takes(&mut node, &own);
    drops(&mut node, Hook::Ingress, &other.bytes(), DropReason::SpoofedSource);
    passes(&mut node, Hook::Ingress, &other.changed(|f| *f.destination = F::STRANGER).bytes());
}

/// packets.md ingress 190: source is not the workload's, to a VIP | dropped | `SpoofedSource`
fn spoofed_source_is_dropped<F: Family>() {
    let mut node = F::node();
    for source in F::spoofed() {
        for frame in [
            F::tcp((source, 40001), (F::VIP, 80), SYN, b""),
            F::udp((source, 9), (F::VIP, 80), b""),
            F::ping(source, F::VIP),
        ] {
            drops(&mut node, Hook::Ingress, &frame.bytes(), DropReason::SpoofedSource);
        }
    }
    takes(&mut node, &F::to_vip(SYN));
}

/// The right address on the wrong interface, until that interface has it as well.
///
/// packets.md ingress 210: source is a workload's on another interface | dropped | `SpoofedSource`
fn an_address_counts_only_on_its_interface<F: Family>() {
    let mut node = Node::new();
    node.add_workload(2, F::REAL, F::ALIAS, WORKLOAD, 0);
    drops(&mut node, Hook::Ingress, &F::to_vip(SYN).bytes(), DropReason::SpoofedSource);
    node.add_workload(1, F::REAL, F::ALIAS, WORKLOAD, 0);
    takes(&mut node, &F::to_vip(SYN));
}

/// packets.md ingress 230: destination in the alias range | dropped | `ToAlias`
fn to_an_alias_is_dropped<F: Family>() {
    let mut node = F::node();
    for destination in [F::ALIAS, F::OTHER_ALIAS] {
        for frame in [
            F::tcp((F::REAL, 1), (destination, 80), SYN, b""),
            F::udp((F::REAL, 1), (destination, 80), b""),
            F::ping(F::REAL, destination),
            F::tcp((F::STRANGER, 1), (destination, 80), ACK, b""),
        ] {
            drops(&mut node, Hook::Ingress, &frame.bytes(), DropReason::ToAlias);
        }
    }
    takes(&mut node, &F::to_vip(SYN));
}

/// packets.md ingress 220: source in the VIP or alias range, to anywhere | dropped | `FromReserved`
fn from_a_reserved_address_is_dropped<F: Family>() {
    let mut node = F::node();
    for source in [F::VIP, F::ENGINE, F::DNS_VIP, F::ALIAS] {
        for destination in [F::VIP, F::STRANGER, F::MULTICAST] {
            for frame in [F::tcp((source, 1), (destination, 80), SYN, b""), F::ping(source, destination)] {
                drops(&mut node, Hook::Ingress, &frame.bytes(), DropReason::FromReserved);
            }
        }
    }
    takes(&mut node, &F::to_vip(SYN));
}

/// packets.md ingress 330: any other protocol to a VIP | dropped | `UnsupportedProtocol`
fn other_protocols_to_a_vip_are_dropped<F: Family>() {
    let mut node = F::node();
    // 59 of IPv6 says that nothing follows.
    let others: Vec<u8> = (0..=255).filter(|p| ![TCP, UDP].contains(p) && !F::is_extension(*p)).collect();
    for protocol in &others {
        let frame = F::raw(F::REAL, F::VIP, *protocol, &[F::ECHO, 0, 0, 0, 0, 0, 0, 0]);
        let outcome = node.run(Hook::Ingress, &frame.bytes(), Context::default());
        assert_eq!(outcome.verdict, 2, "protocol {protocol}");
    }
    assert!(others.len() >= 249, "control");
    assert_eq!(node.dropped(DropReason::UnsupportedProtocol), others.len() as u64);
    takes(&mut node, &F::to_vip(SYN));
}

/// `ping` of a VIP, whole and in fragments.
///
/// packets.md ingress 240: ICMP or ICMPv6 to a VIP that is no error (echo, redirects, source quench, ...): a VIP
///   answers no ping, as in Lattice | dropped | `UnsupportedProtocol`
/// packets.md ipv6 120
fn icmp_to_a_vip_is_dropped<F: Family>() {
    let mut node = F::node();
    let ping = F::ping(F::REAL, F::VIP);
    drops(&mut node, Hook::Ingress, &ping.bytes(), DropReason::UnsupportedProtocol);
    for fragment in ping.in_fragments(8) {
        drops(&mut node, Hook::Ingress, &fragment, DropReason::UnsupportedProtocol);
    }
    passes(&mut node, Hook::Ingress, &F::ping(F::REAL, F::STRANGER).bytes());
}

/// packets.md ingress 100: before the agent has configured the programs | passes | –
fn without_a_configuration_everything_passes<F: Family>() {
    let mut node = Node::unconfigured();
    passes(&mut node, Hook::Ingress, &F::to_vip(SYN).bytes());
    passes(&mut node, Hook::Ingress, &F::tcp((F::REAL, 1), (F::ALIAS, 2), SYN, b"").bytes());
}

/// A GSO packet is one packet with one header; of more than 64 KiB its total length is 0 (BIG TCP).
///
/// packets.md ingress 430: GSO packet; of more than 64 KiB with total length 0 (BIG TCP) | taken, one header for all
///   segments | `FromWorkload`
/// packets.md ingress 440: total length 0 without GSO | dropped | `Malformed`
/// packets.md ipv6 100: payload length 0: GSO packet of more than 64 KiB (BIG TCP) | taken, also with a jumbo payload
///   option | `FromWorkload`
fn gso_packets_are_taken<F: Family>() {
    let mut node = F::node();
    let data: Vec<u8> = (0..3000).map(|i| i as u8).collect();
    let frame = F::tcp((F::REAL, 40001), (F::VIP, 80), ACK, &data);
    let gso = Context { gso_segs: 3, gso_size: F::SEGMENT.into(), ..Context::default() };
    takes_as(&mut node, &frame.bytes(), gso, &with_alias(&frame).bytes(), &[Counter::FromWorkload]);

    let big = F::with_length(frame, 0);
    takes_as(&mut node, &big.bytes(), gso, &with_alias(&big).bytes(), &[Counter::FromWorkload]);
    drops(&mut node, Hook::Ingress, &big.bytes(), F::LENGTH_0);
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
            // To an address that is not ours, it is left alone.
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

/// packets.md ingress 410
#[test]
fn a_wrong_ip_checksum_stays_wrong() {
    let mut node = node();
    for frame in [to_vip(ACK), Frame::udp((REAL, 9), (VIP, 80), b"data")] {
        let wrong = frame.with(|f| f.ip_checksum_error = 0x0101).build();
        let outcome = node.run(Hook::Ingress, &wrong, Context::default());
        assert!(!checksums::ip_is_right(&outcome.frame), "a wrong IP checksum was repaired");
        assert_eq!(checksums::l4_is_right(&outcome.frame), Some(true));
    }
    assert_eq!(node.counted(Counter::FromWorkload), 2);
}
