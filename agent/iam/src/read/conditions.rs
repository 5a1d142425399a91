//! `Condition`.

use std::collections::HashMap;

use super::Reader;
use crate::condition::{Condition, Test};
use crate::finding::{Finding, Mark, quote};
use crate::key::Key;
use crate::operator::{Comparison, Family, Operator, Set};
use crate::pattern::Pattern;
use crate::tree::{Content, Name, Tree};
use crate::value::{self, Block, Number, Time};

impl Reader {
    pub(super) fn conditions(&mut self, tree: &Tree) -> Option<Vec<Condition>> {
        let mut conditions = Vec::new();
        for (name, keys) in self.entries(tree, "Condition")? {
            let operator = match Operator::parse(&name.text) {
                Ok(operator) => operator,
                Err(unknown) => {
                    self.fault(name.at, (unknown.message, unknown.help));
                    continue;
                }
            };
            let mut seen: HashMap<Key, Mark> = HashMap::new();
            let Some(keys) = self.entries(keys, "the keys of a condition operator") else { continue };
            if keys.is_empty() {
                self.report(Finding::error(name.at, format!("{} compares no key", quote(&name.text))));
            }
            for (name, values) in keys {
                let Some(condition) = self.condition(operator, name, values) else { continue };
                if let Some(first) = seen.insert(condition.key.clone(), name.at) {
                    let message = format!("the condition key {} is there twice in other letters", quote(&name.text));
                    let finding = Finding::error(name.at, message).first(first);
                    self.report(finding.help("keep one of them, with all values"));
                }
                conditions.push(condition);
            }
        }
        let ip = conditions.iter().find(|condition| condition.key == Key::SourceIp);
        if let Some(ip) = ip
            && !conditions.iter().any(|condition| condition.key == Key::SourceVpc)
        {
            let message = "addresses overlap between VPCs, so `aws:SourceIp` alone does not tell who calls";
            self.report(Finding::warning(ip.at, message).help("add a condition on vpc-lattice-svcs:SourceVpc"));
        }
        Some(conditions)
    }

    fn condition(&mut self, operator: Operator, name: &Name, values: &Tree) -> Option<Condition> {
        let key = match Key::parse(&name.text) {
            Ok(key) => key,
            Err(unknown) => {
                self.fault(name.at, (unknown.message, unknown.help));
                return None;
            }
        };
        self.check_http(name.at, &key);
        let family = operator.base().family;
        if !key.kind().allows(family) {
            let message = match family {
                Family::Binary => format!("`{operator}` compares binary values, and `{key}` has none"),
                _ => format!("`{operator}` does not fit the values of `{key}`"),
            };
            self.report(Finding::error(name.at, message).help(format!("use {}", key.kind().operators())));
            return None;
        }
        self.check_set(operator, &key, name.at);
        let items = self.one_or_more(values, "a value");
        let mut texts: Vec<(Mark, &str)> = Vec::with_capacity(items.len());
        for item in items {
            match &item.content {
                Content::String(text) | Content::Number(text) => texts.push((item.at, text)),
                Content::Bool(truth) => texts.push((item.at, if *truth { "true" } else { "false" })),
                _ => self.wrong(item, "the value of a condition: a string, number or boolean"),
            }
        }
        let test = self.test(operator, &texts)?;
        let marks = texts.iter().map(|(at, _)| *at).collect();
        let values = texts.into_iter().map(|(_, text)| text.into()).collect();
        Some(Condition { operator, key, values, at: name.at, marks, test })
    }

    /// Whether the operator's prefix fits the number of values that the key may have.
    fn check_set(&mut self, operator: Operator, key: &Key, at: Mark) {
        if operator.base().family == Family::Null {
            return;
        }
        // Headers may come several times, though AWS gives them one value.
        let several = key.is_multi_valued() || matches!(key, Key::RequestHeader(_));
        if key.is_multi_valued() && operator.set == Set::Plain {
            let message = format!(
                "`{key}` may have several values: with `{operator}`, Allow wants all of them to match and Deny any"
            );
            let help = format!("say which with ForAnyValue:{operator} or ForAllValues:{operator}");
            self.report(Finding::warning(at, message).help(help));
        } else if !several && operator.set != Set::Plain {
            let mut plain = operator;
            plain.set = Set::Plain;
            let message = match operator.set {
                Set::All => {
                    format!("`{key}` has one value: with `{operator}` the condition also holds where it has none")
                }
                _ => format!("`{key}` has one value, so the prefix of `{operator}` changes little"),
            };
            self.report(Finding::warning(at, message).help(format!("use {plain}")));
        }
    }

