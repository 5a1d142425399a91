use brattice_loader::interfaces::places::NoNamespace;
use brattice_model::{Attachment, Glob};

use super::*;
use crate::fixtures;

fn veth(ifindex: u32, name: &str, namespace: &str, addresses: &[&str]) -> Interface {
    let mut veth = fixtures::veth(ifindex, name, addresses);
    veth.peer.as_mut().unwrap().namespace = Some(namespace.into());
    veth
}

fn selector(interface: Option<&str>, namespace: Option<&str>) -> Attachment {
    let glob = |text: &str| Glob::new(text).unwrap();
    Attachment {
        interface: interface.map(glob),
        namespace: namespace.map(glob),
        namespace_cgroup: None,
        allow_beside_cni: false,
    }
}

fn vpc(name: &str, selectors: &[Attachment]) -> VpcWish {
    VpcWish {
        name: name.into(),
        cidrs: vec!["10.0.0.0/16".parse().unwrap()],
        selectors: selectors.to_vec(),
        intercept_dns: false,
    }
}

fn workload(
    name: &str,
    vpc: &str,
    interface: Option<&str>,
    namespace: Option<&str>,
    addresses: &[&str],
) -> WorkloadWish {
    WorkloadWish {
        name: name.into(),
        vpc: vpc.into(),
        interface: interface.map(Into::into),
        namespace: namespace.map(Into::into),
        path: None,
        cgroup: None,
        host: None,
        mac: None,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        allow_beside_cni: false,
    }
}

fn wishes(vpcs: Vec<VpcWish>, workloads: Vec<WorkloadWish>) -> Wishes {
    Wishes { vpcs, workloads, ipv6: true, places: Places::default() }
}

fn none() -> BTreeMap<(String, IpAddr), Identity> {
    BTreeMap::new()
}

fn blue() -> VpcWish {
    vpc("blue", &[selector(Some("blue*"), None)])
}

/// The codes of one interface's refusals, and its addresses.
fn outcome(decisions: &[Decision], interface: &str) -> (Vec<Code>, Vec<String>) {
    let decision = decisions.iter().find(|d| d.interface == interface).expect("a decision");
    (decision.refused.iter().map(|r| r.code).collect(), decision.addresses.iter().map(ToString::to_string).collect())
}

#[test]
fn selection_by_interface_and_namespace() {
    let interfaces = [veth(5, "blue0", "ns-a", &["10.0.0.10"]), veth(6, "green0", "ns-b", &["10.0.0.10"])];
    let wish = wishes(vec![blue(), vpc("green", &[selector(None, Some("ns-?"))])], vec![]);
    let decisions = decide(&interfaces, &wish, &none(), &Rests::default());
    // blue0 lies in ns-a, which green selects, too.
    assert_eq!(outcome(&decisions, "blue0"), (vec![Code::ClaimedByTwoVpcs], vec![]));
    assert_eq!(outcome(&decisions, "green0"), (vec![], vec!["10.0.0.10".into()]));
    let both = wishes(vec![vpc("green", &[selector(Some("green*"), Some("ns-a"))])], vec![]);
    assert!(decide(&interfaces, &both, &none(), &Rests::default()).is_empty(), "what is given must all match");
}

#[test]
fn equal_addresses_in_two_vpcs_do_not_conflict() {
    let interfaces = [veth(5, "blue0", "a", &["10.0.0.10"]), veth(6, "green0", "b", &["10.0.0.10"])];
    let wish = wishes(vec![blue(), vpc("green", &[selector(Some("green*"), None)])], vec![]);
    assert!(
        decide(&interfaces, &wish, &none(), &Rests::default()).iter().all(|d| d.attached() && d.refused.is_empty())
    );
}

