//! Workloads of three MTUs beside each other: what is large goes both ways between each two.

use std::io::Write;

use brattice_tests::{
    client::Connection,
    lab::{Lab, NETWORK, NODE, SETTLE, Wiring, Workload, wait_until},
    server::{Server, fill, pattern_hash},
};

const MTUS: [u32; 3] = [9000, 1500, 1280];
/// Many segments of any MTU.
const LENGTH: usize = 1 << 20;

/// A service whose one target is a workload of green.
fn service(name: &str, target: &str) -> String {
    format!(
        "
kind: Service
metadata: {{name: {name}}}
spec:
  customDomainNames: [{name}.shop.internal]
  serviceNetworks: [platform/retail]
  listeners: [{{protocol: HTTP, port: 80, defaultAction: {{forward: {{targetGroups: [{{targetGroupIdentifier: {name}}}]}}}}}}]
---
kind: TargetGroup
metadata: {{name: {name}}}
spec: {{config: {{vpcIdentifier: platform/green, port: 8080, protocol: HTTP}}, targets: [{{id: {target}}}]}}
"
    )
}

/// 1 MiB up, whose hash the server tells, and 1 MiB down.
fn both_ways(from: &Workload, to: &str, lab: &Lab) {
    let vip = lab.vip(&format!("shop/{to}"), 80);
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

#[test]
fn large_messages_go_both_ways_between_workloads_of_any_mtu() {
    let mut lab = Lab::new();
    let workloads: Vec<Workload> = MTUS
        .iter()
        .zip(1..)
        .map(|(mtu, number)| {
            let workload = lab.workload(&format!("green{number}"), &format!("10.0.0.1{number}"), Wiring::Routed);
            lab.node.ip(&format!("link set green{number} mtu {mtu}"));
            workload.namespace.ip(&format!("link set eth0 mtu {mtu}"));
            workload
        })
        .collect();
    let names: Vec<String> = MTUS.iter().map(|mtu| format!("orders{mtu}")).collect();
    let servers: Vec<Server> =
        workloads.iter().zip(&names).map(|(workload, name)| Server::start(&workload.namespace, name, 8080)).collect();
    lab.write("node.yaml", NODE);
    lab.write("accounts/platform/network.yaml", NETWORK);
    let services: Vec<String> =
        names.iter().zip(&workloads).map(|(name, workload)| service(name, &workload.address.to_string())).collect();
    lab.write("accounts/shop/services.yaml", &services.join("---"));
    lab.start_agent();
    wait_until("the largest MTU is that of the aliases' route", SETTLE, || {
        lab.node.ip("route show proto 187").contains("mtu 9000")
    });
    let all = |lab: &Lab| {
        for from in &workloads {
            for to in &names {
                both_ways(from, to, lab);
            }
        }
    };
    all(&lab);
    // Without offloads every segment is a packet of its own.
    for workload in &workloads[..2] {
        for (namespace, interface) in [(&lab.node, workload.interface.as_str()), (&workload.namespace, "eth0")] {
            namespace.sh(&format!("ethtool -K {interface} tso off gso off gro off"));
        }
    }
    all(&lab);
    // Relayed unread.
    let done = lab.brattice(&["bypass", "--all"]);
    assert!(done.ok(), "{}", done.text());
    all(&lab);
    assert!(lab.status().engine.stats.unwrap().connections_relayed >= 9);
    assert!(servers.iter().all(|server| server.counters.requests() == 18));
}
