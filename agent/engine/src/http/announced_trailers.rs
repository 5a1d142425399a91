//! Which trailers a message of HTTP/1 carries: those that its head announces, but for fields that belong to a head. A recipient may
//! merge trailers into the fields by which it decides, and nobody has asked policies about them (RFC 9110, 6.5.1 and 6.6.2).

use brattice_http1::list;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST,
        MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
    },
};

/// Fields that belong to a head, and are no trailers (RFC 9110, 6.5.1).
const NO_TRAILERS: [&HeaderName; 12] = [
    &AUTHORIZATION,
    &CACHE_CONTROL,
    &CONTENT_ENCODING,
    &CONTENT_LENGTH,
    &CONTENT_RANGE,
    &CONTENT_TYPE,
    &HOST,
    &MAX_FORWARDS,
    &SET_COOKIE,
    &TRAILER,
    &TRANSFER_ENCODING,
    &TE,
];

/// The names that a head announces.
#[derive(Debug, Default)]
pub(crate) struct AnnouncedTrailers(Vec<HeaderValue>);

impl AnnouncedTrailers {
    /// Those of a head with these fields.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get_all(TRAILER).iter().cloned().collect())
    }

    /// The trailers that go with the message: names and values.
    pub(crate) fn passed<'t>(&self, trailers: &'t HeaderMap) -> impl Iterator<Item = (&'t [u8], &'t [u8])> {
        let passed = trailers.iter().filter(|(name, _)| self.has(name));
        passed.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }

    fn has(&self, name: &HeaderName) -> bool {
        let lists = || self.0.iter().flat_map(|value| list::members(value.as_bytes()));
        !NO_TRAILERS.contains(&name) && lists().any(|member| member.eq_ignore_ascii_case(name.as_str().as_bytes()))
    }
}
