//! The access log and the metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use brattice_tests::{
    client::{Connection, HOST, Http2, Load, Next},
    lab::{AgentOptions, Retail, forward, records_of, service, wait_until},
};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use socket2::SockRef;

/// VPC Lattice's fields, all of them.
const LATTICE: &[&str] = &[
    "authDeniedReason",
    "bytesReceived",
    "bytesSent",
    "callerPrincipal",
    "callerPrincipalTags",
    "callerX509IssuerOU",
    "callerX509SANDNS",
    "callerX509SANNameCN",
    "callerX509SANURI",
    "callerX509SubjectCN",
    "destinationVpcId",
    "duration",
    "failureReason",
    "grpcResponseCode",
    "hostHeader",
    "listenerId",
    "listenerType",
    "protocol",
    "requestId",
    "requestMethod",
    "requestPath",
    "requestToTargetDuration",
    "resolvedUser",
    "responseCode",
    "responseFromTargetDuration",
    "serverNameIndication",
    "serviceArn",
    "serviceNetworkArn",
    "sourceIpPort",
    "sourceVpcArn",
    "sourceVpcId",
    "sslCipher",
    "startTime",
    "targetGroupArn",
    "targetIpPort",
    "tlsVersion",
    "userAgent",
];

/// The fields that docs/observability.md has a row for.
fn documented() -> BTreeSet<String> {
    let page = "../docs/observability.md";
    let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{page}: {error}"));
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

fn recording(orders: &str, options: &AgentOptions) -> Retail {
    let mut retail = Retail::prepare(orders);
    retail.lab.start_agent_with(options);
    retail
}

fn id_of(answer: &brattice_tests::client::Answer) -> &str {
    answer.header("x-amzn-requestid").expect("each answer has its request's id")
}

#[test]
fn a_line_has_lattices_fields_and_those_of_the_page() {
    let retail = recording(&service(&forward(1, 0)), &AgentOptions::recording());
    let mut open = retail.blue.http(retail.orders()).unwrap();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let answer = open.get("/a/../b?secret=1", "user-agent: tester/1\r\ncookie: k=hidden\r\nauthorization: hidden\r\n");
    let answer = answer.unwrap();
    let line = retail.lab.record(id_of(&answer));
    let keys: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    for name in LATTICE {
        assert!(keys.contains(name), "{name} is missing: {line}");
    }
    let documented = documented();
    for key in &keys {
        assert!(documented.contains(*key), "docs/observability.md has no row for {key}");
    }
    for (name, expected) in [
        ("requestMethod", Value::from("GET")),
        ("requestPath", Value::from("/b")),
        ("hostHeader", Value::from(HOST)),
        ("userAgent", Value::from("tester/1")),
        ("protocol", Value::from("HTTP/1.1")),
        ("responseCode", Value::from(200)),
        ("targetIpPort", Value::from("10.0.0.10:8080")),
        ("listenerType", Value::from("HTTP")),
        ("failureReason", Value::from("-")),
        ("authDeniedReason", Value::from("-")),
        ("tlsVersion", Value::from("-")),
        ("sslCipher", Value::from("-")),
        ("grpcResponseCode", Value::from("-")),
        ("serviceArn", Value::from(retail.lab.service("shop/orders").arn)),
    ] {
        assert_eq!(line[name], expected, "{name} in {line}");
    }
    let text = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("{name} in {line}"));
    assert_eq!(text("sourceIpPort"), open.stream().local_addr().unwrap().to_string());
    for (name, begin) in [
        ("sourceVpcId", "vpc-"),
        ("destinationVpcId", "vpc-"),
        ("listenerId", "listener-"),
        ("sourceVpcArn", "arn:aws:ec2:"),
        ("targetGroupArn", "arn:aws:vpc-lattice:"),
        ("serviceNetworkArn", "arn:aws:vpc-lattice:"),
    ] {
        assert!(text(name).starts_with(begin), "{name} in {line}");
    }
    assert_ne!(text("sourceVpcId"), text("destinationVpcId"));
    let start = text("startTime");
    assert!(start.len() >= 20 && start.ends_with('Z') && start.as_bytes()[10] == b'T', "{start}");
    assert!(
        line["bytesReceived"].as_u64().unwrap() > 80 && line["bytesSent"].as_u64().unwrap() > answer.body.len() as u64
    );
    for name in ["duration", "requestToTargetDuration", "responseFromTargetDuration"] {
        assert!(line[name].as_u64().is_some_and(|ms| ms < 10_000), "{name} in {line}");
    }
    assert!(before > 1_700_000_000);
    let whole = line.to_string();
    assert!(!whole.contains("hidden") && !whole.contains("secret"), "neither header values nor queries: {whole}");

    // The same keys whatever becomes of a request.
    let mut bad = retail.blue.http(retail.orders()).unwrap();
    let refused = bad.get("/%00", "").unwrap();
    let unknown = retail.blue.http(retail.orders()).unwrap().with_host("nobody.example").get("/", "").unwrap();
    assert_eq!((refused.status, unknown.status), (400, 404));
    for answer in [&refused, &unknown] {
        let other = retail.lab.record(id_of(answer));
        let others: BTreeSet<&str> = other.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(others, keys);
        assert_eq!(other["targetIpPort"], "-", "{other}");
        assert_eq!(other["responseCode"], answer.status, "{other}");
    }
}

