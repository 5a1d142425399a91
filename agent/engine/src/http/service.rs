//! One request: begun, decided about, sent to where it goes, answered.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
};

use brattice_decide::Filters;
use brattice_wire::records::FailureReason;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, SET_COOKIE, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use hyper::body::Incoming;

use super::{
    answer::{self, NO_ROOM, Problem, TOO_LARGE},
    control::Refused,
    decide::{self, Decision, Plan},
    failure::target_failure,
    filters,
    forward::{Failure, Lease, Noticed},
    framing, headers,
    request_body::{RequestBody, limit_of},
    response_body::ResponseBody,
    session::Session,
    upgrade::{self, Upgrade},
};
use crate::{
    flights::{Expired, Fault, Finish, Flight, Waits},
    memory::LARGE,
    stats::Limit,
    upstream::connector::ConnectError,
};

/// A connection is not reset for requests that were taken back if this share of all on it was answered: one of so many.
const ANSWERED_SHARE: u64 = 2;

/// The same bound as for requests, so that what a target takes it may also say.
const TOO_MANY_FIELDS: &str = "the target's answer has too many header fields, or bytes of them";

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed")]
pub(crate) struct Closed;

/// Serves one request.
pub(crate) async fn serve(
    session: Rc<Session>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Closed> {
    let number = session.control.requests.get();
    session.control.requests.set(number + 1);
    let mut finish = session.begin(&request);
    let counts = session.local().counts();
    let id = headers::request_id(request.headers(), &mut session.server.random.borrow_mut());
    let flight = Rc::clone(&finish.flight);
    flight.record.id(id.as_bytes());
    let (head, version) = (*request.method() == Method::HEAD, request.version());
    let decision = match session.refused(number, &request) {
        Some(problem) => {
            session.server.book.settle(&flight.record, &session.view().state.records);
            Decision::Answer(problem)
        }
        None => decide::decide(&session, &mut request, number, &mut finish, &id),
    };
    let denied = matches!(decision, Decision::Denied(_));
    let mut response = match decision {
        Decision::Gone => {
            session.control.reset();
            return Err(Closed);
        }
        Decision::Answer(problem) => answer::problem(problem, id, session.http2.get(), head, finish),
        Decision::Denied(denied) => answer::denied(*denied, id, head, finish),
        Decision::Own(own) => answer::own(*own, id, head, finish),
        Decision::Forward(mut plan) => {
            let answered = session.forward(&mut plan, request, &finish.flight).await;
            match session.interim_written(&finish.flight).await.and(answered) {
                Ok((response, lease)) => session.answer(&plan, response, lease, finish),
                Err(problem) => answer::problem(problem, id, session.http2.get(), head, finish),
            }
        }
    };
    session.control.interim.end();
    if version == Version::HTTP_10 {
        framing::to_http10(&mut response);
    }
    // gRPC tells its denials with status 200.
    counts.answered(if denied { StatusCode::FORBIDDEN } else { response.status() }.as_u16());
    flight.record.answer(response.status().as_u16(), response.headers());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        session.control.answered(number);
    }
    Ok(response)
}

impl Session {
    fn begin(&self, request: &Request<Incoming>) -> Finish {
        let (local, control) = (self.local(), &self.control);
        let stream = self.server.stream.borrow_mut().take();
        control.open.set(control.open.get() + 1);
        control.touched.set(local.clock.tick());
        control.interim.begin(control.requests.get(), request.version() == Version::HTTP_11);
        local.counts().requests.add(1);
        local.counts().requests_open.add(1);
        local.slot.requests().fetch_add(1, Relaxed);
        if self.http2.get() && control.open.get() >= local.limits().http2_streams {
            // h2 refuses the next one by itself.
            local.counts().hit(Limit::Http2Streams);
        }
        let record = self.server.book.begin(&control.flow, request);
        self.server.flights.begin(control, record, stream)
    }

