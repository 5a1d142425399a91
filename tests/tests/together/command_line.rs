//! Commands of operators, their permissions, and the switches.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use brattice_tests::lab::{
    ALIAS_RANGE, ENGINE_UID, Lab, NETWORK, NODE, Output, READERS_GID, Retail, SETTLE, forward, output, service,
    wait_until,
};
use serde_json::Value;

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {}", output.text()))
}

/// `brattice status` as another user.
fn status_as(lab: &Lab, uid: u32, gid: u32, verb: &[&str]) -> Output {
    output(lab.as_user(uid, gid, &lab.brattice_command(verb)).arg("--run-dir").arg(lab.run_dir()))
}

#[test]
fn views_are_tables_for_people_and_json_for_programs() {
    let retail = Retail::start();
    let lab = &retail.lab;
    let text = lab.brattice(&["status"]);
    assert_eq!(text.code, 0, "{}", text.text());
    assert!(!text.stdout.contains('\u{1b}'), "no colours where there is no terminal");
    let status = json(&lab.brattice(&["status", "--output", "json"]));
    assert_eq!(status["health"], "ok");
    for program in ["workload_ingress", "workload_egress", "vip_listener"] {
        assert!(
            status["programs"].as_array().unwrap().iter().any(|attached| attached["program"] == program),
            "{program}"
        );
        assert!(text.stdout.contains(program), "{program} in {}", text.stdout);
    }
    let verified = |program: &str| {
        let all = status["programs"].as_array().unwrap();
        all.iter().find(|attached| attached["program"] == program).and_then(|own| own["instructions"].as_u64()).unwrap()
    };
    let distinct: std::collections::BTreeSet<u64> =
        ["workload_ingress", "workload_egress", "vip_listener", "host_connect4", "host_connect6"].map(verified).into();
    assert_eq!(distinct.len(), 5, "each program has a number of its own: {distinct:?}");
    let limit = |name: &str| status["limits"][name][1].as_u64().unwrap_or_else(|| panic!("no limit {name}"));
    assert_eq!(limit("half-open (busiest workload)"), 256);
    // A workload has at most a quarter of the descriptors that are not kept for others, whatever this process may have.
    let unreserved = limit("descriptors of the engine");
    assert!(unreserved > 0);
    assert_eq!(limit("connections (busiest workload)"), (unreserved / 4).min(10_000));
    let services = json(&lab.brattice(&["services", "--output", "json"]));
    assert_eq!(services[0]["name"], "shop/orders");
    assert_eq!(services[0]["targetGroups"][0]["reachable"], 1);
    assert_eq!(services[0]["serviceNetworks"][0]["status"], "ACTIVE");
    assert!(services[0]["id"].as_str().unwrap().starts_with("svc-"));
    assert!(lab.brattice(&["services"]).stdout.contains("shop/orders"));
    let workloads = json(&lab.brattice(&["workloads", "--output", "json"]));
    let blue = workloads.as_array().unwrap().iter().find(|workload| workload["interface"] == "blue1").unwrap();
    assert!(blue["addresses"]["10.0.0.10"].as_str().unwrap().starts_with("100.127."));
    assert!(lab.brattice(&["workloads"]).stdout.contains("blue1"));
    let version = output(&mut lab.brattice_command(&["version"]));
    assert!(version.ok() && version.stdout.contains("0.1.0"), "{}", version.text());
    let nobody = output(lab.brattice_command(&["status", "--run-dir", "/nonexistent"]).arg("--output").arg("json"));
    assert_eq!(nobody.code, 2, "no agent: down. {}", nobody.text());
    assert!(!lab.brattice(&["nonsense"]).ok());
}

#[test]
fn who_may_ask_what() {
    let mut retail = Retail::start();
    let lab = &retail.lab;
    let mode = std::fs::metadata(lab.run_dir()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o750, "the run directory");
    let status = |uid, gid| status_as(lab, uid, gid, &["status"]);
    let bypass = |uid, gid| status_as(lab, uid, gid, &["bypass", "--all"]);
    assert_eq!(status(0, 0).code, 0, "root reads");
    let reader = status(65_001, READERS_GID);
    assert_eq!(reader.code, 0, "the group reads: {}", reader.text());
    assert!(!bypass(65_001, READERS_GID).ok(), "the group changes nothing");
    assert!(!status(65_001, 65_001).ok(), "others read nothing");
    assert!(!status(ENGINE_UID, READERS_GID).ok(), "the engine asks nothing");
    assert!(lab.status().switches.is_empty());
    assert!(bypass(0, 0).ok(), "root changes");
    assert_eq!(lab.status().switches.len(), 1);
    retail.lab.agent().stop();
}

