//! Values of header fields and query parameters, without an allocation in the usual case.

use crate::{RequestHead, fields, scratch};

/// Calls `look` with the value of a header field: several of one name are their list joined by `, ` (RFC 9110, 5.3), those
/// of a cookie, which HTTP/2 may cut, by `; ` (RFC 9113, 8.2.3).
/// `None` where the request has no such field. `look` may be called more than once; what it said last is returned.
pub(crate) fn header<R: RequestHead + ?Sized, T>(
    request: &R,
    name: &str,
    mut look: impl FnMut(&[u8]) -> T,
) -> Option<T> {
    let mut first = None;
    let mut count = 0_usize;
    request.header(name, &mut |value| {
        count += 1;
        if count == 1 {
            first = Some(look(value));
        }
    });
    if count <= 1 {
        return first;
    }
    let between = if name == "cookie" { fields::BETWEEN_COOKIES } else { b", " };
    scratch::with(|joined| {
        let mut later = false;
        request.header(name, &mut |value| {
            if later {
                joined.extend_from_slice(between);
            }
            joined.extend_from_slice(value);
            later = true;
        });
        Some(look(joined))
    })
}

/// Calls `look` with the percent-decoded value of the first query parameter of a name. Parameters are separated by `&`,
/// `+` is a blank, one without `=` has an empty value, and a `%` that begins no escape stands for itself.
pub(crate) fn query<T>(query: &str, name: &[u8], look: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let value = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| decoded(key.as_bytes()).eq(name.iter().copied()))?
        .1
        .as_bytes();
    if !value.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(look(value));
    }
    Some(scratch::with(|buffer| {
        buffer.extend(decoded(value));
        look(buffer)
    }))
}

/// The bytes that a part of a query stands for.
fn decoded(mut text: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (byte, rest) = match *text {
            [] => return None,
            [b'%', high, low, ref rest @ ..] if let (Some(high), Some(low)) = (hex(high), hex(low)) => {
                (high * 16 + low, rest)
            }
            [b'+', ref rest @ ..] => (b' ', rest),
            [byte, ref rest @ ..] => (byte, rest),
        };
        text = rest;
        Some(byte)
    })
}

/// The value of a hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
