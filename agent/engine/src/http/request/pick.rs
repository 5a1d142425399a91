//! The endpoint of the target group whose turn it is, and those to try after it.

use brattice_decide::Route as Chosen;

use super::Exchange;
use crate::{
    events::RequestEvent,
    http::local_reply::{LocalReply, NOWHERE, unavailable},
    upstream::endpoint::Candidates,
    views::View,
};

/// Asks the load balancing ([`crate::upstream::balance`]).
pub(super) fn pick(exchange: &Exchange, view: &View, chosen: &Chosen<'_>) -> Result<Candidates, LocalReply> {
    let candidates = view.balance.borrow_mut().pick(chosen.index).ok_or_else(|| unavailable(NOWHERE))?;
    if let Some(first) = candidates.first() {
        exchange
            .active
            .span
            .emit(RequestEvent::TargetChosen { address: first.real_address(), alias: first.target.alias });
    }
    Ok(candidates)
}
