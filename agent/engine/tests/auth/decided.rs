//! Rules and policies are asked about what the target receives, whatever the client wrote and whatever was changed on the way:
//! blanks, cookies in parts, respelled and dropped fields, fields of ours, lengths, the host.

use brattice_wire::{
    engine::Limits,
    rules::{HeaderMatch, ValueMatch},
    snapshot::{ForwardedHeaders, Match, Snapshot},
};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use proptest::{
    prelude::*,
    sample::select,
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use serde_json::{Value, json};

use crate::{scene::*, support::*};

/// Requests per pair of versions.
const REQUESTS: usize = 48;
/// It distinguishes what was sent.
const ID: &str = "11111111-1111-4111-8111-111111111111";

/// Fields that callers send, with what may be done to them.
const FIELDS: &[(&str, &[&str])] = &[
    ("x-tenant", &["evil", "Evil", "good, evil", "", "evil ", " evil", "\tevil\t", "e vil"]),
    ("x-team", &["red", "blue"]),
    ("X-Mixed-Case", &["Value", "value"]),
    ("cookie", &["a=1", "a=1; b=2", "session=evil", ""]),
    ("accept", &["*/*", "text/plain"]),
    ("te", &["trailers"]),
    ("x-forwarded-for", &["1.2.3.4", "1.2.3.4, 5.6.7.8", ""]),
    ("x-forwarded-port", &["1"]),
    ("x-forwarded-proto", &["https"]),
    ("x_forwarded_for", &["1.2.3.4"]),
    ("x-amzn-requestid", &["two words", "a-second-one"]),
    ("x-amzn-lattice-identity", &["Principal=root"]),
    ("x-amzn-source-vpc", &["vpc-9"]),
    ("x-brattice-workload", &["w"]),
    ("content_length", &["5"]),
    ("proxy-authorization", &["Basic x"]),
    ("expect", &["something"]),
    ("user-agent", &["curl/8"]),
];
/// Fields that only HTTP/1 has.
const HOPS: &[(&str, &[&str])] = &[
    ("connection", &["x-team", "x-tenant, close, cookie", "keep-alive", "host, content-length, x-forwarded-for"]),
    ("keep-alive", &["timeout=5"]),
    ("te", &["gzip, trailers;q=0.5, Trailers"]),
];
/// Fields written after the decision, which policies cannot see: those that tell the target about caller and route,
/// and those that frame the connection.
const AFTER: &[&str] = &["x-amzn-lattice", "x-amzn-source-vpc", "connection", "transfer-encoding"];

#[derive(Clone, Debug)]
struct Sent {
    method: Method,
    fields: Vec<(&'static str, &'static str)>,
    body: &'static str,
    append: bool,
}

fn field(pool: Vec<(&'static str, &'static [&'static str])>) -> impl Strategy<Value = (&'static str, &'static str)> {
    select(pool).prop_flat_map(|(name, values)| (Just(name), select(values)))
}

fn sent(http2: bool) -> impl Strategy<Value = Sent> {
    let pool = if http2 { FIELDS.to_vec() } else { [FIELDS, HOPS].concat() };
    (
        select(vec![Method::GET, Method::POST, Method::DELETE, Method::PUT]),
        prop::collection::vec(field(pool), 0..8),
        select(vec!["", "hello"]),
        any::<bool>(),
    )
        .prop_map(|(method, fields, body, append)| {
            // hyper's client has a GET of HTTP/1 without a body only.
            let body = if method == Method::GET { "" } else { body };
            Sent { method, fields, body, append }
        })
}

async fn send(client: &mut Client, sent: &Sent) -> StatusCode {
    let mut request = client.request(sent.method.clone(), "/p?q=1");
    for (name, value) in &sent.fields {
        request = request.header(*name, *value);
    }
    if !sent.fields.iter().any(|(name, _)| *name == "x-amzn-requestid") {
        request = request.header("x-amzn-requestid", ID);
    }
    let (parts, body) = client.send(request.body(full(sent.body)).unwrap()).await.into_parts();
    body.collect().await.unwrap();
    parts.status
}

/// What the target saw of a request, by name; several lines of one name are several values.
fn received(server: &Server, to_http2: bool) -> Vec<(String, Vec<String>)> {
    let last = server.last();
    let text = |value: &http::HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for name in last.headers.keys().filter(|name| !AFTER.iter().any(|after| name.as_str().starts_with(after))) {
        all.push((name.to_string(), last.headers.get_all(name).iter().map(text).collect()));
    }
    if to_http2 {
        all.push(("host".into(), vec![last.uri.authority().unwrap().to_string()]));
    }
    all
}

/// A world in which only a request with exactly these fields reaches the target: a policy and a rule ask for all of them,
/// and for the absence of the others.
fn only(world: &Snapshot, fields: &[(String, Vec<String>)], absent: &[&str]) -> Snapshot {
    let mut world = world.clone();
    world.revision += 1;
    let mut equals = serde_json::Map::new();
    let mut null = serde_json::Map::new();
    let mut headers = Vec::new();
    for (name, values) in fields {
        equals.insert(format!("vpc-lattice-svcs:RequestHeader/{name}"), json!(values));
        let between = if name == "cookie" { "; " } else { ", " };
        let value = ValueMatch::Exact(values.join(between));
        headers.push(HeaderMatch { name: name.clone(), value, case_sensitive: true, invert: false });
    }
    for name in absent {
        null.insert(format!("vpc-lattice-svcs:RequestHeader/{name}"), Value::from("true"));
        let value = ValueMatch::Present;
        headers.push(HeaderMatch { name: (*name).into(), value, case_sensitive: true, invert: true });
    }
    let mut condition = json!({"StringEquals": equals});
    if !null.is_empty() {
        condition["Null"] = null.into();
    }
    let statement =
        json!({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": condition});
    let attachment = brattice_wire::auth::PolicyAttachment::Service { http: true, tcp: false };
    world.policies = vec![policy(attachment, "shop/orders", &[&statement.to_string()])];
    let listener = &mut world.services[0].listeners[0];
    let mut only = rule(1, None, None, forward(&[(0, 1)]));
    only.matches = Match { headers, ..Match::default() };
    listener.rules = vec![only];
    listener.default_action = fixed(418);
    world
}

#[tokio::test]
async fn rules_and_policies_see_what_targets_get() {
    let mut runner = TestRunner::deterministic();
    for (from, to) in ALL {
        let server = Server::echo(to).await;
        let engine = Engine::start(Limits::default());
        let (mut reached, mut refused) = (0, 0);
        for _ in 0..REQUESTS {
            let sent = sent(from).new_tree(&mut runner).unwrap().current();
            let mut world = guarded(&engine, 1, version(to), &[server.address], &[EVERYBODY]);
            if sent.append {
                world.services[0].listeners[0].forwarded_headers = ForwardedHeaders::Append;
            }
            engine.apply(world.clone()).await;
            let before = server.seen();
            let mut client = Client::new(&engine, from).await;
            let status = send(&mut client, &sent).await;
            let blank = |value: &str| value.starts_with([' ', '\t']) || value.ends_with([' ', '\t']);
            if from && sent.fields.iter().any(|(_, value)| blank(value)) {
                assert_eq!((status, server.seen()), (StatusCode::BAD_REQUEST, before), "{sent:?} to {to}");
                refused += 1;
                continue;
            }
            assert_eq!(status, StatusCode::OK, "{sent:?} from {from} to {to}");
            let mut fields = received(&server, to);
            // Made anew for each request.
            if fields
                .iter()
                .any(|(name, values)| name == "x-amzn-requestid" && values[0].len() == 36 && values[0] != ID)
            {
                fields.retain(|(name, _)| name != "x-amzn-requestid");
            }
            let dropped: Vec<&str> = sent
                .fields
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| !server.last().headers.contains_key(*name) && *name != "x-amzn-requestid")
                .collect();
            engine.apply(only(&world, &fields, &dropped)).await;
            let mut client = Client::new(&engine, from).await;
            assert_eq!(
                send(&mut client, &sent).await,
                StatusCode::OK,
                "{sent:?} from {from} to {to}: decided about something else than {fields:?} without {dropped:?}"
            );
            // The same world without one of them, or with another value, lets it not pass.
            let at = reached % fields.len();
            let mut other = fields.clone();
            other[at].1 = vec![format!("{}x", other[at].1.join(","))];
            engine.apply(only(&world, &other, &dropped)).await;
            let mut client = Client::new(&engine, from).await;
            assert_eq!(send(&mut client, &sent).await, StatusCode::FORBIDDEN, "control: {sent:?}, {other:?}");
            reached += 1;
        }
        assert!(reached > REQUESTS / 3, "{reached} of {REQUESTS} from {from} to {to}");
        assert_eq!(refused > 0, from, "{refused} refused from {from}");
    }
}

fn deny(name: &str, operator: &str, value: &str) -> String {
    json!({
        "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*",
        "Condition": {operator: {format!("vpc-lattice-svcs:RequestHeader/{name}"): value}}
    })
    .to_string()
}

#[tokio::test]
async fn blanks_lead_past_no_rule_and_no_policy() {
    for to in [false, true] {
        let server = Server::echo(to).await;
        let engine = Engine::start(Limits::default());
        let evil = deny("x-tenant", "StringEquals", "evil");
        engine.apply(guarded(&engine, 1, version(to), &[server.address], &[EVERYBODY, &evil])).await;
        for value in ["evil", "evil ", " evil", "\tevil", "evil\t", " \t evil \t "] {
            // HTTP/1's blanks are no part of the value; HTTP/2 has none.
            let blank = value.len() > 4;
            for (http2, expected) in [(false, 403), (true, if blank { 400 } else { 403 })] {
                let mut client = Client::new(&engine, http2).await;
                let status = client.ask(Method::GET, "/", &[("x-tenant", value)]).await.0;
                assert_eq!(status, expected, "{value:?} over HTTP/2 {http2}");
            }
        }
        assert_eq!(server.seen(), 0);
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            assert_eq!(client.ask(Method::GET, "/", &[("x-tenant", "e vil")]).await.0, 200, "control");
        }
    }
}

#[tokio::test]
async fn blanks_in_trailers_are_refused() {
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(false, TARGET, move |request| {
        let sender = sender.clone();
        async move {
            let body = request.into_body().collect().await?;
            sender.send(body.trailers().cloned())?;
            Ok(http::Response::new(full("ok")))
        }
    })
    .await;
    let engine = serving(&[server.address], &[EVERYBODY]).await;
    for (value, status) in [("1", StatusCode::OK), ("1 ", StatusCode::BAD_REQUEST), ("\t1", StatusCode::BAD_REQUEST)] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", value.parse().unwrap());
        let frames = [Ok(http_body::Frame::data("hello".into())), Ok(http_body::Frame::trailers(trailers))];
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let mut request = get2("/");
        *request.method_mut() = Method::POST;
        request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
        let mut client = engine.http2(CALLER).await;
        let answer = client.send_request(request.map(|_| body)).await.unwrap();
        assert_eq!(answer.status(), status, "{value:?}");
    }
    assert_eq!(seen.recv().await.unwrap().unwrap()["x-sum"], "1", "control");
    assert!(seen.try_recv().is_err(), "the others never came to their end");
}

#[tokio::test]
async fn a_cookie_in_parts_is_one_cookie() {
    for to in [false, true] {
        let server = Server::echo(to).await;
        let engine = Engine::start(Limits::default());
        let both = deny("cookie", "StringLike", "*a=1*b=2*");
        engine.apply(guarded(&engine, 1, version(to), &[server.address], &[EVERYBODY, &both])).await;
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            for parts in [&["a=1; b=2"][..], &["a=1", "b=2"], &["a=1", "c", "b=2"], &["", "a=1", "", "b=2", ""]] {
                let fields: Vec<_> = parts.iter().map(|part| ("cookie", *part)).collect();
                assert_eq!(client.ask(Method::GET, "/", &fields).await.0, 403, "{parts:?} over HTTP/2 {http2}");
            }
            assert_eq!(client.ask(Method::GET, "/", &[("cookie", "b=2"), ("cookie", "a=1")]).await.0, 200, "control");
            assert_eq!(server.last().headers.get_all("cookie").iter().collect::<Vec<_>>(), ["b=2; a=1"]);
        }
        // The same for a rule.
        let mut world = guarded(&engine, 1, version(to), &[server.address], &[EVERYBODY]);
        let mut one = rule(1, None, None, fixed(418));
        let value = ValueMatch::Exact("a=1; b=2".into());
        one.matches.headers = vec![HeaderMatch { name: "cookie".into(), value, case_sensitive: true, invert: false }];
        world.services[0].listeners[0].rules = vec![one];
        engine.apply(world).await;
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            for (parts, status) in [(["a=1", "b=2"], 418), (["b=2", "a=1"], 200)] {
                let fields = parts.map(|part| ("cookie", part));
                assert_eq!(client.ask(Method::GET, "/", &fields).await.0, status, "{parts:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_host_is_a_field_in_every_version() {
    for to in [false, true] {
        let server = Server::echo(to).await;
        let engine = Engine::start(Limits::default());
        let host = deny("host", "StringEquals", HOST);
        engine.apply(guarded(&engine, 1, version(to), &[server.address], &[EVERYBODY, &host])).await;
        for http2 in [false, true] {
            let mut client = Client::new(&engine, http2).await;
            assert_eq!(client.ask(Method::GET, "/", &[]).await.0, 403, "over HTTP/2 {http2}");
            let with_port = format!("{HOST}:80");
            let request = client.request_to(&with_port, Method::GET, "/").body(full("")).unwrap();
            assert_eq!(client.send(request).await.status(), 200, "control: another value");
        }
    }
}

#[tokio::test]
async fn who_called_cannot_be_made_up() {
    for to in [false, true] {
        let server = Server::echo(to).await;
        let engine = Engine::start(Limits::default());
        let made_up = deny("x-forwarded-for", "StringNotEquals", "1.2.3.4");
        engine.apply(guarded(&engine, 1, version(to), &[server.address], &[EVERYBODY, &made_up])).await;
        let real = deny("x-forwarded-for", "StringNotEquals", &REAL.to_string());
        for (statement, status) in [(&made_up, 403), (&real, 200)] {
            engine.apply(guarded(&engine, 1, version(to), &[server.address], &[EVERYBODY, statement])).await;
            for http2 in [false, true] {
                let mut client = Client::new(&engine, http2).await;
                let fields = [("x-forwarded-for", "1.2.3.4")];
                assert_eq!(client.ask(Method::GET, "/", &fields).await.0, status, "{statement} over HTTP/2 {http2}");
            }
        }
    }
}
