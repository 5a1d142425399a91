//! Which address ranges can be a node's: the rules of each range by itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use brattice_abi as abi;
use ipnet::{Ipv4Net, Ipv6Net};

/// Addresses and nets inside 169.254.0.0/16 that clouds and hosts use, and that a VIP range must not take away: metadata
/// (AWS, Azure, GCP, Alibaba's and others'), NTP and DNS of AWS, ECS and EKS credentials, Route 53 resolvers, and what
/// RFC 3927 reserves at the start.
const RESERVED_LINK_LOCAL: [Ipv4Net; 10] = [
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 169, 254), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 169, 253), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 169, 123), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 170, 2), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 170, 23), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 168, 253), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 20, 10), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 1, 1), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 171, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 24),
];

/// IPv4 nets that no range may touch, and what they are (RFC 6890). Linux routes no packets to them, or not as unicast.
const NOT_UNICAST: [(Ipv4Net, &str); 4] = [
    (Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8), "addresses of this network"),
    (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback addresses"),
    (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast addresses"),
    (Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4), "reserved addresses, with that of the limited broadcast"),
];
/// Link-local addresses (RFC 3927). VIPs may be among them; aliases may not: a target answers them by its gateway.
const LINK_LOCAL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);

/// Unique local addresses (RFC 4193): where both IPv6 ranges lie.
const UNIQUE_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);
/// IPv6 nets that people name by mistake, and what they are; each is outside [`UNIQUE_LOCAL`].
const NOT_UNIQUE_LOCAL: [(Ipv6Net, &str); 4] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 64), "the unspecified and the loopback address"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local addresses"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), "multicast addresses"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3), "global addresses"),
];

/// Checks a VIP range: a /8 to /26 of unicast addresses, and, if link-local, without those that clouds use.
///
/// # Errors
/// The reason, as the end of a sentence about the range.
pub fn vip(range: Ipv4Net) -> Result<(), String> {
    if !(8..=26).contains(&range.prefix_len()) {
        return Err("it must be a /8 to /26: the first 32 addresses are the node's own".to_owned());
    }
    unicast(range)?;
    match RESERVED_LINK_LOCAL.iter().find(|net| overlap(range, **net)) {
        Some(taken) => {
            Err(format!("it contains {taken}, which is used for metadata, credentials or name service of a cloud"))
        }
        None => Ok(()),
    }
}

/// Checks an alias range: a /8 to /29 of unicast addresses that are not link-local.
///
/// # Errors
/// The reason, as the end of a sentence about the range.
pub fn alias(range: Ipv4Net) -> Result<(), String> {
    if !(8..=29).contains(&range.prefix_len()) {
        return Err("it must be a /8 to /29".to_owned());
    }
    unicast(range)?;
    if overlap(range, LINK_LOCAL) {
        return Err(format!(
            "it overlaps {LINK_LOCAL} (link-local addresses), where VIPs and metadata services of clouds are; \
             100.127.0.0/16 is usual"
        ));
    }
    Ok(())
}

/// Checks an IPv6 VIP range: a /64 of unique local addresses.
///
/// # Errors
/// The reason, as the end of a sentence about the range.
pub fn vip6(range: Ipv6Net) -> Result<(), String> {
    unique_local(range, abi::VIP6_PREFIX)
}

/// Checks an IPv6 alias range: a /48 of unique local addresses.
///
/// # Errors
/// The reason, as the end of a sentence about the range.
pub fn alias6(range: Ipv6Net) -> Result<(), String> {
    unique_local(range, abi::ALIAS6_PREFIX)
}

fn unicast(range: Ipv4Net) -> Result<(), String> {
    match NOT_UNICAST.iter().find(|(net, _)| overlap(range, *net)) {
        Some((net, what)) => Err(format!("it overlaps {net} ({what}), to which Linux routes no connections")),
        None => Ok(()),
    }
}

