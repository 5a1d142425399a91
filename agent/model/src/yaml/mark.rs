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
        let length = if span.start.line() == span.end.line() { span.len().max(1) } else { 1 };
        Self { line: counted(span.start.line()).max(1), column: counted(span.start.col()) + 1, length: counted(length) }
    }
}

/// Lines or characters of a text that was read whole, as places have them.
pub(super) fn counted(n: usize) -> u32 {
    u32::try_from(n).expect("whoever reads a text refuses it from a few megabytes on (limits.rs)")
}

/// A line or column as an index of what lies in memory.
pub(super) fn index(n: u32) -> usize {
    usize::try_from(n).expect("targets have 64 bits")
}