    /// What is wrong with the request itself.
    fn refused(&self, number: u64, request: &Request<Incoming>) -> Option<Problem> {
        let counts = self.local().counts();
        if let Some(refusal) = self.control.refused(Refused::Request(number)) {
            match refusal.limit() {
                Some(limit) => counts.hit(limit),
                None => counts.refused_requests.add(1),
            }
            return Some(Problem::closing(refusal.status(), refusal.text()));
        }
        if self.http2.get() {
            let limits = self.local().limits();
            let (limit, text) = if request.headers().len() > limits.headers as usize {
                (Limit::Headers, "there are too many header fields")
            } else if headers::size(request.headers(), request.uri()) > limits.header_bytes as usize {
                (Limit::HeaderBytes, "the header section is too long")
            } else {
                if self.takes_back_too_much() {
                    counts.refused_requests.add(1);
                    counts.hit(Limit::Http2CancelledPerWorkload);
                    self.control.reset();
                }
                return None;
            };
            counts.hit(limit);
            return Some(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
        }
        None
    }

    /// Whether most requests of the connection were taken back, and its workload takes back more than it may.
    fn takes_back_too_much(&self) -> bool {
        let (cancelled, all) = (self.control.cancelled.get(), self.control.requests.get());
        if cancelled <= all / ANSWERED_SHARE {
            return false;
        }
        let view = self.view();
        let lately = view.state.caller(self.caller).map_or(0, |caller| caller.usage.cancelled_lately());
        lately > self.local().limits().http2_cancelled_per_workload
    }

    async fn forward(
        &self,
        plan: &mut Plan,
        mut request: Request<Incoming>,
        flight: &Rc<Flight>,
    ) -> Result<(Response<Incoming>, Lease), Problem> {
        let local = self.local();
        let version = request.version();
        if plan.offer.is_none() {
            request.headers_mut().remove(UPGRADE);
        }
        if let Some(filters) = &plan.filters {
            filters::apply(&filters.request, request.headers_mut());
        }
        let Some(uri) = target_uri(&mut request, plan.target.take(), plan.filters.as_deref(), plan.journey.to_http2)
        else {
            local.counts().refused_requests.add(1);
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the request target is malformed"));
        };
        *request.uri_mut() = uri;
        headers::request(request.headers_mut(), &plan.journey);
        *request.version_mut() = if plan.journey.to_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        // Extensions are hyper's own notes about the client's connection.
        request.extensions_mut().clear();
        let expects = request.headers().contains_key(EXPECT);
        plan.route.noticed = self.noticed(expects, plan.journey.to_http2, version);
        let gate = plan.route.noticed.as_ref().filter(|_| expects).map(|noticed| Arc::clone(&noticed.interim));
        let mut request = request.map(|body| RequestBody::new(body, Rc::clone(flight), Rc::clone(local), gate));
        if !plan.journey.to_http2 {
            let empty = request.body().is_empty();
            framing::to_http1(&mut request, empty);
        }
        let mut sending = pin!(self.server.forwarder.send(&plan.route, request));
        let sent = poll_fn(|cx| {
            if let Some(expired) = flight.poll_expired(cx) {
                return Poll::Ready(Err(expired));
            }
            if !self.http2.get() {
                self.control.interim.park(cx);
            }
            sending.as_mut().poll(cx).map(Ok)
        })
        .await;
        let (mut response, lease) = match sent {
            Ok(Ok(sent)) => sent,
            Ok(Err(failure)) => {
                match failure {
                    Failure::Connect(_) | Failure::Busy => {
                        flight.record.unreached();
                        flight.record.fail(FailureReason::TargetConnectionError);
                    }
                    Failure::TooLong => flight.record.unreached(),
                    Failure::Target(_) => {}
                }
                return Err(self.failed(failure, flight));
            }
            Err(expired) => return Err(self.expired(expired)),
        };
        flight.record.target_answers();
        let fields = response.headers().len();
        let framed = if fields > local.limits().headers as usize {
            Err(TOO_MANY_FIELDS)
        } else {
            framing::response(&mut response)
        };
        if let Err(why) = framed {
            flight.record.fail(FailureReason::TargetProtocolError);
            return Err(Problem::new(StatusCode::BAD_GATEWAY, why));
        }
        if response.body().size_hint().lower() > LARGE && !flight.transfers(&local.shared, local.index) {
            flight.record.fail(FailureReason::ClientRateLimited);
            return Err(NO_ROOM);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && plan.offer.as_ref().and_then(|offer| upgrade::chosen(offer, response.headers())).is_none()
        {
            return Err(Problem::new(StatusCode::BAD_GATEWAY, "the target changed the protocol without being asked"));
        }
        Ok((response, lease))
    }

    /// Waits until the interim responses of an HTTP/1 target are written: they go before the final one, whoever gives that.
    /// The connection wakes this task when it has written them.
    async fn interim_written(&self, flight: &Flight) -> Result<(), Problem> {
        if self.http2.get() {
            return Ok(());
        }
        let written = poll_fn(|cx| match flight.poll_expired(cx) {
            None if self.control.interim.some() => Poll::Pending,
            None => Poll::Ready(Ok(())),
            Some(_) if !self.control.interim.some() => Poll::Ready(Ok(())),
            Some(expired) => Poll::Ready(Err(expired)),
        });
        written.await.map_err(|expired| {
            // One of them may be written in part.
            self.control.reset();
            self.expired(expired)
        })
    }

    /// A target's answer for the client.
    fn answer(
        &self,
        plan: &Plan,
        mut response: Response<Incoming>,
        lease: Lease,
        mut finish: Finish,
    ) -> Response<ResponseBody> {
        let protocol = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
            .then(|| plan.offer.as_ref().and_then(|offer| upgrade::chosen(offer, response.headers())))
            .flatten();
        let headers = response.headers_mut();
        headers::clean_response(headers);
        if let Some(filters) = &plan.filters {
            filters::apply(&filters.response, headers);
        }
        if let Some(cookie) = &plan.cookie {
            headers.append(SET_COOKIE, cookie.clone());
        }
        headers.insert(headers::REQUEST_ID, plan.journey.id.clone());
        *response.version_mut() = if self.http2.get() { Version::HTTP_2 } else { Version::HTTP_11 };
        let Some(protocol) = protocol else {
            return response.map(|body| ResponseBody::forwarded(body, lease, finish));
        };
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
        let key = plan.route.key;
        if self.server.forwarder.allows(&key) {
            self.parties.set(1, key.alias, key.generation);
        } else {
            // The target's alias was taken away just now.
            self.control.reset();
        }
        finish.flight.touch(Waits::Nobody, &self.local().clock);
        self.server.book.lasting(&finish.flight.record);
        finish.complete = true;
        // From now on it counts as a connection, not as a request.
        if !finish.flight.transfers(&self.local().shared, self.local().index) {
            self.control.reset();
        }
        finish.flight.taken.borrow_mut().take();
        *self.switched.borrow_mut() = lease.switch().map(|target| Box::new(Upgrade { target, finish }));
        response.map(|_| ResponseBody::Switched)
    }

    /// What takes the target's interim answers; a client that waits for one (`expects`) has its body behind it.
    ///
    /// hyper tells of interim answers of HTTP/1 targets only, and can give them to no HTTP/2 client.
    fn noticed(&self, expects: bool, to_http2: bool, version: Version) -> Option<Noticed> {
        if to_http2 || self.http2.get() && !expects {
            return None;
        }
        let interim = if self.http2.get() { Arc::default() } else { Arc::clone(&self.control.interim) };
        // The present request is the latest that was counted.
        let request = self.control.requests.get();
        Some(Noticed { interim, forward: (version == Version::HTTP_11).then_some(request) })
    }

    fn failed(&self, failure: Failure, flight: &Flight) -> Problem {
        let counts = self.local().counts();
        if let Some(fault) = flight.fault.get() {
            if let Some(limit) = limit_of(fault) {
                counts.hit(limit);
            }
            return match (fault, self.control.refused(Refused::Body)) {
                (Fault::TooLarge, _) => TOO_LARGE,
                (Fault::NoRoom, _) => {
                    flight.record.fail(FailureReason::ClientRateLimited);
                    NO_ROOM
                }
                (Fault::Client, Some(refusal)) => {
                    match refusal.limit() {
                        Some(limit) => counts.hit(limit),
                        None => counts.refused_requests.add(1),
                    }
                    Problem::closing(refusal.status(), refusal.text())
                }
                (Fault::Client, None) => {
                    flight.record.fail(FailureReason::ClientConnectionClosed);
                    Problem::closing(StatusCode::BAD_REQUEST, "the request ended before its body was complete")
                }
            };
        }
        match failure {
            Failure::Connect(error) => match &*error {
                ConnectError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                    Problem::new(StatusCode::GATEWAY_TIMEOUT, "the target could not be reached in time")
                }
                ConnectError::Io(_) => Problem::new(StatusCode::BAD_GATEWAY, "the target could not be reached"),
                ConnectError::Closed => {
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the target has just been taken away")
                }
            },
            Failure::Target(error) => {
                flight.record.fail(target_failure(&error));
                tracing::debug!(%error, "a target did not answer");
                let text =
                    if error.is_parse_too_large() { TOO_MANY_FIELDS } else { "the target did not answer as HTTP says" };
                Problem::new(StatusCode::BAD_GATEWAY, text)
            }
            Failure::Busy => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the target has no room for a request"),
            Failure::TooLong => Problem::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the header section is longer than the target takes",
            ),
        }
    }

    fn expired(&self, expired: Expired) -> Problem {
        match expired {
            Expired::Answer => Problem::new(StatusCode::GATEWAY_TIMEOUT, "the target did not answer in time"),
            Expired::ClientBody | Expired::TargetBody => {
                Problem::closing(StatusCode::REQUEST_TIMEOUT, "the request body stopped for too long")
            }
        }
    }
}

/// The request target for the target; `path` where it is not the client's. HTTP/1 has the host in a field, HTTP/2 in the
/// URI.
fn target_uri(
    request: &mut Request<Incoming>,
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
