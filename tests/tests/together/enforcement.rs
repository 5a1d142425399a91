//! Authorization: each pair that is allowed and each that is denied, over HTTP/1.1, HTTP/2 and gRPC.

use brattice_tests::{
    client::Http2,
    lab::{AgentOptions, Guarded, LEDGER_HOST, ORDERS, ORDERS_HOST, Workload, eventually},
};
use serde_json::Value;

/// What must come of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It reaches the target.
    Passes,
    /// 403, no statement of this level allows it.
    NotAllowed(&'static str),
    /// 403, a statement of this level denies it.
    Denied(&'static str),
}
use Verdict::{Denied, NotAllowed, Passes};

const DEBUG: &str = "x-debug: 1\r\n";

/// Caller, service, method, path, more header lines, and the result. A denied call's positive control is a row
/// that differs in one column.
pub(super) const CALLS: &[(&str, &str, &str, &str, &str, Verdict)] = &[
    ("web", ORDERS_HOST, "GET", "/", "", Passes),
    ("web", ORDERS_HOST, "POST", "/", "", Passes),
    ("web", ORDERS_HOST, "DELETE", "/", "", Denied("Network")),
    ("web", ORDERS_HOST, "GET", "/", DEBUG, Denied("Service")),
    ("web", ORDERS_HOST, "GET", "/reports/1", "", Passes),
    ("web", LEDGER_HOST, "GET", "/", "", NotAllowed("Service")),
    ("batch", ORDERS_HOST, "GET", "/reports/1", "", Passes),
    ("batch", ORDERS_HOST, "HEAD", "/reports/1", "", Passes),
    ("batch", ORDERS_HOST, "POST", "/reports/1", "", NotAllowed("Service")),
    ("batch", ORDERS_HOST, "GET", "/reports", "", NotAllowed("Service")),
    ("batch", ORDERS_HOST, "GET", "/", "", NotAllowed("Service")),
    ("batch", ORDERS_HOST, "GET", "/public/a", "", Passes),
    ("batch", ORDERS_HOST, "GET", "/public/../secret", "", NotAllowed("Service")),
    ("batch", ORDERS_HOST, "GET", "/secret/%2e%2e/public/a", "", Passes),
    ("batch", LEDGER_HOST, "GET", "/", "", Passes),
    ("batch", LEDGER_HOST, "POST", "/", "", Passes),
    ("batch", LEDGER_HOST, "DELETE", "/", "", Denied("Network")),
    ("clerk", ORDERS_HOST, "GET", "/reports/1", "", Passes),
    ("clerk", ORDERS_HOST, "GET", "/public/a", "", NotAllowed("Identity")),
    ("clerk", ORDERS_HOST, "GET", "/public/../reports/1", "", Passes),
    ("clerk", LEDGER_HOST, "GET", "/reports/1", "", NotAllowed("Service")),
    ("clerk", LEDGER_HOST, "GET", "/", "", NotAllowed("Identity")),
    ("teller", LEDGER_HOST, "GET", "/", "", Passes),
    ("teller", LEDGER_HOST, "GET", "/reports/1", "", Passes),
    ("teller", ORDERS_HOST, "GET", "/", "", NotAllowed("Service")),
    ("teller", ORDERS_HOST, "GET", "/reports/1", "", NotAllowed("Service")),
    ("teller", ORDERS_HOST, "GET", "/public/a", "", Passes),
    ("visitor", ORDERS_HOST, "GET", "/public/a", "", Passes),
    ("visitor", ORDERS_HOST, "POST", "/public/a", "", Passes),
    ("visitor", ORDERS_HOST, "GET", "/public/a", DEBUG, Denied("Service")),
    ("visitor", ORDERS_HOST, "DELETE", "/public/a", "", Denied("Network")),
    ("visitor", ORDERS_HOST, "GET", "/", "", NotAllowed("Network")),
    ("visitor", ORDERS_HOST, "GET", "/public/%2e%2e/secret", "", NotAllowed("Network")),
    ("visitor", ORDERS_HOST, "GET", "//public/a", "", Passes),
    ("visitor", LEDGER_HOST, "GET", "/public/a", "", NotAllowed("Service")),
    ("visitor", LEDGER_HOST, "GET", "/", "", NotAllowed("Network")),
];

pub(super) fn caller<'a>(guarded: &'a Guarded, name: &str) -> &'a Workload {
    match name {
        "web" => &guarded.web,
        "batch" => &guarded.batch,
        "clerk" => &guarded.clerk,
        "teller" => &guarded.teller,
        "visitor" => &guarded.visitor,
        other => panic!("no workload {other}"),
    }
}

