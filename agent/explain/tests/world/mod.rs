//! A small world of documents, and what a node could know of it, written in lines.

// Each test uses its part; a panic in a test is the report.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use brattice_explain::{Attached, AttachedState, Departed, Dropped, Engine, EngineState, Facts, Refused, World};
use brattice_model::{
    Binding, Documents, Evidence, Linked, Model, Numbers, Owner, Settings, Source, VipState, link, parse, plan,
};
use brattice_wire::api::{Mode, OwnerView, Scope, SwitchView};
use brattice_wire::snapshot::{AliasGeneration, Snapshot, WorkloadNumber};

/// 2026-01-31T10:00:00Z.
pub const NOW: i64 = 1_769_853_600;

pub const NODE: &str = include_str!("node.yaml");
pub const NETWORKS: &str = include_str!("networks.yaml");
pub const ORDERS: &str = include_str!("orders.yaml");
pub const SHOP: &str = include_str!("shop.yaml");

/// What the node knows where a case says nothing else.
pub const KNOWN: &str = "engine running 1
attached platform/blue web veth-web blue-web 10.0.0.10
attached platform/blue batch veth-batch blue-batch 10.0.0.20
attached platform/green orders-1 veth-o1 green-1 10.0.0.10
attached platform/green orders-2 veth-o2 green-2 10.0.0.11
attached bank/vault safe veth-safe vault-safe 10.0.0.10
";

pub fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

pub fn sources() -> Vec<Source> {
    vec![
        source("node.yaml", NODE),
        source("accounts/platform/networks.yaml", NETWORKS),
        source("accounts/shop/orders.yaml", ORDERS),
        source("accounts/shop/shop.yaml", SHOP),
    ]
}

/// The world with files added or replaced. Errors of documents are told only where `strict`.
pub fn model(files: &[(String, String)], strict: bool) -> Model {
    let mut sources = sources();
    for (path, text) in files {
        sources.retain(|source| source.path != *path);
        sources.push(source(path, text));
    }
    let mut by_owner: BTreeMap<Owner, Vec<Source>> = BTreeMap::new();
    for source in sources {
        by_owner.entry(Owner::of_path(&source.path).unwrap()).or_default().push(source);
    }
    let documents: BTreeMap<Owner, Documents> = by_owner
        .into_iter()
        .map(|(owner, sources)| {
            let parsed = parse(&owner, &sources);
            let parsed = parsed.unwrap_or_else(|errors| panic!("{errors:?}"));
            (owner, parsed)
        })
        .collect();
    let vips = VipState::default();
    let settings = Settings {
        dns_suffix: brattice_model::limits::DEFAULT_DNS_SUFFIX,
        region: "local",
        vip: "169.254.64.0/20".parse().unwrap(),
        alias: "100.127.0.0/16".parse().unwrap(),
        ipv6: None,
        vips: &vips,
        now: 0,
    };
    let Linked { model, errors, .. } = link(&documents, &settings);
    assert!(!strict || errors.is_empty(), "{errors:?}");
    std::sync::Arc::unwrap_or_clone(model)
}

/// A model with what a node knows.
pub struct Node {
    pub model: Model,
    pub snapshot: Snapshot,
    pub facts: Facts,
}

impl Node {
    /// Reads the lines of what is known.
    pub fn new(model: Model, known: &str) -> Self {
        let mut facts = Facts { half_open_limit: 256, ..Facts::default() };
        for line in known.lines() {
            fact(&mut facts, line);
        }
        for (index, own) in facts.attached.iter_mut().enumerate() {
            let documented =
                |workload: &&brattice_model::Workload| workload.name == own.name && workload.vpc == own.vpc;
            own.documented = model.workloads.iter().find(documented).is_some();
            if own.state == AttachedState::Attached {
                for (_, alias) in &mut own.addresses {
                    *alias = Some(IpAddr::from([100, 127, 0, u8::try_from(index + 1).unwrap()]));
                }
            }
        }
        let bindings: Vec<Binding> = facts
            .attached
            .iter()
            .zip(1u32..)
            .flat_map(|(own, number)| {
                own.addresses.iter().filter_map(move |(address, alias)| {
                    let namespace = own.namespace.is_some().then_some(Evidence::Namespace);
                    Some(Binding {
                        vpc: own.vpc.clone(),
                        address: *address,
                        alias: (*alias)?,
                        name: own.name.clone(),
                        documented: own.documented,
                        evidence: std::iter::once(Evidence::Interface).chain(namespace).collect(),
                        number: WorkloadNumber::new(number),
                        generation: AliasGeneration::new(1),
                    })
                })
            })
            .collect();
        let mut snapshot = plan(&model, &bindings, &mut Numbers::default(), 1).snapshot;
        snapshot.revision = 1;
        Self { model, snapshot, facts }
    }

