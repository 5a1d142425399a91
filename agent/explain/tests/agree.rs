//! Explanations agree with what is enforced: over random documents and requests, explain says what the engine decides by the
//! whole snapshot, with the header fields as the engine makes them: policies, rule, own responses, rewrites and target groups.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

#[path = "agree/documents.rs"]
mod documents;
mod world;

use std::cell::Cell;
use std::hash::Hasher as _;

use brattice_decide::{Authorizer, Call, Compiled, Connection, Decision, Head, Refused, Trace};
use brattice_engine::http::canonical;
use brattice_explain::{explain, route};
use brattice_router::hash::FastHasher;
use brattice_router::{RequestHead, path};
use brattice_wire::api::Subject;
use brattice_wire::auth::AuthType;
use brattice_wire::explain::{ActionView, Explanation, Outcome, Question, Reason};
use brattice_wire::index::{ServiceIndex, WorkloadIndex};
use brattice_wire::snapshot::{Listener, Precedence, Service, Snapshot, TargetGroup};
use documents::{Documents, ONE, Policy, RESPONSES, REWRITES, Statement, documents};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::select;
use world::{KNOWN, Node};

const PATHS: [&str; 14] = [
    "/",
    "/a",
    "/A",
    "/a/b",
    "/a/../admin",
    "//a//x",
    "/admin",
    "/a/%2e%2e%2fadmin",
    "/%61/b?q=1&q=2",
    "*",
    "?q=1",
    "/a<b",
    "/a?q=<",
    "/a?q={1}",
];
/// Fields, as HTTP/1.1 clients write them.
const FIELDS: [(&str, &str); 14] = [
    ("X-Team", "red"),
    ("x-team", "RED"),
    ("x-team", " red\t"),
    ("x-team", "blue"),
    ("cookie", "a=1"),
    ("Cookie", "b=2"),
    ("cookie", "a=1; b=2"),
    ("cookie", "group=orders-v1"),
    ("cookie", "group=orders-v2"),
    ("x-forwarded-for", "1.2.3.4"),
    ("x-forwarded-port", "1"),
    ("connection", "x-team"),
    ("x_forwarded_for", "1.2.3.4"),
    ("host", "WWW.shop.internal:80"),
];

#[derive(Clone, Debug)]
struct Asked {
    from: &'static str,
    method: &'static str,
    path: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl Asked {
    /// Puts what the engine's cookies say in place of the names of target groups.
    fn take_cookies(&mut self, snapshot: &Snapshot) {
        for (name, value) in &mut self.fields {
            let group = value.strip_prefix("group=").filter(|_| *name == "cookie");
            let is_it = |own: &&TargetGroup| group.is_some_and(|group| own.name.ends_with(group));
            if let Some(group) = snapshot.target_groups.iter().find(is_it) {
                let mut hasher = FastHasher::default();
                hasher.write(group.id.as_bytes());
                *value = format!("group={:016x}", hasher.finish());
            }
        }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        select(&["web", "batch", "safe"][..]),
        select(&["GET", "POST", "OPTIONS"][..]),
        select(&PATHS[..]),
        prop::collection::vec(select(&FIELDS[..]), 0..4),
    )
        .prop_map(|(from, method, path, mut fields)| {
            let mut hosts = 0;
            fields.retain(|(name, _)| {
                hosts += usize::from(*name == "host");
                *name != "host" || hosts == 1
            });
            let fields = fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
            Asked { from, method, path, fields }
        })
}

/// What the engine makes of a request.
#[derive(Debug, PartialEq)]
enum Enforced {
    /// 404.
    Unknown,
    /// 400.
    Malformed,
    /// 403: level and id.
    Denied(String, String),
    /// Which rule (none: the default action), and what it makes of the request.
    Served(Option<String>, Made),
}

/// What a rule makes of a request.
#[derive(Debug, PartialEq)]
enum Made {
    /// Status, and `location` of a redirect.
    Response(u16, Option<String>),
    /// Target group (none: the requests before decide), and path for the target.
    Forwarded(Option<String>, String),
    /// 503.
    NoTarget,
    /// 400: the path or location cannot be what the rule says.
    Refused,
}

struct Sent<'a> {
    asked: &'a Asked,
    fields: &'a HeaderMap,
    path: &'a str,
    query: &'a str,
}

