use std::collections::BTreeMap;

use brattice_wire::api::{AssociationView, EngineView, Ipv6View, OwnerView, ProgramView, Ranges};
use brattice_wire::engine::Stats;

use super::*;

fn node() -> Status {
    let owner = |state: &str, errors: &[&str]| OwnerView {
        revision: 3,
        state: state.into(),
        errors: errors.iter().map(ToString::to_string).collect(),
        warnings: if state == "in-force" { vec!["node.yaml:2:1: not associated".into()] } else { vec![] },
        documents: 4,
    };
    Status {
        health: Health::Degraded,
        problems: vec!["documents of shop are invalid: a.yaml:1:7: unknown kind `\u{1b}[31mx`".into()],
        version: "0.1.0".into(),
        pid: 100,
        uptime_seconds: 300,
        revision: 7,
        owners: BTreeMap::from([
            ("operator".into(), owner("in-force", &[])),
            ("shop".into(), owner("invalid", &["accounts/shop/a.yaml:1:7: unknown kind `\u{1b}[31mx`"])),
        ]),
        engine: EngineView {
            state: "running".into(),
            pid: Some(101),
            restarts: 1,
            revision: 7,
            heartbeat_age_ms: Some(12),
            stats: Some(Stats {
                connections_accepted: 10,
                connections_open: 2,
                requests: 30,
                responses: [0, 25, 0, 4, 1],
                limits_hit: vec![("headers".into(), 2), ("http2_streams".into(), 0)],
                dns: [5, 1, 0],
                ..Stats::default()
            }),
        },
        ranges: Ranges {
            vip: "169.254.64.0/20".into(),
            dns: "169.254.64.17".into(),
            alias: "100.127.0.0/16".into(),
            ipv6: Ipv6View { state: "on".into(), ..Ipv6View::default() },
        },
        programs: vec![ProgramView {
            program: "workload_ingress".into(),
            attached_to: "blue1".into(),
            hook: "TCX".into(),
            program_id: 40,
            instructions: 1_234,
            link_id: 41,
        }],
        footprint: vec!["nftables table inet brattice".into()],
        switches: vec![SwitchView {
            mode: Mode::Bypass,
            scope: Scope::Service("shop/orders".into()),
            seconds_left: Some(60),
        }],
        drops: BTreeMap::from([("NoListener".into(), 3)]),
        counters: BTreeMap::from([("FromWorkload".into(), 100), ("EventsLost".into(), 0)]),
        limits: BTreeMap::from([("aliases".into(), (2, 65_534))]),
        recent_drops: vec!["1 s ago: NoListener by vip_listener".into()],
        repairs: BTreeMap::new(),
    }
}

const STATUS: &str = "\
BYPASS: service shop/orders, 60 s left
health    degraded
  ! documents of shop are invalid: a.yaml:1:7: unknown kind `\\u{1b}[31mx`
agent     brattice 0.1.0, process 100, up 5 min, revision 7
engine    running, process 101, revision 7, restarts 1, heartbeat 12 ms ago
          10 connections (2 open, 0 relayed), 30 requests (0 open)
          answers 2xx 25, 3xx 0, 4xx 4, 5xx 1; 0 refused, 0 to unknown services, 0 failed connects
          DNS: 5 answered, 1 forwarded, 0 refused
          limit headers hit 2 times
ranges    VIPs 169.254.64.0/20, DNS 169.254.64.17, aliases 100.127.0.0/16
IPv6      on

documents
OWNER     STATE     REVISION  DOCUMENTS  ERRORS
operator  in-force  3         4
shop      invalid   3         4          1
  operator: warning: node.yaml:2:1: not associated
  shop: accounts/shop/a.yaml:1:7: unknown kind `\\u{1b}[31mx`

attached (as the kernel says)
PROGRAM           ATTACHED TO  BY   PROGRAM ID  LINK ID  INSTRUCTIONS
workload_ingress  blue1        TCX  40          41       1234

on this host
nftables table inet brattice

limits
LIMIT    USED  OF
aliases  2     65534

dropped
NoListener              3

counted
FromWorkload            100

latest drops
1 s ago: NoListener by vip_listener
";

#[test]
fn status_for_people() {
    assert_eq!(status(&node(), Look::default()), STATUS);
}

