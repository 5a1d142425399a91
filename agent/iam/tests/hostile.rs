//! Policies and requests made to hurt: bounded time, clear errors, no panic.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod common;

use std::time::{Duration, Instant};

use brattice_iam::limits::{AWS_POLICY_BYTES, MAX_DEPTH, MAX_FINDINGS, MAX_POLICY_BYTES};
use brattice_iam::{Attachment, Policy, Scratch};
use common::{Line, Stands, Texts};
use proptest::prelude::*;

fn findings(text: &str) -> Vec<String> {
    let read = Policy::from_json(text, "p", Attachment::ServiceNetwork);
    assert_eq!(read.policy.is_none(), read.findings.iter().any(brattice_iam::Finding::is_error), "{:?}", read.findings);
    read.findings.iter().map(ToString::to_string).collect()
}

/// A statement that allows all under a condition, padded to a size.
fn sized(bytes: usize) -> String {
    let text = |pad: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{{"StringEquals":{{"aws:userid":"{pad}"}}}}}}}}"#
        )
    };
    let empty = text("").len();
    text(&"x".repeat(bytes - empty))
}

#[test]
fn sizes_are_bounded() {
    assert_eq!(findings(&sized(AWS_POLICY_BYTES)), [""; 0]);
    let warning = findings(&sized(AWS_POLICY_BYTES + 1));
    assert!(warning.len() == 1 && warning[0].contains("warning: the policy has 10241 bytes"), "{warning:?}");
    assert!(findings(&sized(MAX_POLICY_BYTES))[0].contains("warning"));
    let error = findings(&sized(MAX_POLICY_BYTES + 1));
    assert!(error.len() == 1 && error[0].contains("has 102401 bytes; at most 102400"), "{error:?}");
    // White space does not count for AWS's bound, but for what is read.
    let spaced = sized(200).replace(',', &format!(",{}", " ".repeat(3_000)));
    assert_eq!(findings(&spaced), [""; 0]);
    assert!(findings(&spaced.replace(',', &format!(",{}", " ".repeat(30_000))))[0].contains("at most"));
}

