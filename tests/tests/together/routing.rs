//! Rules from documents: every kind of match and action, with curl; what `brattice route` says; reloads under load.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use brattice_tests::{
    client::{HOST, Load},
    lab::{NODE, Output, Retail, Workload, output, service, wait_until},
};
use serde_json::Value;

const ORDERS: &str = "accounts/shop/orders.yaml";

/// `red` joins the network.
fn everybody() -> String {
    format!("{NODE}  serviceNetworks: [platform/retail]\n")
}

/// Name, match and action of a rule; `V1` and `V2` stand for forwards. In order of priority.
const RULES: &[(&str, &str, &str)] = &[
    ("host-exact", "httpMatch: {hostMatch: {match: {exact: admin.shop.internal}}}", "V2"),
    ("host-suffix", "httpMatch: {hostMatch: {match: {suffix: eu.shop.internal}}}", "V2"),
    ("source-vpc", "httpMatch: {sourceVpcs: [platform/red], pathMatch: {match: {prefix: /who}}}", "V2"),
    ("path-exact", "httpMatch: {pathMatch: {match: {exact: /exact}}}", "V2"),
    ("path-nocase", "httpMatch: {pathMatch: {match: {exact: /Mixed}, caseSensitive: false}}", "V2"),
    ("path-prefix", "httpMatch: {pathMatch: {match: {prefix: /seg}}}", "V2"),
    ("path-string", "httpMatch: {pathMatch: {match: {stringPrefix: /str}}}", "V2"),
    ("path-regex", "httpMatch: {pathMatch: {match: {regex: '/items/[0-9]+'}}}", "V2"),
    ("method", "httpMatch: {method: PURGE}", "V2"),
    ("header-exact", "httpMatch: {headerMatches: [{name: X-Exact, match: {exact: One}}]}", "V2"),
    ("header-case", "httpMatch: {headerMatches: [{name: x-case, match: {exact: One}, caseSensitive: true}]}", "V2"),
    ("header-prefix", "httpMatch: {headerMatches: [{name: x-prefix, match: {prefix: on}}]}", "V2"),
    ("header-suffix", "httpMatch: {headerMatches: [{name: x-suffix, match: {suffix: ne}}]}", "V2"),
    ("header-contains", "httpMatch: {headerMatches: [{name: x-contains, match: {contains: 'a, b'}}]}", "V2"),
    ("header-regex", "httpMatch: {headerMatches: [{name: x-regex, match: {regex: 'v[0-9]+'}}]}", "V2"),
    ("header-range", "httpMatch: {headerMatches: [{name: x-range, match: {range: {start: 10, end: 20}}}]}", "V2"),
    ("header-present", "httpMatch: {headerMatches: [{name: x-present, match: {present: true}}]}", "V2"),
    (
        "header-invert",
        "httpMatch: {pathMatch: {match: {exact: /invert}}, headerMatches: [{name: x-no, match: {exact: one}, invert: true}]}",
        "V2",
    ),
    ("query-exact", "httpMatch: {queryParameters: [{name: 'a b', match: {exact: 'c&d'}}]}", "V2"),
    ("query-regex", "httpMatch: {queryParameters: [{name: version, match: {regex: 'v[0-9]'}}]}", "V2"),
    ("query-present", "httpMatch: {queryParameters: [{name: flag, match: {present: true}}]}", "V2"),
    ("port", "httpMatch: {port: 80, pathMatch: {match: {exact: /port}}}", "V2"),
    (
        "all-of-them",
        "httpMatch: {method: PUT, pathMatch: {match: {prefix: /all}}, headerMatches: [{name: x-1, match: {exact: a}}, {name: x-2, match: {exact: b}}], queryParameters: [{name: q, match: {exact: '1'}}]}",
        "V2",
    ),
    (
        "grpc-metadata",
        "grpcMatch: {serviceName: shop.Orders, methodName: Get, metadata: [{name: x-tenant, match: {exact: a}}]}",
        "V2",
    ),
    ("grpc-method", "grpcMatch: {serviceName: shop.Orders, methodName: Get}", "V2"),
    ("grpc-service", "grpcMatch: {serviceName: shop.Orders}", "V2"),
    (
        "fixed",
        "httpMatch: {pathMatch: {match: {exact: /fixed}}}",
        "fixedResponse: {statusCode: 418, contentType: application/json, body: '{\"tea\": true}'}",
    ),
    ("fixed-empty", "httpMatch: {pathMatch: {match: {exact: /gone}}}", "fixedResponse: {statusCode: 410}"),
    (
        "redirect-prefix",
        "httpMatch: {pathMatch: {match: {prefix: /old}}}",
        "redirect: {hostname: www.shop.internal, path: {prefix: /new}, statusCode: 308}",
    ),
    (
        "redirect-scheme",
        "httpMatch: {pathMatch: {match: {exact: /secure}}}",
        "redirect: {scheme: https, port: 8443, statusCode: 301}",
    ),
    ("redirect-exact", "httpMatch: {pathMatch: {match: {exact: /moved}}}", "redirect: {path: {exact: /here}}"),
    (
        "rewrite-prefix",
        "httpMatch: {pathMatch: {match: {prefix: /api}}}",
        "V1, rewrite: {hostname: internal.shop.internal, path: {prefix: /v2}}",
    ),
    ("rewrite-exact", "httpMatch: {pathMatch: {match: {exact: /full}}}", "V1, rewrite: {path: {exact: /whole/path}}"),
    (
        "rewrite-regex",
        "httpMatch: {pathMatch: {match: {prefix: /users}}}",
        "V1, rewrite: {path: {regex: {pattern: '^/users/([a-z]+)', substitution: '/people/$1'}}}",
    ),
    (
        "edits",
        "httpMatch: {pathMatch: {match: {exact: /edits}}}",
        "V1, requestHeaders: {set: [{name: x-set, value: new}], add: [{name: x-add, value: more}], remove: [x-gone]}, RESPONSE: {add: [{name: x-added, value: '1'}], remove: [x-server]}",
    ),
    ("never-first", "httpMatch: {pathMatch: {match: {prefix: /exact}}}", "V1"),
];

