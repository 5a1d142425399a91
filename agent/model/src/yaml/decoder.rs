//! Typed values out of a tree. Every method reports what is wrong and goes on, so that one run shows all errors.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::syntax;
use super::tree::is_null;
use super::{Content, Mark, Node};
use crate::diagnostic::{Diagnostic, Located, Position, Sink, quote};
use crate::nearest::meant;

pub(crate) struct Decoder<'s> {
    pub(crate) file: Arc<str>,
    pub(crate) sink: &'s mut Sink,
    /// Regular expressions that the owner has so far.
    pub(crate) regexes: &'s mut usize,
}

impl Decoder<'_> {
    pub(crate) fn at(&self, mark: Mark) -> Position {
        Position { file: Arc::clone(&self.file), line: mark.line, column: mark.column, length: mark.length }
    }

    pub(crate) fn error(&self, mark: Mark, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&self.at(mark), message)
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.sink.push(diagnostic);
    }

    fn wrong(&mut self, node: &Node, expected: &str) {
        if !matches!(node.content, Content::Refused) {
            if let Content::Scalar { text, plain: true } = &node.content
                && let Some((_, blank)) = syntax::misplaced_blank(text)
            {
                let diagnostic =
                    self.error(node.mark, format!("found {}, with {}", found(node), syntax::unusual(blank)));
                self.report(diagnostic.expected(expected).help(syntax::UNUSUAL_HELP));
                return;
            }
            let mut diagnostic = self.error(node.mark, format!("found {}", found(node))).expected(expected);
            if let Content::Scalar { text, plain: true } = &node.content
                && expected.contains("string")
                && !is_null(text)
            {
                diagnostic = diagnostic.help(format!("put it in quotes: \"{}\"", quote(text).trim_matches('`')));
            }
            match &node.content {
                Content::Scalar { text, .. } if expected.starts_with("a list of") && !is_null(text) => {
                    let own = quote(text);
                    let mark = if scalar_type(text) == "string" { "" } else { "\"" };
                    diagnostic =
                        diagnostic.help(format!("write it as a list: [{mark}{}{mark}]", own.trim_matches('`')));
                }
                Content::List(_) if expected.starts_with("a string") => {
                    diagnostic = diagnostic.help("it takes one value: write it without `- ` or `[` and `]`");
                }
                _ => {}
            }
            self.report(diagnostic);
        }
    }

    /// A mapping; `what` names it in errors.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, what: &'static str) -> Option<Fields<'n>> {
        match &node.content {
            Content::Map(entries) => Some(Fields {
                entries,
                used: vec![false; entries.len()],
                asked: Vec::new(),
                missing: Vec::new(),
                mark: node.mark,
                what,
            }),
            _ => {
                self.wrong(node, &format!("a mapping with the fields of {what}"));
                None
            }
        }
    }

    /// A list with a number of items in `bounds`.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, bounds: RangeInclusive<usize>, what: &str) -> Option<&'n [Node]> {
        let Content::List(items) = &node.content else {
            self.wrong(node, &format!("a list of {what}"));
            return None;
        };
        if !bounds.contains(&items.len()) {
            let expected = if *bounds.start() == 0 {
                format!("at most {} {what}", bounds.end())
            } else {
                format!("{} to {} {what}", bounds.start(), bounds.end())
            };
            let diagnostic = self.error(node.mark, format!("the list has {} items", items.len())).expected(expected);
            self.report(diagnostic);
            return None;
        }
        Some(items)
    }

    /// A string: quoted, or plain text that YAML does not take for a number, boolean or null.
    pub(crate) fn string<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.content {
            Content::Scalar { text, plain } if !plain || scalar_type(text) == "string" => Some(text),
            _ => {
                self.wrong(node, &format!("a string: {what}"));
                None
            }
        }
    }

    pub(crate) fn located(&mut self, node: &Node, what: &str) -> Option<Located<String>> {
        let value = self.string(node, what)?.to_owned();
        Some(Located { value, at: self.at(node.mark) })
    }

    /// A whole number in `bounds`.
    pub(crate) fn number(&mut self, node: &Node, bounds: RangeInclusive<u64>, what: &str) -> Option<u64> {
        let expected = format!("{what}: a number from {} to {}", bounds.start(), bounds.end());
        if let Content::Scalar { text, plain: true } = &node.content
            && let Some(value) = decimal(text)
        {
            if bounds.contains(&value) {
                return Some(value);
            }
            let diagnostic = self.error(node.mark, format!("{value} is out of range")).expected(expected);
            self.report(diagnostic);
            return None;
        }
        self.wrong(node, &expected);
        None
    }

    /// A whole number of 64 bits with its sign.
    pub(crate) fn integer(&mut self, node: &Node, what: &str) -> Option<i64> {
        if let Content::Scalar { text, plain: true } = &node.content {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
                let value = text.parse().ok();
                if value.is_none() {
                    let diagnostic = self.error(node.mark, format!("{} is out of range", quote(text)));
                    self.report(diagnostic.expected(format!("{what}: a number of 64 bits")));
                }
                return value;
            }
        }
        self.wrong(node, &format!("{what}: a whole number"));
        None
    }

    pub(crate) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match &node.content {
            Content::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "True" | "TRUE") => Some(true),
            Content::Scalar { text, plain: true } if matches!(text.as_str(), "false" | "False" | "FALSE") => {
                Some(false)
            }
            _ => {
                self.wrong(node, "true or false");
                None
            }
        }
    }

    /// One of `now`; those of `later` are known, and refused as not in this version.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        what: &'static str,
        now: &[(&'static str, T)],
        later: &[(&'static str, &'static str)],
    ) -> Option<T> {
        let text = self.string(node, what)?;
        if let Some((_, value)) = now.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let expected = now.iter().map(|(word, _)| quote(word)).collect::<Vec<_>>().join(" or ");
        let diagnostic = if let Some((word, why)) = later.iter().find(|(word, _)| *word == text) {
            let diagnostic = self.error(node.mark, format!("{what} {} is not in this version", quote(word)));
            let diagnostic = diagnostic.expected(expected);
            if why.is_empty() { diagnostic } else { diagnostic.help(*why) }
        } else {
            self.error(node.mark, format!("unknown {what} {}", quote(text)))
                .expected(expected)
                .nearest(meant(text, now.iter().map(|(word, _)| *word)))
        };
        self.report(diagnostic);
        None
    }

    /// The only member of a union, by its name among `names`; `what` names the union in errors.
    pub(crate) fn member<'n>(
        &mut self,
        node: &'n Node,
        what: &'static str,
        names: &[&'static str],
    ) -> Option<(&'static str, &'n Node)> {
        let mut members = self.fields(node, what)?;
        let found: Vec<(&'static str, &Node)> =
            names.iter().filter_map(|name| Some((*name, members.take(self, name)?))).collect();
        let given: Vec<&str> = names.iter().copied().filter(|name| members.has(name)).collect();
        let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
        let (last, others) = quoted.split_last()?;
        let all = format!("{} and {last}", others.join(", "));
        let one = members.finish(self) && self.exactly_one(node.mark, &given, &all);
        found.first().copied().filter(|_| one)
    }

    /// Fails where a union has no member or several. `given` are the members present.
    pub(crate) fn exactly_one(&mut self, mark: Mark, given: &[&str], members: &str) -> bool {
        if given.len() == 1 {
            return true;
        }
        let message =
            if given.is_empty() { "nothing is given".into() } else { format!("{} together", given.join(" and ")) };
        let diagnostic = self.error(mark, message).expected(format!("exactly one of {members}"));
        self.report(diagnostic);
        false
    }
}

/// The fields of a mapping that are not yet read. What was never asked for is an unknown field.
pub(crate) struct Fields<'n> {
    entries: &'n [(super::tree::Key, Node)],
    used: Vec<bool>,
    asked: Vec<&'static str>,
    missing: Vec<&'static str>,
    pub(crate) mark: Mark,
    what: &'static str,
}

