//! The workload of [`crate::scene`] with an IPv6 address.

use std::net::Ipv6Addr;

use brattice_tests::packets::{
    checksums,
    frame6::Frame6,
    node::{IFINDEX, Node},
};

use crate::scene::{TARGET_PORT, TCP, UDP, WORKLOAD};

const fn vip(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0xa9fe, 0x4000, 1, 0, 0, 0, last)
}

/// The workload's own address.
pub(crate) const REAL6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0x10);
/// Its link-local address.
pub(crate) const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x10);
/// Its alias.
pub(crate) const ALIAS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x647f, 0x4000, 0xa1b2, 0xc3d4, 0xe5f6, 0, 2);
/// A service.
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xa9fe, 0x4000, 1, 0x8123, 0x4567, 0x89ab, 0xcdef);
/// Where DNS is answered.
pub(crate) const DNS_VIP6: Ipv6Addr = vip(17);
/// The engine's first source address.
pub(crate) const ENGINE6: Ipv6Addr = vip(1);
/// An address of no workload.
pub(crate) const STRANGER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// One workload with an address of each family, which is also a target at both; DNS on its VIPs.
pub(crate) fn node() -> Node {
    let mut node = crate::scene::node();
    node.add_workload(IFINDEX, REAL6, ALIAS6, WORKLOAD, 0);
    node.add_target(ALIAS6, TARGET_PORT, TCP);
    node.add_dns_listener(DNS_VIP6, UDP);
    node.add_dns_listener(DNS_VIP6, TCP);
    node
}

/// A segment of the workload to a service.
pub(crate) fn to_vip(flags: u8) -> Frame6 {
    Frame6::tcp((REAL6, 40001), (VIP6, 80), flags, b"GET / HTTP/1.1\r\n\r\n")
}

/// A segment of the engine to a target.
pub(crate) fn to_target(flags: u8) -> Frame6 {
    Frame6::tcp((ENGINE6, 33000), (ALIAS6, TARGET_PORT), flags, b"hello")
}

/// Asserts that the TCP or UDP checksum is right, by other code than the builder's.
#[track_caller]
pub(crate) fn checksum_right(frame: &Frame6) {
    let protocol = if matches!(frame.payload, brattice_tests::packets::frame::Payload::Tcp { .. }) { TCP } else { UDP };
    assert!(
        checksums::l4_of_ipv6_is_right(&frame.build(), frame.l4_offset(), protocol),
        "TCP or UDP checksum of {frame:02x?}"
    );
}