    pub fn world(&self) -> World<'_> {
        World { model: &self.model, snapshot: &self.snapshot, facts: Some(&self.facts), now: NOW }
    }
}

/// `attached VPC NAME INTERFACE NAMESPACE ADDRESS`, `attaching …`, `refused … CODE TEXT`, `engine STATE REVISION TEXT`,
/// `bypass|detach all|workload NAME|service NAME [SECONDS]`, `owner NAME STATE REVISION ERROR`, `busiest N LIMIT NAME`,
/// `departed VPC NAME INTERFACE ADDRESS SECONDS TEXT; REMEDY`, `unselected INTERFACE`, `half-open NUMBER N`, `dropped IFINDEX EVENTS REASON SOURCE DESTINATION PORT SECONDS TEXT`.
fn fact(facts: &mut Facts, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let rest = |from: usize| words[from..].join(" ");
    match words[..] {
        [] => {}
        [state @ ("attached" | "attaching" | "refused"), vpc, name, interface, namespace, address, ..] => {
            let address: Option<IpAddr> = address.parse().ok();
            let interface = if interface == "-" { "" } else { interface };
            let refused = state == "refused";
            facts.attached.push(Attached {
                name: name.into(),
                documented: false,
                vpc: vpc.replace('+', ", "),
                interface: interface.into(),
                ifindex: u32::try_from(facts.attached.len()).unwrap() + 7,
                namespace: (namespace != "-").then(|| namespace.into()),
                addresses: address.map(|address| (address, None)).into_iter().collect(),
                state: match state {
                    "attached" => AttachedState::Attached,
                    "attaching" => AttachedState::Attaching,
                    _ => AttachedState::Refused,
                },
                refused: refused
                    .then(|| Refused { address, code: words[6].into(), text: rest(7) })
                    .into_iter()
                    .collect(),
                since: (state == "attached").then_some(1_769_850_000),
            });
        }
        ["departed", vpc, name, interfaces, address, seconds, ..] => {
            let words = rest(6);
            let (text, remedy) = words.split_once("; ").unwrap();
            facts.departed.push(Departed {
                name: name.into(),
                vpc: vpc.into(),
                interfaces: interfaces.split(',').map(str::to_owned).collect(),
                addresses: address.parse().into_iter().collect(),
                text: text.into(),
                remedy: remedy.into(),
                seconds_ago: seconds.parse().unwrap(),
            });
        }
        ["unselected", interface] => facts.unselected.push(interface.into()),
        ["engine", state, revision, ..] => {
            facts.engine = Engine {
                state: match state {
                    "running" => EngineState::Running,
                    "starting" => EngineState::Starting,
                    _ => EngineState::Down,
                },
                revision: revision.parse().unwrap(),
                error: Some(rest(3)).filter(|text| !text.is_empty()),
            };
        }
        [mode @ ("bypass" | "detach"), scope, ..] => {
            let (scope, seconds) = match scope {
                "all" => (Scope::All, words.get(2)),
                "workload" => (Scope::Workload(words[2].into()), words.get(3)),
                _ => (Scope::Service(words[2].into()), words.get(3)),
            };
            facts.switches.push(SwitchView {
                mode: if mode == "bypass" { Mode::Bypass } else { Mode::Detach },
                scope,
                seconds_left: seconds.map(|seconds| seconds.parse().unwrap()),
            });
        }
        ["owner", name, state, revision, ..] => {
            let view = serde_json::json!({
                "revision": revision.parse::<u64>().unwrap(), "state": state, "errors": [rest(4)], "documents": 1,
            });
            let view: OwnerView = serde_json::from_value(view).unwrap();
            facts.owners.insert(name.into(), view);
        }
        ["busiest", used, limit, ..] => {
            facts.busiest.push((rest(3), used.parse().unwrap(), limit.parse().unwrap()));
        }
        ["half-open", number, count] => {
            facts.half_open.insert(WorkloadNumber::new(number.parse().unwrap()), count.parse().unwrap());
        }
        ["dropped", ifindex, events, reason, source, destination, port, seconds, ..] => facts.dropped.push(Dropped {
            ifindex: ifindex.parse().unwrap(),
            events: events.parse().unwrap(),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            port: port.parse().unwrap(),
            reason: reason.into(),
            text: rest(8),
            seconds_ago: seconds.parse().unwrap(),
        }),
        _ => panic!("what does {line:?} say?"),
    }
}
