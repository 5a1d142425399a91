//! Positions in a file.

use saphyr_parser::Span;

/// A place within one file; all 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
    /// Characters on the first line.
    pub length: u32,
}

impl Mark {
    pub(crate) const START: Self = Self { line: 1, column: 1, length: 1 };

    pub(super) fn at_most(self, end: Self) -> Self {
        if (self.line, self.column) > (end.line, end.column) { end } else { self }
    }

    pub(super) fn of(span: Span) -> Self {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let length = if span.start.line() == span.end.line() { span.len().max(1) } else { 1 };
        Self {
            line: small(span.start.line()).max(1),
            column: small(span.start.col()).saturating_add(1),
            length: small(length),
        }
    }
}
