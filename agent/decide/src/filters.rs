//! Changes of requests and responses by a rule.

use std::borrow::Cow;

use brattice_router::{
    fields::{self, Message},
    rewrite::{RewriteError, Rewriter},
};
use brattice_wire::snapshot::{self, HeaderEdits, PathMatch};
use http::{HeaderName, HeaderValue, uri::Authority};

use crate::{
    error::CompileError,
    text::{authority, field_name, field_value, unusable},
};

/// Fields that no rule may change besides those that do not pass at all: they frame the message, or say what only Brattice may
/// say.
const RESERVED: [&str; 8] = [
    "host",
    "content-length",
    "trailer",
    "expect",
    "x-amzn-requestid",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
];

fn is_reserved(name: &HeaderName) -> bool {
    fields::removed(name.as_str().as_bytes(), Message::Request) || RESERVED.contains(&name.as_str())
}

/// The filters of a rule, compiled.
#[derive(Debug)]
pub struct Filters {
    /// Of the request's fields.
    pub request: Edits,
    /// Of the answer's fields.
    pub response: Edits,
    /// The host in the request to the target.
    pub host: Option<Host>,
    /// The path in the request to the target.
    pub path: Option<Rewriter>,
}

/// A host in the forms in which versions of HTTP send it.
#[derive(Debug)]
pub struct Host {
    /// HTTP/1.1: `Host`.
    pub field: HeaderValue,
    /// HTTP/2: `:authority`.
    pub authority: Authority,
}

/// Changes of header fields, carried out in the order `remove`, `set`, `add`.
#[derive(Debug)]
pub struct Edits {
    /// Fields that go.
    pub remove: Vec<HeaderName>,
    /// Fields that take the place of those of their name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields that come beside those of their name.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl Filters {
    /// Compiles the filters of a rule with this path condition; `place` says which.
    ///
    /// # Errors
    /// When a field, a value or a host cannot be sent, a field is one that frames messages or that only the engine may
    /// say, or a regular expression is refused.
    pub fn compile(
        filters: &snapshot::Filters,
        matched: Option<&PathMatch>,
        place: &str,
    ) -> Result<Self, CompileError> {
        let host = match &filters.rewrite.host {
            None => None,
            Some(host) => Some(Host { field: field_value(host, place)?, authority: authority(host, place)? }),
        };
        let path = filters.rewrite.path.as_ref().map(|path| Rewriter::compile(path, matched)).transpose();
        Ok(Self {
            request: Edits::compile(&filters.request_headers, place)?,
            response: Edits::compile(&filters.response_headers, place)?,
            host,
            path: path.map_err(|error| CompileError::Regex { place: place.into(), error: error.into() })?,
        })
    }

    /// The path for the target; borrowed where it stays as it is.
    ///
    /// # Errors
    /// When the rewrite makes no acceptable path of it.
    pub fn rewrite<'p>(&'p self, path: &'p str) -> Result<Cow<'p, str>, RewriteError> {
        self.path.as_ref().map_or(Ok(Cow::Borrowed(path)), |rewriter| rewriter.apply(path))
    }
}

impl Edits {
    fn compile(edits: &HeaderEdits, place: &str) -> Result<Self, CompileError> {
        let name = |name: &str| match field_name(name, place)? {
            own if is_reserved(&own) => Err(unusable(place, "field of a filter", name)),
            own => Ok(own),
        };
        let pairs = |pairs: &[(String, String)]| -> Result<_, CompileError> {
            pairs.iter().map(|(own, value)| Ok((name(own)?, field_value(value, place)?))).collect()
        };
        Ok(Self {
            remove: edits.remove.iter().map(|own| name(own)).collect::<Result<_, _>>()?,
            set: pairs(&edits.set)?,
            add: pairs(&edits.add)?,
        })
    }
}
