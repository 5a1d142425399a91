//! Every match of a rule, live, in both versions of HTTP from the client. The router's own tests have the corner cases;
//! here it is asked about real requests.

use brattice_wire::{
    engine::Limits,
    index::VpcIndex,
    snapshot::{
        GrpcMatch, HeaderMatch, HostMatch, HostMatchKind, Match, PathMatch, PathMatchKind, Precedence, ProtocolVersion,
        QueryMatch, ValueMatch,
    },
};
use http::{Method, StatusCode};
use http_body_util::BodyExt;

use crate::support::*;

/// A host below the service's own domain, by which it is called, too.
const BELOW: &str = "a.below.example";

fn header(name: &str, value: ValueMatch, case_sensitive: bool, invert: bool) -> Match {
    Match { headers: vec![HeaderMatch { name: name.into(), value, case_sensitive, invert }], ..Match::default() }
}

fn query(name: &str, value: ValueMatch) -> Match {
    Match { query: vec![QueryMatch { name: name.into(), value }], ..Match::default() }
}

fn path(kind: PathMatchKind, value: &str, case_sensitive: bool) -> Match {
    Match { path: Some(PathMatch { kind, value: value.into(), case_sensitive }), ..Match::default() }
}

fn host(kind: HostMatchKind, value: &str) -> Match {
    Match { host: Some(HostMatch { kind, value: value.into() }), ..Match::default() }
}

fn grpc(service: Option<&str>, method: Option<&str>) -> Match {
    let grpc = GrpcMatch { service: service.map(Into::into), method: method.map(Into::into) };
    Match { grpc: Some(grpc), ..Match::default() }
}

/// Who calls what.
struct Ask<'a> {
    from: std::net::Ipv4Addr,
    host: &'a str,
    method: Method,
    path: &'a str,
    fields: &'a [(&'a str, &'a str)],
}

fn ask<'a>(path: &'a str, fields: &'a [(&'a str, &'a str)]) -> Ask<'a> {
    Ask { from: CALLER, host: HOST, method: Method::GET, path, fields }
}

