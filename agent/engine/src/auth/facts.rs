//! Facts that policies may ask about a request: of the request itself, and in a copy that outlives it.

use std::net::IpAddr;

use brattice_decide::Head;
use brattice_wire::snapshot::ServiceNumber;
use http::HeaderMap;

use crate::aliases::CallerId;

/// Field name and value in a [`Facts`] end with this; neither can hold it.
const END: char = '\n';
/// Most bytes that a connection between two requests keeps of the last one. More is freed.
const IDLE_BYTES: usize = 4 * 1024;

/// The origin of a connection's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) caller: CallerId,
    /// The VIP that was called.
    pub(crate) vip: IpAddr,
    /// Its port.
    pub(crate) port: u16,
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A copy of what policies may ask about a request, all of it, as the next revision's policies may ask for something
/// else than today's: one text, used again by the connection's next request.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The origin of the request; none before there was one.
    origin: Option<Origin>,
    /// [`crate::state::Service::number`] of the service that was called.
    service: ServiceNumber,
    /// Method, path and query, one behind the other, and then names and values of fields, each with its [`END`].
    text: String,
    method: usize,
    path: usize,
    query: usize,
    /// It was too long to be kept.
    shortened: bool,
}

impl Facts {
    /// Takes the copy.
    pub(crate) fn set(
        &mut self,
        origin: Origin,
        service: ServiceNumber,
        (method, path, query): (&str, &str, &str),
        fields: &HeaderMap,
    ) {
        let text = &mut self.text;
        text.clear();
        self.origin = Some(origin);
        self.service = service;
        self.shortened = false;
        text.push_str(method);
        self.method = text.len();
        text.push_str(path);
        self.path = text.len();
        text.push_str(query);
        self.query = text.len();
        for (name, value) in fields {
            text.push_str(name.as_str());
            text.push(END);
            text.push_str(&self::text(value.as_bytes()));
            text.push(END);
        }
    }

    /// Number of the service that was called.
    pub(crate) fn service(&self) -> ServiceNumber {
        self.service
    }

    /// The origin of the request.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The request has ended. Where the copy is long it is freed: between requests a connection reaches nothing, and
    /// the next request is decided about in any case.
    pub(super) fn shorten(&mut self) {
        if self.text.capacity() > IDLE_BYTES {
            let (origin, service) = (self.origin, self.service);
            *self = Self { origin, service, shortened: true, ..Self::default() };
        }
    }

    /// Whether policies can be asked about it.
    pub(crate) fn is_whole(&self) -> bool {
        !self.shortened
    }
}

impl Head for Facts {
    fn method(&self) -> &str {
        &self.text[..self.method]
    }

    fn path(&self) -> &str {
        &self.text[self.method..self.path]
    }

    fn query(&self) -> &str {
        &self.text[self.path..self.query]
    }

    fn field(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let mut lines = self.text[self.query..].split_terminator(END);
        while let (Some(own), Some(value)) = (lines.next(), lines.next()) {
            if own.eq_ignore_ascii_case(name) {
                each(value.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use brattice_wire::snapshot::AliasGeneration;

    use super::*;

    fn origin() -> Origin {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        Origin { caller: CallerId::new(address, AliasGeneration::new(1)), vip: address, port: 80 }
    }

    fn all(of: &Facts, name: &str) -> Vec<String> {
        let mut all = Vec::new();
        of.field(name, &mut |value| all.push(text(value).into_owned()));
        all
    }

    #[test]
    fn a_copy_says_what_the_request_says() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("x-team", &b"red"[..]),
            ("x-team", b"blue"),
            ("x-empty", b""),
            ("x-bytes", b"a\xffb"),
            ("user-agent", "Grüße".as_bytes()),
        ] {
            fields.append(name, http::HeaderValue::from_bytes(value).unwrap());
        }
        let mut facts = Facts::default();
        // The second is what counts, and what was longer before leaves nothing behind.
        for (method, path, query) in [("OPTIONS", "/a/long/path", "and=query"), ("GET", "/a", "x=1&y")] {
            facts.set(origin(), SERVICE, (method, path, query), &fields);
            assert_eq!((facts.service(), facts.method(), facts.path()), (SERVICE, method, path));
        }
        assert_eq!(facts.query(), "x=1&y");
        for name in ["x-team", "X-TEAM", "x-empty", "x-bytes", "user-agent", "x-none"] {
            let sent: Vec<_> = fields.get_all(name).iter().map(|value| text(value.as_bytes())).collect();
            assert_eq!(all(&facts, name), sent, "{name}");
        }
        assert_eq!(all(&facts, "x-team"), ["red", "blue"]);
        assert_eq!(all(&facts, "x-empty"), [""]);
        assert_eq!(all(&facts, "x-bytes"), ["a\u{fffd}b"]);
    }

    const SERVICE: ServiceNumber = ServiceNumber::new(7);

    #[test]
    fn what_is_long_is_not_kept_between_requests() {
        let mut facts = Facts::default();
        for (path, whole) in [("/a".to_owned(), true), ("/a".repeat(IDLE_BYTES), false), ("/b".to_owned(), true)] {
            facts.set(origin(), SERVICE, ("GET", &path, ""), &HeaderMap::new());
            assert!(facts.is_whole() && facts.path() == path);
            facts.shorten();
            assert_eq!((facts.is_whole(), facts.service(), facts.origin()), (whole, SERVICE, Some(origin())));
            assert!(facts.text.capacity() <= IDLE_BYTES);
        }
    }
}
