//! Situations and their explanations. Each case of `golden.txt` is a set of files that are added to (or replace some
//! of) the documents in `world/`, what the node knows, what is asked, and the answer.
//!
//! `BRATTICE_BLESS=1 cargo test -p brattice-explain --test golden` writes the current output into the table; read the
//! difference before committing it.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod world;

use std::fmt::Write as _;

use brattice_explain::{Documents, explain, render, render_route, route};
use brattice_wire::api::Subject;
use brattice_wire::explain::{Explanation, Question};
use brattice_wire::records::Past;
use world::{KNOWN, NOW, Node};

const TABLE: &str = include_str!("golden.txt");

/// A case; `parts` are `--- name` and the lines below, as written.
struct Case<'t> {
    title: &'t str,
    written: &'t str,
    parts: Vec<(&'t str, &'t str)>,
    expected: &'t str,
}

fn cases() -> Vec<Case<'static>> {
    let table = TABLE.split_once("\n=== ").expect("the table has cases").1;
    table
        .split("\n=== ")
        .map(|case| {
            let (title, rest) = case.split_once('\n').expect("a title");
            let (written, expected) = rest.split_once(">>>\n").expect("an answer");
            let parts = written.split("--- ").skip(1);
            let parts = parts.map(|part| part.split_once('\n').expect("lines below a name")).collect();
            Case { title, written, parts, expected: expected.trim_end_matches('\n') }
        })
        .collect()
}

/// Words of `ask`: `from`, `to`, `method`, `path`, `host`, `port`, `header NAME: VALUE`.
fn question(lines: &str) -> Question {
    let mut question = Question { method: "GET".into(), path: "/".into(), ..Question::default() };
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let (word, value) = line.split_once(' ').expect("a value");
        let value = value.replace("\\x1b", "\u{1b}").replace("\\n", "\n");
        match word {
            "from" => question.from = value,
            "to" => question.service = value,
            "method" => question.method = value,
            "path" => question.path = value,
            "host" => question.host = Some(value),
            "port" => question.port = Some(value.parse().unwrap()),
            "header" => {
                let (name, value) = value.split_once(": ").unwrap();
                question.headers.push((name.into(), value.into()));
            }
            other => panic!("{other}?"),
        }
    }
    question
}

/// A remembered request: what is not said is that of a GET that was served.
fn past(text: &str) -> Past {
    let mut past = serde_json::json!({
        "requestId": "r-1", "flow": 7, "timeMs": 1_769_850_100_000_u64, "durationMs": 3, "revision": 1,
        "alias": "100.127.0.1", "generation": 1, "vpc": "platform/blue", "workload": "web",
        "vip": "169.254.64.32", "port": 80, "http2": false, "method": "GET", "path": "/", "query": "",
        "host": "orders.shop.internal", "headers": [], "cut": false, "service": "shop/orders", "listener": "http-80",
        "rule": "default", "targetGroup": "shop/orders-v1", "target": "10.0.0.10:8080", "status": 200, "failure": null,
        "decisionId": null, "deniedBy": null,
    });
    let object: serde_json::Value = serde_json::from_str(text).unwrap();
    for (key, value) in object.as_object().unwrap() {
        past[key] = value.clone();
    }
    serde_json::from_value(past).unwrap()
}

fn answer(case: &Case<'_>) -> String {
    let part = |name: &str| case.parts.iter().find(|(own, _)| *own == name).map(|(_, text)| *text);
    let files: Vec<(String, String)> = case
        .parts
        .iter()
        .filter_map(|(name, text)| Some((name.strip_prefix("file ")?.to_owned(), (*text).to_owned())))
        .collect();
    let model = world::model(&files, part("broken").is_none());
    let show = |explanation: Result<Explanation, brattice_explain::Error>, render: fn(&Explanation) -> String| {
        match explanation {
            Ok(explanation) => {
                // The JSON output is read back as the same.
                let json = serde_json::to_string(&explanation).unwrap();
                assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
                format!(
                    "exit code {}, {}\n{}",
                    explanation.outcome.exit_code(),
                    serde_json::to_value(explanation.reason).unwrap().as_str().unwrap(),
                    render(&explanation)
                )
            }
            Err(e) => format!("error: {e}\n"),
        }
    };
    if let Some(asked) = part("documents") {
        let documents = Documents::new(&model);
        return show(explain(&documents.world(NOW), &Subject::MadeUp(question(asked))), render);
    }
    if let Some(asked) = part("documents route") {
        let documents = Documents::new(&model);
        return show(route(&documents.world(NOW), &question(asked)), render_route);
    }
    let known = format!("{}{}", part("only").map_or(KNOWN, |_| ""), part("only").or(part("node")).unwrap_or_default());
    let node = Node::new(model, &known);
    if let Some(asked) = part("route") {
        return show(route(&node.world(), &question(asked)), render_route);
    }
    let subject = match (part("ask"), part("past")) {
        (Some(asked), _) => Subject::MadeUp(question(asked)),
        (_, Some(text)) => Subject::Past(Box::new(past(text))),
        _ => panic!("{}: nothing is asked", case.title),
    };
    show(explain(&node.world(), &subject), render)
}

#[test]
fn says_what_becomes_of_requests_and_why() {
    let cases = cases();
    assert!(cases.len() >= 30, "{} cases", cases.len());
    if std::env::var_os("BRATTICE_BLESS").is_some() {
        let mut table = TABLE.split_once("\n=== ").expect("the table has cases").0.to_owned();
        for case in &cases {
            write!(table, "\n=== {}\n{}>>>\n{}", case.title, case.written, answer(case)).unwrap();
        }
        std::fs::write("tests/golden.txt", table).unwrap();
        return;
    }
    let mut wrong = String::new();
    for case in &cases {
        let found = answer(case);
        if found.trim_end_matches('\n') != case.expected {
            writeln!(wrong, "{}:\nexpected\n{}\nfound\n{found}", case.title, case.expected).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Every reason there is has its situation.
#[test]
fn every_reason_is_shown() {
    let reasons: Vec<&str> = cases()
        .iter()
        .filter_map(|case| case.expected.lines().next()?.split_once(", ").map(|(_, reason)| reason))
        .collect();
    for reason in [
        "allowed",
        "not-attached",
        "attaching",
        "caller-gone",
        "vpc-not-in-force",
        "service-not-in-force",
        "detached",
        "no-listener",
        "engine-down",
        "limit-reached",
        "bypass",
        "bypass-refused",
        "no-association",
        "association-failed",
        "unknown-host",
        "path-refused",
        "request-refused",
        "policy",
        "no-target",
        "rewrite-refused",
        "unremembered",
    ] {
        assert!(reasons.contains(&reason), "{reason}");
    }
}
