//! Workloads of three MTUs beside each other, and a link inside a workload that takes less than its interface: what is large
//! goes both ways all the same.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

use brattice_tests::{
    client::Connection,
    lab::{
        Lab, NETWORK, NODE_OF_BOTH, Namespace, SETTLE, VIP_RANGE, VIP6_RANGE, Wiring, Workload, service_of, wait_until,
    },
    server::{Server, fill, pattern_hash},
};

const MTUS: [u32; 3] = [9000, 1500, 1280];
/// Many segments of any MTU.
const LENGTH: usize = 1 << 20;

/// 1 MiB up, whose hash the server returns, and 1 MiB down.
fn both_ways(from: &Workload, to: &str, vip: SocketAddr) {
    let host = format!("{to}.shop.internal");
    let mut open: Connection = from.http(vip).unwrap().with_host(&host);
    let mut bytes = vec![0; LENGTH];
    fill(0, &mut bytes);
    open.send(format!("POST /hash HTTP/1.1\r\nhost: {host}\r\ncontent-length: {LENGTH}\r\n\r\n").as_bytes()).unwrap();
    open.stream().write_all(&bytes).unwrap();
    assert_eq!(open.answer().unwrap().json()["sha256"], pattern_hash(LENGTH as u64), "{} to {to}", from.interface);
    let answer = open.get(&format!("/bytes/{LENGTH}"), "").unwrap();
    assert!(answer.body == bytes, "{to} to {}", from.interface);
}

fn relay_everything(lab: &Lab) {
    let done = lab.brattice(&["bypass", "--all"]);
    assert!(done.ok(), "{}", done.text());
}

/// Each of three workloads of one family calls each.
fn among_three(addresses: [&str; 3]) {
    let mut lab = Lab::new();
    let workloads: Vec<Workload> = MTUS
        .iter()
        .zip(addresses)
        .map(|(mtu, address)| {
            let interface = format!("green{mtu}");
            let workload = lab.workload(&interface, address, Wiring::Routed);
            lab.node.ip(&format!("link set {interface} mtu {mtu}"));
            workload.namespace.ip(&format!("link set eth0 mtu {mtu}"));
            workload
        })
        .collect();
    let names: Vec<String> = MTUS.iter().map(|mtu| format!("orders{mtu}")).collect();
    let servers: Vec<Server> =
        workloads.iter().zip(&names).map(|(workload, name)| Server::start(&workload.namespace, name, 8080)).collect();
    lab.write("node.yaml", NODE_OF_BOTH);
    lab.write("accounts/platform/network.yaml", NETWORK);
    let services: Vec<String> =
        names.iter().zip(&workloads).map(|(name, workload)| service_of(name, "green", workload.address)).collect();
    lab.write("accounts/shop/services.yaml", &services.join("---"));
    lab.start_agent();
    let ipv4 = workloads[0].address.is_ipv4();
    let family = if ipv4 { "-4" } else { "-6" };
    wait_until("the largest MTU is that of the aliases' route", SETTLE, || {
        lab.node.ip(&format!("{family} route show table all proto 187")).contains("mtu 9000")
    });
    let all = || {
        for from in &workloads {
            for to in &names {
                let service = format!("shop/{to}");
                both_ways(from, to, if ipv4 { lab.vip(&service, 80) } else { lab.vip6(&service, 80) });
            }
        }
    };
    all();
    // Without offloads every segment is a packet of its own.
    for workload in &workloads[..2] {
        for (namespace, interface) in [(&lab.node, workload.interface.as_str()), (&workload.namespace, "eth0")] {
            namespace.sh(&format!("ethtool -K {interface} tso off gso off gro off"));
        }
    }
    all();
    relay_everything(&lab);
    all();
    assert!(lab.status().engine.stats.unwrap().connections_relayed >= 9);
    assert!(servers.iter().all(|server| server.counters.requests() == 18));
}

#[test]
fn large_messages_go_both_ways_between_workloads_of_any_mtu() {
    among_three(["10.0.0.11", "10.0.0.12", "10.0.0.13"]);
}

#[test]
fn large_messages_go_both_ways_between_workloads_of_any_mtu_over_ipv6() {
    among_three(["fd10::11", "fd10::12", "fd10::13"]);
}

/// The MTU of the narrow link.
const NARROW: u32 = 1280;
/// What the workload behind the routers is called by.
const INNER: [&str; 2] = ["10.0.0.10", "fd10::10"];