/// The service with these rules.
fn documents() -> String {
    let forward = |group: &str| format!("forward: {{targetGroups: [{{targetGroupIdentifier: {group}, weight: 1}}]}}");
    let mut rules = String::from("responseHeaders: {set: [{name: x-rule, value: default}]}}\n    rules:\n");
    for (number, (name, matches, action)) in RULES.iter().enumerate() {
        let fields = format!("set: [{{name: x-rule, value: {name}}}]");
        let action = match action.split_once("RESPONSE: {") {
            Some((before, after)) => format!("{before}responseHeaders: {{{fields}, {after}"),
            None => format!("{action}, responseHeaders: {{{fields}}}"),
        };
        let action = action.replace("V1", &forward("orders-v1")).replace("V2", &forward("orders-v2"));
        let priority = number * 10 + 10;
        rules.push_str(&format!(
            "    - {{name: {name}, priority: {priority}, match: {{{matches}}}, action: {{{action}}}}}\n"
        ));
    }
    let start = format!("{{{}, {rules}", forward("orders-v1"));
    service(&start)
        .replace("[orders.shop.internal]", "[orders.shop.internal, admin.shop.internal, fr.eu.shop.internal]")
        // gRPC is forwarded to HTTP/2 only.
        .replace(
            "protocol: HTTP}, targets: [{id: 10.0.0.11}]",
            "protocol: HTTP, protocolVersion: HTTP2}, targets: [{id: 10.0.0.11}]",
        )
}

/// A request and its result.
struct Case {
    from: &'static str,
    host: &'static str,
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: u16,
    rule: &'static str,
    /// Members of the target's report, or fields of the answer (`@name`).
    sees: &'static [(&'static str, &'static str)],
}

const fn case(path: &'static str, rule: &'static str) -> Case {
    Case { from: "blue", host: HOST, method: "GET", path, headers: &[], status: 200, rule, sees: &[] }
}

