//! Silent failures are reported: a line of `brattice status` with cause and remedy, its exit code, a metric.

use std::{fs, path::Path};

use brattice_tests::{
    lab::{AgentOptions, Lab, Namespace, Retail, SETTLE, Wiring, forward, service, sh, wait_until},
    server::Server,
};

/// Waits for a problem that says all of this; then the exit code is 1 and the metric counts it.
#[track_caller]
fn reported(lab: &Lab, kind: &str, words: &[&str]) {
    let mut problems = Vec::new();
    wait_until(&format!("{words:?} is reported; status reports {:?}", lab.status().problems), SETTLE, || {
        problems = lab.status().problems;
        problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)))
    });
    assert_eq!(lab.brattice(&["status"]).code, 1, "degraded");
    wait_until(&format!("the metrics count a problem of {kind}"), SETTLE, || {
        let metrics = lab.metrics();
        metrics.sum("brattice_problems", &[("kind", kind)]) >= 1.0 && metrics.sum("brattice_health", &[]) == 1.0
    });
}

/// Waits until all is well.
#[track_caller]
fn well(lab: &Lab) {
    wait_until("all is well", SETTLE, || lab.status().problems.is_empty());
    assert_eq!(lab.brattice(&["status"]).code, 0);
    wait_until("the metrics say so", SETTLE, || lab.metrics().sum("brattice_health", &[]) == 0.0);
}

fn recording() -> Retail {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    retail.lab.start_agent_with(&AgentOptions::recording());
    well(&retail.lab);
    retail
}

fn reachable(lab: &Lab) -> (u32, u32) {
    let group =
        lab.service("shop/orders").target_groups.into_iter().find(|group| group.name == "shop/orders-v1").unwrap();
    (group.reachable, group.configured)
}

#[test]
fn a_target_that_refuses_or_whose_link_is_down_is_no_reachable_one() {
    let retail = recording();
    assert_eq!(reachable(&retail.lab), (1, 1));
    let Retail { v1, v2, blue, green, green2, red, lab } = retail;
    drop(v1);
    let vip = lab.vip("shop/orders", 80);
    for _ in 0..3 {
        let answer = blue.fetch(&["http://orders.shop.internal/"]).0;
        assert!((502..=504).contains(&answer), "{answer}");
    }
    reported(
        &lab,
        "targets",
        &["target 10.0.0.10 port 8080 of shop/orders-v1", "refuses connections", "server running"],
    );
    let logged = |what: &str| lab.log().lines().filter(|line| line.contains(what)).count();
    let named = "target 10.0.0.10 port 8080 of shop/orders-v1 in platform/green";
    wait_until("it is logged", SETTLE, || logged(&format!("{named} cannot be reached: it refuses connections")) == 1);
    assert_eq!(logged("can be reached again"), 0);
    assert_eq!(reachable(&lab), (0, 1), "attached is not reachable");
    assert!(lab.metrics().sum("brattice_targets_failing", &[]) >= 1.0);
    // It is back, and called.
    let v1 = Server::start(&green.namespace, "v1", 8080);
    wait_until("it serves again", SETTLE, || {
        blue.http(vip).is_ok_and(|mut http| http.nonce("n").is_ok_and(|a| a.server() == "v1"))
    });
    well(&lab);
    wait_until("that is logged, too", SETTLE, || logged(&format!("{named} can be reached again")) == 1);
    assert_eq!(logged("cannot be reached"), 1, "once for each change");
    assert_eq!(reachable(&lab), (1, 1));
    // The link.
    green.namespace.ip("link set eth0 down");
    reported(&lab, "interfaces", &["green1", "is down", "ip link set"]);
    assert_eq!(reachable(&lab), (0, 1));
    green.namespace.ip("link set eth0 up");
    wait_until("the link is up", SETTLE, || reachable(&lab) == (1, 1));
    drop((v1, v2, green2, red));
}

#[test]
fn a_share_of_the_requests_without_a_target_is_told() {
    let canary = service(&forward(9, 1)).replace("[{id: 10.0.0.11}]", "[{id: 10.0.0.99}]");
    let mut retail = Retail::prepare(&canary);
    retail.lab.start_agent_with(&AgentOptions::recording());
    reported(
        &retail.lab,
        "targets",
        &["shop/orders-v2 has no target", "10 % of the requests", "10.0.0.99", "orders.yaml:"],
    );
    let route = retail.lab.brattice(&["route", "--from", "platform/blue", "--to", "shop/orders"]);
    assert_eq!(route.code, 0, "most are served: {route:?}");
    retail.lab.write("accounts/shop/orders.yaml", &service(&forward(9, 1)));
    well(&retail.lab);
}

#[test]
fn an_interface_that_is_renamed_away_is_told() {
    let retail = recording();
    retail.lab.node.ip("link set red1 down");
    retail.lab.node.ip("link set red1 name other1");
    retail.lab.node.ip("link set other1 up");
    reported(&retail.lab, "interfaces", &["red1 was renamed to other1", "ip link set other1 name red1"]);
    assert!(retail.lab.log().contains("red1 was renamed to other1"), "and logged");
    let explain = |from: &str| retail.lab.brattice(&["explain", "--from", from, "--to", "shop/orders", "-o", "json"]);
    for from in ["red1", "platform/red/red1", "other1"] {
        let gone = explain(from);
        assert_eq!(gone.code, 1, "{from}: {}", gone.text());
        for word in ["caller-gone", "red1 was renamed to other1", "ip link set other1 name red1"] {
            assert!(gone.stdout.contains(word), "{from}: {}", gone.text());
        }
    }
    // Control: a workload that is there, and what never was one.
    let there = explain("blue1");
    assert!(there.ok(), "{}", there.text());
    let never = explain("other2");
    assert!(never.code == 2 && never.stderr.contains("there is no workload"), "{}", never.text());
    retail.lab.node.ip("link add spare1 type veth peer name spare2");
    wait_until("it says that nothing selects it", SETTLE, || {
        explain("spare1").stderr.contains("no document selects the interface")
    });
    retail.lab.node.ip("link set other1 down");
    retail.lab.node.ip("link set other1 name red1");
    retail.lab.node.ip("link set red1 up");
    well(&retail.lab);
    wait_until("it is there again", SETTLE, || !explain("red1").stdout.contains("caller-gone"));
}

