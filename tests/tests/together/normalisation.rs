//! Paths: what rules see is what targets get, whatever the spelling.

#[path = "../../../agent/router/tests/requests/mod.rs"]
mod requests;

use std::io::{Read, Write};

use brattice_tests::{
    client::HOST,
    lab::{Retail, forward, service},
};

/// As sent, and as rules, policies and targets see it. Those that are refused are in [`REFUSED`].
const PATHS: &[(&str, &str)] = &[
    ("/", "/"),
    ("/a/b", "/a/b"),
    ("/a/b/", "/a/b/"),
    ("/a/./b", "/a/b"),
    ("/a/../b", "/b"),
    ("/a/..", "/"),
    ("/../../a", "/a"),
    ("/./", "/"),
    ("/a/%2e%2e/b", "/b"),
    ("/a/%2E%2e/%2e/b", "/b"),
    ("/a/.%2e/b", "/b"),
    ("//a//b", "/a/b"),
    ("/a//../b", "/b"),
    ("/%61%7E%2D", "/a~-"),
    ("/a%2fb", "/a%2Fb"),
    ("/a%5cb", "/a%5Cb"),
    ("/%c3%a9", "/%C3%A9"),
    ("/a%20b", "/a%20b"),
    ("/a;x=1/b", "/a;x=1/b"),
    ("/.../a", "/.../a"),
    ("/.well-known/a", "/.well-known/a"),
];

/// Refused with 400: two servers on the way might read them differently.
const REFUSED: &[&str] = &[
    "/a%00b",
    "/a%0ab",
    "/a%7f",
    "/a%2f..%2fb",
    "/..%2fa",
    "/%2e%2e%2fa",
    "/a%5c..%5cb",
    "/a%",
    "/a%zz",
    "/a\\b",
    "/a\\..\\b",
];

/// Everything under `/admin` is refused by a rule, the rest goes to version 1.
fn guarded() -> Retail {
    let orders = service(&forward(1, 0)).replace(
        "---\nkind: TargetGroup\nmetadata: {name: orders-v1}",
        "    rules:
    - name: admin
      priority: 10
      match: {httpMatch: {pathMatch: {match: {prefix: /admin}}}}
      action: {fixedResponse: {statusCode: 404}}
---
kind: TargetGroup
metadata: {name: orders-v1}",
    );
    assert!(orders.contains("name: admin"));
    Retail::start_with(&orders)
}

#[test]
fn targets_get_the_path_that_rules_see() {
    let retail = guarded();
    let vip = retail.orders();
    let host = format!("host: {HOST}");
    let mut versions = [("--http1.1", 0), ("--http2-prior-knowledge", 0)];
    for (version, refused) in &mut versions {
        let get = |path: &str| {
            let url = format!("http://{vip}{path}");
            retail.blue.fetch(&["--path-as-is", version, "-H", &host, &url])
        };
        for (sent, normal) in PATHS {
            let (status, body) = get(&format!("{sent}?q=/../%2e%00"));
            assert_eq!(status, 200, "{version} {sent}: {body}");
            let seen: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(seen["path"], *normal, "{version} {sent}");
            assert_eq!(seen["query"], "q=/../%2e%00", "the query is left alone");
        }
        for path in REFUSED {
            let before = retail.v1.counters.requests();
            let (status, body) = get(path);
            assert_eq!(status, 400, "{version} {path}: {body}");
            assert_eq!(retail.v1.counters.requests(), before, "{version} {path} reached the target");
            *refused += 1;
        }
    }
    assert_eq!(versions.map(|(_, refused)| refused), [REFUSED.len(); 2]);
}

#[test]
fn no_spelling_leads_past_a_rule() {
    let retail = guarded();
    let mut open = retail.blue.http(retail.orders()).unwrap();
    assert_eq!(open.get("/admin", "").unwrap().status, 404, "the rule works at all");
    assert_eq!(open.get("/administrator", "").unwrap().status, 200, "and does not take everything");
    for path in [
        "/admin/",
        "/admin/x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/%2e/admin",
        "/%61dmin",
        "/%61%64%6d%69%6e/x",
        "/x//..//admin",
        "/../admin",
        "/admin/../admin",
        "/admin;/../admin/",
        "/admin?x=/y",
    ] {
        assert_eq!(open.get(path, "").unwrap().status, 404, "{path}");
    }
    for path in ["/x%2f..%2fadmin", "/x/..%2fadmin", "/x%5c..%5cadmin", "/admin%00"] {
        let mut fresh = retail.blue.http(retail.orders()).unwrap();
        assert_eq!(fresh.get(path, "").unwrap().status, 400, "{path}");
    }
    // An absolute target is a path like any other.
    let mut fresh = retail.blue.http(retail.orders()).unwrap();
    assert_eq!(fresh.get(&format!("http://{HOST}/x/../admin"), "").unwrap().status, 404);
    assert_eq!(retail.v1.counters.requests(), 1, "only /administrator");
}

#[test]
fn options_star_is_no_path() {
    let retail = guarded();
    let mut open = retail.blue.http(retail.orders()).unwrap();
    let answer = open.request("OPTIONS", "*", "").unwrap();
    assert_eq!((answer.status, answer.server()), (200, "v1"), "{answer:?}");
    assert_eq!(answer.json()["method"], "OPTIONS");
}

#[test]
fn the_page_route_and_traffic_agree() {
    let retail = guarded();
    let (mut served, mut refused) = (0, 0);
    for case in requests::shown() {
        let host = case.host.to_ascii_lowercase().replace(requests::OWN, HOST);
        let target = String::from_utf8(case.target).unwrap();
        let mut stream = retail.blue.connect(retail.orders()).unwrap();
        let request = format!("{} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n", case.method);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let line = ["route", "--from", "platform/blue", "--service", "shop/orders", "--method", case.method];
        let message =
            retail.lab.brattice(&[&line[..], &["--path", &target, "--host", &host, "--output", "json"]].concat());
        let message: serde_json::Value = serde_json::from_str(&message.stdout)
            .unwrap_or_else(|error| panic!("{request:?}: {error}: {}", message.text()));
        match case.path {
            Some(path) => {
                assert!(answer.starts_with("HTTP/1.1 200 "), "{request:?}: {answer}");
                assert_eq!(message["request"]["normalPath"], *path, "{request:?}: {message}");
                assert_eq!(message["outcome"], "allowed", "{request:?}: {message}");
                served += 1;
            }
            None => {
                assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
                let reason = message["reason"].as_str().unwrap();
                assert!(["path-refused", "request-refused"].contains(&reason), "{request:?}: {message}");
                refused += 1;
            }
        }
    }
    assert!(served > 8 && refused > 12, "{served} served, {refused} refused");
}
