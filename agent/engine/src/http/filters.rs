//! What a rule changes in requests and answers.

use brattice_router::rewrite::Rewriter;
use brattice_wire::snapshot::{self, HeaderEdits, PathMatch};
use http::{HeaderMap, HeaderName, HeaderValue, uri::Authority};

use crate::{
    http::headers,
    rules::{authority, field_name, field_value, unusable},
    state::CompileError,
};

/// The filters of a rule, compiled.
#[derive(Debug)]
pub struct Filters {
    /// Of the request's fields.
    pub request: Edits,
    /// Of the answer's fields.
    pub response: Edits,
    /// The host that the target is told.
    pub host: Option<Host>,
    /// The path that the target is told.
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
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
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
}

impl Edits {
    fn compile(edits: &HeaderEdits, place: &str) -> Result<Self, CompileError> {
        let name = |name: &str| match field_name(name, place)? {
            own if headers::is_ours(&own) => Err(unusable(place, "field of a filter", name)),
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

    /// Changes fields.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}
