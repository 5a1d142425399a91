//! Texts against patterns with `*` (any characters) and `?` (one character), in time linear in the text.
//!
//! A pattern is bytes: the UTF-8 of what is literal, [`ANY`] for `*`, [`ONE`] for `?`; neither occurs in UTF-8. The parts
//! between stars are looked for one after the other, each at its first place: no choice is ever taken back, so no pattern
//! makes it slow. A part without `?` is found by a linear substring search, one with `?` by the Shift-And automaton,
//! 64 states a machine word.

/// `*`.
pub(crate) const ANY: u8 = 0xff;
/// `?`.
pub(crate) const ONE: u8 = 0xfe;

/// Whether the whole text fits. `words` is room that is used again; only patterns with a `?` in a part longer than 64
/// bytes need it.
pub(crate) fn matches(pattern: &[u8], text: &[u8], words: &mut Vec<u64>) -> bool {
    let mut parts = pattern.split(|byte| *byte == ANY);
    let first = parts.next().unwrap_or_default();
    let Some(taken) = prefix(first, text) else { return false };
    let text = &text[taken..];
    let Some(last) = parts.next_back() else { return text.is_empty() };
    let Some(left) = suffix(last, text) else { return false };
    let mut text = &text[..left];
    for part in parts {
        match find(part, text, words) {
            Some(end) => text = &text[end..],
            None => return false,
        }
    }
    true
}

