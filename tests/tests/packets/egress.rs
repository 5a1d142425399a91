//! `workload_egress`: an alias is no way in.

use std::net::Ipv4Addr;

use brattice_abi::DropReason;
use brattice_tests::packets::{
    frame::{Arp, Frame, Payload},
    node::{Context, Hook, Node, config},
};

use crate::scene::*;

/// The node, when the socket of a packet belongs to somebody else. (`BPF_PROG_TEST_RUN` gives every packet a socket of
/// user 0, which is the engine's user in [`config`]; packets without any are tried end to end.)
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
    for last in 1..=16 {
        let source = Ipv4Addr::new(169, 254, 64, last);
        delivers(&mut node, &Frame::tcp((source, 33000), (ALIAS, TARGET_PORT), SYN, b""));
    }
    checksums_right(&with_real(&to_target(ACK)).build());
}

#[test]
fn checksums_hold_for_any_length_and_options() {
    let mut node = node();
    node.add_target(ALIAS, 9, UDP);
    for len in (0..70).chain([1460]) {
        let data: Vec<u8> = (0..len).map(|i| (i * 91 + 5) as u8).collect();
        for frame in [
            Frame::tcp((ENGINE, 33000), (ALIAS, TARGET_PORT), ACK, &data),
            Frame::udp((ENGINE, 33000), (ALIAS, 9), &data),
        ] {
            let frame = frame.with(|f| f.options = vec![1; (len % 11) * 4]);
            delivers(&mut node, &frame);
            checksums_right(&with_real(&frame).build());
        }
    }
    let without = Frame::udp((ENGINE, 33000), (ALIAS, 9), b"x").with(|f| {
        if let Payload::Udp { checksum, .. } = &mut f.payload {
            *checksum = false;
        }
    });
    delivers(&mut node, &without);
}

/// packets.md egress 10: forwarded from any interface | dropped | `Forwarded`
#[test]
fn what_was_forwarded_is_dropped() {
    let mut node = node();
    for frame in [to_target(SYN), to_target(ACK), Frame::tcp((REAL, 1), (ALIAS, TARGET_PORT), SYN, b"")] {
        let forwarded = Context { ingress_ifindex: 1, ..Context::default() };
        drops_with(&mut node, Hook::Egress, &frame.build(), forwarded, DropReason::Forwarded);
    }
    delivers(&mut node, &to_target(SYN));
}

/// packets.md egress 100: SYN without ACK (whatever else is set) of another user than the engine's | dropped |
///   `NotEngine`
#[test]
fn a_syn_of_another_user_is_dropped() {
    let mut node = with_other_engine();
    drops(&mut node, Hook::Egress, &to_target(SYN).build(), DropReason::NotEngine);
    // SYN with FIN, PSH, URG ... is a SYN all the same.
    for flags in [SYN | 1, SYN | 8, SYN | RST, !ACK] {
        drops(&mut node, Hook::Egress, &to_target(flags).build(), DropReason::NotEngine);
    }
    node.configure(config());
    delivers(&mut node, &to_target(SYN));
}

/// Answers of the kernel (SYN-ACK, RST, TIME_WAIT) carry no socket of the engine; they begin nothing.
///
/// packets.md egress 160: other TCP segments, of the engine or without a socket (SYN-ACK, RST, TIME_WAIT) | delivered:
///   they begin nothing | `ToWorkload`
#[test]
fn other_segments_are_delivered_whoever_sends_them() {
    let mut node = with_other_engine();
    for flags in [ACK, ACK | 8, ACK | 1, RST, RST | ACK, SYN | ACK] {
        delivers(&mut node, &to_target(flags));
        delivers(&mut node, &Frame::tcp((VIP, 80), (ALIAS, 40001), flags, b"answer"));
    }
}

/// packets.md egress 130: … of the engine, from a VIP that is no engine source | dropped | `NotEngineSource`
#[test]
fn a_syn_from_a_vip_that_is_no_engine_source_is_dropped() {
    let mut node = node();
    for source in [VIP, DNS_VIP, Ipv4Addr::new(169, 254, 64, 0), Ipv4Addr::new(169, 254, 79, 255)] {
        let frame = Frame::tcp((source, 33000), (ALIAS, TARGET_PORT), SYN, b"");
        drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotEngineSource);
    }
    delivers(&mut node, &to_target(SYN));
}

/// packets.md egress 140: … of the engine, to no registered target | dropped | `NotTarget`
#[test]
fn a_syn_to_what_is_no_target_is_dropped() {
    let mut node = node();
    let frame = Frame::tcp((ENGINE, 33000), (ALIAS, TARGET_PORT + 1), SYN, b"");
    drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotTarget);
    node.add_target(ALIAS, TARGET_PORT + 1, UDP);
    drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotTarget);
    node.add_target(ALIAS, TARGET_PORT + 1, TCP);
    delivers(&mut node, &frame);
}

