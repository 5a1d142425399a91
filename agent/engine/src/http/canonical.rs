//! The form of a request that rules and policies see: in all that they can test, it is what the target will receive.
//!
//! A target may read the same bytes in another way: it trims values, joins a cookie that came in parts, and knows
//! the caller by fields that we write. So everything that changes a field is done here, before the decision and for
//! every version of HTTP; a request that must not pass is refused. After the decision only a rule's filters, the
//! fields `x-amzn-lattice-*` and `x-amzn-source-vpc`, and what belongs to the connection to the target are written.

use std::net::IpAddr;

use brattice_router::fields;
use brattice_wire::snapshot::ForwardedHeaders;
use http::{
    HeaderMap, HeaderValue, Version,
    header::{COOKIE, EXPECT, HOST},
};

use super::headers::{self, FORWARDED_FOR, FORWARDED_PORT, FORWARDED_PROTO, REQUEST_ID};

pub use super::framing::length;

/// A client's fields, with what does not pass taken away.
///
/// # Errors
/// What is wrong, for the client.
pub fn request(headers: &mut HeaderMap, version: Version) -> Result<(), &'static str> {
    // guard: blank-values
    if headers.values().any(has_blank_end) {
        // HTTP/1's are trimmed by its parser; in HTTP/2 it is malformed (RFC 9113, 8.2.1).
        return Err("the value of a header field begins or ends with white space");
    }
    headers::clean_request(headers);
    if version == Version::HTTP_10 {
        // It knows no interim responses (RFC 9110, 10.1.1).
        headers.remove(EXPECT);
    }
    // guard: cookie-parts
    if let Some(joined) = fields::cookie(headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes)) {
        // What is made of valid values by `; ` is one.
        let joined = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined));
        headers.insert(COOKIE, joined.map_err(|_| "the cookie is malformed")?);
    }
    Ok(())
}

/// The host, in the field that HTTP/1 has for it, whatever says it to the target.
///
/// # Errors
/// What is wrong, for the client.
pub(crate) fn host(headers: &mut HeaderMap, called: &str) -> Result<(), &'static str> {
    // guard: host-field
    if headers.get(HOST).is_none_or(|field| field.as_bytes() != called.as_bytes()) {
        headers.insert(HOST, HeaderValue::from_str(called).map_err(|_| "the host is malformed")?);
    }
    Ok(())
}

/// What is the same for all requests of a connection.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The caller's real address.
    address: HeaderValue,
    /// The port that it called.
    port: HeaderValue,
}

impl Shown {
    /// For a caller with this address that calls this port.
    pub fn new(address: IpAddr, port: u16) -> Self {
        // The digits, dots and colons of an address can be a field's value.
        let address = HeaderValue::try_from(address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("-"));
        Self { address, port: port.into() }
    }
}

/// Adds the caller's address and the request's id; before the decision, as rules and policies may test these
/// fields.
pub fn introduce(headers: &mut HeaderMap, caller: &Shown, forwarded: ForwardedHeaders, id: &HeaderValue) {
    forwarded_for(headers, &caller.address, forwarded);
    headers.insert(FORWARDED_PORT, caller.port.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    headers.insert(REQUEST_ID, id.clone());
}

fn forwarded_for(headers: &mut HeaderMap, address: &HeaderValue, forwarded: ForwardedHeaders) {
    let mut value = Vec::new();
    if forwarded == ForwardedHeaders::Append {
        for known in headers.get_all(FORWARDED_FOR) {
            if !known.is_empty() {
                value.extend_from_slice(known.as_bytes());
                value.extend_from_slice(b", ");
            }
        }
    }
    if value.is_empty() {
        headers.insert(FORWARDED_FOR, address.clone());
        return;
    }
    value.extend_from_slice(address.as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// Trailers, which are no part of any decision.
///
/// # Errors
/// What is wrong, for the client.
pub(crate) fn request_trailers(trailers: &mut HeaderMap) -> Result<(), &'static str> {
    // guard: blank-trailers
    if trailers.values().any(has_blank_end) {
        return Err("the value of a trailer field begins or ends with white space");
    }
    headers::clean_request_trailers(trailers);
    Ok(())
}

fn has_blank_end(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    [value.first(), value.last()].iter().any(|end| matches!(end, Some(b' ' | b'\t')))
}