/// node - router - narrow link - router - workload, all other links of 1500 bytes: neither end announces what fits between
/// the routers, so that nothing but their errors shows it. Gives the workload.
fn behind_routers(lab: &Lab) -> Workload {
    let outer = lab.unrouted_workload("green1", "10.0.0.2", Wiring::Routed);
    lab.also(&outer, "fd10::2", Wiring::Routed);
    outer.namespace.ip(&format!("route add {VIP_RANGE} dev eth0"));
    let between = Namespace::create(&format!("{}-between", lab.id));
    let inner = Namespace::create(&format!("{}-inner", lab.id));
    for router in [&outer.namespace, &between] {
        router.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    }
    let join = |upper: &Namespace, lower: &Namespace, mtu: u32, net: &str| {
        upper.ip(&format!("link add below mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}", lower.name));
        for (namespace, interface, number) in [(upper, "below", 1), (lower, "eth0", 2)] {
            namespace.ip(&format!("addr add 10.{net}.0.{number}/24 dev {interface}"));
            namespace.ip(&format!("addr add fd{net}::{number}/64 dev {interface} nodad"));
            namespace.ip(&format!("link set {interface} up"));
        }
        lower.ip(&format!("route add default via 10.{net}.0.1"));
        lower.ip(&format!("route add default via fd{net}::1"));
    };
    join(&outer.namespace, &between, NARROW, "91");
    join(&between, &inner, 1500, "92");
    for (address, length, via) in [(INNER[0], 32, ["10.91.0.2", "10.92.0.2"]), (INNER[1], 128, ["fd91::2", "fd92::2"])]
    {
        inner.ip(&format!("addr add {address}/{length} dev lo"));
        outer.namespace.ip(&format!("route add {address}/{length} via {}", via[0]));
        between.ip(&format!("route add {address}/{length} via {}", via[1]));
    }
    // It calls from the address that is documented.
    for (range, gateway, source) in [(VIP_RANGE, "10.92.0.1", INNER[0]), (VIP6_RANGE, "fd92::1", INNER[1])] {
        inner.ip(&format!("route add {range} via {gateway} src {source}"));
    }
    Workload { namespace: inner, interface: "green1".into(), address: INNER[0].parse().unwrap() }
}

/// The MTU that the host's stack has learnt of an alias.
fn learnt(lab: &Lab, alias: IpAddr) -> u32 {
    let from = if alias.is_ipv4() { "169.254.64.1" } else { "fd8b:2a77:1c51::1" };
    let text = lab.node.ip(&format!("route get {alias} from {from}"));
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// packets.md ingress 260
#[test]
fn a_router_inside_a_workload_tells_the_engine_of_a_narrow_link() {
    let mut lab = Lab::new();
    let inner = behind_routers(&lab);
    let blue = lab.workload("blue1", "10.0.0.10", Wiring::Routed);
    lab.also(&blue, "fd10::10", Wiring::Routed);
    let _servers = [Server::start(&inner.namespace, "inner", 8080), Server::start(&blue.namespace, "orders", 8080)];
    let document = "---\nkind: Workload\nmetadata: {name: inner}\nspec: {vpcIdentifier: platform/green, interface: green1, addresses: [10.0.0.10, \"fd10::10\"]}\n";
    lab.write("node.yaml", &format!("{NODE_OF_BOTH}{document}"));
    lab.write("accounts/platform/network.yaml", NETWORK);
    let services = [
        service_of("inner", "green", INNER[0]),
        service_of("inner6", "green", INNER[1]),
        service_of("orders", "blue", "10.0.0.10"),
        service_of("orders6", "blue", "fd10::10"),
    ];
    lab.write("accounts/shop/services.yaml", &services.join("---"));
    lab.start_agent();
    let aliases = INNER.map(|address| lab.alias("green1", address.parse::<IpAddr>().unwrap()));
    let told = |lab: &Lab| lab.status().counters.get("IcmpFromWorkload").copied().unwrap_or(0);
    for way in ["read", "relayed"] {
        if way == "relayed" {
            relay_everything(&lab);
        }
        for (number, alias) in aliases.into_iter().enumerate() {
            let (called, calls) = [("inner", "orders"), ("inner6", "orders6")][number];
            let vip = |name: &str| {
                let name = format!("shop/{name}");
                if alias.is_ipv4() { lab.vip(&name, 80) } else { lab.vip6(&name, 80) }
            };
            // As a target, and as a caller: of each the errors are about another connection of the engine.
            for (from, to) in [(&blue, called), (&inner, calls)] {
                // What either end knows from before: the workload would announce segments that fit.
                for namespace in [&lab.node, &inner.namespace] {
                    namespace.ip("-4 route flush cache");
                    namespace.ip("-6 route flush cache table all");
                }
                let what = format!("{way}: {} to {to}", from.interface);
                assert_ne!(learnt(&lab, alias), NARROW, "{what}: not yet");
                let before = told(&lab);
                both_ways(from, to, vip(to));
                assert!(told(&lab) > before, "{what}: {:?}", lab.status().counters);
                assert_eq!(learnt(&lab, alias), NARROW, "{what}");
            }
        }
    }
    let status = lab.status();
    assert!(status.engine.stats.unwrap().connections_relayed >= 4);
    assert_eq!(status.counters["TooLargeAnswered"], 0, "the workload's interface takes 1500 bytes");
    assert!(!status.drops.contains_key("IcmpForeign") && !status.drops.contains_key("IcmpQuote"), "{:?}", status.drops);
}