#[test]
fn junk_on_the_socket_is_answered_or_closed_and_other_callers_are_served() {
    let retail = Retail::start();
    let lab = &retail.lab;
    for junk in [
        &b"not json\n"[..],
        b"{\"verb\":\"status\",\"extra\":1}\n",
        b"{\"verb\":\"reboot\"}\n",
        b"\0\0\0\0\n",
        b"",
        b"{\"verb\":\"status\"",
        b"[[[[[[[[[[[[[[[[[[[[[[\n",
    ] {
        let answer = lab.ask_raw(junk).unwrap_or_default();
        assert!(answer.is_empty() || answer.contains("error"), "{answer}");
    }
    let long = vec![b'a'; 10 << 20];
    let _ = lab.ask_raw(&long);
    // Connections that say nothing do not keep others out.
    let silent: Vec<_> = (0..200)
        .filter_map(|_| std::os::unix::net::UnixStream::connect(lab.run_dir().join("agent.sock")).ok())
        .collect();
    let start = std::time::Instant::now();
    wait_until("status is answered beside silent callers", Duration::from_secs(12), || lab.try_status().is_ok());
    assert!(start.elapsed() < Duration::from_secs(12));
    drop(silent);
    assert_eq!(lab.status().health, brattice_wire::api::Health::Ok);
}

/// The service's answer to blue, or why there is none.
fn calls(retail: &Retail) -> Result<Value, String> {
    let mut open = retail.blue.http(retail.orders()).map_err(|error| error.to_string())?;
    Ok(open.get("/", "").map_err(|error| error.to_string())?.json())
}

#[test]
fn bypass_relays_without_reading() {
    let retail = Retail::start();
    let lab = &retail.lab;
    let through_l7 = || calls(&retail).unwrap()["headers"].get("x-amzn-requestid").is_some();
    assert!(through_l7());
    let workload = lab.workloads().into_iter().find(|workload| workload.interface == "blue1").unwrap().name;
    let in_full = format!("platform/blue/{workload}");
    let scopes = [
        &["--all"][..],
        &["--service", "shop/orders"],
        &["--workload", &workload],
        &["orders.shop.internal"],
        &[&in_full],
    ];
    for scope in scopes {
        let on: Vec<&str> = ["bypass"].into_iter().chain(scope.iter().copied()).collect();
        let done = lab.brattice(&on);
        assert!(done.ok(), "{on:?}: {}", done.text());
        assert!(!through_l7(), "{scope:?}: no header of ours");
        let status = lab.brattice(&["status"]);
        assert!(status.stdout.to_lowercase().contains("bypass"), "{}", status.stdout);
        assert_eq!(status.code, 1, "shown as degraded");
        let off: Vec<&str> = on.iter().copied().chain(["--off"]).collect();
        assert!(lab.brattice(&off).ok());
        assert!(through_l7(), "{scope:?}: off again");
    }
    assert!(lab.status().engine.stats.unwrap().connections_relayed >= 3);
    assert!(lab.brattice(&["bypass", "--all", "--for", "2s"]).ok());
    assert!(!through_l7());
    wait_until("it ends by itself", Duration::from_secs(6), through_l7);
    wait_until("and is no longer shown", SETTLE, || lab.status().switches.is_empty());
    assert!(!lab.brattice(&["bypass", "--workload", "nobody"]).ok());
    let message = lab.brattice(&["bypass", "shop/ordesr"]);
    assert!(!message.ok() && message.stderr.contains("did you mean shop/orders?"), "{}", message.text());
}