#[test]
fn what_is_never_attached() {
    let mut interfaces = vec![
        veth(1, "brattice0", "a", &["10.0.0.1"]),
        veth(2, "uplink", "a", &["10.0.0.2"]),
        veth(3, "br0", "a", &["10.0.0.3"]),
        veth(4, "eth0", "a", &["10.0.0.4"]),
        veth(5, "lonely", "a", &["10.0.0.5"]),
        veth(6, "port", "a", &["10.0.0.6"]),
    ];
    interfaces[1].has_default_route = true;
    interfaces[2].kind = "bridge".into();
    interfaces[3].kind = String::new();
    interfaces[4].peer = None;
    interfaces[5].master = Some(3);
    let decisions = decide(
        &interfaces,
        &wishes(vec![vpc("blue", &[selector(Some("*"), None)])], vec![]),
        &none(),
        &Rests::default(),
    );
    for (name, code) in [
        ("brattice0", Code::Own),
        ("uplink", Code::DefaultRoute),
        ("br0", Code::Bridge),
        ("eth0", Code::NotVeth),
        ("lonely", Code::PeerUnknown),
    ] {
        assert_eq!(outcome(&decisions, name), (vec![code], vec![]), "{name}");
    }
    assert_eq!(outcome(&decisions, "port"), (vec![], vec!["10.0.0.6".into()]), "a bridge's port may be attached");
    // A document changes nothing about that.
    let document = workload("gateway", "blue", Some("uplink"), None, &["10.0.0.2"]);
    let decisions = decide(&interfaces, &wishes(vec![blue()], vec![document]), &none(), &Rests::default());
    assert_eq!(outcome(&decisions, "uplink"), (vec![Code::DefaultRoute], vec![]));
}

#[test]
fn discovered_addresses_count_inside_the_vpc_only() {
    let interfaces = [
        veth(5, "blue0", "a", &["10.0.0.10", "192.168.1.1", "fe80::1"]),
        veth(6, "blue1", "b", &["172.16.0.1"]),
        veth(7, "blue2", "c", &["fe80::1"]),
    ];
    let decisions = decide(&interfaces, &wishes(vec![blue()], vec![]), &none(), &Rests::default());
    assert_eq!(outcome(&decisions, "blue0"), (vec![Code::OutsideVpc], vec!["10.0.0.10".into()]));
    assert_eq!(outcome(&decisions, "blue1"), (vec![Code::OutsideVpc], vec![]));
    assert_eq!(outcome(&decisions, "blue2"), (vec![Code::NoAddress], vec![]));
}

#[test]
fn the_later_claimant_is_refused() {
    let (first, second) = (veth(5, "blue0", "a", &["10.0.0.10"]), veth(6, "blue1", "b", &["10.0.0.10", "10.0.0.11"]));
    let wish = wishes(vec![blue()], vec![]);
    let interfaces = [first, second];
    let decisions = decide(&interfaces, &wish, &none(), &Rests::default());
    assert_eq!(outcome(&decisions, "blue0").1, ["10.0.0.10"]);
    assert_eq!(outcome(&decisions, "blue1"), (vec![Code::AddressConflict], vec!["10.0.0.11".into()]));
    // The holder keeps it, even with the larger index.
    let holder = decide(&interfaces[1..], &wish, &none(), &Rests::default())[0].identity.unwrap();
    let holders = BTreeMap::from([(("blue".to_owned(), "10.0.0.10".parse().unwrap()), holder)]);
    let decisions = decide(&interfaces, &wish, &holders, &Rests::default());
    assert_eq!(outcome(&decisions, "blue0"), (vec![Code::AddressConflict], vec![]));
    assert_eq!(outcome(&decisions, "blue1").1, ["10.0.0.10", "10.0.0.11"]);
    // A document takes the address from a workload that has no document for it.
    let named = wishes(vec![blue()], vec![workload("app", "blue", Some("blue0"), None, &["10.0.0.10"])]);
    let decisions = decide(&interfaces, &named, &holders, &Rests::default());
    assert_eq!(outcome(&decisions, "blue0").1, ["10.0.0.10"]);
    assert_eq!(outcome(&decisions, "blue1"), (vec![Code::AddressConflict], vec!["10.0.0.11".into()]));
}

