//! `brattice explain`: made-up requests, past ones, live connections; each against what really happens.

use std::time::Duration;

use brattice_tests::{
    client::{Connection, Http2, WebSocket},
    lab::{Guarded, LEDGER_HOST, ORDERS, ORDERS_HOST, Output, Retail, SETTLE, Workload, eventually, wait_until},
};
use serde_json::Value;

use super::enforcement::{CALLS, Verdict, caller};

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {}", output.text()))
}

/// A made-up request explained: the exit code and the output.
fn made_up(guarded: &Guarded, from: &str, host: &str, method: &str, path: &str, headers: &[&str]) -> (i32, Value) {
    let mut line = vec!["explain", "--from", from, "--to", host, "--method", method, "--path", path];
    line.extend(headers.iter().flat_map(|header| ["--header", header]));
    line.extend(["--output", "json"]);
    let output = guarded.lab.brattice(&line);
    (output.code, json(&output))
}

/// A past request explained, once the engine remembers it.
fn past(guarded: &Guarded, id: &str) -> (i32, Value) {
    eventually(&format!("{id} is remembered"), Duration::from_secs(3), || {
        let output = guarded.lab.brattice(&["explain", id, "--output", "json"]);
        if output.code == 2 { Err(output.text()) } else { Ok((output.code, json(&output))) }
    })
}

#[test]
fn what_is_explained_is_what_happens() {
    let guarded = Guarded::start();
    for row @ (name, host, method, path, more, verdict) in CALLS {
        let headers: &[&str] = if more.is_empty() { &[] } else { &["x-debug:1"] };
        let (code, report) = made_up(&guarded, name, host, method, path, headers);
        let answer = guarded.call(caller(&guarded, name), host, method, path, more);
        let passes = *verdict == Verdict::Passes;
        assert_eq!((answer.status == 200, code == 0), (passes, passes), "{row:?}: {report}");
        assert_eq!(report["outcome"], if passes { "allowed" } else { "denied" }, "{row:?}: {report}");
        let id = answer.header("x-amzn-requestid").unwrap();
        let (then_code, then) = past(&guarded, id);
        assert_eq!(then_code, code, "{row:?}: {then}");
        assert_eq!(then["then"]["status"], answer.status, "{row:?}: {then}");
        assert_eq!(then["then"]["differences"], Value::Array(Vec::new()), "{row:?}: {then}");
        assert_eq!(report["caller"]["workload"], *name, "{report}");
        if let Verdict::Denied(level) | Verdict::NotAllowed(level) = verdict {
            for report in [&report, &then] {
                assert_eq!(report["decision"]["deniedAt"], *level, "{row:?}: {report}");
                assert_eq!(report["reason"], "policy", "{row:?}: {report}");
                assert!(!report["remedy"].as_array().unwrap().is_empty(), "{row:?}: {report}");
            }
            let logged = guarded.lab.record(id);
            assert_eq!(report["decision"]["id"], logged["decisionId"], "{row:?}: explanation and log");
            assert_eq!(then["decision"]["id"], logged["decisionId"], "{row:?}: explanation and log");
            if *method != "HEAD" {
                let message = report["decision"]["message"].as_str().unwrap();
                assert!(answer.text().starts_with(message), "{message} in {}", answer.text());
            }
        }
    }
}

