//! Calls over IPv6: VPCs of one family or both, and nothing exposed by the routes of IPv6.

mod arrivals;
mod names;

use std::{
    io::Read,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream},
    sync::Barrier,
    time::Duration,
};

use brattice_tests::{
    client::{Connection, HOST, connect_from},
    lab::{
        ALIAS6_RANGE, DNS_VIP6, ENGINE_UID, Lab, NETWORK, Namespace, Output, SETTLE, VIP6_RANGE, Wiring, Workload,
        eventually, output, probe, wait_until,
    },
    server::{BANNER, Server, WildcardServices},
};
use brattice_wire::api::{Answer, Request};

/// Two VPCs of IPv6 alone with the same addresses, one of IPv4 alone, one of both.
const NODE: &str = r#"
kind: Account
metadata: {name: platform}
spec: {id: "111111111111"}
---
kind: Account
metadata: {name: shop}
spec: {id: "222222222222", domains: [shop.internal], vpcs: [platform/green, platform/old, platform/dual]}
---
kind: Vpc
metadata: {name: blue}
spec:
  account: platform
  cidrBlocks: ["fd10::/64"]
  attachments: [{interface: "blue*"}]
  serviceNetworks: [platform/retail]
---
kind: Vpc
metadata: {name: green}
spec:
  account: platform
  cidrBlocks: ["fd10::/64"]
  attachments: [{interface: "green*"}]
  serviceNetworks: [platform/retail]
---
kind: Vpc
metadata: {name: old}
spec:
  account: platform
  cidrBlocks: [10.0.0.0/16]
  attachments: [{interface: "old*"}]
  serviceNetworks: [platform/retail]
---
kind: Vpc
metadata: {name: dual}
spec:
  account: platform
  cidrBlocks: [10.0.0.0/16, "fd10::/64"]
  attachments: [{interface: "dual*"}]
  serviceNetworks: [platform/retail]
"#;

/// `orders` in green (IPv6), `prices` in old (IPv4).
const SERVICES: &str = r#"
kind: Service
metadata: {name: orders}
spec:
  customDomainNames: [orders.shop.internal]
  serviceNetworks: [platform/retail]
  listeners: [{protocol: HTTP, port: 80, defaultAction: {forward: {targetGroups: [{targetGroupIdentifier: orders}]}}}]
---
kind: TargetGroup
metadata: {name: orders}
spec:
  config: {vpcIdentifier: platform/green, port: 8080, protocol: HTTP, ipAddressType: IPV6}
  targets: [{id: "fd10::10"}]
---
kind: Service
metadata: {name: prices}
spec:
  customDomainNames: [prices.shop.internal]
  serviceNetworks: [platform/retail]
  listeners: [{protocol: HTTP, port: 80, defaultAction: {forward: {targetGroups: [{targetGroupIdentifier: prices}]}}}]
---
kind: TargetGroup
metadata: {name: prices}
spec:
  config: {vpcIdentifier: platform/old, port: 8080, protocol: HTTP, ipAddressType: IPV4}
  targets: [{id: 10.0.0.10}]
"#;

const PRICES: &str = "prices.shop.internal";
const SHORT: Duration = Duration::from_millis(400);

/// A node with blue (routed) and green (bridged) at fd10::10, old at 10.0.0.10, dual at both.
struct Six {
    orders: Server,
    prices: Server,
    blue: Workload,
    green: Workload,
    old: Workload,
    dual: Workload,
    lab: Lab,
}

impl Six {
    #[track_caller]
    fn prepare() -> Self {
        let lab = Lab::new();
        let blue = lab.workload("blue1", "fd10::10", Wiring::Routed);
        let green = lab.workload("green1", "fd10::10", Wiring::Bridged("brgreen"));
        let old = lab.workload("old1", "10.0.0.10", Wiring::Routed);
        let dual = lab.workload("dual1", "10.0.0.10", Wiring::Routed);
        lab.also(&dual, "fd10::10", Wiring::Routed);
        let orders = Server::start(&green.namespace, "orders", 8080);
        let prices = Server::start(&old.namespace, "prices", 8080);
        lab.write("node.yaml", NODE);
        lab.write("accounts/platform/network.yaml", NETWORK);
        lab.write("accounts/shop/services.yaml", SERVICES);
        Self { orders, prices, blue, green, old, dual, lab }
    }

