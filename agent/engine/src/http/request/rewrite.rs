//! The path as the target gets it.

use std::borrow::Cow;

use brattice_decide::Route as Chosen;
use http::uri::PathAndQuery;

use super::Exchange;
use crate::http::{
    head::{self, Head},
    local_reply::{LocalReply, UNCHANGEABLE, malformed},
};

/// The request target for the target, where it is not the one that came.
pub(super) fn rewrite(
    exchange: &Exchange,
    chosen: &Chosen<'_>,
    head: &Head<'_>,
) -> Result<Option<PathAndQuery>, LocalReply> {
    let unchangeable = || malformed(&exchange.active, false, UNCHANGEABLE);
    let path = chosen.path(&head.path).map_err(|_| unchangeable())?;
    if *path == *head.path && matches!(head.path, Cow::Borrowed(_)) {
        return Ok(None);
    }
    head::target(&path, head.query).map(Some).ok_or_else(unchangeable)
}