/// The caller's identity in the response.
fn principal(name: &str) -> String {
    let account = match name {
        "web" | "clerk" => "222222222222",
        "batch" => "111111111111",
        "teller" => "333333333333",
        _ => return "anonymous".to_owned(),
    };
    format!("arn:aws:sts::{account}:assumed-role/{name}/{name}")
}

/// The message to the caller, without the request id.
fn wording(guarded: &Guarded, name: &str, host: &str, normal_path: &str, verdict: Verdict) -> String {
    let service = guarded.lab.service(if host == LEDGER_HOST { "bank/ledger" } else { "shop/orders" });
    let (level, explicit) = match verdict {
        Denied(level) => (level, true),
        NotAllowed(level) => (level, false),
        Passes => panic!("nothing is said"),
    };
    let based = format!("{}-based policy", level.to_lowercase());
    let why = if explicit {
        format!("with an explicit deny in a {based}")
    } else {
        format!("because no {based} allows the vpc-lattice-svcs:Invoke action")
    };
    format!(
        "AccessDeniedException: User: {} is not authorized to perform: vpc-lattice-svcs:Invoke on resource: {}{normal_path} {why}",
        principal(name),
        service.arn
    )
}

fn normal(path: &str) -> &str {
    match path {
        "/public/../secret" | "/public/%2e%2e/secret" => "/secret",
        "//public/a" | "/secret/%2e%2e/public/a" => "/public/a",
        "/public/../reports/1" => "/reports/1",
        path => path,
    }
}

/// A denied caller learns nothing about our internals.
fn says_no_internals(text: &str) {
    for internal in [".yaml", "accounts/", "brattice", "nodelete", "nodebug", "finance", "100.127."] {
        assert!(!text.to_lowercase().contains(internal), "{internal} in {text}");
    }
}

#[test]
fn every_pair_is_allowed_or_denied_as_the_policies_say() {
    let guarded = Guarded::start();
    let mut passed = 0;
    let mut ids = Vec::new();
    for row @ (name, host, method, path, more, verdict) in CALLS {
        let answer = guarded.call(caller(&guarded, name), host, method, path, more);
        let id = answer.header("x-amzn-requestid").unwrap_or_else(|| panic!("{row:?}: no request id")).to_owned();
        if *verdict == Passes {
            assert_eq!(answer.status, 200, "{row:?}: {}", answer.text());
            assert_eq!(answer.server(), if *host == LEDGER_HOST { "ledger" } else { "orders" }, "{row:?}");
            passed += 1;
        } else {
            assert_eq!(answer.status, 403, "{row:?}: {}", answer.text());
            assert_eq!(answer.header("content-type").map(|value| value.starts_with("text/plain")), Some(true));
            let text = answer.text();
            assert!(text.starts_with(&wording(&guarded, name, host, normal(path), *verdict)), "{row:?}: {text}");
            assert!(text.contains(&id), "{row:?}: the request id is in {text}");
            says_no_internals(&text);
        }
        ids.push(id);
    }
    assert_eq!(
        guarded.orders.counters.requests() + guarded.ledger.counters.requests(),
        passed,
        "what is denied does not reach a target"
    );
    for (row @ (name, .., verdict), id) in CALLS.iter().zip(&ids) {
        let line = guarded.lab.record(id);
        let reason = match verdict {
            Passes => "-",
            Denied(level) | NotAllowed(level) => level,
        };
        assert_eq!(line["authDeniedReason"], reason, "{row:?}: {line}");
        assert_eq!(
            line["failureReason"],
            if *verdict == Passes { "-" } else { "ClientAccessDenied" },
            "{row:?}: {line}"
        );
        if *name == "visitor" {
            assert_eq!(line["resolvedUser"], "Anonymous", "{row:?}: {line}");
        } else {
            assert_eq!(line["resolvedUser"], Value::from(principal(name)), "{row:?}: {line}");
            assert_eq!(line["callerPrincipal"], Value::from(principal(name)), "{row:?}: {line}");
        }
        let tags = match *name {
            "web" => r#"{"team":"front"}"#,
            "batch" | "teller" => r#"{"team":"finance"}"#,
            _ => "-",
        };
        assert_eq!(line["callerPrincipalTags"], tags, "{row:?}: {line}");
        if let Denied(level) = verdict {
            let sid = if *level == "Network" { "#nodelete" } else { "#nodebug" };
            let decision = line["decisionId"].as_str().unwrap_or_default();
            assert!(decision.contains(".yaml:") && decision.ends_with(sid), "{row:?}: the statement's place: {line}");
        }
    }
}

