//! Explanations agree with what is enforced: over random documents and requests, explain says what the engine's guards and
//! router decide, made from the same snapshot by their own code.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod world;

use std::fmt::Write as _;

use brattice_decide::{Authorizer, Call, Compiled, Connection, Decision, Head, Refused, ServiceIndex, Trace};
use brattice_engine::http::canonical;
use brattice_explain::{explain, route};
use brattice_router::{RequestHead, path};
use brattice_wire::api::Subject;
use brattice_wire::explain::{Explanation, Outcome, Question, Reason};
use brattice_wire::snapshot::{Listener, Service, Snapshot};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::select;
use world::{KNOWN, Node};

const PRINCIPALS: [&str; 6] = [
    "\"*\"",
    "{AWS: 'arn:aws:iam::111111111111:role/reader'}",
    "{AWS: 'arn:aws:sts::111111111111:assumed-role/reader/web'}",
    "{AWS: '111111111111'}",
    "{AWS: 'arn:aws:iam::111111111111:role/nightly'}",
    "{AWS: ['222222222222', 'arn:aws:iam::111111111111:role/reader']}",
];
const RESOURCES: [&str; 5] = ["*", "*/admin", "*/a/*", "*/a", "*/service/*"];
const CONDITIONS: [&str; 18] = [
    "",
    "",
    "StringEquals: {vpc-lattice-svcs:RequestMethod: [GET, HEAD]}",
    "StringNotEquals: {vpc-lattice-svcs:RequestMethod: POST}",
    "StringLike: {vpc-lattice-svcs:RequestHeader/x-team: 'r*'}",
    "\"Null\": {vpc-lattice-svcs:RequestHeader/x-team: \"true\"}",
    "'ForAnyValue:StringEquals': {vpc-lattice-svcs:RequestQueryString/q: '1'}",
    "StringEquals: {aws:PrincipalTag/team: red}",
    "StringEqualsIfExists: {aws:PrincipalAccount: '222222222222'}",
    "NumericEquals: {vpc-lattice-svcs:Port: 80}",
    "StringLike: {vpc-lattice-svcs:RequestPath: '/a/*'}",
    "StringEquals: {aws:PrincipalType: Anonymous}",
    "ArnLike: {vpc-lattice-svcs:ServiceNetworkArn: 'arn:aws:vpc-lattice:*:*:servicenetwork/sn-*0*'}",
    "'ForAnyValue:StringEquals': {brattice:Evidence: namespace}",
    "StringEquals: {vpc-lattice-svcs:RequestHeader/cookie: 'a=1; b=2'}",
    "StringNotEquals: {vpc-lattice-svcs:RequestHeader/x-forwarded-for: 1.2.3.4}",
    "StringEquals: {vpc-lattice-svcs:RequestHeader/host: www.shop.internal}",
    "\"Null\": {vpc-lattice-svcs:RequestHeader/content-length: \"true\"}",
];
const MATCHES: [&str; 14] = [
    "pathMatch: {match: {exact: /a}}",
    "pathMatch: {match: {prefix: /a}}",
    "pathMatch: {match: {prefix: /a/b}}",
    "pathMatch: {match: {stringPrefix: /ad}}",
    "pathMatch: {match: {regex: '/a/[a-z]+'}}",
    "pathMatch: {match: {exact: /A}, caseSensitive: false}",
    "method: GET",
    "method: POST",
    "headerMatches: [{name: x-team, match: {exact: red}}]",
    "headerMatches: [{name: x-team, match: {prefix: r}}]",
    "queryParameters: [{name: q, match: {exact: '1'}}]",
    "sourceVpcs: [platform/blue]",
    "headerMatches: [{name: cookie, match: {exact: 'a=1; b=2'}}]",
    "headerMatches: [{name: x-forwarded-for, match: {contains: '1.2.3.4'}}]",
];
const ACTIONS: [&str; 3] = [
    "{fixedResponse: {statusCode: 204}}",
    "{forward: {targetGroups: [{targetGroupIdentifier: orders-v1}]}}",
    "{redirect: {hostname: other.example}}",
];
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
const FIELDS: [(&str, &str); 12] = [
    ("X-Team", "red"),
    ("x-team", "RED"),
    ("x-team", " red\t"),
    ("x-team", "blue"),
    ("cookie", "a=1"),
    ("Cookie", "b=2"),
    ("cookie", "a=1; b=2"),
    ("x-forwarded-for", "1.2.3.4"),
    ("x-forwarded-port", "1"),
    ("connection", "x-team"),
    ("x_forwarded_for", "1.2.3.4"),
    ("host", "WWW.shop.internal:80"),
];

