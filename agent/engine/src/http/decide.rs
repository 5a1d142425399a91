//! What becomes of a request. Everything here needs no waiting; the order is part of what is promised:
//!
//! ```text
//! caller ─► its limits ─► fields in their one form ─► host ─► service and listener ─► path ─► policies
//!        ─► rule ─► filters ─► action
//! ```

use std::{borrow::Cow, sync::Arc};

use brattice_iam::{Http, Query};
use brattice_router::{RequestHead, path, rewrite::Target};
use brattice_wire::{records::FailureReason, snapshot::ProtocolVersion};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{HOST, UPGRADE},
    uri::PathAndQuery,
};
use http_body::Body;
use hyper::body::Incoming;

use super::{
    answer::{self, Denied, NO_ROOM, Own, Problem, TOO_LARGE, UNKNOWN},
    body::Finish,
    canonical::{self, Shown},
    filters::Filters,
    forward::Route,
    framing,
    head::{self, Head},
    headers::Journey,
    service::Session,
    sticky, upgrade,
};
use crate::{
    auth,
    limits::Use,
    local::View,
    memory,
    rules::Action,
    state::{Listener, Service},
    stats::Limit,
    upstream::pool::Key,
};

const UNCHANGEABLE: &str = "the path cannot be changed as the service's rule says";

/// Where a request goes, and what it needs there.
pub(crate) struct Plan {
    pub(crate) route: Route,
    pub(crate) journey: Journey,
    /// The request target, where it is not as it came.
    pub(crate) target: Option<PathAndQuery>,
    pub(crate) filters: Option<Arc<Filters>>,
    /// Keeps the caller at its target group.
    pub(crate) cookie: Option<HeaderValue>,
    /// Protocols that the target may change to.
    pub(crate) offer: Option<HeaderValue>,
}

/// What becomes of a request.
pub(crate) enum Decision {
    /// It is not served.
    Answer(Problem),
    /// A rule has the answer.
    Own(Box<Own>),
    /// A target has it.
    Forward(Box<Plan>),
    /// Policies refuse it.
    Denied(Box<Denied>),
    /// The caller is no caller any more.
    Gone,
}

/// Decides, and notes what the request met. `number`: of the request on its connection.
pub(crate) fn decide(
    session: &Session,
    request: &mut Request<Incoming>,
    number: u64,
    finish: &mut Finish,
    id: &HeaderValue,
) -> Decision {
    let view = session.local.view();
    let decision = decide_by(&view, session, request, number, finish, id);
    session.local.book.settle(&finish.flight.record, &view.state.records);
    decision
}

