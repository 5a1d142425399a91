//! The reason phrase of a response, where it is not the status' usual one: an extension of the response.

use bytes::Bytes;

/// See above; no control characters.
#[derive(Clone, Debug)]
pub(crate) struct ReasonPhrase(pub(crate) Bytes);
