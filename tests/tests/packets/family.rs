//! What a test needs of a family, so that one test is run for both: `families!` makes `ipv4::name` and `ipv6::name` of each
//! `fn name<F: Family>()`.

use std::{
    fmt::Debug,
    net::{Ipv4Addr, Ipv6Addr},
};

use brattice_abi::{Address, DropReason};
use brattice_tests::packets::{
    frame::{Frame, Payload},
    frame6::Frame6,
    node::{Node, config},
};

use crate::{
    ipv6::scene::{self as scene6, ALIAS6, DNS_VIP6, ENGINE6, LINK_LOCAL, REAL6, STRANGER6, VIP6},
    scene::{self, ACK, ALIAS, DNS_VIP, ENGINE, Packet, REAL, RST, STRANGER, SYN, TARGET_PORT, VIP, checksums_right},
};

/// One of the two.
pub(crate) trait Family {
    type Address: Copy + Debug + Into<Address>;
    type Frame: Packet + Debug;

    /// The workload's own address, its alias, a service, DNS, the engine's first source.
    const REAL: Self::Address;
    const ALIAS: Self::Address;
    const VIP: Self::Address;
    const DNS_VIP: Self::Address;
    const ENGINE: Self::Address;
    /// Bytes of a full segment of 1,500.
    const SEGMENT: u16;
    /// What becomes of UDP without a checksum.
    const UDP_WITHOUT_CHECKSUM: Option<DropReason>;

    /// The node with the workload and its target in this family.
    fn node() -> Node;
    /// All of the engine's sources.
    fn engine_sources() -> Vec<Self::Address>;
    /// Addresses of the VIP range, ends and near misses among them, from which the engine calls nobody.
    fn no_engine_sources() -> Vec<Self::Address>;
    /// Outside of the VIP range, its neighbours among them.
    fn no_vips() -> Vec<Self::Address>;
    /// What is nobody's alias.
    fn no_aliases() -> Vec<Self::Address>;
    /// Protocols that are neither TCP nor UDP.
    fn other_protocols() -> &'static [u8];

    fn tcp(source: (Self::Address, u16), destination: (Self::Address, u16), flags: u8, data: &[u8]) -> Self::Frame;
    fn udp(source: (Self::Address, u16), destination: (Self::Address, u16), data: &[u8]) -> Self::Frame;
    fn raw(source: Self::Address, destination: Self::Address, protocol: u8, data: &[u8]) -> Self::Frame;
    fn with_ethertype(frame: Self::Frame, ethertype: u16) -> Self::Frame;
    /// A UDP packet without its checksum.
    fn without_checksum(frame: Self::Frame) -> Self::Frame;
    /// With so many options of four bytes, where the family has them.
    fn with_options(frame: Self::Frame, count: usize) -> Self::Frame;
    /// Asserts that the checksums are right, by other code than the builder's.
    fn checksums_right(frame: &Self::Frame);

    /// A segment of the engine to a target.
    fn to_target(flags: u8) -> Self::Frame {
        Self::tcp((Self::ENGINE, 33000), (Self::ALIAS, TARGET_PORT), flags, b"hello")
    }
}

/// Flags of segments that begin nothing.
pub(crate) const ANSWERS: [u8; 6] = [ACK, ACK | 8, ACK | 1, RST, RST | ACK, SYN | ACK];

#[derive(Debug)]
pub(crate) struct V4;

impl Family for V4 {
    type Address = Ipv4Addr;
    type Frame = Frame;

    const REAL: Ipv4Addr = REAL;
    const ALIAS: Ipv4Addr = ALIAS;
    const VIP: Ipv4Addr = VIP;
    const DNS_VIP: Ipv4Addr = DNS_VIP;
    const ENGINE: Ipv4Addr = ENGINE;
    const SEGMENT: u16 = 1448;
    const UDP_WITHOUT_CHECKSUM: Option<DropReason> = None;

    fn node() -> Node {
        scene::node()
    }

    fn engine_sources() -> Vec<Ipv4Addr> {
        (1..=16).map(|last| Ipv4Addr::new(169, 254, 64, last)).collect()
    }

    fn no_engine_sources() -> Vec<Ipv4Addr> {
        vec![VIP, DNS_VIP, Ipv4Addr::new(169, 254, 64, 0), Ipv4Addr::new(169, 254, 79, 255)]
    }

    fn no_vips() -> Vec<Ipv4Addr> {
        let near = [Ipv4Addr::new(169, 254, 63, 255), Ipv4Addr::new(169, 254, 80, 0)];
        near.into_iter().chain([STRANGER, REAL, ALIAS, Ipv4Addr::LOCALHOST]).collect()
    }

