//! One field line.

use crate::{
    index::{Field, Span},
    known::Known,
    octets::{colon, is_blank, is_token, token, value, value_end},
};

/// What begins at some place of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A field, and where the line behind it begins.
    Field(Field, usize),
    /// An empty line: the end of the section, and where what follows it begins.
    End(usize),
    /// A line that is not complete, or not well-formed.
    Odd,
}

/// Reads the line that begins at `at`: one pass over it where it is as usual.
#[inline]
pub(crate) fn read(input: &[u8], at: usize) -> Line {
    if input.get(at) == Some(&b'\r') {
        return if input.get(at + 1) == Some(&b'\n') { Line::End(at + 2) } else { Line::Odd };
    }
    let Some(colon) = colon(input, at) else { return Line::Odd };
    let name = &input[at..colon];
    let known = Known::of(name);
    if known.is_none() && !token(name) {
        return Line::Odd;
    }
    let mut begin = colon + 1;
    while input.get(begin).is_some_and(|byte| is_blank(*byte)) {
        begin += 1;
    }
    let end = value_end(input, begin);
    if input.get(end..end + 2) != Some(b"\r\n") {
        return Line::Odd;
    }
    let mut trimmed = end;
    while trimmed > begin && is_blank(input[trimmed - 1]) {
        trimmed -= 1;
    }
    let canonical = begin == colon + 2 && input[colon + 1] == b' ' && trimmed == end;
    let field = Field { name: Span::new(at..colon), value: Span::new(begin..trimmed), known, canonical };
    Line::Field(field, end + 2)
}

/// What is wrong with a line that is complete and that [`read`] finds odd. It ends before its LF.
pub(crate) fn wrong(line: &[u8]) -> &'static str {
    let Some(line) = line.strip_suffix(b"\r") else { return "a line ends with LF alone" };
    let Some(colon) = memchr::memchr(b':', line) else { return "a header field has no colon" };
    if line.first().is_some_and(|byte| is_blank(*byte)) {
        return "a header field is folded";
    }
    if !token(&line[..colon]) {
        return "the name of a header field is malformed";
    }
    debug_assert!(!value(&line[colon + 1..]), "the line is odd");
    "the value of a header field has a control character"
}

/// Removes blanks before the colon of a complete line (RFC 9112, 5.1): they go behind it.
pub(crate) fn close_name(line: &mut [u8]) {
    let Some(end) = line.iter().position(|byte| !is_token(*byte)) else { return };
    let Some(colon) = line[end..].iter().position(|byte| !is_blank(*byte)) else { return };
    if end > 0 && colon > 0 && line[end + colon] == b':' {
        line[end] = b':';
        line[end + 1..=end + colon].fill(b' ');
    }
}

/// Joins the parts of a folded line, whose end is its CR LF: each fold becomes a space (RFC 9112, 5.2). What is saved is filled with
/// blanks before the end.
pub(crate) fn unfold(line: &mut [u8]) {
    let Some(end) = line.len().checked_sub(2) else { return };
    let (mut read, mut written) = (0, 0);
    while read < end {
        let fold = line[read] == b'\r' && line[read + 1] == b'\n' && is_blank(line[read + 2]);
        if fold {
            while written > 0 && is_blank(line[written - 1]) {
                written -= 1;
            }
            read += 2;
            while read < end && is_blank(line[read]) {
                read += 1;
            }
            line[written] = b' ';
        } else {
            line[written] = line[read];
            read += 1;
        }
        written += 1;
    }
    line[written..end].fill(b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_become_spaces() {
        for (folded, joined) in [
            ("a: b\r\n c\r\n", "a: b c  \r\n"),
            ("a: b \t\r\n\t \r\n  c\r\n", "a: b c        \r\n"),
            ("a:\r\n b\r\n", "a: b  \r\n"),
            ("a: b\r\n \r\n", "a: b   \r\n"),
            ("a: b\rc\r\n", "a: b\rc\r\n"),
            ("\r\n", "\r\n"),
        ] {
            let mut line = folded.as_bytes().to_vec();
            unfold(&mut line);
            let text = String::from_utf8(line).unwrap();
            assert_eq!(text.len(), folded.len());
            assert_eq!(text.trim_end(), joined.trim_end(), "{folded:?}");
            assert!(text.ends_with("\r\n"));
        }
    }

    #[test]
    fn blanks_before_a_colon_go_behind_it() {
        for (line, closed) in [
            ("a : b", "a:  b"),
            ("a \t: b", "a:   b"),
            ("a: b", "a: b"),
            (" : b", " : b"),
            (": b", ": b"),
            ("a b: c", "a b: c"),
            ("a ", "a "),
            ("a", "a"),
            ("", ""),
        ] {
            let mut bytes = line.as_bytes().to_vec();
            close_name(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), closed, "{line:?}");
        }
    }
}
