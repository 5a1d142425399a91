//! `workload_ingress`: what only IPv6 has, and what both families have together.

use std::net::Ipv6Addr;

use brattice_abi::{Address, Counter, DropReason, MODE_DETACH, SWITCH_ALL, SWITCH_WORKLOAD};
use brattice_tests::packets::{
    frame::Payload,
    frame6::Frame6,
    node::{Context, Hook, IFINDEX, TCX_REDIRECT, config},
};

use super::scene::*;
use crate::scene::{ACK, RST, SYN, WORKLOAD, drops, passes, passes_counting, takes};

#[test]
fn a_workload_is_taken_by_both_of_its_addresses() {
    let mut node = node();
    takes(&mut node, &to_vip(ACK));
    takes(&mut node, &crate::scene::to_vip(ACK));
}

/// packets.md ipv6 130: from a link-local address that is not attached | dropped | `SpoofedSource`
#[test]
fn a_link_local_address_is_as_good_as_another_where_it_is_the_workloads() {
    let mut node = node();
    let frame = Frame6::tcp((LINK_LOCAL, 40001), (VIP6, 80), SYN, b"");
    drops(&mut node, Hook::Ingress, &frame.build(), DropReason::SpoofedSource);
    node.add_workload(IFINDEX, LINK_LOCAL, ALIAS6, WORKLOAD, 0);
    takes(&mut node, &frame);
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

/// The limit is the workload's, over both families.
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