impl Head for Sent<'_> {
    fn method(&self) -> &str {
        self.asked.method
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> &str {
        self.query
    }

    fn field(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.fields.get_all(name).iter().for_each(|value| each(value.as_bytes()));
    }
}

/// Which rule was taken.
#[derive(Default)]
struct Taken(Option<String>);

impl Trace for Taken {
    fn rule<R: RequestHead + ?Sized>(&mut self, _: &R, position: Option<usize>, rule: &brattice_decide::Rule) {
        self.0 = position.map(|_| rule.id.to_string());
    }
}

/// The fields as the engine makes them.
fn canonical(asked: &Asked, caller: std::net::IpAddr, listener: &Listener) -> HeaderMap {
    let mut request = http::Request::builder().method(asked.method).body(()).unwrap();
    let headers = request.headers_mut();
    for (name, value) in &asked.fields {
        // The parser of HTTP/1 trims.
        let value = HeaderValue::from_str(value.trim()).unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    canonical::request(headers, http::Version::HTTP_11).unwrap();
    if !headers.contains_key("host") {
        headers.insert("host", HeaderValue::from_static("www.shop.internal"));
    }
    canonical::length(headers, &asked.method.parse().unwrap(), true).unwrap();
    let shown = canonical::Shown::new(caller, listener.port);
    canonical::introduce(headers, &shown, listener.forwarded_headers, &HeaderValue::from_static("id"));
    request.into_parts().0.headers
}

fn enforced(snapshot: &Snapshot, asked: &Asked) -> Enforced {
    let compiled = Compiled::new(snapshot.clone()).unwrap();
    let workload = snapshot.workloads.iter().position(|workload| workload.name == asked.from);
    let own = &snapshot.workloads[workload.unwrap()];
    let service = snapshot.services.iter().position(|service| service.name == "shop/shop");
    let called: &Service = &snapshot.services[service.unwrap()];
    let listener: &Listener = &called.listeners[0];
    let found = compiled.service(own.vpc, called.vip, listener.port, "www.shop.internal");
    let Some((_, compiled_listener, host)) = found else { return Enforced::Unknown };
    let (raw, query) = asked.path.split_once('?').unwrap_or((asked.path, ""));
    let path = path::requested(asked.method, raw);
    let Some(path) = path.ok().filter(|_| path::check_query(query).is_ok()) else { return Enforced::Malformed };
    let fields = canonical(asked, own.address, listener);
    let call = Call {
        identity: compiled.policies.identity(WorkloadIndex::new(workload.unwrap())).unwrap(),
        vpc: own.vpc,
        address: Some(own.address),
        service: ServiceIndex::new(service.unwrap()),
        port: listener.port,
        tls: false,
        now: world::NOW,
    };
    let head = Sent { asked, fields: &fields, path: &path, query };
    let request = brattice_decide::Request { call, listener: compiled_listener, host, head: &head };
    let buffers = (&Authorizer::default(), &Connection::default());
    let mut taken = Taken::default();
    // Each group with a weight, in its turn.
    let mut decided = |turn: usize| {
        let asked_for = Cell::new(0);
        let share = |forward: &brattice_decide::Forward| {
            let weighted: Vec<usize> = (0..forward.groups.len()).filter(|place| forward.weights[*place] > 0).collect();
            asked_for.set(weighted.len());
            weighted.get(turn % weighted.len().max(1)).copied()
        };
        let decision = brattice_decide::decide(&compiled, buffers, &request, share, &mut taken);
        (made(snapshot, &decision, &head), asked_for.get())
    };
    let (first, turns) = decided(0);
    let first = match first {
        Ok(made) => made,
        Err(denied) => return denied,
    };
    let made = if turns < 2 {
        first
    } else {
        // Any of them may get it: it is served where one of them can.
        let all: Vec<Made> = std::iter::once(first).chain((1..turns).map(|turn| decided(turn).0.unwrap())).collect();
        let served = all.into_iter().find(|made| *made != Made::NoTarget);
        match served {
            Some(Made::Forwarded(_, path)) => Made::Forwarded(None, path),
            Some(other) => other,
            None => Made::NoTarget,
        }
    };
    Enforced::Served(taken.0, made)
}

/// What the engine does by a decision; an error: it is denied.
fn made(snapshot: &Snapshot, decision: &Decision<'_>, head: &Sent<'_>) -> Result<Made, Enforced> {
    Ok(match decision {
        Decision::Denied(refusal) => {
            let level = refusal.level.denied_reason().to_owned();
            return Err(Enforced::Denied(level, refusal.decision.to_string()));
        }
        Decision::Refused(Refused::NoTarget) => Made::NoTarget,
        Decision::Refused(_) => Made::Refused,
        Decision::Respond(response) => {
            let location = response.location.as_ref().map(|location| location.to_str().unwrap().to_owned());
            Made::Response(response.status.as_u16(), location)
        }
        Decision::Forward(route) => match route.path(head.path) {
            Ok(path) => {
                let query = if head.query.is_empty() { String::new() } else { format!("?{}", head.query) };
                let group = &snapshot.target_groups[route.index.position()];
                Made::Forwarded(Some(group.name.clone()), format!("{path}{query}"))
            }
            Err(_) => Made::Refused,
        },
    })
}

fn explained(explanation: &Explanation) -> Enforced {
    let route = explanation.route.as_ref();
    let rule = || route.unwrap().rule.as_ref().map(|rule| rule.id.clone());
    match (explanation.outcome, explanation.reason) {
        (Outcome::Unreachable, Reason::NoAssociation | Reason::AssociationFailed) => Enforced::Unknown,
        (Outcome::Unreachable, Reason::PathRefused) => Enforced::Malformed,
        (Outcome::Denied, Reason::Policy) => {
            let decision = explanation.decision.clone().unwrap();
            Enforced::Denied(decision.denied_at.unwrap(), decision.id.unwrap())
        }
        (Outcome::Allowed, Reason::Allowed) => Enforced::Served(rule(), shown(&route.unwrap().action)),
        (Outcome::Unreachable, Reason::NoTarget) => Enforced::Served(rule(), Made::NoTarget),
        (Outcome::Unreachable, Reason::RewriteRefused) => Enforced::Served(rule(), Made::Refused),
        other => panic!("{other:?}: {}", explanation.summary),
    }
}

fn shown(action: &ActionView) -> Made {
    match action {
        ActionView::FixedResponse { status, .. } => Made::Response(*status, None),
        ActionView::Redirect { status, location } => Made::Response(*status, Some(location.clone())),
        ActionView::Forward { chosen, path, .. } => Made::Forwarded(chosen.clone(), path.clone()),
    }
}

/// Where an explanation differs from what the engine does by a snapshot; none: they agree.
fn disagreement(node: &Node, enforced_by: &Snapshot, asked: &Asked) -> Option<String> {
    let question = Question {
        from: asked.from.to_owned(),
        service: "www.shop.internal".to_owned(),
        method: asked.method.to_owned(),
        path: asked.path.to_owned(),
        headers: asked.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        ..Question::default()
    };
    let wanted = enforced(enforced_by, asked);
    let explanation = explain(&node.world(), &Subject::MadeUp(question.clone())).unwrap();
    let found = explained(&explanation);
    if found != wanted {
        return Some(format!("{asked:?}: explained as {found:?}, enforced as {wanted:?}: {explanation:#?}"));
    }
    // Explain itself finds a rule passed over that fits, or taken that does not, and a decision of policies that differs.
    if let Some(note) = explanation.notes.iter().find(|note| note.contains("fault of Brattice")) {
        return Some(format!("{asked:?}: {note}"));
    }
    // The same rule, whatever policies say.
    let routed = route(&node.world(), &question).unwrap();
    let (rule, same) = (routed.route.map(|route| route.rule), explanation.route.map(|route| route.rule));
    let differs = routed.decision.is_some() || rule != same;
    differs.then(|| format!("{asked:?}: route has {rule:?}, explain {same:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_explained_is_what_is_enforced(
        documents in documents(),
        mut all in prop::collection::vec(asked(), 12),
        known in select(&[true, false][..]),
    ) {
        let model = world::model(&documents.files(), true);
        // Without a target of the only group, too.
        let known: String =
            KNOWN.lines().filter(|line| known || !line.contains("orders-1")).fold(String::new(), |all, line| all + line + "\n");
        let node = Node::new(model, &known);
        for asked in &mut all {
            asked.take_cookies(&node.snapshot);
            prop_assert_eq!(disagreement(&node, &node.snapshot, asked), None);
        }
    }
}

/// Changes what is enforced, and not what is explained.
type Plant<'p> = &'p dyn Fn(&mut Snapshot);

/// The control: the comparison finds every disagreement that is planted in what is enforced, and none where none is.
#[test]
fn planted_disagreements_are_found() {
    let statement = |allow, resource| Statement { allow, principal: "\"*\"", resource, condition: "" };
    let policy = Policy { audit: false, statements: vec![statement(true, "*"), statement(false, "*/admin")] };
    let documents = Documents {
        networks: [(false, None), (false, None)],
        service: (true, Some(policy)),
        role: None,
        member: [true, true],
        specific: false,
        rules: vec![
            (vec!["pathMatch: {match: {exact: /A}, caseSensitive: false}"], RESPONSES[3].to_owned()),
            (vec!["method: POST"], RESPONSES[0].to_owned()),
            (vec!["pathMatch: {match: {prefix: /a}}"], format!("{{forward: {{{ONE}}}{}}}", REWRITES[3])),
        ],
        default: format!("{{forward: {{{ONE}}}}}"),
    };
    let node = Node::new(world::model(&documents.files(), true), KNOWN);
    let requests = [("GET", "/"), ("GET", "/a"), ("POST", "/"), ("GET", "/a/b"), ("GET", "/admin")];
    let requests = requests.map(|(method, path)| Asked { from: "web", method, path, fields: Vec::new() });
    let shop = node.snapshot.services.iter().position(|service| service.name == "shop/shop").unwrap();
    let policy = node.snapshot.services[shop].policy.unwrap().position();
    let plants: [(&str, Plant<'_>); 8] = [
        ("a rule is missing", &|own| drop(own.services[shop].listeners[0].rules.remove(0))),
        ("rules in another order", &|own| own.services[shop].listeners[0].precedence = Precedence::MostSpecific),
        ("another condition", &|own| own.services[shop].listeners[0].rules[1].matches.method = Some("GET".to_owned())),
        ("another action", &|own| {
            let listener = &mut own.services[shop].listeners[0];
            listener.default_action = listener.rules[1].action.clone();
        }),
        ("no rewrite", &|own| own.services[shop].listeners[0].rules[0].filters.rewrite.path = None),
        ("policies are not asked", &|own| own.services[shop].auth_type = AuthType::None),
        ("another effect", &|own| {
            let policy = &mut own.policies[policy];
            policy.json = policy.json.replace("Deny", "Allow");
        }),
        ("no targets", &|own| own.target_groups.iter_mut().for_each(|group| group.targets.clear())),
    ];
    for asked in &requests {
        assert_eq!(disagreement(&node, &node.snapshot, asked), None, "control");
    }
    for (what, plant) in plants {
        let mut planted = node.snapshot.clone();
        plant(&mut planted);
        assert_ne!(planted, node.snapshot, "{what}: nothing was planted");
        let found = requests.iter().filter_map(|asked| disagreement(&node, &planted, asked));
        assert!(found.count() > 0, "{what} was not found");
    }
}
