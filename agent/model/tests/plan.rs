//! Plans against a naive reading of the rules.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use brattice_model::{Binding, Evidence, Linked, Model, Numbers, Plan, VipState, plan};
use brattice_wire::index::ServiceIndex;
use brattice_wire::snapshot::{Action, AliasGeneration, ServiceNumber, Target, WorkloadNumber};
use proptest::prelude::*;
use world::{good, read, source};

fn binding(vpc: &str, address: &str, alias: &str) -> Binding {
    Binding {
        vpc: vpc.into(),
        address: address.parse().unwrap(),
        alias: alias.parse().unwrap(),
        name: format!("{vpc}-{address}"),
        documented: false,
        evidence: vec![Evidence::Interface],
        number: WorkloadNumber::new(1),
        generation: AliasGeneration::new(7),
    }
}

fn planned(model: &Model, bindings: &[Binding]) -> Plan {
    plan(model, bindings, &mut Numbers::default(), 3)
}

#[test]
fn a_host_that_does_no_ipv6_now_has_ranges_but_no_vips_of_it() {
    let sources = world::sources();
    let mut documents = BTreeMap::new();
    for source in sources {
        let owner = brattice_model::Owner::of_path(&source.path).unwrap();
        documents.entry(owner).or_insert_with(Vec::new).push(source);
    }
    let parsed =
        documents.into_iter().map(|(owner, sources)| (owner.clone(), brattice_model::parse(&owner, &sources).unwrap()));
    let documents: BTreeMap<_, _> = parsed.collect();
    let vips = VipState::default();
    let mut settings = world::settings(&vips, 0);
    let on = planned(&brattice_model::link(&documents, &settings).model, &[]);
    settings.ipv6 = settings.ipv6.map(|pools| brattice_model::Ipv6Pools { on: false, ..pools });
    let off = planned(&brattice_model::link(&documents, &settings).model, &[]);
    assert!(on.snapshot.services[0].vip6.is_some() && on.listeners.keys().any(|(vip, ..)| vip.is_ipv6()));
    assert!(off.snapshot.services[0].vip6.is_none() && off.listeners.keys().all(|(vip, ..)| vip.is_ipv4()));
    assert_eq!(off.snapshot.dns.own_ranges, on.snapshot.dns.own_ranges);
    assert_eq!(on.snapshot.vpcs[0].families, (true, false));
}

#[test]
fn a_target_is_the_alias_in_its_own_vpc() {
    let model = good(&[]).model;
    let bindings = [
        binding("platform/blue", "10.0.0.10", "100.127.0.1"),
        binding("platform/green", "10.0.0.10", "100.127.0.2"),
        binding("gone", "10.0.0.10", "100.127.0.3"),
    ];
    let plan = planned(&model, &bindings);
    let snapshot = &plan.snapshot;
    assert_eq!(snapshot.revision, 3);
    assert_eq!(snapshot.workloads.len(), 2);
    let target = Target {
        alias: "100.127.0.2".parse().unwrap(),
        port: 8080,
        address: "10.0.0.10".parse().unwrap(),
        generation: AliasGeneration::new(7),
    };
    assert_eq!(snapshot.target_groups[0].targets, [target]);
    assert_eq!(plan.targets.iter().collect::<Vec<_>>(), [&("100.127.0.2".parse().unwrap(), 8080, 6)]);
    let vip: IpAddr = "169.254.64.32".parse().unwrap();
    let dns: IpAddr = "169.254.64.17".parse().unwrap();
    // Each service answers in both families, and so does DNS.
    let vip6 = snapshot.services[0].vip6.unwrap();
    let dns6: IpAddr = "fd00:a9fe::11".parse().unwrap();
    assert!(vip6.to_string().starts_with("fd00:a9fe::") && vip6 != dns6);
    let [none, orders] = [0, 1].map(ServiceNumber::new);
    let of = |vip, dns| [((vip, 80, 6), (1, orders)), ((dns, 53, 6), (2, none)), ((dns, 53, 17), (2, none))];
    let listeners: BTreeMap<_, _> = of(vip, dns).into_iter().chain(of(vip6, dns6)).collect();
    assert_eq!(plan.listeners, listeners);
    let own: Vec<String> = snapshot.dns.own_ranges.iter().map(|(net, prefix)| format!("{net}/{prefix}")).collect();
    assert_eq!(own, ["169.254.64.0/20", "100.127.0.0/16", "fd00:a9fe::/64", "fd00:64::/48"]);
    assert_eq!(snapshot.dns.own_ranges[0], ("169.254.64.0".parse().unwrap(), 20));
    let sees: BTreeMap<&str, &[ServiceIndex]> =
        snapshot.vpcs.iter().map(|vpc| (vpc.name.as_str(), vpc.services.as_slice())).collect();
    assert_eq!(sees["platform/blue"], [ServiceIndex::new(0)]);
    assert_eq!(sees["bank/vault"], []);
}