#[derive(Clone, Debug)]
struct Statement {
    allow: bool,
    principal: &'static str,
    resource: &'static str,
    condition: &'static str,
}

#[derive(Clone, Debug)]
struct Policy {
    audit: bool,
    statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
struct Documents {
    /// `authType` and policy of the networks and the service; the role's.
    networks: [(bool, Option<Policy>); 2],
    service: (bool, Option<Policy>),
    role: Option<Policy>,
    /// Which networks the service is in.
    member: [bool; 2],
    specific: bool,
    rules: Vec<(Vec<&'static str>, &'static str)>,
}

fn policy() -> impl Strategy<Value = Policy> {
    let statement =
        (prop::bool::weighted(0.7), select(&PRINCIPALS[..]), select(&RESOURCES[..]), select(&CONDITIONS[..]))
            .prop_map(|(allow, principal, resource, condition)| Statement { allow, principal, resource, condition });
    (prop::bool::weighted(0.15), prop::collection::vec(statement, 1..4))
        .prop_map(|(audit, statements)| Policy { audit, statements })
}

fn guard() -> impl Strategy<Value = (bool, Option<Policy>)> {
    (prop::bool::weighted(0.6), prop::option::weighted(0.85, policy()))
}

fn documents() -> impl Strategy<Value = Documents> {
    let conditions = prop::collection::btree_set(0..MATCHES.len(), 1..3)
        .prop_map(|set| set.into_iter().map(|index| MATCHES[index]).collect::<Vec<_>>())
        .prop_filter("one of each kind", |list| {
            let kinds: std::collections::BTreeSet<&str> =
                list.iter().filter_map(|text| text.split(':').next()).collect();
            kinds.len() == list.len()
        });
    let rules = prop::collection::vec((conditions, select(&ACTIONS[..])), 0..5);
    (
        (guard(), guard()),
        guard(),
        prop::option::weighted(0.4, policy()),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.8),
        any::<bool>(),
        rules,
    )
        .prop_map(|((retail, wide), service, role, first, second, specific, rules)| Documents {
            networks: [retail, wide],
            service,
            role: role.map(|policy| Policy { audit: false, ..policy }),
            member: [first, second],
            specific,
            rules,
        })
}

impl Policy {
    fn yaml(&self, indent: usize, principals: bool) -> String {
        let mut text = String::new();
        let pad = " ".repeat(indent);
        for (number, own) in self.statements.iter().enumerate() {
            let effect = if own.allow { "Allow" } else { "Deny" };
            write!(text, "{pad}- {{Sid: s{number}, Effect: {effect}, Action: '*', Resource: '{}'", own.resource)
                .unwrap();
            if principals {
                write!(text, ", Principal: {}", own.principal).unwrap();
            }
            if !own.condition.is_empty() {
                write!(text, ", Condition: {{{}}}", own.condition).unwrap();
            }
            text.push_str("}\n");
        }
        text
    }

    fn document(&self, resource: &str) -> String {
        let mode = if self.audit { "audit" } else { "enforce" };
        let statements = self.yaml(4, true);
        format!(
            "---\nkind: AuthPolicy\nspec:\n  resourceIdentifier: {resource}\n  mode: {mode}\n  policy:\n    Version: '2012-10-17'\n    Statement:\n{statements}"
        )
    }
}

