//! The node that most tests use, and what they assert.

use std::net::{Ipv4Addr, Ipv6Addr};

use brattice_abi::{Counter, DropReason, VIRTUAL_MAC};
use brattice_tests::packets::{
    checksums,
    frame::{Frame, Payload},
    frame6::Frame6,
    node::{BRATTICE0_MAC, Context, Hook, IFINDEX, Node, TCX_DROP, TCX_NEXT, TCX_REDIRECT, WORKLOAD_MAC},
};

use crate::ipv6::scene::{ALIAS6, REAL6};

/// The workload's own address.
pub(crate) const REAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// Its alias.
pub(crate) const ALIAS: Ipv4Addr = Ipv4Addr::new(100, 127, 0, 2);
/// Its number.
pub(crate) const WORKLOAD: u32 = 5;
/// A service.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(169, 254, 64, 32);
/// Where DNS is answered.
pub(crate) const DNS_VIP: Ipv4Addr = Ipv4Addr::new(169, 254, 64, 17);
/// The engine's first source address.
pub(crate) const ENGINE: Ipv4Addr = Ipv4Addr::new(169, 254, 64, 1);
/// An address of no workload.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// Port of the registered target.
pub(crate) const TARGET_PORT: u16 = 8080;

pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// One workload, which is also a target; DNS on its VIP.
pub(crate) fn node() -> Node {
    let mut node = Node::new();
    node.add_workload(IFINDEX, REAL, ALIAS, WORKLOAD, 0);
    node.add_target(ALIAS, TARGET_PORT, TCP);
    node.add_dns_listener(DNS_VIP, UDP);
    node.add_dns_listener(DNS_VIP, TCP);
    node
}

/// A segment of the workload to a service.
pub(crate) fn to_vip(flags: u8) -> Frame {
    Frame::tcp((REAL, 40001), (VIP, 80), flags, b"GET / HTTP/1.1\r\n\r\n")
}

/// A segment of the engine to a target.
pub(crate) fn to_target(flags: u8) -> Frame {
    Frame::tcp((ENGINE, 33000), (ALIAS, TARGET_PORT), flags, b"hello")
}

/// What is counted, before and after.
fn counts(node: &Node) -> Vec<u64> {
    DropReason::ALL.iter().map(|r| node.dropped(*r)).chain(Counter::ALL.iter().map(|c| node.counted(*c))).collect()
}

/// `hook`'s program redirects `frame` as exactly `expected`, and counts this alone.
#[track_caller]
pub(crate) fn becomes(node: &mut Node, hook: Hook, frame: &[u8], context: Context, expected: &[u8], counter: Counter) {
    let before = counts(node);
    let outcome = node.run(hook, frame, context);
    assert_eq!(outcome.verdict, TCX_REDIRECT, "verdict on {frame:02x?}; {:?}", node.all_counted());
    assert!(outcome.frame == expected, "got {:02x?}\nexpected {expected:02x?}", outcome.frame);
    only_counted(node, &before, &[], &[counter], "redirected");
}

/// Asserts that exactly these counters went up by one since `before`.
fn only_counted(node: &Node, before: &[u64], drops: &[DropReason], counters: &[Counter], what: &str) {
    let mut expected = before.to_vec();
    for reason in drops {
        expected[*reason as usize] += 1;
    }
    for counter in counters {
        expected[DropReason::ALL.len() + *counter as usize] += 1;
    }
    assert!(counts(node) == expected, "{what}: other counters than {drops:?} {counters:?}: {:?}", node.all_counted());
}

/// The program leaves the frame alone, and counts no more than `counters`.
#[track_caller]
pub(crate) fn passes_counting(node: &mut Node, hook: Hook, frame: &[u8], counters: &[Counter]) {
    let before = counts(node);
    let outcome = node.run(hook, frame, Context::default());
    assert_eq!(outcome.verdict as i32, TCX_NEXT as i32, "verdict on {frame:02x?}");
    assert!(outcome.frame == frame, "changed: {frame:02x?}\n     to: {:02x?}", outcome.frame);
    only_counted(node, &before, &[], counters, "passed");
    assert!(node.events().is_empty(), "an event without a drop");
}

