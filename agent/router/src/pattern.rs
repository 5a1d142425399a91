//! Regular expressions: matched against a whole value, in linear time, of bounded size.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::{
    ParserBuilder,
    hir::{Hir, HirKind},
};

use crate::limits::{MAX_REGEX, MAX_REGEX_CACHE, MAX_REGEX_DEPTH, MAX_REGEX_SIZE};

/// Why a regular expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegexError {
    /// More than [`MAX_REGEX`] bytes.
    #[error(
        "the regular expression has {0} bytes, and at most {MAX_REGEX} are allowed; split the rule, or match a prefix"
    )]
    Long(usize),
    /// Not the syntax of the `regex` crate, or one of what it leaves out because it could not be matched in linear time.
    #[error(
        "the regular expression is not valid at its byte {at}: {what}; look-around and backreferences do not exist, as \
         they could take exponential time"
    )]
    Syntax {
        /// Offset, from 0.
        at: usize,
        /// What is wrong.
        what: String,
    },
    /// More than [`MAX_REGEX_SIZE`] bytes when compiled.
    #[error(
        "the regular expression needs more than {MAX_REGEX_SIZE} bytes when compiled; the likely cause is a large or \
         nested repetition such as `(a{{100}}){{100}}`: lower its bounds"
    )]
    Large,
}

/// A regular expression for a whole value. ASCII rules: `.` is any byte but a line feed, `\w`, `\d`, `\s` and case folding
/// know ASCII only.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    whole: Regex,
    prefix: Box<[u8]>,
}

impl Pattern {
    pub(crate) fn new(pattern: &str, case_sensitive: bool) -> Result<Self, RegexError> {
        let hir = parse(pattern, case_sensitive)?;
        // A pattern that is valid by itself cannot leave the group.
        let whole = build(&format!(r"\A(?:{pattern})\z"), case_sensitive)?;
        let mut prefix = Vec::new();
        literal_prefix(&hir, &mut prefix);
        Ok(Self { whole, prefix: prefix.into() })
    }

    /// Whether it matches all of the value.
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }

    /// What every value that it matches begins with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }
}

/// Whether a regular expression may stand in a condition.
///
/// # Errors
/// When it is too long, not valid or too large.
pub fn check_regex(pattern: &str, case_sensitive: bool) -> Result<(), RegexError> {
    Pattern::new(pattern, case_sensitive).map(drop)
}

/// Compiles a regular expression that may match anywhere.
pub(crate) fn anywhere(pattern: &str) -> Result<Regex, RegexError> {
    parse(pattern, true)?;
    build(pattern, true)
}

fn parse(pattern: &str, case_sensitive: bool) -> Result<Hir, RegexError> {
    if pattern.len() > MAX_REGEX {
        return Err(RegexError::Long(pattern.len()));
    }
    let mut parser = ParserBuilder::new();
    parser.unicode(false).utf8(false).case_insensitive(!case_sensitive).nest_limit(MAX_REGEX_DEPTH);
    parser.build().parse(pattern).map_err(|error| match error {
        regex_syntax::Error::Parse(error) => {
            RegexError::Syntax { at: error.span().start.offset, what: error.kind().to_string() }
        }
        regex_syntax::Error::Translate(error) => {
            RegexError::Syntax { at: error.span().start.offset, what: error.kind().to_string() }
        }
        other => RegexError::Syntax { at: 0, what: other.to_string() },
    })
}

/// How deep it nests was looked at when it was parsed.
fn build(pattern: &str, case_sensitive: bool) -> Result<Regex, RegexError> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .case_insensitive(!case_sensitive)
        .size_limit(MAX_REGEX_SIZE)
        .dfa_size_limit(MAX_REGEX_CACHE)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => RegexError::Large,
            // What is left after parsing: a comment of `(?x)` that would swallow the end of the group.
            _ => RegexError::Syntax { at: pattern.len(), what: "it ends in a comment".into() },
        })
}

/// Collects the literal bytes that a match must begin with; says whether all of `hir` was literal.
fn literal_prefix(hir: &Hir, prefix: &mut Vec<u8>) -> bool {
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Literal(literal) => {
            prefix.extend_from_slice(&literal.0);
            true
        }
        HirKind::Capture(group) => literal_prefix(&group.sub, prefix),
        HirKind::Concat(parts) => parts.iter().all(|part| literal_prefix(part, prefix)),
        // Behind a look, a class, a repetition or a choice the text is open.
        HirKind::Look(_) | HirKind::Class(_) | HirKind::Repetition(_) | HirKind::Alternation(_) => false,
    }
}
