//! Fields of an HTTP/1 section as the map that steps and filters take.

use brattice_http1::Fields;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields in a map whose values share `bytes`, of which the section was read; `map` is empty. `None`: a map cannot hold so
/// many.
pub(crate) fn fill(fields: Fields<'_>, bytes: &Bytes, mut map: HeaderMap) -> Option<HeaderMap> {
    map.try_reserve(fields.index().len()).ok()?;
    for field in fields.iter() {
        // The reader has seen a token, and a value without control characters.
        let name = HeaderName::from_bytes(field.name).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        map.try_append(name, value).ok()?;
    }
    Some(map)
}