#[test]
fn a_target_that_is_not_there_is_counted_but_not_planned() {
    let plan = planned(&good(&[]).model, &[]);
    assert_eq!((plan.snapshot.target_groups[0].targets.len(), plan.snapshot.target_groups[0].configured), (0, 1));
    assert!(plan.targets.is_empty());
}

#[test]
fn a_resolver_inside_the_vpc_is_reached_by_its_alias_or_not_at_all() {
    let vpc = "kind: Vpc\nmetadata: {name: gray}\nspec: {cidrBlocks: [10.0.0.0/16], dnsUpstreams: [10.0.0.2, \"10.0.0.3:5353\", 192.168.9.9]}\n";
    let model = good(&[("x.yaml", vpc)]).model;
    let upstreams = |plan: &Plan| {
        let vpc = plan.snapshot.vpcs.iter().find(|vpc| vpc.name == "gray").unwrap();
        vpc.dns_upstreams.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(upstreams(&planned(&model, &[])), ["192.168.9.9:53"]);
    let plan =
        planned(&model, &[binding("gray", "10.0.0.3", "100.127.0.9"), binding("node", "10.0.0.2", "100.127.0.8")]);
    assert_eq!(upstreams(&plan), ["100.127.0.9:5353", "192.168.9.9:53"]);
    // The one outside is as it is; the engine may reach both.
    let (alias, outside): (IpAddr, IpAddr) = ("100.127.0.9".parse().unwrap(), "192.168.9.9".parse().unwrap());
    assert_eq!(
        plan.targets,
        BTreeSet::from([(alias, 5353, 6), (alias, 5353, 17), (outside, 53, 6), (outside, 53, 17)])
    );
}

#[test]
fn service_numbers_stay_and_are_not_given_twice() {
    let service = |name: &str| {
        format!(
            "kind: Service\nmetadata: {{name: {name}}}\nspec: {{listeners: [{{protocol: HTTP, defaultAction: {{fixedResponse: {{statusCode: 404}}}}}}]}}\n---\n"
        )
    };
    let mut numbers = Numbers::default();
    let mut number = |names: &[&str], of: &str| {
        let text: String = names.iter().map(|name| service(name)).collect();
        let model = good(&[("accounts/shop/x.yaml", &text)]).model;
        plan(&model, &[], &mut numbers, 1);
        numbers.get(&model.service(&format!("shop/{of}")).unwrap().id).unwrap()
    };
    let first = number(&["aaa", "bbb"], "aaa");
    assert_eq!(number(&["bbb", "aaa", "ccc"], "aaa"), first);
    let other = number(&["bbb", "ddd"], "ddd");
    assert!(other.get() > 3 && number(&["aaa", "bbb"], "aaa") > other);
    let json = serde_json::to_string(&numbers).unwrap();
    assert_eq!(serde_json::from_str::<Numbers>(&json).unwrap(), numbers);
}

/// 1,000 services with 10 targets each; ten times as many take well under a second in a release build.
#[test]
fn a_thousand_services_are_linked_and_planned() {
    let mut text = String::new();
    for n in 0..1_000 {
        write!(
            text,
            "kind: Service\nmetadata: {{name: service-{n}}}\nspec:\n  customDomainNames: [s{n}.shop.internal]\n  serviceNetworks: [platform/retail]\n  \
             listeners: [{{protocol: HTTP, defaultAction: {{forward: {{targetGroups: [{{targetGroupIdentifier: group-{n}}}]}}}}}}]\n---\n\
             kind: TargetGroup\nmetadata: {{name: group-{n}}}\nspec:\n  config: {{vpcIdentifier: platform/green}}\n  targets: ["
        )
        .unwrap();
        for target in 0..10 {
            write!(text, "{{id: 10.0.{}.{}}}, ", n / 25, n % 25 * 10 + target).unwrap();
        }
        text.push_str("]\n---\n");
    }
    let linked = good(&[("accounts/shop/many.yaml", &text)]);
    let bindings: Vec<Binding> = (0..10_000u32)
        .map(|n| {
            let address = Ipv4Addr::new(10, 0, (n / 250) as u8, (n % 250) as u8).to_string();
            binding("platform/green", &address, &Ipv4Addr::from(0x647f_0000 + n).to_string())
        })
        .collect();
    let plan = planned(&linked.model, &bindings);
    assert_eq!(plan.snapshot.services.len(), 1_001);
    assert_eq!(plan.targets.len(), 10_001);
    assert_eq!(plan.listeners.len(), 2_006);
    let vips: BTreeSet<IpAddr> = plan.snapshot.services.iter().map(|service| service.vip).collect();
    assert_eq!(vips.len(), 1_001);
}

/// A world made of small numbers: accounts own networks and services, VPCs belong to accounts or the operator.
#[derive(Clone, Debug)]
struct Small {
    /// Per network: its account, with whom it is shared.
    networks: Vec<(usize, BTreeSet<usize>)>,
    /// Per service: its account, the networks it asks for, its domain, the VPC of its target.
    services: Vec<(usize, BTreeSet<usize>, usize, usize)>,
    /// Per VPC: its account (the last: the operator), the networks it asks for.
    vpcs: Vec<(usize, BTreeSet<usize>)>,
    /// Live workloads: VPC.
    live: BTreeSet<usize>,
}

const ACCOUNTS: usize = 3;

fn small() -> impl Strategy<Value = Small> {
    let some = |n: usize| prop::collection::btree_set(0..n, 0..=n);
    (
        prop::collection::vec((0..ACCOUNTS, some(ACCOUNTS)), 1..4),
        prop::collection::vec((0..ACCOUNTS, some(4), 0..6usize, 0..4usize), 0..8),
        prop::collection::vec((0..=ACCOUNTS, some(4)), 1..5),
        some(5),
    )
        .prop_map(|(networks, services, vpcs, live)| Small { networks, services, vpcs, live })
}

impl Small {
    fn network(&self, n: usize) -> String {
        // Asked for, but not there: networks past the end.
        let account = self.networks.get(n).map_or(0, |(account, _)| *account);
        format!("account{account}/network{n}")
    }

    fn vpc(&self, n: usize) -> String {
        match self.vpcs[n].0 {
            ACCOUNTS => format!("vpc{n}"),
            account => format!("account{account}/vpc{n}"),
        }
    }

    /// Services that ask for a network of their own account that is not there would be in error.
    fn asks(&self, account: usize, networks: &BTreeSet<usize>) -> Vec<String> {
        let there = |n: &&usize| **n < self.networks.len() || account != 0;
        networks.iter().filter(there).map(|n| self.network(*n)).collect()
    }

    fn sources(&self) -> Vec<brattice_model::Source> {
        let mut operator = String::new();
        let mut files = vec![String::new(); ACCOUNTS];
        for n in 0..ACCOUNTS {
            let vpcs: Vec<String> = (0..self.vpcs.len()).map(|vpc| self.vpc(vpc)).collect();
            let vpcs = vpcs.join(", ");
            write!(operator, "kind: Account\nmetadata: {{name: account{n}}}\nspec: {{id: \"{n:0>11}1\", domains: [a.b], vpcs: [{vpcs}]}}\n---\n").unwrap();
        }
        for (n, (account, networks)) in self.vpcs.iter().enumerate() {
            let account = if *account == ACCOUNTS { String::new() } else { format!("account: account{account}, ") };
            let networks: Vec<String> = networks.iter().map(|n| self.network(*n)).collect();
            let networks = networks.join(", ");
            write!(operator, "kind: Vpc\nmetadata: {{name: vpc{n}}}\nspec: {{{account}cidrBlocks: [10.0.0.0/16], serviceNetworks: [{networks}]}}\n---\n").unwrap();
        }
        for (n, (account, shared)) in self.networks.iter().enumerate() {
            let shared: Vec<String> = shared.iter().map(|n| format!("account{n}")).collect();
            let shared = shared.join(", ");
            write!(
                files[*account],
                "kind: ServiceNetwork\nmetadata: {{name: network{n}}}\nspec: {{sharedWith: [{shared}]}}\n---\n"
            )
            .unwrap();
        }
        for (n, (account, networks, domain, vpc)) in self.services.iter().enumerate() {
            let networks = self.asks(*account, networks).join(", ");
            // Within an account domains are unique, across accounts they are not.
            let first = self.services[..n].iter().any(|(a, _, d, _)| a == account && d == domain);
            let domain = if first { String::new() } else { format!("d{domain}.a.b") };
            let vpc = self.vpc(vpc % self.vpcs.len());
            write!(
                files[*account],
                "kind: Service\nmetadata: {{name: service{n}}}\nspec:\n  customDomainNames: [{domain}]\n  serviceNetworks: [{networks}]\n  listeners: \
                 [{{protocol: HTTP, defaultAction: {{forward: {{targetGroups: [{{targetGroupIdentifier: group{n}}}]}}}}}}]\n---\n\
                 kind: TargetGroup\nmetadata: {{name: group{n}}}\nspec: {{config: {{vpcIdentifier: {vpc}}}, targets: [{{id: 10.0.0.10}}]}}\n---\n"
            )
            .unwrap();
        }
        let accounts = files.iter().enumerate().map(|(n, text)| source(&format!("accounts/account{n}/x.yaml"), text));
        std::iter::once(source("x.yaml", &operator)).chain(accounts).collect()
    }

    /// Whether an account's (or the operator's) member may join a network.
    fn granted(&self, account: usize, network: usize) -> bool {
        let Some((owner, shared)) = self.networks.get(network) else { return false };
        account == ACCOUNTS || *owner == account || shared.contains(&account)
    }

    /// VPC → services it sees, straight from the rules.
    fn visible(&self) -> BTreeMap<String, BTreeSet<String>> {
        let domain = |n: usize| {
            let (account, _, domain, _) = self.services[n];
            let taken = self.services[..n].iter().any(|(a, _, d, _)| *a == account && *d == domain);
            (!taken).then_some(domain)
        };
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for network in 0..self.networks.len() {
            let mut asking: Vec<usize> = (0..self.services.len())
                .filter(|n| self.services[*n].1.contains(&network) && self.granted(self.services[*n].0, network))
                .collect();
            asking.sort_by_key(|n| (self.services[*n].0, format!("service{n}")));
            let mut taken = BTreeSet::new();
            asking.retain(|n| domain(*n).is_none_or(|domain| taken.insert(domain)));
            members.insert(network, asking);
        }
        (0..self.vpcs.len())
            .map(|vpc| {
                let (account, networks) = &self.vpcs[vpc];
                let sees = networks
                    .iter()
                    .filter(|network| self.granted(*account, **network))
                    .flat_map(|network| &members[network])
                    .map(|n| format!("account{}/service{n}", self.services[*n].0))
                    .collect();
                (self.vpc(vpc), sees)
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_vpc_sees_what_the_rules_say(small in small()) {
        let outcome = read(&small.sources(), &VipState::default(), 0);
        prop_assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        let Linked { model, .. } = outcome.linked.unwrap();
        let bindings: Vec<Binding> = small
            .live
            .iter()
            .filter(|n| **n < small.vpcs.len())
            .map(|n| binding(&small.vpc(*n), "10.0.0.10", &format!("100.127.0.{n}")))
            .collect();
        let plan = planned(&model, &bindings);
        let snapshot = &plan.snapshot;
        let seen: BTreeMap<String, BTreeSet<String>> = snapshot
            .vpcs
            .iter()
            .map(|vpc| {
                prop_assert!(vpc.services.is_sorted());
                let names = vpc.services.iter().map(|n| snapshot.services[n.position()].name.clone()).collect();
                Ok((vpc.name.clone(), names))
            })
            .collect::<Result<_, TestCaseError>>()?;
        prop_assert_eq!(seen, small.visible());
        // Every service's target is the alias of its own VPC, if that is live.
        prop_assert_eq!(snapshot.services.len(), small.services.len());
        for service in &snapshot.services {
            let n: usize = service.name.rsplit("service").next().unwrap().parse().unwrap();
            let vpc = small.services[n].3 % small.vpcs.len();
            let Action::Forward(forward) = &service.listeners[0].default_action else { panic!("a forward") };
            let targets = &snapshot.target_groups[forward.groups[0].target_group.position()].targets;
            let expected: Vec<IpAddr> =
                small.live.contains(&vpc).then(|| format!("100.127.0.{vpc}").parse().unwrap()).into_iter().collect();
            prop_assert_eq!(targets.iter().map(|target| target.alias).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_order_of_files_and_documents_does_not_matter(small in small(), seed in any::<u64>()) {
        let mut files = small.sources();
        let one = read(&files, &VipState::default(), 0);
        files.reverse();
        for file in &mut files {
            let mut documents: Vec<&str> = file.text.split("---\n").collect();
            let pivot = usize::try_from(seed).unwrap_or(0) % documents.len().max(1);
            documents.rotate_left(pivot);
            documents.reverse();
            file.text = documents.iter().map(|document| format!("{document}---\n")).collect();
        }
        let two = read(&files, &VipState::default(), 0);
        let (one, two) = (one.linked.unwrap(), two.linked.unwrap());
        let ids = |linked: &Linked| linked.model.services.iter().map(|s| (s.id.clone(), s.vip)).collect::<Vec<_>>();
        prop_assert_eq!(ids(&one), ids(&two));
        prop_assert_eq!(brattice_model::diff(&one.model, &two.model), vec![]);
    }
}

#[test]
fn times_of_documents_reach_the_engine() {
    let sources = world::sources();
    let shop = sources.iter().find(|source| source.text.contains("name: orders-v1")).unwrap();
    let idle = |text: &str| {
        let snapshot = planned(&good(&[(&shop.path, text)]).model, &[]).snapshot;
        let service = snapshot.services.iter().find(|service| service.name == "shop/orders").unwrap();
        let group = snapshot.target_groups.iter().find(|group| group.name == "shop/orders-v1").unwrap();
        (service.idle_timeout_ms, group.idle_timeout_ms)
    };
    assert_eq!(idle(&shop.text), (60_000, None), "Lattice's default; the engine's own");
    let longer = shop
        .text
        .replace("metadata: {name: orders}\nspec:", "metadata: {name: orders}\nspec:\n  idleTimeoutSeconds: 600");
    let longer = longer
        .replace("targets: [{id: 10.0.0.10}]}", "targets: [{id: 10.0.0.10}], connectionPool: {idleTimeoutSeconds: 1}}");
    assert_eq!(idle(&longer), (600_000, Some(1_000)));
}
