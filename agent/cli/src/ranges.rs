//! Address ranges as flags and settings name them.

use std::net::IpAddr;

use brattice_control::ranges::{ALIAS_CANDIDATES, VIP_CANDIDATES};
use brattice_control::settings::{ALIAS6_RANGE, Vip6Range};
use brattice_loader::ranges;
use ipnet::{Ipv4Net, Ipv6Net};

/// `--vip-range`.
pub(crate) fn vip(text: &str) -> Result<Ipv4Net, String> {
    let range = net(text, VIP_CANDIDATES[0])?;
    ranges::vip(range).map(|()| range)
}

/// `--alias-range`.
pub(crate) fn alias(text: &str) -> Result<Ipv4Net, String> {
    let range = net(text, ALIAS_CANDIDATES[0])?;
    ranges::alias(range).map(|()| range)
}

/// `--vip6-range`.
pub(crate) fn vip6(text: &str) -> Result<Vip6Range, String> {
    let range = text.parse()?;
    match range {
        Vip6Range::Off => {}
        Vip6Range::Range(range) => ranges::vip6(range)?,
    }
    Ok(range)
}

/// `--alias6-range`.
pub(crate) fn alias6(text: &str) -> Result<Ipv6Net, String> {
    let range = net(text, ALIAS6_RANGE)?;
    ranges::alias6(range).map(|()| range)
}

fn net<N: std::str::FromStr>(text: &str, example: &str) -> Result<N, String> {
    text.parse().map_err(|_| {
        let hint = if text.parse::<IpAddr>().is_ok() { ": the length of its prefix is missing" } else { "" };
        format!("expected a CIDR such as {example}{hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_range_is_told_with_one_that_is() {
        assert_eq!(
            vip("10.0.0.0").unwrap_err(),
            "expected a CIDR such as 169.254.64.0/20: the length of its prefix is missing"
        );
        assert_eq!(alias("10.0.0.0/33").unwrap_err(), "expected a CIDR such as 100.127.0.0/16");
        assert!(alias6("10.0.0.0/16").unwrap_err().contains("fdc4:"));
        assert!(vip6("of").unwrap_err().contains("or off"));
        assert_eq!(vip6("off"), Ok(Vip6Range::Off));
    }
}
