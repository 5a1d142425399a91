//! `workload_egress`: an alias is no way in.

use brattice_abi::DropReason;
use brattice_tests::packets::{
    frame::Arp,
    frame6::{Extension, Frame6, Neighbour},
    node::{Context, Hook, IFINDEX, Node, config},
};

use crate::{
    family::{ANSWERS, Family, V4, V6, families},
    ipv6::scene::{ALIAS6, ENGINE6, LINK_LOCAL},
    scene::*,
};

families!(
    the_engine_reaches_a_target,
    checksums_hold_for_any_length_and_options,
    what_was_forwarded_is_dropped,
    a_syn_of_another_user_is_dropped,
    other_segments_are_delivered_whoever_sends_them,
    a_syn_from_a_vip_that_is_no_engine_source_is_dropped,
    a_syn_to_what_is_no_target_is_dropped,
    a_source_outside_the_vip_range_is_dropped,
    an_unknown_alias_is_dropped,
    udp_of_another_user_is_dropped,
    udp_that_is_neither_an_answer_nor_to_a_target_is_dropped,
    other_protocols_are_dropped,
    without_a_configuration_nothing_is_delivered,
    gso_packets_are_delivered,
);

/// The node, when the socket of a packet belongs to another user. (`BPF_PROG_TEST_RUN` gives every packet a socket of
/// user 0, which is the engine's user in [`config`]; packets without any are tried end to end.)
fn with_other_engine<F: Family>() -> Node {
    let mut node = F::node();
    let mut config = config();
    config.engine_uid = 4242;
    node.configure(config);
    node
}

fn the_engine_reaches_a_target<F: Family>() {
    let mut node = F::node();
    for flags in [SYN, ACK, ACK | 8, ACK | 1, RST, SYN | ACK] {
        delivers(&mut node, &F::to_target(flags));
    }
    for source in F::engine_sources() {
        delivers(&mut node, &F::tcp((source, 33000), (F::ALIAS, TARGET_PORT), SYN, b""));
    }
    F::checksums_right(&with_real(&F::to_target(ACK)));
}

fn checksums_hold_for_any_length_and_options<F: Family>() {
    let mut node = F::node();
    node.add_target(F::ALIAS, 9, UDP);
    for len in (0..70).chain([1440, usize::from(F::SEGMENT) + 12]) {
        let data: Vec<u8> = (0..len).map(|i| (i * 91 + 5) as u8).collect();
        for frame in [
            F::tcp((F::ENGINE, 33000), (F::ALIAS, TARGET_PORT), ACK, &data),
            F::udp((F::ENGINE, 33000), (F::ALIAS, 9), &data),
        ] {
            let frame = F::with_options(frame, len % 11);
            delivers(&mut node, &frame);
            F::checksums_right(&with_real(&frame));
        }
    }
    let without = F::without_checksum(F::udp((F::ENGINE, 33000), (F::ALIAS, 9), b"x"));
    match F::UDP_WITHOUT_CHECKSUM {
        None => delivers(&mut node, &without),
        Some(reason) => drops(&mut node, Hook::Egress, &without.bytes(), reason),
    }
}

/// packets.md egress 10: forwarded from any interface | dropped | `Forwarded`
fn what_was_forwarded_is_dropped<F: Family>() {
    let mut node = F::node();
    for frame in [F::to_target(SYN), F::to_target(ACK), F::tcp((F::REAL, 1), (F::ALIAS, TARGET_PORT), SYN, b"")] {
        let forwarded = Context { ingress_ifindex: 1, ..Context::default() };
        drops_with(&mut node, Hook::Egress, &frame.bytes(), forwarded, DropReason::Forwarded);
    }
    delivers(&mut node, &F::to_target(SYN));
}

/// packets.md egress 100: SYN without ACK (whatever else is set) of another user than the engine's | dropped |
///   `NotEngine`
fn a_syn_of_another_user_is_dropped<F: Family>() {
    let mut node = with_other_engine::<F>();
    // SYN with FIN, PSH, URG ... is a SYN all the same.
    for flags in [SYN, SYN | 1, SYN | 8, SYN | RST, !ACK] {
        drops(&mut node, Hook::Egress, &F::to_target(flags).bytes(), DropReason::NotEngine);
    }
    node.configure(config());
    delivers(&mut node, &F::to_target(SYN));
}

