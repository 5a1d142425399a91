//! Writes the fields that tell the target about the caller, and the request's id.

use http::Request;

use super::{Called, Exchange};
use crate::{
    events::RequestEvent,
    http::{
        canonical::{self, Shown},
        client_body::ClientBody,
    },
    state::Caller,
};

/// Writes who calls into the request; from now on its service says how long it may be silent.
pub(super) fn introduce(
    exchange: &Exchange,
    caller: &Caller<'_>,
    called: &Called<'_>,
    request: &mut Request<ClientBody>,
) {
    let (session, active) = (&exchange.session, &exchange.active);
    let shown = session.shown.get_or_init(|| Shown::new(caller.address, session.port));
    // guard: who-called
    canonical::introduce(request.headers_mut(), shown, called.listener.forwarded_headers, &exchange.id);
    active.span.emit(RequestEvent::ServiceFound { service: called.service.number });
    let silence = session.local().clock.ticks(called.service.idle_timeout_ms);
    session.control.idle_ticks.set(silence);
    active.may_be_silent(silence);
}