#[test]
fn failures_are_named() {
    let retail = recording(&service(&forward(1, 0)), &AgentOptions::recording());
    let vip = retail.orders();
    let reason = |answer: &brattice_tests::client::Answer| {
        retail.lab.record(id_of(answer))["failureReason"].as_str().unwrap().to_owned()
    };
    let get = |path: &str| retail.blue.http(vip).unwrap().get(path, "").unwrap();
    assert_eq!(reason(&get("/")), "-");
    assert_eq!(reason(&get("/status/503")), "-", "a target's own 503 is an answer");
    assert_eq!(reason(&get("/reset")), "TargetConnectionClosed");
    assert_eq!(reason(&get("/%zz")), "ClientProtocolError");
    // A client that gives up: before the answer, and in the middle of it.
    for (path, status) in [("/slow/5000", Value::from("-")), ("/drip/20", Value::from(200))] {
        let mut open = retail.blue.http(vip).unwrap();
        let id = format!("gives-up{}", path.replace('/', "-"));
        let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nx-amzn-requestid: {id}\r\n\r\n");
        let before = retail.v1.counters.requests();
        open.send(request.as_bytes()).unwrap();
        wait_until("it is at the target", Duration::from_secs(5), || retail.v1.counters.requests() > before);
        if status == 200 {
            open.reader().read_exact(&mut [0; 200]).unwrap();
        }
        SockRef::from(open.stream()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(open);
        let line = retail.lab.record(&id);
        assert_eq!(
            (&line["failureReason"], &line["responseCode"]),
            (&Value::from("ClientConnectionClosed"), &status),
            "{line}"
        );
    }
    drop(retail.v1);
    let mut open = retail.blue.http(vip).unwrap();
    let answer = open.get("/", "").unwrap();
    assert!(answer.status >= 500);
    assert_eq!(retail.lab.record(id_of(&answer))["failureReason"], "TargetConnectionError");
}

#[test]
fn what_callers_write_is_escaped_and_cut() {
    let retail = recording(&service(&forward(1, 0)), &AgentOptions::recording());
    let vip = retail.orders();
    let evil = "\"}\\\t\u{1b}[31m\u{e9}\u{2028}";
    let mut open = retail.blue.http(vip).unwrap();
    let mut request =
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-amzn-requestid: evil-1\r\nuser-agent: ").into_bytes();
    request.extend(evil.replace('\u{1b}', "").bytes());
    request.extend([0xff, 0xfe]);
    request.extend(b"\r\n\r\n");
    open.send(&request).unwrap();
    assert_eq!(open.answer().unwrap().status, 200);
    let line = retail.lab.record("evil-1");
    assert!(line["userAgent"].as_str().unwrap().starts_with("\"}\\\t[31m\u{e9}"), "{line}");
    // As bytes: a line of ASCII or UTF-8 without control characters.
    let text = fs::read_to_string(retail.lab.access_log()).expect("UTF-8");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    let long = "u".repeat(30_000);
    let answer = open.get(&format!("/{}", "p".repeat(20_000)), &format!("user-agent: {long}\r\n")).unwrap();
    assert_eq!(answer.status, 200);
    let line = retail.lab.record(id_of(&answer));
    for name in ["userAgent", "requestPath"] {
        let length = line[name].as_str().unwrap().len();
        assert!((4_000..=8_192).contains(&length), "{name} has {length} bytes");
    }
}

/// Every kind of request, and how many of it.
const KINDS: &[(&str, usize)] = &[
    ("good", 4_000),
    ("not-found", 1_000),
    ("unavailable", 1_000),
    ("unknown-host", 300),
    ("bad-path", 300),
    ("target-reset", 300),
    ("given-up", 60),
    ("cancelled", 40),
];
/// And by h2load.
const BY_H2LOAD: usize = 3_000;

/// Sends a share of each kind; counts answers by status, 0 for those that were given up without one.
fn send(retail: &Retail, vip: SocketAddr, share: usize) -> BTreeMap<u16, u64> {
    retail.blue.namespace.enter_this_thread();
    let fresh = |host: &str| Connection::new(std::net::TcpStream::connect(vip).unwrap()).with_host(host);
    let mut counted = BTreeMap::new();
    let mut kept = fresh(HOST);
    let mut streams = Http2::new(std::net::TcpStream::connect(vip).unwrap()).unwrap();
    for (kind, number) in KINDS {
        for _ in 0..number / share {
            let status = match *kind {
                "good" => kept.get("/", "").unwrap().status,
                "not-found" => kept.get("/status/404", "").unwrap().status,
                "unavailable" => kept.get("/status/503", "").unwrap().status,
                "unknown-host" => fresh("nobody.example").get("/", "").unwrap().status,
                "bad-path" => fresh(HOST).get("/a%00b", "").unwrap().status,
                "target-reset" => fresh(HOST).get("/reset", "").unwrap().status,
                "given-up" => {
                    let mut open = fresh(HOST);
                    open.send(format!("GET /drip/5 HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
                    open.reader().read_exact(&mut [0; 150]).unwrap();
                    SockRef::from(open.stream()).set_linger(Some(Duration::ZERO)).unwrap();
                    200
                }
                _ => {
                    let mut stream = streams.open("GET", "/drip/5", &[], b"").unwrap();
                    assert!(matches!(streams.next(&mut stream, Duration::from_secs(5)), Next::Data(_)));
                    stream.status
                }
            };
            *counted.entry(status).or_default() += 1;
        }
    }
    counted
}

#[test]
fn ten_thousand_requests_are_counted_alike_by_client_log_and_metrics() {
    let retail = recording(&service(&forward(1, 0)), &AgentOptions::recording());
    let vip = retail.orders();
    let mut client: BTreeMap<u16, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let retail = &retail;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(move || send(retail, vip, 4))).collect();
        let load = retail.blue.namespace.run(&[
            "h2load",
            "-n",
            &BY_H2LOAD.to_string(),
            "-c",
            "2",
            "-m",
            "10",
            "-H",
            &format!(":authority: {HOST}"),
            &format!("http://{vip}/"),
        ]);
        assert!(load.stdout.contains(&format!("{BY_H2LOAD} succeeded, 0 failed, 0 errored")), "{}", load.text());
        *client.entry(200).or_default() += BY_H2LOAD as u64;
        for thread in threads {
            for (status, number) in thread.join().unwrap() {
                *client.entry(status).or_default() += number;
            }
        }
    });
    let total = client.values().sum::<u64>();
    assert_eq!(total, 10_000, "{client:?}");
    assert!([200, 400, 404, 503].iter().all(|status| client.contains_key(status)), "{client:?}");
    let lines = retail.lab.records_at_least(10_000);
    assert_eq!(lines.len(), 10_000);
    let mut logged: BTreeMap<u16, u64> = BTreeMap::new();
    for line in &lines {
        *logged.entry(line["responseCode"].as_u64().unwrap_or(0) as u16).or_default() += 1;
    }
    assert_eq!(logged, client, "log and client");
    let given_up = lines.iter().filter(|line| line["failureReason"] == "ClientConnectionClosed").count();
    assert_eq!(given_up, 100, "those that the client gave up");
    let metrics = retail.lab.metrics();
    for class in 2..=5_u16 {
        let expected: u64 = client.iter().filter(|(status, _)| *status / 100 == class).map(|(_, n)| n).sum();
        let counted = metrics.sum("brattice_responses_total", &[("class", &format!("{class}xx"))]);
        assert_eq!(counted as u64, expected, "metrics and client, {class}xx");
    }
    let counted = |labels: &[(&str, &str)]| metrics.sum("brattice_requests_total", labels) as u64;
    assert_eq!(counted(&[]), 10_000);
    assert_eq!(
        counted(&[("service", "shop/orders"), ("vpc", "platform/blue")]),
        9_700,
        "the unknown host has no service"
    );
    assert_eq!(metrics.sum("brattice_request_duration_seconds_count", &[]) as u64, 10_000);
    assert_eq!(metrics.sum("brattice_request_duration_seconds_bucket", &[("le", "+Inf")]) as u64, 10_000);
    let given_up = metrics.sum("brattice_request_failures_total", &[("reason", "ClientConnectionClosed")]);
    assert_eq!(given_up as u64, 100);
    assert_eq!(metrics.kind("brattice_requests_total"), Some("counter"));
    assert_eq!(metrics.kind("brattice_request_duration_seconds"), Some("histogram"));
    assert_eq!(
        metrics.sum("brattice_access_log_lines_total", &[("result", "dropped")]) as u64,
        0,
        "nothing was dropped"
    );
    assert!(retail.lab.status().engine.stats.unwrap().requests >= 9_000);
}