#[test]
fn documents_are_authoritative() {
    let interfaces = [veth(5, "veth5", "ns-a", &["10.0.0.66"]), veth(6, "veth6", "ns-b", &["10.0.0.7"])];
    let wish = wishes(
        vec![blue()],
        vec![
            workload("app", "blue", None, Some("ns-a"), &["10.0.0.10"]),
            workload("db", "blue", Some("veth6"), None, &[]),
            workload("late", "blue", Some("veth9"), None, &["10.0.0.9"]),
        ],
    );
    let decisions = decide(&interfaces, &wish, &none(), &Rests::default());
    assert_eq!(outcome(&decisions, "veth5"), (vec![], vec!["10.0.0.10".into()]), "not 10.0.0.66, which it gave itself");
    assert_eq!(outcome(&decisions, "veth6"), (vec![], vec!["10.0.0.7".into()]));
    assert_eq!(outcome(&decisions, "veth9"), (vec![Code::NoInterface], vec![]));
    assert_eq!(decisions.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["app", "db", "late"]);
}

#[test]
fn ambiguous_documents_are_refused() {
    let interfaces = [veth(5, "veth5", "ns-a", &["10.0.0.5"]), veth(6, "veth6", "ns-a", &["10.0.0.6"])];
    let wish = wishes(
        vec![blue(), vpc("green", &[])],
        vec![
            workload("app", "blue", None, Some("ns-a"), &[]),
            workload("one", "blue", Some("veth5"), None, &[]),
            workload("two", "blue", Some("veth5"), None, &[]),
            workload("six", "blue", Some("veth6"), None, &[]),
            workload("seven", "green", Some("veth6"), None, &[]),
        ],
    );
    let decisions = decide(&interfaces, &wish, &none(), &Rests::default());
    assert!(decisions.iter().all(|d| !d.attached()), "{decisions:#?}");
    assert_eq!(outcome(&decisions, "").0, [Code::AmbiguousWorkload]);
    assert_eq!(outcome(&decisions, "veth5").0, [Code::AmbiguousWorkload]);
    assert_eq!(outcome(&decisions, "veth6").0, [Code::ClaimedByTwoVpcs]);
}

#[test]
fn names_do_not_collide() {
    let interfaces = [veth(5, "blue0", "a", &["10.0.0.5"]), veth(6, "blue1", "b", &["10.0.0.6"])];
    let wish = wishes(vec![blue()], vec![workload("blue1", "blue", Some("blue0"), None, &[])]);
    let names: Vec<String> =
        decide(&interfaces, &wish, &none(), &Rests::default()).into_iter().map(|d| d.name).collect();
    assert_eq!(names, ["blue1", "blue1@6"]);
}

#[test]
fn another_namespace_behind_the_interface_is_another_identity() {
    let before = veth(5, "blue0", "a", &["10.0.0.5"]);
    let mut after = before.clone();
    after.peer.as_mut().unwrap().namespace_inode = Some(1);
    let wish = wishes(vec![blue()], vec![]);
    let claim =
        |interface: Interface| decide(&[interface], &wish, &none(), &Rests::default())[0].claims().next().unwrap();
    assert_ne!(claim(before.clone()), claim(after));
    let mut other_mac = before.clone();
    other_mac.peer.as_mut().unwrap().mac[5] ^= 1;
    assert_ne!(claim(before), claim(other_mac));
}

#[test]
fn the_smaller_end_of_the_pair_decides_the_mtu() {
    let mtu = |host: u32, inside: u32| {
        let mut interface = veth(5, "blue0", "a", &["10.0.0.5"]);
        interface.mtu = host;
        interface.peer.as_mut().unwrap().mtu = inside;
        decide(&[interface], &wishes(vec![blue()], vec![]), &none(), &Rests::default())[0].mtu
    };
    assert_eq!(mtu(9000, 1400), 1400);
    assert_eq!(mtu(1500, 9000), 1500);
    assert_eq!(mtu(1500, 0), 1500, "not known");
}

fn dual(name: &str, cidrs: &[&str]) -> VpcWish {
    let cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
    VpcWish { cidrs, ..vpc(name, &[selector(Some(name), None)]) }
}

fn addresses(decision: &Decision) -> Vec<String> {
    decision.addresses.iter().map(ToString::to_string).collect()
}

