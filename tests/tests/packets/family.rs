//! What a test needs of a family, so that one test is run for both: `families!` makes `ipv4::name` and `ipv6::name` of each
//! `fn name<F: Family>()`.

use std::{
    fmt::Debug,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use brattice_abi::{Address, Counter, DropReason, SLOT_DNS_UDP, SLOT_DNS_UDP6};
use brattice_tests::packets::{
    checksums,
    frame::{Frame, Payload},
    frame6::{Extension, Frame6},
    node::{Node, config},
};
use socket2::{Domain, Socket, Type};

use crate::{
    ipv6::scene::{self as scene6, ALIAS6, DNS_VIP6, ENGINE6, LINK_LOCAL, REAL6, STRANGER6, VIP6},
    scene::{self, ACK, ALIAS, DNS_VIP, ENGINE, Packet, REAL, RST, STRANGER, SYN, TARGET_PORT, VIP, checksums_right},
    world::{NODE, NODE6, World, stack_counter, stack_counter6},
};

/// One of the two.
pub(crate) trait Family {
    type Address: Copy + Debug + Into<Address> + Into<IpAddr> + Send + 'static;
    type Frame: Packet<Address = Self::Address> + Debug;

    /// The workload's own address, its alias, a service, DNS, the engine's first source.
    const REAL: Self::Address;
    const ALIAS: Self::Address;
    const VIP: Self::Address;
    const DNS_VIP: Self::Address;
    const ENGINE: Self::Address;
    /// An address of no workload; another workload's alias; all hosts of a network.
    const STRANGER: Self::Address;
    const OTHER_ALIAS: Self::Address;
    /// Own address and alias of a second workload.
    const NEIGHBOUR: (Self::Address, Self::Address);
    /// Two resolvers outside of the node.
    const RESOLVERS: [Self::Address; 2];
    const MULTICAST: Self::Address;
    /// Version, and bytes of a frame up to the end of the fixed IP header: what must be there before anything is known.
    const VERSION: u8;
    const FIXED: usize;
    /// The family's ICMP, and its echo request.
    const ICMP: u8;
    const ECHO: u8;
    /// The node's own address, and the wildcard.
    const NODE: Self::Address;
    const UNSPECIFIED: Self::Address;
    /// The engine's UDP socket for DNS.
    const SLOT_DNS_UDP: u32;
    /// Counts that the workload was given the MAC of a VIP.
    const MAC_OF_VIP: Counter;
    /// What is wrong with a length field of 0 where there is no GSO.
    const LENGTH_0: DropReason;
    /// A length field that contradicts a short packet, so that the packet is malformed.
    const MALFORMED_LENGTH: u16;
    /// Bytes of a full segment of 1,500.
    const SEGMENT: u16;
    /// What happens to UDP without a checksum.
    const UDP_WITHOUT_CHECKSUM: Option<DropReason>;

    /// The node with the workload and its target in this family.
    fn node() -> Node;
    /// Gives a world the family, where it is not there from the start.
    fn add_to(world: &mut World);
    /// A socket bound to an address that a `local` route makes the node's; shared with others of its port, or alone.
    fn bound(kind: Type, address: SocketAddr, shared: bool) -> Socket;
    /// How many packets the calling thread's stack refused for a header that is not whole.
    fn headers_refused() -> u64;
    /// All of the engine's sources.
    fn engine_sources() -> Vec<Self::Address>;
    /// Addresses of the VIP range, ends and near misses among them, from which the engine does not call.
    fn no_engine_sources() -> Vec<Self::Address>;
    /// Outside of the VIP range, its neighbours among them.
    fn no_vips() -> Vec<Self::Address>;
    /// An address that is no workload's alias.
    fn no_aliases() -> Vec<Self::Address>;
    /// Both ends of the VIP range, and what lies within.
    fn vips() -> Vec<Self::Address>;
    /// Both ends of the alias range.
    fn aliases() -> Vec<Self::Address>;
    /// Neighbours of both ranges, and other addresses in neither.
    fn neighbours() -> Vec<Self::Address>;
    /// Sources that are not the workload's.
    fn spoofed() -> Vec<Self::Address>;
    /// Protocols that are neither TCP nor UDP.
    fn other_protocols() -> &'static [u8];
    /// Whether this number is that of an extension header.
    fn is_extension(protocol: u8) -> bool;

    fn tcp(source: (Self::Address, u16), destination: (Self::Address, u16), flags: u8, data: &[u8]) -> Self::Frame;
    fn udp(source: (Self::Address, u16), destination: (Self::Address, u16), data: &[u8]) -> Self::Frame;
    fn raw(source: Self::Address, destination: Self::Address, protocol: u8, data: &[u8]) -> Self::Frame;
    fn with_ethertype(frame: Self::Frame, ethertype: u16) -> Self::Frame;
    /// A UDP packet without its checksum.
    fn without_checksum(frame: Self::Frame) -> Self::Frame;
    /// With this many options of four bytes, where the family has them.
    fn with_options(frame: Self::Frame, count: usize) -> Self::Frame;
    /// With options or extension headers; and how many bytes they have.
    fn lengthened(frame: Self::Frame) -> (Self::Frame, usize);
    /// With a length field of the IP header that says so.
    fn with_length(frame: Self::Frame, length: u16) -> Self::Frame;
    /// As the last fragment at this many times 8 bytes.
    fn as_fragment(frame: Self::Frame, offset: u16) -> Self::Frame;
    /// Asserts that the checksums are right, by other code than the builder's.
    fn checksums_right(frame: &Self::Frame);
    /// Whether the IP header's checksum is right, if there is one; and that of TCP or UDP behind a fixed header.
    fn are_right(frame: &[u8], protocol: u8) -> (bool, bool);

    /// A segment of the workload to a service.
    fn to_vip(flags: u8) -> Self::Frame {
        Self::tcp((Self::REAL, 40001), (Self::VIP, 80), flags, b"GET / HTTP/1.1\r\n\r\n")
    }

    /// A message of the family's ICMP that asks for an answer.
    fn ping(source: Self::Address, destination: Self::Address) -> Self::Frame {
        let message = [Self::ECHO, 0, 0xf7, 0xff, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        Self::raw(source, destination, Self::ICMP, &message)
    }

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
    const STRANGER: Ipv4Addr = STRANGER;
    const OTHER_ALIAS: Ipv4Addr = Ipv4Addr::new(100, 127, 9, 9);
    const NEIGHBOUR: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(100, 127, 0, 3));
    const RESOLVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1)];
    const MULTICAST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
    const VERSION: u8 = 4;
    const FIXED: usize = 14 + 20;
    const ICMP: u8 = 1;
    const ECHO: u8 = 8;
    const NODE: Ipv4Addr = NODE;
    const UNSPECIFIED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const SLOT_DNS_UDP: u32 = SLOT_DNS_UDP;
    const MAC_OF_VIP: Counter = Counter::ArpAnswered;
    const LENGTH_0: DropReason = DropReason::Malformed;
    const MALFORMED_LENGTH: u16 = 19;
    const SEGMENT: u16 = 1448;
    const UDP_WITHOUT_CHECKSUM: Option<DropReason> = None;

    fn node() -> Node {
        scene::node()
    }

    fn add_to(_: &mut World) {}

    fn bound(kind: Type, address: SocketAddr, shared: bool) -> Socket {
        let socket = Socket::new(Domain::IPV4, kind, None).expect("a socket");
        socket.set_reuse_port(shared).expect("a socket can");
        socket.bind(&address.into()).expect("a local address");
        socket
    }

    fn headers_refused() -> u64 {
        stack_counter("Ip", "InHdrErrors") + stack_counter("IpExt", "InTruncatedPkts")
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

    fn vips() -> Vec<Ipv4Addr> {
        [[64, 0], [79, 255], [64, 1], [64, 17]].map(|[c, d]| Ipv4Addr::new(169, 254, c, d)).into()
    }

    fn aliases() -> Vec<Ipv4Addr> {
        vec![Ipv4Addr::new(100, 127, 0, 0), Ipv4Addr::new(100, 127, 255, 255)]
    }

    fn neighbours() -> Vec<Ipv4Addr> {
        let near = [[169, 254, 63, 255], [169, 254, 80, 0], [100, 126, 255, 255], [100, 128, 0, 0]];
        // Metadata of a cloud among them.
        let others = [[169, 254, 169, 254], [255, 255, 255, 255], [0, 0, 0, 0]];
        near.into_iter().chain(others).map(Ipv4Addr::from).collect()
    }

    fn spoofed() -> Vec<Ipv4Addr> {
        vec![Ipv4Addr::new(10, 0, 0, 11), STRANGER, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST]
    }

    fn other_protocols() -> &'static [u8] {
        &[0, 1, 2, 47, 50, 132, 255]
    }

    fn is_extension(_: u8) -> bool {
        false
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

    fn lengthened(frame: Frame) -> (Frame, usize) {
        (frame.with(|f| f.options = vec![1; 40]), 40)
    }

    fn with_length(frame: Frame, length: u16) -> Frame {
        frame.with(|f| f.total_length = Some(length))
    }

    fn as_fragment(frame: Frame, offset: u16) -> Frame {
        frame.with(|f| f.fragment = offset)
    }

    fn checksums_right(frame: &Frame) {
        checksums_right(&frame.build());
    }

    fn are_right(frame: &[u8], _: u8) -> (bool, bool) {
        (checksums::ip_is_right(frame), checksums::l4_is_right(frame) == Some(true))
    }
}