#[test]
fn a_rotated_log_loses_no_line() {
    let mut retail = recording(&service(&forward(1, 0)), &AgentOptions::recording());
    let vip = retail.orders();
    let log = retail.lab.access_log();
    let load = Load::start(&retail.blue, vip, true, u64::MAX);
    let mut rotated = Vec::new();
    for number in 0..5 {
        let at = load.done();
        wait_until("requests flow", Duration::from_secs(10), || load.done() > at + 200);
        let aside = log.with_extension(format!("{number}"));
        fs::rename(&log, &aside).unwrap();
        kill(retail.lab.agent().pid(), Signal::SIGHUP).unwrap();
        wait_until("the new file is there", Duration::from_secs(5), || log.exists());
        rotated.push(aside);
    }
    let at = load.done();
    wait_until("requests flow", Duration::from_secs(10), || load.done() > at + 200);
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.errors);
    let count = || -> u64 {
        let files = rotated.iter().chain([&log]);
        files.map(|file| records_of(&fs::read_to_string(file).unwrap()).len() as u64).sum()
    };
    wait_until("every request has its line", Duration::from_secs(5), || count() >= tally.sent);
    assert_eq!(count(), tally.sent);
    for file in rotated.iter().chain([&log]) {
        assert!(fs::read_to_string(file).unwrap().ends_with('\n'), "whole lines only");
        assert!(!records_of(&fs::read_to_string(file).unwrap()).is_empty(), "{} is empty", file.display());
    }
}

