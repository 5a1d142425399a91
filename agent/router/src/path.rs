//! The normal form of a path: matched, authorized, logged and sent on.

use std::borrow::Cow;

use crate::field::hex;

/// Why a path is refused: two readers could understand it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither `*` nor beginning with `/`.
    #[error("the path does not begin with `/`")]
    Relative,
    /// `\`, which some servers take for `/`.
    #[error("the path contains `\\`; write it `%5C`")]
    Backslash,
    /// `?` or `#`, which end a path.
    #[error("the path contains `?` or `#`, which end a path; write them `%3F` and `%23`")]
    Delimiter,
    /// A control character or blank as it is.
    #[error("the path contains a control character or blank")]
    Control,
    /// A control character as an escape, `%00` first of all.
    #[error("the path contains an encoded control character, such as `%00`")]
    EncodedControl,
    /// A byte above 127 as it is.
    #[error("the path contains a character that is not ASCII; write it percent-encoded")]
    NonAscii,
    /// A character that browsers percent-encode in paths, and that a URI may not have (RFC 3986, 2).
    #[error("the path contains `<`, `>` or a grave accent; write them `%3C`, `%3E` and `%60`")]
    Unencoded,
    /// `*` of another method than `OPTIONS` (RFC 9112, 3.2.4).
    #[error("the path is `*`, which only OPTIONS may ask about")]
    Star,
    /// A character that a query may not have, or a fragment, which clients keep to themselves (RFC 9110, 7.1).
    #[error("the query contains a control character, a blank, `\"`, `<`, `>` or `#`; write it percent-encoded")]
    Query,
    /// `%` without two hexadecimal digits.
    #[error("the path contains a `%` that is not followed by two hexadecimal digits; write it `%25`")]
    MalformedEscape,
    /// A segment that is a dot segment for a target that decodes `%2F` and `%5C`, or leaves out what comes after `;`.
    #[error("the path hides a `.` or `..` segment behind `%2F`, `%5C` or `;`")]
    HiddenDots,
}

/// The normal form of a path without its query: the same resource, written in the only way that the rest of Brattice and
/// the target see.
///
/// Escapes of unreserved characters (RFC 3986, 2.3) are decoded, the digits of others put in upper case; `//` becomes `/`,
/// then `.` and `..` are removed (RFC 3986, 5.2.4). `%2F` and `%5C` stay as they are and separate nothing. A final `/` is
/// kept. `*`, the target of `OPTIONS *`, stays. Normalizing twice changes nothing more. What is
/// borrowed is the raw path as it is: a normal one costs no allocation.
///
/// # Errors
/// When the path can be understood in more than one way.
pub fn normalize(raw: &str) -> Result<Cow<'_, str>, Refused> {
    if raw == "*" {
        return Ok(Cow::Borrowed(raw));
    }
    if !raw.starts_with('/') {
        return Err(Refused::Relative);
    }
    // What is written always ends with `/` where a segment begins.
    let mut normal = Normal { raw, same: 1, changed: None };
    let mut at = 1;
    for segment in raw[1..].split('/') {
        let end = at + segment.len();
        let begin = normal.len();
        normal.segment(at, end)?;
        match &normal.as_bytes()[begin..] {
            // An empty one is of `//` or the last.
            [] => {}
            b"." => normal.truncate(begin),
            b".." => {
                let parent = normal.as_bytes()[..begin - 1].iter().rposition(|byte| *byte == b'/');
                normal.truncate(parent.map_or(1, |slash| slash + 1));
            }
            written => {
                if hides_dots(written) {
                    return Err(Refused::HiddenDots);
                }
                if end < raw.len() {
                    normal.copy(end, end + 1);
                }
            }
        }
        at = end + 1;
    }
    Ok(normal.finish())
}

/// The path of a request, as [`normalize`] leaves it.
///
/// # Errors
/// As [`normalize`], and for `*` unless the method is `OPTIONS`.
pub fn requested<'a>(method: &str, raw: &'a str) -> Result<Cow<'a, str>, Refused> {
    if raw == "*" && method != "OPTIONS" {
        return Err(Refused::Star);
    }
    normalize(raw)
}

