//! VLAN tags of id 0 only give a priority, and the stack looks behind them: so do we.

use std::collections::BTreeMap;

use brattice_abi::{Counter, DropReason, MAX_TAGS, WORKLOAD_INTERCEPT_DNS};
use brattice_tests::packets::{
    frame::{Arp, Frame},
    frame6::{Frame6, Neighbour},
    node::{Context, Hook, IFINDEX, Node, Outcome, TCX_DROP, TCX_NEXT, TCX_REDIRECT},
};

use crate::{
    ipv6::scene::{ALIAS6, REAL6, STRANGER6, VIP6},
    scene::*,
    world::{in_world, mac},
};

const Q: u16 = 0x8100;
const AD: u16 = 0x88a8;

/// A frame with tags, the outermost first: ethertype, and id with priority.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut all = frame[..12].to_vec();
    for (ethertype, control) in tags {
        all.extend(ethertype.to_be_bytes());
        all.extend(control.to_be_bytes());
    }
    all.extend(&frame[12..]);
    all
}

/// All tags with id 0: both ethertypes, with and without priority, one to as many as are looked behind.
fn stacks() -> Vec<Vec<(u16, u16)>> {
    let mut all =
        vec![vec![(Q, 0)], vec![(AD, 0)], vec![(Q, 0xe000)], vec![(AD, 0x7000), (Q, 0)], vec![(Q, 0), (AD, 0xf000)]];
    for length in 3..=MAX_TAGS {
        all.push((0..length).map(|n| (if n % 2 == 0 { Q } else { AD }, (n as u16) << 13)).collect());
    }
    all
}

fn dual() -> Node {
    let mut node = node();
    node.add_workload(IFINDEX, REAL, ALIAS, WORKLOAD, WORKLOAD_INTERCEPT_DNS);
    node.add_workload(IFINDEX, REAL6, ALIAS6, WORKLOAD, 0);
    node
}

/// What happens to a frame, and what is counted.
fn fate(node: &mut Node, frame: &[u8]) -> (Outcome, Vec<(&'static str, u64)>) {
    let before: BTreeMap<_, _> = node.all_counted().into_iter().collect();
    let outcome = node.run(Hook::Ingress, frame, Context::default());
    let more = |(name, count)| (name, count - before.get(name).copied().unwrap_or(0));
    let counted = node.all_counted().into_iter().map(more).filter(|(_, count)| *count > 0).collect();
    (outcome, counted)
}

/// Whatever is taken, answered or dropped without tags is so behind them.
///
/// packets.md ingress 40: … all tags of VLAN id 0 (they only give a priority; every stack takes them off), one to six,
///   802.1Q or 802.1ad | looked at as what it becomes without them, as in all rows here; what passes keeps its tags |
///   as without
#[test]
fn priority_tags_hide_nothing() {
    let from = |source| to_vip(SYN).with(|f| f.source = source).build();
    let from6 = |source, destination| Frame6::tcp((source, 40001), (destination, 80), SYN, b"").build();
    let frames: Vec<(&str, Vec<u8>, u32)> = vec![
        ("to a VIP", to_vip(SYN).build(), TCX_REDIRECT),
        ("UDP to a VIP", Frame::udp((REAL, 9), (VIP, 80), b"x").build(), TCX_REDIRECT),
        ("to another resolver", Frame::udp((REAL, 9), (STRANGER, 53), b"\0\x07x").build(), TCX_REDIRECT),
        ("from nobody", from(STRANGER), TCX_DROP),
        ("from a VIP", Frame::udp((DNS_VIP, 53), (STRANGER, 9), b"lie").build(), TCX_DROP),
        ("RST from a VIP", Frame::tcp((VIP, 80), ([10, 0, 0, 11].into(), 9), RST, b"").build(), TCX_DROP),
        ("from an alias", from(ALIAS), TCX_DROP),
        ("to an alias", Frame::tcp((REAL, 9), (ALIAS, 80), SYN, b"").build(), TCX_DROP),
        ("ICMP to a VIP", Frame::raw(REAL, VIP, 1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]).build(), TCX_DROP),
        ("ARP for a VIP", Arp::request(REAL, VIP).build(), TCX_REDIRECT),
        ("IPv6 to a VIP", from6(REAL6, VIP6), TCX_REDIRECT),
        ("IPv6 from nobody", from6(STRANGER6, VIP6), TCX_DROP),
        ("IPv6 from a VIP", from6(VIP6, STRANGER6), TCX_DROP),
        ("IPv6 from an alias", from6(ALIAS6, VIP6), TCX_DROP),
        ("NDP for a VIP", Neighbour::solicitation(REAL6, VIP6).build(), TCX_REDIRECT),
    ];
    let node = &mut dual();
    for (what, frame, verdict) in &frames {
        let plain = fate(node, frame);
        assert_eq!(plain.0.verdict, *verdict, "{what}: control");
        for tags in stacks() {
            assert!(fate(node, &tagged(frame, &tags)) == plain, "{what} behind {tags:04x?}");
            // Behind a tag of another VLAN, wherever it stands, it is another network's.
            for at in 0..=tags.len() {
                let mut tags = tags.clone();
                tags.insert(at, (Q, 5));
                if tags.len() as u32 > MAX_TAGS {
                    continue;
                }
                let (outcome, counted) = fate(node, &tagged(frame, &tags));
                assert_eq!((outcome.verdict as i32, counted), (TCX_NEXT as i32, vec![]), "{what} behind {tags:04x?}");
            }
        }
    }
}