#[test]
fn a_tree_is_bounded_as_text_is() {
    let read = |bytes| {
        let tree = brattice_iam::Tree {
            at: brattice_iam::Mark::START,
            content: brattice_iam::Content::String("x".repeat(bytes)),
        };
        let findings = Policy::from_tree(&tree, "p", Attachment::ServiceNetwork).findings;
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(read(MAX_POLICY_BYTES - 2).contains("found a string"));
    assert!(read(MAX_POLICY_BYTES - 1).contains("as compact JSON"));
}

#[test]
fn nesting_is_bounded() {
    for open in ["[", r#"{"a":"#] {
        let deep = |levels: usize| open.repeat(levels);
        assert!(findings(&deep(90_000 / open.len()))[0].contains("nested deeper"), "{open}");
        assert!(findings(&deep(MAX_DEPTH + 2))[0].contains("nested deeper"), "{open}");
        assert!(!findings(&deep(MAX_DEPTH))[0].contains("nested deeper"), "{open}");
    }
}

#[test]
fn findings_are_bounded() {
    let statements = vec!["{}"; 30_000].join(",");
    let started = Instant::now();
    let list = findings(&format!(r#"{{"Statement":[{statements}]}}"#));
    assert_eq!(list.len(), MAX_FINDINGS + 1);
    assert!(list[MAX_FINDINGS].contains("more findings"), "{}", list[MAX_FINDINGS]);
    assert!(started.elapsed() < Duration::from_secs(5));
    let names: Vec<String> = (0..8_000).map(|n| format!(r#""x{n}":1"#)).collect();
    assert_eq!(findings(&format!("{{{}}}", names.join(","))).len(), MAX_FINDINGS + 1);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// Decides often enough to see what one decision takes.
fn time(service: String, line: &Line, times: u32) -> (bool, Duration) {
    let texts = Texts { networks: vec![Stands::Open], service: Stands::Policy(service, false), ..Texts::default() };
    let (policies, findings) = texts.compile();
    assert!(findings.iter().all(|finding| finding.contains("warning")), "{:?}", findings.first());
    let mut scratch = Scratch::default();
    let started = Instant::now();
    let allowed = line.with(|request| {
        policies
            .with(|chain| (0..times).map(|_| chain.decide(request, &mut scratch).is_allowed()).fold(false, |_, a| a))
    });
    (allowed, started.elapsed() / times)
}

fn with_resource(resource: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":"*","Action":"*","Resource":{resource}}}}}"#
    )
}

#[test]
fn hostile_wildcards_take_bounded_time() {
    let path = format!("/{}", "a".repeat(8_000));
    let line = Line { path, ..Line::parse("GET /") };
    let patterns = [
        format!("*{}b", "*a".repeat(40_000)),
        format!("*{}b*", "a?".repeat(2_000)),
        format!("*{}b*", "?a*".repeat(25_000)),
        format!("*{}c", "*?".repeat(40_000)),
        format!("*{}b*", "a".repeat(7_000)),
    ];
    for pattern in patterns {
        let (allowed, took) = time(with_resource(&format!("\"{pattern}\"")), &line, 3);
        assert!(!allowed);
        // Even unoptimized.
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
    // As many as fit into a policy, each as bad as it can be: the work is bounded by the size of the policy.
    let many: Vec<String> = (0..12).map(|n| format!("\"*{}b{n}*\"", "a?".repeat(3_900))).collect();
    let (allowed, took) = time(with_resource(&format!("[{}]", many.join(","))), &line, 1);
    assert!(!allowed && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn hostile_variables_take_bounded_time() {
    // Both sides are the caller's.
    let value = "a?".repeat(2_000);
    let line = Line { path: format!("/{}", "a".repeat(8_000)), ..Line::parse("GET /") };
    let line = Line { headers: vec![("x".into(), value)], ..line };
    let pattern = "*?${vpc-lattice-svcs:RequestHeader/x}*".repeat(20);
    let (allowed, took) = time(with_resource(&format!("\"*{pattern}\"")), &line, 3);
    assert!(!allowed && took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn many_values_take_little_time() {
    let values: Vec<String> = (0..10_000).map(|n| format!("\"v{n}\"")).collect();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{{"StringEquals":{{"aws:userid":[{}]}}}}}}}}"#,
        values.join(",")
    );
    let (allowed, took) = time(policy.clone(), &Line::parse("GET / userid=v9999"), 100);
    assert!(allowed && took < Duration::from_micros(500), "{took:?}");
    assert!(!time(policy, &Line::parse("GET / userid=v10000"), 1).0);
}

#[test]
fn many_statements_are_indexed() {
    let statements: Vec<String> = (0..500)
        .map(|n| format!(r#"{{"Effect":"Allow","Principal":{{"AWS":"{n:012}"}},"Action":"*","Resource":"*"}}"#))
        .collect();
    let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
    let (allowed, took) = time(policy.clone(), &Line::parse("GET / caller=role:r!s@000000000499"), 100);
    assert!(allowed && took < Duration::from_micros(500), "{took:?}");
    assert!(!time(policy, &Line::parse("GET / caller=role:r!s@000000000500"), 1).0);
}

#[test]
fn a_thousand_statements_fit() {
    let statements = vec![r#"{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*/admin"}"#; 1_000].join(",");
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{statements},{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}]}}"#
    );
    assert!(policy.len() < MAX_POLICY_BYTES);
    let (allowed, took) = time(policy, &Line::parse("GET /a"), 20);
    assert!(allowed && took < Duration::from_millis(20), "{took:?}");
}

/// Texts near policies: cut, with bytes changed, doubled.
fn broken() -> impl Strategy<Value = String> {
    let whole = r#"{"Version":"2012-10-17","Id":"i","Statement":[{"Sid":"s","Effect":"Allow","Principal":{"AWS":["*","123456789012"],"Service":"a.b"},"NotAction":"vpc-lattice-svcs:Connect","Resource":["*","*/${aws:userid, 'x'}"],"Condition":{"ForAnyValue:StringLikeIfExists":{"vpc-lattice-svcs:RequestQueryString/a":["b*",1,true]},"DateLessThan":{"aws:CurrentTime":"2026-01-31T10:00:00+01:00"},"NumericEquals":{"vpc-lattice-svcs:Port":443},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/${aws:PrincipalTag/x}"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}"#;
    let edit = (0..whole.len(), "[ -~é\\n]{0,3}", 0..12usize);
    proptest::collection::vec(edit, 1..6).prop_map(move |edits| {
        let mut text: Vec<char> = whole.chars().collect();
        for (at, with, cut) in edits {
            let at = at.min(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, with.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5_000) })]

    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![broken(), ".{0,60}", "[\\[\\]{}\",:0-9a-z\\\\ .eE+-]{0,60}"]) {
        for attachment in [Attachment::Role, Attachment::ServiceNetwork, Attachment::Service { http: false, tcp: true }] {
            let read = Policy::from_json(&text, "p", attachment);
            let lines = 1 + text.matches(['\n', '\r']).count();
            for finding in &read.findings {
                let line = usize::try_from(finding.at.line).unwrap();
                prop_assert!(line >= 1 && line <= lines, "{finding} of {lines} lines");
                prop_assert!(finding.at.column >= 1 && finding.at.length >= 1);
            }
            prop_assert_eq!(read.policy.is_none(), read.findings.iter().any(brattice_iam::Finding::is_error));
        }
    }

    #[test]
    fn json_is_read_as_others_read_it(text in prop_oneof![broken(), "[\\[\\]{}\",:0-9tfn\\\\ .eE+-]{0,40}"]) {
        let own = brattice_iam::json::parse(&text);
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match own {
            // Theirs takes members named twice, and refuses numbers that are too large for it.
            Ok(_) => prop_assert!(theirs.as_ref().is_ok() || theirs.unwrap_err().to_string().contains("out of range")),
            Err(finding) => {
                let stricter = finding.message.contains("there twice") || finding.message.contains("nested deeper");
                prop_assert!(stricter || theirs.is_err(), "{finding}");
            }
        }
    }

    #[test]
    fn no_query_makes_it_panic(query in "[a%=&+0-9é]{0,40}") {
        let line = Line { query, ..Line::parse("GET /") };
        let policy = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"ForAllValues:StringLike":{"vpc-lattice-svcs:RequestQueryString/a":"*"}}}}"#;
        prop_assert!(time(policy.to_owned(), &line, 1).0);
    }
}