    fn no_aliases() -> Vec<Ipv4Addr> {
        vec![Ipv4Addr::new(100, 127, 0, 3), STRANGER, REAL, VIP, Ipv4Addr::BROADCAST]
    }

    fn other_protocols() -> &'static [u8] {
        &[0, 1, 2, 47, 50, 132, 255]
    }

    fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: u8, data: &[u8]) -> Frame {
        Frame::tcp(source, destination, flags, data)
    }

    fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), data: &[u8]) -> Frame {
        Frame::udp(source, destination, data)
    }

    fn raw(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, data: &[u8]) -> Frame {
        Frame::raw(source, destination, protocol, data)
    }

    fn with_ethertype(frame: Frame, ethertype: u16) -> Frame {
        frame.with(|f| f.ethertype = ethertype)
    }

    fn without_checksum(frame: Frame) -> Frame {
        frame.with(|f| clear(&mut f.payload))
    }

    fn with_options(frame: Frame, count: usize) -> Frame {
        frame.with(|f| f.options = vec![1; count * 4])
    }

    fn checksums_right(frame: &Frame) {
        checksums_right(&frame.build());
    }
}

#[derive(Debug)]
pub(crate) struct V6;

/// First address of the VIP range.
fn net6() -> u128 {
    Ipv6Addr::from(config().vip_net6.0).to_bits()
}

impl Family for V6 {
    type Address = Ipv6Addr;
    type Frame = Frame6;

    const REAL: Ipv6Addr = REAL6;
    const ALIAS: Ipv6Addr = ALIAS6;
    const VIP: Ipv6Addr = VIP6;
    const DNS_VIP: Ipv6Addr = DNS_VIP6;
    const ENGINE: Ipv6Addr = ENGINE6;
    const SEGMENT: u16 = 1428;
    const UDP_WITHOUT_CHECKSUM: Option<DropReason> = Some(DropReason::Malformed);

    fn node() -> Node {
        scene6::node()
    }

    fn engine_sources() -> Vec<Ipv6Addr> {
        (0..16).map(|n| Ipv6Addr::from_bits(ENGINE6.to_bits() + n)).collect()
    }

    fn no_engine_sources() -> Vec<Ipv6Addr> {
        let net = net6();
        // The host's source; behind the engine's; the same last word in another place of the range.
        let near = [net, net + 17, net | 1 << 32 | 1, net | 1 << 63 | 1].map(Ipv6Addr::from_bits);
        near.into_iter().chain([VIP6, DNS_VIP6]).collect()
    }

    fn no_vips() -> Vec<Ipv6Addr> {
        let near = [net6() - 1, net6() + (1 << 64)].map(Ipv6Addr::from_bits);
        near.into_iter().chain([STRANGER6, REAL6, ALIAS6, LINK_LOCAL, Ipv6Addr::LOCALHOST]).collect()
    }

    fn no_aliases() -> Vec<Ipv6Addr> {
        vec![Ipv6Addr::from_bits(ALIAS6.to_bits() + 1), STRANGER6, REAL6, VIP6]
    }

    fn other_protocols() -> &'static [u8] {
        &[1, 41, 47, 50, 58, 59, 132, 255]
    }

    fn tcp(source: (Ipv6Addr, u16), destination: (Ipv6Addr, u16), flags: u8, data: &[u8]) -> Frame6 {
        Frame6::tcp(source, destination, flags, data)
    }

    fn udp(source: (Ipv6Addr, u16), destination: (Ipv6Addr, u16), data: &[u8]) -> Frame6 {
        Frame6::udp(source, destination, data)
    }

    fn raw(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, data: &[u8]) -> Frame6 {
        Frame6::raw(source, destination, protocol, data)
    }

    fn with_ethertype(frame: Frame6, ethertype: u16) -> Frame6 {
        frame.with(|f| f.ethertype = ethertype)
    }

    fn without_checksum(frame: Frame6) -> Frame6 {
        frame.with(|f| clear(&mut f.payload))
    }

    fn with_options(frame: Frame6, _: usize) -> Frame6 {
        frame
    }

    fn checksums_right(frame: &Frame6) {
        scene6::checksum_right(frame);
    }
}

fn clear(payload: &mut Payload) {
    if let Payload::Udp { checksum, .. } = payload {
        *checksum = false;
    }
}

/// Tests of both families.
macro_rules! families {
    ($($name:ident),+ $(,)?) => {
        mod ipv4 {
            $(#[test] fn $name() { super::$name::<crate::family::V4>(); })+
        }
        mod ipv6 {
            $(#[test] fn $name() { super::$name::<crate::family::V6>(); })+
        }
    };
}
pub(crate) use families;
