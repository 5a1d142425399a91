//! What is found in a compiled snapshot: callers, VPCs, services by VIP and name, target groups.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]

use std::net::{IpAddr, Ipv4Addr};

use brattice_decide::{CompileError, Compiled};
use brattice_wire::{
    auth::AuthType,
    index::{ServiceIndex, TargetGroupIndex, VpcIndex},
    snapshot::{
        Action, AliasGeneration, Filters, FixedResponse, Forward, ForwardedHeaders, Listener, Origin, Precedence,
        Protocol, ProtocolVersion, Service, ServiceNumber, Snapshot, TargetGroup, Vpc, WeightedTargetGroup, Workload,
        WorkloadNumber,
    },
};

const SHARED_VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 64, 32));
const OWN_VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 64, 33));
const BLUE: VpcIndex = VpcIndex::new(0);
const RED: VpcIndex = VpcIndex::new(1);
const ALIAS: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 127, 0, 1));

fn service(name: &str, number: u32, vip: IpAddr, default_action: Action) -> Service {
    let listener = Listener {
        name: "http".into(),
        id: format!("listener-{number}"),
        port: 80,
        protocol: Protocol::Http,
        forwarded_headers: ForwardedHeaders::Replace,
        precedence: Precedence::Priority,
        rules: Vec::new(),
        default_filters: Filters::default(),
        default_action,
        origin: Origin::default(),
    };
    Service {
        name: format!("shop/{name}"),
        id: format!("svc-{number}"),
        arn: String::new(),
        number: ServiceNumber::new(number),
        vip,
        vip6: (vip == OWN_VIP).then(|| "fd00::1".parse().unwrap()),
        generated_name: format!("{name}.generated"),
        domains: vec![format!("{name}.internal")],
        account: String::new(),
        tags: Vec::new(),
        auth_type: AuthType::None,
        policy: None,
        networks: Vec::new(),
        listeners: vec![listener],
        idle_timeout_ms: 60_000,
        origin: Origin::default(),
    }
}

/// Services 0 and 1 share a VIP, service 2 has its own. BLUE sees all of them, RED (IPv4 and IPv6) only 1 and 2.
fn snapshot() -> Snapshot {
    let vpc = |id: &str, services: &[usize], families| Vpc {
        name: id.into(),
        id: id.into(),
        arn: String::new(),
        services: services.iter().copied().map(ServiceIndex::new).collect(),
        account: String::new(),
        networks: Vec::new(),
        dns_upstreams: Vec::new(),
        families,
    };
    let share = WeightedTargetGroup { target_group: TargetGroupIndex::new(0), weight: 1 };
    let to_group = Forward { groups: vec![share], stickiness: None };
    let fixed = || Action::FixedResponse(FixedResponse { status: 404, content_type: None, body: String::new() });
    Snapshot {
        revision: 7,
        vpcs: vec![vpc("vpc-1", &[0, 1, 2], (true, false)), vpc("vpc-2", &[1, 2], (true, true))],
        workloads: vec![Workload {
            alias: ALIAS,
            address: Ipv4Addr::new(10, 0, 0, 10).into(),
            vpc: RED,
            name: "web".into(),
            number: WorkloadNumber::new(3),
            generation: AliasGeneration::new(4),
            attested: String::new(),
            evidence: Vec::new(),
            role: None,
            session: String::new(),
        }],
        services: vec![
            service("orders", 1, SHARED_VIP, Action::Forward(to_group)),
            service("billing", 2, SHARED_VIP, fixed()),
            service("stock", 3, OWN_VIP, fixed()),
        ],
        target_groups: vec![TargetGroup {
            name: "one".into(),
            id: "tg-1".into(),
            arn: String::new(),
            vpc: Some(BLUE),
            protocol_version: ProtocolVersion::Http1,
            targets: Vec::new(),
            configured: 0,
            connect_timeout_ms: 1,
            idle_timeout_ms: None,
            origin: Origin::default(),
        }],
        ..Snapshot::default()
    }
}

fn compiled() -> Compiled {
    Compiled::new(snapshot()).unwrap()
}

#[test]
fn an_alias_stands_for_one_workload() {
    let compiled = compiled();
    let caller = compiled.caller(ALIAS).unwrap();
    assert_eq!(
        (&*caller.name, caller.vpc, caller.number, caller.generation),
        ("web", RED, WorkloadNumber::new(3), AliasGeneration::new(4))
    );
    assert!(compiled.caller(OWN_VIP).is_none());
    assert_eq!(compiled.vpc(caller.vpc).unwrap().id, "vpc-2");
    assert!(compiled.vpc(VpcIndex::new(2)).is_none());
    assert_eq!(compiled.vpcs().len(), 2);

    let mut twice = snapshot();
    twice.workloads.push(twice.workloads[0].clone());
    assert!(matches!(Compiled::new(twice), Err(CompileError::Alias(ALIAS))));
}