fn codes(decision: &Decision) -> Vec<Code> {
    decision.refused.iter().map(|refusal| refusal.code).collect()
}

#[test]
fn a_workload_has_addresses_of_the_families_of_its_vpc() {
    let both = ["10.0.0.10", "fd10::10"];
    let interfaces = [veth(7, "four", "n7", &both), veth(8, "six", "n8", &both), veth(9, "dual", "n9", &both)];
    let vpcs =
        vec![dual("four", &["10.0.0.0/16"]), dual("six", &["fd10::/64"]), dual("dual", &["10.0.0.0/16", "fd10::/64"])];
    let decisions = decide(&interfaces, &wishes(vpcs, Vec::new()), &BTreeMap::new(), &Rests::default());
    let of = |name: &str| decisions.iter().find(|decision| decision.name == name).unwrap();
    assert_eq!(addresses(of("four")), ["10.0.0.10"]);
    assert_eq!(codes(of("four")), [], "nobody asked for its IPv6 address");
    assert_eq!(addresses(of("six")), ["fd10::10"]);
    assert_eq!(codes(of("six")), [Code::OutsideVpc], "its IPv4 address");
    assert_eq!(addresses(of("dual")), both);
    assert_eq!(codes(of("dual")), []);
}

#[test]
fn an_ipv6_address_outside_the_vpc_or_of_a_node_without_ipv6_is_told() {
    let interfaces = [veth(7, "dual", "n7", &["10.0.0.10", "fd11::10", "fd10::10"])];
    let vpcs = || vec![dual("dual", &["10.0.0.0/16", "fd10::/64"])];
    let decision = decide(&interfaces, &wishes(vpcs(), Vec::new()), &BTreeMap::new(), &Rests::default()).remove(0);
    assert_eq!(
        (addresses(&decision), codes(&decision)),
        (vec!["10.0.0.10".into(), "fd10::10".into()], vec![Code::OutsideVpc])
    );
    let without = Wishes { ipv6: false, ..wishes(vpcs(), Vec::new()) };
    let decision = decide(&interfaces, &without, &BTreeMap::new(), &Rests::default()).remove(0);
    assert_eq!(addresses(&decision), ["10.0.0.10"]);
    assert_eq!(codes(&decision), [Code::NoIpv6, Code::NoIpv6]);
    assert!(decision.reason().unwrap().contains("fd10::10 cannot be served: this node does no IPv6"), "{decision:?}");
}

#[test]
fn without_an_address_of_either_family_there_is_none() {
    let interfaces = [veth(7, "dual", "n7", &[])];
    let decision = decide(
        &interfaces,
        &wishes(vec![dual("dual", &["10.0.0.0/16", "fd10::/64"])], Vec::new()),
        &BTreeMap::new(),
        &Rests::default(),
    );
    assert_eq!(codes(&decision[0]), [Code::NoAddress]);
}