impl<'n> Fields<'n> {
    /// The value of a field, null counted as an error.
    pub(crate) fn take(&mut self, d: &mut Decoder<'_>, name: &'static str) -> Option<&'n Node> {
        self.asked.push(name);
        let index = self.entries.iter().position(|(key, _)| key.name == name)?;
        self.used[index] = true;
        let (key, node) = &self.entries[index];
        if matches!(&node.content, Content::Scalar { text, plain: true } if is_null(text)) {
            let diagnostic = d.error(key.mark, format!("the field {} has no value", quote(name)));
            d.report(diagnostic.help("give it one, or leave the field out"));
            return None;
        }
        Some(node)
    }

    /// Whether a field is there, with or without a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key.name == name)
    }

    /// Like [`Fields::take`]; that it is missing is an error, reported by [`Fields::finish`].
    pub(crate) fn need(&mut self, d: &mut Decoder<'_>, name: &'static str) -> Option<&'n Node> {
        if !self.has(name) {
            self.asked.push(name);
            self.missing.push(name);
            return None;
        }
        self.take(d, name)
    }

    /// Reports a field that is known but does nothing yet.
    pub(crate) fn later(&mut self, d: &mut Decoder<'_>, name: &'static str, help: &str) {
        if let Some(index) = self.entries.iter().position(|(key, _)| key.name == name) {
            self.used[index] = true;
            let diagnostic = d.error(self.entries[index].0.mark, format!("{} is not in this version", quote(name)));
            d.report(diagnostic.help(help));
        }
    }

    /// Reports fields that only Brattice sets.
    pub(crate) fn read_only(&mut self, d: &mut Decoder<'_>, names: &[&str]) {
        for (index, (key, _)) in self.entries.iter().enumerate() {
            if !self.used[index] && names.contains(&key.name.as_str()) {
                self.used[index] = true;
                let message = format!("{} is set by Brattice, not by a document", quote(&key.name));
                let diagnostic = d.error(key.mark, message).help("leave it out");
                d.report(diagnostic);
            }
        }
    }

    /// All entries, for mappings with free keys.
    pub(crate) fn all(self) -> impl Iterator<Item = (&'n str, Mark, &'n Node)> {
        self.entries.iter().map(|(key, node)| (key.name.as_str(), key.mark, node))
    }

    /// Reports unknown fields, and those that are missing. True if all were known.
    pub(crate) fn finish(self, d: &mut Decoder<'_>) -> bool {
        let mut misspelt = Vec::new();
        let known = self.used.iter().all(|used| *used);
        for (index, (key, _)) in self.entries.iter().enumerate() {
            if self.used[index] {
                continue;
            }
            let mut diagnostic = d.error(key.mark, format!("unknown field {} in {}", quote(&key.name), self.what));
            if !d.sink.is_full() {
                let near = meant(&key.name, self.asked.iter().copied());
                misspelt.extend(near);
                diagnostic = match near {
                    Some(near) => diagnostic.nearest(Some(near)),
                    None if self.asked.is_empty() => diagnostic.expected("no fields"),
                    None => diagnostic.expected(format!("one of {}", self.asked.join(", "))),
                };
            }
            d.report(diagnostic);
        }
        for name in &self.missing {
            // That a field is missing where it is merely misspelt would be noise.
            if !misspelt.contains(name) {
                let diagnostic = d.error(self.mark, format!("{} lacks the field {}", self.what, quote(name)));
                d.report(diagnostic);
            }
        }
        known
    }
}

