//! The address ranges of a node, and where each of them comes from: what refuses one names the place to change.

use std::fmt;
use std::path::{Path, PathBuf};

use brattice_loader::preflight::free_range;
use brattice_loader::{Ipv6Ranges, ranges};
use ipnet::{IpNet, Ipv4Net};

/// VIP ranges tried in this order when none is named: /20s inside 169.254.0.0/16 that avoid well-known metadata
/// addresses.
pub const VIP_CANDIDATES: [&str; 3] = ["169.254.64.0/20", "169.254.96.0/20", "169.254.208.0/20"];
/// Alias ranges tried in this order when none is named.
pub const ALIAS_CANDIDATES: [&str; 4] = ["100.127.0.0/16", "198.18.0.0/16", "100.126.0.0/16", "198.19.0.0/16"];

/// Where a range comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Its flag on the command line.
    Flag,
    /// Its setting in the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line of the value, from 1.
        line: u32,
        /// Column of the value, from 1.
        column: u32,
    },
    /// An earlier start, which kept it in this file.
    Kept(PathBuf),
    /// It is the default, or was chosen among the usual ones.
    #[default]
    Default,
}

/// Where each range comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Of the VIP range.
    pub vip: Origin,
    /// Of the alias range.
    pub alias: Origin,
    /// Of the IPv6 VIP range.
    pub vip6: Origin,
    /// Of the IPv6 alias range.
    pub alias6: Origin,
}

impl Origins {
    /// The origin of a range by the name that the loader's errors give it, such as `IPv6 VIP`.
    pub(crate) fn by_name(&self, name: &str) -> Source<'_> {
        match name {
            "VIP" => Source { origin: &self.vip, flag: "--vip-range" },
            "alias" => Source { origin: &self.alias, flag: "--alias-range" },
            "IPv6 VIP" => Source { origin: &self.vip6, flag: "--vip6-range" },
            _ => Source { origin: &self.alias6, flag: "--alias6-range" },
        }
    }
}

/// An origin in words: a flag, a place in a file, or `the default`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'o> {
    origin: &'o Origin,
    flag: &'static str,
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Flag => f.write_str(self.flag),
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Origin::Kept(path) => write!(f, "chosen by an earlier start, kept in {}", path.display()),
            Origin::Default => f.write_str("the default"),
        }
    }
}

/// Why ranges cannot be a node's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// One cannot be, whatever the others are.
    #[error("the {range} cannot be used: {reason}. Name another one with {flag}")]
    Impossible {
        /// Name, value and origin.
        range: String,
        /// Why not.
        reason: String,
        /// The flag that names it.
        flag: &'static str,
    },
    /// Two share addresses.
    #[error("the {alias} overlaps the {vip}. Name another one for either, with {flags}")]
    Overlap {
        /// Name, value and origin.
        alias: String,
        /// Likewise.
        vip: String,
        /// The flags that name them.
        flags: &'static str,
    },
}

/// The ranges of a node.
#[derive(Clone, Copy, Debug)]
pub struct Ranges {
    /// The VIP range.
    pub vip: Ipv4Net,
    /// The alias range.
    pub alias: Ipv4Net,
    /// Those of IPv6; none: the node has no IPv6.
    pub ipv6: Option<Ipv6Ranges>,
}

impl Ranges {
    /// Refuses ranges that cannot be.
    ///
    /// # Errors
    /// Which, where each comes from, and why.
    pub fn check(&self, origins: &Origins) -> Result<(), RangeError> {
        let shown = |name: &str, range: IpNet| format!("{name} range {range} ({})", origins.by_name(name));
        let alone = |name: &'static str, range: IpNet, checked: Result<(), String>| {
            let flag = origins.by_name(name).flag;
            checked.map_err(|reason| RangeError::Impossible { range: shown(name, range), reason, flag })
        };
        let apart = |name: [&str; 2], range: [IpNet; 2], flags| {
            let [vip, alias] = [shown(name[0], range[0]), shown(name[1], range[1])];
            if overlap(range[0], range[1]) { Err(RangeError::Overlap { alias, vip, flags }) } else { Ok(()) }
        };
        let (vip, alias) = (self.vip.trunc(), self.alias.trunc());
        alone("VIP", vip.into(), ranges::vip(vip))?;
        alone("alias", alias.into(), ranges::alias(alias))?;
        apart(["VIP", "alias"], [vip.into(), alias.into()], "--vip-range or --alias-range")?;
        let Some(Ipv6Ranges { vip, alias }) = self.ipv6 else { return Ok(()) };
        alone("IPv6 VIP", vip.into(), ranges::vip6(vip))?;
        alone("IPv6 alias", alias.into(), ranges::alias6(alias))?;
        apart(["IPv6 VIP", "IPv6 alias"], [vip.into(), alias.into()], "--vip6-range or --alias6-range")
    }
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// The IPv4 ranges that are known: named, or kept from an earlier start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The VIP range.
    pub vip: Option<Ipv4Net>,
    /// The alias range.
    pub alias: Option<Ipv4Net>,
}

impl Known {
    /// These, else those that an earlier start kept in the file of the state.
    #[must_use]
    pub fn or_kept(self, kept: Self, file: &Path, origins: &mut Origins) -> Self {
        let fill = |own: Option<Ipv4Net>, kept: Option<Ipv4Net>, origin: &mut Origin| {
            if own.is_none() && kept.is_some() {
                *origin = Origin::Kept(file.to_owned());
            }
            own.or(kept)
        };
        Self {
            vip: fill(self.vip, kept.vip, &mut origins.vip),
            alias: fill(self.alias, kept.alias, &mut origins.alias),
        }
    }

