//! A remedy that exempts a call from Deny statements lets no call pass that differs in what such a statement asks about:
//! that has another value of a header, say, or a value where the call has none. By the naive evaluator.

use std::cell::RefCell;

use brattice_iam::{CallerKind, Change, Level};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::common::{Line, Stands, Texts};
use crate::generate::{self, CALLERS};
use crate::naive;
use crate::remedy::by;

/// The keys that a statement asks about, in lower case: in conditions and by variables.
fn asked((statement, variables): &(Value, bool)) -> Vec<String> {
    let mut keys = Vec::new();
    for lines in statement["Condition"].as_object().into_iter().flat_map(|operators| operators.values()) {
        keys.extend(lines.as_object().unwrap().keys().map(|key| key.to_lowercase()));
    }
    if *variables {
        let text = statement.to_string();
        let named = text.split("${").skip(1).filter_map(|rest| rest.split(['}', ',']).next());
        keys.extend(named.map(str::to_lowercase));
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Calls that differ from this one in nothing but a key.
fn differing(line: &Line, key: &str) -> Vec<Line> {
    let lists: [&[&str]; 8] = [&[], &["red"], &["blue"], &["red", "blue"], &["a", "red"], &["A"], &["", "b"], &["c d"]];
    let mut others = Vec::new();
    let mut with = |change: &dyn Fn(&mut Line)| {
        let mut other = line.clone();
        change(&mut other);
        others.push(other);
    };
    // Only a caller that its attachment does not name can differ from another of the same attested identity.
    let named = line.kind == CallerKind::Anonymous || line.session == line.attested;
    let http = line.method.is_some();
    let (name, rest) = key.split_once('/').unwrap_or((key, ""));
    for list in lists {
        let pairs = |name: &str| list.iter().map(|value| (name.to_owned(), (*value).to_owned())).collect::<Vec<_>>();
        let texts = || list.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        match name {
            "vpc-lattice-svcs:requestheader" | "aws:useragent" if http => with(&|other| {
                let header = if rest.is_empty() { "user-agent" } else { rest };
                other.headers.retain(|(own, _)| !own.eq_ignore_ascii_case(header));
                other.headers.extend(pairs(header));
            }),
            "vpc-lattice-svcs:requestquerystring" if http => with(&|other| {
                let kept = line.query.split('&').filter(|own| {
                    let own = own.split('=').next().unwrap();
                    !own.is_empty() && !own.eq_ignore_ascii_case(rest)
                });
                let added = list.iter().map(|value| format!("{rest}={}", value.replace(' ', "+")));
                other.query = kept.map(str::to_owned).chain(added).collect::<Vec<_>>().join("&");
            }),
            "brattice:evidence" => with(&|other| other.evidence = texts()),
            "aws:principaltag" if !named => with(&|other| {
                other.tags.retain(|(own, _)| !own.eq_ignore_ascii_case(rest));
                other.tags.extend(pairs(rest));
            }),
            "aws:principalorgpaths" if !named => with(&|other| other.paths = texts()),
            "aws:userid" if !named => with(&|other| other.user_id = list.first().map(|id| (*id).to_owned())),
            _ => {}
        }
    }
    match key {
        "aws:sourceip" => {
            for ip in [None, Some("10.0.0.9"), Some("10.1.2.3"), Some("2001:db8::9")] {
                with(&|other| other.ip = ip.map(|ip| ip.parse().unwrap()));
            }
        }
        "aws:securetransport" => with(&|other| other.secure = !line.secure),
        _ => {}
    }
    others
}

/// What was shown, so that it is something.
#[derive(Debug, Default)]
struct Seen {
    remedies: u32,
    /// With as many denials or more lifted at once.
    three_denials: u32,
    /// Calls that stay denied.
    others: u32,
    /// Of them those with a value where the call has none.
    lacking: u32,
    /// And those with a part of the call's values.
    fewer: u32,
}

/// The first call that passes by the remedy of another one, though a Deny statement that asks about a key in which they
/// differ was about it.
fn passes_as_well(before: &Texts, after: &Texts, line: &Line, seen: &mut Seen) -> Option<Line> {
    for key in naive::denying(before, line).iter().flat_map(asked) {
        let own = naive::values(line, &key);
        for other in differing(line, &key) {
            let values = naive::values(&other, &key);
            let asks = |statement: &(Value, bool)| asked(statement).contains(&key);
            if values == own || !naive::denying(before, &other).iter().any(asks) {
                continue;
            }
            if naive::decide(after, &other).is_ok() {
                return Some(other);
            }
            seen.others += 1;
            seen.lacking += u32::from(own.is_empty());
            seen.fewer += u32::from(!values.is_empty() && values.is_subset(&own));
        }
    }
    None
}

fn remedy(texts: &Texts, line: &Line) -> Vec<Change> {
    let policies = texts.compile().0;
    line.with(|request| policies.with(|chain| chain.explain(request).remedy))
}

fn check(texts: &Texts, line: &Line, seen: &mut Seen) -> Result<(), TestCaseError> {
    let denials = naive::denying(texts, line).len();
    if denials == 0 {
        return Ok(());
    }
    let remedy = remedy(texts, line);
    // Nothing of the call tells it from others, which the remedy says.
    if remedy.iter().any(|change| matches!(change, Change::Associate | Change::Remove { .. })) {
        return Ok(());
    }
    let after = texts.apply(&remedy);
    let (_, findings) = after.compile();
    let errors: Vec<&String> = findings.iter().filter(|finding| !finding.contains("warning: ")).collect();
    prop_assert!(errors.is_empty(), "{errors:?} after {remedy:#?}");
    prop_assert_eq!(naive::decide(&after, line), Ok(()), "{:#?}", remedy);
    seen.remedies += 1;
    seen.three_denials += u32::from(denials > 2);
    let other = passes_as_well(texts, &after, line, seen);
    prop_assert!(other.is_none(), "{:?} passes as well as {line:?} after {remedy:#?}", other.unwrap());
    Ok(())
}

fn run(texts: impl Strategy<Value = Texts>, share: u32, check: impl Fn(&Texts, &Line) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases: super::config().cases / share, ..super::config() };
    TestRunner::new(config)
        .run(&(texts, generate::line(), 0..CALLERS.len()), |(texts, line, caller)| check(&texts, &by(&line, caller)))
        .unwrap();
}

#[test]
fn a_remedy_for_six_denials_lets_no_call_pass_that_differs_in_what_they_ask_about() {
    let seen = RefCell::new(Seen::default());
    run(generate::denials(), 5, |texts, line| check(texts, line, &mut seen.borrow_mut()));
    let seen = seen.into_inner();
    println!("{seen:?}");
    assert!(seen.remedies > 1_000 && seen.three_denials > 200, "{seen:?}");
    assert!(seen.others > 2_000 && seen.lacking > 500 && seen.fewer > 50, "{seen:?}");
}

#[test]
fn a_remedy_in_policies_of_all_kinds_lets_no_call_pass_that_differs_in_what_the_denials_ask_about() {
    let seen = RefCell::new(Seen::default());
    run(generate::texts(), 10, |texts, line| check(texts, line, &mut seen.borrow_mut()));
    let seen = seen.into_inner();
    println!("{seen:?}");
    assert!(seen.remedies > 200 && seen.others > 50 && seen.lacking > 20, "{seen:?}");
}

/// The control: the same comparison finds calls that pass where the statements are missing that keep calls with a value
/// apart from one without.
#[test]
fn a_remedy_that_skips_what_the_call_lacks_is_found() {
    let found = RefCell::new(0);
    run(generate::denials(), 10, |texts, line| {
        let mut remedy = remedy(texts, line);
        let mut skipped = false;
        for change in &mut remedy {
            let Change::Replace { statements, position, policy, .. } = change else { continue };
            let own = match policy.level {
                Level::Identity => &texts.identity,
                Level::Network => &texts.networks[0],
                Level::Service => &texts.service,
            };
            let Stands::Policy(own, _) = own else { continue };
            let own: Value = serde_json::from_str(own).unwrap();
            let null = &own["Statement"][usize::try_from(*position).unwrap()]["Condition"]["Null"];
            statements.retain(|statement| {
                let statement: Value = serde_json::from_str(statement).unwrap();
                let added = statement["Condition"]["Null"] != *null;
                skipped |= added;
                !added
            });
        }
        if skipped {
            let passes = passes_as_well(texts, &texts.apply(&remedy), line, &mut Seen::default());
            *found.borrow_mut() += u32::from(passes.is_some());
        }
        Ok(())
    });
    assert!(found.into_inner() > 50, "no remedy without these statements let another call pass");
}

/// A Deny statement of a role with a condition; what it denies, and other calls that must stay denied.
fn exempted(condition: &str, denied: &str, others: &[&str]) -> Vec<Change> {
    let statement =
        format!(r#"{{"Sid": "no", "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {condition}}}"#);
    let policy = format!(
        r#"{{"Version": "2012-10-17", "Statement": [{statement}, {{"Effect": "Allow", "Action": "*", "Resource": "*"}}]}}"#
    );
    let texts = Texts { identity: Stands::Policy(policy, false), networks: vec![Stands::Open], ..Texts::default() };
    let line = |text: &str| {
        let who = "caller=role:green!s1@123456789012 attested=arn:aws:sts::123456789012:assumed-role/green/s1";
        Line::parse(&format!("{text} {who} vpc=vpc-1"))
    };
    let call = line(denied);
    assert!(naive::decide(&texts, &call).is_err(), "control: {denied}");
    let remedy = remedy(&texts, &call);
    let after = texts.apply(&remedy);
    let (_, findings) = after.compile();
    assert!(!findings.iter().any(|finding| !finding.contains("warning: ")), "{findings:?} after {remedy:#?}");
    assert_eq!(naive::decide(&after, &call), Ok(()), "{denied} after {remedy:#?}");
    for other in others {
        assert!(naive::decide(&texts, &line(other)).is_err(), "control: {other}");
        assert!(naive::decide(&after, &line(other)).is_err(), "{other} passes as well after {remedy:#?}");
    }
    remedy
}

#[test]
fn a_call_without_a_header_is_exempted_without_those_that_have_it() {
    exempted(
        r#"{"StringNotEquals": {"vpc-lattice-svcs:RequestHeader/X-Team": ["red", "green"]}}"#,
        "GET /a",
        &["GET /a h.x-team=blue", "GET /a h.x-team=", "GET /a h.x-team=red h.x-team=blue", "GET /b"],
    );
    exempted(r#"{"StringNotLike": {"aws:UserAgent": "good*"}}"#, "GET /a", &["GET /a h.user-agent=bad"]);
    exempted(
        r#"{"ForAllValues:StringNotEquals": {"vpc-lattice-svcs:RequestQueryString/type": "a"}}"#,
        "GET /a?n=1",
        &["GET /a?type=b", "GET /a?type=b&type=c&n=1"],
    );
    exempted(
        r#"{"StringNotEquals": {"vpc-lattice-svcs:SourceVpc": "${vpc-lattice-svcs:RequestHeader/x-vpc}"}}"#,
        "GET /a",
        &["GET /a h.x-vpc=vpc-2"],
    );
    exempted(
        r#"{"Null": {"vpc-lattice-svcs:RequestHeader/x-a": ["true", "false"]}}"#,
        "GET /a",
        &["GET /a h.x-a=1", "POST /a"],
    );
    // Calls with the header are not denied by it.
    exempted(r#"{"Null": {"vpc-lattice-svcs:RequestHeader/x-a": "true"}}"#, "GET /a", &["GET /b"]);
    // Each of the statements needs a Sid of its own.
    exempted(
        r#"{"StringNotEquals": {"vpc-lattice-svcs:RequestHeader/x-a": "1", "vpc-lattice-svcs:RequestHeader/x-b": "1"}}"#,
        "GET /a",
        &["GET /a h.x-a=2", "GET /a h.x-b=2"],
    );
}

#[test]
fn a_call_with_a_value_is_exempted_without_those_that_have_others_beside_it_or_fewer() {
    exempted(
        r#"{"StringNotEquals": {"vpc-lattice-svcs:RequestHeader/x-team": "blue"}}"#,
        "GET /a h.x-team=red",
        &["GET /a", "GET /a h.x-team=red h.x-team=blue", "GET /a h.x-team=red h.x-team=green"],
    );
    exempted(
        r#"{"StringEquals": {"vpc-lattice-svcs:RequestHeader/x-team": ["red", "green"]}}"#,
        "GET /a h.x-team=red h.x-team=green",
        &["GET /a h.x-team=red", "GET /a h.x-team=green", "GET /a h.x-team=red h.x-team=green h.x-team=blue"],
    );
    exempted(
        r#"{"NotIpAddress": {"aws:SourceIp": "10.0.0.0/16"}}"#,
        "GET /a ip=10.1.0.5",
        &["GET /a ip=10.1.0.6", "GET /a"],
    );
    exempted(r#"{"NotIpAddress": {"aws:SourceIp": "10.0.0.0/16"}}"#, "GET /a", &["GET /a ip=10.1.0.6"]);
}

/// Whoever calls chooses how many values there are, so the statements are bounded.
#[test]
fn many_values_do_not_make_as_many_statements() {
    let query = |count: u32| (0..count).map(|number| format!("type={number}")).collect::<Vec<_>>().join("&");
    let condition = r#"{"ForAnyValue:StringLike": {"vpc-lattice-svcs:RequestQueryString/type": "*"}}"#;
    let statements = |count: u32| {
        let remedy = exempted(condition, &format!("GET /a?{}", query(count)), &["GET /a?type=a"]);
        let [Change::Replace { statements, .. }] = &remedy[..] else { panic!("{remedy:?}") };
        statements.len()
    };
    assert_eq!(statements(8), statements(1) + 8);
    assert_eq!(statements(500), statements(1));
}
