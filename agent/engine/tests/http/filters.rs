//! What rules change on the way, and what they answer themselves.

use brattice_wire::{
    engine::Limits,
    snapshot::{
        Action, Filters, FixedResponse, HeaderEdits, Match, PathMatchKind, PathRewrite, ProtocolVersion, Redirect,
        Rewrite, Rule, ValueMatch,
    },
};
use http::{HeaderMap, Method, StatusCode};

use crate::support::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderEdits {
    HeaderEdits { set: pairs(set), add: pairs(add), remove: remove.iter().map(|name| (*name).into()).collect() }
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().into()).collect()
}

fn rewriting(path: (PathMatchKind, &str), host: Option<&str>, rewrite: Option<PathRewrite>) -> Rule {
    let mut rule = rule(1, Some(path), None, forward(&[(0, 1)]));
    rule.filters.rewrite = Rewrite { host: host.map(Into::into), path: rewrite };
    rule
}

#[tokio::test]
async fn fields_are_removed_then_set_then_added() {
    for (from, to) in ALL {
        let server = Server::start(to, TARGET, |_| async {
            let answer = http::Response::builder()
                .header("x-gone", "1")
                .header("x-set", "theirs")
                .header("x-added", "theirs")
                .header("x-both", "theirs");
            Ok(answer.body(full("ok"))?)
        })
        .await;
        let engine = Engine::start(Limits::default());
        let changes = || {
            edits(
                &[("x-set", "ours"), ("x-both", "set"), ("x-new", "new")],
                &[("x-added", "ours"), ("x-both", "added"), ("x-added", "again")],
                &["x-gone", "x-both", "x-absent"],
            )
        };
        let mut world = engine.world(version(to), &[server.address]);
        let mut changing = rule(1, Some((PathMatchKind::Exact, "/changed")), None, forward(&[(0, 1)]));
        changing.filters = Filters { request_headers: changes(), response_headers: changes(), ..Filters::default() };
        world.services[0].listeners[0].rules = vec![changing];
        world.services[0].listeners[0].default_filters =
            Filters { request_headers: edits(&[("x-default", "1")], &[], &[]), ..Filters::default() };
        engine.apply(world).await;
        let mut client = Client::new(&engine, from).await;
        let fields =
            [("x-gone", "1"), ("x-gone", "2"), ("x-set", "a"), ("x-set", "b"), ("x-added", "a"), ("x-both", "a")];
        let (_, answer, _) = client.ask(Method::GET, "/changed", &fields).await;
        for (headers, what, came) in [(server.last().headers, "request", "a"), (answer, "answer", "theirs")] {
            let what = format!("{what} from {from} to {to}: {headers:?}");
            assert!(!headers.contains_key("x-gone"), "{what}");
            assert_eq!(all(&headers, "x-set"), ["ours"], "{what}");
            assert_eq!(all(&headers, "x-new"), ["new"], "{what}");
            assert_eq!(all(&headers, "x-added"), [came, "ours", "again"], "{what}");
            assert_eq!(all(&headers, "x-both"), ["set", "added"], "{what}");
            assert!(!headers.contains_key("x-default"), "{what}");
        }
        let (_, answer, _) = client.ask(Method::GET, "/", &fields).await;
        let last = server.last().headers;
        assert_eq!(
            (all(&last, "x-default"), all(&last, "x-gone").len(), all(&last, "x-set").len()),
            (vec!["1".into()], 2, 2)
        );
        assert_eq!(all(&answer, "x-gone"), ["1"], "control");
    }
}