    #[track_caller]
    fn start() -> Self {
        let mut six = Self::prepare();
        six.lab.start_agent();
        six
    }
}

fn open(from: &Workload, vip: SocketAddr, host: &str) -> Connection {
    from.http(vip).unwrap_or_else(|error| panic!("{} to {vip}: {error}", from.interface)).with_host(host)
}

#[test]
fn a_vpc_of_ipv6_alone_calls_another() {
    let six = Six::start();
    let vip = six.lab.vip6("shop/orders", 80);
    let range = |address: &Ipv6Addr| address.segments()[..4] == DNS_VIP6.segments()[..4];
    let IpAddr::V6(address) = vip.ip() else { panic!("{vip}") };
    assert!(range(&address) && address.octets()[8] & 0x80 != 0, "{vip}");
    let mut connection = open(&six.blue, vip, HOST);
    for number in 0..20 {
        assert_eq!(connection.nonce(&format!("n{number}")).unwrap().server(), "orders");
    }
    // The target sees an engine source, and the caller in the header.
    let answer = open(&six.blue, vip, HOST).get("/", "").unwrap();
    let about: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    let peer: SocketAddr = about["peer"].as_str().unwrap().parse().unwrap();
    let IpAddr::V6(peer) = peer.ip() else { panic!("{about}") };
    assert!(range(&peer) && (1..=16).contains(&(peer.to_bits() as u64)), "{about}");
    assert!(answer.text().contains("\"fd10::10\""), "x-forwarded-for without brackets: {}", answer.text());
    // By address and by name, HTTP/1.1 and HTTP/2.
    let (by_name, by_vip) = (format!("http://{HOST}/"), format!("http://[{}]/", vip.ip()));
    for url in [&by_name, &by_vip] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let (status, body) = six.blue.fetch(&["-6", version, url]);
            assert_eq!(status, 200, "{version} {url}: {body}");
        }
    }
    // The VIP in whatever spelling.
    let groups: Vec<String> = address.segments().iter().map(|group| format!("{group:04X}")).collect();
    for (literal, status) in [(groups.join(":"), 200), ("fd8b:2a77:1c51::8000:0:0:1".to_owned(), 404)] {
        let answer = open(&six.blue, vip, &format!("[{literal}]")).get("/", "").unwrap();
        assert_eq!(answer.status, status, "{literal}");
    }
    // An upload that no packet holds, and back.
    let (status, body) = six.blue.fetch(&["-6", "--data-binary", &"x".repeat(100_000), &by_name]);
    assert_eq!(status, 200, "{body}");
    let drops = six.lab.status().drops;
    assert!(!drops.contains_key("SpoofedSource") && !drops.contains_key("Malformed"), "{drops:?}");
}

#[test]
fn the_families_of_caller_and_target_are_their_own() {
    let six = Six::start();
    let (orders, prices) = (six.lab.vip("shop/orders", 80), six.lab.vip6("shop/prices", 80));
    assert_eq!(open(&six.old, orders, HOST).nonce("up").unwrap().server(), "orders", "IPv4 calls IPv6");
    assert_eq!(open(&six.blue, prices, PRICES).nonce("down").unwrap().server(), "prices", "IPv6 calls IPv4");
    // Relayed as TCP as well.
    for (switch, word) in [("on", "relayed"), ("off", "read")] {
        let mut line = vec!["bypass", "--all"];
        if switch == "off" {
            line.push("--off");
        }
        let done = six.lab.brattice(&line);
        assert!(done.ok(), "{}", done.text());
        assert_eq!(open(&six.old, orders, HOST).nonce(word).unwrap().server(), "orders", "{word}");
        assert_eq!(open(&six.blue, prices, PRICES).nonce(word).unwrap().server(), "prices", "{word}");
    }
    assert!(six.lab.status().engine.stats.unwrap().connections_relayed >= 2);
    assert_eq!((six.orders.counters.requests(), six.prices.counters.requests()), (3, 3));
}

