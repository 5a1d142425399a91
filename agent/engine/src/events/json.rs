//! JSON text, written into a buffer that is used again and again.

use std::io::Write;
use std::net::SocketAddr;

/// Longest text from the wire, bytes; the rest is cut.
pub(crate) const MOST_TEXT: usize = 8 * 1024;
/// A value that is absent (Lattice).
pub(crate) const ABSENT: &str = "\"-\"";

/// The part of a text that is written: at most [`MOST_TEXT`] bytes, whole characters.
pub(crate) fn cut(text: &[u8]) -> &[u8] {
    if text.len() <= MOST_TEXT {
        return text;
    }
    let mut end = MOST_TEXT;
    // Back to a character's first byte; of what is no UTF-8, not far.
    while end > MOST_TEXT - 4 && text[end] & 0b1100_0000 == 0b1000_0000 {
        end -= 1;
    }
    &text[..end]
}

/// A string with its quotes: escaped so that neither JSON nor a terminal takes it for something else, and cut.
pub(crate) fn string(out: &mut Vec<u8>, text: &[u8]) {
    let text = cut(text);
    out.push(b'"');
    // Nearly all are, and without a way out of the loop the processor compares many bytes at once.
    if text.iter().fold(true, |all, byte| all & is_plain(*byte)) {
        out.extend_from_slice(text);
    } else {
        escape(out, text);
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let plain = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let Some(first) = rest.first() else { return };
        match first {
            b'"' | b'\\' => {
                out.extend_from_slice(&[b'\\', *first]);
                rest = &rest[1..];
            }
            0..0x80 => {
                unicode(out, u32::from(*first));
                rest = &rest[1..];
            }
            _ => {
                let length = character(out, rest);
                rest = &rest[length..];
            }
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

/// The character at the beginning, or U+FFFD for what is none; how long it was.
fn character(out: &mut Vec<u8>, text: &[u8]) -> usize {
    let most = &text[..text.len().min(4)];
    let Some(chunk) = most.utf8_chunks().next() else { return 0 };
    let Some(c) = chunk.valid().chars().next() else {
        out.extend_from_slice("\u{fffd}".as_bytes());
        return chunk.invalid().len();
    };
    if c.is_control() || hides(c) {
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            unicode(out, u32::from(*unit));
        }
    } else {
        out.extend_from_slice(&text[..c.len_utf8()]);
    }
    c.len_utf8()
}

/// Changes how others are shown, or is not shown itself.
fn hides(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

fn unicode(out: &mut Vec<u8>, unit: u32) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| HEX[(unit >> shift & 15) as usize]));
}

/// A number.
pub(crate) fn number(out: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        out.push(b'0' + number as u8);
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

/// An address and a port, as `SocketAddr` shows them. Every line has two, and for IPv4 the formatter would cost more than
/// the rest of them.
pub(crate) fn endpoint(out: &mut Vec<u8>, endpoint: SocketAddr) {
    out.push(b'"');
    match endpoint {
        SocketAddr::V4(v4) => {
            for (i, octet) in v4.ip().octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                number(out, octet.into());
            }
            out.push(b':');
            number(out, v4.port().into());
        }
        // Writing to memory does not fail.
        SocketAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &[u8]) -> String {
        let mut out = Vec::new();
        string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn endpoints_are_as_they_are_shown() {
        for text in ["0.0.0.0:0", "10.0.200.9:80", "255.255.255.255:65535", "[fd00::1]:443", "[::ffff:10.0.0.1]:8080"] {
            let mut out = Vec::new();
            endpoint(&mut out, text.parse().unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{text}\""));
        }
    }

    #[test]
    fn texts_are_escaped() {
        for (text, json) in [
            (&b"plain /path~"[..], "\"plain /path~\""),
            (b"\"quoted\" \\ back", "\"\\\"quoted\\\" \\\\ back\""),
            (b"a\nb\r\t\0\x1b[31m\x7f", "\"a\\u000ab\\u000d\\u0009\\u0000\\u001b[31m\\u007f\""),
            ("grüße → 日本 😀".as_bytes(), "\"grüße → 日本 😀\""),
            ("\u{9b}31m\u{202e}\u{2028}\u{e0041}".as_bytes(), "\"\\u009b31m\\u202e\\u2028\\udb40\\udc41\""),
            (b"a\xffb\xc3", "\"a\u{fffd}b\u{fffd}\""),
            (b"\xed\xa0\x80", "\"\u{fffd}\u{fffd}\u{fffd}\""),
            (b"", "\"\""),
        ] {
            assert_eq!(written(text), json);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(written("a".repeat(MOST_TEXT).as_bytes()).len(), MOST_TEXT + 2);
        assert_eq!(written("a".repeat(MOST_TEXT + 1).as_bytes()).len(), MOST_TEXT + 2);
        for shift in 0..4 {
            let text = format!("{}{}", "a".repeat(shift), "€".repeat(MOST_TEXT));
            let written = written(text.as_bytes());
            assert!(written.len() <= MOST_TEXT + 2 && written.len() > MOST_TEXT - 4, "{}", written.len());
            assert!(!written.contains('\u{fffd}'), "cut within a character");
        }
        assert_eq!(cut(&vec![0x80; MOST_TEXT * 2]).len(), MOST_TEXT - 4);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_json(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = written(&bytes);
            let read: String = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn texts_come_back(text in "\\PC{0,50}[\\x00-\\x1f]{0,3}") {
            prop_assert_eq!(serde_json::from_str::<String>(&written(text.as_bytes())).unwrap(), text);
        }

        #[test]
        fn numbers_are_decimal(n: u64) {
            let mut out = Vec::new();
            number(&mut out, n);
            prop_assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }
}
