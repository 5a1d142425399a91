//! ARP on a workload's interface.

use std::net::Ipv4Addr;

use brattice_abi::{Counter, MODE_DETACH, SWITCH_ALL, SWITCH_WORKLOAD, VIRTUAL_MAC};
use brattice_tests::packets::{
    frame::{Arp, SENDER_MAC},
    node::{Context, Hook, Node, TCX_REDIRECT},
};

use crate::scene::*;

/// The request is answered with the virtual MAC, byte for byte as RFC 826 wants it.
#[track_caller]
fn answered(node: &mut Node, request: &Arp) {
    let before = node.counted(Counter::ArpAnswered);
    let outcome = node.run(Hook::Ingress, &request.build(), Context::default());
    assert_eq!(outcome.verdict, TCX_REDIRECT);
    let expected = Arp {
        operation: 2,
        sender: (VIRTUAL_MAC, request.target.1),
        target: request.sender,
        to: request.sender.0,
        ..request.clone()
    };
    assert_eq!(outcome.frame, expected.build());
    assert_eq!(node.counted(Counter::ArpAnswered), before + 1);
}

/// packets.md ingress 110: ARP request for a VIP: broadcast | answered with the virtual MAC, out of the same interface
///   only | `ArpAnswered`
#[test]
fn a_request_for_a_vip_is_answered() {
    let mut node = node();
    for target in [VIP, DNS_VIP, ENGINE, Ipv4Addr::new(169, 254, 64, 0), Ipv4Addr::new(169, 254, 79, 255)] {
        answered(&mut node, &Arp::request(REAL, target));
    }
    // From an address of no workload: the answer says nothing that the sender could not know.
    answered(&mut node, &Arp::request(STRANGER, VIP));
}

/// Neighbour unreachability detection asks by unicast.
///
/// packets.md ingress 120: … unicast (neighbour probe) | answered | `ArpAnswered`
#[test]
fn a_unicast_request_is_answered() {
    answered(&mut node(), &Arp::request(REAL, VIP).with(|a| a.to = VIRTUAL_MAC));
}

/// RFC 5227: the answer to a probe tells a host that wants to take a VIP that it is in use.
///
/// packets.md ingress 130: … from 0.0.0.0 (address probe) | answered: the VIP is defended | `ArpAnswered`
#[test]
fn a_probe_is_answered() {
    answered(&mut node(), &Arp::request(Ipv4Addr::UNSPECIFIED, VIP));
}

/// packets.md ingress 140: … announcement of a VIP by the workload | answered, and not forwarded by a bridge |
///   `ArpAnswered`
#[test]
fn an_announcement_of_a_vip_is_answered() {
    answered(&mut node(), &Arp::request(VIP, VIP));
}

/// packets.md ingress 180
#[test]
fn padding_is_kept() {
    let mut node = node();
    let mut request = Arp::request(REAL, VIP).build();
    request.extend([0xee; 18]);
    let outcome = node.run(Hook::Ingress, &request, Context::default());
    assert_eq!(outcome.verdict, TCX_REDIRECT);
    assert_eq!(outcome.frame.len(), request.len());
    assert_eq!(outcome.frame[42..], [0xee; 18]);
}

/// packets.md ingress 150: ARP request for another address | passes | –
#[test]
fn a_request_for_another_address_passes() {
    let mut node = node();
    for target in
        [REAL, STRANGER, ALIAS, Ipv4Addr::new(169, 254, 63, 255), Ipv4Addr::new(169, 254, 80, 0)].map(Ipv4Addr::from)
    {
        passes(&mut node, Hook::Ingress, &Arp::request(REAL, target).build());
    }
    answered(&mut node, &Arp::request(REAL, VIP));
}

/// packets.md ingress 160: ARP reply, also one that claims a VIP | passes | –
#[test]
fn a_reply_passes() {
    let mut node = node();
    for (sender, target) in [(REAL, VIP), (VIP, REAL), (VIP, VIP)] {
        let reply = Arp::request(sender, target).with(|a| {
            a.operation = 2;
            a.target.0 = SENDER_MAC;
        });
        passes(&mut node, Hook::Ingress, &reply.build());
    }
    answered(&mut node, &Arp::request(REAL, VIP));
}

/// packets.md ingress 170: ARP of other hardware, protocol, lengths or operation | passes | –
#[test]
fn odd_arp_passes() {
    let mut node = node();
    let odd: [fn(&mut Arp); 6] = [
        |a| a.hardware = 6,
        |a| a.protocol = 0x86dd,
        |a| a.hardware_len = 8,
        |a| a.protocol_len = 16,
        |a| a.operation = 3,
        |a| a.operation = 0x0100,
    ];
    for change in odd {
        passes(&mut node, Hook::Ingress, &Arp::request(REAL, VIP).with(change).build());
    }
    answered(&mut node, &Arp::request(REAL, VIP));
}

/// packets.md ingress 180: ARP cut at every byte; padded | passes; answered with its padding | –; `ArpAnswered`
#[test]
fn arp_cut_at_every_byte_passes() {
    let mut node = node();
    let whole = Arp::request(REAL, VIP);
    let bytes = whole.build();
    for len in 14..bytes.len() {
        passes(&mut node, Hook::Ingress, &bytes[..len]);
    }
    answered(&mut node, &whole);
}

/// packets.md ingress 690
#[test]
fn a_detached_workload_gets_no_answer() {
    let mut node = node();
    let request = Arp::request(REAL, VIP);
    for (scope, id) in [(SWITCH_ALL, 0), (SWITCH_WORKLOAD, WORKLOAD)] {
        answered(&mut node, &request);
        node.switch(scope, id, MODE_DETACH, 0);
        passes_counting(&mut node, Hook::Ingress, &request.build(), &[Counter::DetachedPassed]);
        node.unswitch(scope, id);
    }
    node.switch(SWITCH_WORKLOAD, WORKLOAD + 1, MODE_DETACH, 0);
    answered(&mut node, &request);
}