#[test]
fn the_log_goes_on_without_and_with_the_next_agent() {
    let options = AgentOptions::recording();
    let mut retail = recording(&service(&forward(1, 0)), &options);
    let vip = retail.orders();
    let load = Load::start(&retail.blue, vip, true, u64::MAX);
    let more = |what: &str| {
        let at = load.done();
        wait_until(what, Duration::from_secs(10), || load.done() > at + 300);
    };
    more("at first");
    retail.lab.agent().kill();
    let lines = retail.lab.records().len();
    more("without an agent");
    retail.lab.records_at_least(lines + 200);
    retail.lab.start_agent_with(&options);
    more("with the next");
    assert_eq!(retail.lab.agent().stop(), 0);
    more("without it");
    retail.lab.start_agent_with(&options);
    more("and with another");
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.errors);
    let lines = retail.lab.records_at_least(usize::try_from(tally.sent).unwrap());
    assert_eq!(lines.len() as u64, tally.sent, "each request has one line");
    assert_eq!(retail.lab.metrics().sum("brattice_requests_total", &[]) as u64, tally.sent, "and is counted once");
}

#[test]
fn a_log_that_cannot_be_written_stops_no_request() {
    // A small pipe without a reader.
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let pipe = retail.lab.folder.join("access.log");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let held = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    retail.lab.start_agent_with(&AgentOptions::recording());
    let load = Load::start(&retail.blue, retail.orders(), true, 5_000).wait();
    assert_eq!((load.failed, load.good), (0, 5_000), "{:?}", load.errors);
    // The queue has room for some megabytes; lines of 9 KiB fill it.
    let mut open = retail.blue.http(retail.orders()).unwrap();
    let agent = format!("user-agent: {}\r\n", "u".repeat(9_000));
    for _ in 0..2_000 {
        assert_eq!(open.get("/", &agent).unwrap().status, 200);
    }
    wait_until("dropped lines are counted", Duration::from_secs(5), || {
        retail.lab.metrics().sum("brattice_access_log_lines_total", &[("result", "dropped")]) > 0.0
    });
    drop(held);
}