#[test]
fn an_interface_of_another_cni_is_taken_only_where_a_document_allows_it() {
    use brattice_loader::interfaces::{Hook, Program};
    let carrying = |name: &str, program: &str| {
        let mut interface = veth(5, name, "a", &["10.0.0.5"]);
        interface.programs = vec![Program { hook: Hook::TcIngress, name: program.into() }];
        interface
    };
    let cilium = [carrying("blue0", "cil_from_contai")];
    let refused = decide(&cilium, &wishes(vec![blue()], vec![]), &none(), &Rests::default());
    assert_eq!(outcome(&refused, "blue0"), (vec![Code::CarriesCni], vec![]));
    let reason = refused[0].reason().unwrap();
    for told in ["Cilium", "cil_from_contai", "tc ingress", "allowBesideCni: true"] {
        assert!(reason.contains(told), "{told}: {reason}");
    }
    // A program of no known data path changes nothing.
    let monitor = [carrying("blue0", "monitor")];
    assert_eq!(outcome(&decide(&monitor, &wishes(vec![blue()], vec![]), &none(), &Rests::default()), "blue0").0, []);

    // Allowed by the attachment that selects it, not by another.
    let allowing = |glob: &str| Attachment { allow_beside_cni: true, ..selector(Some(glob), None) };
    let other = vpc("blue", &[selector(Some("blue*"), None), allowing("green*")]);
    assert_eq!(
        outcome(&decide(&cilium, &wishes(vec![other], vec![]), &none(), &Rests::default()), "blue0").0,
        [Code::CarriesCni]
    );
    let this = vpc("blue", &[allowing("blue*")]);
    let taken = decide(&cilium, &wishes(vec![this], vec![]), &none(), &Rests::default());
    assert_eq!(outcome(&taken, "blue0"), (vec![], vec!["10.0.0.5".into()]));

    // By the document that names it.
    let document =
        |allow| WorkloadWish { allow_beside_cni: allow, ..workload("app", "blue", Some("blue0"), None, &[]) };
    let with = |allow| decide(&cilium, &wishes(vec![blue()], vec![document(allow)]), &none(), &Rests::default());
    assert_eq!(outcome(&with(false), "blue0").0, [Code::CarriesCni]);
    assert_eq!(outcome(&with(true), "blue0"), (vec![], vec!["10.0.0.5".into()]));

    // What can never be attached stays so.
    let mut uplink = carrying("blue0", "cil_from_netdev");
    uplink.has_default_route = true;
    let this = vpc("blue", &[allowing("blue*")]);
    assert_eq!(
        outcome(&decide(&[uplink], &wishes(vec![this], vec![]), &none(), &Rests::default()), "blue0").0,
        [Code::DefaultRoute]
    );
}

/// A guest's tap.
fn tap(ifindex: u32, name: &str) -> Interface {
    Interface { kind: "tap".into(), peer: None, ..veth(ifindex, name, "", &[]) }
}

#[test]
fn a_tap_takes_addresses_and_link_address_from_its_document_alone() {
    let interfaces = [tap(5, "blue0"), tap(6, "blue1"), tap(7, "blue2")];
    let guest = [0x52, 0x54, 0, 1, 2, 3];
    let whole = WorkloadWish { mac: Some(guest), ..workload("whole", "blue", Some("blue0"), None, &["10.0.0.10"]) };
    let addressless = WorkloadWish { mac: Some(guest), ..workload("bare", "blue", Some("blue1"), None, &[]) };
    let decisions = decide(&interfaces, &wishes(vec![blue()], vec![whole, addressless]), &none(), &Rests::default());
    assert_eq!(outcome(&decisions, "blue0"), (vec![], vec!["10.0.0.10".to_owned()]));
    let decision = decisions.iter().find(|d| d.interface == "blue0").unwrap();
    assert_eq!((decision.mac, decision.identity), (guest, identity_of(&interfaces[0])));
    assert_eq!(outcome(&decisions, "blue1"), (vec![Code::NoAddress], vec![]));
    assert_eq!(outcome(&decisions, "blue2"), (vec![Code::NoMacAddress], vec![]));
    // As the port of a bridge it is the same.
    let bridged = [Interface { master: Some(9), ..tap(5, "blue0") }];
    let whole = WorkloadWish { mac: Some(guest), ..workload("whole", "blue", Some("blue0"), None, &["10.0.0.10"]) };
    let decisions = decide(&bridged, &wishes(vec![blue()], vec![whole]), &none(), &Rests::default());
    assert!(decisions[0].attached());
}

#[test]
fn kinds_that_cannot_be_attested_are_refused_each_with_its_reason() {
    let kinds = [
        ("macvlan", Code::Macvlan),
        ("macvtap", Code::Macvlan),
        ("ipvlan", Code::Ipvlan),
        ("ipvtap", Code::Ipvlan),
        ("netkit", Code::Netkit),
        ("tun", Code::Tun),
        ("vxlan", Code::NotVeth),
    ];
    for (kind, code) in kinds {
        let of = |kind: &str| [Interface { kind: kind.into(), ..veth(5, "blue0", "ns-a", &["10.0.0.10"]) }];
        let decisions = decide(&of(kind), &wishes(vec![blue()], vec![]), &none(), &Rests::default());
        assert_eq!(outcome(&decisions, "blue0"), (vec![code], vec![]), "{kind}");
        let decisions = decide(&of("veth"), &wishes(vec![blue()], vec![]), &none(), &Rests::default());
        assert!(decisions[0].attached());
    }
}