/// Whether a query, without its `?`, may be sent on, which is done as it came.
///
/// # Errors
/// When it contains what ends a query, or what browsers percent-encode there.
pub fn check_query(query: &str) -> Result<(), Refused> {
    let refused = |byte| matches!(byte, 0..=b' ' | 0x7f | b'"' | b'<' | b'>' | b'#');
    if query.bytes().any(refused) { Err(Refused::Query) } else { Ok(()) }
}

/// What has been written: as long as it is how the raw path begins, only its length.
struct Normal<'a> {
    raw: &'a str,
    same: usize,
    changed: Option<String>,
}

impl<'a> Normal<'a> {
    fn as_bytes(&self) -> &[u8] {
        self.changed.as_ref().map_or(&self.raw.as_bytes()[..self.same], String::as_bytes)
    }

    fn len(&self) -> usize {
        self.as_bytes().len()
    }

    fn truncate(&mut self, length: usize) {
        match &mut self.changed {
            Some(changed) => changed.truncate(length),
            None => self.same = length,
        }
    }

    fn changed(&mut self) -> &mut String {
        let same = &self.raw[..self.same];
        self.changed.get_or_insert_with(|| {
            let mut changed = String::with_capacity(self.raw.len());
            changed.push_str(same);
            changed
        })
    }

    /// Writes a part of the raw path as it is.
    fn copy(&mut self, from: usize, to: usize) {
        if self.changed.is_none() && self.same == from {
            self.same = to;
        } else {
            let part = &self.raw[from..to];
            self.changed().push_str(part);
        }
    }

    /// Writes a segment of the raw path.
    fn segment(&mut self, from: usize, to: usize) -> Result<(), Refused> {
        let bytes = self.raw.as_bytes();
        let mut at = from;
        while at < to {
            match bytes[at] {
                b'\\' => return Err(Refused::Backslash),
                b'?' | b'#' => return Err(Refused::Delimiter),
                b'<' | b'>' | b'`' => return Err(Refused::Unencoded),
                0..=b' ' | 0x7f => return Err(Refused::Control),
                0x80.. => return Err(Refused::NonAscii),
                b'%' => {
                    let digits = bytes[at..to].get(1..3).ok_or(Refused::MalformedEscape)?;
                    let (Some(high), Some(low)) = (hex(digits[0]), hex(digits[1])) else {
                        return Err(Refused::MalformedEscape);
                    };
                    match high * 16 + low {
                        0..b' ' | 0x7f => return Err(Refused::EncodedControl),
                        byte if is_unreserved(byte) => self.changed().push(char::from(byte)),
                        _ if digits.iter().any(u8::is_ascii_lowercase) => {
                            let upper = ['%', char::from(digits[0]), char::from(digits[1])];
                            self.changed().extend(upper.map(|character| character.to_ascii_uppercase()));
                        }
                        _ => self.copy(at, at + 3),
                    }
                    at += 3;
                }
                _ => {
                    let plain = bytes[at..to].iter().take_while(|byte| is_plain(**byte)).count();
                    self.copy(at, at + plain);
                    at += plain;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Cow<'a, str> {
        match self.changed {
            Some(changed) => Cow::Owned(changed),
            None if self.same == self.raw.len() => Cow::Borrowed(self.raw),
            // The normal path is a prefix of the raw one. It must not be borrowed: the caller takes a
            // borrowed path for the whole raw one.
            None => Cow::Owned(self.raw[..self.same].to_owned()),
        }
    }
}

/// Whether a byte stands for itself, and may stand in a path.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\' | b'?' | b'#' | b'<' | b'>' | b'`')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a normal segment would hold a dot segment if `%2F` and `%5C` separated segments, or `;` began parameters that
/// do not count.
fn hides_dots(mut segment: &[u8]) -> bool {
    if memchr::memchr2(b'%', b';', segment).is_none() {
        return false;
    }
    loop {
        let end = segment.windows(3).position(|escape| matches!(escape, b"%2F" | b"%5C"));
        let part = end.map_or(segment, |end| &segment[..end]);
        let name = part.split(|byte| *byte == b';').next().unwrap_or(part);
        if matches!(name, b"." | b"..") {
            return true;
        }
        match end {
            Some(end) => segment = &segment[end + 3..],
            None => return false,
        }
    }
}
