//! One request, from top to bottom: each step is a function in the file of its name.
//!
//! ```text
//! begin ─► plan: verify ─► authenticate ─► admit ─► canonicalize ─► find_service ─► introduce ─► normalize
//!                ─► decide: policies, rule ─► pick ─► admit_body ─► rewrite
//!       ─► forward: prepare ─► send (upstream: attempts) ─► check_response
//!       ─► respond ─► record
//! ```
//!
//! The order is part of the documented behaviour: docs/engine.md.

mod admit;
mod admit_body;
mod authenticate;
mod begin;
mod canonicalize;
mod check_response;
mod decide;
mod find_service;
mod introduce;
mod no_response;
mod normalize;
mod pick;
mod prepare;
mod record;
mod respond;
mod rewrite;
mod send;
mod verify;

use std::{rc::Rc, sync::Arc};

use brattice_decide::{Filters, Listener, Service};
use http::{HeaderValue, Request, Response, Version, uri::PathAndQuery};

use self::{
    admit::admit, admit_body::admit_body, authenticate::authenticate, begin::begin, canonicalize::canonicalize,
    check_response::check_response, decide::decide, find_service::find_service, introduce::introduce,
    normalize::normalize, pick::pick, prepare::prepare, record::record, respond::respond, rewrite::rewrite, send::send,
    verify::verify,
};
use super::{
    client_body::ClientBody,
    headers::AddedFields,
    local_reply::{LocalReply, Problem},
    refusal::Refusal,
    response_body::ResponseBody,
    session::Session,
};
use crate::{
    active_requests::ActiveRequest,
    events::RequestEvent,
    upstream::{attempt::Route, lease::Lease, target_body::TargetBody},
    views::View,
};

/// The connection is to be closed without a response.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed")]
pub(crate) struct Closed;

/// What the reader of a request knows beyond it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrival {
    /// It is none: why.
    pub(crate) refused: Option<Refusal>,
    /// It offers another protocol.
    pub(crate) offers_upgrade: bool,
}

/// A request while it has no response yet.
struct Exchange {
    session: Rc<Session>,
    /// Its id, for client, target and logs.
    id: HeaderValue,
    /// It is a `HEAD`: its response has no body.
    head: bool,
    version: Version,
    /// It offers another protocol, and nothing behind it is read before it is answered.
    offers_upgrade: bool,
    active: Rc<ActiveRequest>,
}

/// What was called.
struct Called<'a> {
    service: &'a Service,
    listener: &'a Listener,
    /// The name that was used, as the documents write it.
    name: &'a str,
}

/// Where a request goes, and what it needs there.
struct Plan {
    route: Route,
    added: AddedFields,
    /// The request target, where it is not as it came.
    target: Option<PathAndQuery>,
    filters: Option<Arc<Filters>>,
    /// Keeps the caller at its target group.
    cookie: Option<HeaderValue>,
    /// Protocols that the target may change to.
    offer: Option<HeaderValue>,
}

/// A target's response, and the connection that its body comes on.
struct Forwarded {
    plan: Plan,
    response: Response<TargetBody>,
    lease: Lease,
}

/// Serves one request.
///
/// # Errors
/// The connection is closed without a response.
pub(crate) async fn serve(
    session: Rc<Session>,
    mut request: Request<ClientBody>,
    arrival: Arrival,
) -> Result<Response<ResponseBody>, Closed> {
    let (exchange, registration) = begin(session, &request, arrival.offers_upgrade);
    let outcome = match plan(&exchange, arrival.refused, &mut request) {
        Ok(plan) => forward(&exchange, plan, request).await,
        Err(reply) => Err(reply),
    };
    let response = respond(&exchange, outcome, registration)?;
    record(&exchange, &response);
    Ok(response)
}

/// The steps that need no waiting: what happens to the request, by what is in force now.
fn plan(exchange: &Exchange, refused: Option<Refusal>, request: &mut Request<ClientBody>) -> Result<Plan, LocalReply> {
    let view = exchange.session.view();
    let verified = verify(exchange, refused, request).map_err(LocalReply::from);
    let plan = verified.and_then(|()| plan_by(&view, exchange, request));
    exchange.active.span.emit(RequestEvent::Decided { names: &view.state.names });
    plan
}

fn plan_by(view: &View, exchange: &Exchange, request: &mut Request<ClientBody>) -> Result<Plan, LocalReply> {
    let caller = authenticate(exchange, view)?;
    admit(exchange, &caller)?;
    let offer = canonicalize(exchange, request)?;
    let uri = request.uri().clone();
    let called = find_service(exchange, view, &caller, request, &uri)?;
    introduce(exchange, &caller, &called, request);
    let head = normalize(exchange, view, &called, request, &uri)?;
    let chosen = decide(exchange, view, &caller, &called, &head)?;
    let candidates = pick(exchange, view, &chosen)?;
    admit_body(exchange, request)?;
    let target = rewrite(exchange, &chosen, &head)?;
    Ok(Plan::new(exchange, view, (&caller, &called, &chosen), candidates, target, offer))
}

/// The steps that wait for a target.
async fn forward(exchange: &Exchange, mut plan: Plan, request: Request<ClientBody>) -> Result<Forwarded, LocalReply> {
    let answered = exchange_with_target(exchange, &mut plan, request).await;
    let (response, lease) = answered.map_err(LocalReply::Problem)?;
    Ok(Forwarded { plan, response, lease })
}

async fn exchange_with_target(
    exchange: &Exchange,
    plan: &mut Plan,
    request: Request<ClientBody>,
) -> Result<(Response<TargetBody>, Lease), Problem> {
    let request = prepare(exchange, plan, request)?;
    let (mut response, lease) = send(exchange, plan, request).await?;
    check_response(exchange, plan, &mut response)?;
    Ok((response, lease))
}