fn cgroup(name: &str) -> Glob {
    Glob::path(name).unwrap()
}

#[test]
fn a_cgroup_selects_the_interface_before_its_processes_namespace() {
    let unnamed = |ifindex, name: &str, address: &str| {
        let mut interface = veth(ifindex, name, "", &[address]);
        if let Some(peer) = &mut interface.peer {
            peer.namespace = None;
        }
        interface
    };
    let interfaces = [unnamed(5, "veth5", "10.0.0.5"), unnamed(6, "veth6", "10.0.0.6")];
    let in_cgroup = |ifindex: u64, name: &str| (4_000_000_000 + ifindex, BTreeSet::from([name.to_owned()]));
    let places = Places {
        cgroups: BTreeMap::from([
            in_cgroup(5, "system.slice/pay-1.scope/app"),
            in_cgroup(6, "system.slice/pay-2.scope"),
        ]),
        ..Places::default()
    };
    let wish = |glob: &str| WorkloadWish { cgroup: Some(cgroup(glob)), ..workload("pay", "blue", None, None, &[]) };
    let of = |workloads, vpcs| Wishes { places: places.clone(), ..wishes(vpcs, workloads) };
    let nobody = || vpc("blue", &[]);
    let decisions =
        decide(&interfaces, &of(vec![wish("system.slice/pay-1.scope")], vec![nobody()]), &none(), &Rests::default());
    assert_eq!(outcome(&decisions, "veth5"), (vec![], vec!["10.0.0.5".to_owned()]));
    assert_eq!(decisions.len(), 1);
    // One document, two namespaces.
    let decisions =
        decide(&interfaces, &of(vec![wish("system.slice/pay-*")], vec![nobody()]), &none(), &Rests::default());
    assert_eq!(decisions[0].refused[0].code, Code::AmbiguousWorkload);
    // None.
    let decisions =
        decide(&interfaces, &of(vec![wish("system.slice/other")], vec![nobody()]), &none(), &Rests::default());
    assert_eq!(decisions[0].refused[0].code, Code::NoInterface);
    // A VPC may select many; two VPCs not the same one.
    let selecting = |name: &str, glob: &str| {
        vpc(name, &[Attachment { namespace_cgroup: Some(cgroup(glob)), ..selector(None, None) }])
    };
    let decisions =
        decide(&interfaces, &of(vec![], vec![selecting("blue", "system.slice/pay-*")]), &none(), &Rests::default());
    assert_eq!(decisions.iter().filter(|d| d.attached()).count(), 2);
    let both = vec![selecting("blue", "system.slice/pay-*"), selecting("green", "system.slice/pay-1*")];
    let decisions = decide(&interfaces, &of(vec![], both), &none(), &Rests::default());
    assert_eq!(outcome(&decisions, "veth5").0, [Code::ClaimedByTwoVpcs]);
    assert_eq!(outcome(&decisions, "veth6").0, []);
}