const fn continues(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Bytes of the text that the part takes at its start.
fn prefix(part: &[u8], text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for byte in part {
        let found = *text.get(at)?;
        at += 1;
        if *byte == ONE {
            while text.get(at).is_some_and(|byte| continues(*byte)) {
                at += 1;
            }
        } else if *byte != found {
            return None;
        }
    }
    Some(at)
}

/// Bytes of the text that are left before the part at its end.
fn suffix(part: &[u8], text: &[u8]) -> Option<usize> {
    let mut left = text.len();
    for byte in part.iter().rev() {
        left = left.checked_sub(1)?;
        if *byte == ONE {
            while continues(text[left]) {
                left = left.checked_sub(1)?;
            }
        } else if *byte != text[left] {
            return None;
        }
    }
    Some(left)
}

/// Where the first occurrence of the part ends.
fn find(part: &[u8], text: &[u8], words: &mut Vec<u64>) -> Option<usize> {
    if part.len() > text.len() {
        return None;
    }
    if !part.contains(&ONE) {
        return memchr::memmem::find(text, part).map(|at| at + part.len());
    }
    // A `?` at the end may leave the rest of its character behind. Nothing takes what a character does not begin with, so
    // only a star can take it.
    if part.len() <= 64 { find_short(part, text) } else { find_long(part, text, words) }
}

/// Shift-And with one word. Bit `i` of the state: the text so far ends with the first `i + 1` elements of the part.
fn find_short(part: &[u8], text: &[u8]) -> Option<usize> {
    let mut masks = [0u64; 256];
    let mut ones = 0;
    for (index, byte) in part.iter().enumerate() {
        if *byte == ONE {
            ones |= 1 << index;
        } else {
            masks[usize::from(*byte)] |= 1 << index;
        }
    }
    let done = 1u64 << (part.len() - 1);
    let mut state = 0u64;
    for (index, byte) in text.iter().enumerate() {
        let next = (state << 1) | 1;
        let mask = masks[usize::from(*byte)];
        // A `?` takes the first byte of a character, and stays where it is for the others.
        state = if continues(*byte) { (next & mask) | (state & ones) } else { next & (mask | ones) };
        if state & done != 0 {
            return Some(index + 1);
        }
    }
    None
}

/// The same with several words: 256 masks, the `?`s, and the state, one behind the other.
fn find_long(part: &[u8], text: &[u8], words: &mut Vec<u64>) -> Option<usize> {
    let width = part.len().div_ceil(64);
    words.clear();
    words.resize(width * 258, 0);
    let (masks, rest) = words.split_at_mut(width * 256);
    let (ones, state) = rest.split_at_mut(width);
    for (index, byte) in part.iter().enumerate() {
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        if *byte == ONE {
            ones[word] |= bit;
        } else {
            masks[usize::from(*byte) * width + word] |= bit;
        }
    }
    let last = part.len() - 1;
    for (index, byte) in text.iter().enumerate() {
        let masks = &masks[usize::from(*byte) * width..][..width];
        let mut carry = 1;
        for ((state, mask), ones) in state.iter_mut().zip(masks).zip(ones.iter()) {
            let next = (*state << 1) | carry;
            carry = *state >> 63;
            *state = if continues(*byte) { (next & mask) | (*state & ones) } else { next & (mask | ones) };
        }
        if state[last / 64] & (1 << (last % 64)) != 0 {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for c in text.chars() {
            match c {
                '*' => out.push(ANY),
                '?' => out.push(ONE),
                c => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        out
    }

    fn fits(p: &str, text: &str) -> bool {
        matches(&pattern(p), text.as_bytes(), &mut Vec::new())
    }

    /// By the definition: a table over all prefixes of both.
    fn naive(pattern: &str, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let mut row: Vec<bool> = (0..=text.len()).map(|n| n == 0).collect();
        for p in pattern.chars() {
            let mut next = vec![p == '*' && row[0]; text.len() + 1];
            for (i, c) in text.iter().enumerate() {
                next[i + 1] = match p {
                    '*' => row[i + 1] || next[i],
                    '?' => row[i],
                    p => row[i] && p == *c,
                };
            }
            row = next;
        }
        row[text.len()]
    }

    #[test]
    fn whole_texts_are_matched() {
        for (p, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("?", "", false),
            ("?", "é", true),
            ("??", "é", false),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("*b", "abc", false),
            ("a*c", "ac", true),
            ("ab*bc", "abc", false),
            ("*b*", "abc", true),
            ("*?b?*", "abc", true),
            ("*?b?*", "bc", false),
            ("*b?*", "xbé", true),
            ("*?é*d", "aéxéd", true),
            ("***", "", true),
            ("a?c*", "aéc-", true),
            ("*/rates", "arn:x/rates", true),
            ("*/rates", "/rates/x", false),
            ("*é", "é", true),
            ("*\u{a9}", "é", false),
            ("*?", "é", true),
            ("*??", "é", false),
            ("?*?", "é", false),
            ("?*?", "éé", true),
        ] {
            assert_eq!(fits(p, text), expected, "{p} {text}");
            assert_eq!(naive(p, text), expected, "{p} {text}, by the table");
        }
    }

    #[test]
    fn parts_longer_than_a_word_are_found() {
        for length in [63, 64, 65, 127, 128, 129, 200] {
            let part = "ab".repeat(length);
            let part: String =
                part.chars().take(length).enumerate().map(|(i, c)| if i % 7 == 3 { '?' } else { c }).collect();
            let text: String = "ab".repeat(length).chars().take(length).collect();
            assert!(fits(&format!("*{part}*"), &format!("zz{text}zz")), "{length}");
            assert!(fits(&format!("*{part}*"), &format!("aba{text}é")), "{length}");
            assert!(!fits(&format!("*x{part}*"), &format!("aba{text}é")), "{length}");
            assert!(fits(&format!("*{part}?*"), &format!("zz{text}é")), "{length}");
            assert!(!fits(&format!("*{part}??*"), &format!("zz{text}é")), "{length}");
            assert!(fits(&format!("*{part}??*z"), &format!("zz{text}ééz")), "{length}");
            assert!(!fits(&format!("*{part}??*z"), &format!("zz{text}éz")), "{length}");
            // What a part has taken, the next one does not get.
            assert!(fits(&format!("*{part}z*z*"), &format!("a{text}zz")), "{length}");
            assert!(!fits(&format!("*{part}z*z*"), &format!("a{text}z")), "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn equals_the_definition(p in "[aé?*b]{0,12}", text in "[aébc]{0,16}") {
            prop_assert_eq!(fits(&p, &text), naive(&p, &text));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn equals_the_definition_on_long_parts(p in "\\*[aé?]{60,140}\\*?", text in "[aé]{60,180}") {
            prop_assert_eq!(fits(&p, &text), naive(&p, &text));
        }
    }

    #[test]
    fn hostile_patterns_are_no_slower() {
        let text = "a".repeat(64 * 1024);
        let started = Instant::now();
        for p in [
            "*a".repeat(20_000) + "b",
            format!("*{}b*", "a".repeat(30_000)),
            format!("*{}b*", "a?".repeat(1_000)),
            "*a?".repeat(10_000) + "*b*",
            "*?".repeat(10_000) + "b",
        ] {
            assert!(!fits(&p, &text));
        }
        // An unoptimized build takes well below a second; taking choices back would take hours.
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
}
