//! The request target (RFC 9112, 3.2): its form, and where its parts are.
//!
//! What a target may contain, besides letters, digits and escapes. Everything else is refused with 400 and ends the
//! connection; docs/routing.md has what becomes of the path.
//!
//! | part | may contain | refused |
//! |---|---|---|
//! | path | ``! " $ % & ' ( ) * + , - . / : ; = @ [ \ ] ^ _ { | } ~``, UTF-8 | controls, blanks, `#`, `<`, `>`, the grave accent, bytes that are no UTF-8 |
//! | query | the same, `?` and the grave accent | controls, blanks, `#`, `<`, `>`, `"`, bytes that are no UTF-8 |
//! | authority | `! $ % & ' ( ) * + , - . : ; = @ [ ] _ ~` | everything else |
//!
//! What a path may contain and no normal form has (`\`, UTF-8, encoded control characters) is refused when the path is normalised.

use crate::{
    index::Span,
    octets::{is_path, is_query, is_target},
};

/// The form of a request target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A path and perhaps a query.
    #[default]
    Origin,
    /// A URI with scheme and authority.
    Absolute,
    /// A host and a port, of `CONNECT` alone. Its parts are not looked at.
    Authority,
    /// `*`.
    Asterisk,
}

/// A request target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its form.
    pub form: Form,
    /// All of it.
    pub whole: Span,
    /// The scheme of an absolute URI, without its colon.
    pub scheme: Span,
    /// The authority of an absolute URI.
    pub authority: Span,
    /// The path; empty where an absolute URI has none, and of `CONNECT`.
    pub path: Span,
    /// The query, without the `?`.
    pub query: Option<Span>,
}

impl Target {
    /// Reads the target that begins at `at`: it, and where it ends. What ends it is looked at by the caller: a target that has a
    /// byte that it may not have ends there.
    pub(crate) fn read(input: &[u8], at: usize, connect: bool) -> Option<(Self, usize)> {
        let first = *input.get(at)?;
        if connect {
            let end = run(input, at, is_target);
            let target = Self { form: Form::Authority, whole: Span::new(at..end), ..Self::default() };
            return (end > at && std::str::from_utf8(&input[at..end]).is_ok()).then_some((target, end));
        }
        match first {
            b'/' => Self::path(input, at, at, Self::default()),
            b'*' => {
                let whole = Span::new(at..at + 1);
                Some((Self { form: Form::Asterisk, whole, path: whole, ..Self::default() }, at + 1))
            }
            _ => Self::absolute(input, at),
        }
    }

    /// A path and a query from `at` on, of a target that begins at `begin`.
    fn path(input: &[u8], begin: usize, at: usize, mut target: Self) -> Option<(Self, usize)> {
        let mut end = run(input, at, is_path);
        target.path = Span::new(at..end);
        if input.get(end) == Some(&b'?') {
            let query = end + 1;
            end = run(input, query, is_query);
            target.query = Some(Span::new(query..end));
        }
        target.whole = Span::new(begin..end);
        let text = input.get(at..end)?;
        (text.is_ascii() || std::str::from_utf8(text).is_ok()).then_some((target, end))
    }

    fn absolute(input: &[u8], at: usize) -> Option<(Self, usize)> {
        let colon = run(input, at, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        if !input.get(at)?.is_ascii_alphabetic() || input.get(colon..colon + 3) != Some(b"://") {
            return None;
        }
        let host = colon + 3;
        let end = run(input, host, is_authority);
        if end == host || !matches!(input.get(end)?, b'/' | b'?' | b' ') {
            return None;
        }
        let (scheme, authority) = (Span::new(at..colon), Span::new(host..end));
        Self::path(input, at, end, Self { form: Form::Absolute, scheme, authority, ..Self::default() })
    }
}

fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(&byte)
}

/// The end of a run of such bytes.
fn run(input: &[u8], mut at: usize, is: impl Fn(u8) -> bool) -> usize {
    while input.get(at).is_some_and(|byte| is(*byte)) {
        at += 1;
    }
    at
}
