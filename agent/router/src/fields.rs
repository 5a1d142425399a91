//! Header fields that callers' requests and targets' responses lose on their way: what belongs to one connection only
//! (RFC 9110, 7.6.1), and what only Brattice may say. Names are in lower case.

use brattice_http1::octets::token;
pub use brattice_http1::{
    list::members as list,
    octets::{length, trim},
};

/// What loses fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// From a caller.
    Request,
    /// From a target.
    Response,
}

/// Protocols whose names begin so are HTTP again.
const HTTP: [&[u8]; 4] = [b"h2", b"h3", b"http", b"tls"];
/// What `Connection` does not take from a message: options that name no field, and fields without which it would be another
/// message.
const KEPT: [&[u8]; 8] =
    [b"keep-alive", b"close", b"host", b"content-length", b"transfer-encoding", b"connection", b"te", b"expect"];

/// Whether `name` is `wanted` to some server, see [`begins`].
fn is(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len() && begins(name, wanted)
}

/// Whether `name` begins with `wanted` to some server. Many show fields to the application under names of variables, as
/// CGI began it: WSGI takes `_` for `-`, PHP `.` as well, Apache everything that is neither letter nor digit.
fn begins(name: &[u8], wanted: &[u8]) -> bool {
    name.len() >= wanted.len()
        && name.iter().zip(wanted).all(|(a, b)| a == b || *b == b'-' && !a.is_ascii_alphanumeric())
}

/// Whether a field of this name does not pass, whatever it holds. What `Connection` names does not either: [`named`].
pub fn removed(name: &[u8], message: Message) -> bool {
    let request = message == Message::Request;
    // A name that we set, or that frames the message, must not come in another spelling.
    let respelled = || name.iter().any(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    match name.first() {
        Some(b'x') => {
            begins(name, b"x-amzn-lattice")
                || begins(name, b"x-brattice-")
                || request
                    && (is(name, b"x-amzn-source-vpc")
                        || (begins(name, b"x-forwarded-") || is(name, b"x-amzn-requestid")) && respelled())
        }
        Some(b'c') => name == b"connection" || request && is(name, b"content-length") && respelled(),
        Some(b'k') => name == b"keep-alive",
        Some(b'p') => begins(name, b"proxy-"),
        Some(b't') => name == b"te" || is(name, b"transfer-encoding"),
        Some(b'u') => name == b"upgrade",
        Some(b'h') => is(name, b"http2-settings"),
        _ => false,
    }
}

/// The fields that a value of `Connection` takes from the message, as written.
pub fn named(connection: &[u8]) -> impl Iterator<Item = &[u8]> {
    list(connection).filter(|option| !KEPT.iter().any(|kept| option.eq_ignore_ascii_case(kept)))
}

/// The protocols of a value of `Upgrade` that a target may be offered: not HTTP itself in another version or inside TLS,
/// whose requests would pass unread.
pub fn offered(upgrade: &[u8]) -> impl Iterator<Item = &[u8]> {
    list(upgrade).filter(|protocol| is_protocol(protocol) && !is_http(protocol))
}

/// A name and perhaps a version, each a token (RFC 9110, 7.8).
fn is_protocol(protocol: &[u8]) -> bool {
    let mut parts = protocol.split(|byte| *byte == b'/');
    parts.next().is_some_and(token) && parts.next().is_none_or(token) && parts.next().is_none()
}

fn is_http(protocol: &[u8]) -> bool {
    HTTP.iter().any(|name| protocol.get(..name.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(name)))
}

/// Whether a request of this method without a body says so (RFC 9110, 8.6).
pub fn says_no_body(method: &str) -> bool {
    !matches!(method, "GET" | "HEAD" | "DELETE" | "CONNECT")
}

/// Between the parts of a cookie that came in several fields, once they are one (RFC 9113, 8.2.3).
pub const BETWEEN_COOKIES: &[u8] = b"; ";

/// A cookie's fields as the one that the target gets, if there are several: HTTP/2 may cut it, HTTP/1 may not.
pub fn cookie<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let (first, second) = (values.next()?, values.next()?);
    let mut joined = Vec::new();
    for value in [first, second].into_iter().chain(values).filter(|value| !value.is_empty()) {
        if !joined.is_empty() {
            joined.extend_from_slice(BETWEEN_COOKIES);
        }
        joined.extend_from_slice(value);
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_connection_and_what_is_ours_is_removed() {
        for name in ["connection", "keep-alive", "te", "upgrade", "proxy-authorization", "x-amzn.lattice_identity"] {
            assert!(removed(name.as_bytes(), Message::Request), "{name}");
            assert!(removed(name.as_bytes(), Message::Response), "{name}");
        }
        for name in ["x-amzn-source-vpc", "x_forwarded_for", "content_length"] {
            assert!(removed(name.as_bytes(), Message::Request), "{name}");
            assert!(!removed(name.as_bytes(), Message::Response), "{name}");
        }
        for name in ["x-forwarded-for", "x-amzn-requestid", "content-length", "host", "x-team", "x-amzn-lattic", ""] {
            assert!(!removed(name.as_bytes(), Message::Request), "{name}");
        }
    }

    #[test]
    fn connection_names_fields_but_not_those_that_frame() {
        let all = b"close, X-Team,Keep-Alive,,TE , host,transfer-encoding, upgrade";
        assert_eq!(named(all).collect::<Vec<_>>(), [&b"X-Team"[..], b"upgrade"]);
    }

    #[test]
    fn a_cookie_in_parts_becomes_one() {
        let joined = |values: &[&'static str]| cookie(values.iter().map(|value| value.as_bytes()));
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&["a=1"]), None);
        assert_eq!(joined(&["a=1", "b=2; c", "d"]).unwrap(), b"a=1; b=2; c; d");
        // No blank at either end.
        assert_eq!(joined(&["", "a=1", "", "b", ""]).unwrap(), b"a=1; b");
        assert_eq!(joined(&["", ""]).unwrap(), b"");
    }

    #[test]
    fn only_spaces_and_tabs_are_no_part_of_a_value() {
        for (value, trimmed) in
            [(" \ta b\t ", "a b"), ("", ""), (" \t", ""), ("a", "a"), ("\u{a0}a\u{85}", "\u{a0}a\u{85}")]
        {
            assert_eq!(trim(value.as_bytes()), trimmed.as_bytes(), "{value:?}");
        }
    }
}