#[tokio::test]
async fn every_match_is_live() {
    let text = |text: &str| text.to_owned();
    let port = |port| Match { port: Some(port), ..Match::default() };
    let vpcs = |vpcs: &[usize]| Match {
        source_vpcs: Some(vpcs.iter().copied().map(VpcIndex::new).collect()),
        ..Match::default()
    };
    let method = |method: &str| Match { method: Some(method.into()), ..Match::default() };
    let post = |path| Ask { method: Method::POST, ..ask(path, &[("content-type", "application/grpc+proto")]) };
    // A match, requests that meet it, requests that do not.
    let rows: Vec<(Match, Vec<Ask<'_>>, Vec<Ask<'_>>)> = vec![
        (
            header("x-team", ValueMatch::Exact(text("red")), false, false),
            vec![ask("/", &[("x-team", "red")]), ask("/", &[("X-Team", "RED")])],
            vec![ask("/", &[]), ask("/", &[("x-team", "reds")]), ask("/", &[("x-team", "red"), ("x-team", "red")])],
        ),
        (
            header("x-team", ValueMatch::Exact(text("red, blue")), false, false),
            vec![ask("/", &[("x-team", "red"), ("x-team", "blue")]), ask("/", &[("x-team", "red, blue")])],
            vec![ask("/", &[("x-team", "blue"), ("x-team", "red")])],
        ),
        (
            header("x-team", ValueMatch::Exact(text("Red")), true, false),
            vec![ask("/", &[("x-team", "Red")])],
            vec![ask("/", &[("x-team", "red")])],
        ),
        (
            header("x-team", ValueMatch::Prefix(text("re")), false, false),
            vec![ask("/", &[("x-team", "red")])],
            vec![ask("/", &[("x-team", "ared")])],
        ),
        (
            header("x-team", ValueMatch::Suffix(text("ed")), false, false),
            vec![ask("/", &[("x-team", "red")])],
            vec![ask("/", &[("x-team", "redo")])],
        ),
        (
            header("x-team", ValueMatch::Contains(text("e")), false, false),
            vec![ask("/", &[("x-team", "red")])],
            vec![ask("/", &[("x-team", "rd")])],
        ),
        (
            header("x-team", ValueMatch::Regex(text("r.d|b+")), false, false),
            vec![ask("/", &[("x-team", "rod")]), ask("/", &[("x-team", "bbb")])],
            vec![ask("/", &[("x-team", "rodd")])],
        ),
        (
            header("x-size", ValueMatch::Range { start: 5, end: 10 }, false, false),
            vec![ask("/", &[("x-size", "5")]), ask("/", &[("x-size", "9")])],
            vec![ask("/", &[("x-size", "10")]), ask("/", &[("x-size", "many")])],
        ),
        (
            header("x-team", ValueMatch::Present, false, false),
            vec![ask("/", &[("x-team", "")])],
            vec![ask("/", &[("x-teams", "red")])],
        ),
        (
            header("x-team", ValueMatch::Exact(text("red")), false, true),
            vec![ask("/", &[]), ask("/", &[("x-team", "blue")])],
            vec![ask("/", &[("x-team", "red")])],
        ),
        (
            query("v", ValueMatch::Exact(text("a b"))),
            vec![ask("/?v=a%20b", &[]), ask("/?x=1&v=a+b&v=c", &[])],
            vec![ask("/?v=a", &[]), ask("/", &[]), ask("/?V=a%20b", &[])],
        ),
        (
            query("v", ValueMatch::Present),
            vec![ask("/?v", &[]), ask("/?v=", &[])],
            vec![ask("/?w=v", &[]), ask("/?", &[])],
        ),
        (query("v", ValueMatch::Regex(text("[0-9]+"))), vec![ask("/?v=42", &[])], vec![ask("/?v=42x", &[])]),
        (
            path(PathMatchKind::Regex, "/o/[0-9]+", true),
            vec![ask("/o/12", &[]), ask("/o/12?x", &[])],
            vec![ask("/o/12/", &[]), ask("/o/x", &[])],
        ),
        (path(PathMatchKind::Prefix, "/A", false), vec![ask("/a/b", &[]), ask("/A", &[])], vec![ask("/ab", &[])]),
        (path(PathMatchKind::StringPrefix, "/a", true), vec![ask("/ab", &[]), ask("/a/b", &[])], vec![ask("/Ab", &[])]),
        (
            method("QUERY"),
            vec![Ask { method: Method::from_bytes(b"QUERY").unwrap(), ..ask("/", &[]) }],
            vec![Ask { method: Method::from_bytes(b"query").unwrap(), ..ask("/", &[]) }],
        ),
        (
            host(HostMatchKind::Exact, BELOW),
            vec![Ask { host: BELOW, ..ask("/", &[]) }, Ask { host: "A.Below.EXAMPLE", ..ask("/", &[]) }],
            vec![ask("/", &[])],
        ),
        (host(HostMatchKind::Suffix, "below.example"), vec![Ask { host: BELOW, ..ask("/", &[]) }], vec![ask("/", &[])]),
        (
            grpc(Some("shop.Orders"), Some("List")),
            vec![post("/shop.Orders/List")],
            vec![
                post("/shop.Orders/Get"),
                ask("/shop.Orders/List", &[("content-type", "application/grpc")]),
                Ask { method: Method::POST, ..ask("/shop.Orders/List", &[("content-type", "text/plain")]) },
            ],
        ),
        (grpc(Some("shop.Orders"), None), vec![post("/shop.Orders/Get")], vec![post("/shop.Other/Get")]),
        (port(0), vec![ask("/", &[])], vec![]),
        (port(1), vec![], vec![ask("/", &[])]),
        (vpcs(&[0]), vec![ask("/", &[])], vec![Ask { from: STRANGER, ..ask("/", &[]) }]),
        (vpcs(&[1]), vec![Ask { from: STRANGER, ..ask("/", &[]) }], vec![ask("/", &[])]),
        (
            Match { method: Some("POST".into()), ..header("x-team", ValueMatch::Present, false, false) },
            vec![Ask { method: Method::POST, ..ask("/", &[("x-team", "1")]) }],
            vec![ask("/", &[("x-team", "1")]), Ask { method: Method::POST, ..ask("/", &[]) }],
        ),
    ];
    let engine = Engine::start(Limits::default());
    for (n, (mut matches, met, missed)) in rows.into_iter().enumerate() {
        // The port is known only now.
        matches.port = matches.port.map(|port| if port == 0 { engine.port } else { port });
        let mut world = engine.world(ProtocolVersion::Http1, &[]);
        world.vpcs[1].services = visible(&[0]);
        world.services[0].domains.push(BELOW.into());
        world.services[0].listeners[0].rules = vec![rule(1, None, None, fixed(210))];
        world.services[0].listeners[0].rules[0].matches = matches.clone();
        world.services[0].listeners[0].default_action = fixed(211);
        engine.apply(world).await;
        let expected = met.iter().map(|ask| (ask, 210)).chain(missed.iter().map(|ask| (ask, 211)));
        for (ask, expected) in expected {
            for http2 in [false, true] {
                let mut client = Client::of(&engine, http2, ask.from).await;
                let mut request = client.request_to(ask.host, ask.method.clone(), ask.path);
                for (name, value) in ask.fields {
                    request = request.header(*name, *value);
                }
                let response = client.send(request.body(full("")).unwrap()).await;
                let what =
                    format!("row {n}, {matches:?}: {} {} {:?}, HTTP/2: {http2}", ask.method, ask.path, ask.fields);
                assert_eq!(response.status().as_u16(), expected, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn rules_see_only_what_passes() {
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    // What a client cannot send on, it cannot be routed by.
    for (name, value) in
        [("x-amzn-lattice-identity", "root"), ("x_brattice_a", "1"), ("x-hop", "1"), ("http2-settings", "1")]
    {
        let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
        world.services[0].listeners[0].rules = vec![rule(1, None, None, fixed(210)), rule(2, None, None, fixed(211))];
        world.services[0].listeners[0].rules[0].matches = header(name, ValueMatch::Present, false, false);
        world.services[0].listeners[0].rules[1].matches = header("x-control", ValueMatch::Present, false, false);
        engine.apply(world).await;
        let head = |field: &str| {
            format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close, x-hop\r\n{field}: {value}\r\n\r\n")
        };
        assert_eq!(status(&engine.raw(head(name).as_bytes()).await), 200, "{name}");
        assert!(!server.last().headers.contains_key(name), "{name}");
        assert_eq!(status(&engine.raw(head("x-control").as_bytes()).await), 211, "control of {name}");
    }
}

#[tokio::test]
async fn the_most_specific_rule_is_taken_where_the_listener_says_so() {
    let engine = Engine::start(Limits::default());
    for (precedence, expected) in [(Precedence::Priority, 210), (Precedence::MostSpecific, 211)] {
        let mut world = engine.world(ProtocolVersion::Http1, &[]);
        let listener = &mut world.services[0].listeners[0];
        listener.precedence = precedence;
        listener.rules = vec![
            rule(1, Some((PathMatchKind::Prefix, "/a")), None, fixed(210)),
            rule(2, Some((PathMatchKind::Prefix, "/a/b")), None, fixed(211)),
        ];
        engine.apply(world).await;
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            assert_eq!(client.ask(Method::GET, "/a/b/c", &[]).await.0.as_u16(), expected);
            assert_eq!(client.ask(Method::GET, "/a/c", &[]).await.0.as_u16(), 210, "control");
        }
    }
}

#[tokio::test]
async fn rules_lead_to_their_target_groups_in_every_version() {
    for (from, to) in ALL {
        let (one, two) = (Server::echo(to).await, Server::echo(!to).await);
        let engine = Engine::start(Limits::default());
        let mut world = engine.world(version(to), &[one.address]);
        world.target_groups.push(group("two", version(!to), &[two.address]));
        world.services[0].listeners[0].rules = vec![rule(1, None, None, forward(&[(1, 1)]))];
        world.services[0].listeners[0].rules[0].matches = header("x-canary", ValueMatch::Present, false, false);
        engine.apply(world).await;
        let mut client = Client::new(&engine, from).await;
        for (fields, server, other) in [(&[("x-canary", "1")][..], &two, &one), (&[], &one, &two)] {
            let before = (server.seen(), other.seen());
            let request = fields
                .iter()
                .fold(client.request(Method::POST, "/p"), |request, (name, value)| request.header(*name, *value));
            let response = client.send(request.body(full("x")).unwrap()).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "POST /p x");
            assert_eq!((server.seen(), other.seen()), (before.0 + 1, before.1));
        }
    }
}

#[tokio::test]
async fn a_snapshot_with_rules_that_cannot_be_is_refused() {
    let engine = Engine::start(Limits::default());
    let good = engine.world(ProtocolVersion::Http1, &[]);
    engine.apply(good.clone()).await;
    let mut broken = good.clone();
    broken.services[0].listeners[0].rules = vec![rule(1, Some((PathMatchKind::Regex, "/(")), None, fixed(210))];
    let error = engine.shared.apply(broken).unwrap_err().to_string();
    assert!(error.contains("svc-orders/listener-1"), "{error}");
    let mut whole = good;
    whole.services[0].listeners[0].rules = vec![rule(1, Some((PathMatchKind::Regex, "/()")), None, fixed(210))];
    engine.apply(whole).await;
    assert_eq!(engine.get("/").await.0.as_u16(), 210, "control");
}
