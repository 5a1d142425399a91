//! Facts about other network software: what it leaves in the kernel and on the host.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// `veth`, `bridge`, ...; empty for hardware.
    pub kind: String,
    /// Names of the TCX programs and tc filters of other software on it.
    pub programs: Vec<String>,
}

/// An nftables chain, also one that `iptables-nft` made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// `inet`, `ip`, ...
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

/// All of them. What could not be read is absent, and listed in `unread`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Devices of this network namespace.
    pub devices: Vec<Device>,
    /// Chains of other software's tables.
    pub chains: Vec<Chain>,
    /// Names of the tables of `iptables-legacy` that are in use.
    pub legacy_tables: Vec<String>,
    /// Destinations of all routes but default routes, each with its table.
    pub routes: Vec<(IpNet, u32)>,
    /// Tables that policy rules lead to, but local, main and default.
    pub rule_tables: BTreeSet<u32>,
    /// Processes of this network namespace: name (15 bytes at most) → one process id.
    pub processes: BTreeMap<String, u32>,
    /// Those of [`super::detectors::paths`] that exist.
    pub files: BTreeSet<String>,
    /// File names in `/etc/cni/net.d`.
    pub cni_configs: Vec<String>,
    /// Names of the programs on the root cgroup that see connects, sends and packets.
    pub cgroup_programs: Vec<String>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}
