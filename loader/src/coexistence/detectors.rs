//! A table: by which signs each neighbour is recognised, and what it means. Pure.

use super::facts::Facts;
use Sign::{Chain, CniConfig, Device, LegacyTables, Net, Path, Process, Program, RuleTable, Table};
use Verdict::{Refused, Works, WorksBut};

/// What a neighbour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is to be done.
    Works,
    /// Something is to be known or done.
    WorksBut,
    /// Its interfaces are left to it, unless a document says otherwise.
    Refused,
}

impl Verdict {
    /// For programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Works => "works",
            WorksBut => "works-but",
            Refused => "refused",
        }
    }

    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Works => "works",
            WorksBut => "works, but",
            Refused => "refused",
        }
    }
}

/// A neighbour that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub verdict: Verdict,
    /// Why.
    pub means: &'static str,
    /// What to do; empty: nothing.
    pub fix: &'static str,
    /// The signs by which it was recognised.
    pub evidence: Vec<String>,
}

/// Something that only one neighbour leaves.
enum Sign {
    /// A device whose name begins so, perhaps of this kind.
    Device(&'static str, &'static str),
    /// A TCX program, tc filter or cgroup program whose name begins so.
    Program(&'static str),
    /// An nftables table (also of `iptables-nft`).
    Table(&'static str),
    /// A chain whose name begins so.
    Chain(&'static str),
    /// `iptables-legacy` has tables.
    LegacyTables,
    /// A policy rule that leads to this table.
    RuleTable(u32),
    /// A route into this net.
    Net(&'static str),
    /// A process of this name.
    Process(&'static str),
    /// A file or socket.
    Path(&'static str),
    /// A configuration in `/etc/cni/net.d` whose name contains this.
    CniConfig(&'static str),
}

struct Detector {
    name: &'static str,
    /// One is enough.
    signs: &'static [Sign],
    verdict: Verdict,
    means: &'static str,
    fix: &'static str,
}

const ALLOW: &str = "leave its interfaces to it; or, where service traffic may bypass its policies, say allowBesideCni: true \
                     in the Vpc's attachment or the Workload document";
const POLICIES_ELSEWHERE: &str = "its network policies are not asked about service traffic, which is taken before them; all other traffic of the \
                                  workloads stays theirs";
const AUTH_POLICY: &str = "say in Brattice's auth policies and associations who may call whom";

const DETECTORS: &[Detector] = &[
    Detector {
        name: "Cilium",
        signs: &[
            Program("cil_"),
            Program("cilium-"),
            Device("cilium_", ""),
            Device("lxc_health", ""),
            Process("cilium-agent"),
            Path("/run/cilium/cilium.sock"),
            Path("/sys/fs/bpf/cilium"),
            CniConfig("cilium"),
            Chain("CILIUM_"),
            Chain("OLD_CILIUM_"),
            RuleTable(2004),
        ],
        verdict: Refused,
        means: "its programs on pods' interfaces enforce its policies; Brattice's would run first and redirect service traffic past them",
        fix: ALLOW,
    },
    Detector {
        name: "Calico (eBPF)",
        signs: &[Program("cali_"), Program("calico_"), Device("bpfin.cali", ""), Device("bpfout.cali", "")],
        verdict: Refused,
        means: "its programs on pods' interfaces enforce its policies; Brattice's would run first and redirect service traffic past them",
        fix: ALLOW,
    },
    Detector {
        name: "Calico",
        signs: &[
            Chain("cali-"),
            Device("cali", "veth"),
            Device("vxlan.calico", ""),
            Process("calico-node"),
            Process("calico-felix"),
            Path("/var/lib/calico/nodename"),
            CniConfig("calico"),
        ],
        verdict: WorksBut,
        means: POLICIES_ELSEWHERE,
        fix: AUTH_POLICY,
    },
    Detector {
        name: "AWS VPC CNI",
        signs: &[Device("eni", "veth"), Process("aws-k8s-agent"), Path("/run/aws-node/ipam.json"), CniConfig("aws")],
        verdict: WorksBut,
        means: "with its network policy agent, pods' interfaces carry that agent's programs and are refused; without, they are \
                attached",
        fix: ALLOW,
    },
    Detector {
        name: "AWS VPC Lattice",
        signs: &[Net("169.254.171.0/24"), Net("fd00:ec2:80::/64")],
        verdict: Works,
        means: "its range (the managed prefix lists 169.254.171.0/24 and fd00:ec2:80::/64) is never taken for VIPs, so services of \
                both are reached side by side",
        fix: "",
    },
    Detector {
        name: "flannel",
        signs: &[
            Device("flannel", ""),
            Chain("FLANNEL-"),
            Table("flannel-ipv4"),
            Process("flanneld"),
            Path("/run/flannel/subnet.env"),
            CniConfig("flannel"),
        ],
        verdict: Works,
        means: "pods are ports of cni0; their veths are attached like others, and what is not service traffic is flannel's",
        fix: "",
    },
    Detector {
        name: "kube-router",
        signs: &[Chain("KUBE-ROUTER"), Chain("KUBE-POD-FW-"), Process("kube-router"), CniConfig("kuberouter")],
        verdict: WorksBut,
        means: POLICIES_ELSEWHERE,
        fix: AUTH_POLICY,
    },
    Detector {
        name: "Antrea",
        signs: &[Device("antrea-", ""), Process("antrea-agent"), Chain("ANTREA-"), CniConfig("antrea")],
        verdict: WorksBut,
        means: POLICIES_ELSEWHERE,
        fix: AUTH_POLICY,
    },
    Detector {
        name: "Weave Net",
        signs: &[Device("weave", "bridge"), Device("vethwe-", "veth"), Chain("WEAVE-"), CniConfig("weave")],
        verdict: WorksBut,
        means: POLICIES_ELSEWHERE,
        fix: AUTH_POLICY,
    },
    Detector {
        name: "kube-proxy (nftables)",
        signs: &[Table("kube-proxy")],
        verdict: Works,
        means: "it translates ClusterIPs and node ports, which Brattice does not use; service traffic is not tracked, so its NAT never \
                sees it",
        fix: "",
    },
    Detector {
        name: "kube-proxy (iptables)",
        signs: &[Chain("KUBE-SERVICES"), Chain("KUBE-NODEPORTS"), Chain("KUBE-SVC-")],
        verdict: Works,
        means: "it translates ClusterIPs and node ports, which Brattice does not use; service traffic is not tracked, so its NAT never \
                sees it",
        fix: "",
    },
    Detector {
        name: "kube-proxy (ipvs)",
        signs: &[Device("kube-ipvs0", "")],
        verdict: Works,
        means: "it answers for ClusterIPs, which Brattice does not use",
        fix: "",
    },
    Detector {
        name: "kube-proxy",
        signs: &[Process("kube-proxy")],
        verdict: Works,
        means: "it answers for ClusterIPs and node ports, which Brattice does not use",
        fix: "",
    },
    Detector {
        name: "Docker",
        signs: &[
            Device("docker0", ""),
            Device("docker_gwbridge", ""),
            Chain("DOCKER"),
            Table("docker-bridges"),
            Process("dockerd"),
            Path("/run/docker.sock"),
        ],
        verdict: Works,
        means: "containers are ports of its bridges and are attached like others; its masquerading never sees service traffic, \
                which is not tracked",
        fix: "",
    },
    Detector {
        name: "Podman",
        signs: &[
            Device("podman", "bridge"),
            Device("cni-podman", "bridge"),
            Chain("NETAVARK"),
            Table("netavark"),
            Path("/run/podman/podman.sock"),
        ],
        verdict: Works,
        means: "rootful containers are ports of its bridges and are attached like others; rootless ones (pasta, slirp4netns) have no \
                interface here and cannot be",
        fix: "",
    },
    Detector {
        name: "firewalld",
        signs: &[Table("firewalld"), Process("firewalld")],
        verdict: WorksBut,
        means: "its default zone rejects what comes in by brattice0, which is service traffic",
        fix: crate::preflight::FIREWALLD_FIX,
    },
    Detector {
        name: "ufw",
        signs: &[Chain("ufw-"), Chain("ufw6-")],
        verdict: WorksBut,
        means: "with its default (deny incoming) it drops what comes in by brattice0, which is service traffic",
        fix: crate::preflight::UFW_FIX,
    },
    Detector {
        name: "iptables-legacy",
        signs: &[LegacyTables],
        verdict: WorksBut,
        means: "netfilter's trace does not name its rules, so where the probe fails they have to be looked at by hand",
        fix: "iptables-legacy -S; if INPUT drops: iptables-legacy -I INPUT -i brattice0 -j ACCEPT",
    },
    Detector {
        name: "Tailscale",
        signs: &[
            Device("tailscale", ""),
            Chain("ts-input"),
            Process("tailscaled"),
            RuleTable(52),
            Path("/run/tailscale/tailscaled.sock"),
            Path("/var/run/tailscale/tailscaled.sock"),
        ],
        verdict: Works,
        means: "100.64.0.0/10 is its own; aliases are then taken from 198.18.0.0/15",
        fix: "",
    },
    Detector {
        name: "systemd-networkd",
        signs: &[Process("systemd-network"), Path("/run/systemd/netif/state")],
        verdict: WorksBut,
        means: "where a .network file matches brattice0 or lo it removes routes that it did not make; the agent puts them back, and \
                calls fail meanwhile",
        fix: "printf '[Match]\\nName=brattice*\\n[Link]\\nUnmanaged=yes\\n' > /etc/systemd/network/00-brattice.network && \
               mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\\nManageForeignRoutes=no\\n' > \
               /etc/systemd/networkd.conf.d/brattice.conf && systemctl restart systemd-networkd",
    },
    Detector {
        name: "NetworkManager",
        signs: &[
            Process("NetworkManager"),
            Path("/run/NetworkManager/NetworkManager.pid"),
            Path("/run/NetworkManager/devices"),
        ],
        verdict: WorksBut,
        means: "it leaves veth pairs that others made alone by default, but a catch-all connection profile takes them",
        fix: "printf '[keyfile]\\nunmanaged-devices+=interface-name:brattice*\\n' > /etc/NetworkManager/conf.d/brattice.conf && \
               nmcli general reload",
    },
];

/// Neighbours, in the table's order, and one for every device with a program of unknown software.
#[must_use]
pub fn detect(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = DETECTORS
        .iter()
        .filter_map(|detector| {
            let evidence: Vec<String> = detector.signs.iter().filter_map(|sign| sign.seen(facts)).collect();
            (!evidence.is_empty()).then_some(Finding {
                name: detector.name,
                verdict: detector.verdict,
                means: detector.means,
                fix: detector.fix,
                evidence,
            })
        })
        .collect();
    // The process alone says nothing that its rules do not say better.
    if found.iter().any(|finding| finding.name.starts_with("kube-proxy (")) {
        found.retain(|finding| finding.name != "kube-proxy");
    }
    // With its programs on the interfaces its iptables rules are not what enforces.
    if found.iter().any(|finding| finding.name == "Calico (eBPF)") {
        found.retain(|finding| finding.name != "Calico");
    }
    found.extend(others(facts));
    found
}

fn others(facts: &Facts) -> Option<Finding> {
    let mut evidence = Vec::new();
    for device in &facts.devices {
        let unknown =
            device.programs.iter().filter(|program| crate::interfaces::cni_of(&device.name, program).is_none());
        evidence.extend(unknown.map(|program| format!("program {program} on {}", device.name)));
    }
    (!evidence.is_empty()).then_some(Finding {
        name: "other eBPF programs",
        verdict: WorksBut,
        means: "Brattice's run before them on a workload's interface and leave them all that is not service traffic, which they do not see",
        fix: "",
        evidence,
    })
}

/// Every path that is looked for.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    DETECTORS
        .iter()
        .flat_map(|detector| detector.signs)
        .filter_map(|sign| if let Path(path) = sign { Some(*path) } else { None })
}

impl Sign {
    /// What of the facts it is, for people.
    fn seen(&self, facts: &Facts) -> Option<String> {
        match *self {
            Device(prefix, kind) => facts
                .devices
                .iter()
                .find(|device| device.name.starts_with(prefix) && (kind.is_empty() || device.kind == kind))
                .map(|device| format!("interface {}", device.name)),
            Program(prefix) => {
                let on = facts.devices.iter().find_map(|device| {
                    let program = device.programs.iter().find(|program| program.starts_with(prefix))?;
                    Some(format!("program {program} on {}", device.name))
                });
                let cgroup = || facts.cgroup_programs.iter().find(|program| program.starts_with(prefix));
                on.or_else(|| Some(format!("program {} on the root cgroup", cgroup()?)))
            }
            Table(name) => facts
                .chains
                .iter()
                .find(|chain| chain.table == name)
                .map(|chain| format!("nftables table {} {name}", chain.family)),
            Chain(prefix) => facts
                .chains
                .iter()
                .find(|chain| chain.name.starts_with(prefix))
                .map(|chain| format!("chain {} {} {}", chain.family, chain.table, chain.name)),
            LegacyTables => (!facts.legacy_tables.is_empty())
                .then(|| format!("tables of iptables-legacy: {}", facts.legacy_tables.join(", "))),
            RuleTable(table) => facts.rule_tables.contains(&table).then(|| format!("policy rule to table {table}")),
            Net(net) => {
                let net: ipnet::IpNet = net.parse().ok()?;
                let (found, table) = facts.routes.iter().find(|(route, _)| net.contains(route))?;
                Some(format!("route {found} table {table}"))
            }
            Process(name) => facts.processes.get(name).map(|id| format!("process {name} ({id})")),
            Path(path) => facts.files.contains(path).then(|| path.to_owned()),
            CniConfig(part) => {
                facts.cni_configs.iter().find(|name| name.contains(part)).map(|name| format!("/etc/cni/net.d/{name}"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