/// Answers of the kernel (SYN-ACK, RST, TIME_WAIT) carry no socket of the engine; they begin nothing.
///
/// packets.md egress 160: other TCP segments, of the engine or without a socket (SYN-ACK, RST, TIME_WAIT) | delivered:
///   they begin nothing | `ToWorkload`
fn other_segments_are_delivered_whoever_sends_them<F: Family>() {
    let mut node = with_other_engine::<F>();
    for flags in ANSWERS {
        delivers(&mut node, &F::to_target(flags));
        delivers(&mut node, &F::tcp((F::VIP, 80), (F::ALIAS, 40001), flags, b"answer"));
    }
}

/// packets.md egress 130: … of the engine, from a VIP that is no engine source | dropped | `NotEngineSource`
fn a_syn_from_a_vip_that_is_no_engine_source_is_dropped<F: Family>() {
    let mut node = F::node();
    for source in F::no_engine_sources() {
        let frame = F::tcp((source, 33000), (F::ALIAS, TARGET_PORT), SYN, b"");
        drops(&mut node, Hook::Egress, &frame.bytes(), DropReason::NotEngineSource);
    }
    delivers(&mut node, &F::to_target(SYN));
}

/// packets.md egress 140: … of the engine, to no registered target | dropped | `NotTarget`
fn a_syn_to_what_is_no_target_is_dropped<F: Family>() {
    let mut node = F::node();
    let frame = F::tcp((F::ENGINE, 33000), (F::ALIAS, TARGET_PORT + 1), SYN, b"");
    drops(&mut node, Hook::Egress, &frame.bytes(), DropReason::NotTarget);
    node.add_target(F::ALIAS, TARGET_PORT + 1, UDP);
    drops(&mut node, Hook::Egress, &frame.bytes(), DropReason::NotTarget);
    node.add_target(F::ALIAS, TARGET_PORT + 1, TCP);
    delivers(&mut node, &frame);
}

/// packets.md egress 90: source outside the VIP range | dropped | `SourceNotVip`
fn a_source_outside_the_vip_range_is_dropped<F: Family>() {
    let mut node = F::node();
    for source in F::no_vips() {
        for flags in [SYN, ACK] {
            let frame = F::tcp((source, 33000), (F::ALIAS, TARGET_PORT), flags, b"");
            drops(&mut node, Hook::Egress, &frame.bytes(), DropReason::SourceNotVip);
        }
    }
    delivers(&mut node, &F::to_target(SYN));
}

/// packets.md egress 70: destination is no alias (any more) | dropped | `UnknownAlias`
fn an_unknown_alias_is_dropped<F: Family>() {
    let mut node = F::node();
    for destination in F::no_aliases() {
        for flags in [SYN, ACK] {
            let frame = F::tcp((F::ENGINE, 33000), (destination, TARGET_PORT), flags, b"");
            drops(&mut node, Hook::Egress, &frame.bytes(), DropReason::UnknownAlias);
        }
    }
    delivers(&mut node, &F::to_target(SYN));
}

/// packets.md egress 170: UDP of another user | dropped | `NotEngine`
fn udp_of_another_user_is_dropped<F: Family>() {
    let mut node = with_other_engine::<F>();
    node.add_target(F::ALIAS, 9, UDP);
    let (to_target, answer) =
        (F::udp((F::ENGINE, 33000), (F::ALIAS, 9), b"x"), F::udp((F::DNS_VIP, 53), (F::ALIAS, 5000), b"x"));
    for frame in [&to_target, &answer] {
        drops(&mut node, Hook::Egress, &frame.bytes(), DropReason::NotEngine);
    }
    node.configure(config());
    delivers(&mut node, &to_target);
    delivers(&mut node, &answer);
}