/// packets.md egress 90: source outside the VIP range | dropped | `SourceNotVip`
#[test]
fn a_source_outside_the_vip_range_is_dropped() {
    let mut node = node();
    for source in
        [STRANGER, REAL, ALIAS, Ipv4Addr::new(169, 254, 63, 255), Ipv4Addr::new(169, 254, 80, 0), Ipv4Addr::LOCALHOST]
    {
        for flags in [SYN, ACK] {
            let frame = Frame::tcp((source, 33000), (ALIAS, TARGET_PORT), flags, b"");
            drops(&mut node, Hook::Egress, &frame.build(), DropReason::SourceNotVip);
        }
    }
    delivers(&mut node, &to_target(SYN));
}

/// packets.md egress 70: destination is no alias (any more) | dropped | `UnknownAlias`
#[test]
fn an_unknown_alias_is_dropped() {
    let mut node = node();
    for destination in [Ipv4Addr::new(100, 127, 0, 3), STRANGER, REAL, VIP, Ipv4Addr::BROADCAST] {
        for flags in [SYN, ACK] {
            let frame = Frame::tcp((ENGINE, 33000), (destination, TARGET_PORT), flags, b"");
            drops(&mut node, Hook::Egress, &frame.build(), DropReason::UnknownAlias);
        }
    }
    delivers(&mut node, &to_target(SYN));
}

/// packets.md egress 170: UDP of another user | dropped | `NotEngine`
#[test]
fn udp_of_another_user_is_dropped() {
    let mut node = with_other_engine();
    node.add_target(ALIAS, 9, UDP);
    for frame in [Frame::udp((ENGINE, 33000), (ALIAS, 9), b"x"), Frame::udp((DNS_VIP, 53), (ALIAS, 5000), b"x")] {
        drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotEngine);
    }
    node.configure(config());
    delivers(&mut node, &Frame::udp((ENGINE, 33000), (ALIAS, 9), b"x"));
    delivers(&mut node, &Frame::udp((DNS_VIP, 53), (ALIAS, 5000), b"x"));
}

/// packets.md egress 180: UDP of the engine, neither from a UDP listener nor to a target | dropped | `NotEngineSource`,
///   `NotTarget`
#[test]
fn udp_that_is_neither_an_answer_nor_to_a_target_is_dropped() {
    let mut node = node();
    let to_nobody = Frame::udp((ENGINE, 33000), (ALIAS, 9), b"x").build();
    drops(&mut node, Hook::Egress, &to_nobody, DropReason::NotTarget);
    for source in [(VIP, 53), (DNS_VIP, 54), (VIP, 80)] {
        let frame = Frame::udp(source, (ALIAS, 5000), b"x").build();
        drops(&mut node, Hook::Egress, &frame, DropReason::NotEngineSource);
    }
    delivers(&mut node, &Frame::udp((DNS_VIP, 53), (ALIAS, 5000), b"answer"));
}

/// ICMP of the host that is no error, ARP, VLAN, garbage: `brattice0` is for service traffic.
///
/// packets.md egress 20: ARP, NDP, VLAN, ICMP that is no error, other protocols; IPv6 on a node without IPv6 ranges |
///   dropped | `NotForWorkload`
#[test]
fn what_is_no_service_traffic_is_dropped() {
    let mut node = node();
    for protocol in [0, 1, 2, 47, 50, 132, 255] {
        let frame = Frame::raw(ENGINE, ALIAS, protocol, &[8, 0, 0, 0, 0, 0, 0, 0]);
        drops(&mut node, Hook::Egress, &frame.build(), DropReason::NotForWorkload);
    }
    for ethertype in [0x8100, 0x88a8, 0x0806, 0x88cc, 0x0001] {
        let frame = to_target(ACK).with(|f| f.ethertype = ethertype).build();
        drops(&mut node, Hook::Egress, &frame, DropReason::NotForWorkload);
    }
    // An IPv4 packet that says it is IPv6 goes to no alias.
    let as_ipv6 = to_target(ACK).with(|f| f.ethertype = 0x86dd).build();
    drops(&mut node, Hook::Egress, &as_ipv6, DropReason::UnknownAlias);
    drops(&mut node, Hook::Egress, &Arp::request(ENGINE, ALIAS).build(), DropReason::NotForWorkload);
    delivers(&mut node, &to_target(ACK));
}

/// packets.md egress 230: before the agent has configured the programs | dropped | `NotConfigured`
#[test]
fn without_a_configuration_nothing_is_delivered() {
    let mut node = Node::unconfigured();
    node.add_workload(1, REAL, ALIAS, WORKLOAD, 0);
    let outcome = node.run(Hook::Egress, &to_target(ACK).build(), Context::default());
    assert_eq!(outcome.verdict, 2);
    assert_eq!(node.dropped(DropReason::NotConfigured), 1);
    node.configure(config());
    delivers(&mut node, &to_target(ACK));
}

/// packets.md egress 220: GSO packet | delivered | `ToWorkload`
#[test]
fn gso_packets_are_delivered() {
    let mut node = node();
    let frame = Frame::tcp((ENGINE, 33000), (ALIAS, TARGET_PORT), ACK, &[7; 3000]);
    let gso = Context { gso_segs: 3, gso_size: 1448, ..Context::default() };
    delivers_as(&mut node, &frame.build(), gso, &with_real(&frame).build());
}