/// What is not ours goes on with all its tags.
///
/// packets.md ingress 40
#[test]
fn foreign_frames_keep_their_tags() {
    let foreign = [
        Frame::udp((REAL, 9), (STRANGER, 80), b"x").build(),
        Arp::request(REAL, STRANGER).build(),
        to_vip(SYN).with(|f| f.ethertype = 0x88cc).build(),
        Frame6::tcp((REAL6, 9), (STRANGER6, 80), SYN, b"").build(),
    ];
    let node = &mut dual();
    for frame in foreign {
        for tags in stacks() {
            let (outcome, counted) = fate(node, &tagged(&frame, &tags));
            assert_eq!((outcome.verdict as i32, counted), (TCX_NEXT as i32, vec![]));
            // The kernel takes the first tag off before our program sees a frame, and keeps it aside. BPF_PROG_TEST_RUN does
            // not, and shows nothing of what is kept aside.
            assert!(outcome.frame == tagged(&frame, &tags[1..]), "{tags:04x?}: {:02x?}", outcome.frame);
        }
    }
}

/// packets.md ingress 50: … more than six of them | dropped, also what is not ours: what is behind is not known |
///   `TooManyTags`
#[test]
fn more_tags_than_are_looked_behind_are_dropped() {
    let mut node = dual();
    let tags = vec![(Q, 0); MAX_TAGS as usize + 1];
    for frame in [to_vip(SYN).build(), Frame::udp((REAL, 9), (STRANGER, 80), b"x").build()] {
        let before = node.dropped(DropReason::TooManyTags);
        let outcome = node.run(Hook::Ingress, &tagged(&frame, &tags), Context::default());
        assert_eq!(outcome.verdict, TCX_DROP);
        assert_eq!(node.dropped(DropReason::TooManyTags), before + 1);
        let outcome = node.run(Hook::Ingress, &tagged(&frame, &tags[1..]), Context::default());
        assert_ne!(outcome.verdict, TCX_DROP, "control: one less");
    }
}

/// Over a real link, where the kernel takes the first tag off by itself: TCX here, clsact on 6.1.
///
/// packets.md ingress 40
#[test]
fn tagged_frames_of_a_real_link_are_served() {
    in_world(|world| {
        let w0 = mac("w0");
        let plain = Frame::tcp((REAL, 40000), (VIP, 80), SYN, b"").with(|f| f.to = w0).build();
        let lie = Frame::tcp((VIP, 80), (REAL, 40000), RST, b"").with(|f| f.to = w0).build();
        for (n, tags) in (1..).zip(stacks()) {
            let (frame, forged) = (tagged(&plain, &tags), tagged(&lie, &tags));
            world.workload(move || {
                crate::frames::send_frame("eth0", &frame);
                crate::frames::send_frame("eth0", &forged);
            });
            assert_eq!(world.node.counted(Counter::FromWorkload), n, "{tags:04x?}");
            assert_eq!(world.node.dropped(DropReason::FromReserved), n, "{tags:04x?}");
        }
    });
}
