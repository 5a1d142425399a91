use brattice_abi::LISTENER_HTTP;
use brattice_model::{Documents, Owner, Source, VipState, parse};
use brattice_sources::linking::Linking;
use brattice_wire::snapshot::ServiceNumber;
use ipnet::Ipv4Net;

use super::*;
use crate::fixtures;

const NODE: &str = r#"
kind: Account
metadata: {name: shop}
spec: {id: "111111111111", vpcs: [blue]}
---
kind: Vpc
metadata: {name: blue}
spec: {cidrBlocks: [10.0.0.0/16], attachments: [{interface: "blue*"}], serviceNetworks: [shop/net]}
"#;

const SHOP: &str = r#"
kind: ServiceNetwork
metadata: {name: net}
spec: {sharedWith: ["000000000000"]}
---
kind: TargetGroup
metadata: {name: web}
spec: {config: {vpcIdentifier: blue, port: 8080}, targets: [{id: 10.0.0.11}]}
---
kind: Service
metadata: {name: orders}
spec:
  serviceNetworks: [net]
  listeners: [{protocol: HTTP, port: 80, defaultAction: {forward: {targetGroups: [{targetGroupIdentifier: web}]}}}]
"#;

fn range(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn model(node: &str, shop: &str) -> Arc<Model> {
    let owners = [(Owner::Operator, "node.yaml", node), (Owner::Account("shop".into()), "accounts/shop/x.yaml", shop)];
    let documents: BTreeMap<Owner, Documents> = owners
        .into_iter()
        .map(|(owner, path, text)| {
            let parsed = parse(&owner, &[Source { path: path.into(), text: text.into() }]);
            (owner, parsed.unwrap_or_else(|errors| panic!("{errors:?}")))
        })
        .collect();
    let vips = VipState::default();
    let (vip, alias) = (range("169.254.64.0/20"), range("100.127.0.0/16"));
    let linked = Linking { vips: &vips, dns_suffix: "svc.test", vip, alias, ipv6: None }.link(&documents);
    assert!(linked.errors.is_empty(), "{:?}", linked.errors);
    linked.model
}

fn veth(ifindex: u32, address: &str) -> Interface {
    let mut veth = fixtures::veth(ifindex, &format!("blue{ifindex}"), &[address]);
    veth.peer.as_mut().unwrap().mtu = 1400;
    veth
}

fn inputs(model: Arc<Model>, interfaces: Vec<Interface>) -> Inputs {
    Inputs { model, interfaces: interfaces.into(), places: Arc::default() }
}

fn now() -> Now {
    Now { instant: Instant::now(), unix: 1_000_000 }
}

fn planner() -> Planner {
    let (aliases, _) = Aliases::restore(range("100.127.0.0/16"), None, &State::default().aliases, true);
    Planner::new(State::default(), aliases)
}

fn both() -> Vec<Interface> {
    vec![veth(7, "10.0.0.10"), veth(8, "10.0.0.11")]
}

/// Ports of the listeners for HTTP, and of the targets.
fn ports(desired: &Desired) -> (Vec<u16>, Vec<u16>) {
    let listeners = desired.listeners.iter().filter(|(_, listener)| listener.kind == LISTENER_HTTP);
    (listeners.map(|(key, _)| key.port).collect(), desired.targets.keys().map(|key| key.port).collect())
}

#[test]
fn documents_and_interfaces_become_what_kernel_and_engine_shall_be() {
    let mut planner = planner();
    let changes = planner.plan(&inputs(model(NODE, SHOP), both()), now());
    assert_eq!(changes, Changes { snapshot: true, ..Changes::default() });
    assert_eq!(planner.desired.interfaces, BTreeMap::from([(7, 1400), (8, 1400)]));
    assert_eq!((planner.desired.workloads.len(), planner.desired.aliases.len()), (2, 2));
    assert_eq!(ports(&planner.desired), (vec![80], vec![8080]));
    let snapshot = &planner.snapshot;
    assert_eq!((snapshot.revision, snapshot.workloads.len(), snapshot.services.len()), (1, 2, 1));
    let web = planner.decisions.iter().find(|decision| decision.ifindex == 8).unwrap();
    assert_eq!(planner.since.of(web), Some(1_000_000));
    assert_eq!(planner.state.services.get("shop/orders"), Some(&ServiceNumber::new(1)));
}

#[test]
fn equal_inputs_give_equal_plans_and_no_new_revision() {
    let inputs = inputs(model(NODE, SHOP), both());
    let (mut one, mut other) = (planner(), planner());
    one.plan(&inputs, now());
    other.plan(&inputs, now());
    assert_eq!(one.snapshot, other.snapshot);
    let before = (one.snapshot.clone(), one.state.clone());
    assert_eq!(one.plan(&inputs, now()), Changes::default());
    assert!(Arc::ptr_eq(&one.snapshot, &before.0) && one.state == before.1);
}

#[test]
fn a_workload_that_is_gone_leaves_the_kernel_first_and_its_connections_are_closed() {
    let mut planner = planner();
    planner.plan(&inputs(model(NODE, SHOP), both()), now());
    let web = planner.decisions.iter().find(|decision| decision.ifindex == 8).unwrap();
    let alias = planner.aliases.get(&web.claims().next().unwrap()).unwrap().alias;
    let changes = planner.plan(&inputs(model(NODE, SHOP), vec![veth(7, "10.0.0.10")]), now());
    assert_eq!(changes.gone, BTreeSet::from([alias]));
    assert_eq!(changes.lost.iter().map(|(alias, _)| *alias).collect::<Vec<_>>(), [alias]);
    assert!(changes.snapshot);
    assert_eq!(ports(&planner.desired), (vec![80], vec![]), "the service stays, without its target");
    assert!(planner.desired.interfaces.keys().eq(&[7]));
}

#[test]
fn documents_that_are_gone_take_services_and_attachments_with_them() {
    let mut planner = planner();
    planner.plan(&inputs(model(NODE, SHOP), both()), now());
    let changes = planner.plan(&inputs(model(NODE, ""), both()), now());
    assert!(changes.snapshot && changes.gone.is_empty() && changes.lost.is_empty());
    assert_eq!(ports(&planner.desired), (vec![], vec![]));
    assert_eq!(planner.snapshot.revision, 2);
    let changes = planner.plan(&inputs(model("", ""), both()), now());
    assert!(changes.gone.is_empty(), "the workloads are there, and nobody's any more");
    assert_eq!(changes.lost.len(), 2);
    assert!(planner.desired.interfaces.is_empty());
}

#[test]
fn numbers_go_on_above_those_of_an_earlier_agent() {
    let mut planner = planner();
    planner.plan(&inputs(model(NODE, SHOP), both()), now());
    assert!(!planner.number_above(0));
    assert!(planner.number_above(41));
    assert_eq!((planner.snapshot.revision, planner.state.revision), (42, 42));
    planner.plan(&inputs(model(NODE, ""), both()), now());
    assert_eq!(planner.snapshot.revision, 43);
}

#[test]
fn an_interface_that_the_kernel_refuses_is_shown_so() {
    let mut planner = planner();
    planner.plan(&inputs(model(NODE, SHOP), both()), now());
    let refused = Unattached { interfaces: BTreeMap::from([(7, "busy".to_owned())]), ..Unattached::default() };
    planner.not_attached(&refused);
    // Said once, however often it is refused until the next plan.
    planner.not_attached(&refused);
    let reasons: Vec<_> = planner.decisions.iter().map(Decision::reason).collect();
    assert_eq!(reasons, [Some("AttachFailed: busy".to_owned()), None]);
    assert!(planner.decisions[0].attach_failed());
    // One address of an interface that is attached.
    let address = IpAddr::from([10, 0, 0, 11]);
    let refused =
        Unattached { addresses: BTreeMap::from([((8, address), "full".to_owned())]), ..Unattached::default() };
    planner.not_attached(&refused);
    assert_eq!(planner.decisions[1].reason(), Some("AttachFailed: full".to_owned()));
    assert!(!planner.decisions[1].attach_failed(), "the others are served");
    // The next plan is a new try.
    planner.plan(&inputs(model(NODE, SHOP), both()), now());
    assert!(planner.decisions.iter().all(|decision| decision.refused.is_empty()));
}

#[test]
fn a_target_group_with_a_share_and_no_target_is_told() {
    let canary = "kind: TargetGroup\nmetadata: {name: canary}\n\
                  spec: {config: {vpcIdentifier: blue, port: 8080}, targets: [{id: 10.0.0.99}, {id: 10.0.0.98}]}\n---";
    let told = |node: &str, shop: &str, interfaces: Vec<Interface>| {
        let mut planner = planner();
        let inputs = inputs(model(node, shop), interfaces);
        planner.plan(&inputs, now());
        crate::api::unserved::unserved(&planner.snapshot, &inputs.model)
    };
    let forward = "{targetGroupIdentifier: web}";
    let both_groups = |canary: u16| {
        format!("{{targetGroupIdentifier: web, weight: 9}}, {{targetGroupIdentifier: canary, weight: {canary}}}")
    };
    let shop = |weight: u16| format!("{canary}{}", SHOP.replace(forward, &both_groups(weight)));
    let only = |lines: Vec<String>| {
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.into_iter().next().unwrap_or_default()
    };
    let line = only(told(NODE, &shop(1), both()));
    for part in [
        "shop/canary has no target",
        "10 % of the requests to shop/orders port 80 are answered with 503",
        "10.0.0.98 or 10.0.0.99",
        "accounts/shop/x.yaml:",
        "the weight 0",
    ] {
        assert!(line.contains(part), "{part:?}: {line}");
    }
    assert!(only(told(NODE, &shop(1), vec![veth(7, "10.0.0.10"), veth(9, "10.0.0.99")])).contains("web has no target"));
    // Nothing where each share has a target, the group has no weight, or no caller exists.
    assert!(told(NODE, SHOP, both()).is_empty());
    assert!(told(NODE, &shop(0), both()).is_empty());
    assert!(told(&NODE.replace("[shop/net]", "[]"), &shop(1), both()).is_empty());
    // One that all requests would go to.
    let line = only(told(NODE, SHOP, vec![veth(7, "10.0.0.10")]));
    assert!(line.contains("all of the requests to shop/orders port 80 are answered with 503"), "{line}");
    let line = only(told(NODE, &SHOP.replace("{id: 10.0.0.11}", ""), both()));
    assert!(line.contains("Its document names none"), "{line}");
    // A rule's.
    let rule = "rules: [{name: beta, priority: 1, match: {httpMatch: {pathMatch: {match: {prefix: /b}}}}, action: {forward: \
                {targetGroups: [{targetGroupIdentifier: canary}]}}}], defaultAction";
    let line = only(told(NODE, &format!("{canary}{}", SHOP.replace("defaultAction", rule)), both()));
    assert!(line.contains("all of the requests to shop/orders port 80 that meet its rule beta"), "{line}");
}
