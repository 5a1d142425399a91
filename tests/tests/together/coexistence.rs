//! Beside others on the same host: their rules, settings and programs, and what preflight says of them.

use std::{
    io::Write,
    net::{TcpListener, UdpSocket},
    process::Stdio,
    time::Duration,
};

use brattice_tests::{
    foreign::{FOREIGN_PORT, ForeignProgram, Place},
    lab::{
        AgentOptions, DNS_VIP, ENGINE_UID, Lab, NODE, Namespace, Output, Retail, Wiring, forward, output, service,
        wait_until,
    },
};
use serde_json::Value;

/// Requests, each on a connection of its own, that must be served.
pub(crate) fn serves(retail: &Retail, requests: u32) {
    let vip = retail.orders();
    for number in 0..requests {
        let served = retail.blue.http(vip).and_then(|mut connection| connection.nonce(&format!("n{number}")));
        assert_eq!(served.unwrap_or_else(|error| panic!("request {number}: {error}")).server(), "v1");
    }
}

/// Whether a connection to the service comes about.
pub(crate) fn connects(retail: &Retail) -> bool {
    retail.blue.connect_within(retail.orders(), Duration::from_secs(1)).is_ok()
}

fn preflight(lab: &Lab, more: &[&str]) -> Output {
    let mut command = lab.brattice_command(&["preflight"]);
    command.arg("--policies").arg(lab.policies()).arg("--run-dir").arg(lab.run_dir());
    command.arg("--bpffs").arg(lab.bpffs()).arg("--state-dir").arg(lab.state_dir());
    command.args(["--engine-user", &ENGINE_UID.to_string()]);
    output(command.args(more))
}

/// What preflight says as JSON, and its exit code.
pub(crate) fn report(lab: &Lab, more: &[&str]) -> (i32, Value) {
    let answer = preflight(lab, &[&["--output", "json"], more].concat());
    let value =
        serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {}", answer.text()));
    (answer.code, value)
}

/// A neighbour's verdict in a report.
pub(crate) fn verdict<'a>(report: &'a Value, name: &str) -> Option<&'a str> {
    report["neighbours"].as_array()?.iter().find(|found| found["name"] == name)?["verdict"].as_str()
}

/// Runs the commands that the report gives against what dropped the probe; returns them.
fn fix(lab: &Lab, report: &Value) -> Vec<String> {
    let culprits = report["probe"]["culprits"].as_array().expect("a probe");
    let commands: Vec<String> =
        culprits.iter().map(|culprit| culprit["fix"].as_str().expect("a command").to_owned()).collect();
    for command in &commands {
        let done = output(lab.node.command("sh").args(["-c", command]));
        assert!(done.ok(), "{command}: {}", done.text());
    }
    commands
}

/// A host behind the node that the workload reaches by forwarding; it sends back by a route.
fn beyond(retail: &Retail) -> Namespace {
    let neighbour = retail.lab.neighbour();
    retail.lab.node.sh("sysctl -qw net.ipv4.ip_forward=1");
    neighbour.ip("route add 10.0.0.10/32 via 192.168.77.1");
    neighbour
}

#[test]
fn an_input_policy_of_drop_needs_the_accept_that_preflight_prints() {
    let retail = Retail::start();
    let node = &retail.lab.node;
    serves(&retail, 3);
    assert_eq!(report(&retail.lab, &[]).0, 0);
    node.sh("nft add table inet host");
    node.sh("nft add chain inet host input { type filter hook input priority 0 ; policy drop ; }");
    node.sh("nft add rule inet host input ct state established,related accept");
    node.sh("nft add rule inet host input iif lo accept");
    assert!(!connects(&retail), "the policy eats the path");
    let (code, answer) = report(&retail.lab, &[]);
    assert_ne!(code, 0, "{answer}");
    assert_eq!(fix(&retail.lab, &answer).len(), 1, "{answer}");
    serves(&retail, 20);
    let (code, answer) = report(&retail.lab, &[]);
    assert_eq!((code, &answer["fits"]), (0, &Value::Bool(true)), "{answer}");
}

