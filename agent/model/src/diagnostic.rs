//! Findings about a document: where, what was expected, and what might have been meant.

use std::fmt;
use std::sync::Arc;

use brattice_wire::snapshot::Origin;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_DIAGNOSTICS;

/// A place in a document file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Path relative to the policies directory.
    pub file: Arc<str>,
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// Characters on this line that belong to it; at least 1.
    pub length: u32,
}

impl Position {
    /// For messages that name another place.
    pub fn place(&self) -> String {
        format!("{}:{}:{}", escape(&self.file), self.line, self.column)
    }

    /// The place in the form that is passed to the engine.
    pub fn origin(&self) -> Origin {
        Origin::File { path: self.file.to_string(), line: self.line }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub at: Position,
}

impl<T> std::ops::Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The owner's documents do not come into force.
    Error,
    /// They do, but something will not be as written (an association without a grant, say).
    Warning,
}

/// One finding. [`fmt::Display`] is one line; [`Diagnostic::render`] shows the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Path relative to the policies directory.
    pub file: String,
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// Characters to underline, at least 1.
    pub length: u32,
    /// The problem.
    pub message: String,
    /// The expected text or value.
    pub expected: Option<String>,
    /// The nearest name, or what to do.
    pub help: Option<String>,
    /// How bad it is.
    pub severity: Severity,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(at: &Position, message: impl Into<String>) -> Self {
        Self {
            file: at.file.to_string(),
            line: at.line,
            column: at.column,
            length: at.length.max(1),
            message: message.into(),
            expected: None,
            help: None,
            severity: Severity::Error,
        }
    }

    /// A warning at a place.
    pub fn warning(at: &Position, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(at, message) }
    }

    /// Says what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Names the nearest name, if there is one.
    #[must_use]
    pub fn nearest(mut self, nearest: Option<&str>) -> Self {
        if let Some(nearest) = nearest {
            self.help = Some(format!("did you mean {}?", quote(nearest)));
        }
        self
    }

    /// The finding above the line of `source` (the text of [`Diagnostic::file`]) it is about.
    pub fn render(&self, source: &str) -> String {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut out = format!("{word}: {}\n", self.message);
        let number = self.line.to_string();
        let pad = " ".repeat(number.len());
        out.push_str(&format!("{pad}--> {}:{}:{}\n", escape(&self.file), self.line, self.column));
        if let Some(line) = nth_line(source, self.line) {
            // A window around the place: a line may be megabytes long.
            let from = (self.column as usize).saturating_sub(1).saturating_sub(WINDOW_BEFORE);
            let shown: String = line.chars().skip(from).take(WINDOW).map(printable).collect();
            let indent = (self.column as usize).saturating_sub(1).saturating_sub(from);
            let room = shown.chars().count().saturating_sub(indent).max(1);
            let marks = "^".repeat((self.length as usize).clamp(1, room));
            out.push_str(&format!("{pad} |\n{number} | {shown}\n{pad} | {}{marks}\n", " ".repeat(indent)));
        }
        if let Some(expected) = &self.expected {
            out.push_str(&format!("{pad} = expected: {expected}\n"));
        }
        if let Some(help) = &self.help {
            out.push_str(&format!("{pad} = help: {help}\n"));
        }
        out
    }
}

const WINDOW: usize = 120;
const WINDOW_BEFORE: usize = 60;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", escape(&self.file), self.line, self.column, self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// Collects findings up to [`MAX_DIAGNOSTICS`] and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    list: Vec<Diagnostic>,
    more: usize,
}

impl Sink {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < MAX_DIAGNOSTICS {
            self.list.push(diagnostic);
        } else {
            self.more += 1;
        }
    }

    /// Whether looking for the nearest name would be work for nothing.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_DIAGNOSTICS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In order of file, line and column; equal ones once.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.list.sort_by(|a, b| (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message)));
        self.list.dedup();
        if let (Some(last), true) = (self.list.last().cloned(), self.more > 0) {
            let message = format!("and {} more findings that are not shown", self.more);
            self.list.push(Diagnostic { message, expected: None, help: None, ..last });
        }
        self.list
    }
}

/// Longest user text repeated in a message, characters.
const QUOTED: usize = 80;

/// User text for a message: between backticks, without control characters, not too long.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("`");
    out.extend(text.chars().take(QUOTED).map(printable));
    if text.chars().nth(QUOTED).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

fn escape(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// Control characters, and those that change the direction of text, could forge output on a terminal.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '\u{fffd}',
        c => c,
    }
}

/// Line `number` (1-based) as YAML counts lines: LF, CR and CRLF end one.
pub(crate) fn nth_line(source: &str, number: u32) -> Option<&str> {
    let mut rest = source;
    for _ in 1..number {
        let end = rest.find(['\n', '\r'])?;
        let skip = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + skip..];
    }
    Some(&rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32, length: u32) -> Position {
        Position { file: "a.yaml".into(), line, column, length }
    }

    #[test]
    fn renders_the_line_with_the_place_underlined() {
        let d = Diagnostic::error(&at(2, 3, 4), "bad").expected("good").nearest(Some("best"));
        assert_eq!(
            d.render("first\n  abcd: 1\nthird"),
            "error: bad\n --> a.yaml:2:3\n  |\n2 |   abcd: 1\n  |   ^^^^\n  = expected: good\n  = help: did you mean `best`?\n"
        );
        assert_eq!(d.to_string(), "a.yaml:2:3: bad; expected good (did you mean `best`?)");
    }

    #[test]
    fn shows_no_control_characters() {
        assert_eq!(quote("a\u{1b}[31m\u{202e}b"), "`a\u{fffd}[31m\u{fffd}b`");
        assert_eq!(quote(&"x".repeat(81)), format!("`{}…`", "x".repeat(80)));
        assert!(!Diagnostic::error(&at(1, 1, 1), "m").render("\u{1b}[2J").contains('\u{1b}'));
    }

    #[test]
    fn a_place_outside_the_text_is_no_harm() {
        assert!(Diagnostic::error(&at(9, 9, 9), "m").render("one line").starts_with("error: m"));
        assert!(Diagnostic::error(&at(1, 90, 9), "m").render("one line").contains('^'));
    }

    #[test]
    fn lines_end_as_in_yaml() {
        assert_eq!(nth_line("a\r\nb\rc\nd", 3), Some("c"));
        assert_eq!(nth_line("a", 2), None);
    }

    #[test]
    fn counts_what_it_does_not_show() {
        let mut sink = Sink::default();
        for line in 0..150 {
            sink.push(Diagnostic::error(&at(line + 1, 1, 1), "m"));
        }
        let list = sink.finish();
        assert_eq!(list.len(), MAX_DIAGNOSTICS + 1);
        assert_eq!(list[MAX_DIAGNOSTICS].message, "and 50 more findings that are not shown");
    }
}