#[test]
fn http2_is_decided_request_by_request() {
    let guarded = Guarded::start();
    // All rows of a caller and a service on one connection: a decision must not stick to it.
    let mut by_connection: Vec<(&str, &str, Http2)> = Vec::new();
    for row @ (name, host, method, path, more, verdict) in CALLS {
        // This client normalises no path, but refuses to send what is none.
        let known = by_connection.iter().position(|(own, its_host, _)| own == name && its_host == host);
        let place = known.unwrap_or_else(|| {
            let stream = caller(&guarded, name).connect(guarded.vip(host)).unwrap();
            by_connection.push((name, host, Http2::new(stream).unwrap().with_host(host)));
            by_connection.len() - 1
        });
        let headers: &[(&str, &str)] = if more.is_empty() { &[] } else { &[("x-debug", "1")] };
        let answer = by_connection[place].2.request(method, path, headers, b"").unwrap();
        let expected = if *verdict == Passes { 200 } else { 403 };
        assert_eq!(answer.status, expected, "{row:?}: {}", answer.text());
        if *verdict != Passes && *method != "HEAD" {
            assert!(answer.text().starts_with(&wording(&guarded, name, host, normal(path), *verdict)), "{row:?}");
        }
    }
}

#[test]
fn grpc_is_told_permission_denied() {
    let guarded = Guarded::start();
    let call = |from: &Workload, path: &str| {
        let stream = from.connect(guarded.vip(ORDERS_HOST)).unwrap();
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        Http2::new(stream).unwrap().request("POST", path, &headers, b"\0\0\0\0\0").unwrap()
    };
    let refused = call(&guarded.batch, "/shop.Orders/Cancel");
    // Trailers-Only: the status is in the only header block.
    assert_eq!((refused.status, refused.header("grpc-status")), (200, Some("7")), "{refused:?}");
    assert!(refused.header("content-type").is_some_and(|value| value.starts_with("application/grpc")), "{refused:?}");
    let message = refused.header("grpc-message").unwrap_or_default();
    assert!(message.contains("is not authorized to perform"), "{refused:?}");
    says_no_internals(message);
    assert!(refused.header("x-amzn-requestid").is_some());
    assert_eq!((refused.body.len(), refused.trailers.len()), (0, 0), "{refused:?}");
    let passed = call(&guarded.web, "/shop.Orders/Cancel");
    assert_eq!((passed.status, passed.header("grpc-status"), passed.server()), (200, None, "orders"), "{passed:?}");
    assert_eq!(guarded.orders.counters.requests(), 1);
}

#[test]
fn without_a_policy_all_requests_are_denied_and_with_auth_type_none_all_pass() {
    let guarded = Guarded::start();
    let policy = ORDERS.find("---\nkind: AuthPolicy").unwrap();
    let status = |from: &Workload| guarded.call(from, ORDERS_HOST, "GET", "/public/a", "").status;
    assert_eq!((status(&guarded.web), status(&guarded.visitor)), (200, 200));
    guarded.lab.apply("accounts/shop/orders.yaml", &ORDERS.replace("authType: AWS_IAM", "authType: NONE"));
    let debugging = guarded.call(&guarded.web, ORDERS_HOST, "GET", "/", "x-debug: 1\r\n");
    assert_eq!(debugging.status, 200, "a policy is inactive with NONE: {}", debugging.text());
    let refused = guarded.call(&guarded.visitor, ORDERS_HOST, "GET", "/", "");
    assert_eq!(refused.status, 403, "the network's policy is in force all the same: {}", refused.text());
    guarded.lab.apply("accounts/shop/orders.yaml", &ORDERS[..policy]);
    assert_eq!((status(&guarded.web), status(&guarded.visitor)), (403, 403), "AWS_IAM without a policy");
    guarded.lab.apply("accounts/shop/orders.yaml", &ORDERS[..policy].replace("authType: AWS_IAM", "authType: NONE"));
    assert_eq!((status(&guarded.web), status(&guarded.visitor)), (200, 200), "NONE without a policy");
}