#[derive(Debug)]
pub(crate) struct V6;

/// First address of the VIP range.
fn net6() -> u128 {
    Ipv6Addr::from(config().vip_net6.0).to_bits()
}

/// First address of the alias range.
fn alias_net6() -> u128 {
    Ipv6Addr::from(config().alias_net6.0).to_bits()
}

impl Family for V6 {
    type Address = Ipv6Addr;
    type Frame = Frame6;

    const REAL: Ipv6Addr = REAL6;
    const ALIAS: Ipv6Addr = ALIAS6;
    const VIP: Ipv6Addr = VIP6;
    const DNS_VIP: Ipv6Addr = DNS_VIP6;
    const ENGINE: Ipv6Addr = ENGINE6;
    const STRANGER: Ipv6Addr = STRANGER6;
    const OTHER_ALIAS: Ipv6Addr = Ipv6Addr::from_bits(ALIAS6.to_bits() + 1);
    const NEIGHBOUR: (Ipv6Addr, Ipv6Addr) =
        (Ipv6Addr::from_bits(REAL6.to_bits() + 1), Ipv6Addr::from_bits(ALIAS6.to_bits() + 2));
    const RESOLVERS: [Ipv6Addr; 2] =
        [Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe), Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)];
    const MULTICAST: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const VERSION: u8 = 6;
    const FIXED: usize = 14 + 40;
    const ICMP: u8 = 58;
    const ECHO: u8 = 128;
    const NODE: Ipv6Addr = NODE6;
    const UNSPECIFIED: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
    const SLOT_DNS_UDP: u32 = SLOT_DNS_UDP6;
    const MAC_OF_VIP: Counter = Counter::NdpAnswered;
    const LENGTH_0: DropReason = DropReason::Truncated;
    const MALFORMED_LENGTH: u16 = 500;
    const SEGMENT: u16 = 1428;
    const UDP_WITHOUT_CHECKSUM: Option<DropReason> = Some(DropReason::Malformed);

    fn node() -> Node {
        scene6::node()
    }

    fn add_to(world: &mut World) {
        world.add_ipv6(REAL6, ALIAS6);
    }

    /// Without `IPV6_FREEBIND` the kernel wants the address on an interface.
    fn bound(kind: Type, address: SocketAddr, shared: bool) -> Socket {
        let socket = Socket::new(Domain::IPV6, kind, None).expect("a socket");
        socket.set_freebind_v6(true).expect("a socket can");
        socket.set_reuse_port(shared).expect("a socket can");
        socket.bind(&address.into()).expect("a local address");
        socket
    }

    fn headers_refused() -> u64 {
        stack_counter6("Ip6InTruncatedPkts") + stack_counter6("Ip6InHdrErrors")
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

    fn vips() -> Vec<Ipv6Addr> {
        [net6(), net6() | u128::MAX >> 64].map(Ipv6Addr::from_bits).into()
    }

    fn aliases() -> Vec<Ipv6Addr> {
        [alias_net6(), alias_net6() | u128::MAX >> 48].map(Ipv6Addr::from_bits).into()
    }

    fn neighbours() -> Vec<Ipv6Addr> {
        let near = [net6() - 1, net6() + (1 << 64), alias_net6() - 1, alias_net6() + (1 << 80)];
        let mapped = Ipv4Addr::new(169, 254, 64, 32).to_ipv6_mapped();
        let others = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, Self::MULTICAST, mapped];
        near.map(Ipv6Addr::from_bits).into_iter().chain(others).collect()
    }

    fn spoofed() -> Vec<Ipv6Addr> {
        let neighbour = Ipv6Addr::from_bits(REAL6.to_bits() + 1);
        vec![neighbour, STRANGER6, LINK_LOCAL, Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST]
    }

    fn other_protocols() -> &'static [u8] {
        &[1, 41, 47, 50, 58, 59, 132, 255]
    }

    fn is_extension(protocol: u8) -> bool {
        [0, 43, 44, 51, 60].contains(&protocol)
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

    fn lengthened(frame: Frame6) -> (Frame6, usize) {
        let extensions = [Extension::options(0, 1), Extension::authentication(12), Extension::options(60, 2)];
        (frame.behind(&extensions), 8 + 24 + 16)
    }

    fn with_length(frame: Frame6, length: u16) -> Frame6 {
        frame.with(|f| f.payload_length = Some(length))
    }

    fn as_fragment(frame: Frame6, offset: u16) -> Frame6 {
        frame.behind(&[Extension::fragment(offset, false)])
    }

    fn checksums_right(frame: &Frame6) {
        scene6::checksum_right(frame);
    }

    fn are_right(frame: &[u8], protocol: u8) -> (bool, bool) {
        (true, checksums::l4_of_ipv6_is_right(frame, Self::FIXED, protocol))
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