#[test]
fn every_line_of_status_fits_the_terminal() {
    let mut node = node();
    let long =
        "target 10.0.0.10 port 8080 of shop/orders-v1 in platform/green cannot be reached: connection refused, 3 times";
    node.problems.push(format!("{long}\n{long}"));
    node.footprint.push(
        "route local 169.254.64.0/20 dev lo table local proto 201 src 169.254.64.1 metric 1024, of Brattice".into(),
    );
    node.recent_drops
        .push("1 s ago: NoListener by vip_listener on interface 4: TCP 100.127.0.7:40312 → 169.254.64.32:80".into());
    let ipv6 = ["fd00:a9fe::/48", "fd00:a9fe::11", "fd00:647f::/48"].map(|text| Some(text.to_owned()));
    let [vip, dns, alias] = ipv6;
    node.ranges.ipv6 = Ipv6View { state: "on".into(), vip, dns, alias };
    for width in [60, 80, 120] {
        let look = Look { width: Some(width), ..Look::default() };
        let shown = crate::fold::fold(&status(&node, look), look);
        let widest = shown.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest <= width, "{widest} at {width}:\n{shown}");
        assert!(shown.split_whitespace().eq(status(&node, look).split_whitespace()), "nothing is lost:\n{shown}");
    }
}

#[test]
fn switches_and_errors_are_red_on_a_terminal() {
    let shown = status(&node(), Look { colours: true, ..Look::default() });
    assert!(shown.starts_with("\u{1b}[1;31mBYPASS: service shop/orders, 60 s left\u{1b}[0m\n"), "{shown}");
    assert!(shown.contains("\u{1b}[1;31minvalid\u{1b}[0m"));
    assert!(!shown.contains("\u{1b}[31mx"), "what documents say stays escaped");
    let plain: String =
        shown.replace("\u{1b}[1;31m", "").replace("\u{1b}[33m", "").replace("\u{1b}[2m", "").replace("\u{1b}[0m", "");
    assert_eq!(plain, STATUS);
}

#[test]
fn services_for_people() {
    let service = ServiceView {
        name: "shop/orders".into(),
        id: "svc-0123456789abcdefg".into(),
        arn: "arn".into(),
        status: "ACTIVE".into(),
        vip: "169.254.64.32".into(),
        vip6: Some("fd00:a9fe::8000:0:0:1".into()),
        names: vec!["orders.shop.internal".into(), "orders.svc.test".into()],
        labels: BTreeMap::new(),
        listeners: vec!["80/HTTP".into()],
        service_networks: vec![
            AssociationView { service_network: "platform/retail".into(), status: "ACTIVE".into(), failure: None },
            AssociationView {
                service_network: "rival/net".into(),
                status: "CREATE_FAILED".into(),
                failure: Some("AccessDenied: not shared".into()),
            },
        ],
        target_groups: vec![TargetGroupView { name: "shop/v1".into(), reachable: 1, configured: 2 }],
        origin: "accounts/shop/orders.yaml:1".into(),
    };
    let wide = Look { wide: true, ..Look::default() };
    assert_eq!(
        services(std::slice::from_ref(&service), wide),
        "\
SERVICE      STATUS                    VIP            IPV6 VIP               LISTENERS  TARGETS  TARGET GROUPS  NETWORKS                                                              NAMES                                 FROM
shop/orders  ACTIVE, 1 network failed  169.254.64.32  fd00:a9fe::8000:0:0:1  80/HTTP    1/2      shop/v1 1/2    platform/retail, rival/net (CREATE_FAILED: AccessDenied: not shared)  orders.shop.internal orders.svc.test  accounts/shop/orders.yaml:1
"
    );
    assert_eq!(
        services(&[service], Look::default()),
        "\
SERVICE      STATUS                    VIP            LISTENERS  TARGETS  NAMES
shop/orders  ACTIVE, 1 network failed  169.254.64.32  80/HTTP    1/2      orders.shop.internal orders.svc.test
"
    );
}

#[test]
fn workloads_for_people() {
    let workload = |name: &str, state: &str, reason: Option<&str>, addresses: &[(&str, &str)]| WorkloadView {
        name: name.into(),
        vpc: "platform/blue".into(),
        interface: name.into(),
        namespace: Some("ns\u{202e}".into()),
        labels: BTreeMap::new(),
        role: (state == "attached").then(|| "platform/storefront".to_owned()),
        addresses: addresses.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect(),
        state: state.into(),
        reason: reason.map(Into::into),
    };
    let list = [
        workload("blue1", "attached", None, &[("10.0.0.10", "100.127.0.1")]),
        workload("blue2", "refused", Some("AddressConflict: 10.0.0.10 belongs to blue1 already"), &[]),
    ];
    assert_eq!(
        workloads(&list, Look { wide: true, ..Look::default() }),
        "\
WORKLOAD  VPC            INTERFACE  NAMESPACE   STATE     ROLE                 ADDRESSES                REASON
blue1     platform/blue  blue1      ns\\u{202e}  attached  platform/storefront  10.0.0.10 → 100.127.0.1
blue2     platform/blue  blue2      ns\\u{202e}  refused   -                                             AddressConflict: 10.0.0.10 belongs to blue1 already
"
    );
}