#[test]
fn each_compilation_is_told_apart() {
    let (one, two) = (compiled(), compiled());
    assert_eq!((one.revision, two.revision), (7, 7));
    assert_ne!(one.edition(), two.edition());
}

#[test]
fn a_service_is_found_by_vip_port_and_host() {
    let compiled = compiled();
    let find = |vpc, vip, port, host: &str| {
        let (service, listener, name) = compiled.service(vpc, vip, port, host)?;
        assert_eq!(listener.port, port);
        Some((service.id.to_string(), name.to_owned()))
    };
    let orders = Some(("svc-1".to_owned(), "orders.internal".to_owned()));
    assert_eq!(find(BLUE, SHARED_VIP, 80, "orders.internal"), orders);
    assert_eq!(find(BLUE, SHARED_VIP, 80, "ORDERS.internal."), orders);
    assert_eq!(find(BLUE, SHARED_VIP, 80, "billing.generated").unwrap().0, "svc-2");
    assert_eq!(find(BLUE, SHARED_VIP, 81, "orders.internal"), None, "no listener");
    assert_eq!(find(BLUE, OWN_VIP, 80, "orders.internal"), None, "another service's VIP");
    assert_eq!(find(RED, SHARED_VIP, 80, "orders.internal"), None, "not visible");
    assert_eq!(find(VpcIndex::new(2), SHARED_VIP, 80, "orders.internal"), None, "no such VPC");
    let by_literal = Some(("svc-3".to_owned(), "[fd00::1]".to_owned()));
    assert_eq!(find(RED, "fd00::1".parse().unwrap(), 80, "[fd00:0::1]"), by_literal);
    assert_eq!(find(RED, "fd00::1".parse().unwrap(), 80, "[fd00::2]"), None);
}

#[test]
fn without_a_host_a_vip_means_its_only_visible_service() {
    let compiled = compiled();
    let at = |vpc, vip, port| compiled.service_at(vpc, vip, port).map(|(service, _)| service.id.to_string());
    assert_eq!(at(BLUE, SHARED_VIP, 80), None, "two services");
    assert_eq!(at(RED, SHARED_VIP, 80).unwrap(), "svc-2");
    assert_eq!(at(RED, SHARED_VIP, 81), None);
    let of = |vpc, number| compiled.service_of(vpc, SHARED_VIP, ServiceNumber::new(number));
    assert_eq!(of(BLUE, 1), Some(ServiceIndex::new(0)));
    assert_eq!(of(BLUE, 2), Some(ServiceIndex::new(1)));
    assert_eq!(of(RED, 1), None, "not visible");
    assert_eq!(of(BLUE, 3), None, "another VIP");
}

#[test]
fn names_resolve_for_vpcs_that_see_the_service() {
    let compiled = compiled();
    assert_eq!(compiled.resolve(BLUE, "orders.internal"), Some((Some(SHARED_VIP), None)));
    assert_eq!(compiled.resolve(RED, "orders.internal"), None);
    assert_eq!(compiled.resolve(BLUE, "stock.internal"), Some((Some(OWN_VIP), None)), "a VPC of IPv4 alone");
    assert_eq!(compiled.resolve(RED, "stock.internal"), Some((Some(OWN_VIP), Some("fd00::1".parse().unwrap()))));
    assert!(compiled.is_claimed("orders.internal") && compiled.is_claimed("orders.generated"));
    assert!(!compiled.is_claimed("example.com") && !compiled.is_claimed("169.254.64.32"));
}

#[test]
fn services_and_groups_are_found_by_index() {
    let compiled = compiled();
    let orders = compiled.service_by_index(ServiceIndex::new(0)).unwrap();
    assert_eq!(orders.names().collect::<Vec<_>>(), ["orders.generated", "orders.internal", "169.254.64.32"]);
    assert_eq!(orders.usual_name(), "orders.internal");
    assert!(orders.listener(80).is_some() && orders.listener(81).is_none());
    assert!(compiled.service_by_index(ServiceIndex::new(3)).is_none());
    assert_eq!(compiled.group(TargetGroupIndex::new(0)).unwrap().id, "tg-1");
    assert!(compiled.group(TargetGroupIndex::new(1)).is_none());
    assert_eq!(compiled.groups().len(), 1);
    assert_eq!(compiled.forwards().count(), 1);
    let denied = compiled.service_by_index(ServiceIndex::new(1)).unwrap().listener(80).unwrap();
    assert!(!matches!(denied.default_action(), brattice_decide::Action::Forward(_)));
}