const fn with(headers: &'static [(&'static str, &'static str)], rule: &'static str) -> Case {
    Case { headers, ..case("/", rule) }
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

const CASES: &[Case] = &[
    case("/", "default"),
    Case { host: "admin.shop.internal", ..case("/", "host-exact") },
    Case { host: "ADMIN.shop.internal:80", ..case("/exact", "host-exact") },
    Case { host: "fr.eu.shop.internal", ..case("/", "host-suffix") },
    Case { from: "red", ..case("/who", "source-vpc") },
    case("/who", "default"),
    Case { from: "red", ..case("/", "default") },
    case("/exact", "path-exact"),
    case("/exact?a=b", "path-exact"),
    case("/exact/", "never-first"),
    case("/EXACT", "default"),
    case("/miXed", "path-nocase"),
    case("/seg", "path-prefix"),
    case("/seg/", "path-prefix"),
    case("/seg/a", "path-prefix"),
    case("/segment", "default"),
    case("/string", "path-string"),
    case("/items/17", "path-regex"),
    case("/items/17/x", "default"),
    case("/items/x", "default"),
    Case { method: "PURGE", ..case("/", "method") },
    Case { method: "purge", ..case("/", "default") },
    with(&[("x-exact", "oNE")], "header-exact"),
    with(&[("x-exact", "one more")], "default"),
    with(&[("x-case", "One")], "header-case"),
    with(&[("x-case", "one")], "default"),
    with(&[("x-prefix", "ONE")], "header-prefix"),
    with(&[("x-suffix", "one")], "header-suffix"),
    with(&[("x-contains", "a"), ("x-contains", "b")], "header-contains"),
    with(&[("x-contains", "b"), ("x-contains", "a")], "default"),
    with(&[("x-regex", "v12")], "header-regex"),
    with(&[("x-regex", "xv12")], "default"),
    with(&[("x-range", "10")], "header-range"),
    with(&[("x-range", "20")], "default"),
    with(&[("x-range", "ten")], "default"),
    with(&[("x-present", "")], "header-present"),
    case("/invert", "header-invert"),
    Case { headers: &[("x-no", "two")], ..case("/invert", "header-invert") },
    Case { headers: &[("x-no", "one")], ..case("/invert", "default") },
    case("/?x=1&a%20b=c%26d", "query-exact"),
    case("/?a+b=c%26d", "query-exact"),
    case("/?a%20b=c&d", "default"),
    case("/?version=v1", "query-regex"),
    case("/?version=v10", "default"),
    case("/?flag", "query-present"),
    case("/?flags", "default"),
    case("/port", "port"),
    Case { method: "PUT", headers: &[("x-1", "a"), ("x-2", "b")], ..case("/all/x?q=1", "all-of-them") },
    Case { method: "PUT", headers: &[("x-1", "a")], ..case("/all/x?q=1", "default") },
    Case { method: "POST", headers: &[("x-1", "a"), ("x-2", "b")], ..case("/all/x?q=1", "default") },
    Case { method: "POST", headers: &[GRPC, ("x-tenant", "a")], ..case("/shop.Orders/Get", "grpc-metadata") },
    Case { method: "POST", headers: &[GRPC], ..case("/shop.Orders/Get", "grpc-method") },
    Case { method: "POST", headers: &[GRPC], ..case("/shop.Orders/List", "grpc-service") },
    Case { method: "POST", ..case("/shop.Orders/List", "default") },
    Case {
        status: 418,
        sees: &[("@content-type", "application/json"), ("@content-length", "13"), ("tea", "true")],
        ..case("/fixed", "fixed")
    },
    Case { status: 410, ..case("/gone", "fixed-empty") },
    Case {
        status: 308,
        sees: &[("@location", "http://www.shop.internal/new/a?b=c")],
        ..case("/old/a?b=c", "redirect-prefix")
    },
    Case {
        status: 301,
        sees: &[("@location", "https://orders.shop.internal:8443/secure")],
        ..case("/secure", "redirect-scheme")
    },
    Case {
        status: 302,
        sees: &[("@location", "http://orders.shop.internal/here?x")],
        ..case("/moved?x", "redirect-exact")
    },
    Case { sees: &[("path", "/v2/a"), ("query", "b=c"), ("server", "v1")], ..case("/api/a?b=c", "rewrite-prefix") },
    Case { sees: &[("path", "/v2")], ..case("/api", "rewrite-prefix") },
    Case { sees: &[("path", "/whole/path")], ..case("/full", "rewrite-exact") },
    Case { sees: &[("path", "/people/eve/x")], ..case("/users/eve/x", "rewrite-regex") },
    Case { sees: &[("path", "/users/1")], ..case("/users/1", "rewrite-regex") },
    Case {
        headers: &[("x-set", "old"), ("x-add", "one"), ("x-gone", "x"), ("x-stays", "y")],
        sees: &[
            ("headers.x-set", "new"),
            ("headers.x-add", "one|more"),
            ("headers.x-gone", ""),
            ("headers.x-stays", "y"),
            ("@x-added", "1"),
            ("@x-server", ""),
        ],
        ..case("/edits", "edits")
    },
];

/// An answer as curl shows it with `--include`.
struct Shown {
    status: u16,
    fields: BTreeMap<String, String>,
    body: Value,
}

fn ask(from: &Workload, vip: std::net::SocketAddr, version: &str, case: &Case) -> Shown {
    let url = format!("http://{vip}{}", case.path);
    let mut line: Vec<String> =
        ["--include", "--path-as-is", version, "--request", case.method, "-H"].map(str::to_owned).to_vec();
    line.push(format!("host: {}", case.host));
    for (name, value) in case.headers {
        // An empty value is sent with a semicolon only.
        line.extend(["-H".to_owned(), if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") }]);
    }
    line.push(url);
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    let (status, text) = from.fetch(&words);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{} {}: {text}", case.method, case.path));
    let fields = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, ""))))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Shown { status, fields, body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// What is seen of a name in [`Case::sees`].
fn seen(shown: &Shown, name: &str) -> String {
    if let Some(field) = name.strip_prefix('@') {
        return shown.fields.get(field).cloned().unwrap_or_default();
    }
    let mut value = &shown.body;
    for part in name.split('.') {
        value = &value[part];
    }
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("|"),
        other => other.to_string(),
    }
}

