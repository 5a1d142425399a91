//! What the documents' checks let through, the engine takes: or one account's document would keep the new state of all
//! accounts from coming into force.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

#[path = "../model/tests/world/mod.rs"]
mod world;

use brattice_engine::{limits::Registry, state::State};
use brattice_model::{Binding, Evidence, Model, Numbers, VipState, plan};
use brattice_wire::snapshot::{AliasGeneration, WorkloadNumber};
use proptest::prelude::*;
use world::{read, source, sources};

/// The model that a file more makes, unless there are errors.
fn model(path: &str, text: &str) -> Option<std::sync::Arc<Model>> {
    let mut files = sources();
    files.retain(|file| file.path != path);
    files.push(source(path, text));
    let outcome = read(&files, &VipState::default(), 0);
    outcome.linked.filter(|_| outcome.errors.is_empty()).map(|linked| linked.model)
}

fn taken(model: &Model) -> Result<(), String> {
    let binding = |vpc: &str, name: &str, last: u8| Binding {
        vpc: vpc.into(),
        address: format!("10.0.0.{last}").parse().unwrap(),
        alias: format!("100.127.0.{last}").parse().unwrap(),
        name: name.into(),
        documented: model.workloads.iter().any(|workload| workload.name == name),
        evidence: vec![Evidence::Interface, Evidence::Namespace],
        number: WorkloadNumber::new(u32::from(last)),
        generation: AliasGeneration::new(1),
    };
    let mut bindings = vec![binding("platform/green", "veth-green", 10), binding("platform/blue", "veth-blue", 11)];
    bindings.extend(model.workloads.iter().zip(20..).map(|(own, last)| binding(&own.vpc, &own.name, last)));
    let snapshot = plan(model, &bindings, &mut Numbers::default(), 1).snapshot;
    State::compile(snapshot, &Registry::default()).map(drop).map_err(|error| error.to_string())
}

#[test]
fn the_golden_documents() {
    let table = include_str!("../model/tests/golden.txt").split_once("\n=== ").unwrap().1;
    let mut accepted = 0;
    for case in table.split("\n=== ") {
        let (title, rest) = case.split_once("\n--- ").unwrap();
        let (path, rest) = rest.split_once('\n').unwrap();
        let Some(model) = model(path, rest.split_once(">>>\n").unwrap().0) else { continue };
        accepted += 1;
        assert_eq!(taken(&model), Ok(()), "{title}");
    }
    assert!(accepted >= 30, "{accepted}");
}

/// Parts of names, values, paths, patterns, hosts: usual ones, and such as an attacker might try.
const PIECES: &[&str] = &[
    "a",
    "x-user",
    "Host",
    "/",
    "/a",
    "..",
    "%2F",
    "%7e",
    "%",
    "-",
    "_",
    ".",
    ":",
    ":80",
    " ",
    "\t",
    "\r\n",
    "\0",
    "é",
    "=",
    ";",
    ",",
    "@",
    "*",
    "(a|b)",
    "(",
    "[a-z]+",
    "{3}",
    "\\",
    "$1",
    "${a}",
    "$",
    "x-amzn-lattice-identity",
    "connection",
    "te",
    "expect",
    "shop.internal",
    "orders.shop.internal",
    "text/plain",
    "0",
    "99999",
    "\"",
    "'",
];

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 1..4).prop_map(|pieces| pieces.concat())
}

/// A text as YAML has it in quotes.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn whatever_a_rule_says(condition in 0..9usize, action in 0..11usize, a in text(), b in text()) {
        let (a, b) = (quoted(&a), quoted(&b));
        let condition = match condition {
            0 => format!("method: {a}"),
            1 => format!("pathMatch: {{match: {{exact: {a}}}}}"),
            2 => format!("pathMatch: {{match: {{prefix: {a}}}, caseSensitive: false}}"),
            3 => format!("pathMatch: {{match: {{stringPrefix: {a}}}}}"),
            4 => format!("pathMatch: {{match: {{regex: {a}}}}}"),
            5 => format!("headerMatches: [{{name: {a}, match: {{contains: {b}}}}}]"),
            6 => format!("headerMatches: [{{name: x-a, match: {{regex: {a}}}, invert: true}}]"),
            7 => format!("queryParameters: [{{name: {a}, match: {{exact: {b}}}}}]"),
            _ => format!("hostMatch: {{match: {{suffix: {a}}}}}"),
        };
        let forward = "forward: {targetGroups: [{targetGroupIdentifier: orders-v1}]";
        let action = match action {
            0 => format!("{forward}}}, requestHeaders: {{set: [{{name: {a}, value: {b}}}]}}"),
            1 => format!("{forward}}}, responseHeaders: {{remove: [{a}]}}"),
            2 => format!("{forward}}}, rewrite: {{hostname: {a}}}"),
            3 => format!("{forward}}}, rewrite: {{path: {{exact: {a}}}}}"),
            4 => format!("{forward}}}, rewrite: {{path: {{prefix: {a}}}}}"),
            5 => format!("{forward}}}, rewrite: {{path: {{regex: {{pattern: {a}, substitution: {b}}}}}}}"),
            6 => format!("{forward}, stickiness: {{cookie: {{name: {a}}}}}}}"),
            7 => format!("{forward}, stickiness: {{header: {{name: {a}}}}}}}"),
            8 => format!("redirect: {{hostname: {a}, path: {{exact: {b}}}}}"),
            9 => format!("fixedResponse: {{statusCode: 200, contentType: {a}, body: {b}}}"),
            _ => format!("redirect: {{path: {{prefix: {a}}}}}, responseHeaders: {{add: [{{name: {a}, value: {b}}}]}}"),
        };
        let file = format!(
            "kind: Service\nmetadata: {{name: carts}}\nspec:\n  customDomainNames: [carts.shop.internal]\n  listeners:\n  - protocol: HTTP\n    \
             defaultAction: {{fixedResponse: {{statusCode: 404}}}}\n    rules:\n    - name: one\n      priority: 1\n      \
             match: {{httpMatch: {{{condition}}}}}\n      action: {{{action}}}\n"
        );
        if let Some(model) = model("accounts/shop/carts.yaml", &file) {
            prop_assert_eq!(taken(&model), Ok(()), "{}", file);
        }
    }
}
