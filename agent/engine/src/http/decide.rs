//! What becomes of a request. Everything here needs no waiting; the order is part of what is promised:
//!
//! ```text
//! caller ─► its limits ─► fields in their one form ─► host ─► service and listener ─► path
//!        ─► brattice-decide: policies ─► rule ─► own response, or target group
//!        ─► target ─► limits of the body ─► rewritten path
//! ```

use std::{borrow::Cow, sync::Arc};

use brattice_decide::{
    Decision as Decided, Filters, Listener, OwnResponse, Passed, Refusal, Refused, Route as Chosen, Rule, Service,
    Trace,
};
use brattice_router::{RequestHead, path, rewrite::RewriteError};
use brattice_wire::{
    records::FailureReason,
    snapshot::{ProtocolVersion, Target},
};
use http::{
    HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{HOST, UPGRADE},
    uri::PathAndQuery,
};
use http_body::Body;
use hyper::body::Incoming;

use super::{
    answer::{self, Denied, NO_ROOM, Own, Problem, TOO_LARGE, UNKNOWN},
    canonical::{self, Shown},
    forward::Route,
    framing,
    head::{self, Head},
    headers::Journey,
    session::Session,
    upgrade,
};
use crate::{
    auth,
    flights::Finish,
    limits::Use,
    memory,
    records::record::Record,
    state::Caller,
    stats::{Counts, Limit},
    upstream::pool::Key,
    views::View,
};

const UNCHANGEABLE: &str = "the path cannot be changed as the service's rule says";
const LONG_LOCATION: &str = "the location of the service's redirect would be too long";
const NO_LOCATION: &str = "the location of the service's redirect cannot be sent";
const NOWHERE: &str = "no target of the service can be reached";

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
    let view = session.view();
    let decision = decide_by(&view, session, request, number, finish, id);
    session.server.book.settle(&finish.flight.record, &view.state.records);
    decision
}

/// One request on its way through the steps.
struct Step<'a> {
    view: &'a View,
    session: &'a Session,
    finish: &'a Finish,
    id: &'a HeaderValue,
}

/// What was called.
struct Called<'a> {
    service: &'a Service,
    listener: &'a Listener,
    /// The name that was used, as the documents write it.
    name: &'a str,
}

fn decide_by(
    view: &View,
    session: &Session,
    request: &mut Request<Incoming>,
    number: u64,
    finish: &mut Finish,
    id: &HeaderValue,
) -> Decision {
    let step = Step { view, session, finish, id };
    let state = &view.state;
    let Some(caller) = state.caller(session.caller) else {
        return Decision::Gone;
    };
    step.run(&caller, request, number).unwrap_or_else(|decision| decision)
}