    pub(super) fn test(&mut self, operator: Operator, texts: &[(Mark, &str)]) -> Option<Test> {
        let base = operator.base();
        let orders = match base.comparison {
            Comparison::Ordered(orders) => orders,
            _ => &[],
        };
        let form = match base.family {
            Family::String => return self.strings(base.comparison, texts),
            Family::Arn => return self.arns(texts),
            Family::Numeric => "a number such as 443 or -1.5, with at most 18 digits on either side of the point",
            Family::Date => "a time such as 2026-01-31T10:00:00Z, or seconds since 1970",
            Family::Bool | Family::Null => "true or false",
            Family::IpAddress => "an IP address or a block such as 10.0.0.0/8",
            // No key has binary values, which has been reported.
            Family::Binary => return None,
        };
        match base.family {
            Family::Numeric => self.all(texts, form, Number::parse).map(|numbers| Test::Numbers(orders, numbers)),
            Family::Date => self.all(texts, form, Time::parse).map(|times| Test::Times(orders, times)),
            Family::Bool => self.all(texts, form, value::truth).map(Test::Truths),
            Family::Null => self.all(texts, form, value::truth).map(Test::Null),
            _ => self.all(texts, form, Block::parse).map(Test::Blocks),
        }
    }

    fn all<T>(&mut self, texts: &[(Mark, &str)], form: &str, parse: fn(&str) -> Option<T>) -> Option<Vec<T>> {
        let mut values = Vec::with_capacity(texts.len());
        for (at, text) in texts {
            match parse(text) {
                Some(value) => values.push(value),
                None => self.report(Finding::error(*at, format!("found {}", quote(text))).expected(form)),
            }
        }
        (values.len() == texts.len()).then_some(values)
    }

    fn strings(&mut self, comparison: Comparison, texts: &[(Mark, &str)]) -> Option<Test> {
        let like = comparison == Comparison::Like;
        let (mut literals, mut patterns): (Vec<Box<str>>, Vec<Pattern>) = (Vec::new(), Vec::new());
        for (at, text) in texts {
            if !like && text.replace("${*}", "").replace("${?}", "").contains(['*', '?']) {
                let message = format!("`*` and `?` in {} are literal: this operator knows no wildcards", quote(text));
                self.report(Finding::warning(*at, message).help("use StringLike or StringNotLike for wildcards"));
            }
            let reading = self.reading(*at, text, like);
            match Pattern::parse(text, reading) {
                Ok(pattern) => {
                    pattern.variables().for_each(|key| self.check_http(*at, key));
                    match pattern.literal() {
                        Some(literal) if comparison == Comparison::IgnoreCase => {
                            literals.push(literal.chars().flat_map(char::to_lowercase).collect::<String>().into());
                        }
                        Some(literal) => literals.push(literal.into()),
                        None => patterns.push(pattern),
                    }
                }
                Err(fault) => self.fault(*at, fault),
            }
        }
        literals.sort_unstable();
        literals.dedup();
        let literals = literals.into();
        Some(if comparison == Comparison::IgnoreCase {
            Test::Lowered(literals, patterns)
        } else {
            Test::Strings(literals, patterns)
        })
    }

    fn arns(&mut self, texts: &[(Mark, &str)]) -> Option<Test> {
        let mut patterns = Vec::with_capacity(texts.len());
        for (at, text) in texts {
            let reading = self.reading(*at, text, true);
            match Pattern::parse_arn(text, reading) {
                Ok(Some(parts)) => {
                    parts.iter().flat_map(Pattern::variables).for_each(|key| self.check_http(*at, key));
                    patterns.push(parts);
                }
                Ok(None) => {
                    let finding =
                        Finding::error(*at, format!("{} is no ARN: it has fewer than six parts", quote(text)));
                    self.report(finding.expected(
                        "arn:<partition>:<service>:<region>:<account>:<resource>, each part with wildcards as needed",
                    ));
                }
                Err(fault) => self.fault(*at, fault),
            }
        }
        Some(Test::Arns(patterns))
    }
}