/// The program leaves the frame alone and counts nothing.
#[track_caller]
pub(crate) fn passes(node: &mut Node, hook: Hook, frame: &[u8]) {
    passes_counting(node, hook, frame, &[]);
}

/// The program drops the frame for this reason alone, leaves its bytes alone, and says so in one event.
#[track_caller]
pub(crate) fn drops_with(node: &mut Node, hook: Hook, frame: &[u8], context: Context, reason: DropReason) {
    let before = counts(node);
    node.events();
    let outcome = node.run(hook, frame, context);
    assert_eq!(outcome.verdict, TCX_DROP, "verdict, {reason:?} expected, on {frame:02x?}; {:?}", node.all_counted());
    assert!(outcome.frame == frame, "a packet was changed before it was dropped");
    only_counted(node, &before, &[reason], &[], "dropped");
    if before[reason as usize] < brattice_abi::EVENT_BURST {
        let events = node.events();
        assert_eq!(events.len(), 1, "events of one drop");
        let program = match hook {
            Hook::Ingress => 1,
            Hook::Egress => 2,
        };
        assert_eq!((events[0].reason, events[0].program), (reason.index(), program), "{:?}", events[0]);
        let ifindex = if context.ifindex == 0 { IFINDEX } else { context.ifindex };
        assert_eq!(events[0].ifindex, ifindex, "interface in the event");
        if frame[12..14] == [0x86, 0xdd] && frame.len() >= 54 {
            assert_eq!(events[0].source.0, frame[22..38], "source in the event");
            assert_eq!(events[0].destination.0, frame[38..54], "destination in the event");
        }
        if frame[12..14] == [8, 0] && frame.len() >= 34 {
            assert_eq!(events[0].source.v4_octets(), frame[26..30], "source in the event");
            assert_eq!(events[0].destination.v4_octets(), frame[30..34], "destination in the event");
            assert_eq!(events[0].protocol, frame[23], "protocol in the event");
        }
    }
}

/// [`drops_with`] for a packet of this host.
#[track_caller]
pub(crate) fn drops(node: &mut Node, hook: Hook, frame: &[u8], reason: DropReason) {
    drops_with(node, hook, frame, Context::default(), reason);
}

/// `workload_ingress` takes `frame` and makes of it exactly `expected`.
#[track_caller]
pub(crate) fn takes_as(node: &mut Node, frame: &[u8], context: Context, expected: &[u8], counters: &[Counter]) {
    let before = counts(node);
    let outcome = node.run(Hook::Ingress, frame, context);
    assert_eq!(outcome.verdict, TCX_REDIRECT, "verdict on {frame:02x?}; {:?}", node.all_counted());
    assert!(outcome.frame == expected, "got {:02x?}\nexpected {expected:02x?}", outcome.frame);
    only_counted(node, &before, &[], counters, "taken");
}

/// What a test may change of a packet of either family.
pub(crate) struct Parts<'a, A> {
    /// Destination MAC.
    pub(crate) to: &'a mut [u8; 6],
    /// Source MAC.
    pub(crate) from: &'a mut [u8; 6],
    pub(crate) version: &'a mut u8,
    pub(crate) source: &'a mut A,
    pub(crate) destination: &'a mut A,
    pub(crate) payload: &'a mut Payload,
    /// Added to the TCP or UDP checksum.
    pub(crate) l4_checksum_error: &'a mut u16,
    /// Bytes behind the packet.
    pub(crate) padding: &'a mut usize,
}

/// A packet of one of the families.
pub(crate) trait Packet: Clone {
    type Address: Copy;

    /// The workload's alias, and its own address.
    const ALIAS: Self::Address;
    const REAL: Self::Address;

