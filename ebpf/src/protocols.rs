//! Numbers of protocols and of IPv6 extension headers.

/// ICMP (RFC 792).
pub(crate) const ICMP: u8 = 1;
/// ICMPv6 (RFC 4443).
pub(crate) const ICMPV6: u8 = 58;

/// Extension headers (RFC 8200, 4; AH: RFC 4302). Any other number is taken for what the packet carries.
pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

/// Headers that may stand between a fragment header and TCP or UDP.
#[inline(always)]
pub(crate) fn may_hide_ports(next_header: u8) -> bool {
    next_header == DESTINATION_OPTIONS || next_header == AUTHENTICATION
}
