//! `workload_egress`: an alias is no way in.

use std::net::Ipv6Addr;

use brattice_abi::DropReason;
use brattice_tests::packets::{
    frame::Payload,
    frame6::{Frame6, Neighbour},
    node::{Context, Hook, IFINDEX, Node, config},
};

use super::scene::*;
use crate::scene::{
    ACK, RST, SYN, TARGET_PORT, TCP, UDP, WORKLOAD, delivers, delivers_as, drops, drops_with, with_real,
};

/// The node, when the socket of a packet belongs to somebody else: see `egress.rs` of IPv4.
fn with_other_engine() -> Node {
    let mut node = node();
    let mut config = config();
    config.engine_uid = 4242;
    node.configure(config);
    node
}

#[test]
fn the_engine_reaches_a_target() {
    let mut node = node();
    for flags in [SYN, ACK, ACK | 8, ACK | 1, RST, SYN | ACK] {
        delivers(&mut node, &to_target(flags));
    }
    for n in 0..16 {
        let source = Ipv6Addr::from_bits(ENGINE6.to_bits() + n);
        delivers(&mut node, &Frame6::tcp((source, 33000), (ALIAS6, TARGET_PORT), SYN, b""));
    }
    checksum_right(&with_real(&to_target(ACK)));
}

#[test]
fn checksums_hold_for_any_length() {
    let mut node = node();
    node.add_target(ALIAS6, 9, UDP);
    for len in (0..70).chain([1440]) {
        let data: Vec<u8> = (0..len).map(|i| (i * 91 + 5) as u8).collect();
        for frame in [
            Frame6::tcp((ENGINE6, 33000), (ALIAS6, TARGET_PORT), ACK, &data),
            Frame6::udp((ENGINE6, 33000), (ALIAS6, 9), &data),
        ] {
            delivers(&mut node, &frame);
            checksum_right(&with_real(&frame));
        }
    }
    let without = Frame6::udp((ENGINE6, 33000), (ALIAS6, 9), b"x").with(|f| {
        if let Payload::Udp { checksum, .. } = &mut f.payload {
            *checksum = false;
        }
    });
    drops(&mut node, Hook::Egress, &without.build(), DropReason::Malformed);
}

#[test]
fn what_was_forwarded_is_dropped() {
    let mut node = node();
    for frame in [to_target(SYN), to_target(ACK), Frame6::tcp((REAL6, 1), (ALIAS6, TARGET_PORT), SYN, b"")] {
        let forwarded = Context { ingress_ifindex: 1, ..Context::default() };
        drops_with(&mut node, Hook::Egress, &frame.build(), forwarded, DropReason::Forwarded);
    }
    delivers(&mut node, &to_target(SYN));
}

#[test]
fn a_syn_of_another_user_is_dropped() {
    let mut node = with_other_engine();
    for flags in [SYN, SYN | 1, SYN | 8, SYN | RST, !ACK] {
        drops(&mut node, Hook::Egress, &to_target(flags).build(), DropReason::NotEngine);
    }
    // What begins nothing is delivered.
    for flags in [ACK, RST, SYN | ACK] {
        delivers(&mut node, &to_target(flags));
    }
    node.configure(config());
    delivers(&mut node, &to_target(SYN));
}

#[test]
fn a_syn_from_a_vip_that_is_no_engine_source_is_dropped() {
    let mut node = node();
    let net = Ipv6Addr::from(config().vip_net6.0).to_bits();
    // The host's source; behind the engine's; the same last word in another place of the range.
    let near = [net, net + 17, net | 1 << 32 | 1, net | 1 << 63 | 1].map(Ipv6Addr::from_bits);
    for source in near.into_iter().chain([VIP6, DNS_VIP6]) {
        let frame = Frame6::tcp((source, 33000), (ALIAS6, TARGET_PORT), SYN, b"");
        drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotEngineSource);
    }
    delivers(&mut node, &to_target(SYN));
}

#[test]
fn a_syn_to_what_is_no_target_is_dropped() {
    let mut node = node();
    let frame = Frame6::tcp((ENGINE6, 33000), (ALIAS6, TARGET_PORT + 1), SYN, b"");
    drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotTarget);
    node.add_target(ALIAS6, TARGET_PORT + 1, TCP);
    delivers(&mut node, &frame);
}