#[test]
fn a_denial_is_told_with_its_evidence_for_people() {
    let guarded = Guarded::start();
    let answer = guarded.call(&guarded.teller, ORDERS_HOST, "GET", "/reports/7", "");
    assert_eq!(answer.status, 403);
    let id = answer.header("x-amzn-requestid").unwrap();
    past(&guarded, id);
    let shown = guarded.lab.brattice(&["explain", id]);
    assert_eq!(shown.code, 1, "{}", shown.text());
    let alias = guarded.lab.alias("green2", guarded.teller.address).to_string();
    for word in [
        "DENIED",
        id,
        "GET",
        "/reports/7",
        "teller",
        "green2",
        "10.0.0.11",
        &alias,
        "interface",
        "bank/teller",
        "platform/green",
        "platform/retail",
        "shop/orders",
        "accounts/shop/orders.yaml:",
        "#reports",
        "remedy",
    ] {
        assert!(shown.stdout.contains(word), "{word} in {}", shown.stdout);
    }
    let allowed = guarded.lab.brattice(&["explain", "--from", "clerk", "--to", "shop/orders", "--path", "/reports/7"]);
    assert_eq!(allowed.code, 0, "{}", allowed.text());
    for word in ["ALLOWED", "shop/clerk", "#reports", "node.yaml:", "#noledger"] {
        assert!(allowed.stdout.contains(word), "{word} in {}", allowed.stdout);
    }
}

#[test]
fn a_past_request_is_told_as_it_was_and_as_it_would_be_now() {
    let guarded = Guarded::start();
    let allowed = guarded.call(&guarded.batch, ORDERS_HOST, "GET", "/reports/1", "");
    assert_eq!(allowed.status, 200);
    let id = allowed.header("x-amzn-requestid").unwrap();
    let (code, report) = past(&guarded, id);
    assert_eq!((code, &report["then"]["differences"]), (0, &Value::Array(Vec::new())), "{report}");
    let without = ORDERS.replace("Principal: {AWS: [\"111111111111\", ", "Principal: {AWS: [");
    assert_ne!(without, ORDERS);
    guarded.lab.apply("accounts/shop/orders.yaml", &without);
    let (code, report) = past(&guarded, id);
    assert_eq!((code, &report["then"]["status"]), (1, &Value::from(200)), "denied now, served then: {report}");
    assert!(!report["then"]["differences"].as_array().unwrap().is_empty(), "{report}");
    let unknown = guarded.lab.brattice(&["explain", "00000000-0000-4000-8000-000000000000"]);
    assert_eq!(unknown.code, 2, "{}", unknown.text());
    assert!(unknown.stderr.contains("remember"), "{}", unknown.text());
    // What is secret is remembered by name alone.
    let secret =
        guarded.call(&guarded.web, ORDERS_HOST, "GET", "/", "authorization: hidden-1\r\ncookie: a=hidden-2\r\n");
    let id = secret.header("x-amzn-requestid").unwrap();
    past(&guarded, id);
    let text = guarded.lab.brattice(&["explain", id, "--output", "json"]).text();
    assert!(!text.contains("hidden"), "{text}");
}

