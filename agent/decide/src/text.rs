//! Texts of documents that become part of messages.

use http::{HeaderName, HeaderValue, uri::Authority};

use crate::error::CompileError;

/// A field name of a document.
pub(crate) fn field_name(name: &str, place: &str) -> Result<HeaderName, CompileError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable(place, "field name", name))
}

/// A field value of a document.
pub(crate) fn field_value(value: &str, place: &str) -> Result<HeaderValue, CompileError> {
    HeaderValue::from_str(value).map_err(|_| unusable(place, "field value", value))
}

/// A host of a document, with or without a port.
pub(crate) fn authority(host: &str, place: &str) -> Result<Authority, CompileError> {
    match Authority::try_from(host) {
        Ok(authority) if !host.contains('@') => Ok(authority),
        _ => Err(unusable(place, "host", host)),
    }
}

/// An error that says what of a rule cannot be sent.
pub(crate) fn unusable(place: &str, what: &'static str, text: &str) -> CompileError {
    CompileError::Unusable { place: place.into(), what, text: text.into() }
}