#[test]
fn what_is_removed_again_and_again_is_told() {
    let retail = recording();
    let mut turns = 0;
    wait_until("it is reported", SETTLE * 2, || {
        let _ = retail.lab.node.run(&["nft", "delete", "table", "inet", "brattice"]);
        turns += 1;
        std::thread::sleep(std::time::Duration::from_millis(150));
        retail.lab.status().problems.iter().any(|problem| problem.contains("within the last minute"))
    });
    assert!(turns >= 5, "one or two are an accident: {turns}");
    reported(&retail.lab, "repairs", &["within the last minute", "Another program", "nft monitor"]);
}

#[test]
fn lines_of_the_log_that_are_lost_are_told() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let folder = retail.lab.folder.join("logs");
    fs::create_dir(&folder).unwrap();
    sh(&format!("mount -t tmpfs -o size=256k tmpfs {}", folder.display()));
    let _mounted = Mounted(&folder);
    let more = vec!["--access-log".to_owned(), folder.join("access.log").display().to_string()];
    retail.lab.start_agent_with(&AgentOptions { metrics: true, more, ..AgentOptions::default() });
    well(&retail.lab);
    let vip = retail.orders();
    wait_until("the disk is full", SETTLE * 2, || {
        let mut http = retail.blue.http(vip).unwrap();
        for _ in 0..50 {
            http.nonce("n").unwrap();
        }
        retail.lab.status().engine.stats.is_some_and(|stats| stats.log_lines[1] > 0)
    });
    reported(&retail.lab, "access-log", &["lines of the access log were lost", "access.log is full", "free space"]);
    let json = retail.lab.brattice(&["status", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(json["engine"]["stats"]["log_lines"]["dropped"].as_u64().is_some_and(|lost| lost > 0), "by name");
    drop(retail);
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn documents_switches_and_versions_have_metrics() {
    let retail = recording();
    let lab = &retail.lab;
    let version = lab.status().version;
    let is = |name: &str, labels: &[(&str, &str)], value: f64| {
        wait_until(&format!("{name} {labels:?} is {value}"), SETTLE, || lab.metrics().sum(name, labels) == value);
    };
    for component in ["agent", "engine"] {
        is("brattice_build_info", &[("component", component), ("version", &version)], 1.0);
    }
    is("brattice_owners", &[("state", "in-force")], 3.0);
    is("brattice_owners", &[("state", "invalid")], 0.0);
    lab.write("accounts/shop/orders.yaml", "kind: Nonsense\n");
    is("brattice_owners", &[("state", "invalid")], 1.0);
    is("brattice_documents_not_in_force", &[("owner", "shop"), ("state", "invalid")], 1.0);
    reported(lab, "documents", &["documents of shop are invalid"]);
    lab.write("accounts/shop/orders.yaml", &service(&forward(1, 0)));
    is("brattice_documents_not_in_force", &[], 0.0);
    is("brattice_switches", &[("mode", "bypass")], 0.0);
    assert!(lab.brattice(&["bypass", "--service", "orders", "--for", "1h"]).ok());
    is("brattice_switches", &[("mode", "bypass")], 1.0);
    reported(lab, "switches", &["bypass", "is switched on"]);
    assert!(lab.brattice(&["bypass", "--service", "orders", "--off"]).ok());
    well(lab);
}

#[test]
fn an_address_rests_for_its_owner_when_its_interface_is_away_for_a_moment() {
    let retail = recording();
    let lab = &retail.lab;
    let address = retail.green2.address;
    lab.alias("green2", address);
    let rival = lab.workload("green3", "10.0.0.11", Wiring::Bridged("brgreen"));
    let holders = || -> Vec<String> {
        let held = |workload: &brattice_wire::api::WorkloadView| workload.addresses.contains_key(&address.to_string());
        let attached = lab.workloads().into_iter().filter(|workload| workload.state == "attached" && held(workload));
        attached.map(|workload| workload.interface).collect()
    };
    wait_until("the rival is refused", SETTLE, || {
        lab.workloads().iter().any(|workload| workload.interface == "green3" && workload.state == "refused")
    });
    assert_eq!(holders(), ["green2"]);
    // Its interface is away; the rival claims the address now.
    let spare = Namespace::create(&format!("{}-spare", lab.id));
    lab.node.ip(&format!("link set green2 netns {}", spare.name));
    reported(lab, "workloads", &["rests for green2", "green3 claims it"]);
    assert!(holders().is_empty(), "{:?}", holders());
    spare.ip(&format!("link set green2 netns {}", lab.node.name));
    lab.node.ip("link set green2 master brgreen up");
    wait_until("the owner has its address again", SETTLE, || holders() == ["green2"]);
    wait_until("the rival is still refused", SETTLE, || {
        lab.workloads().iter().any(|workload| workload.interface == "green3" && workload.state == "refused")
    });
    drop(rival);
}
