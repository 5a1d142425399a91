//! Conditions of one statement that no value of their key can satisfy together, for any caller and any service:
//! numbers, times, texts, ARNs, addresses and booleans. Only certain contradictions are reported.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::meet::{Meeting, meet};
use super::names::wildcards;
use crate::condition::{Condition, Test};
use crate::finding::{Finding, Sink, quote};
use crate::glob;
use crate::key::Key;
use crate::language::Effect;
use crate::operator::{Comparison, Family, Set};
use crate::policy::{Policy, Statement};
use crate::value::{Block, Time};

/// Most values of conditions about one key that are compared.
const MAX_VALUES: usize = 200;

/// Tells of the contradictions. By the statement's position: the keys about which it contradicts itself.
pub(super) fn look<'p>(policy: &'p Policy, sink: &mut Sink) -> BTreeMap<usize, BTreeSet<&'p Key>> {
    let mut found: BTreeMap<usize, BTreeSet<&Key>> = BTreeMap::new();
    for (position, statement) in policy.statements.iter().enumerate() {
        let keys: BTreeSet<&Key> = statement.conditions.iter().map(|condition| &condition.key).collect();
        for key in keys {
            let Some(finding) = about(statement, key) else { continue };
            let crowded = policy.place(position).contains('.');
            sink.push(if crowded { finding.of_statement(position + 1) } else { finding });
            found.entry(position).or_default().insert(key);
        }
    }
    found
}

/// A condition for a message.
pub(super) fn shown(condition: &Condition) -> String {
    let values: Vec<String> = condition.values.iter().take(3).map(|value| quote(value)).collect();
    let of = match &condition.test {
        Test::Null(_) => String::new(),
        _ => format!(" with {}", values.join(", ")),
    };
    format!("`{} {}`{of}", condition.operator, condition.key)
}

/// What the conditions about one key say against each other.
fn about(statement: &Statement, key: &Key) -> Option<Finding> {
    let own: Vec<&Condition> = statement.conditions.iter().filter(|condition| condition.key == *key).collect();
    let values: usize = own.iter().map(|condition| condition.values.len()).sum();
    if own.len() < 2 || values > MAX_VALUES {
        return None;
    }
    let wants_none = |condition: &&Condition| matches!(&condition.test, Test::Null(missing) if missing[..] == [true]);
    let wants_some = |condition: &&Condition| match &condition.test {
        Test::Null(missing) => missing[..] == [false],
        _ => needs_value(condition),
    };
    let some = own.iter().copied().find(wants_some);
    if let (Some(none), Some(some)) = (own.iter().copied().find(wants_none), some) {
        return Some(finding(&[none, some]));
    }
    // Where nothing wants a value, one without it fulfils all. Of several values, each condition may be about another.
    let applicable = |condition: &&Condition| {
        !is_multiple(key)
            || (statement.effect == Effect::Allow && condition.operator.set == Set::Plain)
            || condition.operator.set == Set::All
    };
    some.filter(applicable)?;
    let own: Vec<&Condition> = own.into_iter().filter(applicable).collect();
    for (index, later) in own.iter().enumerate() {
        if let Some(earlier) = own[..index].iter().find(|earlier| contradict(&[earlier, later], key)) {
            return Some(finding(&[earlier, later]));
        }
    }
    contradict(&own, key).then(|| finding(&own))
}

fn finding(conditions: &[&Condition]) -> Finding {
    let all: Vec<String> = conditions.iter().map(|condition| shown(condition)).collect();
    let at = conditions.iter().map(|condition| condition.at).max_by_key(|at| (at.line, at.column));
    let message = format!("{} contradict each other, so the statement never applies", all.join(" and "));
    Finding::warning(at.unwrap_or(crate::finding::Mark::START), message)
        .help("all conditions of a statement must hold at once; where one of them should do, write two statements")
}

/// Whether a request without the key does not fulfil it.
fn needs_value(condition: &Condition) -> bool {
    let operator = condition.operator;
    !operator.if_exists
        && match operator.set {
            Set::Plain => !operator.base().negated,
            Set::Any => true,
            Set::All => false,
        }
}