#[test]
fn a_path_selects_the_interface_before_that_namespace_or_says_why_not() {
    let interfaces = [veth(5, "veth5", "ns-a", &["10.0.0.5"])];
    let at = |found: Result<u64, NoNamespace>, inside: &str| Wishes {
        places: Places {
            inside: found.iter().map(|inode| (*inode, BTreeSet::from([inside.to_owned()]))).collect(),
            paths: BTreeMap::from([("/run/x".to_owned(), found)]),
            ..Places::default()
        },
        ..wishes(
            vec![vpc("blue", &[])],
            vec![WorkloadWish { path: Some("/run/x".into()), ..workload("x", "blue", None, None, &[]) }],
        )
    };
    let code = |found, inside: &str| {
        decide(&interfaces, &at(found, inside), &none(), &Rests::default())[0].refused.first().map(|r| r.code)
    };
    assert_eq!(code(Ok(4_000_000_005), ""), None);
    assert_eq!(code(Ok(7), ""), Some(Code::NoInterface));
    assert_eq!(code(Ok(7), "macvlan"), Some(Code::Macvlan));
    assert_eq!(code(Ok(7), "ipvlan"), Some(Code::Ipvlan));
    assert_eq!(code(Ok(7), "netkit"), Some(Code::Netkit));
    assert_eq!(code(Err(NoNamespace::Missing), ""), Some(Code::NoInterface));
    assert_eq!(code(Err(NoNamespace::ProcessGone), ""), Some(Code::ProcessGone));
    assert_eq!(code(Err(NoNamespace::Host), ""), Some(Code::HostNamespace));
    assert_eq!(code(Err(NoNamespace::Symlink), ""), Some(Code::NotANamespace));
    assert_eq!(code(Err(NoNamespace::Other("a file")), ""), Some(Code::NotANamespace));
}

/// A document for processes of the host.
fn of_host(name: &str, cgroup: &str, uid: Option<u32>, addresses: &[&str]) -> WorkloadWish {
    let host = HostWish { cgroup: Glob::path(cgroup).unwrap(), uid };
    WorkloadWish { host: Some(host), ..workload(name, "blue", None, None, addresses) }
}

#[test]
fn processes_of_the_host_are_known_by_cgroup_and_user() {
    let mut wishes = wishes(
        vec![blue()],
        vec![
            of_host("till", "system.slice/till*.service", Some(33), &["10.0.0.7"]),
            of_host("rest", "system.slice/till*.service", None, &["10.0.0.8", "10.1.0.8"]),
            of_host("gone", "system.slice/gone.service", None, &["10.0.0.9"]),
        ],
    );
    wishes.places.hosts =
        [("system.slice/till.service".to_owned(), 71), ("system.slice/till-2.service".to_owned(), 72)].into();
    let decisions = decide(&[], &wishes, &none(), &Rests::default());
    let of = |name: &str| decisions.iter().find(|decision| decision.name == name).unwrap();
    let keys = |name: &str| {
        let mut keys: Vec<_> = of(name).host.as_ref().unwrap().keys().map(|key| (key.cgroup, key.uid)).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys("till"), [(71, 33), (72, 33)]);
    assert_eq!(keys("rest"), [(71, brattice_abi::ANY_USER), (72, brattice_abi::ANY_USER)]);
    assert!(of("till").attached() && of("till").reason().is_none());
    assert_eq!(of("till").evidence(), [Evidence::Cgroup, Evidence::Uid]);
    assert_eq!(of("rest").evidence(), [Evidence::Cgroup]);
    // Its own addresses, within the VPC.
    assert_eq!(of("rest").addresses, ["10.0.0.8".parse::<IpAddr>().unwrap()]);
    assert_eq!(of("rest").refused[0].code, Code::OutsideVpc);
    assert_eq!((of("gone").attached(), of("gone").refused[0].code), (false, Code::NoCgroup));
    // Other words are another workload; a cgroup made anew is not.
    let before = of("till").identity;
    wishes.places.hosts.insert("system.slice/till.service".to_owned(), 99);
    let again = decide(&[], &wishes, &none(), &Rests::default());
    assert_eq!(again.iter().find(|decision| decision.name == "till").unwrap().identity, before);
    wishes.workloads[0].host.as_mut().unwrap().uid = Some(34);
    let changed = decide(&[], &wishes, &none(), &Rests::default());
    assert_ne!(changed.iter().find(|decision| decision.name == "till").unwrap().identity, before);
    // Two documents for the same processes: it is ambiguous which is meant.
    wishes.workloads[0].host.as_mut().unwrap().uid = None;
    let quarrel = decide(&[], &wishes, &none(), &Rests::default());
    for name in ["till", "rest"] {
        let own = quarrel.iter().find(|decision| decision.name == name).unwrap();
        assert_eq!((own.attached(), own.refused[0].code), (false, Code::AmbiguousWorkload));
    }
}
