//! VPCs and their workloads.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Origin, Status};
use crate::Glob;
use crate::documents::{Attachment, DnsMode, Evidence, Tags};

/// A VPC.
#[derive(Clone, Debug, PartialEq)]
pub struct Vpc {
    /// `account/name`, or `name` for the operator's.
    pub name: String,
    /// `vpc-` and 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// The account it belongs to; none = the operator.
    pub account: Option<String>,
    /// In force or not.
    pub status: Status,
    /// Its addresses.
    pub cidrs: Vec<IpNet>,
    /// Which interfaces are its workloads'.
    pub attachments: Vec<Attachment>,
    /// How its DNS questions come to us.
    pub dns: DnsMode,
    /// Where other names are asked.
    pub dns_upstreams: Vec<SocketAddr>,
    /// For selection.
    pub labels: Tags,
    /// Tags.
    pub tags: Tags,
    /// Where it was written.
    pub origin: Origin,
}

impl Vpc {
    /// Whether it has addresses of IPv4, and of IPv6.
    pub fn families(&self) -> (bool, bool) {
        let any = |v4: bool| self.cidrs.iter().any(|cidr| cidr.addr().is_ipv4() == v4);
        (any(true), any(false))
    }

    /// Whether an address lies in one of its blocks.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidrs.iter().any(|cidr| cidr.contains(&address))
    }
}

impl Workload {
    /// The evidence that its identity can have.
    pub fn evidence(&self) -> Vec<Evidence> {
        if self.cgroup.is_some() {
            return std::iter::once(Evidence::Cgroup).chain(self.uid.map(|_| Evidence::Uid)).collect();
        }
        let named = self.namespace.is_some() || self.namespace_path.is_some() || self.namespace_cgroup.is_some();
        std::iter::once(Evidence::Interface).chain(named.then_some(Evidence::Namespace)).collect()
    }
}

/// A `Workload` document.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Its VPC, by qualified name.
    pub vpc: String,
    /// In force or not.
    pub status: Status,
    /// The role it is to call as, by qualified name; none = the only one that trusts it.
    pub role: Option<String>,
    /// Its host-side interface.
    pub interface: Option<String>,
    /// Its network namespace.
    pub namespace: Option<String>,
    /// Path that leads to its network namespace.
    pub namespace_path: Option<String>,
    /// Cgroup of a process in its network namespace, or one above it.
    pub namespace_cgroup: Option<Glob>,
    /// Cgroup of processes of the host itself, or one above it: the workload is these.
    pub cgroup: Option<Glob>,
    /// Their user; none = any.
    pub uid: Option<u32>,
    /// Link address of its side, where the document says it.
    pub mac: Option<[u8; 6]>,
    /// Its addresses; empty = those discovered.
    pub addresses: Vec<IpAddr>,
    /// Whether it is taken although its interface carries another CNI's programs.
    pub allow_beside_cni: bool,
    /// For selection.
    pub labels: Tags,
    /// Tags.
    pub tags: Tags,
    /// Where it was written.
    pub origin: Origin,
}