#[test]
fn a_sampled_log_counts_all_and_keeps_failures() {
    let options =
        AgentOptions { more: vec!["--access-log-sample".into(), "1000000".into()], ..AgentOptions::recording() };
    let retail = recording(&service(&forward(1, 0)), &options);
    let vip = retail.orders();
    let mut open = retail.blue.http(vip).unwrap();
    for _ in 0..200 {
        open.nonce("n").unwrap();
    }
    let failed = retail.blue.http(vip).unwrap().get("/reset", "").unwrap();
    retail.lab.record(id_of(&failed));
    assert!(retail.lab.records().len() <= 3, "{}", retail.lab.records().len());
    assert_eq!(retail.lab.metrics().sum("brattice_requests_total", &[]) as u64, 201);
}

#[test]
fn metrics_are_for_the_host_alone_and_labelled_by_documents_alone() {
    let options = AgentOptions {
        access_log: true,
        more: vec!["--metrics".into(), "127.0.0.1:9464".into()],
        ..AgentOptions::default()
    };
    let retail = recording(&service(&forward(1, 0)), &options);
    let vip = retail.orders();
    let scrape = || {
        let shown = retail.lab.node.run(&["curl", "--silent", "--fail", "http://127.0.0.1:9464/metrics"]);
        assert!(shown.ok(), "{}", shown.text());
        brattice_tests::lab::Metrics::parse(&shown.stdout).unwrap()
    };
    let mut open = retail.blue.http(vip).unwrap();
    open.nonce("n").unwrap();
    let before = scrape();
    for number in 0..300 {
        let answer =
            open.request(&format!("M{number}"), &format!("/path-{number}"), &format!("user-agent: a{number}\r\n"));
        assert_eq!(answer.unwrap().status, 200);
        let _ = retail.blue.http(vip).unwrap().with_host(&format!("host-{number}.example")).get("/", "").unwrap();
    }
    let after = scrape();
    assert_eq!((after.sum("brattice_requests_total", &[]) - before.sum("brattice_requests_total", &[])) as u64, 600);
    assert!(after.all().len() <= before.all().len() + 40, "{} series, then {}", before.all().len(), after.all().len());
    for sample in after.all() {
        for value in sample.labels.values() {
            assert!(!value.contains("path-") && !value.contains("host-"), "{sample:?}");
        }
    }
    for (label, value) in [
        ("service", "shop/orders"),
        ("vpc", "platform/blue"),
        ("target_group", "shop/orders-v1"),
        ("listener", "http-80"),
    ] {
        assert!(after.sum("brattice_requests_total", &[(label, value)]) >= 301.0, "{label}={value}");
    }
    for name in ["brattice_received_bytes_total", "brattice_sent_bytes_total", "brattice_connections_total"] {
        assert!(after.sum(name, &[]) > 0.0, "{name}");
    }
    let from_outside = retail.green.namespace.run(&["curl", "--max-time", "2", "http://10.0.0.1:9464/metrics"]);
    assert!(!from_outside.ok(), "a workload reads no metrics: {}", from_outside.text());
    let mut refused = Retail::prepare(&service(&forward(1, 0)));
    let open_to_all = AgentOptions { more: vec!["--metrics".into(), "0.0.0.0:9464".into()], ..AgentOptions::default() };
    assert!(refused.lab.try_start_agent(&open_to_all).is_err(), "only loopback");
    assert!(refused.lab.log().contains("0.0.0.0:9464"), "{}", refused.lab.log());
}
