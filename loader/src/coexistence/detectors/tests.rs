//! Recorded facts: what each neighbour leaves on a host of its own.

use std::collections::BTreeSet;

use super::*;
use crate::coexistence::facts::{self, Device as Found};

fn device(name: &str, kind: &str, programs: &[&str]) -> Found {
    Found { name: name.into(), kind: kind.into(), programs: programs.iter().map(|p| (*p).to_owned()).collect() }
}

fn chains(list: &[(&str, &str, &str)]) -> Vec<facts::Chain> {
    let chain = |(family, table, name): &(&str, &str, &str)| facts::Chain {
        family: (*family).into(),
        table: (*table).into(),
        name: (*name).into(),
    };
    list.iter().map(chain).collect()
}

fn processes(list: &[&str]) -> std::collections::BTreeMap<String, u32> {
    list.iter().map(|name| ((*name).to_owned(), 4711)).collect()
}

/// A plain host: no other network software has left a trace.
fn plain() -> Facts {
    Facts {
        devices: vec![
            device("lo", "", &[]),
            device("eth0", "", &[]),
            device("br0", "bridge", &[]),
            device("veth1a2b", "veth", &[]),
        ],
        chains: chains(&[("inet", "filter", "input"), ("ip", "nat", "POSTROUTING"), ("ip", "filter", "INPUT")]),
        routes: vec![("10.0.0.0/24".parse().unwrap(), 254), ("169.254.169.254/32".parse().unwrap(), 254)],
        processes: processes(&["systemd", "sshd", "bash"]),
        cgroup_programs: vec!["sd_fw_ingress".into(), "sd_devices".into()],
        ..Facts::default()
    }
}

/// Names and verdicts of what is found.
fn found(facts: &Facts) -> Vec<(&'static str, Verdict)> {
    detect(facts).iter().map(|finding| (finding.name, finding.verdict)).collect()
}

/// What is found on the plain host with something added.
fn with(add: impl FnOnce(&mut Facts)) -> Vec<(&'static str, Verdict)> {
    let mut facts = plain();
    add(&mut facts);
    found(&facts)
}

#[test]
fn a_plain_host_has_no_neighbours() {
    assert_eq!(found(&plain()), []);
    assert_eq!(found(&Facts::default()), []);
}

#[test]
fn cilium_by_programs_devices_processes_files_and_rules() {
    let cilium = [("Cilium", Refused)];
    assert_eq!(with(|f| f.devices.push(device("lxc1f3", "veth", &["cil_from_contai"]))), cilium);
    assert_eq!(with(|f| f.devices.push(device("cilium_host", "veth", &[]))), cilium);
    assert_eq!(with(|f| f.cgroup_programs.push("cil_sock4_conne".into())), cilium);
    assert_eq!(with(|f| f.processes = processes(&["cilium-agent"])), cilium);
    assert_eq!(with(|f| f.cni_configs.push("05-cilium.conflist".into())), cilium);
    assert_eq!(with(|f| f.chains.extend(chains(&[("ip", "filter", "CILIUM_INPUT")]))), cilium);
    assert_eq!(with(|f| f.rule_tables = BTreeSet::from([2004])), cilium);
    let mut all = plain();
    all.devices.push(device("lxc1f3", "veth", &["cil_from_contai"]));
    all.processes = processes(&["cilium-agent"]);
    let finding = &detect(&all)[0];
    assert_eq!(finding.evidence, ["program cil_from_contai on lxc1f3", "process cilium-agent (4711)"]);
    assert!(finding.fix.contains("allowBesideCni: true"));
}

#[test]
fn calico_with_ebpf_is_told_from_calico_without() {
    let rules = |f: &mut Facts| {
        f.devices.push(device("cali7a", "veth", &[]));
        f.chains.extend(chains(&[("ip", "filter", "cali-INPUT"), ("ip", "filter", "cali-FORWARD")]));
        f.cni_configs.push("10-calico.conflist".into());
    };
    assert_eq!(with(rules), [("Calico", WorksBut)]);
    let ebpf = |f: &mut Facts| {
        rules(f);
        f.devices.push(device("cali7b", "veth", &["cali_tc_preambl"]));
    };
    assert_eq!(with(ebpf), [("Calico (eBPF)", Refused)]);
}

#[test]
fn the_three_kinds_of_kube_proxy() {
    let running = |f: &mut Facts| f.processes = processes(&["kube-proxy"]);
    assert_eq!(with(running), [("kube-proxy", Works)]);
    let iptables = |f: &mut Facts| {
        running(f);
        f.chains.extend(chains(&[("ip", "nat", "KUBE-SERVICES"), ("ip", "nat", "KUBE-SVC-ERIFXISQEP7F7OF4")]));
    };
    assert_eq!(with(iptables), [("kube-proxy (iptables)", Works)]);
    let nftables = |f: &mut Facts| f.chains.extend(chains(&[("ip", "kube-proxy", "services")]));
    assert_eq!(with(nftables), [("kube-proxy (nftables)", Works)]);
    assert_eq!(with(|f| f.devices.push(device("kube-ipvs0", "dummy", &[]))), [("kube-proxy (ipvs)", Works)]);
}

