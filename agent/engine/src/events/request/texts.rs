//! Texts of a request, in buffers that are used again.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Request, header};

use crate::events::{
    json::{self, MOST_TEXT},
    names::Listening,
};

/// Header values of a request that are remembered, bytes.
const MOST_FIELDS: usize = MOST_TEXT;
/// Texts of a request up to this size are kept for the next one.
const KEPT_BYTES: usize = 4 * 1024;

/// The texts of a request.
#[derive(Debug, Default)]
pub(in crate::events) struct Texts {
    text: String,
    method: Range<usize>,
    raw_path: Range<usize>,
    path: Range<usize>,
    query: Range<usize>,
    host_field: Range<usize>,
    host: Range<usize>,
    agent: Range<usize>,
    request_id: Range<usize>,
    rule: Range<usize>,
    decision: Range<usize>,
    cut: bool,
    fields: Vec<Field>,
    values: Vec<Range<usize>>,
}

#[derive(Debug)]
struct Field {
    name: Range<usize>,
    values: Option<Range<usize>>,
}

impl Texts {
    /// Ready for another request; false: it grew too large to be kept.
    pub(in crate::events) fn clear(&mut self) -> bool {
        let Self { text, fields, values, .. } = std::mem::take(self);
        if text.capacity() > KEPT_BYTES || values.capacity() > KEPT_BYTES / 16 {
            return false;
        }
        *self = Self { text, fields, values, ..Self::default() };
        self.text.clear();
        self.fields.clear();
        self.values.clear();
        true
    }

    /// A request as it came.
    pub(super) fn set_request<B>(&mut self, request: &Request<B>) {
        let (uri, headers) = (request.uri(), request.headers());
        self.method = self.copy(request.method().as_str().as_bytes());
        self.raw_path = self.copy(uri.path().as_bytes());
        self.query = self.copy(uri.query().unwrap_or_default().as_bytes());
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        let host = host.or_else(|| uri.authority().map(|authority| authority.as_str().as_bytes()));
        self.host_field = self.copy(host.unwrap_or_default());
        self.agent = self.copy(headers.get(header::USER_AGENT).map_or(b"", |value| value.as_bytes()));
    }

    /// Host and path as rules and policies see them, and the fields that those of the listener ask for.
    pub(super) fn set_head(&mut self, host: &str, path: &str, headers: &HeaderMap, listener: Option<&Listening>) {
        if path != self.get(&self.raw_path) {
            self.path = self.copy(path.as_bytes());
        }
        self.host = self.copy(host.as_bytes());
        let mut room = MOST_FIELDS;
        for (name, secret) in listener.into_iter().flat_map(|listener| &listener.asked) {
            if !headers.contains_key(&**name) {
                continue;
            }
            let first = self.values.len();
            if !secret {
                for value in headers.get_all(&**name) {
                    let value = value.as_bytes();
                    if value.len() > room {
                        self.cut = true;
                        continue;
                    }
                    room -= value.len();
                    let value = self.copy(value);
                    self.values.push(value);
                }
            }
            let name = self.copy(name.as_bytes());
            let values = (!secret).then_some(first..self.values.len());
            self.fields.push(Field { name, values });
        }
    }

    pub(super) fn set_request_id(&mut self, id: &[u8]) {
        self.request_id = self.copy(id);
    }

    pub(super) fn set_rule(&mut self, id: &str) {
        self.rule = self.copy(id.as_bytes());
    }

    pub(super) fn set_decision(&mut self, id: &str) {
        self.decision = self.copy(id.as_bytes());
    }

    /// A copy, cut; bytes that are no UTF-8 are replaced.
    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let from = self.text.len();
        let cut = json::cut(bytes);
        self.cut |= cut.len() < bytes.len();
        if let Ok(text) = std::str::from_utf8(cut) {
            self.text.push_str(text);
            return from..self.text.len();
        }
        for chunk in cut.utf8_chunks() {
            self.text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.text.push('\u{fffd}');
            }
        }
        from..self.text.len()
    }

    pub(in crate::events) fn get(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    pub(in crate::events) fn method(&self) -> &str {
        self.get(&self.method)
    }

    /// As rules saw it, else as it came.
    pub(in crate::events) fn path(&self) -> &str {
        self.get(if self.path.is_empty() { &self.raw_path } else { &self.path })
    }

    pub(in crate::events) fn query(&self) -> &str {
        self.get(&self.query)
    }

    pub(in crate::events) fn host_field(&self) -> &str {
        self.get(&self.host_field)
    }

    pub(in crate::events) fn host(&self) -> &str {
        self.get(if self.host.is_empty() { &self.host_field } else { &self.host })
    }

    pub(in crate::events) fn agent(&self) -> &str {
        self.get(&self.agent)
    }

    pub(in crate::events) fn request_id(&self) -> &str {
        self.get(&self.request_id)
    }

    pub(in crate::events) fn rule(&self) -> &str {
        self.get(&self.rule)
    }

    pub(in crate::events) fn decision(&self) -> &str {
        self.get(&self.decision)
    }

    /// Some text is not whole.
    pub(in crate::events) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Names of the fields that were asked for, and where their values are; none: secret.
    pub(in crate::events) fn fields(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[Range<usize>]>)> {
        self.fields.iter().map(|field| {
            (self.get(&field.name), field.values.clone().map(|values| self.values.get(values).unwrap_or_default()))
        })
    }
}