    /// What is known, and for what is not the first usual range that collides with nothing on this host, and not with the other
    /// one; none: there is no such range.
    ///
    /// # Errors
    /// When the kernel refuses to list.
    pub async fn or_free(self, cidrs: &[(String, IpNet)]) -> brattice_loader::Result<Self> {
        let vip = match self.vip {
            Some(range) => Some(range),
            None => free_range("VIP", &apart(&VIP_CANDIDATES, self.alias), cidrs).await?,
        };
        let alias = match self.alias {
            Some(range) => Some(range),
            None => free_range("alias", &apart(&ALIAS_CANDIDATES, vip), cidrs).await?,
        };
        Ok(Self { vip, alias })
    }

    /// What is known, else the first usual range, without a look at the host: VIP range and alias range.
    #[must_use]
    pub fn or_usual(self) -> (Ipv4Net, Ipv4Net) {
        let first = |candidates: &[&str], other: Option<Ipv4Net>| {
            apart(candidates, other).into_iter().chain(apart(candidates, None)).next().unwrap_or_default()
        };
        let vip = self.vip.unwrap_or_else(|| first(&VIP_CANDIDATES, self.alias));
        (vip, self.alias.unwrap_or_else(|| first(&ALIAS_CANDIDATES, Some(vip))))
    }
}

/// The candidates that share no address with the other range.
fn apart(candidates: &[&str], other: Option<Ipv4Net>) -> Vec<Ipv4Net> {
    let nets = candidates.iter().filter_map(|text| text.parse::<Ipv4Net>().ok());
    nets.filter(|net| other.is_none_or(|other| !overlap((*net).into(), other.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ipv6_ranges;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn ranges(vip: &str, alias: &str) -> Ranges {
        Ranges { vip: net(vip), alias: net(alias), ipv6: ipv6_ranges(None, None) }
    }

    #[test]
    fn a_refusal_says_where_each_range_comes_from() {
        let file = |line| Origin::File { path: "/srv/agent.yaml".into(), line, column: 12 };
        let origins = Origins { vip: file(3), alias: Origin::Flag, ..Origins::default() };
        let refused = |ranges: Ranges, origins: &Origins| ranges.check(origins).unwrap_err().to_string();
        assert_eq!(
            refused(ranges("100.64.0.0/10", "100.127.0.0/16"), &origins),
            "the alias range 100.127.0.0/16 (--alias-range) overlaps the VIP range 100.64.0.0/10 (/srv/agent.yaml:3:12). \
             Name another one for either, with --vip-range or --alias-range"
        );
        let kept = Origins { alias: Origin::Kept("/srv/state.json".into()), ..Origins::default() };
        assert_eq!(
            refused(ranges("169.254.64.0/20", "169.254.128.0/20"), &kept),
            "the alias range 169.254.128.0/20 (chosen by an earlier start, kept in /srv/state.json) cannot be used: it overlaps \
             169.254.0.0/16 (link-local addresses), where VIPs and metadata services of clouds are; 100.127.0.0/16 is usual. \
             Name another one with --alias-range"
        );
        let alias6 = ipv6_ranges(None, "fd8b:2a77:1c51::/48".parse().ok());
        let both = Ranges { ipv6: alias6, ..ranges("169.254.64.0/20", "100.127.0.0/16") };
        let text = refused(both, &Origins { alias6: Origin::Flag, ..Origins::default() });
        assert!(
            text.starts_with(
                "the IPv6 alias range fd8b:2a77:1c51::/48 (--alias6-range) overlaps the IPv6 VIP range \
                 fd8b:2a77:1c51::/64 (the default). "
            ),
            "{text}"
        );
        // Control.
        assert_eq!(ranges("100.64.0.0/11", "100.127.0.0/16").check(&origins), Ok(()));
    }

    #[test]
    fn what_is_named_comes_before_what_is_kept() {
        let (named, kept) = (Some(net("10.0.0.0/20")), Some(net("10.1.0.0/20")));
        let mut origins = Origins { vip: Origin::Flag, ..Origins::default() };
        let known = Known { vip: named, alias: None };
        let known = known.or_kept(Known { vip: kept, alias: kept }, Path::new("/srv/state.json"), &mut origins);
        assert_eq!((known.vip, known.alias), (named, kept));
        assert_eq!((origins.vip, origins.alias), (Origin::Flag, Origin::Kept("/srv/state.json".into())));
    }

    #[test]
    fn a_usual_range_is_chosen_apart_from_the_other_one() {
        let usual = |vip: Option<&str>, alias: Option<&str>| {
            let (vip, alias) = Known { vip: vip.map(net), alias: alias.map(net) }.or_usual();
            (vip.to_string(), alias.to_string())
        };
        let pair = |vip: &str, alias: &str| (vip.to_owned(), alias.to_owned());
        assert_eq!(usual(None, None), pair("169.254.64.0/20", "100.127.0.0/16"));
        assert_eq!(usual(Some("100.64.0.0/10"), None), pair("100.64.0.0/10", "198.18.0.0/16"));
        assert_eq!(usual(None, Some("100.126.0.0/16")), pair("169.254.64.0/20", "100.126.0.0/16"));
    }
}
