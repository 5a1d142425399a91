//! The options of a data path, and which of them are refused.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use brattice_abi as abi;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Error, Result, ranges};

/// What packets without a socket show as their user: the engine must have another.
const OVERFLOW_UID: u32 = 65_534;

/// The ranges of a node with IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Ranges {
    /// The VIP range, a /64.
    pub vip: Ipv6Net,
    /// The alias range, a /48.
    pub alias: Ipv6Net,
}

impl Ipv6Ranges {
    /// The address at an offset of the VIP range: where the node's own are.
    #[must_use]
    pub fn at(&self, offset: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.vip.network().to_bits() | u128::from(offset))
    }

    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`Error::Option`] naming the range and the reason.
    pub fn check(&self) -> Result<()> {
        for (option, range, checked) in [
            ("IPv6 VIP range", self.vip, ranges::vip6(self.vip)),
            ("IPv6 alias range", self.alias, ranges::alias6(self.alias)),
        ] {
            checked.map_err(|reason| Error::Option { option, value: range.to_string(), reason })?;
        }
        if self.alias.contains(&self.vip) {
            return Err(Error::Option {
                option: "IPv6 alias range",
                value: self.alias.to_string(),
                reason: "it overlaps the IPv6 VIP range".into(),
            });
        }
        Ok(())
    }
}

/// Whether the programs send a line about each packet they drop (see [`crate::DebugLog`]). Where they do not, nothing of it is
/// left in them: the verifier removes what can't be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EbpfLog {
    /// They send none.
    #[default]
    Off,
    /// A line per dropped packet.
    Debug,
}

impl EbpfLog {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 2] = [("off", Self::Off), ("debug", Self::Debug)];
}

/// What a data path is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pin directory on a BPF file system; made if absent.
    pub bpffs: PathBuf,
    /// The VIP range.
    pub vip: Ipv4Net,
    /// The alias pool.
    pub alias: Ipv4Net,
    /// The ranges of IPv6; `None`: the node has no IPv6.
    pub ipv6: Option<Ipv6Ranges>,
    /// The engine's user: neither root nor nobody.
    pub engine_uid: u32,
    /// Engine workers, 1 to [`abi::MAX_WORKERS`].
    pub workers: u32,
    /// Most half-open connections of a workload, at least 1.
    pub half_open_limit: u32,
    /// Lines of the programs. A running data path that was loaded with another choice gets new programs, link by link.
    pub ebpf_log: EbpfLog,
}

impl Options {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`Error::Option`] naming the option and the reason.
    pub fn check(&self) -> Result<()> {
        let refuse = |option, value: String, reason: &str| Err(Error::Option { option, value, reason: reason.into() });
        for (option, range, checked) in
            [("VIP range", self.vip, ranges::vip(self.vip)), ("alias range", self.alias, ranges::alias(self.alias))]
        {
            checked.map_err(|reason| Error::Option { option, value: range.to_string(), reason })?;
        }
        if self.vip.contains(&self.alias) || self.alias.contains(&self.vip) {
            return refuse("alias range", self.alias.to_string(), "it overlaps the VIP range");
        }
        if let Some(ipv6) = &self.ipv6 {
            ipv6.check()?;
        }
        if let Err(reason) = check_engine_uid(self.engine_uid) {
            return refuse("engine user", self.engine_uid.to_string(), reason);
        }
        if self.workers == 0 || self.workers > abi::MAX_WORKERS {
            return refuse("workers", self.workers.to_string(), "it must be 1 to 64");
        }
        if self.half_open_limit == 0 {
            return refuse("half-open limit", "0".into(), "nothing could ever connect");
        }
        if self.half_open_limit > abi::MAX_HALF_OPEN_OF_WORKLOAD {
            return refuse(
                "half-open limit",
                self.half_open_limit.to_string(),
                "it must be at most 1024: a workload with more could push others' out of the table that all share",
            );
        }
        Ok(())
    }

    /// Each range with its name: `VIP`, `alias`, `IPv6 VIP`, `IPv6 alias`.
    #[must_use]
    pub fn ranges(&self) -> Vec<(&'static str, IpNet)> {
        let mut ranges = vec![("VIP", IpNet::V4(self.vip.trunc())), ("alias", IpNet::V4(self.alias.trunc()))];
        if let Some(ipv6) = &self.ipv6 {
            ranges.push(("IPv6 VIP", IpNet::V6(ipv6.vip.trunc())));
            ranges.push(("IPv6 alias", IpNet::V6(ipv6.alias.trunc())));
        }
        ranges
    }

    /// The programs' configuration; `brattice0` is filled in when it is there. `netns`: the namespace's cookie.
    pub(crate) fn config(&self, device: Option<(u32, [u8; 6])>, netns: u64) -> abi::Config {
        let (brattice0, brattice0_mac) = device.unwrap_or_default();
        abi::Config {
            ready: 1,
            vip_net: self.vip.network().to_bits(),
            vip_mask: self.vip.netmask().to_bits(),
            alias_net: self.alias.network().to_bits(),
            alias_mask: self.alias.netmask().to_bits(),
            engine_uid: self.engine_uid,
            brattice0,
            workers: self.workers,
            half_open_limit: self.half_open_limit,
            brattice0_mac,
            pad: [0; 2],
            vip_net6: network(self.ipv6.map(|ipv6| ipv6.vip)),
            alias_net6: network(self.ipv6.map(|ipv6| ipv6.alias)),
            netns: cookie_halves(netns),
        }
    }
}

