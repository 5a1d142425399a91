//! One line of a `Condition`: a key, an operator, values.

use std::cmp::Ordering;

use crate::finding::Mark;
use crate::key::Key;
use crate::language::Effect;
use crate::operator::{Operator, Set};
use crate::pattern::Pattern;
use crate::request::{Facts, Value, Work};
use crate::value::{self, Block, Number, Time};

/// One line of a `Condition`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// How it compares.
    pub operator: Operator,
    /// The key that it compares.
    pub key: Key,
    /// The values as written.
    pub values: Vec<Box<str>>,
    /// Where the key stands.
    pub at: Mark,
    /// Where the values stand.
    pub(crate) marks: Vec<Mark>,
    pub(crate) test: Test,
}

/// The values, ready to be compared with one of the request's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// Literal ones in order, to be found by bisection, and the others.
    Strings(Box<[Box<str>]>, Vec<Pattern>),
    /// The same in lower case; the others have variables.
    Lowered(Box<[Box<str>]>, Vec<Pattern>),
    Arns(Vec<[Pattern; 6]>),
    Numbers(&'static [Ordering], Vec<Number>),
    Times(&'static [Ordering], Vec<Time>),
    Truths(Vec<bool>),
    Blocks(Vec<Block>),
    /// Whether the key must be missing.
    Null(Vec<bool>),
}

impl Condition {
    /// Whether the request fulfils it, in a statement with this effect: of several values of a key, a plain operator
    /// wants all to fit where the statement allows, and one where it denies.
    pub(crate) fn holds(&self, effect: Effect, facts: &Facts<'_>, work: &mut Work) -> bool {
        let negated = self.operator.base().negated;
        let (mut none, mut any, mut all) = (true, false, true);
        if let Test::Null(missing) = &self.test {
            facts.each(&self.key, &mut |_| none = false);
            return missing.contains(&none);
        }
        facts.each(&self.key, &mut |value| {
            let fits = self.test.fits(value, facts, work) != negated;
            none = false;
            any |= fits;
            all &= fits;
        });
        if none {
            return self.operator.if_exists
                || match self.operator.set {
                    Set::Plain => negated,
                    Set::Any => false,
                    Set::All => true,
                };
        }
        match (self.operator.set, effect) {
            (Set::Any, _) | (Set::Plain, Effect::Deny) => any,
            (Set::All, _) | (Set::Plain, Effect::Allow) => all,
        }
    }

    /// Whether it is fulfilled only by requests without the key.
    pub(crate) fn wants_no(&self, key: &Key) -> bool {
        self.key == *key && matches!(&self.test, Test::Null(missing) if missing.iter().all(|missing| *missing))
    }

    /// The key, and those of variables in its values.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        let patterns: &[Pattern] = match &self.test {
            Test::Strings(_, patterns) | Test::Lowered(_, patterns) => patterns,
            _ => &[],
        };
        let arns: &[[Pattern; 6]] = if let Test::Arns(arns) = &self.test { arns } else { &[] };
        let variables = patterns.iter().chain(arns.iter().flatten()).flat_map(Pattern::variables);
        std::iter::once(&self.key).chain(variables)
    }
}

impl Test {
    /// Whether one value of the request fits one of the policy's. A value that cannot be read as what the operator
    /// compares fits none.
    pub(crate) fn fits(&self, value: Value<'_>, facts: &Facts<'_>, work: &mut Work) -> bool {
        match (self, value) {
            (Self::Strings(literals, patterns), Value::Text(text)) => {
                literals.binary_search_by(|literal| (**literal).cmp(text)).is_ok()
                    || patterns.iter().any(|pattern| pattern.matches(text, facts, work))
            }
            (Self::Lowered(literals, patterns), Value::Text(text)) => {
                work.text.clear();
                work.text.extend(text.chars().flat_map(char::to_lowercase));
                literals.binary_search_by(|literal| (**literal).cmp(&work.text)).is_ok()
                    || patterns.iter().any(|pattern| pattern.matches_lowered(facts, work))
            }
            (Self::Arns(patterns), Value::Text(text)) => {
                patterns.iter().any(|pattern| arn_fits(pattern, text, facts, work))
            }
            (Self::Numbers(orders, numbers), value) => {
                let own = match value {
                    Value::Text(text) => Number::parse(text),
                    Value::Whole(number) | Value::Time(number) => Some(Number::whole(number)),
                    _ => None,
                };
                own.is_some_and(|own| numbers.iter().any(|number| orders.contains(&own.cmp(number))))
            }
            (Self::Times(orders, times), value) => {
                let own = match value {
                    Value::Text(text) => Time::parse(text),
                    Value::Time(seconds) => Some(Time::epoch(seconds)),
                    _ => None,
                };
                own.is_some_and(|own| times.iter().any(|time| orders.contains(&own.cmp(time))))
            }
            (Self::Truths(truths), Value::Text(text)) => value::truth(text).is_some_and(|own| truths.contains(&own)),
            (Self::Truths(truths), Value::Truth(own)) => truths.contains(&own),
            (Self::Blocks(blocks), value) => {
                let own = match value {
                    Value::Text(text) => text.parse().ok(),
                    Value::Address(address) => Some(address),
                    _ => None,
                };
                own.is_some_and(|own| blocks.iter().any(|block| block.contains(own)))
            }
            _ => false,
        }
    }
}

/// Part by part: a wildcard does not reach over a colon, except in the last part.
fn arn_fits(patterns: &[Pattern; 6], text: &str, facts: &Facts<'_>, work: &mut Work) -> bool {
    let mut parts = text.splitn(6, ':');
    patterns.iter().all(|pattern| parts.next().is_some_and(|part| pattern.matches(part, facts, work)))
}
