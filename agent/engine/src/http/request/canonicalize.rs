//! The fields in their one form: policies, rules and the target see the same ones.

use http::{HeaderValue, Method, Request, StatusCode, header::UPGRADE};

use super::Exchange;
use crate::http::{
    canonical,
    client_body::ClientBody,
    framing,
    local_reply::{LocalReply, Problem, malformed},
    upgrade,
};

/// Gives the fields the form in which the target gets them; the answer is the protocols that it may change to. `CONNECT` has
/// no such form.
pub(super) fn canonicalize(
    exchange: &Exchange,
    request: &mut Request<ClientBody>,
) -> Result<Option<HeaderValue>, LocalReply> {
    if *request.method() == Method::CONNECT {
        return Err(Problem::closing(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported").into());
    }
    let offer = exchange.offers_upgrade.then(|| upgrade::offered(request.headers())).flatten();
    canonical::request(request.headers_mut(), exchange.version)
        .and_then(|()| framing::request(request))
        .map_err(|why| malformed(&exchange.active, true, why))?;
    if let Some(offer) = &offer {
        request.headers_mut().insert(UPGRADE, offer.clone());
    }
    Ok(offer)
}
