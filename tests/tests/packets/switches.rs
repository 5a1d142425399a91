//! `brattice detach` and `bypass`, and when they end.

use brattice_abi::{
    Counter, DropReason, MODE_BYPASS, MODE_DETACH, SWITCH_ALL, SWITCH_SERVICE, SWITCH_WORKLOAD, WORKLOAD_INTERCEPT_DNS,
};
use brattice_tests::packets::{
    frame::Frame,
    node::{Hook, IFINDEX, Node, boot_time},
};

use crate::scene::*;

fn attached(node: &mut Node) {
    takes(node, &to_vip(ACK));
    delivers(node, &to_target(ACK));
}

fn detached(node: &mut Node) {
    for frame in [
        to_vip(ACK),
        to_vip(SYN),
        Frame::udp((REAL, 1), (VIP, 1), b""),
        Frame::raw(REAL, VIP, 1, &[8, 0, 0, 0]),
        Frame::tcp((REAL, 1), (ALIAS, 1), SYN, b""),
        to_vip(ACK).with(|f| f.ihl = Some(3)),
    ] {
        passes_counting(node, Hook::Ingress, &frame.build(), &[Counter::DetachedPassed]);
    }
    drops(node, Hook::Egress, &to_target(ACK).build(), DropReason::Detached);
    drops(node, Hook::Egress, &to_target(SYN).build(), DropReason::Detached);
    passes(node, Hook::Ingress, &Frame::udp((REAL, 1), (STRANGER, 1), b"").build());
}

/// packets.md ingress 690: anything of ours while the workload, or all, is detached | passes; the node's stack refuses
///   its calls to VIPs; no ARP answers | `DetachedPassed`
/// packets.md egress 80: workload, or all, detached | dropped | `Detached`
#[test]
fn a_detached_workload_is_left_alone() {
    let mut node = node();
    attached(&mut node);
    node.switch(SWITCH_WORKLOAD, WORKLOAD, MODE_DETACH, 0);
    detached(&mut node);
    node.unswitch(SWITCH_WORKLOAD, WORKLOAD);
    attached(&mut node);
}

/// packets.md ingress 690
/// packets.md egress 80
#[test]
fn everything_is_detached() {
    let mut node = node();
    attached(&mut node);
    node.switch(SWITCH_ALL, 0, MODE_DETACH, 0);
    detached(&mut node);
    node.unswitch(SWITCH_ALL, 0);
    attached(&mut node);
}

#[test]
fn other_switches_change_nothing_here() {
    let mut node = node();
    node.switch(SWITCH_WORKLOAD, WORKLOAD + 1, MODE_DETACH, 0);
    node.switch(SWITCH_SERVICE, WORKLOAD, MODE_DETACH, 0);
    node.switch(SWITCH_WORKLOAD, WORKLOAD, MODE_BYPASS, 0);
    node.switch(SWITCH_ALL, 0, MODE_BYPASS, 0);
    attached(&mut node);
}

/// `--for 15m`: ends by itself.
///
/// packets.md ingress 700: the time of a switch is over | as if it were not there | –
#[test]
fn a_switch_ends_by_itself() {
    let mut node = node();
    let now = boot_time().as_nanos() as u64;
    for (scope, id) in [(SWITCH_ALL, 0), (SWITCH_WORKLOAD, WORKLOAD)] {
        node.switch(scope, id, MODE_DETACH, now + 3_600_000_000_000);
        detached(&mut node);
        node.switch(scope, id, MODE_DETACH, now - 1);
        attached(&mut node);
        node.unswitch(scope, id);
    }
}

/// Detached means that DNS goes where it went before, too.
#[test]
fn a_detached_workload_asks_its_own_resolver() {
    let mut node = node();
    node.add_workload(IFINDEX, REAL, ALIAS, WORKLOAD, WORKLOAD_INTERCEPT_DNS);
    node.switch(SWITCH_WORKLOAD, WORKLOAD, MODE_DETACH, 0);
    let question = Frame::udp((REAL, 1234), (STRANGER, 53), b"\x01\x02question").build();
    passes_counting(&mut node, Hook::Ingress, &question, &[Counter::DetachedPassed]);
    node.unswitch(SWITCH_WORKLOAD, WORKLOAD);
    assert_eq!(node.run(Hook::Ingress, &question, Default::default()).verdict, 7);
}
