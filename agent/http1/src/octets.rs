//! Classes of bytes, and the search for the end of a value eight bytes at a time.

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const PATH: u8 = 8;
const QUERY: u8 = 16;

/// Classes: of a token (RFC 9110, 5.6.2), of a field value (5.5), of a request target, of its path, of its query
/// ([`crate::target`]).
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let mut of = 0;
        if b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            of |= TOKEN;
        }
        if b == b'\t' || b >= b' ' && b != 0x7f {
            of |= VALUE;
        }
        if b > b' ' && b != 0x7f && b != b'#' {
            of |= TARGET;
            if !matches!(b, b'?' | b'<' | b'>' | b'`') {
                of |= PATH;
            }
            if !matches!(b, b'"' | b'<' | b'>') {
                of |= QUERY;
            }
        }
        class[byte] = of;
        byte += 1;
    }
    class
};

fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// Whether a byte may be part of a token: a method or a field name.
pub(crate) fn is_token(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// Whether a byte may be part of a field value: no control character but the tab.
pub(crate) fn is_value(byte: u8) -> bool {
    is(byte, VALUE)
}

/// Whether a byte may be part of a request target of any form: no control character, no blank, no `#`.
pub(crate) fn is_target(byte: u8) -> bool {
    is(byte, TARGET)
}

/// Whether a byte may be part of a path.
pub(crate) fn is_path(byte: u8) -> bool {
    is(byte, PATH)
}

/// Whether a byte may be part of a query.
pub(crate) fn is_query(byte: u8) -> bool {
    is(byte, QUERY)
}

/// A space or a tab.
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether these bytes are a token, and not empty.
pub fn token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token(*byte))
}

/// Whether a field may have this value.
pub(crate) fn value(bytes: &[u8]) -> bool {
    value_end(bytes, 0) == bytes.len()
}

/// The byte repeated.
#[inline]
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of the lowest byte that is a control character is the lowest bit that is set; above it there may be others.
#[inline]
fn controls(word: u64) -> u64 {
    let below_space = word.wrapping_sub(each(b' ')) & !word;
    let delete = word ^ each(0x7f);
    let is_delete = delete.wrapping_sub(each(1)) & !delete;
    (below_space | is_delete) & each(0x80)
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

#[inline]
fn lowest(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

/// Bytes that are looked at at once: compilers make vector instructions of it.
const BLOCK: usize = 16;

fn has_control(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == 0x7f))
}

/// Where the first byte from `at` on is that no value may have, or the end.
#[inline]
pub(crate) fn value_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk)
            && !has_control(block)
        {
            at += BLOCK;
        }
        // It is in the next two words, or the end is near.
        while let Some(word) = word(bytes, at) {
            let found = controls(word);
            if found != 0 {
                at += lowest(found);
                break;
            }
            at += 8;
        }
        while at < bytes.len() && is_value(bytes[at]) && bytes[at] != b'\t' {
            at += 1;
        }
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

/// Where the first colon from `at` on is.
#[inline]
pub(crate) fn colon(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(word) = word(bytes, at) {
        let same = word ^ each(b':');
        let found = same.wrapping_sub(each(1)) & !same & each(0x80);
        if found != 0 {
            return Some(at + lowest(found));
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|byte| *byte == b':').map(|found| at + found)
}

/// Without the spaces and tabs around it, which are no part of a field's value (RFC 9110, 5.5).
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Digits of a length: 18 hold any below 2^59.
const DIGITS: usize = 18;

/// A `Content-Length`: digits only, no sign, no list, no other base.
pub fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_find_what_a_look_at_each_byte_finds() {
        for length in 0..40 {
            for place in 0..length {
                for byte in 0..=255 {
                    for fill in [b'a', 0xff, b' ', 0x80, b'~'] {
                        let mut bytes = vec![fill; length];
                        bytes[place] = byte;
                        let end = bytes.iter().position(|byte| !is_value(*byte)).unwrap_or(length);
                        assert_eq!(value_end(&bytes, 0), end, "{byte} at {place} of {length}");
                        let first = bytes.iter().position(|byte| *byte == b':');
                        assert_eq!(colon(&bytes, 0), first, "{byte} at {place} of {length}");
                    }
                }
            }
        }
        assert_eq!(value_end(b"a\t\tb\t\0", 0), 5);
        assert_eq!(value_end(b"aaaaaaaa", 8), 8);
        assert_eq!(value_end(b"aaaaaaaa", 9), 9);
    }

    #[test]
    fn lengths_are_plain_digits() {
        for (text, number) in [("0", Some(0)), ("005", Some(5)), ("999999999999999999", Some(999_999_999_999_999_999))]
        {
            assert_eq!(length(text.as_bytes()), number);
        }
        for text in ["", "+5", "-5", "5 ", " 5", "0x5", "5,5", "1000000000000000000", "five", "٥"] {
            assert_eq!(length(text.as_bytes()), None, "{text}");
        }
    }
}