/// packets.md egress 180: UDP of the engine, neither from a UDP listener nor to a target | dropped | `NotEngineSource`,
///   `NotTarget`
fn udp_that_is_neither_an_answer_nor_to_a_target_is_dropped<F: Family>() {
    let mut node = F::node();
    let to_nobody = F::udp((F::ENGINE, 33000), (F::ALIAS, 9), b"x").bytes();
    drops(&mut node, Hook::Egress, &to_nobody, DropReason::NotTarget);
    for source in [(F::VIP, 53), (F::DNS_VIP, 54), (F::VIP, 80)] {
        let frame = F::udp(source, (F::ALIAS, 5000), b"x").bytes();
        drops(&mut node, Hook::Egress, &frame, DropReason::NotEngineSource);
    }
    delivers(&mut node, &F::udp((F::DNS_VIP, 53), (F::ALIAS, 5000), b"answer"));
}

/// packets.md egress 20: ARP, NDP, VLAN, ICMP that is no error, other protocols; IPv6 on a node without IPv6 ranges |
///   dropped | `NotForWorkload`
fn other_protocols_are_dropped<F: Family>() {
    let mut node = F::node();
    for protocol in F::other_protocols() {
        for echo in [8, 128] {
            let frame = F::raw(F::ENGINE, F::ALIAS, *protocol, &[echo, 0, 0, 0, 0, 0, 0, 0]);
            drops(&mut node, Hook::Egress, &frame.bytes(), DropReason::NotForWorkload);
        }
    }
    for ethertype in [0x8100, 0x88a8, 0x0806, 0x88cc, 0x0001] {
        let frame = F::with_ethertype(F::to_target(ACK), ethertype);
        drops(&mut node, Hook::Egress, &frame.bytes(), DropReason::NotForWorkload);
    }
    delivers(&mut node, &F::to_target(ACK));
}

/// ARP of the host, and IPv4 that says it is IPv6: `brattice0` is for service traffic.
///
/// packets.md egress 20
#[test]
fn arp_is_dropped() {
    let mut node = node();
    // An IPv4 packet that says it is IPv6 goes to no alias.
    let as_ipv6 = V4::with_ethertype(to_target(ACK), 0x86dd).build();
    drops(&mut node, Hook::Egress, &as_ipv6, DropReason::UnknownAlias);
    drops(&mut node, Hook::Egress, &Arp::request(ENGINE, ALIAS).build(), DropReason::NotForWorkload);
    delivers(&mut node, &to_target(ACK));
}

/// Multicast listener reports and neighbour discovery of the host.
///
/// packets.md egress 20
#[test]
fn reports_and_solicitations_are_dropped() {
    let mut node = V6::node();
    let report = Frame6::raw(LINK_LOCAL, "ff02::16".parse().unwrap(), 58, &[143, 0, 0, 0, 0, 0, 0, 0])
        .behind(&[Extension::options(0, 1)]);
    drops(&mut node, Hook::Egress, &report.build(), DropReason::NotForWorkload);
    let solicitation = Neighbour::solicitation(ENGINE6, ALIAS6);
    drops(&mut node, Hook::Egress, &solicitation.build(), DropReason::NotForWorkload);
    delivers(&mut node, &V6::to_target(ACK));
}

/// packets.md egress 230: before the agent has configured the programs | dropped | `NotConfigured`
fn without_a_configuration_nothing_is_delivered<F: Family>() {
    let mut node = Node::unconfigured();
    node.add_workload(IFINDEX, F::REAL, F::ALIAS, WORKLOAD, 0);
    for frame in [F::to_target(ACK), F::with_ethertype(F::to_target(ACK), 0x88b5)] {
        assert_eq!(node.run(Hook::Egress, &frame.bytes(), Context::default()).verdict, 2);
    }
    assert_eq!(node.dropped(DropReason::NotConfigured), 2);
    node.configure(config());
    delivers(&mut node, &F::to_target(ACK));
}

/// packets.md egress 220: GSO packet | delivered | `ToWorkload`
fn gso_packets_are_delivered<F: Family>() {
    let mut node = F::node();
    let frame = F::tcp((F::ENGINE, 33000), (F::ALIAS, TARGET_PORT), ACK, &[7; 3000]);
    let gso = Context { gso_segs: 3, gso_size: F::SEGMENT.into(), ..Context::default() };
    delivers_as(&mut node, &frame.bytes(), gso, &with_real(&frame).bytes());
}
