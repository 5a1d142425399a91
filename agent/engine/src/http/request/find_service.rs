//! The service and listener that are called, by VIP, port and host.

use brattice_wire::index::VpcIndex;
use http::{Request, Uri, Version, header::HOST};

use super::{Called, Exchange};
use crate::{
    events::{RefusedRequest, RequestEvent},
    http::{
        canonical,
        client_body::ClientBody,
        head,
        local_reply::{LocalReply, UNKNOWN, malformed},
    },
    state::Caller,
    views::View,
};

/// What is called, if the caller may see it. Sets the field `host` as the target gets it.
pub(super) fn find_service<'v>(
    exchange: &Exchange,
    view: &'v View,
    caller: &Caller<'_>,
    request: &mut Request<ClientBody>,
    uri: &Uri,
) -> Result<Called<'v>, LocalReply> {
    match find(exchange, view, caller.vpc, request, uri) {
        Ok(Some(called)) => Ok(called),
        Ok(None) => {
            exchange.active.span.emit(RequestEvent::Refused(RefusedRequest::UnknownService));
            Err(UNKNOWN.into())
        }
        Err(why) => Err(malformed(&exchange.active, true, why)),
    }
}

fn find<'v>(
    exchange: &Exchange,
    view: &'v View,
    vpc: VpcIndex,
    request: &mut Request<ClientBody>,
    uri: &Uri,
) -> Result<Option<Called<'v>>, &'static str> {
    let (state, session) = (&view.state, &exchange.session);
    let found = match head::called(request.headers(), uri)? {
        Some(host) => state.service(vpc, session.vip, session.port, host),
        // The only one there is.
        None if exchange.version == Version::HTTP_10 => state
            .service_at(vpc, session.vip, session.port)
            .map(|(service, listener)| (service, listener, service.usual_name())),
        None => return Err("the host is missing"),
    };
    let Some((service, listener, name)) = found else { return Ok(None) };
    let whole = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None if request.headers().contains_key(HOST) => None,
        None => Some(name),
    };
    whole.map_or(Ok(()), |whole| canonical::host(request.headers_mut(), whole))?;
    Ok(Some(Called { service, listener, name }))
}