    /// Its bytes.
    fn bytes(&self) -> Vec<u8>;
    /// In fragments of this many bytes.
    fn in_fragments(&self, size: usize) -> Vec<Vec<u8>>;
    fn parts(&mut self) -> Parts<'_, Self::Address>;

    /// With something changed.
    fn changed(mut self, change: impl FnOnce(Parts<'_, Self::Address>)) -> Self {
        change(self.parts());
        self
    }

    /// What `workload_ingress` is to make of it: built anew, so checksums are computed from scratch.
    fn with_alias(&self) -> Self {
        self.clone().changed(|p| {
            *p.source = Self::ALIAS;
            *p.to = BRATTICE0_MAC;
        })
    }

    /// What `workload_egress` is to make of it.
    fn with_real(&self) -> Self {
        self.clone().changed(|p| {
            *p.destination = Self::REAL;
            (*p.to, *p.from) = (WORKLOAD_MAC, VIRTUAL_MAC);
        })
    }
}

/// The builders of both families have the same fields and methods, but no type in common.
macro_rules! packet {
    ($frame:ty, $address:ty, $alias:expr, $real:expr) => {
        impl Packet for $frame {
            type Address = $address;

            const ALIAS: $address = $alias;
            const REAL: $address = $real;

            fn bytes(&self) -> Vec<u8> {
                self.build()
            }

            fn in_fragments(&self, size: usize) -> Vec<Vec<u8>> {
                self.fragments(size)
            }

            fn parts(&mut self) -> Parts<'_, $address> {
                Parts {
                    to: &mut self.to,
                    from: &mut self.from,
                    version: &mut self.version,
                    source: &mut self.source,
                    destination: &mut self.destination,
                    payload: &mut self.payload,
                    l4_checksum_error: &mut self.l4_checksum_error,
                    padding: &mut self.padding,
                }
            }
        }
    };
}
packet!(Frame, Ipv4Addr, ALIAS, REAL);
packet!(Frame6, Ipv6Addr, ALIAS6, REAL6);

/// See [`Packet::with_alias`].
pub(crate) fn with_alias<P: Packet>(packet: &P) -> P {
    packet.with_alias()
}

/// See [`Packet::with_real`].
pub(crate) fn with_real<P: Packet>(packet: &P) -> P {
    packet.with_real()
}

/// `workload_ingress` takes the packet: source → alias, MAC of `brattice0`, nothing else; checksums as computed anew.
#[track_caller]
pub(crate) fn takes(node: &mut Node, packet: &impl Packet) {
    let expected = packet.with_alias().bytes();
    takes_as(node, &packet.bytes(), Context::default(), &expected, &[Counter::FromWorkload]);
}

/// Asserts that both checksums of a frame are right, by other code than the builder's.
#[track_caller]
pub(crate) fn checksums_right(frame: &[u8]) {
    assert!(checksums::ip_is_right(frame), "IP checksum of {frame:02x?}");
    assert_ne!(checksums::l4_is_right(frame), Some(false), "TCP or UDP checksum of {frame:02x?}");
}

/// `workload_egress` delivers `frame` as exactly `expected`.
#[track_caller]
pub(crate) fn delivers_as(node: &mut Node, frame: &[u8], context: Context, expected: &[u8]) {
    let before = counts(node);
    let outcome = node.run(Hook::Egress, frame, context);
    assert_eq!(outcome.verdict, TCX_REDIRECT, "verdict on {frame:02x?}; {:?}", node.all_counted());
    assert!(outcome.frame == expected, "got {:02x?}\nexpected {expected:02x?}", outcome.frame);
    only_counted(node, &before, &[], &[Counter::ToWorkload], "delivered");
}

/// `workload_egress` delivers the packet: alias → real address, MACs, nothing else.
#[track_caller]
pub(crate) fn delivers(node: &mut Node, packet: &impl Packet) {
    let expected = packet.with_real().bytes();
    delivers_as(node, &packet.bytes(), Context::default(), &expected);
}