fn routed() -> Retail {
    let mut retail = Retail::prepare(&documents());
    retail.lab.write("node.yaml", &everybody());
    retail.lab.start_agent();
    retail
}

fn caller<'a>(retail: &'a Retail, name: &str) -> &'a Workload {
    if name == "red" { &retail.red } else { &retail.blue }
}

#[test]
fn every_match_and_action_over_both_versions() {
    let retail = routed();
    let vip = retail.orders();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for case in CASES {
            let what = format!("{version} {} {}{} {:?}", case.method, case.host, case.path, case.headers);
            let shown = ask(caller(&retail, case.from), vip, version, case);
            assert_eq!(shown.fields.get("x-rule").map(String::as_str), Some(case.rule), "{what}");
            assert_eq!(shown.status, case.status, "{what}");
            for (name, expected) in case.sees {
                assert_eq!(seen(&shown, name), *expected, "{what}: {name}");
            }
        }
    }
    let tried: Vec<&str> = CASES.iter().map(|case| case.rule).collect();
    for (name, ..) in RULES {
        assert!(tried.contains(name), "no case for the rule {name}");
    }
}

#[test]
fn route_says_what_really_happens() {
    let retail = routed();
    let text = documents();
    let lines: Vec<&str> = text.lines().collect();
    for case in CASES {
        // The port is no part of what rules see.
        let host = case.host.trim_end_matches(":80");
        let from = format!("platform/{}", case.from);
        let mut line = vec!["route", "--from", &from, "--service", "shop/orders", "--method", case.method];
        line.extend(["--path", case.path, "--host", host, "--output", "json"]);
        let headers: Vec<String> = case.headers.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        line.extend(headers.iter().flat_map(|header| ["--header", header]));
        let output = retail.lab.brattice(&line);
        let answer: Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{line:?}: {error}: {}", output.text()));
        let route = &answer["route"];
        let rule = route["rule"]["name"].as_str().unwrap_or("default");
        assert_eq!(rule, case.rule, "{line:?}: {route}");
        if rule != "default" {
            let origin = route["rule"]["origin"].as_str().unwrap();
            let number: usize = origin.strip_prefix("accounts/shop/orders.yaml:").unwrap().parse().unwrap();
            assert!(lines[number - 1].contains(&format!("name: {rule},")), "{origin} is {}", lines[number - 1]);
        }
        // Each rule before it says what it missed.
        let place = RULES.iter().position(|(name, ..)| *name == case.rule).unwrap_or(RULES.len());
        let passed = route["passed"].as_array().unwrap();
        let more = route["passedMore"].as_u64().unwrap();
        assert_eq!(passed.len() as u64 + more, place as u64, "{line:?}: {route}");
        for before in passed {
            assert!(!before["because"]["what"].as_str().unwrap().is_empty(), "{before}");
        }
        let location = case.sees.iter().find(|(name, _)| *name == "@location");
        if let Some((_, location)) = location {
            assert_eq!(route["action"]["location"], **location, "{route}");
        }
        if let Some((_, path)) = case.sees.iter().find(|(name, _)| *name == "path") {
            let shown = route["action"]["path"].as_str().unwrap();
            assert_eq!(shown.split('?').next(), Some(*path), "{route}");
        }
    }
    let people =
        retail.lab.brattice(&["route", "--from", "platform/blue", "--service", "orders", "--path", "/exact/x"]);
    for word in ["never-first", "accounts/shop/orders.yaml:", "path-exact", "orders-v1"] {
        assert!(people.stdout.contains(word), "{word} in {}", people.text());
    }
}

