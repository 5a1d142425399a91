//! A text that fits two patterns at once, for finding a request that a statement is about.

use std::collections::VecDeque;

use crate::glob::{self, ANY, ONE};

/// Largest number of pairs of places looked at; beyond it the answer is not known.
const MAX_PAIRS: usize = 1 << 16;

/// An element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    /// `*`.
    Any,
    /// `?`.
    One,
    Char(char),
}

/// What two patterns have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// A shortest text that fits both.
    At(String),
    /// No text fits both.
    Never,
    /// They are too long to say.
    Unknown,
}

/// What finding a meeting costs at most, in decisions about a request.
pub(super) fn cost(a: &[u8], b: &[u8]) -> u32 {
    if [a, b].into_iter().any(|pattern| pattern == [ANY] || is_literal(pattern)) { 1 } else { 50 }
}

fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| matches!(*byte, ANY | ONE))
}

/// The patterns are as [`crate::glob`] has them.
pub(super) fn meet(a: &[u8], b: &[u8]) -> Meeting {
    for (own, other) in [(a, b), (b, a)] {
        if is_literal(own) {
            let fits = glob::matches(other, own, &mut Vec::new());
            return if fits { Meeting::At(String::from_utf8_lossy(own).into_owned()) } else { Meeting::Never };
        }
        if own == [ANY] {
            return Meeting::At(shortest(other));
        }
    }
    let (a, b) = (elements(a), elements(b));
    let width = b.len() + 1;
    let size = (a.len() + 1).saturating_mul(width);
    if size > MAX_PAIRS {
        return Meeting::Unknown;
    }
    // By which character, and from where, each pair of places was first reached.
    let mut reached: Vec<Option<(usize, Option<char>)>> = vec![None; size];
    let mut next = VecDeque::from([0]);
    reached[0] = Some((0, None));
    while let Some(at) = next.pop_front() {
        if at == size - 1 {
            return Meeting::At(way(&reached, at));
        }
        let (i, j) = (at / width, at % width);
        let (x, y) = (a.get(i).copied(), b.get(j).copied());
        let mut go = |to: usize, by: Option<char>, first: bool| {
            if reached[to].is_none() {
                reached[to] = Some((at, by));
                if first {
                    next.push_front(to);
                } else {
                    next.push_back(to);
                }
            }
        };
        // A star may take nothing, which makes the text no longer.
        if x == Some(Element::Any) {
            go(at + width, None, true);
        }
        if y == Some(Element::Any) {
            go(at + 1, None, true);
        }
        let (Some(x), Some(y)) = (x, y) else { continue };
        let by = match (x, y) {
            (Element::Char(x), Element::Char(y)) if x != y => continue,
            (Element::Char(c), _) | (_, Element::Char(c)) => c,
            (Element::Any, Element::Any) => continue,
            _ => 'x',
        };
        let step = |element: Element| usize::from(element != Element::Any);
        go(at + step(x) * width + step(y), Some(by), false);
    }
    Meeting::Never
}

/// A shortest text that fits.
fn shortest(pattern: &[u8]) -> String {
    let character = |element| match element {
        Element::Any => None,
        Element::One => Some('x'),
        Element::Char(c) => Some(c),
    };
    elements(pattern).into_iter().filter_map(character).collect()
}

fn way(reached: &[Option<(usize, Option<char>)>], mut at: usize) -> String {
    let mut text = Vec::new();
    while at != 0 {
        let Some((from, by)) = reached[at] else { break };
        text.extend(by);
        at = from;
    }
    text.into_iter().rev().collect()
}

fn elements(pattern: &[u8]) -> Vec<Element> {
    let mut out = Vec::with_capacity(pattern.len());
    // Neither of the two bytes occurs in UTF-8, so what lies between them is text.
    let mut rest = pattern;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(*byte, ANY | ONE)).unwrap_or(rest.len());
        out.extend(String::from_utf8_lossy(&rest[..end]).chars().map(Element::Char));
        if let Some(byte) = rest.get(end) {
            out.push(if *byte == ANY { Element::Any } else { Element::One });
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::glob;

    fn pattern(text: &str) -> Vec<u8> {
        text.chars()
            .flat_map(|c| match c {
                '*' => vec![ANY],
                '?' => vec![ONE],
                c => c.to_string().into_bytes(),
            })
            .collect()
    }

    fn met(a: &str, b: &str) -> Meeting {
        meet(&pattern(a), &pattern(b))
    }

    #[test]
    fn what_fits_both_is_found() {
        for (a, b, text) in [
            ("", "", ""),
            ("*", "*", ""),
            ("*", "a", "a"),
            ("a*", "*b", "ab"),
            ("*/rates", "arn:x/*", "arn:x/rates"),
            ("?", "é", "é"),
            ("?", "?", "x"),
            ("a*c*", "*b?", "abc"),
        ] {
            assert_eq!(met(a, b), Meeting::At(text.into()), "{a} and {b}");
        }
        for (a, b) in [("a", "b"), ("a*", "b*"), ("*a", "*b"), ("", "?"), ("a?", "a"), ("arn:x", "arn:x/*")] {
            assert_eq!(met(a, b), Meeting::Never, "{a} and {b}");
        }
        let long = "a".repeat(MAX_PAIRS);
        assert_eq!(met(&long, "*"), Meeting::At(long.clone()));
        assert_eq!(met(&format!("?{long}"), "a?*"), Meeting::Unknown);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn it_does_fit_both_and_none_is_missed(a in "[ab*?]{0,6}", b in "[ab*?]{0,6}", text in "[ab]{0,6}") {
            let fits = |p: &str, text: &str| glob::matches(&pattern(p), text.as_bytes(), &mut Vec::new());
            match met(&a, &b) {
                Meeting::At(text) => prop_assert!(fits(&a, &text) && fits(&b, &text), "{text}"),
                Meeting::Never => prop_assert!(!fits(&a, &text) || !fits(&b, &text)),
                Meeting::Unknown => prop_assert!(false),
            }
        }
    }
}
