//! What is not ours stays as it came.

use brattice_tests::packets::{
    corpus,
    frame::Frame,
    node::{Hook, TCX_NEXT},
};

use crate::scene::*;

/// 2,000 packets of all kinds that are not ours: same bytes, `TCX_NEXT`, nothing counted.
///
/// packets.md ingress 60: 2,000 foreign packets (cut, malformed, fragments, noise, near our ranges) | pass | –
#[test]
fn two_thousand_foreign_packets_pass_untouched() {
    let mut node = node();
    let corpus = corpus::foreign(corpus::SEED, 2000);
    assert_eq!(corpus.len(), 2000);
    let mut run = 0;
    for (i, frame) in corpus.iter().enumerate() {
        // BPF_PROG_TEST_RUN builds no IP packet with less than its fixed header; `listener` sends such over a veth.
        let Some(outcome) = node.try_run(Hook::Ingress, frame) else {
            assert!(frame.len() < 14 + 40, "the kernel refused packet {i}: {frame:02x?}");
            continue;
        };
        run += 1;
        assert_eq!(outcome.verdict as i32, TCX_NEXT as i32, "packet {i}: {frame:02x?}");
        assert!(outcome.frame == *frame, "packet {i} was changed: {frame:02x?}\n{:02x?}", outcome.frame);
    }
    assert!(run > 1900, "only {run} of 2000 packets were run");
    assert_eq!(node.all_counted(), [], "something was counted");
    // The same node does take what is ours.
    takes(&mut node, &to_vip(SYN));
}

/// packets.md ingress 10: IPv6 between others, other ethertypes | passes | –
#[test]
fn ipv6_passes() {
    let mut node = node();
    let mut v6 = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64];
    v6.extend([0xfd; 32]);
    v6.extend([0; 20]);
    passes(&mut node, Hook::Ingress, &v6);
    // An IPv4 packet to a VIP that says it is IPv6 is not ours either.
    passes(&mut node, Hook::Ingress, &to_vip(SYN).with(|f| f.ethertype = 0x86dd).build());
    takes(&mut node, &to_vip(SYN));
}

/// A tag is another network than the one the workload is known by.
///
/// packets.md ingress 30: VLAN-tagged, whatever is inside | passes: a tag is another network than the one the workload
///   is known by | –
#[test]
fn vlan_passes() {
    let mut node = node();
    let plain = to_vip(SYN).build();
    for tag in [[0x81, 0x00], [0x88, 0xa8]] {
        let mut tagged = plain[..12].to_vec();
        tagged.extend(tag);
        tagged.extend([0, 5]);
        tagged.extend(&plain[12..]);
        passes(&mut node, Hook::Ingress, &tagged);
    }
    takes(&mut node, &to_vip(SYN));
}

/// packets.md ingress 10
#[test]
fn other_ethertypes_pass() {
    let mut node = node();
    for ethertype in [0x0801, 0x0807, 0x8035, 0x8847, 0x88cc, 0x8863, 0x9000, 0x0040, 0xffff] {
        passes(&mut node, Hook::Ingress, &to_vip(SYN).with(|f| f.ethertype = ethertype).build());
    }
    takes(&mut node, &to_vip(SYN));
}

/// Tunnels carry addresses of ours inside; only the outer header counts.
///
/// packets.md ingress 70: our addresses inside a tunnel | passes: only the outer header counts | –
#[test]
fn our_addresses_inside_a_tunnel_pass() {
    let mut node = node();
    let inner = to_vip(SYN).build()[14..].to_vec();
    passes(&mut node, Hook::Ingress, &Frame::raw(REAL, STRANGER, 4, &inner).build());
    let vxlan = Frame::udp((REAL, 4789), (STRANGER, 4789), &to_vip(SYN).build());
    passes(&mut node, Hook::Ingress, &vxlan.build());
}