#[test]
fn containers_without_a_cluster() {
    let docker = |f: &mut Facts| {
        f.devices.push(device("docker0", "bridge", &[]));
        f.chains.extend(chains(&[("ip", "nat", "DOCKER"), ("ip", "filter", "DOCKER-USER")]));
    };
    assert_eq!(with(docker), [("Docker", Works)]);
    assert_eq!(with(|f| f.chains.extend(chains(&[("ip", "docker-bridges", "filter-FORWARD")]))), [("Docker", Works)]);
    assert_eq!(with(|f| f.devices.push(device("podman1", "bridge", &[]))), [("Podman", Works)]);
    assert_eq!(with(|f| f.chains.extend(chains(&[("inet", "netavark", "INPUT")]))), [("Podman", Works)]);
}

#[test]
fn firewalls() {
    let firewalld = |f: &mut Facts| f.chains.extend(chains(&[("inet", "firewalld", "filter_INPUT")]));
    assert_eq!(with(firewalld), [("firewalld", WorksBut)]);
    let ufw = |f: &mut Facts| f.chains.extend(chains(&[("ip", "filter", "ufw-before-input")]));
    assert_eq!(with(ufw), [("ufw", WorksBut)]);
    assert_eq!(with(|f| f.legacy_tables.push("filter".into())), [("iptables-legacy", WorksBut)]);
    for name in ["firewalld", "ufw", "iptables-legacy"] {
        let detector = DETECTORS.iter().find(|detector| detector.name == name).unwrap();
        assert!(detector.fix.contains("brattice0"), "{name} is repaired: {}", detector.fix);
    }
}

#[test]
fn tailscale_by_its_rule_table_alone() {
    assert_eq!(with(|f| f.rule_tables = BTreeSet::from([52])), [("Tailscale", Works)]);
    assert_eq!(with(|f| f.devices.push(device("tailscale0", "tun", &[]))), [("Tailscale", Works)]);
    assert_eq!(with(|f| f.chains.extend(chains(&[("ip", "filter", "ts-input")]))), [("Tailscale", Works)]);
    assert_eq!(with(|f| f.rule_tables = BTreeSet::from([53])), []);
}

#[test]
fn who_else_writes_routes() {
    let networkd = |f: &mut Facts| {
        f.files.insert("/run/systemd/netif/state".into());
    };
    assert_eq!(with(networkd), [("systemd-networkd", WorksBut)]);
    // 15 bytes of systemd-networkd.
    assert_eq!(with(|f| f.processes = processes(&["systemd-network"])), [("systemd-networkd", WorksBut)]);
    assert_eq!(with(|f| f.processes = processes(&["NetworkManager"])), [("NetworkManager", WorksBut)]);
}

#[test]
fn clouds() {
    for lattice in ["169.254.171.0/24", "169.254.171.32/27", "fd00:ec2:80::/64"] {
        let facts = |f: &mut Facts| f.routes.push((lattice.parse().unwrap(), 254));
        assert_eq!(with(facts), [("AWS VPC Lattice", Works)], "{lattice}");
    }
    // Around it is not its own.
    assert_eq!(with(|f| f.routes.push(("169.254.0.0/16".parse().unwrap(), 254))), []);
    assert_eq!(with(|f| f.cni_configs.push("10-aws.conflist".into())), [("AWS VPC CNI", WorksBut)]);
    let policies = with(|f| f.devices.push(device("eni8a1b2c", "veth", &["handle_ingress"])));
    assert_eq!(policies, [("AWS VPC CNI", WorksBut)], "its program is no stranger's");
}

#[test]
fn other_cnis() {
    for (config, name, verdict) in [
        ("10-flannel.conflist", "flannel", Works),
        ("10-kuberouter.conf", "kube-router", WorksBut),
        ("10-antrea.conflist", "Antrea", WorksBut),
        ("10-weave.conflist", "Weave Net", WorksBut),
    ] {
        assert_eq!(with(|f| f.cni_configs.push(config.into())), [(name, verdict)]);
    }
}

#[test]
fn programs_of_strangers_are_named() {
    let facts = |f: &mut Facts| f.devices.push(device("veth9", "veth", &["monitor", "monitor2"]));
    assert_eq!(with(facts), [("other eBPF programs", WorksBut)]);
    let mut all = plain();
    facts(&mut all);
    assert_eq!(detect(&all)[0].evidence, ["program monitor on veth9", "program monitor2 on veth9"]);
}

#[test]
fn the_table_is_whole() {
    let mut names = BTreeSet::new();
    for detector in DETECTORS {
        assert!(names.insert(detector.name), "{} is there twice", detector.name);
        assert!(!detector.signs.is_empty() && !detector.means.is_empty(), "{}", detector.name);
        assert!(detector.verdict == Works || !detector.fix.is_empty(), "{} says what to do", detector.name);
    }
}

#[test]
fn the_page_has_every_neighbour_and_its_verdict() {
    let page = std::fs::read_to_string("../docs/coexistence.md").unwrap();
    let rows: Vec<(&str, &str)> = page
        .lines()
        .skip_while(|line| !line.starts_with("| neighbour |"))
        .skip(2)
        .map_while(|line| line.strip_prefix("| "))
        .filter_map(|line| {
            let mut cells = line.split(" | ");
            Some((cells.next()?, cells.next()?))
        })
        .collect();
    let mut table: Vec<(&str, &str)> = DETECTORS.iter().map(|d| (d.name, d.verdict.text())).collect();
    table.push(("other eBPF programs", WorksBut.text()));
    assert_eq!(rows, table);
}
