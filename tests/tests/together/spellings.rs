//! What only Brattice may say, in every spelling, seen by a server that takes `-` and `_` for the same.

use brattice_tests::{
    client::{Connection, Http2},
    lab::{Guarded, ORDERS, ORDERS_HOST, Workload},
    server::WsgiServer,
};
use serde_json::{Map, Value};

/// Names of header fields that must not get through.
const SPELLINGS: &str = include_str!("../../../agent/engine/tests/http/spellings.txt");
/// What no variable of the target's environment may hold.
const FORGED: &str = "forged-by-the-caller";

fn spellings() -> impl Iterator<Item = &'static str> {
    SPELLINGS.lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
}

/// `shop/orders` served by a WSGI server beside the usual one.
fn with_wsgi() -> (Guarded, WsgiServer) {
    let guarded = Guarded::start();
    let wsgi = WsgiServer::start(&guarded.clerk.namespace, 8090);
    guarded.lab.apply("accounts/shop/orders.yaml", &ORDERS.replace("port: 8080", "port: 8090"));
    (guarded, wsgi)
}

fn environment(body: &[u8]) -> Map<String, Value> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => map,
        other => panic!("no environment: {other:?} in {}", String::from_utf8_lossy(body)),
    }
}

/// Variables that hold what was forged.
fn forged(environment: &Map<String, Value>) -> Vec<&String> {
    environment
        .iter()
        .filter(|(_, value)| value.as_str().is_some_and(|text| text.contains(FORGED)))
        .map(|(k, _)| k)
        .collect()
}

#[test]
fn no_spelling_gets_through_to_a_server_that_folds_them() {
    assert!(spellings().count() >= 30, "{} spellings", spellings().count());
    let (guarded, _wsgi) = with_wsgi();
    let mut open = guarded.open(&guarded.web, ORDERS_HOST);
    // A neighbour calls the same server past Brattice: what it sees then is what the spelling would do.
    let past = |name: &str| {
        let mut direct = Connection::new(guarded.teller.connect("10.0.0.10:8090".parse().unwrap()).unwrap());
        let answer = direct.get("/", &format!("{name}: {FORGED}\r\nconnection: close\r\n")).unwrap();
        environment(&answer.body)
    };
    for name in spellings() {
        assert_eq!(forged(&past(name)).len(), 1, "{name}: without Brattice it gets through");
        for line in [format!("{name}: {FORGED}\r\n"), format!("{name}:{FORGED}\r\n{name}: {FORGED}\r\n")] {
            let answer = open.get("/", &line).unwrap();
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            let seen = environment(&answer.body);
            assert!(forged(&seen).is_empty(), "{name} got through as {:?}", forged(&seen));
            says_who_calls(&seen, &guarded.web);
        }
    }
    let kept = environment(&open.get("/", &format!("x-amzn: {FORGED}\r\nx-lattice: {FORGED}\r\n")).unwrap().body);
    assert_eq!(forged(&kept), ["HTTP_X_AMZN", "HTTP_X_LATTICE"], "what is nobody's stays");
}

/// Ours are there, once, with what is true.
fn says_who_calls(seen: &Map<String, Value>, caller: &Workload) {
    let text = |name: &str| seen.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name} in {seen:?}"));
    let identity = text("HTTP_X_AMZN_LATTICE_IDENTITY");
    let parts: Vec<&str> = identity.split(';').map(str::trim).collect();
    for part in [
        "Principal=arn:aws:sts::222222222222:assumed-role/web/web",
        "PrincipalOrgID=o-corp",
        "SessionName=web",
        "Type=AWS_IAM",
    ] {
        assert!(parts.contains(&part), "{part} in {identity}");
    }
    assert!(text("HTTP_X_AMZN_LATTICE_IDENTITY_TAGS").split(';').any(|part| part.trim() == "team=front"), "{seen:?}");
    assert!(text("HTTP_X_AMZN_LATTICE_NETWORK").starts_with("SourceVpcArn=arn:aws:ec2:"), "{seen:?}");
    let target = text("HTTP_X_AMZN_LATTICE_TARGET");
    for part in ["ServiceArn=arn:aws:vpc-lattice:", "ServiceNetworkArn=arn:aws:vpc-lattice:", "TargetGroupArn=arn:"] {
        assert!(target.contains(part), "{part} in {target}");
    }
    assert_eq!(text("HTTP_X_FORWARDED_FOR"), caller.address.to_string());
    assert!(!text("HTTP_X_AMZN_REQUESTID").contains(','), "{seen:?}");
}

#[test]
fn no_spelling_gets_through_over_http2() {
    let (guarded, _wsgi) = with_wsgi();
    let mut open = Http2::new(guarded.web.connect(guarded.vip(ORDERS_HOST)).unwrap()).unwrap();
    for name in spellings().map(str::to_ascii_lowercase) {
        let answer = open.get("/", &[(&name, FORGED)]).unwrap();
        let seen = environment(&answer.body);
        assert!(forged(&seen).is_empty(), "{name} got through as {:?}", forged(&seen));
        says_who_calls(&seen, &guarded.web);
    }
    let kept = environment(&open.get("/", &[("x-amzn", FORGED)]).unwrap().body);
    assert_eq!(forged(&kept), ["HTTP_X_AMZN"], "what is nobody's stays");
}

#[test]
fn a_target_says_none_of_it_either() {
    let (guarded, _wsgi) = with_wsgi();
    let mut open = guarded.open(&guarded.web, ORDERS_HOST);
    let ours = ["x-amzn-lattice-identity", "X-Amzn-Lattice-Target", "x_amzn_lattice_network", "X-Brattice-Workload"];
    for name in ours {
        let answer = open.get(&format!("/?{name}={FORGED}&x-harmless=stays"), "").unwrap();
        assert_eq!(answer.header("x-harmless"), Some("stays"), "{answer:?}");
        let found: Vec<_> = answer.headers.iter().filter(|(_, value)| value.contains(FORGED)).collect();
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn whoever_has_no_role_is_said_to_have_none() {
    let (guarded, _wsgi) = with_wsgi();
    let answer = guarded.call(
        &guarded.visitor,
        ORDERS_HOST,
        "GET",
        "/public/a",
        &format!("x-amzn-lattice-identity: {FORGED}\r\n"),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = environment(&answer.body);
    assert!(forged(&seen).is_empty(), "{seen:?}");
    let identity = seen.get("HTTP_X_AMZN_LATTICE_IDENTITY").and_then(Value::as_str).unwrap_or_default();
    assert!(!identity.contains("Principal=arn:aws:sts") && !identity.contains("Type=AWS_IAM"), "{identity}");
    assert!(seen["HTTP_X_AMZN_LATTICE_NETWORK"].as_str().unwrap().contains("SourceVpcArn="), "{seen:?}");
}