#[test]
fn detach_takes_a_service_a_workload_or_everything_out() {
    let mut retail = Retail::start();
    let workload = retail.lab.workloads().into_iter().find(|workload| workload.interface == "blue1").unwrap().name;
    let green_calls = |retail: &Retail| retail.green.http(retail.orders()).and_then(|mut open| open.nonce("n")).is_ok();
    for (scope, green_too) in
        [(&["--all"][..], true), (&["--service", "shop/orders"], true), (&["--workload", &workload], false)]
    {
        let on: Vec<&str> = ["detach"].into_iter().chain(scope.iter().copied()).collect();
        assert!(calls(&retail).is_ok());
        let vip = retail.orders();
        assert!(retail.lab.brattice(&on).ok());
        assert!(retail.blue.connect_within(vip, Duration::from_secs(1)).is_err(), "{scope:?}");
        assert_eq!(!green_calls(&retail), green_too, "{scope:?}: the other workload");
        let off: Vec<&str> = on.iter().copied().chain(["--off"]).collect();
        assert!(retail.lab.brattice(&off).ok());
        assert!(calls(&retail).is_ok(), "{scope:?}: off again");
    }
    // With the agent dead, from the pins.
    let vip = retail.orders();
    retail.lab.agent().kill();
    assert!(retail.blue.http(vip).unwrap().nonce("n").is_ok(), "a dead agent leaves the engine serving");
    let offline = |retail: &Retail, more: &[&str]| {
        let mut command = retail.lab.brattice_command(&["detach", "--all", "--offline"]);
        command
            .args(more)
            .arg("--bpffs")
            .arg(retail.lab.bpffs())
            .arg("--state-dir")
            .arg(retail.lab.state_dir())
            .arg("--run-dir")
            .arg(retail.lab.run_dir());
        output(&mut command)
    };
    let done = offline(&retail, &[]);
    assert!(done.ok(), "{}", done.text());
    assert!(retail.blue.connect_within(vip, Duration::from_secs(1)).is_err());
    assert!(offline(&retail, &["--off"]).ok());
    assert!(retail.blue.http(vip).unwrap().nonce("n").is_ok());
    let by_name = output(
        retail
            .lab
            .brattice_command(&["bypass", "--service", "shop/orders", "--offline"])
            .arg("--bpffs")
            .arg(retail.lab.bpffs())
            .arg("--state-dir")
            .arg(retail.lab.state_dir())
            .arg("--run-dir")
            .arg(retail.lab.run_dir()),
    );
    assert!(by_name.ok(), "names are found without an agent: {}", by_name.text());
    let seen = retail.blue.http(vip).unwrap().get("/", "").unwrap().json();
    assert!(seen["headers"].get("x-amzn-requestid").is_none(), "{seen}");
    // A new agent shows what was switched meanwhile.
    retail.lab.start_agent();
    wait_until("the switch is shown", SETTLE, || !retail.lab.status().switches.is_empty());
}

#[test]
fn preflight_names_the_firewall_rule_and_the_command_that_mends_it() {
    let retail = Retail::start();
    let lab = &retail.lab;
    let preflight = || {
        output(
            lab.brattice_command(&["preflight", "--policies"])
                .arg(lab.policies())
                .arg("--run-dir")
                .arg(lab.run_dir())
                .arg("--bpffs")
                .arg(lab.bpffs())
                .arg("--state-dir")
                .arg(lab.state_dir()),
        )
    };
    let good = preflight();
    assert_eq!(good.code, 0, "{}", good.text());
    lab.node.sh("nft add table inet strict");
    lab.node.sh("nft add chain inet strict entry { type filter hook input priority 0 ; policy drop ; }");
    lab.node.sh("nft add rule inet strict entry ct state established accept");
    lab.node.sh("nft add rule inet strict entry iif lo accept");
    assert!(retail.blue.connect_within(retail.orders(), Duration::from_secs(1)).is_err(), "the policy eats the path");
    let bad = preflight();
    assert_ne!(bad.code, 0, "{}", bad.text());
    assert!(bad.text().contains("strict") && bad.text().contains("entry"), "names what ate it: {}", bad.text());
    let command = bad
        .text()
        .lines()
        .find_map(|line| {
            line.find("nft insert")
                .or_else(|| line.find("nft add"))
                .map(|at| line[at..].trim_end_matches(['`', '\'', '.']).to_owned())
        })
        .unwrap_or_else(|| panic!("no command: {}", bad.text()));
    let repaired = output(lab.node.command("sh").args(["-c", &command]));
    assert!(repaired.ok(), "{command}: {}", repaired.text());
    let again = preflight();
    assert_eq!(again.code, 0, "after {command}: {}", again.text());
    assert!(retail.blue.http(retail.orders()).unwrap().nonce("n").is_ok());
}

#[test]
fn preflight_sees_ranges_that_are_taken() {
    let retail = Retail::prepare(&service(&forward(1, 0)));
    let lab = &retail.lab;
    lab.node.ip("link add taken0 type veth peer name taken1");
    lab.node.ip("addr add 100.127.4.1/24 dev taken0");
    lab.node.ip("link set taken0 up");
    let shown = output(
        lab.brattice_command(&["preflight", "--policies"])
            .arg(lab.policies())
            .arg("--run-dir")
            .arg(lab.run_dir())
            .args(["--alias-range", "100.127.0.0/16"])
            .arg("--bpffs")
            .arg(lab.bpffs())
            .arg("--state-dir")
            .arg(lab.state_dir()),
    );
    assert_ne!(shown.code, 0, "{}", shown.text());
    assert!(shown.text().contains("100.127.4.") || shown.text().contains("taken0"), "{}", shown.text());
}