fn unique_local(range: Ipv6Net, prefix: u8) -> Result<(), String> {
    if range.prefix_len() != prefix {
        return Err(format!("it must be a /{prefix}"));
    }
    if UNIQUE_LOCAL.contains(&range) {
        return Ok(());
    }
    let wanted = format!("it must be of unique local addresses ({UNIQUE_LOCAL}, RFC 4193)");
    match NOT_UNIQUE_LOCAL.iter().find(|(net, _)| net.contains(&range) || range.contains(net)) {
        Some((net, what)) => Err(format!("{wanted}, and {net} has {what}")),
        None => Err(wanted),
    }
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Ipv4Net {
        text.parse().expect("a net")
    }

    fn v6(text: &str) -> Ipv6Net {
        text.parse().expect("a net")
    }

    #[test]
    fn usual_ranges_are_taken() {
        for range in ["169.254.64.0/20", "169.254.208.0/20", "10.0.0.0/8", "192.168.9.0/26", "223.255.255.0/24"] {
            assert_eq!(vip(v4(range)), Ok(()), "{range}");
        }
        for range in ["100.127.0.0/16", "198.18.0.0/15", "10.0.0.0/8", "1.0.0.0/8", "126.0.0.0/8", "128.0.0.0/29"] {
            assert_eq!(alias(v4(range)), Ok(()), "{range}");
        }
        assert_eq!(vip6(v6("fd8b:2a77:1c51::/64")), Ok(()));
        assert_eq!(alias6(v6("fdc4:90e6:5b0d::/48")), Ok(()));
    }

    #[test]
    fn addresses_that_are_not_unicast_are_in_no_range() {
        for (range, net) in [
            ("0.0.0.0/20", "0.0.0.0/8 (addresses of this network)"),
            ("0.255.0.0/16", "0.0.0.0/8"),
            ("127.0.0.0/16", "127.0.0.0/8 (loopback addresses)"),
            ("127.255.255.0/26", "127.0.0.0/8"),
            ("224.0.0.0/16", "224.0.0.0/4 (multicast addresses)"),
            ("239.255.0.0/20", "224.0.0.0/4"),
            ("240.0.0.0/20", "240.0.0.0/4 (reserved addresses"),
            ("255.255.255.192/26", "240.0.0.0/4"),
        ] {
            for reason in [vip(v4(range)), alias(v4(range))] {
                assert!(reason.as_ref().is_err_and(|why| why.contains(net)), "{range}: {reason:?}");
            }
        }
    }

    #[test]
    fn link_local_addresses_are_no_aliases_and_only_free_ones_are_vips() {
        for range in ["169.254.0.0/16", "169.254.64.0/20", "169.254.128.0/29", "169.0.0.0/8"] {
            assert!(alias(v4(range)).is_err_and(|why| why.contains("169.254.0.0/16 (link-local")), "{range}");
        }
        for (range, taken) in [("169.254.160.0/20", "169.254.169.254/32"), ("169.254.171.64/26", "169.254.171.0/24")] {
            assert!(vip(v4(range)).is_err_and(|why| why.contains(taken)), "{range}");
        }
    }

    #[test]
    fn ipv6_ranges_are_unique_local() {
        for (range, what) in [
            ("::/64", "the loopback address"),
            ("fe80::/64", "link-local addresses"),
            ("ff05::/64", "multicast addresses"),
            ("2001:db8::/64", "global addresses"),
            ("fec0::/64", "unique local addresses"),
            ("fd00::/63", "/64"),
        ] {
            assert!(vip6(v6(range)).is_err_and(|why| why.contains(what)), "{range}");
        }
        for (range, what) in [
            ("::/48", "the loopback address"),
            ("fe80::/48", "link-local addresses"),
            ("ff00::/48", "multicast addresses"),
            ("fd00::/64", "/48"),
        ] {
            assert!(alias6(v6(range)).is_err_and(|why| why.contains(what)), "{range}");
        }
    }
}
