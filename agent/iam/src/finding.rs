//! Findings about a policy: where, what was expected, and what might have been meant.

use std::fmt;

use crate::limits::MAX_FINDINGS;

/// A place in the text that a policy was read from; all 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
    /// Characters on this line that belong to it; at least 1.
    pub length: u32,
}

impl Mark {
    /// The first character.
    pub const START: Self = Self { line: 1, column: 1, length: 1 };
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// It can, but something in it is probably not as meant.
    Warning,
}

/// One finding. [`fmt::Display`] is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: Mark,
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
    /// The nearest name, or what to do.
    pub help: Option<String>,
    /// For duplicates: the first place.
    pub first: Option<Mark>,
}

impl Finding {
    pub(crate) fn error(at: Mark, message: impl Into<String>) -> Self {
        Self { at, severity: Severity::Error, message: message.into(), expected: None, help: None, first: None }
    }

    pub(crate) fn warning(at: Mark, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(at, message) }
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the help to the nearest name, where there is one.
    pub(crate) fn nearest(self, nearest: Option<&str>) -> Self {
        match nearest {
            Some(name) => self.help(format!("did you mean {}?", quote(name))),
            None => self,
        }
    }

    /// Says in which statement it is, by its number from 1.
    pub(crate) fn of_statement(self, number: usize) -> Self {
        Self { message: format!("statement {number}: {}", self.message), ..self }
    }

    /// For duplicates: where it was before.
    pub(crate) fn first(mut self, first: Mark) -> Self {
        // Where only one place is known for all, it says nothing.
        self.first = Some(first).filter(|first| *first != self.at);
        self
    }

    /// What is wrong, with the first place of what is there twice.
    pub fn text(&self) -> String {
        let first = |first: Mark| format!("; first at line {}, column {}", first.line, first.column);
        format!("{}{}", self.message, self.first.map_or(String::new(), first))
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.is_error() { "" } else { "warning: " };
        write!(f, "{}:{}: {warning}{}", self.at.line, self.at.column, self.text())?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// Collects findings up to [`MAX_FINDINGS`] and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    list: Vec<Finding>,
    more: usize,
    errors: bool,
}

impl Sink {
    pub(crate) fn push(&mut self, finding: Finding) {
        self.errors |= finding.is_error();
        if self.list.len() < MAX_FINDINGS {
            self.list.push(finding);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors
    }

    /// In order of place.
    pub(crate) fn finish(mut self) -> Vec<Finding> {
        self.list.sort_by(|a, b| (a.at, &a.message).cmp(&(b.at, &b.message)));
        if let (Some(last), true) = (self.list.last(), self.more > 0) {
            let severity = if self.errors { Severity::Error } else { Severity::Warning };
            let message = format!("and {} more findings that are not shown", self.more);
            self.list.push(Finding { at: last.at, severity, message, expected: None, help: None, first: None });
        }
        self.list
    }
}

/// Longest text repeated in a message, characters.
const QUOTED: usize = 120;

/// Foreign text for a message: between backticks, without control characters, not too long.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("`");
    out.extend(text.chars().take(QUOTED).map(printable));
    if text.chars().nth(QUOTED).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

/// Control characters, and those that change the direction of text, could forge output on a terminal or in a log.
pub(crate) fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '\u{fffd}',
        c => c,
    }
}

/// Longest name compared, bytes: the work is quadratic in it.
const LONGEST_NAME: usize = 128;
/// Most edits between two names that are near.
const MOST_EDITS: usize = 8;

/// The candidate nearest to what was written, if it is near; case does not count. Of equals, the first.
pub(crate) fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if written.len() > LONGEST_NAME {
        return None;
    }
    let written = written.to_ascii_lowercase();
    let characters = written.chars().count();
    let limit = (characters / 3).min(MOST_EDITS);
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(characters) <= limit)
        .map(|candidate| (strsim::levenshtein(&written, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_does_not_show() {
        let mut sink = Sink::default();
        for _ in 0..MAX_FINDINGS {
            sink.push(Finding::warning(Mark::START, "w"));
        }
        assert!(!sink.has_errors());
        sink.push(Finding::error(Mark::START, "e"));
        assert!(sink.has_errors());
        let list = sink.finish();
        assert_eq!(list.len(), MAX_FINDINGS + 1);
        assert_eq!(list[MAX_FINDINGS].message, "and 1 more findings that are not shown");
        assert!(list[MAX_FINDINGS].is_error());
    }

    #[test]
    fn quotes_are_safe_to_print() {
        assert_eq!(quote("a\u{1b}[31m\u{202e}b\tc"), "`a\u{fffd}[31m\u{fffd}b c`");
        assert_eq!(quote(&"x".repeat(QUOTED)), format!("`{}`", "x".repeat(QUOTED)));
        assert_eq!(quote(&"x".repeat(QUOTED + 1)), format!("`{}…`", "x".repeat(QUOTED)));
    }

    #[test]
    fn finds_what_was_meant() {
        assert_eq!(nearest("Efect", ["Action", "Effect"]), Some("Effect"));
        assert_eq!(nearest("effect", ["Action", "Effect"]), Some("Effect"));
        assert_eq!(nearest("Whatever", ["Action", "Effect"]), None);
        assert_eq!(nearest(&"x".repeat(1000), ["x"]), None);
    }
}
