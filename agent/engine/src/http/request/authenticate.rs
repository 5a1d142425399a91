//! The caller. The connection's alias identified it at accept; here we check that it is still the same.

use super::Exchange;
use crate::{
    http::local_reply::{LocalReply, caller_gone},
    state::Caller,
    views::View,
};

/// The caller, as the state in force knows it.
pub(super) fn authenticate<'v>(exchange: &Exchange, view: &'v View) -> Result<Caller<'v>, LocalReply> {
    view.state.caller(exchange.session.caller).ok_or_else(|| caller_gone(&exchange.active))
}