#[test]
fn preflight_says_that_a_host_fits_only_where_user_and_documents_are_ready() {
    let lab = Lab::new();
    lab.write("node.yaml", NODE);
    lab.write("accounts/platform/network.yaml", NETWORK);
    let preflight = |user: &str, policies: &Path| {
        let mut command = lab.brattice_command(&["preflight", "--no-probe", "--engine-user", user, "--policies"]);
        command.arg(policies).arg("--run-dir").arg(lab.run_dir()).arg("--bpffs").arg(lab.bpffs());
        output(command.arg("--state-dir").arg(lab.state_dir()))
    };
    let (user, there) = (ENGINE_UID.to_string(), lab.policies());
    let good = preflight(&user, &there);
    assert!(good.code == 0 && good.stdout.ends_with("this host fits\n"), "{}", good.text());
    lab.write("broken.yaml", "kind: Nonsense\n");
    for (user, policies, why) in [
        ("brattice-nobody", there.as_path(), "the engine's user is missing"),
        (&user, &there, "1 error in the documents"),
        (&user, &lab.folder.join("nowhere"), "no documents can be read"),
    ] {
        let report = preflight(user, policies);
        assert!(report.code == 1 && report.text().contains(why), "{why}: {}", report.text());
        assert!(report.stdout.lines().all(|line| line != "this host fits"), "{}", report.text());
    }
}

#[test]
fn untrusted_text_is_escaped() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    retail.lab.write("accounts/shop/evil.yaml", "kind: Service\nmetadata: {name: \"e\\e[31mvil\"}\nspec: {}\n");
    retail.lab.write("node.yaml", NODE);
    retail.lab.start_agent();
    let shown = retail.lab.brattice(&["status"]);
    assert!(shown.text().contains("vil"), "the error is shown: {}", shown.text());
    assert!(!shown.text().contains('\u{1b}'), "{:?}", shown.text());
    let validate = output(retail.lab.brattice_command(&["validate"]).arg(retail.lab.policies()));
    assert!(!validate.text().contains('\u{1b}'), "{:?}", validate.text());
}

#[test]
fn an_agent_without_rights_says_so() {
    let lab = Lab::new();
    let plain = lab.agent_command(&brattice_tests::lab::AgentOptions::default());
    let refused = output(&mut lab.as_user(65_001, 65_001, &plain));
    assert!(!refused.ok());
    assert!(
        refused.stderr.contains("root") || refused.stderr.contains("CAP_") || refused.stderr.contains("ermi"),
        "{}",
        refused.text()
    );
}

#[test]
fn ranges_that_overlap_are_refused_with_the_place_of_each() {
    let mut lab = Lab::new();
    let config = lab.folder.join("agent.yaml");
    std::fs::write(&config, "workers: 1\nvip-range: 100.64.0.0/10\n").unwrap();
    let user = ENGINE_UID.to_string();
    let refused = |lab: &Lab, verb: &str, more: &[&str], named: &[&str]| {
        let mut command = lab.brattice_command(&[verb, "--engine-user", &user, "--policies"]);
        command.arg(lab.policies()).arg("--run-dir").arg(lab.run_dir()).arg("--state-dir").arg(lab.state_dir());
        let said = output(command.arg("--bpffs").arg(lab.bpffs()).args(more));
        assert!(said.code > 0, "{verb} {more:?}: {}", said.text());
        for word in named {
            assert!(said.stderr.contains(word), "{verb} {more:?}: no {word} in {}", said.text());
        }
    };
    let config = config.to_str().unwrap();
    let place = format!("the VIP range 100.64.0.0/10 ({config}:2:12)");
    for verb in ["agent", "preflight"] {
        let flag = ["--config", config, "--alias-range", "100.127.0.0/16"];
        refused(&lab, verb, &flag, &[&place, "the alias range 100.127.0.0/16 (--alias-range) overlaps"]);
        let default = "the IPv6 VIP range fd8b:2a77:1c51::/64 (the default)";
        refused(&lab, verb, &["--alias6-range", "fd8b:2a77:1c51::/48"], &[default, "(--alias6-range) overlaps"]);
    }
    assert!(!lab.bpffs().exists(), "nothing was made");
    // Control: each is a good range. The agent keeps what it was told.
    lab.start_agent();
    lab.agent().stop();
    let kept = format!(
        "the alias range {ALIAS_RANGE} (chosen by an earlier start, kept in {}/state.json)",
        lab.state_dir().display()
    );
    for verb in ["agent", "preflight"] {
        refused(&lab, verb, &["--vip-range", "100.64.0.0/10"], &[&kept, "the VIP range 100.64.0.0/10 (--vip-range)"]);
    }
    refused(
        &lab,
        "agent",
        &["--vip-range", "169.254.96.0/20"],
        &["Ask for 169.254.64.0/20", "asked for is --vip-range"],
    );
    lab.start_agent();
}