fn found(node: &Node) -> String {
    match &node.content {
        Content::Scalar { text, plain: true } if is_null(text) => "no value".into(),
        Content::Scalar { text, plain: true } => format!("the {} {}", scalar_type(text), quote(text)),
        Content::Scalar { text, plain: false } => format!("the string {}", quote(text)),
        Content::List(_) => "a list".into(),
        Content::Map(_) => "a mapping".into(),
        Content::Refused => "something refused".into(),
    }
}

/// The type that YAML 1.2's core schema gives a plain scalar.
pub(super) fn scalar_type(text: &str) -> &'static str {
    if is_null(text) {
        return "null";
    }
    if matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE") {
        return "boolean";
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let all = |s: &str, ok: fn(&char) -> bool| !s.is_empty() && s.chars().all(|c| ok(&c));
    let is_number = all(digits, char::is_ascii_digit)
        || text.strip_prefix("0o").is_some_and(|s| all(s, |c| c.is_digit(8)))
        || text.strip_prefix("0x").is_some_and(|s| all(s, char::is_ascii_hexdigit))
        || matches!(digits, ".inf" | ".Inf" | ".INF")
        || matches!(text, ".nan" | ".NaN" | ".NAN")
        || is_float(digits);
    if is_number { "number" } else { "string" }
}

/// `[0-9]*(\.[0-9]*)?([eE][-+]?[0-9]+)?` with at least one digit before the exponent.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(i) => (&text[..i], Some(&text[i + 1..])),
        None => (text, None),
    };
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty()) && exponent_ok
}

/// A whole number as YAML's core schema writes it, in base ten.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // saturates: what is too large for u64 is too large for any bound.
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_the_core_schema_types() {
        for text in ["1", "-1", "+1", "0o17", "0xff", "1.5", ".5", "1e3", "1.", ".inf", ".NaN", "007"] {
            assert_eq!(scalar_type(text), "number", "{text}");
        }
        for text in ["10.0.0.10", "a", "1a", "-", ".", "e3", "1e", "yes", "no", "0b1", "10.0.0.0/16", "1:2"] {
            assert_eq!(scalar_type(text), "string", "{text}");
        }
        assert_eq!((scalar_type("~"), scalar_type("False")), ("null", "boolean"));
    }
}