#[test]
fn the_most_specific_rule_wins_where_that_is_asked_for() {
    let forward =
        |group: &str| format!("{{forward: {{targetGroups: [{{targetGroupIdentifier: {group}, weight: 1}}]}}}}");
    let rule = |name: &str, matches: &str| {
        let action = format!("{{fixedResponse: {{statusCode: 200, body: {name}}}}}");
        format!("    - {{name: {name}, match: {{httpMatch: {{{matches}}}}}, action: {action}}}\n")
    };
    let rules: String = [
        rule("short", "pathMatch: {match: {prefix: /a}}"),
        rule("long", "pathMatch: {match: {prefix: /a/b}}"),
        rule("exact", "pathMatch: {match: {exact: /a/b/c}}"),
        rule("method", "method: POST, pathMatch: {match: {prefix: /a}}"),
        rule("headers", "pathMatch: {match: {prefix: /a}}, headerMatches: [{name: x-a, match: {exact: b}}]"),
    ]
    .concat();
    let start = format!("{}\n    rulePrecedence: mostSpecific\n    rules:\n{rules}", forward("orders-v1"));
    let retail = Retail::start_with(&service(&start));
    let mut open = retail.blue.http(retail.orders()).unwrap();
    for (method, path, more, expected) in [
        ("GET", "/a", "", "short"),
        ("GET", "/a/b/x", "", "long"),
        ("GET", "/a/b/c", "", "exact"),
        ("POST", "/a/x", "", "method"),
        ("POST", "/a/b/x", "", "long"),
        ("GET", "/a/x", "x-a: b\r\n", "headers"),
        ("POST", "/a/x", "x-a: b\r\n", "method"),
    ] {
        let answer = open.request(method, path, more).unwrap();
        assert_eq!(answer.text(), expected, "{method} {path} {more}");
    }
    assert_eq!(open.get("/", "").unwrap().server(), "v1");
}

/// Both weights above 0, and what keeps a caller where it is.
fn sticky(kind: &str, v1: u16, v2: u16) -> String {
    service(&format!(
        "{{forward: {{targetGroups: [{{targetGroupIdentifier: orders-v1, weight: {v1}}}, {{targetGroupIdentifier: orders-v2, weight: {v2}}}], stickiness: {kind}}}}}"
    ))
}

#[test]
fn a_canary_user_stays_a_canary() {
    let retail = Retail::start_with(&sticky("{cookie: {name: canary, maxAgeSeconds: 3600}}", 50, 50));
    let vip = retail.orders();
    let fresh = |more: &str| retail.blue.http(vip).unwrap().get("/", more).unwrap();
    let mut cookies = BTreeMap::new();
    for _ in 0..20 {
        let answer = fresh("");
        let set = answer.header("set-cookie").expect("a cookie is set").to_owned();
        for word in ["canary=", "Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=3600"] {
            assert!(set.contains(word), "{word} in {set}");
        }
        cookies.insert(set.split(';').next().unwrap().to_owned(), answer.server().to_owned());
    }
    assert_eq!(cookies.len(), 2, "both were chosen: {cookies:?}");
    for (cookie, server) in &cookies {
        for _ in 0..10 {
            let answer = fresh(&format!("cookie: a=b; {cookie}; c=d\r\n"));
            assert_eq!(answer.server(), server, "{cookie}");
            assert!(!answer.text().contains("canary") || answer.json()["headers"]["cookie"].is_array());
        }
    }
    // Its group has no weight any more: chosen anew.
    retail.lab.apply(ORDERS, &sticky("{cookie: {name: canary}}", 0, 50));
    for cookie in cookies.keys() {
        assert_eq!(fresh(&format!("cookie: {cookie}\r\n")).server(), "v2");
    }
    // By header: the same value, the same group; raising a weight moves callers towards it only.
    let by_header = |retail: &Retail| -> Vec<String> {
        let mut open = retail.blue.http(vip).unwrap();
        (0..60).map(|user| open.get("/", &format!("x-user: {user}\r\n")).unwrap().server().to_owned()).collect()
    };
    retail.lab.apply(ORDERS, &sticky("{header: {name: x-user}}", 50, 50));
    let before = by_header(&retail);
    assert_eq!(before, by_header(&retail), "each user stays");
    assert!(before.iter().any(|server| server == "v1") && before.iter().any(|server| server == "v2"));
    retail.lab.apply(ORDERS, &sticky("{header: {name: x-user}}", 50, 200));
    for (user, (then, now)) in before.iter().zip(by_header(&retail)).enumerate() {
        assert!(then != "v2" || now == "v2", "user {user} left the group whose weight was raised");
    }
    // By source: a workload stays, on every connection.
    retail.lab.apply(ORDERS, &sticky("{source: {}}", 50, 50));
    let first = fresh("").server().to_owned();
    assert!((0..20).all(|_| fresh("").server() == first));
}

