//! Paths: one form, in which they are matched and sent on; what has none is refused.

use brattice_wire::{
    engine::Limits,
    snapshot::{PathMatchKind, ProtocolVersion},
};
use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt;

use crate::support::*;

/// As it comes, as it goes on.
const NORMAL: &[(&str, &str)] = &[
    ("/", "/"),
    ("/a/b", "/a/b"),
    ("/a/b/", "/a/b/"),
    ("/a/./b", "/a/b"),
    ("/a/x/../b", "/a/b"),
    ("/a/x/..", "/a/"),
    ("/../../a", "/a"),
    ("/%2e%2e/a", "/a"),
    ("/a/%2E/b", "/a/b"),
    ("/a/x/%2e./b", "/a/b"),
    ("//a///b", "/a/b"),
    ("/%61/%62", "/a/b"),
    ("/a%2fb", "/a%2Fb"),
    ("/a%2Fb", "/a%2Fb"),
    ("/a%5cb", "/a%5Cb"),
    ("/%7euser/%2d%5f", "/~user/-_"),
    ("/a%20b%c3%a9", "/a%20b%C3%A9"),
    ("/a;v=1/b,c:d@e!$&'()*+=", "/a;v=1/b,c:d@e!$&'()*+="),
    ("/%253f", "/%253f"),
    ("/...", "/..."),
];

/// Refused.
const NONE: &[&str] = &[
    "/a%00b",
    "/a%0d%0aset-cookie:x",
    "/a%1f",
    "/a%7f",
    "/a%2",
    "/a%",
    "/a%zz",
    "/a\\b",
    "/a/..%2fb",
    "/a/%2e%2e%2fb",
    "/a/x%2f..%2f..%2fb",
    "/a/..%5cb",
    "/a/%2e%5Cb",
];

#[tokio::test]
async fn paths_go_on_as_they_are_matched() {
    for (from, to) in ALL {
        let server = Server::echo(to).await;
        let engine = Engine::start(Limits::default());
        let mut client = Client::new(&engine, from).await;
        for (came, went) in NORMAL {
            // Only the rule for the normal form leads to the target.
            let mut world = engine.world(version(to), &[server.address]);
            world.services[0].listeners[0].default_action = fixed(404);
            world.services[0].listeners[0].rules =
                vec![rule(1, Some((PathMatchKind::Exact, went)), None, forward(&[(0, 1)]))];
            engine.apply(world).await;
            for query in ["", "?", "?a=/../%2e%00//b"] {
                let (status, ..) = client.ask(Method::GET, &format!("{came}{query}"), &[]).await;
                assert_eq!(status, StatusCode::OK, "{came}{query} from {from} to {to}");
                let uri = server.last().uri;
                let seen = uri.path_and_query().unwrap().as_str();
                assert_eq!(seen, format!("{went}{query}"), "{came} from {from} to {to}");
            }
        }
    }
}

#[tokio::test]
async fn paths_of_two_readings_are_refused_and_counted() {
    for (from, to) in ALL {
        let server = Server::echo(to).await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        let mut client = Client::new(&engine, from).await;
        for (n, path) in NONE.iter().enumerate() {
            if path.parse::<http::Uri>().is_err() {
                // Not even a URI: only bytes can say it.
                let answer = engine
                    .raw(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n").as_bytes())
                    .await;
                assert_eq!(status(&answer), 400, "{path}");
            } else {
                let (status, headers, body) = client.ask(Method::GET, path, &[]).await;
                assert_eq!(status, StatusCode::BAD_REQUEST, "{path} from {from} to {to}");
                assert!(headers.contains_key("x-amzn-requestid") && !body.is_empty(), "{path}");
            }
            engine.until(path, |stats| stats.refused_requests > n as u64).await;
        }
        assert_eq!(engine.stats().refused_requests, NONE.len() as u64);
        assert_eq!(server.seen(), 0, "none reaches the target");
        assert_eq!(client.ask(Method::GET, "/a/b", &[]).await.0, StatusCode::OK, "the connection serves on");
    }
}

#[tokio::test]
async fn a_rule_for_a_place_cannot_be_walked_around() {
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    world.services[0].listeners[0].rules = vec![rule(1, Some((PathMatchKind::Prefix, "/admin")), None, fixed(403))];
    engine.apply(world).await;
    for path in [
        "/admin",
        "/admin/x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/x/%2e%2e/admin",
        "/admin/../admin/",
        "/x/..//admin",
        "/%2e/admin",
        "/../admin",
    ] {
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            assert_eq!(client.ask(Method::GET, path, &[]).await.0, StatusCode::FORBIDDEN, "{path}");
        }
    }
    assert_eq!(server.seen(), 0);
    for path in ["/admins", "/x/admin", "/admin/../x", "/ADMIN", "/%2Fadmin"] {
        assert_eq!(engine.get(path).await.0, StatusCode::OK, "control: {path}");
    }
}

#[tokio::test]
async fn a_star_passes_as_it_is() {
    for to in [false, true] {
        let server = Server::echo(to).await;
        let engine = Engine::serving(Limits::default(), version(to), &[server.address]).await;
        let mut client = engine.connect(CALLER).await;
        client.write_all(format!("OPTIONS * HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        assert!(read_until(&mut client, "OPTIONS").await.starts_with("HTTP/1.1 200 "));
        assert_eq!(server.last().uri.path(), "*");
    }
}
