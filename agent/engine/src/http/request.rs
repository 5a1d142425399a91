//! One request, from top to bottom: each step is a function in the file of its name.
//!
//! ```text
//! begin ─► plan: verify ─► authenticate ─► admit ─► canonicalize ─► find_service ─► introduce ─► normalize
//!                ─► decide: policies, rule ─► pick ─► admit_body ─► rewrite
//!       ─► forward: prepare ─► send (upstream: attempts) ─► check_response ─► wait_for_interim
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
mod wait_for_interim;

use std::{rc::Rc, sync::Arc};

use brattice_decide::{Filters, Listener, Service};
use http::{HeaderValue, Request, Response, Version, uri::PathAndQuery};
use hyper::body::Incoming;

use self::{
    admit::admit, admit_body::admit_body, authenticate::authenticate, begin::begin, canonicalize::canonicalize,
    check_response::check_response, decide::decide, find_service::find_service, introduce::introduce,
    normalize::normalize, pick::pick, prepare::prepare, record::record, respond::respond, rewrite::rewrite, send::send,
    verify::verify, wait_for_interim::wait_for_interim,
};
use super::{
    headers::AddedFields,
    local_reply::{LocalReply, Problem},
    response_body::ResponseBody,
    session::Session,
};
use crate::{
    active_requests::ActiveRequest,
    events::RequestEvent,
    upstream::{attempt::Route, lease::Lease},
    views::View,
};

/// The connection is to be closed without a response.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed")]
pub(crate) struct Closed;

/// A request while it has no response yet.
struct Exchange {
    session: Rc<Session>,
    /// Number of the request on its connection.
    number: u64,
    /// Its id, for client, target and logs.
    id: HeaderValue,
    /// It is a `HEAD`: its response has no body.
    head: bool,
    version: Version,
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
    response: Response<Incoming>,
    lease: Lease,
}

/// Serves one request.
///
/// # Errors
/// The connection is closed without a response.
pub(crate) async fn serve(
    session: Rc<Session>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Closed> {
    let (exchange, registration) = begin(session, &request);
    let outcome = match plan(&exchange, &mut request) {
        Ok(plan) => forward(&exchange, plan, request).await,
        Err(reply) => Err(reply),
    };
    let response = respond(&exchange, outcome, registration)?;
    record(&exchange, &response);
    Ok(response)
}

/// The steps that need no waiting: what happens to the request, by what is in force now.
fn plan(exchange: &Exchange, request: &mut Request<Incoming>) -> Result<Plan, LocalReply> {
    let view = exchange.session.view();
    let plan = plan_by(&view, exchange, request);
    exchange.active.span.emit(RequestEvent::Decided { names: &view.state.names });
    plan
}

fn plan_by(view: &View, exchange: &Exchange, request: &mut Request<Incoming>) -> Result<Plan, LocalReply> {
    verify(exchange, request)?;
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
async fn forward(exchange: &Exchange, mut plan: Plan, request: Request<Incoming>) -> Result<Forwarded, LocalReply> {
    let answered = exchange_with_target(exchange, &mut plan, request).await;
    wait_for_interim(exchange).await?;
    let (response, lease) = answered.map_err(LocalReply::Problem)?;
    Ok(Forwarded { plan, response, lease })
}

async fn exchange_with_target(
    exchange: &Exchange,
    plan: &mut Plan,
    request: Request<Incoming>,
) -> Result<(Response<Incoming>, Lease), Problem> {
    let request = prepare(exchange, plan, request)?;
    let (mut response, lease) = send(exchange, plan, request).await?;
    check_response(exchange, plan, &mut response)?;
    Ok((response, lease))
}