#[test]
fn a_workload_of_both_families_calls_over_both() {
    let six = Six::start();
    let (vip, vip6) = (six.lab.vip("shop/orders", 80), six.lab.vip6("shop/orders", 80));
    let alias = |address: &str| six.lab.alias("dual1", address.parse::<IpAddr>().unwrap());
    assert!(alias("10.0.0.10").is_ipv4() && alias("fd10::10").is_ipv6());
    for (number, vip) in [vip, vip6].into_iter().enumerate() {
        assert_eq!(open(&six.dual, vip, HOST).nonce(&format!("{number}")).unwrap().server(), "orders");
    }
    for family in ["-4", "-6"] {
        let url = format!("http://{HOST}/");
        assert_eq!(six.dual.fetch(&[family, &url]).0, 200, "curl {family}");
    }
    let shown = six.lab.brattice(&["services", "--wide"]);
    assert!(shown.stdout.contains(&vip6.ip().to_string()), "{}", shown.stdout);
    let shown = six.lab.brattice(&["workloads"]);
    assert!(shown.stdout.contains("fd10::10"), "{}", shown.stdout);
}

#[test]
fn each_vpc_is_told_the_addresses_of_its_families() {
    let six = Six::start();
    let (vip, vip6) =
        (six.lab.vip("shop/orders", 80).ip().to_string(), six.lab.vip6("shop/orders", 80).ip().to_string());
    let told = |from: &Workload, server: &str, kind: &str, transport: &str| {
        let (status, answers) = from.dig_at(server, &[HOST, kind, transport]);
        assert_eq!(status, "NOERROR", "{} asks {server} for {kind}", from.interface);
        answers.iter().filter_map(|line| line.rsplit(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    let (dns, dns6) = ("@169.254.64.17", format!("@{DNS_VIP6}"));
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(told(&six.blue, &dns6, "AAAA", transport), [vip6.as_str()]);
        assert_eq!(told(&six.blue, &dns6, "A", transport), none);
        assert_eq!(told(&six.old, dns, "A", transport), [vip.as_str()]);
        assert_eq!(told(&six.old, dns, "AAAA", transport), none);
        for server in [dns, &dns6] {
            assert_eq!(told(&six.dual, server, "A", transport), [vip.as_str()], "{server}");
            assert_eq!(told(&six.dual, server, "AAAA", transport), [vip6.as_str()], "{server}");
        }
    }
    assert_eq!(six.blue.dig_at(&dns6, &["nobody.svc.brattice.internal", "AAAA"]).0, "NXDOMAIN");
}

#[test]
fn equal_addresses_and_equal_ports_do_not_cross() {
    let six = Six::start();
    let vip = six.lab.vip6("shop/orders", 80);
    six.lab.alias("green1", six.green.address);
    let both_open = Barrier::new(2);
    std::thread::scope(|scope| {
        for caller in [&six.blue, &six.green] {
            let both_open = &both_open;
            scope.spawn(move || {
                caller.namespace.enter_this_thread();
                let stream = connect_from(40_001, vip).unwrap();
                assert_eq!(stream.local_addr().unwrap().to_string(), "[fd10::10]:40001");
                let mut connection = Connection::new(stream);
                connection.nonce("first").unwrap();
                both_open.wait();
                for number in 0..500 {
                    connection.nonce(&format!("{}-{number}", caller.interface)).unwrap();
                }
                both_open.wait();
            });
        }
    });
    assert_eq!(six.orders.counters.requests(), 1_002);
}

#[test]
fn port_53_of_any_ipv6_address_is_taken_where_it_is_wished() {
    let mut six = Six::prepare();
    let wish = "attachments: [{interface: \"blue*\"}]";
    six.lab.write("node.yaml", &NODE.replace(wish, &format!("{wish}\n  dns: intercept")));
    six.lab.start_agent();
    let vip = six.lab.vip6("shop/orders", 80).ip().to_string();
    for transport in ["+notcp", "+tcp"] {
        // dig takes no answer from another address than it asked.
        let (status, answers) = six.blue.dig_at("@2001:db8::53", &[HOST, "AAAA", transport]);
        assert_eq!((status.as_str(), answers.len()), ("NOERROR", 1), "{transport}: {answers:?}");
        assert!(answers[0].ends_with(&vip), "{transport}: {answers:?}");
        let (status, _) = six.dual.dig_at("@2001:db8::53", &[HOST, "AAAA", transport]);
        assert_eq!(status, "NO ANSWER", "dual is not intercepted");
    }
}

/// A program of ours in a namespace, as a user without any privilege.
fn probe_as(lab: &Lab, uid: u32, words: &[&str]) -> Output {
    output(&mut lab.as_user(uid, uid, lab.node.command(&probe()).args(words)))
}

#[test]
fn a_workload_can_neither_lend_addresses_nor_reach_aliases() {
    let six = Six::start();
    let vip = six.lab.vip6("shop/orders", 80);
    let alias = six.lab.alias("green1", six.green.address);
    six.lab.node.sh("sysctl -qw net.ipv6.conf.all.forwarding=1");
    let tried = |from: &str, to: &str| six.blue.namespace.run(&[&probe(), "tcp", from, to]);
    let control = tried("[fd10::10]:0", &vip.to_string());
    assert!(control.ok(), "its own address is fine: {}", control.text());
    let reached = six.orders.counters.connections();
    assert!(!tried("[fd10::10]:0", &format!("[{alias}]:8080")).ok());
    six.lab.dropped("ToAlias", 1);
    // An address outside the VPC's CIDR is never discovered as its own.
    six.blue.namespace.ip("addr add fd11::99/128 dev lo");
    assert!(!tried("[fd11::99]:0", &vip.to_string()).ok());
    six.lab.dropped("SpoofedSource", 1);
    let before = six.lab.drops("SpoofedSource") + six.lab.drops("FromReserved");
    six.blue.namespace.ip(&format!("addr add {alias}/128 dev lo"));
    assert!(!tried(&format!("[{alias}]:0"), &vip.to_string()).ok(), "another's alias as source");
    wait_until("it is counted", Duration::from_secs(3), || {
        six.lab.drops("SpoofedSource") + six.lab.drops("FromReserved") > before
    });
    assert_eq!(six.orders.counters.connections(), reached);
    assert!(tried("[fd10::10]:0", &vip.to_string()).ok(), "its own address still is");
}

#[test]
fn a_host_user_gets_nothing_through_vips_and_aliases() {
    let six = Six::start();
    let alias = six.lab.alias("green1", six.green.address);
    let (source, target) = ("[fd8b:2a77:1c51::1]:0", format!("[{alias}]:8080"));
    let control = probe_as(&six.lab, ENGINE_UID, &["tcp", source, &target]);
    assert!(control.ok() && control.stdout.contains("200"), "the way that is open: {}", control.text());
    let reached = six.orders.counters.connections();
    let cases: [(&str, u32, &str, String, &str); 5] = [
        ("a user from a bound VIP", 65_000, source, target.clone(), "NotEngine"),
        ("root from a bound VIP", 0, source, target.clone(), "NotEngine"),
        ("the engine from no source of its own", ENGINE_UID, "[fd8b:2a77:1c51::77]:0", target, "EngineBind"),
        ("the engine to what is no target", ENGINE_UID, source, format!("[{alias}]:8081"), "EngineReach"),
        ("the engine to nobody's alias", ENGINE_UID, source, "[fdc4:90e6:5b0d::ffff]:8080".into(), "EngineReach"),
    ];
    for (who, uid, from, to, reason) in cases {
        let before = six.lab.drops(reason);
        let tried = probe_as(&six.lab, uid, &["tcp", from, &to]);
        assert!(!tried.ok(), "{who}: {}", tried.text());
        wait_until(&format!("{who} is counted as {reason}"), Duration::from_secs(3), || six.lab.drops(reason) > before);
    }
    assert_eq!(six.orders.counters.connections(), reached, "nothing reached the target");
    // A VIP answers workloads only.
    let vip = six.lab.vip6("shop/orders", 80);
    let before = six.lab.drops("UnattestedHost");
    assert!(!probe_as(&six.lab, 65_000, &["tcp", "[::]:0", &vip.to_string()]).ok());
    assert!(six.lab.drops("UnattestedHost") > before);
}

/// Tries every port on every address; the daemons' banners it got.
fn banners(from: &Namespace, addresses: &[Ipv6Addr], ports: &[u16]) -> Vec<SocketAddr> {
    from.enter(|| {
        let mut got = Vec::new();
        for to in addresses.iter().flat_map(|address| ports.iter().map(|port| SocketAddr::from((*address, *port)))) {
            let Ok(mut stream) = TcpStream::connect_timeout(&to, SHORT) else { continue };
            let _ = stream.set_read_timeout(Some(SHORT));
            let mut text = [0; BANNER.len()];
            if stream.read_exact(&mut text).is_ok() && text == BANNER {
                got.push(to);
            }
        }
        got
    })
}

#[test]
fn daemons_of_the_host_are_unreachable_through_any_vip() {
    let mut six = Six::prepare();
    let ports = [22, 80, 2222, 6443];
    let daemons = WildcardServices::start(&six.lab.node, &ports);
    let neighbour = six.lab.neighbour();
    six.lab.node.ip("addr add fd77::1/64 dev up0 nodad");
    neighbour.ip("addr add fd77::2/64 dev eth0 nodad");
    for range in [VIP6_RANGE, ALIAS6_RANGE] {
        neighbour.ip(&format!("route add {range} via fd77::1"));
    }
    six.lab.node.sh("sysctl -qw net.ipv6.conf.all.forwarding=1");
    // Of no VPC, so never attached.
    let stranger = six.lab.workload("other1", "fd10::99", Wiring::Routed);
    six.lab.start_agent();
    let vip = six.lab.vip6("shop/orders", 80);
    let IpAddr::V6(service) = vip.ip() else { panic!("{vip}") };
    let all: Vec<Ipv6Addr> = ["fd8b:2a77:1c51::", "fd8b:2a77:1c51::3", "fd8b:2a77:1c51::11", "fd8b:2a77:1c51:0:9::1"]
        .iter()
        .map(|text| text.parse().unwrap())
        .chain([service])
        .collect();
    // The daemons are there, for clients that call the node by an address of its own.
    let own = |address: &str| [address.parse::<Ipv6Addr>().unwrap()];
    assert_eq!(banners(&six.blue.namespace, &own("fd10::1"), &ports).len(), ports.len());
    assert_eq!(banners(&stranger.namespace, &own("fd10::1"), &ports).len(), ports.len());
    assert_eq!(banners(&neighbour, &own("fd77::1"), &ports).len(), ports.len());
    let before = daemons.hits();
    for (who, from) in [("blue", &six.blue.namespace), ("a stranger", &stranger.namespace), ("a neighbour", &neighbour)]
    {
        let got = banners(from, &all, &ports);
        assert!(got.is_empty(), "{who} reached {got:?}");
    }
    assert_eq!(daemons.hits(), before, "nothing reached a daemon");
    assert_eq!(
        open(&six.blue, vip, HOST).nonce("n").unwrap().server(),
        "orders",
        "port 80 of the VIP is the service's"
    );
    for from in [&stranger.namespace, &neighbour] {
        assert!(from.enter(|| TcpStream::connect_timeout(&vip, SHORT)).is_err(), "the service is for workloads only");
    }
    // The neighbour gets at no alias either.
    let alias = six.lab.alias("green1", six.green.address);
    let reached = six.orders.counters.connections();
    assert!(neighbour.enter(|| TcpStream::connect_timeout(&SocketAddr::from((alias, 8080)), SHORT)).is_err());
    six.lab.dropped("Forwarded", 1);
    assert_eq!(six.orders.counters.connections(), reached);
}

#[test]
fn a_host_without_ipv6_serves_ipv4_and_says_so_until_it_is_turned_on() {
    let mut six = Six::prepare();
    let sysctl = |value: u8| {
        for which in ["all", "default"] {
            six.lab.node.sh(&format!("sysctl -qw net.ipv6.conf.{which}.disable_ipv6={value}"));
        }
    };
    sysctl(1);
    six.lab.start_agent();
    let (prices, view) = (six.lab.vip("shop/prices", 80), six.lab.service("shop/prices"));
    assert_eq!(open(&six.dual, prices, PRICES).nonce("v4").unwrap().server(), "prices");
    assert_eq!(view.vip6, None);
    let ranges = six.lab.status().ranges;
    assert!(ranges.ipv6.state.contains("off on this host"), "{ranges:?}");
    let shown = six.lab.brattice(&["status"]);
    assert!(shown.stdout.contains("off on this host"), "{}", shown.text());
    assert_eq!(six.dual.dig(&[HOST, "AAAA"]), ("NOERROR".to_owned(), vec![]), "nobody is sent where nothing answers");
    let refused = six.lab.brattice(&["workloads"]);
    assert!(refused.stdout.contains("NoIpv6"), "{}", refused.stdout);

    // On, and off and on once more: heard by its events.
    for number in 0..2 {
        let sysctl = |value: u8| {
            for which in ["all", "default"] {
                six.lab.node.sh(&format!("sysctl -qw net.ipv6.conf.{which}.disable_ipv6={value}"));
            }
        };
        if number == 1 {
            sysctl(1);
        }
        sysctl(0);
        let vip = eventually("an IPv6 VIP", SETTLE, || {
            six.lab.service("shop/orders").vip6.ok_or_else(|| format!("{:?}", six.lab.status().ranges))
        });
        let vip = SocketAddr::new(vip.parse().unwrap(), 80);
        eventually("a call over IPv6", SETTLE, || {
            let mut open = six.blue.http(vip).map_err(|error| error.to_string())?;
            open.nonce("v6").map_err(|error| error.to_string())
        });
    }
    // The last call may have come before the agent heard that IPv6 was off for a moment.
    wait_until("IPv6 is on", SETTLE, || six.lab.status().ranges.ipv6.state == "on");
}

#[test]
fn ipv6_that_is_not_wanted_is_not_there() {
    let mut six = Six::prepare();
    let options =
        brattice_tests::lab::AgentOptions { more: vec!["--vip6-range".into(), "off".into()], ..Default::default() };
    six.lab.start_agent_with(&options);
    assert_eq!(six.lab.service("shop/orders").vip6, None);
    assert_eq!(six.lab.node.ip("-6 route show table all proto 187"), "");
    assert!(six.lab.status().ranges.ipv6.state.contains("not wanted"));
    let prices = six.lab.vip("shop/prices", 80);
    assert_eq!(open(&six.dual, prices, PRICES).nonce("v4").unwrap().server(), "prices");
}

#[test]
fn preflight_probes_both_families() {
    let six = Six::start();
    let report = match six.lab.ask(&Request::Probe).unwrap() {
        Answer::Probe(report) => report,
        other => panic!("{other:?}"),
    };
    assert!(report.ipv6.is_some() && report.passed(), "{report:?}");
    // A rule that drops IPv6 alone is named.
    six.lab.node.sh("nft add table ip6 wall");
    six.lab.node.run(&["nft", "add chain ip6 wall input { type filter hook input priority 0; policy drop; }"]);
    let report = match six.lab.ask(&Request::Probe).unwrap() {
        Answer::Probe(report) => report,
        other => panic!("{other:?}"),
    };
    assert!(report.to_vip.is_none() && report.to_workload.is_none(), "IPv4 passes: {report:?}");
    assert!(report.ipv6.as_ref().is_some_and(|legs| legs.to_vip.is_some()) && !report.passed(), "{report:?}");
    assert!(report.culprits.iter().any(|culprit| culprit.place.contains("ip6 wall")), "{report:?}");
}

#[test]
fn records_and_explanations_show_addresses_of_ipv6() {
    let mut six = Six::prepare();
    six.lab.start_agent_with(&brattice_tests::lab::AgentOptions::recording());
    let vip = six.lab.vip6("shop/orders", 80);
    let mut kept = open(&six.blue, vip, HOST);
    let id = kept.get("/", "").unwrap().header("x-amzn-requestid").unwrap().to_owned();
    let record = six.lab.record(&id);
    let text = record.to_string();
    assert!(text.contains("[fd10::10]:8080") && text.contains("fd10::10"), "{text}");
    let flows = six.lab.brattice(&["flows", "--output", "json"]);
    assert!(flows.stdout.contains("[fd10::10]:") && flows.stdout.contains(&vip.to_string()), "{}", flows.text());
    let explained = six.lab.brattice(&["explain", &id]);
    assert!(explained.ok() && explained.stdout.contains("fd10::10"), "{}", explained.text());
    let vip = vip.ip().to_string();
    let made_up = six.lab.brattice(&["explain", "--from", "blue1", "--to", &vip]);
    assert!(made_up.ok(), "{}", made_up.text());
}

#[test]
fn cleanup_takes_ipv6_along() {
    let mut six = Six::start();
    let shown = |six: &Six| (six.lab.node.ip("-6 route show table all proto 187"), six.lab.node.sh("nft list ruleset"));
    let (routes, table) = shown(&six);
    assert!(
        routes.contains(VIP6_RANGE) && routes.contains(ALIAS6_RANGE) && table.contains("ip6 daddr"),
        "{routes}{table}"
    );
    six.lab.agent().stop();
    let done = six.lab.cleanup();
    assert!(done.ok() && done.stdout.contains(&format!("route local {VIP6_RANGE}")), "{}", done.text());
    assert_eq!(shown(&six), (String::new(), String::new()));
}
