//! A question whose names are resolved.

use brattice_model::Service;

use crate::find::Found;
use crate::request::Asked;
use crate::world::Departed;

/// What is asked about.
pub(crate) struct Case<'w> {
    pub(crate) found: Found<'w>,
    /// The caller is not there any more.
    pub(crate) gone: Option<Gone>,
    pub(crate) service: &'w Service,
    pub(crate) asked: Asked,
    /// An earlier connection that was relayed as TCP.
    pub(crate) unread: bool,
}

/// Why a caller is not there any more, and what to do.
pub(crate) struct Gone {
    pub(crate) text: String,
    pub(crate) remedy: String,
}

impl Gone {
    pub(crate) fn departed(own: &Departed) -> Self {
        Self { text: format!("the {} ({} s ago)", own.text, own.seconds_ago), remedy: own.remedy.clone() }
    }
}
