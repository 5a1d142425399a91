//! Fragments, in both directions: translated one by one, without state.

use brattice_abi::{Counter, DropReason};
use brattice_tests::packets::{
    frame::{Frame, Payload},
    node::{Context, Hook, Node, config},
};

use crate::{
    family::{Family, families},
    scene::*,
};

families!(
    each_of_a_udp_datagram_is_taken,
    each_of_a_tcp_segment_is_taken,
    a_later_one_alone_is_taken,
    a_later_one_with_a_spoofed_source_is_dropped,
    a_first_one_without_the_whole_tcp_header_is_dropped,
    a_later_one_that_reaches_into_the_tcp_header_is_dropped,
    each_to_a_workload_is_delivered,
    later_udp_ones_of_others_are_not_delivered,
);

/// What is fragmented.
pub(crate) fn data() -> Vec<u8> {
    (0..1000).map(|i| (i * 7 + 3) as u8).collect()
}

/// Every fragment is translated; together they are what the whole packet would have become.
#[track_caller]
pub(crate) fn all_taken(node: &mut Node, packet: &impl Packet, size: usize) {
    let expected = with_alias(packet).in_fragments(size);
    let sent = packet.in_fragments(size);
    assert!(sent.len() > 1, "not fragmented");
    for (fragment, expected) in sent.iter().zip(&expected) {
        takes_as(node, fragment, Context::default(), expected, &[Counter::FromWorkload]);
    }
}

/// packets.md ingress 460: fragments of UDP | each taken: address in all, checksum in the first | `FromWorkload`
fn each_of_a_udp_datagram_is_taken<F: Family>() {
    let mut node = F::node();
    let frame = F::udp((F::REAL, 9), (F::VIP, 80), &data());
    for size in [8, 16, 512, 1000] {
        all_taken(&mut node, &frame, size);
    }
    all_taken(&mut node, &F::with_options(frame, 10), 512);
}

/// packets.md ingress 480: fragments of TCP | each taken | `FromWorkload`
fn each_of_a_tcp_segment_is_taken<F: Family>() {
    let mut node = F::node();
    for size in [24, 32, 512] {
        all_taken(&mut node, &F::tcp((F::REAL, 9), (F::VIP, 80), ACK, &data()), size);
    }
}

/// Any order, any one alone: there is no state that could miss the first.
///
/// packets.md ingress 490: later fragment alone, any order | taken: no state | `FromWorkload`
fn a_later_one_alone_is_taken<F: Family>() {
    let mut node = F::node();
    let frame = F::udp((F::REAL, 9), (F::VIP, 80), &data());
    let (sent, expected) = (frame.in_fragments(256), with_alias(&frame).in_fragments(256));
    for i in (1..sent.len()).rev() {
        takes_as(&mut node, &sent[i], Context::default(), &expected[i], &[Counter::FromWorkload]);
    }
}

/// packets.md ingress 500: later fragment, spoofed source | dropped | `SpoofedSource`
fn a_later_one_with_a_spoofed_source_is_dropped<F: Family>() {
    let mut node = F::node();
    for fragment in F::udp((F::STRANGER, 9), (F::VIP, 80), &data()).in_fragments(256) {
        drops(&mut node, Hook::Ingress, &fragment, DropReason::SpoofedSource);
    }
    all_taken(&mut node, &F::udp((F::REAL, 9), (F::VIP, 80), &data()), 256);
}

/// RFC 1858: flags that the first fragment does not show cannot be judged.
///
/// packets.md ingress 510: first fragment without the whole TCP header (RFC 1858) | dropped | `Truncated`
fn a_first_one_without_the_whole_tcp_header_is_dropped<F: Family>() {
    let mut node = F::node();
    for size in [8, 16] {
        let fragments = F::tcp((F::REAL, 9), (F::VIP, 80), SYN, &data()).in_fragments(size);
        drops(&mut node, Hook::Ingress, &fragments[0], DropReason::Truncated);
    }
    all_taken(&mut node, &F::tcp((F::REAL, 9), (F::VIP, 80), SYN, &data()), 24);
}

/// RFC 3128: a later fragment must not replace flags that were judged.
///
/// packets.md ingress 520: TCP fragment at offset 8 or 16 (RFC 3128), either direction | dropped | `Malformed`
fn a_later_one_that_reaches_into_the_tcp_header_is_dropped<F: Family>() {
    let mut node = F::node();
    let sent = |protocol, offset| F::as_fragment(F::raw(F::REAL, F::VIP, protocol, &[0; 64]), offset);
    let answered = |offset| F::as_fragment(F::raw(F::ENGINE, F::ALIAS, TCP, &[0; 64]), offset);
    for offset in [1, 2] {
        drops(&mut node, Hook::Ingress, &sent(TCP, offset).bytes(), DropReason::Malformed);
        drops(&mut node, Hook::Egress, &answered(offset).bytes(), DropReason::Malformed);
    }
    takes(&mut node, &sent(TCP, 3));
    delivers(&mut node, &answered(3));
    // UDP has 8 bytes of header: every later offset lies behind it.
    takes(&mut node, &sent(UDP, 1));
}

/// packets.md egress 190: fragments | each delivered, stateless | `ToWorkload`
fn each_to_a_workload_is_delivered<F: Family>() {
    let mut node = F::node();
    node.add_target(F::ALIAS, 9, UDP);
    for frame in [
        F::tcp((F::ENGINE, 33000), (F::ALIAS, TARGET_PORT), ACK, &data()),
        F::udp((F::ENGINE, 33000), (F::ALIAS, 9), &data()),
    ] {
        for (fragment, expected) in frame.in_fragments(256).iter().zip(with_real(&frame).in_fragments(256)) {
            delivers_as(&mut node, fragment, Context::default(), &expected);
        }
    }
}

/// A later fragment shows no port; that it is UDP of the engine is asked all the same.
///
/// packets.md egress 200: later UDP fragment of another user | dropped | `NotEngine`
fn later_udp_ones_of_others_are_not_delivered<F: Family>() {
    let mut node = F::node();
    node.add_target(F::ALIAS, 9, UDP);
    let frame = F::udp((F::ENGINE, 33000), (F::ALIAS, 9), &data());
    let mut other = config();
    other.engine_uid = 4242;
    node.configure(other);
    for fragment in &frame.in_fragments(256) {
        drops(&mut node, Hook::Egress, fragment, DropReason::NotEngine);
    }
    node.configure(config());
    delivers(&mut node, &frame);
}

/// packets.md ingress 470: fragments of UDP without checksum | each taken, 0 stays | `FromWorkload`
#[test]
fn each_of_a_udp_datagram_without_checksum_is_taken() {
    let mut node = node();
    let frame = Frame::udp((REAL, 9), (VIP, 80), &data()).with(|f| {
        if let Payload::Udp { checksum, .. } = &mut f.payload {
            *checksum = false;
        }
    });
    all_taken(&mut node, &frame, 256);
}
