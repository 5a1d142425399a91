//! A question whose names are resolved.

use brattice_model::Service;

use crate::find::Found;
use crate::request::Asked;

/// What is asked about.
pub(crate) struct Case<'w> {
    pub(crate) found: Found<'w>,
    /// Why the caller of an earlier request is not there any more.
    pub(crate) gone: Option<String>,
    pub(crate) service: &'w Service,
    pub(crate) asked: Asked,
    /// An earlier connection that was relayed as TCP.
    pub(crate) unread: bool,
}
