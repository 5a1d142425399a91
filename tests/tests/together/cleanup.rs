//! `brattice cleanup` removes all that is ours and nothing else; parts that others remove are put back.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use brattice_tests::{
    foreign::ForeignProgram,
    lab::{AgentOptions, ENGINE_UID, Lab, Retail, SETTLE, forward, output, service, wait_until},
};

/// Everything a host shows of addresses, routes, rules, links, firewall, sysctls and pins, without counters.
fn host(lab: &Lab) -> BTreeSet<String> {
    // An address that becomes usable between two looks brings a route of the kernel's.
    wait_until("no address is tentative", Duration::from_secs(10), || {
        lab.node.run(&["ip", "-6", "-o", "addr", "show", "tentative"]).stdout.trim().is_empty()
    });
    let mut all = BTreeSet::new();
    let mut add = |kind: &str, text: &str| {
        all.extend(
            text.lines().map(|line| format!("{kind}: {}", line.trim())).filter(|line| !line.contains(" expires ")),
        );
    };
    for (kind, line) in [
        ("address", "ip -o addr show"),
        ("link", "ip -o link show"),
        ("route", "ip route show table all"),
        ("route6", "ip -6 route show table all"),
        ("rule", "ip rule show"),
        ("rule6", "ip -6 rule show"),
        ("qdisc", "tc qdisc show"),
        ("nft", "nft list ruleset"),
        ("sysctl", "sysctl -a --pattern ^net"),
        ("attached", "bpftool net show"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        add(kind, &lab.node.run(&words).stdout);
    }
    // Time stamps and the random secrets of IPv6 differ between two looks at the same host.
    all.retain(|line| {
        !line.contains("stable_secret") && !line.contains("valid_lft") && !line.contains("nf_conntrack_count")
    });
    if let Ok(pins) = fs::read_dir(lab.bpffs()) {
        for pin in pins.flatten() {
            all.insert(format!("pin: {}", pin.path().display()));
        }
    }
    all
}

fn foreign_things(lab: &Lab) -> ForeignProgram {
    let node = &lab.node;
    node.ip("link add foreign0 type veth peer name foreign1");
    node.ip("addr add 172.20.0.1/24 dev foreign0");
    node.ip("link set foreign0 up");
    node.ip("route add 172.21.0.0/16 dev foreign0 proto 99");
    node.ip("route add local 169.254.200.0/24 dev lo");
    node.ip("rule add from 172.20.0.0/24 table 100");
    node.ip("route add default dev foreign0 table 100");
    node.sh("nft add table inet foreign");
    node.sh("nft add chain inet foreign input { type filter hook input priority 0 ; }");
    node.sh("nft add rule inet foreign input tcp dport 9 drop");
    node.sh("sysctl -qw net.ipv4.conf.all.rp_filter=1");
    ForeignProgram::attach(node, "blue1")
}

#[test]
fn cleanup_leaves_what_is_not_ours_and_nothing_that_is() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let _foreign = foreign_things(&retail.lab);
    std::thread::sleep(Duration::from_secs(2)); // IPv6 duplicate address detection ends
    let before = host(&retail.lab);
    retail.lab.start_agent();
    assert_eq!(retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
    let during = host(&retail.lab);
    assert!(during.difference(&before).count() > 10, "this comparison would see us");
    let status = retail.lab.status();
    assert!(!status.footprint.is_empty());
    let engine = status.engine.pid.unwrap();
    let ids: Vec<u32> = status.programs.iter().map(|program| program.program_id).collect();
    retail.lab.agent().stop();
    let cleaned = retail.lab.cleanup();
    assert!(cleaned.ok(), "{}", cleaned.text());
    let after = host(&retail.lab);
    let difference: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(difference.is_empty(), "{difference:#?}");
    wait_until("the engine is gone", Duration::from_secs(5), || !Path::new(&format!("/proc/{engine}/exe")).exists());
    for id in ids {
        wait_until(&format!("program {id} is unloaded"), Duration::from_secs(5), || {
            !retail.lab.node.run(&["bpftool", "prog", "show", "id", &id.to_string()]).ok()
        });
    }
    assert!(!retail.lab.bpffs().join("v1").exists());
    // Twice is no error, and a new agent starts from nothing.
    assert!(retail.lab.cleanup().ok());
    retail.lab.start_agent();
    assert_eq!(retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn cleanup_works_after_a_kill_and_without_any_state() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    std::thread::sleep(Duration::from_secs(2));
    let before = host(&retail.lab);
    retail.lab.start_agent();
    let engine = retail.lab.engine_pid();
    retail.lab.agent().kill();
    fs::remove_dir_all(retail.lab.state_dir()).unwrap();
    let cleaned = retail.lab.cleanup();
    assert!(cleaned.ok(), "{}", cleaned.text());
    let after = host(&retail.lab);
    let difference: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(difference.is_empty(), "{difference:#?}");
    wait_until("the engine is gone", Duration::from_secs(5), || !Path::new(&format!("/proc/{engine}/exe")).exists());
}

/// What all instances name alike.
fn shared(lab: &Lab) -> String {
    [
        "ip route show table all proto 187",
        "ip -6 route show table all proto 187",
        "ip -o link show group 187",
        "nft list tables",
    ]
    .map(|line| lab.node.run(&line.split(' ').collect::<Vec<_>>()).stdout)
    .concat()
}

/// Commands with directories that are not the agent's leave it alone and name its own; its configuration file leads to it.
#[test]
fn commands_with_other_directories_leave_a_serving_node_alone() {
    let mut retail = Retail::start();
    let orders = retail.orders();
    let works = |retail: &Retail| retail.blue.http(orders).unwrap().nonce("n").unwrap().server().starts_with('v');
    let folder = retail.lab.folder.join("others");
    let pins = PathBuf::from(format!("{}-others", retail.lab.bpffs().display()));
    let refused = |retail: &Retail, verb: &str| {
        let before = shared(&retail.lab);
        assert!(before.contains("brattice0"), "{before}");
        let mut command = retail.lab.brattice_command(&[verb, "--run-dir"]);
        command.arg(folder.join("run")).arg("--state-dir").arg(folder.join("state")).arg("--bpffs").arg(&pins);
        let message = output(&mut command);
        let named = format!("--bpffs {}", retail.lab.bpffs().display());
        assert!(message.code == 1 && message.stderr.contains(&named), "{verb}: {}", message.text());
        assert!(!pins.exists() && works(retail), "{verb}");
        assert_eq!(shared(&retail.lab), before, "{verb}");
    };
    refused(&retail, "preflight");
    refused(&retail, "cleanup");

    let lab = &retail.lab;
    let config = lab.folder.join("agent.yaml");
    let (run, state, bpffs) = (lab.run_dir(), lab.state_dir(), lab.bpffs());
    let text = format!("run-dir: {}\nstate-dir: {}\nbpffs: {}\n", run.display(), state.display(), bpffs.display());
    fs::write(&config, text).unwrap();
    let status = output(lab.brattice_command(&["status", "--config"]).arg(&config));
    assert!(status.code < 2, "{}", status.text());
    retail.lab.agent().kill();
    // The engine serves on.
    refused(&retail, "preflight");
    refused(&retail, "cleanup");
    let cleaned = output(retail.lab.brattice_command(&["cleanup", "--config"]).arg(&config));
    assert!(cleaned.ok() && cleaned.stdout.contains("device brattice0"), "{}", cleaned.text());
    assert_eq!(retail.lab.node.run(&["ip", "-o", "link", "show", "group", "187"]).stdout, "");
}

/// Pins, sockets and state are files that all network namespaces of a host see: those of another one's node are left alone, also
/// while its agent is dead and only kernel and engine serve.
#[test]
fn commands_in_another_network_namespace_leave_a_serving_node_alone() {
    let mut retail = Retail::start();
    let orders = retail.orders();
    let engine = retail.lab.engine_pid();
    retail.lab.agent().kill();
    let before = shared(&retail.lab);
    let elsewhere = retail.lab.neighbour();
    let other = |name: &str| retail.lab.folder.join("others").join(name);
    let pins = PathBuf::from(format!("{}-others", retail.lab.bpffs().display()));
    let directories = |bpffs: &Path, run: &Path, state: &Path| -> Vec<String> {
        [("--bpffs", bpffs), ("--run-dir", run), ("--state-dir", state)]
            .iter()
            .flat_map(|(flag, path)| [(*flag).to_owned(), path.display().to_string()])
            .collect()
    };
    let node = &retail.lab.node.name;
    let (by_pins, by_engine) =
        (format!("nsenter --net=/run/netns/{node} "), format!("nsenter --net=/proc/{engine}/ns/net "));
    let lab = &retail.lab;
    let user = ["--engine-user".to_owned(), ENGINE_UID.to_string()];
    // The words of a command in a namespace: its entrance, the program, the verb.
    let plain = lab.brattice_command(&[]);
    let program = plain.get_args().nth(1).and_then(OsStr::to_str).unwrap();
    for (what, directories, named) in [
        ("cleanup", directories(&lab.bpffs(), &other("run"), &other("state")), &by_pins),
        ("preflight", directories(&lab.bpffs(), &other("run"), &other("state")), &by_pins),
        ("cleanup", directories(&pins, &lab.run_dir(), &other("state")), &by_engine),
        ("agent", [&user[..], &directories(&pins, &lab.run_dir(), &other("state"))].concat(), &by_engine),
    ] {
        let message = output(elsewhere.command(program).arg(what).args(&directories));
        assert!(
            message.code == 1 && message.stderr.contains(named.as_str()),
            "{what} {directories:?}: {}",
            message.text()
        );
        assert!(!pins.exists(), "{what}");
        assert_eq!(shared(&retail.lab), before, "{what}");
        let answer = retail.blue.http(orders).unwrap().nonce("n").unwrap();
        assert!(answer.server().starts_with('v'), "{what}");
    }
    assert!(Path::new(&format!("/proc/{engine}/exe")).exists());
    // Control: in its own namespace it is taken up, and removed.
    retail.lab.start_agent();
    assert_eq!(retail.lab.engine_pid(), engine);
    retail.lab.agent().stop();
    let cleaned = retail.lab.cleanup();
    assert!(cleaned.ok() && cleaned.stdout.contains("device brattice0"), "{}", cleaned.text());
}

#[test]
fn what_others_remove_of_ours_is_put_back_and_counted() {
    let retail = Retail::start();
    let vip = retail.orders();
    let works = || retail.blue.connect_within(vip, Duration::from_secs(1)).is_ok();
    assert!(works());
    let acts: &[(&str, &[&str])] = &[
        ("the local VIP route is deleted", &["ip", "route", "del", "local", "169.254.64.0/20", "dev", "lo"]),
        ("the alias route is deleted", &["ip", "route", "del", "100.127.0.0/16", "table", "local"]),
        ("brattice0 goes down", &["ip", "link", "set", "brattice0", "down"]),
        ("its peer goes down", &["ip", "link", "set", "brattice1", "down"]),
        ("brattice0 is deleted", &["ip", "link", "del", "brattice0"]),
        ("our table is deleted", &["nft", "delete", "table", "inet", "brattice"]),
        ("IPv6 is toggled", &["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]),
    ];
    for (what, act) in acts {
        let before: u64 = retail.lab.status().repairs.values().sum();
        let done = retail.lab.node.run(act);
        assert!(done.ok(), "{what}: {}", done.text());
        wait_until(&format!("{what}: services work again"), Duration::from_secs(5), || {
            works()
                && retail
                    .lab
                    .node
                    .run(&["ip", "route", "show", "table", "local", "169.254.64.0/20"])
                    .stdout
                    .contains("169.254.64.0/20")
        });
        wait_until(&format!("{what}: put back"), Duration::from_secs(5), || {
            retail.lab.node.ip("route show table local").contains("100.127.0.0/16")
                && retail.lab.node.run(&["nft", "list", "table", "inet", "brattice"]).ok()
        });
        if *what != "IPv6 is toggled" {
            wait_until(&format!("{what}: counted"), SETTLE, || {
                retail.lab.status().repairs.values().sum::<u64>() > before
            });
        }
    }
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn an_unknown_schema_is_refused_untouched() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let other = retail.lab.bpffs().join("v999");
    fs::create_dir_all(other.join("maps")).unwrap();
    let refused =
        retail.lab.try_start_agent(&AgentOptions { within: Duration::from_secs(10), ..AgentOptions::default() });
    assert!(refused.is_err());
    assert!(retail.lab.log().contains("v999") || retail.lab.log().contains("schema"), "{}", retail.lab.log());
    assert!(other.join("maps").exists());
    fs::remove_dir(other.join("maps")).unwrap();
    fs::remove_dir(&other).unwrap();
    retail.lab.start_agent();
    assert_eq!(retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
}
