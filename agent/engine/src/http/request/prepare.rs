//! The request as the target gets it: fields, host, request target, version.

use std::rc::Rc;

use brattice_decide::{Filters, Route as Chosen};
use brattice_wire::snapshot::ProtocolVersion;
use http::{
    HeaderValue, Request, StatusCode, Uri, Version,
    header::{EXPECT, HOST, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{Called, Exchange, Plan};
use crate::{
    events::{RefusedRequest, RequestEvent},
    http::{
        client_body::ClientBody,
        filters, framing,
        headers::{self, AddedFields},
        local_reply::Problem,
        request_body::RequestBody,
    },
    state::Caller,
    upstream::{
        attempt::{Informational, Route},
        endpoint::Candidates,
    },
    views::View,
};

impl Plan {
    /// All that is known before the request is sent.
    pub(super) fn new(
        exchange: &Exchange,
        view: &View,
        (caller, called, chosen): (&Caller<'_>, &Called<'_>, &Chosen<'_>),
        candidates: Candidates,
        target: Option<PathAndQuery>,
        offer: Option<HeaderValue>,
    ) -> Self {
        let (session, group, service) = (&exchange.session, chosen.group, called.service);
        let http2 = group.protocol == ProtocolVersion::Http2;
        let (who, state) = ((caller.index, caller.vpc), &view.state);
        let identity = session.server.target_fields.fields(
            (&state.caller_fields, state),
            who,
            service.index,
            chosen.network,
            chosen.index,
        );
        let offer = offer.filter(|_| !http2);
        let route = Route {
            service: service.number,
            caller: session.caller,
            candidates,
            http2,
            connect_timeout_ms: group.connect_timeout_ms,
            idle_ms: group.idle_timeout_ms.unwrap_or(session.local().limits().pool_idle_timeout_ms),
            informational: None,
        };
        let added = AddedFields { to_http2: http2, identity };
        let (filters, cookie) = (chosen.filters.cloned(), chosen.cookie.cloned());
        Self { route, added, target, filters, cookie, offer }
    }
}

/// Makes the request the target's.
pub(super) fn prepare(
    exchange: &Exchange,
    plan: &mut Plan,
    mut request: Request<ClientBody>,
) -> Result<Request<RequestBody>, Problem> {
    let local = exchange.session.local();
    if plan.offer.is_none() {
        request.headers_mut().remove(UPGRADE);
    }
    if let Some(filters) = &plan.filters {
        filters::apply(&filters.request, request.headers_mut());
    }
    let Some(uri) = target_uri(&mut request, plan.target.take(), plan.filters.as_deref(), plan.route.http2) else {
        exchange.active.span.emit(RequestEvent::Refused(RefusedRequest::Malformed));
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the request target is malformed"));
    };
    *request.uri_mut() = uri;
    headers::request(request.headers_mut(), &plan.added);
    *request.version_mut() = if plan.route.http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    // Extensions are hyper's own notes about the client's connection.
    request.extensions_mut().clear();
    let expects = request.headers().contains_key(EXPECT);
    plan.route.informational = informational(exchange, expects, plan.route.http2);
    let gate = plan.route.informational.as_ref().filter(|_| expects).map(|taker| Rc::clone(&taker.interim));
    let active = &exchange.active;
    let mut request = request.map(|body| RequestBody::new(body, Rc::clone(active), Rc::clone(local), gate));
    if !plan.route.http2 {
        let empty = request.body().is_empty();
        framing::to_http1(&mut request, empty);
    }
    Ok(request)
}

/// What takes the target's informational responses; a client that waits for one (`expects`) has its body behind it.
///
/// hyper tells of those of HTTP/1 targets only, and can give them to no HTTP/2 client.
fn informational(exchange: &Exchange, expects: bool, to_http2: bool) -> Option<Informational> {
    let session = &exchange.session;
    if to_http2 || session.http2.get() && !expects {
        return None;
    }
    let interim = if session.http2.get() { Rc::default() } else { Rc::clone(&session.control.interim) };
    // The present request is the latest that was counted.
    let request = session.control.requests.get();
    Some(Informational { interim, forward: (exchange.version == Version::HTTP_11).then_some(request) })
}

/// The request target for the target; `path` where it is not the client's. HTTP/1 has the host in a field, HTTP/2 in the
/// URI.
fn target_uri(
    request: &mut Request<ClientBody>,
    path: Option<PathAndQuery>,
    filters: Option<&Filters>,
    to_http2: bool,
) -> Option<Uri> {
    let host = filters.and_then(|filters| filters.host.as_ref());
    let authority = request.uri().authority().cloned();
    let path =
        path.or_else(|| request.uri().path_and_query().cloned()).unwrap_or_else(|| PathAndQuery::from_static("/"));
    if to_http2 {
        let authority = match (host, authority) {
            (Some(host), _) => Some(host.authority.clone()),
            (None, Some(authority)) => Some(authority),
            (None, None) => match request.headers().get(HOST) {
                Some(host) => Some(Authority::try_from(host.as_bytes()).ok()?),
                None => None,
            },
        };
        request.headers_mut().remove(HOST);
        let mut parts = http::uri::Parts::default();
        if authority.is_some() {
            parts.scheme = Some(Scheme::HTTP);
            parts.authority = authority;
        }
        parts.path_and_query = Some(path);
        return Uri::from_parts(parts).ok();
    }
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host.field.clone());
    } else if let Some(authority) = authority {
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        request.headers_mut().insert(HOST, host);
    }
    Some(Uri::from(path))
}
