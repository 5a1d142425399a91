//! Who calls. The connection's alias said so when it was accepted; here it is asked whether that still holds.

use super::Exchange;
use crate::{http::local_reply::LocalReply, state::Caller, views::View};

/// The caller, as the state in force knows it.
pub(super) fn authenticate<'v>(exchange: &Exchange, view: &'v View) -> Result<Caller<'v>, LocalReply> {
    view.state.caller(exchange.session.caller).ok_or(LocalReply::Reset)
}