#[test]
fn what_is_no_policys_doing_is_told_as_well() {
    let mut guarded = Guarded::start();
    let explained = |guarded: &Guarded, from: &str, host: &str, path: &str| {
        let (code, report) = made_up(guarded, from, host, "GET", path, &[]);
        (code, report["reason"].as_str().unwrap().to_owned(), report)
    };
    let served = |guarded: &Guarded, from: &Workload, host: &str, path: &str| {
        let answer = from.http(guarded.vip(host)).and_then(|open| open.with_host(host).get(path, ""));
        answer.map_or(0, |answer| answer.status)
    };
    assert_eq!(explained(&guarded, "web", ORDERS_HOST, "/").1, "allowed");
    assert_eq!(served(&guarded, &guarded.web, ORDERS_HOST, "/"), 200);
    // A path that is refused.
    let (code, reason, report) = explained(&guarded, "web", ORDERS_HOST, "/a%00b");
    assert_eq!((code, reason.as_str()), (1, "path-refused"), "{report}");
    assert_eq!(served(&guarded, &guarded.web, ORDERS_HOST, "/a%00b"), 400);
    // A port without a listener.
    let line = ["explain", "--from", "web", "--to", "shop/orders", "--port", "81", "--output", "json"];
    let no_listener = guarded.lab.brattice(&line);
    assert_eq!((no_listener.code, &json(&no_listener)["reason"]), (1, &Value::from("no-listener")));
    let mut vip = guarded.vip(ORDERS_HOST);
    vip.set_port(81);
    assert!(guarded.web.connect_within(vip, Duration::from_secs(1)).is_err());
    // A host that is none of the service's.
    let line = ["explain", "--from", "web", "--to", "shop/orders", "--host", "x.example", "--output", "json"];
    let unknown_host = guarded.lab.brattice(&line);
    assert_eq!((unknown_host.code, &json(&unknown_host)["reason"]), (1, &Value::from("unknown-host")));
    // Detached.
    assert!(guarded.lab.brattice(&["detach", "--service", "shop/orders"]).ok());
    assert_eq!(explained(&guarded, "web", ORDERS_HOST, "/").1, "detached");
    assert!(guarded.web.connect_within(guarded.vip(ORDERS_HOST), Duration::from_secs(1)).is_err());
    assert!(guarded.lab.brattice(&["detach", "--service", "shop/orders", "--off"]).ok());
    assert_eq!(explained(&guarded, "web", ORDERS_HOST, "/").1, "allowed");
    // Bypass of a service that only policies open.
    assert!(guarded.lab.brattice(&["bypass", "--all"]).ok());
    assert_eq!(explained(&guarded, "web", ORDERS_HOST, "/").1, "bypass-refused");
    assert_eq!(served(&guarded, &guarded.web, ORDERS_HOST, "/"), 0);
    assert!(guarded.lab.brattice(&["bypass", "--all", "--off"]).ok());
    // No association.
    let operator = brattice_tests::lab::OPERATOR;
    let apart = operator.replace(
        "attachments: [{interface: \"red*\"}]\n  serviceNetworks: [platform/retail]",
        "attachments: [{interface: \"red*\"}]",
    );
    assert_ne!(apart, operator);
    guarded.lab.apply("node.yaml", &apart);
    let (code, reason, report) = explained(&guarded, "visitor", ORDERS_HOST, "/public/a");
    assert_eq!((code, reason.as_str()), (1, "no-association"), "{report}");
    assert_eq!(served(&guarded, &guarded.visitor, ORDERS_HOST, "/public/a"), 404);
    guarded.lab.apply("node.yaml", operator);
    assert_eq!(explained(&guarded, "visitor", ORDERS_HOST, "/public/a").1, "allowed");
    // No target.
    guarded.lab.apply(
        "accounts/shop/orders.yaml",
        &ORDERS.replace("targets: [{id: 10.0.0.10}]", "targets: [{id: 10.0.0.99}]"),
    );
    let (code, reason, report) = explained(&guarded, "web", ORDERS_HOST, "/");
    assert_eq!((code, reason.as_str()), (1, "no-target"), "{report}");
    assert_eq!(served(&guarded, &guarded.web, ORDERS_HOST, "/"), 503);
    guarded.lab.apply("accounts/shop/orders.yaml", ORDERS);
    assert_eq!(explained(&guarded, "web", ORDERS_HOST, "/").1, "allowed");
    // Unknown callers and services.
    for words in [["--from", "nobody", "--to", "shop/orders"], ["--from", "web", "--to", "shop/nothing"]] {
        let mut line = vec!["explain"];
        line.extend(words);
        let unknown = guarded.lab.brattice(&line);
        assert_eq!(unknown.code, 2, "{}", unknown.text());
    }
    guarded.lab.agent().stop();
    let without = guarded.lab.brattice(&["explain", "--from", "web", "--to", "shop/orders"]);
    assert_eq!(without.code, 2, "without an agent: {}", without.text());
    let by_documents = guarded.lab.brattice_command(&["explain", "--from", "web", "--to", "shop/orders", "--policies"]);
    let by_documents = brattice_tests::lab::output({ by_documents }.arg(guarded.lab.policies()));
    assert_eq!(by_documents.code, 0, "by documents alone: {}", by_documents.text());
}

