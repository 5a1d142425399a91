//! A request's head, as rules and policies ask about it. Borrows everything: asking costs no allocation.

use std::borrow::Cow;

use brattice_router::authority;
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
}

impl brattice_decide::Head for Head<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> &str {
        self.query.unwrap_or_default()
    }

    fn field(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.headers.get_all(name).iter().map(HeaderValue::as_bytes).for_each(each);
    }
}

/// The host that a request calls, without the port; `Ok(None)`: it says none.
///
/// # Errors
/// When it names several, two different ones, or none that can be.
pub(crate) fn called<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Result<Option<&'a str>, &'static str> {
    const WRONG: &str = "the host is malformed or contradictory";
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next().map(|field| field.to_str().map_err(|_| WRONG)).transpose()?;
    if fields.next().is_some() || matches!(uri.scheme_str(), Some(scheme) if !scheme.eq_ignore_ascii_case("http")) {
        return Err(WRONG);
    }
    let whole = match (uri.authority().map(Authority::as_str), field) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => return Err(WRONG),
        (Some(authority), _) => authority,
        (None, Some(field)) => field,
        (None, None) => return Ok(None),
    };
    // An empty `Host` names no host.
    if whole.is_empty() { Ok(Some("")) } else { authority::host(whole).map(Some).ok_or(WRONG) }
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
    fn hosts_must_agree() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("A.example:80"));
        for (uri, expected) in [
            ("/x", Ok(Some("A.example"))),
            ("http://a.example:80/x", Ok(Some("a.example"))),
            ("http://b.example/x", Err(())),
            ("https://a.example:80/x", Err(())),
        ] {
            assert_eq!(called(&headers, &Uri::from_static(uri)).map_err(|_| ()), expected, "{uri}");
        }
        headers.append(HOST, HeaderValue::from_static("a.example:80"));
        assert!(called(&headers, &Uri::from_static("/x")).is_err());
        assert_eq!(called(&HeaderMap::new(), &Uri::from_static("/x")), Ok(None));
    }

    #[test]
    fn targets_keep_an_empty_query() {
        assert_eq!(target("/a", None).unwrap(), "/a");
        assert_eq!(target("/a", Some("")).unwrap(), "/a?");
        assert_eq!(target("/a", Some("b=/?c")).unwrap(), "/a?b=/?c");
        assert_eq!(target("/a b", None), None);
    }
}
