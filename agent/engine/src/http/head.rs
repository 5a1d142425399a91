//! A request's head, as rules and policies ask about it. Borrows everything: asking costs no allocation.

use std::borrow::Cow;

use brattice_router::RequestHead;
use http::{
    HeaderMap, HeaderValue, Uri,
    header::HOST,
    uri::{Authority, PathAndQuery},
};

/// What is asked of a request.
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
    /// The name that was called, as the documents write it: lower case, without a port.
    pub(crate) host: &'a str,
    /// Normalised: the same bytes are matched, decided about and sent on.
    pub(crate) path: Cow<'a, str>,
    /// As it came, without the `?`.
    pub(crate) query: Option<&'a str>,
    /// Without what does not pass on.
    pub(crate) headers: &'a HeaderMap,
    /// Port of the VIP.
    pub(crate) port: u16,
    /// Index of the caller's VPC.
    pub(crate) vpc: u32,
}

impl RequestHead for Head<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn host(&self) -> &str {
        self.host
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> &str {
        self.query.unwrap_or_default()
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.headers.get_all(name).iter().map(HeaderValue::as_bytes).for_each(each);
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn source_vpc(&self) -> u32 {
        self.vpc
    }
}

/// The host that a request names, without the port; empty where HTTP/1.0 names none. `None`: there is none where one
/// must be, several, or two different ones.
pub(crate) fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let mut fields = headers.get_all(HOST).iter();
    let field = match fields.next() {
        Some(field) => Some(field.to_str().ok()?),
        None => None,
    };
    if fields.next().is_some() {
        return None;
    }
    let whole = match (uri.authority().map(Authority::as_str), field) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => return None,
        (Some(authority), _) => authority,
        (None, Some(field)) => field,
        (None, None) => return Some(""),
    };
    if matches!(uri.scheme_str(), Some(scheme) if !scheme.eq_ignore_ascii_case("http")) {
        return None;
    }
    without_port(whole)
}

/// The host of `host` or `host:port`.
fn without_port(whole: &str) -> Option<&str> {
    let from = if whole.starts_with('[') { whole.find(']')? } else { 0 };
    match whole[from..].find(':') {
        None => Some(whole),
        Some(colon) => {
            let port = &whole[from + colon + 1..];
            (port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())).then(|| &whole[..from + colon])
        }
    }
}

/// A path and a query as a request target. `None`: they are none.
pub(crate) fn target(path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let mut whole = Vec::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1));
    whole.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        whole.push(b'?');
        whole.extend_from_slice(query.as_bytes());
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(whole)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_off() {
        for (whole, host) in [
            ("a.example", Some("a.example")),
            ("a.example:80", Some("a.example")),
            ("a.example:", Some("a.example")),
            ("[fd00::1]", Some("[fd00::1]")),
            ("[fd00::1]:80", Some("[fd00::1]")),
            ("a:b", None),
            ("a:1:2", None),
            ("a:123456", None),
            ("[fd00::1", None),
            ("", Some("")),
        ] {
            assert_eq!(without_port(whole), host, "{whole}");
        }
    }

    #[test]
    fn hosts_must_agree() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("A.example:80"));
        assert_eq!(host(&headers, &Uri::from_static("/x")), Some("A.example"));
        assert_eq!(host(&headers, &Uri::from_static("http://a.example:80/x")), Some("a.example"));
        assert_eq!(host(&headers, &Uri::from_static("http://b.example/x")), None);
        assert_eq!(host(&headers, &Uri::from_static("https://a.example:80/x")), None);
        headers.append(HOST, HeaderValue::from_static("a.example:80"));
        assert_eq!(host(&headers, &Uri::from_static("/x")), None);
        assert_eq!(host(&HeaderMap::new(), &Uri::from_static("/x")), Some(""));
    }

    #[test]
    fn targets_keep_an_empty_query() {
        assert_eq!(target("/a", None).unwrap(), "/a");
        assert_eq!(target("/a", Some("")).unwrap(), "/a?");
        assert_eq!(target("/a", Some("b=/?c")).unwrap(), "/a?b=/?c");
        assert_eq!(target("/a b", None), None);
    }
}
