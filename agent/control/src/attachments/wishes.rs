//! What the documents wish to be attached, and which interfaces that means.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use brattice_loader::interfaces::Interface;
use brattice_loader::interfaces::places::{Asked, NoNamespace, Places};
use brattice_model::{Attachment, DnsMode, Glob, Model};
use ipnet::IpNet;

use super::{Code, NETKIT, PASSES_BY};

/// A VPC, as far as attaching needs it.
#[derive(Clone, Debug)]
pub struct VpcWish {
    /// Qualified name.
    pub name: String,
    /// Its addresses.
    pub cidrs: Vec<IpNet>,
    /// Which interfaces are its workloads'.
    pub selectors: Vec<Attachment>,
    /// Port 53 to any address is taken.
    pub intercept_dns: bool,
}

/// Which processes of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostWish {
    /// Their cgroup, or one above it.
    pub cgroup: Glob,
    /// Their user; none: any.
    pub uid: Option<u32>,
}

/// A `Workload` document.
#[derive(Clone, Debug)]
pub struct WorkloadWish {
    /// Its name.
    pub name: String,
    /// Qualified name of its VPC.
    pub vpc: String,
    /// Host-side interface.
    pub interface: Option<String>,
    /// Named network namespace.
    pub namespace: Option<String>,
    /// Path of a network namespace.
    pub path: Option<String>,
    /// Cgroup of a process in its network namespace.
    pub cgroup: Option<Glob>,
    /// Processes of the host itself, in place of an interface.
    pub host: Option<HostWish>,
    /// Link address of its side, where the document says it.
    pub mac: Option<[u8; 6]>,
    /// Authoritative addresses; empty: those discovered.
    pub addresses: Vec<IpAddr>,
    /// Its interface may carry another CNI's programs.
    pub allow_beside_cni: bool,
}

/// What the documents wish.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// VPCs.
    pub vpcs: Vec<VpcWish>,
    /// `Workload` documents.
    pub workloads: Vec<WorkloadWish>,
    /// Whether the node does IPv6 now.
    pub ipv6: bool,
    /// Where the namespaces that they ask for are.
    pub places: Places,
}

impl Wishes {
    /// From the model: what is in force.
    pub fn of(model: &Model) -> Self {
        let vpcs = model.vpcs.iter().filter(|vpc| vpc.status.is_active()).map(|vpc| VpcWish {
            name: vpc.name.clone(),
            cidrs: vpc.cidrs.clone(),
            selectors: vpc.attachments.clone(),
            intercept_dns: vpc.dns == DnsMode::Intercept,
        });
        let workloads =
            model.workloads.iter().filter(|workload| workload.status.is_active()).map(|workload| WorkloadWish {
                name: workload.name.clone(),
                vpc: workload.vpc.clone(),
                interface: workload.interface.clone(),
                namespace: workload.namespace.clone(),
                path: workload.namespace_path.clone(),
                cgroup: workload.namespace_cgroup.clone(),
                host: workload.cgroup.clone().map(|cgroup| HostWish { cgroup, uid: workload.uid }),
                mac: workload.mac,
                addresses: workload.addresses.clone(),
                allow_beside_cni: workload.allow_beside_cni,
            });
        Self {
            vpcs: vpcs.collect(),
            workloads: workloads.collect(),
            ipv6: model.serves_ipv6().is_some(),
            places: Places::default(),
        }
    }

    /// What has to be looked for in paths and cgroups.
    pub fn asked(&self) -> Asked {
        let globs: Vec<Glob> = (self.vpcs.iter().flat_map(|vpc| &vpc.selectors))
            .filter_map(|selector| selector.namespace_cgroup.clone())
            .chain(self.workloads.iter().filter_map(|wish| wish.cgroup.clone()))
            .collect();
        let hosts: Vec<Glob> =
            self.workloads.iter().filter_map(|wish| Some(wish.host.as_ref()?.cgroup.clone())).collect();
        Asked {
            paths: self.workloads.iter().filter_map(|wish| wish.path.clone()).collect(),
            prefixes: globs.iter().chain(&hosts).map(|glob| glob.prefix().to_owned()).collect(),
            wanted: Arc::new(move |cgroup| globs.iter().any(|glob| glob.covers(cgroup))),
            hosts: Arc::new(move |cgroup| hosts.iter().any(|glob| glob.matches(cgroup))),
        }
    }
}