fn decide_by(
    view: &View,
    session: &Session,
    request: &mut Request<Incoming>,
    number: u64,
    finish: &mut Finish,
    id: &HeaderValue,
) -> Decision {
    let local = &session.local;
    let counts = local.counts();
    let state = &view.state;
    let Some(caller) = state.caller(session.caller) else {
        return Decision::Gone;
    };
    let limits = local.limits();
    if !local.shared.room(&caller.usage, memory::REQUEST, counts) {
        finish.flight.record.fail(FailureReason::ClientRateLimited);
        return Decision::Answer(NO_ROOM);
    }
    let taken = caller.usage.take(Use::Request, limits.requests_per_workload);
    let refused = taken.is_none();
    *finish.flight.taken.borrow_mut() = taken;
    if refused {
        counts.hit(Limit::RequestsPerWorkload);
        finish.flight.record.fail(FailureReason::ClientRateLimited);
        return unavailable("this workload has too many requests in flight");
    }
    if *request.method() == Method::CONNECT {
        return Decision::Answer(Problem::closing(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"));
    }
    let offer = (session.control.offer.get() == Some(number)).then(|| upgrade::offered(request.headers())).flatten();
    let version = request.version();
    if let Err(why) = canonical::request(request.headers_mut(), version).and_then(|()| framing::request(request)) {
        return malformed(session, true, why);
    }
    if let Some(offer) = &offer {
        request.headers_mut().insert(UPGRADE, offer.clone());
    }
    let uri = request.uri().clone();
    let (service, listener, name) = match called(view, session, caller.vpc, request, &uri) {
        Ok(Some(found)) => found,
        Ok(None) => {
            counts.unknown_service.add(1);
            return Decision::Answer(UNKNOWN);
        }
        Err(why) => return malformed(session, true, why),
    };
    let shown = session.shown.get_or_init(|| Shown::new(caller.address, session.port));
    // guard: who-called
    canonical::introduce(request.headers_mut(), shown, listener.forwarded_headers, id);
    let record = &finish.flight.record;
    record.meet(|met| met.service = Some(service.number));
    let silence = local.clock.ticks(service.idle_timeout_ms);
    session.control.idle_ticks.set(silence);
    finish.flight.may_be_silent(silence);
    let Some((path, query)) = path_and_query(request.method(), &uri, version) else {
        return malformed(session, false, "the path or the query is malformed or ambiguous");
    };
    let head = Head {
        method: request.method().as_str(),
        host: name,
        path,
        query,
        headers: request.headers(),
        port: session.port,
        vpc: caller.vpc,
    };
    record.head(&state.records, service.number, &head);
    let parties = auth::Parties { workload: caller.index, vpc: caller.vpc, service: service.index };
    let (fields, query) = (auth::Fields(head.headers), Query(head.query()));
    let http = Http { method: head.method, path: &head.path, headers: &fields, query: &query };
    let call = auth::Call { address: caller.address, port: session.port, http };
    let passed = match local.authorizer.authorize(&state.guards, &session.auth, &parties, &call) {
        Ok(passed) => passed,
        Err(refusal) => {
            counts.denied[refusal.level as usize].add(1);
            record.denied(&refusal);
            let grpc = answer::is_grpc(head.headers);
            return Decision::Denied(Box::new(Denied { refusal, grpc }));
        }
    };
    record.passed(&passed);
    let origin = session.origin();
    finish.flight.passed(session.control.latest.note(|facts| {
        facts.set(origin, service.number, (head.method, &head.path, head.query()), head.headers);
    }));
    let rule = listener.rule(&head);
    record.rule(&rule.id);
    let filters = rule.filters.clone();
    let forward = match &rule.action {
        Action::Fixed(fixed) => {
            return Decision::Own(Box::new(Own {
                status: fixed.status,
                content_type: fixed.content_type.clone(),
                location: None,
                body: fixed.body.clone(),
                filters,
            }));
        }
        Action::Redirect(redirect) => {
            let from = Target { scheme: "http", host: name, port: session.port, path: &head.path, query: head.query() };
            let location = redirect.to.location(&from).ok().and_then(|to| HeaderValue::try_from(to).ok());
            if location.is_none() {
                return malformed(session, false, UNCHANGEABLE);
            }
            return Decision::Own(Box::new(Own {
                status: redirect.status,
                content_type: None,
                location,
                body: Bytes::new(),
                filters,
            }));
        }
        Action::Forward(forward) => forward,
    };
    let nowhere = "no target of the service can be reached";
    let mut balance = view.balance.borrow_mut();
    let Some((number, cookie)) = sticky::group(forward, &head, caller, state, &mut balance) else {
        return unavailable(nowhere);
    };
    record.meet(|met| met.group = Some(number));
    let Some(group) = state.group(number) else { return unavailable(nowhere) };
    let Some(target) = balance.target(number, &group.targets) else { return unavailable(nowhere) };
    record.meet(|met| met.target = Some(((target.address, target.port).into(), target.alias)));
    if limits.body_bytes > 0 && request.body().size_hint().lower() > limits.body_bytes {
        counts.hit(Limit::BodyBytes);
        return Decision::Answer(TOO_LARGE);
    }
    if request.body().size_hint().lower() > memory::LARGE && !finish.flight.transfers(&local.shared, local.index) {
        record.fail(FailureReason::ClientRateLimited);
        return Decision::Answer(NO_ROOM);
    }
    let to_http2 = group.protocol == ProtocolVersion::Http2;
    let journey = Journey {
        to_http2,
        id: id.clone(),
        said: local.authorizer.said(&state.guards, &parties, passed.network, number),
    };
    let key = Key {
        service: service.number,
        alias: target.alias,
        port: target.port,
        generation: target.generation,
        http2: to_http2,
        idle_ms: group.idle_timeout_ms.unwrap_or(limits.pool_idle_timeout_ms),
    };
    let offer = offer.filter(|_| !to_http2);
    let route = Route {
        key,
        caller: session.caller,
        target: target.clone(),
        connect_timeout_ms: group.connect_timeout_ms,
        may_switch: offer.is_some(),
        noticed: None,
    };
    let path = match filters.as_ref().and_then(|filters| filters.path.as_ref()) {
        Some(rewriter) => match rewriter.apply(&head.path) {
            Ok(path) => Cow::Owned(path.into_owned()),
            Err(_) => return malformed(session, false, UNCHANGEABLE),
        },
        None => head.path,
    };
    let target = match &path {
        Cow::Borrowed(_) => None,
        Cow::Owned(path) => match head::target(path, head.query) {
            Some(target) => Some(target),
            None => return malformed(session, false, UNCHANGEABLE),
        },
    };
    Decision::Forward(Box::new(Plan { route, journey, target, filters, cookie, offer }))
}

/// The service and listener that a request calls, and by which name; `Ok(None)`: there is none for its caller. Has the field
/// `host` say what the target is told.
///
/// # Errors
/// What is wrong, for the client.
fn called<'v>(
    view: &'v View,
    session: &Session,
    vpc: u32,
    request: &mut Request<Incoming>,
    uri: &Uri,
) -> Result<Option<(&'v Service, &'v Listener, &'v str)>, &'static str> {
    let state = &view.state;
    let found = match head::called(request.headers(), uri)? {
        Some(host) => state.service(vpc, session.vip, session.port, host),
        // The only one there is.
        None if request.version() == Version::HTTP_10 => state
            .service_at(vpc, session.vip, session.port)
            .map(|(service, listener)| (service, listener, service.usual_name())),
        None => return Err("the host is missing"),
    };
    if let Some((.., name)) = found {
        let whole = match uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None if request.headers().contains_key(HOST) => None,
            None => Some(name),
        };
        whole.map_or(Ok(()), |whole| canonical::host(request.headers_mut(), whole))?;
    }
    Ok(found)
}

/// The path in its normal form, which is borrowed only where it is the one that came, and the query. `None`: they are
/// refused.
fn path_and_query<'u>(method: &Method, uri: &'u Uri, version: Version) -> Option<(Cow<'u, str>, Option<&'u str>)> {
    let (raw, query) = (uri.path(), uri.query());
    path::check_query(query.unwrap_or_default()).ok()?;
    let path = path::requested(method.as_str(), raw).ok()?;
    // An absolute URI may lack the path (RFC 9110, 4.2.3), and is sent on with one; `:path` may not (RFC 9113, 8.3.1).
    match uri.path_and_query().is_none_or(|target| target.as_str().starts_with('?')) {
        true if version == Version::HTTP_2 => None,
        true => Some((Cow::Owned(path.into_owned()), query)),
        false => Some((path, query)),
    }
}

fn unavailable(text: &'static str) -> Decision {
    Decision::Answer(Problem::new(StatusCode::SERVICE_UNAVAILABLE, text))
}

fn malformed(session: &Session, close: bool, text: &'static str) -> Decision {
    session.local.counts().refused_requests.add(1);
    Decision::Answer(Problem { status: StatusCode::BAD_REQUEST, text, close })
}
