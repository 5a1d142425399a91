//! The request that the steps of a request take, from a head as it came.

use brattice_http1::{RequestHead, Version};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};

use crate::http::{field_map, refusal::Refusal};

/// What the request target would have to be for the library; the reader of heads has refused most of it before.
const TARGET: Refusal = Refusal::Malformed("the request target is malformed");

/// A version as the library has it.
pub(super) fn version(version: Version) -> http::Version {
    match version {
        Version::Http10 => http::Version::HTTP_10,
        Version::Http11 => http::Version::HTTP_11,
    }
}

/// The request of a head. `bytes` are those that it was read from; the request's parts share them. `fields` is an empty map.
///
/// # Errors
/// When the library cannot hold it: it has a longest target and a most of fields.
pub(super) fn request<B>(head: &RequestHead, bytes: &Bytes, fields: HeaderMap, body: B) -> Result<Request<B>, Refusal> {
    let came = head.on(bytes);
    let mut request = Request::new(body);
    *request.version_mut() = version(head.version);
    *request.method_mut() = Method::from_bytes(came.method_bytes()).map_err(|_| TARGET)?;
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice_ref(came.target())).map_err(|_| TARGET)?;
    *request.headers_mut() = field_map::fill(came.fields(), bytes, fields).ok_or(Refusal::Headers)?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use brattice_http1::{Limits, RequestReader};

    use super::*;

    fn read(text: &str) -> Result<Request<()>, Refusal> {
        let (mut reader, mut head) = (RequestReader::new(&Limits::requests(1 << 20, 100_000)), RequestHead::default());
        let length = reader.read(text.as_bytes(), &mut head)?.expect("a whole head");
        request(&head, &Bytes::copy_from_slice(&text.as_bytes()[..length]), HeaderMap::new(), ())
    }

    #[test]
    fn a_request_is_what_came() {
        let request =
            read("GET http://h/a?b=c HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nX-Two: \u{e9}\r\nX-No:\r\n\r\n").unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string()), ("GET", "http://h/a?b=c".into()));
        assert_eq!(request.version(), http::Version::HTTP_11);
        let fields: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("host", &b"h"[..]), ("x-two", b"1"), ("x-two", "\u{e9}".as_bytes()), ("x-no", b"")]);
        for (line, uri) in [("OPTIONS * HTTP/1.0", "*"), ("CONNECT h:80 HTTP/1.1", "h:80"), ("GET / HTTP/1.0", "/")] {
            assert_eq!(read(&format!("{line}\r\nHost: h\r\n\r\n")).unwrap().uri().to_string(), uri);
        }
    }

    #[test]
    fn what_the_library_cannot_hold_is_refused() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(70_000));
        assert_eq!(read(&long).unwrap_err(), TARGET);
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: 1\r\n".repeat(40_000));
        assert_eq!(read(&many).unwrap_err(), Refusal::Headers);
    }
}