impl VpcWish {
    pub(super) fn selects(&self, interface: &Interface, places: &Places) -> bool {
        self.selecting(interface, places).next().is_some()
    }

    pub(super) fn selecting<'a>(
        &'a self,
        interface: &'a Interface,
        places: &'a Places,
    ) -> impl Iterator<Item = &'a Attachment> {
        let namespace = interface.peer.as_ref().and_then(|peer| peer.namespace.as_deref());
        self.selectors.iter().filter(move |selector| {
            selector.interface.as_ref().is_none_or(|glob| glob.matches(&interface.name))
                && selector.namespace.as_ref().is_none_or(|glob| namespace.is_some_and(|name| glob.matches(name)))
                && selector.namespace_cgroup.as_ref().is_none_or(|glob| in_cgroup(interface, glob, places))
        })
    }
}

fn in_cgroup(interface: &Interface, glob: &Glob, places: &Places) -> bool {
    let inode = interface.peer.as_ref().and_then(|peer| peer.namespace_inode);
    inode
        .and_then(|inode| places.cgroups.get(&inode))
        .is_some_and(|cgroups| cgroups.iter().any(|cgroup| glob.covers(cgroup)))
}

impl WorkloadWish {
    pub(super) fn means(&self, interface: &Interface, places: &Places) -> bool {
        let peer = interface.peer.as_ref();
        let namespace = peer.and_then(|peer| peer.namespace.as_deref());
        let at = |path: &String| {
            let there = places.paths.get(path).and_then(|found| found.as_ref().ok());
            there.is_some() && there.copied() == peer.and_then(|peer| peer.namespace_inode)
        };
        self.interface.as_ref().is_none_or(|name| *name == interface.name)
            && self.namespace.as_ref().is_none_or(|name| namespace == Some(name))
            && self.path.as_ref().is_none_or(at)
            && self.cgroup.as_ref().is_none_or(|glob| in_cgroup(interface, glob, places))
            && (self.interface.is_some() || self.namespace.is_some() || self.path.is_some() || self.cgroup.is_some())
    }

    pub(super) fn place(&self) -> String {
        let behind: Vec<String> = [
            self.namespace.as_ref().map(|name| format!("namespace {name}")),
            self.path.as_ref().map(|path| format!("the namespace at {path}")),
            self.cgroup.as_ref().map(|glob| format!("a process of cgroup {glob}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (&self.interface, behind.is_empty()) {
            (Some(interface), true) => format!("interface {interface}"),
            (Some(interface), false) => format!("interface {interface} with {} behind it", behind.join(" and ")),
            (None, true) => "interface".to_owned(),
            (None, false) => format!("interface with {} behind it", behind.join(" and ")),
        }
    }

    /// Why it means no interface.
    pub(super) fn nowhere(&self, places: &Places) -> (Code, String) {
        let there = self.path.as_ref().and_then(|path| Some((path, places.paths.get(path)?)));
        if let Some((path, Err(why))) = there {
            let code = match why {
                NoNamespace::Missing => Code::NoInterface,
                NoNamespace::ProcessGone => Code::ProcessGone,
                NoNamespace::Host => Code::HostNamespace,
                NoNamespace::Symlink | NoNamespace::Other(_) | NoNamespace::Refused(_) => Code::NotANamespace,
            };
            return (code, format!("{path}: {why}"));
        }
        let inside = there.and_then(|(_, found)| places.inside.get(found.as_ref().ok()?));
        let has = |kind: &str| inside.is_some_and(|kinds| kinds.contains(kind));
        let path = self.path.as_deref().unwrap_or_default();
        for (kind, code) in [("macvlan", Code::Macvlan), ("ipvlan", Code::Ipvlan)] {
            if has(kind) {
                return (code, format!("what is in the namespace at {path} is a {kind}: {PASSES_BY}"));
            }
        }
        if has("netkit") {
            return (Code::Netkit, format!("what is in the namespace at {path} is a netkit: {NETKIT}"));
        }
        (Code::NoInterface, format!("there is no {} now; it is attached when it appears", self.place()))
    }
}

impl HostWish {
    pub(super) fn place(&self) -> String {
        let user = self.uid.map_or_else(String::new, |uid| format!(", user {uid}"));
        format!("cgroup {}{user}", self.cgroup)
    }
}

/// Namespaces with the other end of an interface here.
pub fn paired(interfaces: &[Interface]) -> BTreeSet<u64> {
    interfaces.iter().filter_map(|interface| interface.peer.as_ref()?.namespace_inode).collect()
}
