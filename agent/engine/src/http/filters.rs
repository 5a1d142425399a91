//! Changes of requests and responses by a rule.

use brattice_decide::Edits;
use http::HeaderMap;

/// Changes fields, in the order `remove`, `set`, `add`.
pub(crate) fn apply(edits: &Edits, headers: &mut HeaderMap) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &edits.add {
        headers.append(name, value.clone());
    }
}
