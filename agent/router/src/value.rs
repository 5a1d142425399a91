//! Conditions on a value.

use brattice_wire::rules::ValueMatch;
use memchr::memmem::Finder;

use crate::{
    pattern::{Pattern, RegexError},
    scratch,
};

/// A [`ValueMatch`], compiled.
#[derive(Debug)]
pub(crate) struct Value {
    wanted: Wanted,
    /// Compared in lower case (ASCII).
    fold: bool,
}

#[derive(Debug)]
enum Wanted {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<Finder<'static>>),
    Regex(Pattern),
    Range(i64, i64),
}

impl Value {
    pub(crate) fn new(value: &ValueMatch, case_sensitive: bool) -> Result<Self, RegexError> {
        let text = |text: &str| folded(text, !case_sensitive);
        let wanted = match value {
            ValueMatch::Present => Wanted::Present,
            ValueMatch::Exact(value) => Wanted::Exact(text(value)),
            ValueMatch::Prefix(value) => Wanted::Prefix(text(value)),
            ValueMatch::Suffix(value) => Wanted::Suffix(text(value)),
            ValueMatch::Contains(value) => Wanted::Contains(Box::new(Finder::new(&text(value)).into_owned())),
            ValueMatch::Regex(pattern) => Wanted::Regex(Pattern::new(pattern, case_sensitive)?),
            ValueMatch::Range { start, end } => Wanted::Range(*start, *end),
        };
        Ok(Self { wanted, fold: !case_sensitive })
    }

    /// Whether a value that is there fits.
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        let equal = |wanted: &[u8], part: &[u8]| {
            if self.fold { wanted.eq_ignore_ascii_case(part) } else { wanted == part }
        };
        match &self.wanted {
            Wanted::Present => true,
            Wanted::Exact(wanted) => equal(wanted, value),
            Wanted::Prefix(wanted) => value.get(..wanted.len()).is_some_and(|part| equal(wanted, part)),
            Wanted::Suffix(wanted) => {
                value.len().checked_sub(wanted.len()).is_some_and(|from| equal(wanted, &value[from..]))
            }
            Wanted::Contains(wanted) if self.fold => scratch::with(|lower| {
                lower.extend(value.iter().map(u8::to_ascii_lowercase));
                wanted.find(lower).is_some()
            }),
            Wanted::Contains(wanted) => wanted.find(value).is_some(),
            Wanted::Regex(pattern) => pattern.matches(value),
            Wanted::Range(start, end) => integer(value).is_some_and(|value| (*start..*end).contains(&value)),
        }
    }
}

/// Text as it is compared.
pub(crate) fn folded(text: &str, fold: bool) -> Box<[u8]> {
    if fold { text.to_ascii_lowercase().into_bytes().into() } else { text.as_bytes().into() }
}

/// A decimal integer: digits, a `-` before them at most.
fn integer(value: &[u8]) -> Option<i64> {
    if value.first() == Some(&b'+') {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}