impl Documents {
    fn files(&self) -> Vec<(String, String)> {
        let auth = |on: bool| if on { "AWS_IAM" } else { "NONE" };
        let mut networks = String::new();
        for (name, (on, policy)) in ["retail", "wide"].into_iter().zip(&self.networks) {
            write!(
                networks,
                "---\nkind: ServiceNetwork\nmetadata: {{name: {name}}}\nspec: {{sharedWith: [shop], authType: {}}}\n",
                auth(*on)
            )
            .unwrap();
            networks.extend(policy.iter().map(|policy| policy.document(name)));
        }
        networks.push_str(
            "---\nkind: ServiceNetworkVpcAssociation\nspec: {serviceNetworkIdentifier: wide, vpcIdentifier: platform/blue}\n",
        );
        let member: Vec<&str> = ["platform/retail", "platform/wide"]
            .into_iter()
            .zip(self.member)
            .filter(|(_, is)| *is)
            .map(|(name, _)| name)
            .collect();
        let mut shop = format!(
            "kind: Service\nmetadata: {{name: shop}}\nspec:\n  customDomainNames: [www.shop.internal]\n  authType: {}\n  tags: {{team: red}}\n  serviceNetworks: [{}]\n  listeners:\n  - protocol: HTTP\n    rulePrecedence: {}\n    defaultAction: {{forward: {{targetGroups: [{{targetGroupIdentifier: orders-v1}}]}}}}\n",
            auth(self.service.0),
            member.join(", "),
            if self.specific { "mostSpecific" } else { "priority" }
        );
        if !self.rules.is_empty() {
            shop.push_str("    rules:\n");
        }
        for (number, (conditions, action)) in self.rules.iter().enumerate() {
            let priority = if self.specific { String::new() } else { format!("priority: {}, ", 50 - number) };
            writeln!(
                shop,
                "    - {{name: number-{number}, {priority}match: {{httpMatch: {{{}}}}}, action: {action}}}",
                conditions.join(", ")
            )
            .unwrap();
        }
        shop.extend(self.service.1.iter().map(|policy| policy.document("shop")));
        let mut files = vec![
            ("accounts/platform/networks.yaml".to_owned(), networks),
            ("accounts/shop/shop.yaml".to_owned(), shop),
        ];
        if let Some(policy) = &self.role {
            let statements = policy.yaml(4, false);
            files.push((
                "roles.yaml".to_owned(),
                format!(
                    "kind: Workload\nmetadata: {{name: batch}}\nspec: {{vpcIdentifier: platform/blue, namespace: blue-batch}}\n---\nkind: Role\nmetadata: {{name: nightly}}\nspec:\n  account: platform\n  trust: [{{workloads: [batch]}}]\n  policy:\n    Version: '2012-10-17'\n    Statement:\n{statements}"
                ),
            ));
        }
        files
    }
}

#[derive(Clone, Debug)]
struct Asked {
    from: &'static str,
    method: &'static str,
    path: &'static str,
    fields: Vec<(&'static str, &'static str)>,
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
    /// Which rule; none: the default action. Whether it can be answered.
    Served(Option<String>, bool),
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
        let value = HeaderValue::from_static(value.trim());
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
    let position = |found: Option<usize>| u32::try_from(found.unwrap()).unwrap();
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
        identity: compiled.policies.identity(position(workload)).unwrap(),
        vpc: own.vpc,
        address: Some(own.address),
        service: ServiceIndex::of(position(service)),
        port: listener.port,
        tls: false,
        now: world::NOW,
    };
    let head = Sent { asked, fields: &fields, path: &path, query };
    let request = brattice_decide::Request { call, listener: compiled_listener, host, head: &head };
    let rooms = (&Authorizer::default(), &Connection::default());
    let mut taken = Taken::default();
    // One target group only.
    let decision = brattice_decide::decide(&compiled, rooms, &request, |_| Some(0), &mut taken);
    match decision {
        Decision::Denied(refusal) => {
            Enforced::Denied(refusal.level.denied_reason().to_owned(), refusal.decision.to_string())
        }
        Decision::Refused(Refused::NoTarget) => Enforced::Served(taken.0, false),
        Decision::Refused(why) => panic!("{why}"),
        Decision::Respond(_) | Decision::Forward(_) => Enforced::Served(taken.0, true),
    }
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
        (Outcome::Allowed, Reason::Allowed) => Enforced::Served(rule(), true),
        (Outcome::Unreachable, Reason::NoTarget) => Enforced::Served(rule(), false),
        other => panic!("{other:?}: {}", explanation.summary),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_explained_is_what_is_enforced(
        documents in documents(),
        all in prop::collection::vec(asked(), 12),
        known in select(&[true, false][..]),
    ) {
        let model = world::model(&documents.files(), true);
        // Without a target of the only group, too.
        let known: String =
            KNOWN.lines().filter(|line| known || !line.contains("orders-1")).fold(String::new(), |all, line| all + line + "\n");
        let node = Node::new(model, &known);
        for asked in &all {
            let question = Question {
                from: asked.from.to_owned(),
                service: "www.shop.internal".to_owned(),
                method: asked.method.to_owned(),
                path: asked.path.to_owned(),
                headers: asked.fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                ..Question::default()
            };
            let wanted = enforced(&node.snapshot, asked);
            let explanation = explain(&node.world(), &Subject::MadeUp(question.clone())).unwrap();
            prop_assert_eq!(explained(&explanation), wanted, "{:?}: {:#?}", asked, explanation);
            // The same rule, whatever policies say.
            let routed = route(&node.world(), &question).unwrap();
            prop_assert!(routed.decision.is_none());
            prop_assert_eq!(
                routed.route.map(|route| route.rule),
                explanation.route.map(|route| route.rule)
            );
        }
    }
}