impl Step<'_> {
    fn run(&self, caller: &Caller<'_>, request: &mut Request<Incoming>, number: u64) -> Result<Decision, Decision> {
        self.admit(caller)?;
        if *request.method() == Method::CONNECT {
            let text = "CONNECT is not supported";
            return Err(Decision::Answer(Problem::closing(StatusCode::NOT_IMPLEMENTED, text)));
        }
        let offer = self.canonical(request, number)?;
        let uri = request.uri().clone();
        let called = self.called(caller, request, &uri)?;
        self.introduce(caller, &called, request);
        let head = self.head(&called, request, &uri)?;
        self.finish.flight.record.head(&self.view.state.records, called.service.number, &head);
        match self.decided(caller, &called, &head)? {
            Decided::Denied(refusal) => {
                Err(Decision::Denied(Box::new(Denied { refusal, grpc: answer::is_grpc(head.headers) })))
            }
            Decided::Refused(Refused::NoTarget) => Err(unavailable(NOWHERE)),
            Decided::Refused(Refused::Rewrite(RewriteError::LongLocation)) => {
                Err(malformed(self.session, false, LONG_LOCATION))
            }
            Decided::Refused(Refused::Rewrite(_)) => Err(malformed(self.session, false, UNCHANGEABLE)),
            Decided::Refused(Refused::Location) => Err(malformed(self.session, false, NO_LOCATION)),
            Decided::Respond(response) => Ok(Decision::Own(Box::new(own(response)))),
            Decided::Forward(chosen) => {
                let Some(target) = self.target(&chosen) else { return Err(unavailable(NOWHERE)) };
                self.admit_body(request)?;
                let path = self.rewritten(&chosen, &head)?;
                Ok(Decision::Forward(Box::new(self.plan(caller, &called, &chosen, target, path, offer))))
            }
        }
    }

    /// The caller's limits.
    fn admit(&self, caller: &Caller<'_>) -> Result<(), Decision> {
        let (local, flight) = (self.session.local(), &self.finish.flight);
        let counts = local.counts();
        if !local.shared.room(caller.usage, memory::REQUEST, counts) {
            flight.record.fail(FailureReason::ClientRateLimited);
            return Err(Decision::Answer(NO_ROOM));
        }
        let taken = caller.usage.take(Use::Request, local.limits().requests_per_workload);
        let refused = taken.is_none();
        *flight.taken.borrow_mut() = taken;
        if refused {
            counts.hit(Limit::RequestsPerWorkload);
            flight.record.fail(FailureReason::ClientRateLimited);
            return Err(unavailable("this workload has too many requests in flight"));
        }
        Ok(())
    }

    /// The fields in the form in which the target gets them; the protocols that it may change to.
    fn canonical(&self, request: &mut Request<Incoming>, number: u64) -> Result<Option<HeaderValue>, Decision> {
        let offers = self.session.control.offers_upgrade(number);
        let offer = offers.then(|| upgrade::offered(request.headers())).flatten();
        let version = request.version();
        canonical::request(request.headers_mut(), version)
            .and_then(|()| framing::request(request))
            .map_err(|why| malformed(self.session, true, why))?;
        if let Some(offer) = &offer {
            request.headers_mut().insert(UPGRADE, offer.clone());
        }
        Ok(offer)
    }

    /// The service and listener that are called, if the caller may see them.
    fn called(&self, caller: &Caller<'_>, request: &mut Request<Incoming>, uri: &Uri) -> Result<Called<'_>, Decision> {
        match called(self.view, self.session, caller.vpc, request, uri) {
            Ok(Some((service, listener, name))) => Ok(Called { service, listener, name }),
            Ok(None) => {
                self.session.local().counts().unknown_service.add(1);
                Err(Decision::Answer(UNKNOWN))
            }
            Err(why) => Err(malformed(self.session, true, why)),
        }
    }

    /// Who calls and the request's id, in the fields that say so; and how long the service lets it be silent.
    fn introduce(&self, caller: &Caller<'_>, called: &Called<'_>, request: &mut Request<Incoming>) {
        let (session, flight) = (self.session, &self.finish.flight);
        let shown = session.shown.get_or_init(|| Shown::new(caller.address, session.port));
        // guard: who-called
        canonical::introduce(request.headers_mut(), shown, called.listener.forwarded_headers, self.id);
        flight.record.meet(|met| met.service = Some(called.service.number));
        let silence = session.local().clock.ticks(called.service.idle_timeout_ms);
        session.control.idle_ticks.set(silence);
        flight.may_be_silent(silence);
    }

    /// The head as it is decided about, with the path in its normal form.
    fn head<'r>(
        &self,
        called: &Called<'r>,
        request: &'r Request<Incoming>,
        uri: &'r Uri,
    ) -> Result<Head<'r>, Decision> {
        let Some((path, query)) = path_and_query(request.method(), uri, request.version()) else {
            return Err(malformed(self.session, false, "the path or the query is malformed or ambiguous"));
        };
        Ok(Head { method: request.method().as_str(), host: called.name, path, query, headers: request.headers() })
    }

    /// Policies, rule and target group.
    fn decided<'d>(
        &'d self,
        caller: &Caller<'_>,
        called: &Called<'d>,
        head: &'d Head<'_>,
    ) -> Result<Decided<'d>, Decision> {
        let (session, flight) = (self.session, &self.finish.flight);
        let local = session.local();
        let state = &self.view.state;
        let Some(call) = auth::call(state, caller, called.service.index, session.port) else {
            return Err(Decision::Gone);
        };
        let asked = brattice_decide::Request { call, listener: called.listener, host: called.name, head };
        let mut balance = self.view.balance.borrow_mut();
        let mut recorded = Recorded { record: &flight.record, counts: local.counts() };
        let rooms = (&session.server.authorizer, &session.auth);
        let decided = brattice_decide::decide(state, rooms, &asked, |forward| balance.share(forward), &mut recorded);
        if !matches!(decided, Decided::Denied(_)) {
            let origin = session.origin();
            flight.passed(session.control.latest.note(|facts| {
                let line = (head.method, &*head.path, head.query.unwrap_or_default());
                facts.set(origin, called.service.number, line, head.headers);
            }));
        }
        Ok(decided)
    }

    /// The target of the group that comes next.
    fn target<'t>(&self, chosen: &Chosen<'t>) -> Option<&'t Target> {
        let target = self.view.balance.borrow_mut().target(chosen.number, &chosen.group.targets)?;
        self.finish.flight.record.meet(|met| met.target = Some(((target.address, target.port).into(), target.alias)));
        Some(target)
    }

    /// The limits of the body.
    fn admit_body(&self, request: &Request<Incoming>) -> Result<(), Decision> {
        let (local, flight) = (self.session.local(), &self.finish.flight);
        let (length, most) = (request.body().size_hint().lower(), local.limits().body_bytes);
        if most > 0 && length > most {
            local.counts().hit(Limit::BodyBytes);
            return Err(Decision::Answer(TOO_LARGE));
        }
        if length > memory::LARGE && !flight.transfers(&local.shared, local.index) {
            flight.record.fail(FailureReason::ClientRateLimited);
            return Err(Decision::Answer(NO_ROOM));
        }
        Ok(())
    }

    /// The request target for the target, where it is not the one that came.
    fn rewritten(&self, chosen: &Chosen<'_>, head: &Head<'_>) -> Result<Option<PathAndQuery>, Decision> {
        let unchangeable = || malformed(self.session, false, UNCHANGEABLE);
        let path = chosen.path(&head.path).map_err(|_| unchangeable())?;
        if *path == *head.path && matches!(head.path, Cow::Borrowed(_)) {
            return Ok(None);
        }
        head::target(&path, head.query).map(Some).ok_or_else(unchangeable)
    }

    fn plan(
        &self,
        caller: &Caller<'_>,
        called: &Called<'_>,
        chosen: &Chosen<'_>,
        target: &Target,
        path: Option<PathAndQuery>,
        offer: Option<HeaderValue>,
    ) -> Plan {
        let (session, group) = (self.session, chosen.group);
        let local = session.local();
        let to_http2 = group.protocol == ProtocolVersion::Http2;
        let (who, service) = ((caller.index, caller.vpc), called.service);
        let said = session.server.told.said(&self.view.state, who, service.index, chosen.network, chosen.number);
        let key = Key {
            service: service.number,
            alias: target.alias,
            port: target.port,
            generation: target.generation,
            http2: to_http2,
            idle_ms: group.idle_timeout_ms.unwrap_or(local.limits().pool_idle_timeout_ms),
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
        Plan {
            route,
            journey: Journey { to_http2, id: self.id.clone(), said },
            target: path,
            filters: chosen.filters.cloned(),
            cookie: chosen.cookie.cloned(),
            offer,
        }
    }
}

/// The request's record and the counts are told of the steps of the decision.
struct Recorded<'r> {
    record: &'r Record,
    counts: &'r Counts,
}

impl Trace for Recorded<'_> {
    fn denied(&mut self, refusal: &Refusal) {
        self.counts.denied[refusal.level as usize].add(1);
        self.record.denied(refusal);
    }

    fn passed(&mut self, passed: &Passed) {
        self.record.passed(passed);
    }

    fn rule<R: RequestHead + ?Sized>(&mut self, _: &R, _: Option<usize>, rule: &Rule) {
        self.record.rule(&rule.id);
    }

    fn group(&mut self, group: u32) {
        self.record.meet(|met| met.group = Some(group));
    }
}

fn own(response: OwnResponse<'_>) -> Own {
    Own {
        status: response.status,
        content_type: response.content_type.cloned(),
        location: response.location,
        body: response.body,
        filters: response.filters.cloned(),
    }
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
    session.local().counts().refused_requests.add(1);
    Decision::Answer(Problem { status: StatusCode::BAD_REQUEST, text, close })
}