#[test]
fn a_source_outside_the_vip_range_is_dropped() {
    let mut node = node();
    let net = Ipv6Addr::from(config().vip_net6.0).to_bits();
    let near = [net - 1, net + (1 << 64)].map(Ipv6Addr::from_bits);
    for source in near.into_iter().chain([STRANGER6, REAL6, ALIAS6, LINK_LOCAL, Ipv6Addr::LOCALHOST]) {
        for flags in [SYN, ACK] {
            let frame = Frame6::tcp((source, 33000), (ALIAS6, TARGET_PORT), flags, b"");
            drops(&mut node, Hook::Egress, &frame.build(), DropReason::SourceNotVip);
        }
    }
    delivers(&mut node, &to_target(SYN));
}

#[test]
fn an_unknown_alias_is_dropped() {
    let mut node = node();
    let next = Ipv6Addr::from_bits(ALIAS6.to_bits() + 1);
    for destination in [next, STRANGER6, REAL6, VIP6] {
        for flags in [SYN, ACK] {
            let frame = Frame6::tcp((ENGINE6, 33000), (destination, TARGET_PORT), flags, b"");
            drops(&mut node, Hook::Egress, &frame.build(), DropReason::UnknownAlias);
        }
    }
    delivers(&mut node, &to_target(SYN));
}

#[test]
fn udp_is_the_engines_or_dropped() {
    let mut node = with_other_engine();
    node.add_target(ALIAS6, 9, UDP);
    let (to_target, answer) =
        (Frame6::udp((ENGINE6, 33000), (ALIAS6, 9), b"x"), Frame6::udp((DNS_VIP6, 53), (ALIAS6, 5000), b"x"));
    for frame in [&to_target, &answer] {
        drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotEngine);
    }
    node.configure(config());
    delivers(&mut node, &to_target);
    delivers(&mut node, &answer);
    let to_nobody = Frame6::udp((ENGINE6, 33000), (ALIAS6, 10), b"x").build();
    drops(&mut node, Hook::Egress, &to_nobody, DropReason::NotTarget);
    let from_nobody = Frame6::udp((VIP6, 53), (ALIAS6, 5000), b"x").build();
    drops(&mut node, Hook::Egress, &from_nobody, DropReason::NotEngineSource);
}

/// Router solicitations, multicast listener reports, neighbour discovery, echo requests of the host.
///
/// packets.md egress 20
#[test]
fn what_is_no_service_traffic_is_dropped() {
    let mut node = node();
    for protocol in [1, 41, 47, 50, 58, 59, 132, 255] {
        let frame = Frame6::raw(ENGINE6, ALIAS6, protocol, &[128, 0, 0, 0, 0, 0, 0, 0]);
        drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotForWorkload);
    }
    let report = Frame6::raw(LINK_LOCAL, "ff02::16".parse().unwrap(), 58, &[143, 0, 0, 0, 0, 0, 0, 0])
        .behind(&[brattice_tests::packets::frame6::Extension::options(0, 1)]);
    drops(&mut node, Hook::Egress, &report.build(), DropReason::NotForWorkload);
    let solicitation = Neighbour::solicitation(ENGINE6, ALIAS6);
    drops(&mut node, Hook::Egress, &solicitation.build(), DropReason::NotForWorkload);
    delivers(&mut node, &to_target(ACK));
}

#[test]
fn without_a_configuration_nothing_is_delivered() {
    let mut node = Node::unconfigured();
    node.add_workload(IFINDEX, REAL6, ALIAS6, WORKLOAD, 0);
    drops(&mut node, Hook::Egress, &to_target(ACK).with(|f| f.ethertype = 0x88b5).build(), DropReason::NotConfigured);
    let outcome = node.run(Hook::Egress, &to_target(ACK).build(), Context::default());
    assert_eq!((outcome.verdict, node.dropped(DropReason::NotConfigured)), (2, 2));
    node.configure(config());
    delivers(&mut node, &to_target(ACK));
}

#[test]
fn gso_packets_are_delivered() {
    let mut node = node();
    let frame = Frame6::tcp((ENGINE6, 33000), (ALIAS6, TARGET_PORT), ACK, &[7; 3000]);
    let gso = Context { gso_segs: 3, gso_size: 1428, ..Context::default() };
    delivers_as(&mut node, &frame.build(), gso, &with_real(&frame).build());
}