#[tokio::test]
async fn a_rule_sees_what_came_and_changes_what_goes() {
    // The condition is on what the client sent, not on what the filter writes.
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    let mut changing = rule(1, None, None, forward(&[(0, 1)]));
    changing.matches.headers = vec![brattice_wire::snapshot::HeaderMatch {
        name: "x-team".into(),
        value: ValueMatch::Exact("red".into()),
        case_sensitive: false,
        invert: false,
    }];
    changing.filters.request_headers = edits(&[("x-team", "blue"), ("x-forwarded-host", "h")], &[], &[]);
    world.services[0].listeners[0].rules = vec![changing];
    engine.apply(world).await;
    let mut client = Client::new(&engine, false).await;
    client.ask(Method::GET, "/", &[("x-team", "red")]).await;
    assert_eq!(all(&server.last().headers, "x-team"), ["blue"]);
    assert_eq!(all(&server.last().headers, "x-forwarded-host"), ["h"]);
    client.ask(Method::GET, "/", &[("x-team", "blue")]).await;
    assert_eq!(all(&server.last().headers, "x-forwarded-host"), [""; 0], "control");
}

#[tokio::test]
async fn hosts_and_paths_are_rewritten() {
    let prefix = |new: &str| Some(PathRewrite::Prefix(new.into()));
    let whole = |new: &str| Some(PathRewrite::Full(new.into()));
    let regex = |pattern: &str, substitution: &str| {
        Some(PathRewrite::Regex { pattern: pattern.into(), substitution: substitution.into() })
    };
    use PathMatchKind::{Exact, Prefix, Regex};
    for (from, to) in ALL {
        let server = Server::echo(to).await;
        let engine = Engine::start(Limits::default());
        let mut client = Client::new(&engine, from).await;
        for (rule, came, went) in [
            (rewriting((Prefix, "/api"), None, prefix("/v2")), "/api/x?q=/api", "/v2/x?q=/api"),
            (rewriting((Prefix, "/api"), None, prefix("/")), "/api/x", "/x"),
            (rewriting((Prefix, "/api"), None, prefix("/")), "/api", "/"),
            (rewriting((Prefix, "/api/"), None, prefix("/v2/")), "/api/x/", "/v2/x/"),
            (rewriting((Prefix, "/api"), None, prefix("/v2")), "/%61pi/y/../x", "/v2/x"),
            (rewriting((Exact, "/old"), None, whole("/new")), "/old?a=b", "/new?a=b"),
            (rewriting((Regex, "/o/([0-9]+)"), None, regex("^/o/([0-9]+)$", "/orders/$1")), "/o/7?x", "/orders/7?x"),
            (rewriting((Prefix, "/"), None, regex("b+", "c")), "/abba", "/aca"),
            (rewriting((Prefix, "/"), None, regex("^/(.*)$", "$1/..")), "/a/b", "/a/"),
            (rewriting((Prefix, "/"), Some("other.example:81"), None), "/same?x=1", "/same?x=1"),
            (rewriting((Prefix, "/"), Some("other.example:81"), whole("/n")), "/same", "/n"),
        ] {
            let host = rule.filters.rewrite.host.clone().unwrap_or_else(|| HOST.into());
            let mut world = engine.world(version(to), &[server.address]);
            world.services[0].listeners[0].rules = vec![rule];
            engine.apply(world).await;
            let (status, _, body) = client.ask(Method::GET, came, &[]).await;
            assert_eq!(status, StatusCode::OK, "{came} from {from} to {to}: {body:?}");
            let last = server.last();
            assert_eq!(last.uri.path_and_query().unwrap(), went, "{came} from {from} to {to}");
            if to {
                assert_eq!(
                    (last.uri.authority().unwrap().as_str(), last.headers.contains_key("host")),
                    (&*host, false)
                );
            } else {
                assert_eq!(all(&last.headers, "host"), [host]);
            }
        }
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_rewritten_is_refused() {
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    let substitution = PathRewrite::Regex { pattern: "x".into(), substitution: "%".into() };
    world.services[0].listeners[0].rules = vec![rewriting((PathMatchKind::Prefix, "/"), None, Some(substitution))];
    engine.apply(world).await;
    for http2 in [false, true] {
        let mut client = Client::new(&engine, http2).await;
        let before = engine.stats().refused_requests;
        assert_eq!(client.ask(Method::GET, "/x1", &[]).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(engine.stats().refused_requests, before + 1);
        assert_eq!(client.ask(Method::GET, "/y", &[]).await.0, StatusCode::OK, "control");
    }
    assert_eq!(server.seen(), 2);
}

#[tokio::test]
async fn fixed_responses_have_status_fields_and_body() {
    let engine = Engine::start(Limits::default());
    let answer = |status, content_type: Option<&str>, body: &str| {
        Action::FixedResponse(FixedResponse { status, content_type: content_type.map(Into::into), body: body.into() })
    };
    let mut world = engine.world(ProtocolVersion::Http1, &[]);
    let listener = &mut world.services[0].listeners[0];
    let exact = |path, action| rule(1, Some((PathMatchKind::Exact, path)), None, action);
    listener.rules = vec![
        exact("/text", answer(418, Some("text/plain"), "short and stout\n")),
        exact("/empty", answer(404, None, "")),
        exact("/none", answer(204, None, "never sent")),
        exact("/same", answer(304, None, "never sent")),
    ];
    for (rule, n) in listener.rules.iter_mut().zip(1..) {
        rule.priority = n;
    }
    listener.rules[0].filters.response_headers =
        edits(&[("cache-control", "no-store"), ("content-type", "text/html")], &[("x-a", "1"), ("x-a", "2")], &[]);
    listener.rules[1].filters.request_headers = edits(&[("x-never", "seen")], &[], &[]);
    engine.apply(world).await;
    for http2 in [false, true] {
        let mut client = Client::new(&engine, http2).await;
        for method in [Method::GET, Method::POST, Method::HEAD] {
            let (status, headers, body) = client.ask(method.clone(), "/text", &[]).await;
            assert_eq!(status.as_u16(), 418);
            assert_eq!(body, if method == Method::HEAD { "" } else { "short and stout\n" });
            assert_eq!(all(&headers, "content-length"), ["16"], "{method} HTTP/2: {http2}");
            assert_eq!(all(&headers, "content-type"), ["text/html"], "the filter comes last");
            assert_eq!(all(&headers, "cache-control"), ["no-store"]);
            assert_eq!(all(&headers, "x-a"), ["1", "2"]);
            assert_eq!(headers["x-amzn-requestid"].len(), 36);
            let (status, headers, body) = client.ask(method, "/empty", &[]).await;
            assert_eq!((status, body.len()), (StatusCode::NOT_FOUND, 0));
            assert!(!headers.contains_key("content-type") && !headers.contains_key("x-never"));
        }
        for (path, code) in [("/none", 204), ("/same", 304)] {
            for _ in 0..2 {
                let (status, headers, body) = client.ask(Method::GET, path, &[]).await;
                assert_eq!((status.as_u16(), body.len()), (code, 0));
                assert!(!headers.contains_key("content-length"), "{code}: {headers:?}");
            }
        }
    }
    // The unread rest of the request body does not block the next request.
    let both = format!(
        "POST /text HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5\r\n\r\nhelloGET /empty HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"
    );
    let answers = String::from_utf8(engine.raw(both.as_bytes()).await).unwrap();
    assert!(answers.contains("HTTP/1.1 418 ") && answers.contains("HTTP/1.1 404 "), "{answers}");
}

#[tokio::test]
async fn redirects_say_where() {
    let engine = Engine::start(Limits::default());
    let redirect = |status, scheme: Option<&str>, host: Option<&str>, port, path| Redirect {
        scheme: scheme.map(Into::into),
        host: host.map(Into::into),
        port,
        path,
        status,
    };
    let own = engine.port;
    for (to, came, location) in [
        (redirect(301, Some("https"), None, None, None), "/a?b=c", format!("https://{HOST}/a?b=c")),
        (redirect(302, None, Some("other.example"), None, None), "/a", format!("http://other.example:{own}/a")),
        (redirect(303, None, None, Some(80), None), "/a", format!("http://{HOST}/a")),
        (redirect(307, Some("https"), None, Some(8443), None), "/a", format!("https://{HOST}:8443/a")),
        (
            redirect(308, None, None, None, Some(PathRewrite::Prefix("/new".into()))),
            "/old/x?q",
            format!("http://{HOST}:{own}/new/x?q"),
        ),
        (
            redirect(302, None, None, None, Some(PathRewrite::Full("/n".into()))),
            "/old/%2e%2e/old?q=1",
            format!("http://{HOST}:{own}/n?q=1"),
        ),
    ] {
        let status = to.status;
        let mut world = engine.world(ProtocolVersion::Http1, &[]);
        let path = if came.starts_with("/old") { "/old" } else { "/a" };
        let mut sending = rule(1, Some((PathMatchKind::Prefix, path)), None, Action::Redirect(to));
        sending.filters.response_headers = edits(&[("x-why", "moved")], &[], &[]);
        world.services[0].listeners[0].rules = vec![sending];
        world.services[0].listeners[0].default_action = fixed(404);
        engine.apply(world).await;
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            for method in [Method::GET, Method::HEAD, Method::POST] {
                let (found, headers, body) = client.ask(method, came, &[]).await;
                assert_eq!((found.as_u16(), body.len()), (status, 0), "{came}");
                assert_eq!(all(&headers, "location"), std::slice::from_ref(&location), "{came}");
                assert_eq!(all(&headers, "x-why"), ["moved"]);
            }
            assert_eq!(client.ask(Method::GET, "/b", &[]).await.0, StatusCode::NOT_FOUND, "control");
        }
    }
    // What a client writes into its query stays in the query.
    let mut world = engine.world(ProtocolVersion::Http1, &[]);
    world.services[0].listeners[0].default_action = Action::Redirect(redirect(301, Some("https"), None, None, None));
    engine.apply(world).await;
    let (_, headers, _) = engine.get("/a?x=%0d%0aset-cookie:y&z=/../").await;
    let location = all(&headers, "location").remove(0);
    assert_eq!(location, format!("https://{HOST}/a?x=%0d%0aset-cookie:y&z=/../"));
    assert!(!headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn a_redirect_that_would_be_too_long_is_told_as_what_it_is() {
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[]);
    let (scheme, host) = (Some("https".into()), Some(format!("{}.example", "h".repeat(60))));
    let to = Redirect { scheme, host, port: None, path: None, status: 301 };
    world.services[0].listeners[0].default_action = Action::Redirect(to);
    engine.apply(world).await;
    for (length, status) in [(15_000, 301), (16_330, 400)] {
        let (found, _, body) = engine.get(&format!("/a?{}", "q".repeat(length))).await;
        let body = String::from_utf8_lossy(&body);
        assert_eq!(found.as_u16(), status, "{length}: {body}");
        assert_eq!(body.contains("the location of the service's redirect would be too long"), status == 400, "{body}");
    }
}

#[tokio::test]
async fn filters_that_would_speak_for_us_are_refused() {
    let engine = Engine::start(Limits::default());
    let good = engine.world(ProtocolVersion::Http1, &[]);
    let with = |name: &str, value: &str| {
        let mut world = good.clone();
        world.revision = 2;
        let mut changing = rule(1, None, None, fixed(210));
        changing.matches = Match::default();
        changing.filters.request_headers = edits(&[(name, value)], &[], &[]);
        world.services[0].listeners[0].rules = vec![changing];
        world
    };
    engine.apply(good.clone()).await;
    for name in [
        "x-amzn-lattice-identity",
        "x_amzn_lattice_identity",
        "x-brattice-a",
        "x-amzn-source-vpc",
        "x-amzn-requestid",
        "x-forwarded-for",
        "x-forwarded-proto",
        "host",
        "content-length",
        "content_length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "http2-settings",
        "proxy-authorization",
    ] {
        let error = engine.shared.apply(with(name, "1")).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("rule-1"), "{error}");
    }
    assert!(engine.shared.apply(with("x-a b", "1")).is_err());
    assert!(engine.shared.apply(with("x-a", "1\r\nx-b: 2")).is_err());
    assert_eq!(engine.stats().revision, 1);
    engine.apply(with("x-forwarded-host", "1")).await;
    assert_eq!(engine.get("/").await.0.as_u16(), 210, "control");
}