/// As [`abi::Config::netns`] has it: lower and upper half.
pub(crate) fn cookie_halves(cookie: u64) -> [u32; 2] {
    [cookie & u64::from(u32::MAX), cookie >> 32].map(|half| u32::try_from(half).expect("32 bits of 64"))
}

/// Refuses users that the engine cannot have.
///
/// # Errors
/// The reason.
pub fn check_engine_uid(uid: u32) -> std::result::Result<(), &'static str> {
    if uid == 0 || uid == OVERFLOW_UID || uid == u32::MAX {
        return Err(
            "the engine needs a user of its own (not root; not nobody, as packets without a socket look like nobody's)",
        );
    }
    Ok(())
}

/// As the programs have it: all zero where there is none.
fn network(range: Option<Ipv6Net>) -> abi::Address {
    range.map(|range| IpAddr::V6(range.network()).into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv6(vip: &str, alias: &str) -> Ipv6Ranges {
        Ipv6Ranges { vip: vip.parse().expect("a net"), alias: alias.parse().expect("a net") }
    }

    fn options() -> Options {
        Options {
            bpffs: "/sys/fs/bpf/x".into(),
            vip: "169.254.64.0/20".parse().expect("a net"),
            alias: "100.127.0.0/16".parse().expect("a net"),
            ipv6: Some(ipv6("fd00:1:2:3::/64", "fd00:4:5::/48")),
            engine_uid: 4711,
            workers: 2,
            half_open_limit: 256,
            ebpf_log: EbpfLog::Off,
        }
    }

    #[test]
    fn the_default_candidates_are_free_of_reserved_addresses() {
        for vip in ["169.254.64.0/20", "169.254.96.0/20", "169.254.208.0/20"] {
            assert!(Options { vip: vip.parse().expect("a net"), ..options() }.check().is_ok(), "{vip}");
        }
    }

    #[test]
    fn without_ipv6_the_programs_are_told_zeros() {
        let config = options().config(None, 0);
        assert_eq!(config.vip_net6, abi::Address::from(IpAddr::from([0xfd00, 1, 2, 3, 0, 0, 0, 0])));
        assert_eq!(config.alias_net6, abi::Address::from(IpAddr::from([0xfd00, 4, 5, 0, 0, 0, 0, 0])));
        let config = Options { ipv6: None, ..options() }.config(None, 0);
        assert_eq!((config.vip_net6, config.alias_net6), Default::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(options().check().is_ok());
        let net = |text: &str| text.parse::<Ipv4Net>().expect("a net");
        for bad in [
            Options { vip: net("169.254.160.0/20"), ..options() },
            Options { vip: net("169.254.0.0/16"), ..options() },
            Options { vip: net("169.254.64.0/27"), ..options() },
            Options { alias: net("169.254.0.0/16"), ..options() },
            Options { alias: net("100.127.0.0/30"), ..options() },
            Options { vip: net("240.0.0.0/20"), ..options() },
            Options { alias: net("127.0.0.0/16"), ..options() },
            Options { vip: net("10.0.0.0/20"), alias: net("10.0.0.0/16"), ..options() },
            Options { ipv6: Some(ipv6("fd00:1:2:3::/63", "fd00:4:5::/48")), ..options() },
            Options { ipv6: Some(ipv6("fd00:1:2:3::/64", "fd00:4:5::/64")), ..options() },
            Options { ipv6: Some(ipv6("2001:db8:2:3::/64", "fd00:4:5::/48")), ..options() },
            Options { ipv6: Some(ipv6("fe80::/64", "fd00:4:5::/48")), ..options() },
            Options { ipv6: Some(ipv6("fd00:1:2:3::/64", "2001:db8:5::/48")), ..options() },
            Options { ipv6: Some(ipv6("fd00:1:2:3::/64", "fd00:1:2::/48")), ..options() },
            Options { engine_uid: 0, ..options() },
            Options { engine_uid: 65_534, ..options() },
            Options { workers: 0, ..options() },
            Options { workers: 65, ..options() },
            Options { half_open_limit: 0, ..options() },
        ] {
            assert!(matches!(bad.check(), Err(Error::Option { .. })), "{bad:?}");
        }
    }
}
