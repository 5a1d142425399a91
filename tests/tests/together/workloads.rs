//! Which interfaces are attached, and when an alias is lost.

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use brattice_tests::lab::{Lab, NETWORK, NODE, Namespace, Retail, SETTLE, Wiring, forward, probe, service, wait_until};

/// By the event, not by the next look.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn an_interface_that_appears_is_attached_by_the_event() {
    let retail = Retail::start();
    let vip = retail.orders();
    let late = retail.lab.workload("blue2", "10.0.0.20", Wiring::Bridged("brblue"));
    retail.lab.alias("blue2", late.address);
    assert_eq!(late.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
    // Gone with its interface.
    retail.lab.node.ip("link delete blue2");
    wait_until("it is no longer a workload", SETTLE, || {
        retail.lab.workloads().iter().all(|workload| workload.interface != "blue2" || workload.state != "attached")
    });
    assert!(retail.lab.status().programs.iter().all(|program| program.attached_to != "blue2"));
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn until_it_is_attached_its_traffic_to_vips_is_refused() {
    let retail = Retail::start();
    let vip = retail.orders();
    let stranger = retail.lab.workload("yellow1", "10.0.0.30", Wiring::Routed);
    let since = Instant::now();
    let refused = stranger.connect_within(vip, Duration::from_secs(2)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "reset, not left hanging");
    assert!(since.elapsed() < Duration::from_millis(250), "{:?}", since.elapsed());
    retail.lab.dropped("UnattestedPeer", 1);
    let yellow = "---\nkind: Vpc\nmetadata: {name: yellow}\nspec: {account: platform, cidrBlocks: [10.0.0.0/16], attachments: [{interface: \"yellow*\"}], serviceNetworks: [platform/retail]}\n";
    retail.lab.apply("node.yaml", &format!("{NODE}{yellow}"));
    retail.lab.alias("yellow1", stranger.address);
    assert_eq!(stranger.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn the_later_of_two_with_the_same_address_is_refused() {
    let retail = Retail::start();
    let vip = retail.orders();
    let alias = retail.lab.alias("blue1", retail.blue.address);
    let twin = retail.lab.workload("blue2", "10.0.0.10", Wiring::Bridged("brblue"));
    let shown = || retail.lab.workloads().into_iter().find(|workload| workload.interface == "blue2");
    wait_until("the twin is shown as refused", SETTLE, || {
        shown().is_some_and(|twin| twin.reason.as_deref().is_some_and(|reason| reason.contains("AddressConflict")))
    });
    assert!(twin.connect_within(vip, Duration::from_millis(500)).is_err(), "{:?}", shown());
    assert_eq!(retail.lab.alias("blue1", retail.blue.address), alias, "the first keeps its alias");
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
    // Another address of the VPC is its own.
    twin.namespace.ip("addr add 10.0.0.40/16 dev eth0");
    retail.lab.alias("blue2", Ipv4Addr::new(10, 0, 0, 40));
    let answer = twin.namespace.run(&[&probe(), "tcp", "10.0.0.40:0", &vip.to_string()]);
    assert!(answer.ok(), "{}", answer.text());
}

#[test]
fn a_document_names_a_workload_and_its_addresses() {
    let documents = NODE.replace("attachments: [{interface: \"red*\"}]", "serviceNetworks: [platform/retail]")
        + "---\nkind: Workload\nmetadata: {name: till}\nspec: {vpcIdentifier: platform/red, interface: red1, addresses: [10.0.0.10]}\n";
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    retail.lab.write("node.yaml", &documents);
    retail.lab.start_agent();
    retail.lab.alias("red1", retail.red.address);
    let shown = retail.lab.workloads();
    assert!(shown.iter().any(|workload| workload.name.ends_with("till") && workload.interface == "red1"), "{shown:?}");
    assert_eq!(retail.red.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
    // The document is authoritative: an address it does not name is not the workload's.
    retail.red.namespace.ip("addr add 10.0.0.77/16 dev eth0");
    let answer = retail.red.namespace.run(&[&probe(), "tcp", "10.0.0.77:0", &retail.orders().to_string()]);
    assert!(!answer.ok(), "{}", answer.text());
    retail.lab.dropped("SpoofedSource", 1);
}

#[test]
fn a_named_namespace_selects_as_well() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let glob =
        format!("attachments: [{{namespace: \"{}-red*\"}}]\n  serviceNetworks: [platform/retail]", retail.lab.id);
    retail.lab.write("node.yaml", &NODE.replace("attachments: [{interface: \"red*\"}]", &glob));
    retail.lab.start_agent();
    retail.lab.alias("red1", retail.red.address);
    assert_eq!(retail.red.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn uplinks_bridges_and_our_own_devices_are_never_attached() {
    let mut lab = Lab::new();
    let neighbour = lab.neighbour();
    lab.node.ip("route add default via 192.168.77.2");
    let a = lab.workload("blue1", "10.0.0.10", Wiring::Bridged("brblue"));
    // A VPC that claims everything, and one that claims what is already claimed.
    lab.write("node.yaml", &NODE.replace("\"blue*\"", "\"*\""));
    lab.write("accounts/platform/network.yaml", NETWORK);
    let green = lab.workload("green1", "10.0.0.10", Wiring::Bridged("brgreen"));
    lab.start_agent();
    lab.alias("blue1", a.address);
    let attached: Vec<String> = lab
        .status()
        .programs
        .into_iter()
        .filter(|program| program.program == "workload_ingress")
        .map(|program| program.attached_to)
        .collect();
    assert!(attached.contains(&"blue1".to_owned()), "{attached:?}");
    for never in ["up0", "brblue", "brgreen", "brattice0", "brattice1", "lo"] {
        assert!(!attached.contains(&never.to_owned()), "{never} is attached: {attached:?}");
    }
    let shown = lab.workloads();
    let claimed = shown.iter().find(|workload| workload.interface == "green1").expect("shown, attached or not");
    assert_ne!(claimed.state, "attached", "claimed by two VPCs: {claimed:?}");
    assert!(claimed.reason.is_some());
    let preflight = lab
        .brattice_command(&["preflight", "--policies"])
        .arg(lab.policies())
        .arg("--run-dir")
        .arg(lab.run_dir())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&preflight.stdout).into_owned();
    for (interface, verdict) in [
        ("blue1", "attach"),
        ("up0", "DefaultRoute"),
        ("brblue", "Bridge"),
        ("brattice0", "Own"),
        ("green1", "ClaimedByTwoVpcs"),
    ] {
        let listed =
            text.lines().any(|line| line.split_whitespace().next() == Some(interface) && line.contains(verdict));
        assert!(listed, "preflight prints the exact list; {interface} should be {verdict}: {text}");
    }
    drop((neighbour, green));
}

#[test]
fn an_interface_that_leaves_its_namespace_loses_its_alias_at_once() {
    let retail = Retail::start();
    let vip = retail.orders();
    let mut open = retail.blue.http(vip).unwrap();
    open.nonce("n").unwrap();
    let alias = retail.lab.alias("blue1", retail.blue.address);
    assert_eq!(retail.lab.node.sh(&format!("ss -Htn state established dst {alias}")).lines().count(), 1);
    // A thief brings the same interface into a namespace of its own, with the same address.
    let thief = Namespace::create(&format!("{}-thief", retail.lab.id));
    retail.blue.namespace.ip(&format!("link set eth0 netns {}", thief.name));
    thief.ip("addr add 10.0.0.10/16 dev eth0");
    thief.ip("link set eth0 up");
    thief.ip("route add 169.254.64.0/20 dev eth0");
    let has_alias = || {
        retail.lab.workloads().iter().any(|workload| {
            workload.interface == "blue1"
                && workload.state == "attached"
                && workload.addresses.values().any(|own| *own == alias.to_string())
        })
    };
    wait_until("the alias is lost", AT_ONCE, || !has_alias());
    let open_ones = || retail.lab.node.sh(&format!("ss -Htn state established dst {alias}")).lines().count();
    wait_until("its connections are closed", AT_ONCE, || open_ones() == 0);
    // It may come back as a new workload, but under another alias.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!has_alias());
    let fresh = retail.lab.workloads().iter().find(|workload| workload.interface == "blue1").cloned();
    if let Some(fresh) = fresh {
        assert!(fresh.addresses.values().all(|own| *own != alias.to_string()), "{fresh:?}");
    }
    assert_eq!(retail.green.http(vip).unwrap().nonce("n").unwrap().server(), "v1", "the others do not notice");
}
