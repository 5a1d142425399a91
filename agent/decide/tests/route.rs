//! What a listener's rules make of a request: own responses, redirects, rewrites, and the choice of a target group.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use brattice_allocations::{Counting, counted};
use brattice_decide::{
    Authorizer, Call, CompileError, Compiled, Connection, Decision, Head, Identity, Refused, Request, Rule, Trace,
    Untraced, decide, route, route_connection,
};
use brattice_router::RequestHead;
use brattice_wire::{
    auth::{AuthType, Network},
    index::{NetworkIndex, ServiceIndex, TargetGroupIndex, VpcIndex},
    snapshot::{
        Action, AliasGeneration, Filters, FixedResponse, Forward, ForwardedHeaders, HeaderEdits, HeaderMatch, Listener,
        Match, Origin, PathMatch, PathMatchKind, PathRewrite, Precedence, Protocol, ProtocolVersion, QueryMatch,
        Redirect, Rewrite, Service, ServiceNumber, Snapshot, Stickiness, Target, TargetGroup, ValueMatch, Vpc,
        WeightedTargetGroup,
    },
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SERVICE: ServiceIndex = ServiceIndex::new(0);
const VPC: VpcIndex = VpcIndex::new(0);
const NETWORK: NetworkIndex = NetworkIndex::new(0);
const HOST: &str = "orders.shop.internal";

fn group(name: &str, targets: u8) -> TargetGroup {
    let target = |last: u8| Target {
        alias: Ipv4Addr::new(100, 127, 0, last).into(),
        port: 8080,
        address: Ipv4Addr::new(10, 0, 0, last).into(),
        generation: AliasGeneration::new(1),
    };
    TargetGroup {
        name: name.into(),
        id: format!("tg-{name}"),
        arn: String::new(),
        vpc: Some(VPC),
        protocol_version: ProtocolVersion::Http1,
        targets: (1..=targets).map(target).collect(),
        configured: targets.into(),
        connect_timeout_ms: 1,
        idle_timeout_ms: None,
        origin: Origin::default(),
    }
}

/// To the groups of [`snapshot`] with these weights: `one`, `two`, and `empty`, which has no target.
fn forward(weights: [u16; 3], stickiness: Option<Stickiness>) -> Action {
    let share = |(position, weight)| WeightedTargetGroup { target_group: TargetGroupIndex::new(position), weight };
    Action::Forward(Forward { groups: weights.into_iter().enumerate().map(share).collect(), stickiness })
}

fn redirect(path: Option<PathRewrite>) -> Action {
    let host = Some("other.example".into());
    Action::Redirect(Redirect { scheme: None, host, port: None, path, status: 308 })
}

/// A rule for paths below a prefix.
fn rule(prefix: &str, filters: Filters, action: Action) -> brattice_wire::snapshot::Rule {
    let path = PathMatch { kind: PathMatchKind::Prefix, value: prefix.into(), case_sensitive: true };
    brattice_wire::snapshot::Rule {
        name: prefix.into(),
        id: format!("rule-{prefix}"),
        priority: 1,
        matches: Match { path: Some(path), ..Match::default() },
        filters,
        action,
        origin: Origin::default(),
    }
}

fn to_path(path: PathRewrite) -> Filters {
    Filters { rewrite: Rewrite { host: None, path: Some(path) }, ..Filters::default() }
}

/// A service with one listener that has these rules.
fn snapshot(mut rules: Vec<brattice_wire::snapshot::Rule>, default_action: Action) -> Snapshot {
    for (rule, priority) in rules.iter_mut().zip(1..) {
        rule.priority = priority;
    }
    let listener = Listener {
        name: "http".into(),
        id: "listener-1".into(),
        port: 80,
        protocol: Protocol::Http,
        forwarded_headers: ForwardedHeaders::Replace,
        precedence: Precedence::Priority,
        rules,
        default_filters: Filters::default(),
        default_action,
        origin: Origin::default(),
    };
    let service = Service {
        name: "shop/orders".into(),
        id: "svc-1".into(),
        arn: String::new(),
        number: ServiceNumber::new(1),
        vip: Ipv4Addr::new(169, 254, 64, 32).into(),
        vip6: None,
        generated_name: "orders".into(),
        domains: vec![HOST.into()],
        account: String::new(),
        tags: Vec::new(),
        auth_type: AuthType::None,
        policy: None,
        networks: vec![NETWORK],
        listeners: vec![listener],
        idle_timeout_ms: 60_000,
        origin: Origin::default(),
    };
    let vpc = Vpc {
        name: "shop/blue".into(),
        id: "vpc-1".into(),
        arn: String::new(),
        services: vec![SERVICE],
        account: String::new(),
        networks: vec![NETWORK],
        dns_upstreams: Vec::new(),
        families: (true, false),
    };
    let network = Network {
        name: "shop/retail".into(),
        id: "sn-1".into(),
        arn: String::new(),
        auth_type: AuthType::None,
        policy: None,
        origin: Origin::default(),
    };
    Snapshot {
        revision: 1,
        vpcs: vec![vpc],
        services: vec![service],
        target_groups: vec![group("one", 2), group("two", 1), group("empty", 0)],
        networks: vec![network],
        ..Snapshot::default()
    }
}

struct Get {
    path: &'static str,
    query: &'static str,
    fields: Vec<(&'static str, Vec<u8>)>,
}

impl Head for Get {
    fn method(&self) -> &str {
        "GET"
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> &str {
        self.query
    }

    fn field(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.fields.iter().filter(|(own, _)| *own == name).for_each(|(_, value)| each(value));
    }
}

fn get(target: &'static str, fields: &[(&'static str, &str)]) -> Get {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Get { path, query, fields: fields.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect() }
}

/// A compiled service and a caller.
struct Scene {
    compiled: Compiled,
    identity: Identity,
    vpc: VpcIndex,
    address: Option<IpAddr>,
    /// Place of the target group that is next by weight.
    next: Option<usize>,
    /// Whether the weights decided.
    by_weight: Cell<bool>,
}

impl Scene {
    fn new(snapshot: Snapshot) -> Self {
        Self {
            compiled: Compiled::new(snapshot).unwrap(),
            identity: Identity::default(),
            vpc: VPC,
            address: Some(Ipv4Addr::new(10, 0, 0, 10).into()),
            next: Some(0),
            by_weight: Cell::new(false),
        }
    }

    fn request<'a>(&'a self, head: &'a Get) -> Request<'a, Get> {
        let service = self.compiled.service_by_index(SERVICE).unwrap();
        let call = Call {
            identity: &self.identity,
            vpc: self.vpc,
            address: self.address,
            service: SERVICE,
            port: 80,
            tls: false,
            now: 0,
        };
        Request { call, listener: service.listener(80).unwrap(), host: HOST, head }
    }

    fn ask<'a>(&'a self, head: &'a Get, trace: &mut impl Trace) -> Decision<'a> {
        self.by_weight.set(false);
        let buffers = (&Authorizer::default(), &Connection::default());
        let share = |_: &brattice_decide::Forward| {
            self.by_weight.set(true);
            self.next
        };
        decide(&self.compiled, buffers, &self.request(head), share, trace)
    }

    /// Id of the target group, whether it was chosen by weight, and the cookie.
    fn group(&self, head: &Get) -> Result<(String, bool, Option<String>), Refused> {
        match self.ask(head, &mut Untraced) {
            Decision::Forward(route) => {
                assert_eq!(self.compiled.group(route.index).unwrap().id, route.group.id);
                let cookie = route.cookie.map(|cookie| cookie.to_str().unwrap().to_owned());
                Ok((route.group.id.clone(), self.by_weight.get(), cookie))
            }
            Decision::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    /// The path for the target.
    fn path(&self, path: &'static str) -> Result<String, Refused> {
        let head = get(path, &[]);
        match self.ask(&head, &mut Untraced) {
            Decision::Forward(route) => route.path(path).map(Into::into),
            other => panic!("{other:?}"),
        }
    }
}

fn fixed(status: u16, body: &str) -> Action {
    Action::FixedResponse(FixedResponse { status, content_type: Some("text/plain".into()), body: body.into() })
}

#[test]
fn the_first_rule_that_matches_is_taken_else_the_default_action() {
    #[derive(Default)]
    struct Taken(Vec<String>);
    impl Trace for Taken {
        fn rule<R: RequestHead + ?Sized>(&mut self, request: &R, position: Option<usize>, rule: &Rule) {
            assert_eq!((request.host(), request.port(), request.source_vpc()), (HOST, 80, VPC));
            self.0.push(format!("rule {position:?} {}", rule.id));
        }

        fn group(&mut self, index: TargetGroupIndex) {
            self.0.push(format!("group {index}"));
        }
    }
    let rules = vec![
        rule("/a", Filters::default(), fixed(418, "")),
        rule("/a/b", Filters::default(), fixed(500, "")),
        rule("/c", Filters::default(), forward([0, 1, 0], None)),
    ];
    let mut scene = Scene::new(snapshot(rules, forward([1, 0, 0], None)));
    for (path, next, noted) in [
        ("/a/b", 0, &["rule Some(0) rule-/a"][..]),
        ("/c", 1, &["rule Some(2) rule-/c", "group 1"]),
        ("/d", 0, &["rule None default", "group 0"]),
    ] {
        scene.next = Some(next);
        let mut taken = Taken::default();
        let _ = scene.ask(&get(path, &[]), &mut taken);
        assert_eq!(taken.0, noted, "{path}");
    }
}

#[test]
fn rules_see_the_whole_request() {
    let matching = |matches| brattice_wire::snapshot::Rule { matches, ..rule("/", Filters::default(), fixed(418, "")) };
    let value = |text: &str| ValueMatch::Exact(text.into());
    let header = |text| HeaderMatch { name: "x-user".into(), value: value(text), case_sensitive: true, invert: false };
    let query = |text| QueryMatch { name: "q".into(), value: value(text) };
    let vpc = |position| Some(vec![VpcIndex::new(position)]);
    for (met, missed) in [
        (
            Match { method: Some("GET".into()), ..Match::default() },
            Match { method: Some("PUT".into()), ..Match::default() },
        ),
        (
            Match { headers: vec![header("ada")], ..Match::default() },
            Match { headers: vec![header("bob")], ..Match::default() },
        ),
        (Match { query: vec![query("1")], ..Match::default() }, Match { query: vec![query("2")], ..Match::default() }),
        (Match { port: Some(80), ..Match::default() }, Match { port: Some(81), ..Match::default() }),
        (Match { source_vpcs: vpc(1), ..Match::default() }, Match { source_vpcs: vpc(0), ..Match::default() }),
    ] {
        for (matches, status) in [(met, 418), (missed, 404)] {
            let shown = format!("{matches:?}");
            let mut snapshot = snapshot(vec![matching(matches)], fixed(404, ""));
            // The caller is not in the first VPC.
            snapshot.vpcs.push(snapshot.vpcs[0].clone());
            let mut scene = Scene::new(snapshot);
            scene.vpc = VpcIndex::new(1);
            let head = get("/a?q=1", &[("x-user", "ada")]);
            let Decision::Respond(response) = scene.ask(&head, &mut Untraced) else { panic!("{shown}") };
            assert_eq!(response.status.as_u16(), status, "{shown}");
        }
    }
}

#[test]
fn what_no_message_may_say_is_refused() {
    let edit = |name: &str| HeaderEdits { set: vec![(name.into(), "1".into())], ..HeaderEdits::default() };
    let request = |name| Filters { request_headers: edit(name), ..Filters::default() };
    let response = |name| Filters { response_headers: edit(name), ..Filters::default() };
    let unusable = |filters: Filters| {
        let rules = vec![rule("/", filters, forward([1, 0, 0], None))];
        match Compiled::new(snapshot(rules, fixed(404, ""))) {
            Ok(_) => false,
            Err(CompileError::Unusable { .. }) => true,
            Err(other) => panic!("{other}"),
        }
    };
    // Of the connection, of the message's frame, of Brattice.
    for name in ["connection", "transfer-encoding", "host", "content-length", "x-forwarded-for"] {
        assert!(unusable(request(name)) && unusable(response(name)), "{name}");
    }
    assert!(!unusable(request("x-team")) && !unusable(response("x-team")), "control");

    let status = |action| match Compiled::new(snapshot(Vec::new(), action)) {
        Ok(_) => None,
        Err(CompileError::Status { status, .. }) => Some(status),
        Err(other) => panic!("{other}"),
    };
    let to = |status| Action::Redirect(Redirect { scheme: None, host: None, port: None, path: None, status });
    assert_eq!(
        [fixed(199, ""), fixed(200, ""), fixed(599, ""), fixed(600, "")].map(status),
        [Some(199), None, None, Some(600)]
    );
    assert_eq!([to(299), to(300), to(399), to(400)].map(status), [Some(299), None, None, Some(400)]);
}

#[test]
fn forwards_are_numbered_through() {
    let rules = vec![
        rule("/a", Filters::default(), forward([1, 0, 0], None)),
        rule("/b", Filters::default(), fixed(404, "")),
        rule("/c", Filters::default(), forward([0, 1, 0], None)),
    ];
    let compiled = Compiled::new(snapshot(rules, forward([0, 0, 1], None))).unwrap();
    assert_eq!(compiled.forwards().map(|forward| forward.index.position()).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_choice_by_one_header_field_allocates_nothing() {
    let stickiness = Some(Stickiness::Header("x-user".into()));
    let scene = Scene::new(snapshot(Vec::new(), forward([1, 1, 0], stickiness)));
    let buffers = (&Authorizer::default(), &Connection::default());
    let choose = |head: &Get| {
        let decision = decide(&scene.compiled, buffers, &scene.request(head), |_| None, &mut Untraced);
        assert!(matches!(decision, Decision::Forward(_)));
    };
    let (one, two) = (get("/", &[("x-user", "ada")]), get("/", &[("x-user", "ada"), ("x-user", "bob")]));
    // Room is made once.
    choose(&one);
    assert_eq!(counted(|| choose(&one)), 0);
    assert!(counted(|| choose(&two)) > 0, "control: several fields are joined");
}

#[test]
fn own_responses_say_what_their_rule_says() {
    let edits = HeaderEdits { set: vec![("x-a".into(), "1".into())], ..HeaderEdits::default() };
    let filters = Filters { response_headers: edits, ..Filters::default() };
    let rules = vec![
        rule("/teapot", filters, fixed(418, "short and stout")),
        rule("/empty", Filters::default(), fixed(204, "not sent")),
        rule("/reset", Filters::default(), fixed(205, "not sent")),
        rule("/same", Filters::default(), fixed(304, "not sent")),
    ];
    let scene = Scene::new(snapshot(rules, fixed(404, "")));
    for (path, status, body, filtered) in [
        ("/teapot", 418, "short and stout", true),
        ("/empty", 204, "", false),
        ("/reset", 205, "", false),
        ("/same", 304, "", false),
        ("/other", 404, "", false),
    ] {
        let head = get(path, &[]);
        let Decision::Respond(response) = scene.ask(&head, &mut Untraced) else { panic!("{path}") };
        assert_eq!((response.status.as_u16(), &response.body[..]), (status, body.as_bytes()), "{path}");
        assert_eq!(response.content_type.unwrap(), "text/plain");
        assert!(response.location.is_none());
        assert_eq!(response.filters.is_some(), filtered, "{path}");
    }
}

#[test]
fn redirects_keep_what_they_do_not_replace() {
    let regex = PathRewrite::Regex { pattern: "^/r".into(), substitution: "/x%2f..".into() };
    let rules = vec![
        rule("/p", Filters::default(), redirect(Some(PathRewrite::Prefix("/q".into())))),
        rule("/r", Filters::default(), redirect(Some(regex))),
        rule("/long", Filters::default(), redirect(Some(PathRewrite::Full(format!("/{}", "a".repeat(9_000)))))),
    ];
    let scene = Scene::new(snapshot(rules, redirect(None)));
    for (target, location) in [
        ("/p/1?x=2", Ok("http://other.example/q/1?x=2")),
        ("/z?x=2", Ok("http://other.example/z?x=2")),
        ("/r", Err(())),
        ("/long", Err(())),
    ] {
        let head = get(target, &[]);
        match scene.ask(&head, &mut Untraced) {
            Decision::Respond(response) => {
                let (status, found) = (response.status.as_u16(), response.location.unwrap());
                assert_eq!((status, found.to_str().map_err(|_| ())), (308, location), "{target}");
                assert!(response.body.is_empty() && response.content_type.is_none());
            }
            Decision::Refused(why) => {
                assert_eq!(location, Err(()), "{target}");
                assert_ne!(why, Refused::NoTarget);
            }
            other => panic!("{target}: {other:?}"),
        }
    }
}

#[test]
fn rewrites_change_the_path_for_the_target() {
    let regex = PathRewrite::Regex { pattern: "^/r(.)".into(), substitution: "/$1%2f..".into() };
    let rules = vec![
        rule("/p", to_path(PathRewrite::Prefix("/q".into())), forward([1, 0, 0], None)),
        rule("/f", to_path(PathRewrite::Full("/full".into())), forward([1, 0, 0], None)),
        rule("/", to_path(regex), forward([1, 0, 0], None)),
    ];
    let scene = Scene::new(snapshot(rules, fixed(404, "")));
    for (path, rewritten) in [("/p/1", "/q/1"), ("/f/1", "/full"), ("/s", "/s")] {
        assert_eq!(scene.path(path).unwrap(), rewritten);
    }
    assert!(matches!(scene.path("/r1"), Err(Refused::Rewrite(_))));
    let plain = Scene::new(snapshot(Vec::new(), forward([1, 0, 0], None)));
    assert_eq!(plain.path("/as/it/is").unwrap(), "/as/it/is");
}

#[test]
fn weights_choose_where_nothing_keeps_a_caller() {
    let mut scene = Scene::new(snapshot(Vec::new(), forward([1, 1, 1], None)));
    for (next, expected) in [
        (Some(0), Ok("tg-one")),
        (Some(1), Ok("tg-two")),
        (Some(2), Err(Refused::NoTarget)),
        (None, Err(Refused::NoTarget)),
    ] {
        scene.next = next;
        let found = scene.group(&get("/", &[]));
        assert_eq!(found, expected.map(|group| (group.to_owned(), true, None)));
        assert!(scene.by_weight.get());
    }
}

#[test]
fn a_cookie_keeps_a_caller_at_its_target_group() {
    let cookie = Stickiness::Cookie { name: "group".into(), max_age_seconds: Some(60) };
    let mut scene = Scene::new(snapshot(Vec::new(), forward([1, 1, 1], Some(cookie.clone()))));
    let mut given = Vec::new();
    for next in [0, 1] {
        scene.next = Some(next);
        let (_, by_weight, cookie) = scene.group(&get("/", &[])).unwrap();
        let cookie = cookie.unwrap();
        assert!(by_weight && cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"), "{cookie}");
        given.push(cookie.split(';').next().unwrap().to_owned());
    }
    assert_ne!(given[0], given[1]);
    // The cookie decides, not the weights; the first one that says a group does.
    scene.next = Some(0);
    let both = format!("other=1; {}; {}", given[1], given[0]);
    for value in [&given[1], &both] {
        assert_eq!(scene.group(&get("/", &[("cookie", value)])).unwrap(), ("tg-two".into(), false, None));
    }
    // Of what says no group the caller gets a new one.
    let (group, by_weight, cookie_again) = scene.group(&get("/", &[("cookie", "group=elsewhere")])).unwrap();
    assert_eq!((group.as_str(), by_weight, cookie_again.is_some()), ("tg-one", true, true));
    // A cookie does not keep a caller at a group without a weight or without targets.
    let mut weightless = Scene::new(snapshot(Vec::new(), forward([1, 0, 1], Some(cookie))));
    weightless.next = Some(2);
    assert_eq!(weightless.group(&get("/", &[])), Err(Refused::NoTarget));
    weightless.next = Some(0);
    let (group, by_weight, _) = weightless.group(&get("/", &[("cookie", &given[1])])).unwrap();
    assert_eq!((group.as_str(), by_weight), ("tg-one", true));
}

#[test]
fn header_and_source_keep_a_caller_at_a_target_group() {
    let header = Some(Stickiness::Header("x-user".into()));
    let scene = Scene::new(snapshot(Vec::new(), forward([1, 1, 0], header)));
    let chosen = |fields: &[(&'static str, &str)]| scene.group(&get("/", fields)).unwrap();
    let mut groups = std::collections::BTreeSet::new();
    for user in 0..32 {
        let user = user.to_string();
        let (group, by_weight, cookie) = chosen(&[("x-user", &user)]);
        assert!(!by_weight && cookie.is_none());
        assert_eq!(chosen(&[("x-user", &user)]).0, group);
        // Several fields are one list.
        let joined = chosen(&[("x-user", &format!("{user}, b"))]).0;
        assert_eq!(chosen(&[("x-user", &user), ("x-user", "b")]).0, joined);
        groups.insert(group);
    }
    assert_eq!(groups.len(), 2, "32 users are at one group");
    assert!(chosen(&[]).1, "without the field, weights decide");

    let mut scene = Scene::new(snapshot(Vec::new(), forward([1, 1, 0], Some(Stickiness::Source))));
    let mut groups = std::collections::BTreeSet::new();
    for last in 0..32 {
        scene.address = Some(Ipv4Addr::new(10, 0, 0, last).into());
        let (group, by_weight, _) = scene.group(&get("/", &[])).unwrap();
        assert!(!by_weight);
        groups.insert(group);
    }
    assert_eq!(groups.len(), 2, "32 sources are at one group");
    scene.address = None;
    assert!(scene.group(&get("/", &[])).unwrap().1, "without an address, weights decide");
}

#[test]
fn a_connection_gets_a_target_group_of_the_default_action() {
    let scene = Scene::new(snapshot(vec![rule("/", Filters::default(), fixed(404, ""))], forward([1, 1, 1], None)));
    let head = get("/", &[]);
    let listener = scene.request(&head).listener;
    let found = |place: Option<usize>| route_connection(&scene.compiled, listener, |_| place).map(|(index, _)| index);
    let [one, two] = [0, 1].map(|position| Some(TargetGroupIndex::new(position)));
    assert_eq!([found(Some(0)), found(Some(1)), found(Some(2)), found(None)], [one, two, None, None]);
    let fixed = Scene::new(snapshot(Vec::new(), fixed(200, "")));
    assert!(route_connection(&fixed.compiled, fixed.request(&head).listener, |_| Some(0)).is_none());
}

#[test]
fn the_network_that_policies_let_a_request_through_is_in_its_route() {
    let scene = Scene::new(snapshot(Vec::new(), forward([1, 0, 0], None)));
    let head = get("/", &[]);
    let Decision::Forward(found) = scene.ask(&head, &mut Untraced) else { panic!("it is not forwarded") };
    assert_eq!(found.network, Some(NETWORK));
    let request = scene.request(&head);
    let Decision::Forward(found) = route(&scene.compiled, &request, None, |_| Some(0), &mut Untraced) else {
        panic!("it is not forwarded")
    };
    assert_eq!(found.network, None);
}