#[test]
fn an_audited_policy_records_what_it_would_refuse() {
    let guarded = Guarded::start();
    let audited = ORDERS.replace("  resourceIdentifier: orders\n", "  resourceIdentifier: orders\n  mode: audit\n");
    assert_ne!(audited, ORDERS);
    let answer = guarded.call(&guarded.teller, ORDERS_HOST, "GET", "/", "");
    assert_eq!(answer.status, 403, "enforced");
    guarded.lab.apply("accounts/shop/orders.yaml", &audited);
    let answer = guarded.call(&guarded.teller, ORDERS_HOST, "GET", "/", "");
    assert_eq!(answer.status, 200, "audited: {}", answer.text());
    let line = guarded.lab.record(answer.header("x-amzn-requestid").unwrap());
    assert!(
        line["decisionId"].as_str().is_some_and(|id| id.contains("default-deny:service:shop/orders")),
        "what it would have refused is recorded: {line}"
    );
    assert_eq!(line["authDeniedReason"], "-", "{line}");
}

#[test]
fn denials_are_logged_though_others_are_sampled() {
    let sampled =
        AgentOptions { more: vec!["--access-log-sample".into(), "1000000".into()], ..AgentOptions::recording() };
    let guarded = Guarded::start_with(&sampled);
    for _ in 0..20 {
        assert_eq!(guarded.call(&guarded.web, ORDERS_HOST, "GET", "/", "").status, 200);
        let denied = guarded.call(&guarded.teller, ORDERS_HOST, "GET", "/", "");
        let line = guarded.lab.record(denied.header("x-amzn-requestid").unwrap());
        assert_eq!(line["authDeniedReason"], "Service", "{line}");
    }
    let served = guarded.lab.records().iter().filter(|line| line["responseCode"] == 200).count();
    assert!(served <= 2, "one a worker at most, not {served}");
}

#[test]
fn bypass_of_a_service_with_policies_is_refused() {
    let guarded = Guarded::start();
    let through = |from: &Workload, path: &str| {
        let vip = guarded.vip(ORDERS_HOST);
        from.http(vip).and_then(|mut open| open.get(path, "")).map(|answer| answer.status)
    };
    assert_eq!(through(&guarded.web, "/").unwrap(), 200);
    let done = guarded.lab.brattice(&["bypass", "--service", "shop/orders"]);
    assert!(done.ok() || done.text().contains("AWS_IAM"), "{}", done.text());
    if done.ok() {
        for from in [&guarded.web, &guarded.visitor] {
            let result = through(from, "/");
            assert!(result.is_err(), "relayed past its policy: {result:?}");
        }
        assert_eq!(guarded.orders.counters.requests(), 1, "nothing reached the target");
        assert!(guarded.lab.brattice(&["bypass", "--service", "shop/orders", "--off"]).ok());
        assert_eq!(through(&guarded.web, "/").unwrap(), 200, "off again");
    }
    // The same service without policies is relayed.
    let policy = ORDERS.find("---\nkind: AuthPolicy").unwrap();
    let open = ORDERS[..policy].replace("authType: AWS_IAM", "authType: NONE");
    guarded.lab.apply("accounts/shop/orders.yaml", &open);
    let network =
        brattice_tests::lab::RETAIL.split("---").next().unwrap().replace("authType: AWS_IAM", "authType: NONE");
    guarded.lab.apply("accounts/platform/network.yaml", &network);
    assert!(guarded.lab.brattice(&["bypass", "--service", "shop/orders"]).ok());
    eventually("relayed", brattice_tests::lab::SETTLE, || through(&guarded.visitor, "/").map_err(|e| e.to_string()));
    let seen = guarded.visitor.http(guarded.vip(ORDERS_HOST)).unwrap().get("/", "").unwrap();
    assert!(seen.header("x-amzn-requestid").is_none(), "{seen:?}");
}
