//! How long a message is: decided once, from the fields that came, and written anew for the side that it goes to, in one
//! field at most (RFC 9110, 8.6; RFC 9112, 6.3; RFC 9113, 8.1.1). Two readings of a length are how requests are smuggled and
//! responses are cut.

use brattice_router::fields;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::Body;

/// Decides about a request, after its parser has.
///
/// # Errors
/// What is wrong, for the client.
pub(crate) fn request<B: Body>(request: &mut Request<B>) -> Result<(), &'static str> {
    let (method, empty) = (request.method().clone(), request.body().is_end_stream());
    length(request.headers_mut(), &method, empty)
}

/// The length of a request in one field, as the plain number. `empty`: there is no body.
///
/// # Errors
/// What is wrong, for the client.
pub fn length(headers: &mut HeaderMap, method: &Method, empty: bool) -> Result<(), &'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => {
            // hyper would say so to HTTP/2 targets only, and after the decision; RFC 9110, 8.6 asks for it.
            if empty && fields::says_no_body(method.as_str()) {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        }
        (Some(field), None) => {
            let length = fields::length(field.as_bytes()).ok_or("the content length is malformed")?;
            write(headers, length);
        }
        // guard: two-lengths
        (Some(_), Some(_)) => return Err("there are several content lengths"),
    }
    Ok(())
}

/// Has an HTTP/1 target told of a body whose length is not known. `empty`: there is none, now or later.
pub(crate) fn to_http1<B: Body>(request: &mut Request<B>, empty: bool) {
    let body = request.body();
    if !empty && body.size_hint().exact().is_none() && !request.headers().contains_key(CONTENT_LENGTH) {
        // hyper would send a GET without its body otherwise.
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Decides about a target's response, whose body hyper has framed already: chunked, where a `Transfer-Encoding` says so. A length
/// beside it is refused, as another reader may follow that (RFC 9112, 6.3).
///
/// # Errors
/// What is wrong, for the client.
pub(crate) fn response<B>(response: &mut Response<B>) -> Result<(), &'static str> {
    let status = response.status();
    let headers = response.headers_mut();
    if headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let only = codings.next().filter(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if only.is_none() || codings.next().is_some() {
            return Err("the target's answer has a transfer encoding that it was not asked for");
        }
        if headers.contains_key(CONTENT_LENGTH) {
            return Err("the target's answer has a transfer encoding and a content length");
        }
        headers.remove(TRANSFER_ENCODING);
    }
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    let mut length = None;
    // The same length several times, also in one field, is one length (RFC 9112, 6.3).
    for field in headers.get_all(CONTENT_LENGTH) {
        for item in field.as_bytes().split(|byte| *byte == b',') {
            let next = fields::length(item.trim_ascii()).ok_or("the target's answer has a malformed content length")?;
            if length.is_some_and(|known| known != next) {
                return Err("the target's answer has two content lengths");
            }
            length = Some(next);
        }
    }
    if let Some(length) = length {
        write(headers, length);
    }
    Ok(())
}

/// Makes a length the only one, without changing what is so already.
fn write(headers: &mut HeaderMap, length: u64) {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    let plain = |field: &HeaderValue| {
        let digits = field.as_bytes();
        digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits.first() != Some(&b'0'))
    };
    if !fields.next().is_some_and(plain) || fields.next().is_some() {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};

    use super::*;

    fn lengths(headers: &HeaderMap) -> Vec<&str> {
        headers.get_all(CONTENT_LENGTH).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn a_request_has_one_length_or_is_malformed() {
        for (came, goes) in [
            (&[][..], Some(&[][..])),
            (&["5"], Some(&["5"])),
            (&["0"], Some(&["0"])),
            (&["05"], Some(&["5"])),
            (&["00"], Some(&["0"])),
            (&["5", "5"], None),
            (&["5", "05"], None),
            (&["010", "10"], None),
            (&["5", "6"], None),
            (&["5,5"], None),
            (&["+5"], None),
            (&["5 "], None),
            (&[""], None),
            (&["9999999999999999999"], None),
        ] {
            let mut request_ = Request::post("/").body(Full::new(bytes::Bytes::from_static(b"hello"))).unwrap();
            for length in came {
                request_.headers_mut().append(CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            let decided = request(&mut request_).ok().map(|()| lengths(request_.headers()));
            assert_eq!(decided.as_deref(), goes, "{came:?}");
        }
    }

    #[test]
    fn a_request_without_a_body_says_so_where_one_is_expected() {
        for (method, goes) in [("POST", &["0"][..]), ("PUT", &["0"]), ("GET", &[]), ("HEAD", &[]), ("DELETE", &[])] {
            let mut request_ = Request::builder().method(method).body(Empty::<bytes::Bytes>::new()).unwrap();
            request(&mut request_).unwrap();
            assert_eq!(lengths(request_.headers()), goes, "{method}");
        }
    }

    #[test]
    fn a_response_has_one_length_or_none() {
        for (status, fields, goes) in [
            (200, &[("content-length", "5")][..], Some(&["5"][..])),
            (200, &[("content-length", "05")], Some(&["5"])),
            (200, &[("content-length", "5"), ("content-length", "5")], Some(&["5"])),
            (200, &[("content-length", "5, 5")], Some(&["5"])),
            (200, &[("content-length", "5"), ("content-length", "6")], None),
            (200, &[("content-length", "5, 6")], None),
            (304, &[("content-length", "five")], None),
            (304, &[("content-length", "5")], Some(&["5"])),
            (204, &[("content-length", "5")], Some(&[])),
            (103, &[("content-length", "5")], Some(&[])),
            (200, &[("transfer-encoding", "Chunked")], Some(&[])),
            (200, &[("content-length", "5"), ("transfer-encoding", "chunked")], None),
            (200, &[("transfer-encoding", "Chunked"), ("content-length", "5")], None),
            (304, &[("content-length", "5"), ("transfer-encoding", "chunked")], None),
            (200, &[("transfer-encoding", "gzip, chunked")], None),
            (200, &[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")], None),
            (200, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], None),
            (200, &[("transfer-encoding", "identity"), ("content-length", "5")], None),
        ] {
            let mut response_ = Response::builder().status(status).body(()).unwrap();
            for (name, value) in fields {
                response_.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            let decided = response(&mut response_).ok().map(|()| lengths(response_.headers()));
            assert_eq!(decided.as_deref(), goes, "{status} {fields:?}");
            assert!(decided.is_none() || !response_.headers().contains_key(TRANSFER_ENCODING));
        }
    }
}