/// `brattice flows` as JSON.
fn flows(guarded: &Guarded, filters: &[&str]) -> Vec<Value> {
    let mut line = vec!["flows", "--output", "json"];
    line.extend(filters);
    let shown = guarded.lab.brattice(&line);
    assert!(shown.ok(), "{}", shown.text());
    match serde_json::from_str(&shown.stdout) {
        Ok(Value::Array(flows)) => flows,
        _ => shown.stdout.lines().map(|line| serde_json::from_str(line).expect("a flow")).collect(),
    }
}

#[test]
fn live_connections_are_listed_and_explained() {
    let guarded = Guarded::start();
    assert_eq!(flows(&guarded, &[]).len(), 0, "nobody calls");
    let mut kept = guarded.open(&guarded.web, ORDERS_HOST);
    assert_eq!(kept.get("/", "").unwrap().status, 200);
    let mut socket = WebSocket::open(&guarded.visitor, guarded.vip(ORDERS_HOST), "/public/socket", &[]).unwrap();
    socket.echo("a").unwrap();
    let mut streams =
        Http2::new(guarded.batch.connect(guarded.vip(LEDGER_HOST)).unwrap()).unwrap().with_host(LEDGER_HOST);
    let drip = streams.open("GET", "/drip/20", &[], b"").unwrap();
    assert_eq!(drip.status, 200);
    let all = flows(&guarded, &[]);
    assert_eq!(all.len(), 3, "{all:?}");
    let of = |workload: &str| all.iter().find(|flow| flow["sourceWorkload"] == workload).unwrap();
    let local = |open: &Connection| open.stream().local_addr().unwrap().to_string();
    for (flow, expected) in [
        (of("web"), ["HTTP/1.1", "platform/blue", "shop/orders", "shop/orders", "10.0.0.10:8080", "clerk"]),
        (of("visitor"), ["upgraded", "platform/red", "shop/orders", "shop/orders", "10.0.0.10:8080", "clerk"]),
        (of("batch"), ["HTTP/2", "platform/blue", "bank/ledger", "bank/ledger", "10.0.0.11:8080", "teller"]),
    ] {
        let found = ["protocol", "sourceVpc", "service", "targetGroup", "target", "targetWorkload"]
            .map(|name| flow[name].as_str().unwrap_or("-"));
        assert_eq!(found, expected, "{flow}");
        assert_eq!(flow["targetVpc"], "platform/green", "{flow}");
        assert!(flow["alias"].as_str().unwrap().starts_with("100.127."), "{flow}");
        assert!(flow["bytesReceived"].as_u64().unwrap() > 0 && flow["bytesSent"].as_u64().unwrap() > 0, "{flow}");
        assert!(flow["ageMs"].as_u64().unwrap() < 60_000, "{flow}");
    }
    assert_eq!(of("web")["source"], local(&kept));
    for (filter, expected) in [
        (["--service", "bank/ledger"], "batch"),
        (["--workload", "visitor"], "visitor"),
        (["--vpc", "platform/red"], "visitor"),
    ] {
        let some = flows(&guarded, &filter);
        assert_eq!(some.len(), 1, "{filter:?}: {some:?}");
        assert_eq!(some[0]["sourceWorkload"], expected);
    }
    let table = guarded.lab.brattice(&["flows", "--wide"]);
    for word in ["10.0.0.10:", "10.0.0.10:8080", "web", "visitor", "shop/orders", "platform/red"] {
        assert!(table.stdout.contains(word), "{word} in {}", table.stdout);
    }
    let id = of("web")["id"].as_u64().unwrap().to_string();
    let report = guarded.lab.brattice(&["explain", "--flow", &id, "--output", "json"]);
    let report = json(&report);
    assert_eq!(
        (&report["outcome"], &report["caller"]["workload"]),
        (&Value::from("allowed"), &Value::from("web")),
        "{report}"
    );
    drop((kept, socket, drip, streams));
    wait_until("they are gone", SETTLE, || flows(&guarded, &[]).is_empty());
}