#[test]
fn rules_change_under_load_and_no_request_notices() {
    let retail = Retail::prepare(&documents());
    let mut retail = retail;
    retail.lab.write("node.yaml", &everybody());
    retail.lab.start_agent();
    let vip = retail.orders();
    let h2load = |version: &str, requests: &str| {
        let mut command = retail.blue.namespace.command("h2load");
        command.args(["-n", requests, "-c", "4", "-m", "10", "-H", &format!(":authority: {HOST}")]);
        command.args([version, &format!("http://{vip}/users/eve")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let loads = [h2load("--no-tls-proto=h2c", "15000"), h2load("--h1", "8000")];
    let kept = [Load::start(&retail.blue, vip, true, u64::MAX), Load::start(&retail.red, vip, false, u64::MAX)];
    let other = documents().replace("/people/$1", "/persons/$1").replace("value: more", "value: less");
    for round in 0..6 {
        retail.lab.apply(ORDERS, if round % 2 == 0 { &other } else { RULES_BACK.get_or_init(documents) });
        let done = kept.iter().map(Load::done).sum::<u64>();
        wait_until("requests flow", Duration::from_secs(10), || kept.iter().map(Load::done).sum::<u64>() > done + 100);
    }
    for load in loads {
        let result = load.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&result.stdout);
        assert!(text.contains("0 failed, 0 errored, 0 timeout") && text.contains(" 0 4xx, 0 5xx"), "{text}");
    }
    for tally in kept.into_iter().map(Load::finish) {
        assert_eq!((tally.failed, tally.good), (0, tally.sent), "{:?}", tally.errors);
    }
}

static RULES_BACK: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// `brattice validate` of the directory.
fn validate(retail: &Retail) -> Output {
    output(retail.lab.brattice_command(&["validate"]).arg(retail.lab.policies()))
}

#[test]
fn rules_that_cannot_be_are_told_with_their_places() {
    let retail = Retail::start();
    let rule = |name: &str, priority: u16, matches: &str| {
        format!(
            "    - {{name: {name}, priority: {priority}, match: {{httpMatch: {{{matches}}}}}, action: {{fixedResponse: {{statusCode: 404}}}}}}\n"
        )
    };
    let with = |rules: &[String]| {
        let start = format!("{{fixedResponse: {{statusCode: 200}}}}\n    rules:\n{}", rules.concat());
        retail.lab.write(ORDERS, &service(&start));
        validate(&retail)
    };
    let good = with(&[
        rule("first", 1, "pathMatch: {match: {prefix: /a/b}}"),
        rule("second", 2, "pathMatch: {match: {prefix: /a}}"),
    ]);
    assert!(good.ok() && !good.text().contains("shadow"), "{}", good.text());
    let shadowed = with(&[
        rule("wide", 1, "pathMatch: {match: {prefix: /a}}"),
        rule("narrow", 2, "pathMatch: {match: {prefix: /a/b}}"),
    ]);
    assert!(shadowed.ok(), "a warning: {}", shadowed.text());
    for word in ["wide", "narrow", "orders.yaml:12", "orders.yaml:13"] {
        assert!(shadowed.text().contains(word), "{word} in {}", shadowed.text());
    }
    let twice = with(&[rule("first", 7, "method: GET"), rule("second", 7, "method: POST")]);
    assert!(!twice.ok() && twice.text().contains("orders.yaml:12"), "both places: {}", twice.text());
    assert!(twice.text().contains("orders.yaml:13"), "both places: {}", twice.text());
    for (what, matches) in [
        ("a regex that is too big", "pathMatch: {match: {regex: '/(a{1000}){1000}'}}"),
        ("a path that is not normal", "pathMatch: {match: {exact: /a/../b}}"),
        ("a contradiction", "headerMatches: [{name: x-a, match: {exact: a}}, {name: x-a, match: {exact: b}}]"),
        ("no condition", ""),
    ] {
        let refused = with(&[rule("first", 1, matches)]);
        assert!(!refused.ok() && refused.text().contains("orders.yaml:12:"), "{what}: {}", refused.text());
    }
}