#[test]
fn an_output_policy_of_drop_likewise() {
    let retail = Retail::start();
    let node = &retail.lab.node;
    serves(&retail, 3);
    node.sh("nft add table inet host");
    node.sh("nft add chain inet host output { type filter hook output priority 0 ; policy drop ; }");
    node.sh("nft add rule inet host output oif lo accept");
    assert!(!connects(&retail), "the answers are eaten");
    let (code, answer) = report(&retail.lab, &[]);
    assert_ne!(code, 0, "{answer}");
    assert_eq!(fix(&retail.lab, &answer).len(), 1, "{answer}");
    serves(&retail, 20);
    assert_eq!(report(&retail.lab, &[]).0, 0);
}

#[test]
fn a_forward_policy_of_drop_does_not_concern_us() {
    let retail = Retail::start();
    let neighbour = beyond(&retail);
    let listener = neighbour.enter(|| TcpListener::bind("192.168.77.2:7000").unwrap());
    let reached =
        || retail.blue.connect_within("192.168.77.2:7000".parse().unwrap(), Duration::from_millis(700)).is_ok();
    assert!(reached(), "forwarding works");
    retail.lab.node.sh("nft add table inet host");
    retail.lab.node.sh("nft add chain inet host forward { type filter hook forward priority 0 ; policy drop ; }");
    assert!(!reached(), "the policy drops what is forwarded");
    serves(&retail, 20);
    assert_eq!(report(&retail.lab, &[]).0, 0);
    drop(listener);
}

#[test]
fn reverse_path_filters_and_src_valid_mark_are_no_obstacle() {
    let retail = Retail::start();
    let node = &retail.lab.node;
    for (filter, mark) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
        let interfaces = node.sh("ls /proc/sys/net/ipv4/conf");
        for interface in interfaces.split_whitespace() {
            node.sh(&format!("sysctl -qw net.ipv4.conf.{interface}.rp_filter={filter}"));
            node.sh(&format!("sysctl -qw net.ipv4.conf.{interface}.src_valid_mark={mark}"));
        }
        assert_eq!(node.sh("sysctl -n net.ipv4.conf.brattice0.rp_filter").trim(), filter.to_string());
        serves(&retail, 20);
        assert_eq!(report(&retail.lab, &[]).0, 0);
    }
}

/// The kernel's bound of tracked connections can be set for the whole machine only, so it is taken as it is; above this a
/// test would take too much of the machine's memory (some 320 bytes each).
const MOST_TRACKED: u32 = 1_200_000;