#[test]
fn the_log_can_be_followed() {
    let guarded = Guarded::start_with(&brattice_tests::lab::AgentOptions::default());
    let before = guarded.call(&guarded.web, ORDERS_HOST, "GET", "/before", "");
    let backlog = eventually("the backlog", Duration::from_secs(5), || {
        let shown = guarded.lab.brattice(&["logs", "--output", "json"]);
        if shown.stdout.contains("/before") { Ok(shown.stdout) } else { Err(shown.text()) }
    });
    assert!(backlog.contains(before.header("x-amzn-requestid").unwrap()), "{backlog}");
    let follow = |filters: &[&str]| {
        let mut line = vec!["logs", "--follow", "--output", "json"];
        line.extend(filters);
        Followed::start(&guarded, &line)
    };
    let followed = [
        (follow(&[]), vec!["/f/1", "/f/2", "/f/3", "/f/4"]),
        (follow(&["--denied"]), vec!["/f/2", "/f/3"]),
        (follow(&["--service", "bank/ledger"]), vec!["/f/3", "/f/4"]),
        (follow(&["--caller", "teller"]), vec!["/f/2", "/f/4"]),
    ];
    for (from, host, path, status) in [
        (&guarded.web, ORDERS_HOST, "/f/1", 200),
        (&guarded.teller, ORDERS_HOST, "/f/2", 403),
        (&guarded.web, LEDGER_HOST, "/f/3", 403),
        (&guarded.teller, LEDGER_HOST, "/f/4", 200),
    ] {
        assert_eq!(guarded.call(from, host, "GET", path, "").status, status, "{path}");
    }
    for (mut followed, expected) in followed {
        let mut seen: Vec<String> = Vec::new();
        wait_until(&format!("{expected:?}"), Duration::from_secs(5), || {
            seen.extend(followed.lines().iter().filter_map(|line| {
                let path = line["requestPath"].as_str()?.to_owned();
                path.starts_with("/f/").then_some(path)
            }));
            seen.len() >= expected.len()
        });
        seen.sort();
        assert_eq!(seen, expected);
    }
}

/// A running `brattice logs --follow`, killed when dropped.
struct Followed {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Followed {
    /// Starts it and waits until it follows: a request of ours is seen.
    fn start(guarded: &Guarded, line: &[&str]) -> Self {
        let mut command = guarded.lab.brattice_command(line);
        command.arg("--run-dir").arg(guarded.lab.run_dir()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(stdout).map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut followed = Self { child, lines };
        // Each kind of filter lets one of these through.
        let mut tries = 0;
        wait_until("it follows", Duration::from_secs(10), || {
            tries += 1;
            guarded.call(&guarded.teller, LEDGER_HOST, "DELETE", &format!("/try/{tries}"), "");
            std::thread::sleep(Duration::from_millis(100));
            followed
                .lines()
                .iter()
                .any(|line| line["requestPath"].as_str().is_some_and(|path| path.starts_with("/try/")))
        });
        followed
    }

    /// Output since the last time.
    fn lines(&mut self) -> Vec<Value> {
        self.lines
            .try_iter()
            .map(|line| serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn only_those_who_may_ask_see_flows_and_logs() {
    let retail = Retail::start();
    let lab = &retail.lab;
    for verb in [
        &["flows"][..],
        &["logs"],
        &["explain", "--from", "blue1", "--to", "shop/orders"],
        &["route", "--from", "platform/blue", "--service", "shop/orders"],
    ] {
        let as_user = |uid: u32, gid: u32| {
            let mut command = lab.as_user(uid, gid, &lab.brattice_command(verb));
            brattice_tests::lab::output(command.arg("--run-dir").arg(lab.run_dir()))
        };
        let reader = as_user(65_001, brattice_tests::lab::READERS_GID);
        assert_eq!(reader.code, 0, "{verb:?}: the group reads: {}", reader.text());
        assert!(!as_user(65_001, 65_001).ok(), "{verb:?}: others read nothing");
        assert!(
            !as_user(brattice_tests::lab::ENGINE_UID, brattice_tests::lab::READERS_GID).ok(),
            "{verb:?}: nor does the engine"
        );
    }
}