/// Whether a request may have several values of it.
fn is_multiple(key: &Key) -> bool {
    matches!(
        key,
        Key::RequestHeader(_) | Key::RequestQueryString(_) | Key::UserAgent | Key::PrincipalOrgPaths | Key::Evidence
    )
}

/// Whether no value fulfils all of them.
fn contradict(conditions: &[&Condition], key: &Key) -> bool {
    numbers(conditions, *key == Key::Port)
        || times(conditions)
        || truths(conditions)
        || blocks(conditions)
        || conditions.iter().enumerate().any(|(index, one)| conditions[..index].iter().any(|other| texts(one, other)))
}

/// Values above, at and below those named stand for all there are.
fn none_of<T: Ord + Copy>(
    candidates: impl IntoIterator<Item = T>,
    tests: &[(&'static [Ordering], &[T], bool)],
) -> bool {
    let fulfils = |value: &T| {
        tests
            .iter()
            .all(|(orders, named, negated)| named.iter().any(|named| orders.contains(&value.cmp(named))) != *negated)
    };
    tests.len() > 1 && !candidates.into_iter().any(|value| fulfils(&value))
}

fn numbers(conditions: &[&Condition], whole: bool) -> bool {
    let tests: Vec<_> = conditions
        .iter()
        .filter_map(|condition| match &condition.test {
            Test::Numbers(orders, numbers) => Some((*orders, &numbers[..], condition.operator.base().negated)),
            _ => None,
        })
        .collect();
    let named = tests.iter().flat_map(|(_, numbers, _)| numbers.iter().copied());
    none_of(named.flat_map(|number| number.around(whole)), &tests)
}

fn times(conditions: &[&Condition]) -> bool {
    let tests: Vec<_> = conditions
        .iter()
        .filter_map(|condition| match &condition.test {
            Test::Times(orders, times) => Some((*orders, &times[..], condition.operator.base().negated)),
            _ => None,
        })
        .collect();
    let named = tests.iter().flat_map(|(_, times, _)| times.iter().copied());
    none_of(named.flat_map(Time::around), &tests)
}

fn truths(conditions: &[&Condition]) -> bool {
    let mut tests = conditions.iter().filter_map(|condition| match &condition.test {
        Test::Truths(truths) => Some(truths),
        _ => None,
    });
    let Some(first) = tests.next() else { return false };
    let rest: Vec<_> = tests.collect();
    !rest.is_empty() && !first.iter().any(|truth| rest.iter().all(|truths| truths.contains(truth)))
}

/// Of two blocks one lies in the other, or they have nothing in common.
fn blocks(conditions: &[&Condition]) -> bool {
    let tests = || {
        conditions.iter().filter_map(|condition| match &condition.test {
            Test::Blocks(blocks) => Some((blocks, condition.operator.base().negated)),
            _ => None,
        })
    };
    let mut wanted = tests().filter(|(_, negated)| !negated).map(|(blocks, _)| blocks);
    let Some(first) = wanted.next() else { return false };
    let left = wanted.fold(first.clone(), |left: Vec<Block>, blocks| {
        left.iter().flat_map(|one| blocks.iter().filter_map(|other| one.common(other))).collect()
    });
    let unwanted: Vec<&Block> = tests().filter(|(_, negated)| *negated).flat_map(|(blocks, _)| blocks).collect();
    tests().count() > 1 && left.iter().all(|block| unwanted.iter().any(|other| block.common(other) == Some(*block)))
}

/// Whether no text fulfils both. Those with variables are not compared.
fn texts(one: &Condition, other: &Condition) -> bool {
    let family = |condition: &Condition| condition.operator.base().family;
    let comparable = matches!(family(one), Family::String | Family::Arn) && family(one) == family(other);
    let variables = |condition: &Condition| condition.values.iter().any(|value| value.contains("${"));
    if !comparable || variables(one) || variables(other) {
        return false;
    }
    let negated = |condition: &Condition| condition.operator.base().negated;
    let exact = |condition: &Condition| condition.operator.base().comparison != Comparison::IgnoreCase;
    let lower = !exact(one) || !exact(other);
    let each = |condition: &Condition| -> Vec<Vec<Vec<u8>>> {
        condition.values.iter().map(|value| parts(condition, value, lower)).collect()
    };
    match (negated(one), negated(other)) {
        (true, true) => false,
        (false, false) => {
            let never = |a: &[Vec<u8>], b: &[Vec<u8>]| {
                a.len() != b.len() || a.iter().zip(b).any(|(a, b)| meet(a, b) == Meeting::Never)
            };
            let others = each(other);
            each(one).iter().all(|a| others.iter().all(|b| never(a, b)))
        }
        (is, _) => {
            let (wanted, unwanted) = if is { (other, one) } else { (one, other) };
            // Of a text in any case one may be written as the other does not name it.
            if !exact(wanted) && exact(unwanted) {
                return false;
            }
            let within = |a: &[Vec<u8>], b: &[Vec<u8>]| {
                let fits =
                    |(a, b): (&Vec<u8>, &Vec<u8>)| a == b || (is_literal(a) && glob::matches(b, a, &mut Vec::new()));
                a.len() == b.len() && a.iter().zip(b).all(fits)
            };
            let others = each(unwanted);
            each(wanted).iter().all(|a| others.iter().any(|b| within(a, b)))
        }
    }
}

/// A value as patterns: an ARN is compared part by part.
fn parts(condition: &Condition, value: &str, lower: bool) -> Vec<Vec<u8>> {
    let value = if lower { value.to_lowercase() } else { value.to_owned() };
    let base = condition.operator.base();
    let pattern = |text: &str| match base.comparison {
        Comparison::Like => wildcards(text),
        _ => text.as_bytes().to_vec(),
    };
    match base.family {
        Family::Arn => value.splitn(6, ':').map(pattern).collect(),
        _ => vec![pattern(&value)],
    }
}

fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| matches!(*byte, glob::ANY | glob::ONE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::language::Attachment;
    use crate::policy::Policy;

    fn policy(effect: &str, conditions: &str) -> Policy {
        let text = format!(
            r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "{effect}", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {{{conditions}}}}}]}}"#
        );
        let read = Policy::from_json(&text, "x", Attachment::ServiceNetwork);
        read.policy.unwrap_or_else(|| panic!("{conditions}: {:?}", read.findings))
    }

    /// The finding about conditions, if they contradict each other.
    fn warning_of(effect: &str, conditions: &str) -> Option<String> {
        let policy = policy(effect, conditions);
        let mut sink = Sink::default();
        let found = look(&policy, &mut sink);
        let findings = sink.finish();
        assert_eq!(found.len(), findings.len());
        findings.into_iter().next().map(|finding| finding.message)
    }

    const PORT: &str = "vpc-lattice-svcs:Port";
    const METHOD: &str = "vpc-lattice-svcs:RequestMethod";
    const FIELD: &str = "vpc-lattice-svcs:RequestHeader/x-a";

    #[test]
    fn what_no_value_fulfils_is_told() {
        for (key, conditions) in [
            (PORT, r#""NumericLessThan": {"K": "80"}, "NumericGreaterThan": {"K": "79"}"#),
            (PORT, r#""NumericEquals": {"K": "80"}, "NumericNotEquals": {"K": ["80", "81"]}"#),
            (PORT, r#""NumericEquals": {"K": ["80", "81"]}, "NumericGreaterThanEquals": {"K": "82"}"#),
            (
                PORT,
                r#""NumericGreaterThan": {"K": "80"}, "NumericLessThan": {"K": "82"}, "NumericNotEquals": {"K": "81"}"#,
            ),
            (FIELD, r#""NumericLessThan": {"K": "1.5"}, "NumericGreaterThanEquals": {"K": "1.5"}"#),
            ("aws:CurrentTime", r#""DateGreaterThan": {"K": "2030-01-01"}, "DateLessThan": {"K": "2029-01-01"}"#),
            ("aws:CurrentTime", r#""DateEquals": {"K": "2030-01-01"}, "DateLessThan": {"K": "2030"}"#),
            (METHOD, r#""StringEquals": {"K": "GET"}, "StringNotEquals": {"K": ["GET", "HEAD"]}"#),
            (METHOD, r#""StringEquals": {"K": "GET"}, "StringEqualsIgnoreCase": {"K": "post"}"#),
            (METHOD, r#""StringLike": {"K": "P*"}, "StringEquals": {"K": ["GET", "HEAD"]}"#),
            (METHOD, r#""StringEquals": {"K": "GET"}, "StringNotLike": {"K": "G*"}"#),
            ("vpc-lattice-svcs:RequestPath", r#""StringLike": {"K": "/a/*"}, "StringEqualsIgnoreCase": {"K": "/b/c"}"#),
            ("aws:SourceIp", r#""IpAddress": {"K": "10.0.0.0/8"}, "NotIpAddress": {"K": "10.0.0.0/7"}"#),
            ("aws:SourceIp", r#""IpAddress": {"K": "10.0.0.0/8"}, "IpAddressIfExists": {"K": ["11.0.0.0/8", "::/0"]}"#),
            ("aws:SecureTransport", r#""Bool": {"K": "true"}, "BoolIfExists": {"K": "false"}"#),
            (
                "aws:PrincipalArn",
                r#""ArnLike": {"K": "arn:aws:iam::1*:role/a"}, "ArnNotLike": {"K": "arn:aws:iam::1*:role/*"}"#,
            ),
            (
                "aws:PrincipalArn",
                r#""ArnEquals": {"K": "arn:aws:iam::*:role/a"}, "ArnLike": {"K": "arn:aws:iam::*:role/b*"}"#,
            ),
            (FIELD, r#""Null": {"K": "true"}, "StringEquals": {"K": "a"}"#),
            (FIELD, r#""Null": {"K": "false"}, "StringEqualsIfExists": {"K": "a"}, "StringNotEquals": {"K": "a"}"#),
        ] {
            let conditions = conditions.replace('K', key);
            let effects: &[&str] = if is_multiple(&Key::RequestHeader("x-a".into())) && key == FIELD {
                &["Allow"]
            } else {
                &["Allow", "Deny"]
            };
            for effect in effects {
                let warning = warning_of(effect, &conditions).unwrap_or_else(|| panic!("{effect} {conditions}"));
                assert!(warning.contains("contradict each other") && warning.contains(key), "{warning}");
            }
        }
        let warning = warning_of(
            "Allow",
            &format!(r#""NumericLessThan": {{"{PORT}": "80"}}, "NumericGreaterThan": {{"{PORT}": "79"}}"#),
        );
        let first = "`NumericGreaterThan vpc-lattice-svcs:Port` with `79`";
        let second = "`NumericLessThan vpc-lattice-svcs:Port` with `80`";
        let warning = warning.unwrap_or_default();
        assert!(warning.contains(first) && warning.contains(second), "{warning}");
    }

    #[test]
    fn what_some_request_fulfils_is_not_told() {
        for (key, conditions) in [
            (PORT, r#""NumericLessThan": {"K": "82"}, "NumericGreaterThan": {"K": "80"}"#),
            (PORT, r#""NumericEquals": {"K": ["80", "81"]}, "NumericNotEquals": {"K": "80"}"#),
            (FIELD, r#""NumericLessThan": {"K": "80"}, "NumericGreaterThan": {"K": "79"}"#),
            ("aws:CurrentTime", r#""DateGreaterThan": {"K": "2030-01-01"}, "DateLessThan": {"K": "2030-01-02"}"#),
            (METHOD, r#""StringNotEquals": {"K": "GET"}, "StringNotLike": {"K": "P*"}"#),
            (METHOD, r#""StringEqualsIgnoreCase": {"K": "get"}, "StringNotEquals": {"K": "get"}"#),
            (METHOD, r#""StringLike": {"K": "P*"}, "StringNotEquals": {"K": "PUT"}"#),
            (
                METHOD,
                r#""StringEquals": {"K": "${aws:PrincipalTag/a}"}, "StringNotEquals": {"K": "${aws:PrincipalTag/a}"}"#,
            ),
            (FIELD, r#""StringEqualsIfExists": {"K": "a"}, "StringNotEquals": {"K": "a"}"#),
            ("aws:SourceIp", r#""IpAddress": {"K": "10.0.0.0/8"}, "NotIpAddress": {"K": "10.1.0.0/16"}"#),
            (
                "aws:PrincipalArn",
                r#""ArnLike": {"K": "arn:aws:iam::*:role/*"}, "ArnNotLike": {"K": "arn:aws:iam::*:role/b*"}"#,
            ),
        ] {
            let conditions = conditions.replace('K', key);
            for effect in ["Allow", "Deny"] {
                assert_eq!(warning_of(effect, &conditions), None, "{effect} {conditions}");
            }
        }
        // A Deny is about a request of which one of two lines is `a`, and the other is not.
        let lines = format!(r#""StringEquals": {{"{FIELD}": "a"}}, "StringNotEquals": {{"{FIELD}": "a"}}"#);
        assert!(warning_of("Deny", &lines).is_none() && warning_of("Allow", &lines).is_some());
    }

    /// An operator, and whether a value fulfils it.
    type OfNumbers = (&'static str, fn(u8, u8) -> bool);
    type OfTexts = (&'static str, fn(&str, &str) -> bool);

    const NUMERIC: [OfNumbers; 6] = [
        ("NumericEquals", |own, named| own == named),
        ("NumericNotEquals", |own, named| own != named),
        ("NumericLessThan", |own, named| own < named),
        ("NumericLessThanEquals", |own, named| own <= named),
        ("NumericGreaterThan", |own, named| own > named),
        ("NumericGreaterThanEquals", |own, named| own >= named),
    ];
    const TEXTS: [OfTexts; 6] = [
        ("StringEquals", |own, named| own == named),
        ("StringNotEquals", |own, named| own != named),
        ("StringEqualsIgnoreCase", |own, named| own.eq_ignore_ascii_case(named)),
        ("StringNotEqualsIgnoreCase", |own, named| !own.eq_ignore_ascii_case(named)),
        ("StringLike", like),
        ("StringNotLike", |own, named| !like(own, named)),
    ];

    fn like(own: &str, named: &str) -> bool {
        glob::matches(&wildcards(named), own.as_bytes(), &mut Vec::new())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn of_numbers_exactly_the_contradictions_are_told(named in prop::collection::btree_map(0..6usize, 5..9u8, 1..4)) {
            let conditions: Vec<String> =
                named.iter().map(|(which, named)| format!(r#""{}": {{"{PORT}": "{named}"}}"#, NUMERIC[*which].0)).collect();
            let fulfils = |own: u8| named.iter().all(|(which, named)| NUMERIC[*which].1(own, *named));
            let none = !(0..20).any(fulfils);
            let needed = named.keys().any(|which| NUMERIC[*which].0 != "NumericNotEquals");
            prop_assert_eq!(warning_of("Allow", &conditions.join(", ")).is_some(), none && needed, "{:?}", conditions);
        }

        #[test]
        fn of_texts_only_contradictions_are_told(
            named in prop::collection::btree_map(0..6usize, "[abA*?]{0,3}", 1..4),
            own in "[abA]{0,3}",
        ) {
            let conditions: Vec<String> =
                named.iter().map(|(which, named)| format!(r#""{}": {{"{METHOD}": "{named}"}}"#, TEXTS[*which].0)).collect();
            let warning = warning_of("Allow", &conditions.join(", ")).is_some();
            let fulfilled = named.iter().all(|(which, named)| TEXTS[*which].1(&own, named));
            prop_assert!(!warning || !fulfilled, "{own:?}: {conditions:?}");
        }
    }
}
