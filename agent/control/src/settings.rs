//! The agent's settings.

use std::path::PathBuf;
use std::str::FromStr;

use brattice_loader::{EbpfLog, Ipv6Ranges};
use brattice_model::Ipv6Pools;
use brattice_wire::engine::Limits;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::engine::outputs::{LogDestination, MetricsAddress};
use crate::ranges::Origins;

/// Default policies directory.
pub const POLICIES: &str = "/etc/brattice/policies";
/// Default directory of sockets.
pub const RUN_DIR: &str = "/run/brattice";
/// Default directory of what must survive.
pub const STATE_DIR: &str = "/var/lib/brattice";
/// Default directory of pins.
pub const BPFFS: &str = "/sys/fs/bpf/brattice";
/// Default suffix of generated names.
pub const DNS_SUFFIX: &str = "svc.brattice.internal";
/// Default user of the engine.
pub const ENGINE_USER: &str = "brattice-engine";
/// Default group of read-only callers.
pub const GROUP: &str = "brattice";
/// IPv6 VIP range when none is named: the same on every node, as services have the same VIPs everywhere. Unique local
/// (RFC 4193), its global id drawn by lot once.
pub const VIP6_RANGE: &str = "fd8b:2a77:1c51::/64";
/// IPv6 alias range when none is named; likewise.
pub const ALIAS6_RANGE: &str = "fdc4:90e6:5b0d::/48";
/// Default bound of half-open connections of a workload.
pub const HALF_OPEN_LIMIT: u32 = 256;

/// The IPv6 VIP range, as an operator names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vip6Range {
    /// `off`: IPv6 is not wanted.
    Off,
    /// A /64 of unique local addresses.
    Range(Ipv6Net),
}

impl FromStr for Vip6Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::Range).map_err(|_| "expected a CIDR such as fd00:1:2:3::/64, or off".to_owned())
    }
}

/// The ranges of IPv6 from what is named, else the usual ones.
pub fn ipv6_ranges(vip: Option<Vip6Range>, alias: Option<Ipv6Net>) -> Option<Ipv6Ranges> {
    let vip = match vip {
        Some(Vip6Range::Off) => return None,
        Some(Vip6Range::Range(range)) => range,
        None => VIP6_RANGE.parse().ok()?,
    };
    let alias = match alias {
        Some(range) => range,
        None => ALIAS6_RANGE.parse().ok()?,
    };
    Some(Ipv6Ranges { vip: vip.trunc(), alias: alias.trunc() })
}

/// The ranges as the model has them.
pub fn pools(ranges: Option<Ipv6Ranges>, on: bool) -> Option<Ipv6Pools> {
    ranges.map(|Ipv6Ranges { vip, alias }| Ipv6Pools { vip: vip.trunc(), alias: alias.trunc(), on })
}

/// Settings of `brattice agent`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Policies directory.
    pub policies: PathBuf,
    /// Directory of sockets.
    pub run_dir: PathBuf,
    /// Directory of what must survive.
    pub state_dir: PathBuf,
    /// Directory of pins, on a bpffs.
    pub bpffs: PathBuf,
    /// The engine's user; never 0.
    pub engine_uid: u32,
    /// Group of the run directory: the engine runs in it, and its members may ask read-only questions.
    pub group: u32,
    /// Engine workers; 1 to 64.
    pub workers: u32,
    /// VIP range; none = the first candidate that fits, then kept.
    pub vip_range: Option<Ipv4Net>,
    /// Alias range; likewise.
    pub alias_range: Option<Ipv4Net>,
    /// The ranges of IPv6; none: it is not wanted.
    pub ipv6: Option<Ipv6Ranges>,
    /// Where the ranges come from.
    pub range_origins: Origins,
    /// Suffix of generated names.
    pub dns_suffix: String,
    /// Most half-open connections of a workload.
    pub half_open_limit: u32,
    /// Bounds of the engine.
    pub limits: Limits,
    /// Where the access log goes.
    pub access_log: LogDestination,
    /// Of the requests that were served, one in this many is logged; at least 1.
    pub access_log_sample: u32,
    /// Where metrics are served.
    pub metrics: MetricsAddress,
    /// Whether the engine ends with the agent.
    pub stop_engine_on_exit: bool,
    /// The program to start as the engine; the agent's own but in tests.
    pub engine_program: PathBuf,
    /// Log filter, handed on to the engine.
    pub log: Option<String>,
    /// Lines of the eBPF programs.
    pub ebpf_log: EbpfLog,
}

impl Settings {
    /// The API socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    /// The engine's socket.
    pub fn engine_socket(&self) -> PathBuf {
        self.run_dir.join("engine.sock")
    }

    /// Where the engine's process is recorded.
    pub fn engine_record(&self) -> PathBuf {
        self.run_dir.join("engine.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_is_on_in_the_usual_ranges_unless_said_otherwise() {
        let usual = ipv6_ranges(None, None).unwrap();
        assert!(usual.check().is_ok(), "{usual:?}");
        assert_eq!(usual.vip.to_string(), VIP6_RANGE);
        let named = ipv6_ranges("fd00:1:2:3::/64".parse().ok(), "fd00:9::/48".parse().ok()).unwrap();
        assert_eq!(
            (named.vip.to_string().as_str(), named.alias.to_string().as_str()),
            ("fd00:1:2:3::/64", "fd00:9::/48")
        );
        assert_eq!(ipv6_ranges(Some(Vip6Range::Off), None), None);
        assert!("of".parse::<Vip6Range>().is_err() && "10.0.0.0/8".parse::<Vip6Range>().is_err());
    }
}