#[test]
fn a_full_connection_tracker_does_not_concern_us() {
    let retail = Retail::start();
    let node = &retail.lab.node;
    // A rule of other software that makes the kernel track here.
    node.sh("nft add table inet host");
    node.sh("nft add chain inet host input { type filter hook input priority 0 ; }");
    node.sh("nft add rule inet host input ct state invalid drop");
    let listener = node.enter(|| TcpListener::bind("10.0.0.1:7000").unwrap());
    let tracked = || retail.blue.connect_within("10.0.0.1:7000".parse().unwrap(), Duration::from_millis(700)).is_ok();
    assert!(tracked(), "with room in the table, the host is reached");
    // The kernel's collector removes closing TCP connections from a table that is 95 % full (`gc_worker_can_early_drop` in
    // nf_conntrack_core.c). Without this, the connection above would make room in the middle of the test.
    node.sh("conntrack -F");

    let most: u32 = node.sh("sysctl -n net.netfilter.nf_conntrack_max").trim().parse().unwrap();
    assert!(
        most > 0 && most <= MOST_TRACKED,
        "nf_conntrack_max = {most}: set it to at most {MOST_TRACKED} for this test"
    );
    let mut loader =
        node.command("conntrack").args(["-R", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    {
        let mut lines = std::io::BufWriter::new(loader.stdin.take().unwrap());
        // Assured entries are not evicted for new ones.
        for number in 0..most + 64 {
            let (a, b, port) = (number / 60_000, number / 60_000 + 1, number % 60_000 + 1);
            let line = format!(
                "-A -t 600 -u SEEN_REPLY,ASSURED -s 198.51.100.{a} -d 203.0.113.{b} -p udp --sport {port} --dport 9"
            );
            if writeln!(lines, "{line}").is_err() {
                break;
            }
        }
    }
    // It ends with an error at the first entry that there is no room for.
    let _ = loader.wait();
    let count: u32 = node.sh("sysctl -n net.netfilter.nf_conntrack_count").trim().parse().unwrap();
    assert!(count >= most, "the table is full: {count} of {most}");
    assert!(!tracked(), "what is tracked finds no room");
    serves(&retail, 5_000);
    assert!(!tracked(), "it was full all the time");
    drop(listener);
    node.sh("conntrack -F");
}

#[test]
fn a_bridge_with_masquerading_like_dockers() {
    let retail = Retail::start();
    let node = &retail.lab.node;
    let neighbour = beyond(&retail);
    neighbour.ip("route del 10.0.0.10/32");
    node.ip("link add docker0 type bridge");
    node.ip("addr add 172.17.0.1/16 dev docker0");
    node.ip("link set docker0 up");
    node.sh("nft add table ip nat");
    node.sh("nft add chain ip nat DOCKER");
    node.sh("nft add chain ip nat POSTROUTING { type nat hook postrouting priority srcnat ; }");
    node.sh("nft add rule ip nat POSTROUTING masquerade");
    // Its masquerading works: beyond, a workload shows as the node.
    let listener = neighbour.enter(|| TcpListener::bind("192.168.77.2:7000").unwrap());
    let _open = retail.blue.connect("192.168.77.2:7000".parse().unwrap()).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "192.168.77.1");
    // And never sees service traffic.
    let before = retail.v1.counters.requests();
    serves(&retail, 20);
    assert_eq!(retail.v1.counters.requests() - before, 20);
    assert!(!node.sh("conntrack -L").contains("169.254."), "service traffic is not tracked");
    // A container is a port of the bridge.
    let container = retail.lab.workload("blue7", "10.0.0.70", Wiring::Bridged("docker0"));
    retail.lab.alias("blue7", container.address);
    assert_eq!(container.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
    let (code, answer) = report(&retail.lab, &[]);
    assert_eq!((code, verdict(&answer, "Docker")), (0, Some("works")), "{answer}");
}

#[test]
fn kube_proxys_chains_translate_what_is_theirs_and_nothing_of_ours() {
    let retail = Retail::start();
    let node = &retail.lab.node;
    let listener = node.enter(|| TcpListener::bind("10.0.0.1:7001").unwrap());
    for rule in [
        "-N KUBE-SERVICES",
        "-N KUBE-SVC-A",
        "-N KUBE-POSTROUTING",
        "-A PREROUTING -j KUBE-SERVICES",
        "-A OUTPUT -j KUBE-SERVICES",
        "-A POSTROUTING -j KUBE-POSTROUTING",
        "-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp --dport 443 -j KUBE-SVC-A",
        "-A KUBE-SVC-A -p tcp -j DNAT --to-destination 10.0.0.1:7001",
        "-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE",
    ] {
        node.sh(&format!("iptables-nft -t nat {rule}"));
    }
    for rule in [
        "-N KUBE-FIREWALL",
        "-A INPUT -j KUBE-FIREWALL",
        "-A OUTPUT -j KUBE-FIREWALL",
        "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
    ] {
        node.sh(&format!("iptables-nft {rule}"));
    }
    assert!(retail.blue.connect("10.96.0.1:443".parse().unwrap()).is_ok(), "the ClusterIP is translated");
    serves(&retail, 20);
    let (code, answer) = report(&retail.lab, &[]);
    assert_eq!((code, verdict(&answer, "kube-proxy (iptables)")), (0, Some("works")), "{answer}");
    drop(listener);
}

/// Both ports of the node as the blue workload reaches them: that of the foreign program's, and another.
struct Ports {
    receivers: [UdpSocket; 2],
    sender: UdpSocket,
}

impl Ports {
    fn open(retail: &Retail) -> Self {
        let receivers = retail.lab.node.enter(|| {
            [FOREIGN_PORT, FOREIGN_PORT + 1].map(|port| {
                let socket = UdpSocket::bind(("10.0.0.1", port)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                socket
            })
        });
        Self { receivers, sender: retail.blue.namespace.enter(|| UdpSocket::bind("10.0.0.10:0").unwrap()) }
    }

    fn arrive(&self) -> [bool; 2] {
        [0_u16, 1].map(|index| {
            self.sender.send_to(b"hello", ("10.0.0.1", FOREIGN_PORT + index)).unwrap();
            self.receivers[usize::from(index)].recv_from(&mut [0; 100]).is_ok()
        })
    }
}

#[test]
fn foreign_programs_before_and_after_ours_keep_their_verdicts() {
    let retail = Retail::start();
    let ports = Ports::open(&retail);
    for place in [Place::First, Place::Last] {
        assert_eq!(ports.arrive(), [true, true]);
        let foreign = ForeignProgram::named(&retail.lab.node, "blue1", "monitor", place);
        assert_eq!(ports.arrive(), [false, true], "{place:?}");
        serves(&retail, 20);
        let (code, answer) = report(&retail.lab, &[]);
        assert_eq!((code, verdict(&answer, "other eBPF programs")), (0, Some("works-but")), "{answer}");
        assert!(answer["neighbours"].to_string().contains("monitor on blue1"), "{answer}");
        drop(foreign);
    }
}

#[test]
fn an_interface_of_another_cni_is_left_to_it_unless_a_document_allows_otherwise() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let ports = Ports::open(&retail);
    let _cilium = ForeignProgram::named(&retail.lab.node, "blue1", "cil_from_contai", Place::Last);
    assert_eq!(ports.arrive(), [false, true]);
    retail.lab.start_agent();
    let shown = retail.lab.workloads().into_iter().find(|workload| workload.interface == "blue1").expect("shown");
    assert_eq!(shown.state, "refused");
    let reason = shown.reason.expect("a reason");
    assert!(reason.starts_with("CarriesCni: ") && reason.contains("Cilium"), "{reason}");
    assert!(!connects(&retail), "it is not attached");
    let table = retail.lab.brattice(&["workloads"]);
    assert!(table.stdout.contains("CarriesCni"), "{}", table.text());
    let (_, answer) = report(&retail.lab, &[]);
    assert_eq!(verdict(&answer, "Cilium"), Some("refused"), "{answer}");
    let interfaces = answer["interfaces"].as_array().unwrap();
    let blue = interfaces.iter().find(|found| found["interface"] == "blue1").unwrap();
    assert_eq!((&blue["state"], &blue["refused"][0]["code"]), (&"refuse".into(), &"CarriesCni".into()), "{answer}");
    let explained = retail.lab.brattice(&["explain", "--from", "blue1", "--to", "orders.shop.internal"]);
    assert_eq!(explained.code, 1, "{}", explained.text());
    assert!(
        explained.stdout.contains("CarriesCni") && explained.stdout.contains("allowBesideCni"),
        "{}",
        explained.text()
    );
    // The others are served meanwhile.
    assert_eq!(retail.green.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");

    // Allowed by the attachment.
    let allowed = NODE.replace("{interface: \"blue*\"}", "{interface: \"blue*\", allowBesideCni: true}");
    assert_ne!(allowed, NODE);
    retail.lab.apply("node.yaml", &allowed);
    retail.lab.alias("blue1", retail.blue.address);
    serves(&retail, 20);
    assert_eq!(ports.arrive(), [false, true], "its program goes on");
    // And no longer, when the document says so no longer.
    retail.lab.apply("node.yaml", NODE);
    wait_until("it is left again", Duration::from_secs(5), || !connects(&retail));
    // Allowed by a document of its own.
    let document = "---\nkind: Workload\nmetadata: {name: till}\nspec: {vpcIdentifier: platform/blue, interface: blue1, allowBesideCni: true}\n";
    retail.lab.apply("node.yaml", &format!("{NODE}{document}"));
    retail.lab.alias("blue1", retail.blue.address);
    serves(&retail, 20);
}

/// The alias range that `brattice status` shows.
fn alias_range(lab: &Lab) -> String {
    let state = std::fs::read_to_string(lab.state_dir().join("state.json")).expect("a state");
    let state: Value = serde_json::from_str(&state).expect("JSON");
    state["aliasRange"].as_str().or_else(|| state["alias_range"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn beside_tailscale_aliases_are_chosen_from_another_range_and_kept() {
    let choosing = AgentOptions { alias_range: None, ..AgentOptions::default() };
    let mut plain = Retail::prepare(&service(&forward(1, 0)));
    plain.lab.start_agent_with(&choosing);
    plain.lab.alias("blue1", plain.blue.address);
    assert_eq!(alias_range(&plain.lab), "100.127.0.0/16", "the first, where nobody has it");
    drop(plain);

    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    {
        let node = &retail.lab.node;
        node.ip("link add tailscale0 type veth peer name ts1");
        node.ip("addr add 100.101.102.103/32 dev tailscale0");
        node.ip("link set tailscale0 up");
        node.ip("link set ts1 up");
        node.ip("route add 100.64.0.0/10 dev tailscale0 table 52");
        node.ip("rule add pref 5210 fwmark 0x80000/0xff0000 lookup main");
        node.ip("rule add pref 5270 lookup 52");
    }
    // Before the first start: the range that will be chosen, and that the usual one collides.
    let (code, answer) = report(&retail.lab, &[]);
    assert_eq!((code, &answer["ranges"]["alias"]), (0, &"198.18.0.0/16".into()), "{answer}");
    assert_eq!(verdict(&answer, "Tailscale"), Some("works"), "{answer}");
    let (code, answer) = report(&retail.lab, &["--no-probe", "--alias-range", "100.127.0.0/16"]);
    assert_eq!(code, 1, "{answer}");
    let overlap = &answer["ranges"]["overlaps"][0];
    assert_eq!((&overlap["net"], &overlap["serious"]), (&"100.64.0.0/10".into(), &true.into()), "{answer}");
    assert!(overlap["with"].as_str().unwrap().contains("table 52"), "{answer}");

    retail.lab.start_agent_with(&choosing);
    retail.lab.alias("blue1", retail.blue.address);
    assert_eq!(alias_range(&retail.lab), "198.18.0.0/16");
    serves(&retail, 20);
    // Kept, also when the usual one is free.
    retail.lab.node.ip("rule del pref 5270");
    retail.lab.node.ip("link delete tailscale0");
    assert_eq!(retail.lab.agent().stop(), 0);
    retail.lab.start_agent_with(&choosing);
    retail.lab.alias("blue1", retail.blue.address);
    assert_eq!(alias_range(&retail.lab), "198.18.0.0/16");
    serves(&retail, 3);
    assert_eq!(report(&retail.lab, &[]).1["ranges"]["alias"], "198.18.0.0/16");
}

#[test]
fn dns_is_answered_behind_foreign_port_53_rules() {
    let retail = Retail::start();
    let node = &retail.lab.node;
    node.sh("nft add table ip resolver");
    node.sh("nft add chain ip resolver prerouting { type nat hook prerouting priority dstnat ; }");
    node.sh("nft add rule ip resolver prerouting udp dport 53 redirect to :5353");
    let other = node.enter(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
    other.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    retail.blue.namespace.enter(|| UdpSocket::bind("10.0.0.10:0").unwrap()).send_to(b"x", "10.0.0.1:53").unwrap();
    assert!(other.recv_from(&mut [0; 16]).is_ok(), "their rule redirects what is theirs");
    let (status, answers) = retail.blue.dig(&["orders.shop.internal"]);
    assert_eq!((status.as_str(), answers.len()), ("NOERROR", 1), "{DNS_VIP} answers: {answers:?}");
}

#[test]
fn a_vpn_that_takes_every_route_takes_nothing_of_ours() {
    let retail = Retail::start();
    let (lab, node) = (&retail.lab, &retail.lab.node);
    let problems = || lab.status().problems;
    let before = problems();
    // As Tailscale leaves a host that uses an exit node.
    node.ip("link add tailscale0 type veth peer name ts1");
    node.ip("addr add 100.101.102.103/32 dev tailscale0");
    node.ip("link set tailscale0 up");
    node.ip("link set ts1 up");
    node.ip("route add default dev tailscale0 table 52");
    node.ip("-6 route add default dev tailscale0 table 52");
    node.ip("rule add pref 5270 lookup 52");
    node.ip("-6 rule add pref 5270 lookup 52");
    assert!(node.ip("route get 203.0.113.9").contains("dev tailscale0"), "control: it takes everything else");
    serves(&retail, 20);
    let (code, answer) = report(lab, &[]);
    assert_eq!((code, verdict(&answer, "Tailscale")), (0, Some("works")), "{answer}");
    // Other software moves the table `local` behind it.
    node.ip("rule add pref 32765 lookup local");
    node.ip("rule del pref 0");
    wait_until("our rules lead there", Duration::from_secs(5), || node.ip("rule").contains("from all to "));
    serves(&retail, 20);
    assert_eq!(problems(), before);
    node.ip("rule add pref 0 lookup local");
    node.ip("rule del pref 32765");
    wait_until("our rules go", Duration::from_secs(5), || !node.ip("rule").contains("from all to "));
    serves(&retail, 3);
    // What comes before ours all the same is named, with its device, table and what to do.
    let alias = lab.alias("green1", retail.green.address);
    node.ip(&format!("route add {alias}/32 dev tailscale0 table local"));
    assert!(
        !retail.blue.http(retail.orders()).and_then(|mut c| c.nonce("n")).is_ok_and(|a| a.server() == "v1"),
        "control"
    );
    let message = lab.brattice(&["status"]);
    assert_eq!(message.code, 1, "{}", message.text());
    let named = |problem: &String| {
        ["goes out by tailscale0", "table local", &alias.to_string()].iter().all(|word| problem.contains(word))
    };
    assert!(problems().iter().any(named), "{:?}", problems());
    node.ip(&format!("route del {alias}/32 dev tailscale0 table local"));
    serves(&retail, 3);
    assert_eq!(problems(), before);
}

/// A range that ends within a byte is as good as any: the table is written once.
#[test]
fn a_range_of_any_length_is_written_once() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let options = AgentOptions { alias_range: Some("198.18.0.0/15"), ..AgentOptions::default() };
    retail.lab.start_agent_with(&options);
    retail.lab.alias("blue1", retail.blue.address);
    serves(&retail, 3);
    let handle = || {
        let table = retail.lab.node.sh("nft -a list table inet brattice");
        table.lines().next().expect("its name").to_owned()
    };
    let first = handle();
    // Each change of the host's network makes the agent look.
    for number in 0..5 {
        retail.lab.node.ip(&format!("link add other{number} type veth peer name another{number}"));
        retail.lab.node.ip(&format!("link delete other{number}"));
    }
    retail.lab.node.sh("nft flush ruleset");
    wait_until("it is written", Duration::from_secs(5), || retail.lab.status().repairs.get("nft") == Some(&1));
    assert_ne!(handle(), first, "control: a table that is written anew has another handle");
    let written = handle();
    retail.lab.node.ip("link add other9 type veth peer name another9");
    retail.lab.node.ip("link delete other9");
    serves(&retail, 20);
    assert_eq!((handle(), retail.lab.status().repairs.get("nft")), (written, Some(&1)));
}
