//! One request: who calls what, which rule it meets, where it goes, what comes back.

use std::{
    future::poll_fn,
    io,
    net::IpAddr,
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
};

use brattice_wire::snapshot::ProtocolVersion;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use hyper::body::Incoming;

use super::{
    answer::{self, Problem, UNKNOWN},
    body::{Finish, RequestBody, ResponseBody, limit_of},
    control::{Control, Interim},
    forward::{self, Failure, Route},
    headers::{self, Journey},
};
use crate::{
    flights::{Expired, Fault, Flight},
    limits::Use,
    local::{ConnectError, Local},
    pool::Key,
    state::Action,
    stats::Limit,
};

/// HTTP/2 requests that a client may take back ...
const CANCELLED: u64 = 200;
/// ... without having this share of all that it made answered: one of so many.
const CANCELLED_SHARE: u64 = 2;

/// One client connection: who is at its other end, and what it called.
pub(crate) struct Session {
    pub(crate) local: Rc<Local>,
    pub(crate) control: Rc<Control>,
    pub(crate) alias: IpAddr,
    pub(crate) generation: u32,
    pub(crate) vip: IpAddr,
    pub(crate) port: u16,
    pub(crate) http2: bool,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed")]
pub(crate) struct Closed;

/// Where a request goes, and what it needs there.
struct Plan {
    route: Route,
    journey: Journey,
}

enum Decision {
    Answer(Problem),
    Fixed(StatusCode),
    Forward(Box<Plan>),
    /// The caller is no caller any more.
    Gone,
}

/// Serves one request.
pub(crate) async fn serve(
    session: Rc<Session>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Closed> {
    let number = session.control.requests.get();
    session.control.requests.set(number + 1);
    let mut finish = session.begin();
    let counts = session.local.counts();
    let id = headers::request_id(request.headers(), &mut session.local.random.borrow_mut());
    let head = *request.method() == Method::HEAD;
    let problem = match session.refused(number, &request) {
        Some(problem) => problem,
        None => match session.decide(&mut request, &mut finish, &id) {
            Decision::Gone => {
                session.control.reset();
                return Err(Closed);
            }
            Decision::Fixed(status) => {
                counts.answered(status.as_u16());
                return Ok(answer::fixed(status, id, finish));
            }
            Decision::Answer(problem) => problem,
            Decision::Forward(plan) => match session.forward(*plan, request, &finish.flight).await {
                Ok((mut response, lease)) => {
                    headers::clean_response(response.headers_mut());
                    response.headers_mut().insert(headers::REQUEST_ID, id);
                    *response.version_mut() = if session.http2 { Version::HTTP_2 } else { Version::HTTP_11 };
                    counts.answered(response.status().as_u16());
                    return Ok(response.map(|body| ResponseBody::forwarded(body, lease, finish)));
                }
                Err(problem) => problem,
            },
        },
    };
    counts.answered(problem.status.as_u16());
    Ok(answer::problem(problem, id, session.http2, head, finish))
}

impl Session {
    fn begin(&self) -> Finish {
        let (local, control) = (&self.local, &self.control);
        let stream = local.stream.borrow_mut().take();
        control.open.set(control.open.get() + 1);
        control.touched.set(local.clock.tick());
        control.interim.begin();
        local.counts().requests.add(1);
        local.counts().requests_open.add(1);
        local.slot.requests().fetch_add(1, Relaxed);
        if self.http2 && control.open.get() >= local.limits().http2_streams {
            // h2 refuses the next one by itself.
            local.counts().hit(Limit::Http2Streams);
        }
        Finish {
            local: Rc::clone(local),
            control: Rc::clone(control),
            flight: local.flights.begin(Rc::clone(control), stream, &local.clock),
            taken: None,
            complete: false,
        }
    }

    /// What is wrong with the request itself.
    fn refused(&self, number: u64, request: &Request<Incoming>) -> Option<Problem> {
        let counts = self.local.counts();
        if let Some((refused, refusal)) = self.control.refused.get()
            && refused == number
        {
            match refusal.limit() {
                Some(limit) => counts.hit(limit),
                None => counts.refused_requests.add(1),
            }
            return Some(Problem::closing(refusal.status(), refusal.text()));
        }
        if self.http2 {
            let limits = self.local.limits();
            let (limit, text) = if request.headers().len() > limits.headers as usize {
                (Limit::Headers, "there are too many header fields")
            } else if headers::size(request.headers(), request.uri()) > limits.header_bytes as usize {
                (Limit::HeaderBytes, "the header section is too long")
            } else {
                let (cancelled, all) = (self.control.cancelled.get(), self.control.requests.get());
                if cancelled > CANCELLED && cancelled > all / CANCELLED_SHARE {
                    counts.refused_requests.add(1);
                    self.control.reset();
                }
                return None;
            };
            counts.hit(limit);
            return Some(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
        }
        None
    }

    /// Everything that needs no waiting.
    fn decide(&self, request: &mut Request<Incoming>, finish: &mut Finish, id: &HeaderValue) -> Decision {
        let local = &self.local;
        let counts = local.counts();
        let view = local.view();
        let state = &view.state;
        let Some(caller) = state.caller(self.alias).filter(|caller| caller.generation == self.generation) else {
            return Decision::Gone;
        };
        let limits = local.limits();
        finish.taken = caller.usage.take(Use::Request, limits.requests_per_workload);
        if finish.taken.is_none() {
            counts.hit(Limit::RequestsPerWorkload);
            let text = "this workload has too many requests in flight";
            return Decision::Answer(Problem::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        if *request.method() == Method::CONNECT {
            return Decision::Answer(Problem::closing(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"));
        }
        let Some(host) = host(request.headers(), request.uri()) else {
            counts.refused_requests.add(1);
            return Decision::Answer(Problem::closing(
                StatusCode::BAD_REQUEST,
                "the host is missing, malformed or contradictory",
            ));
        };
        let Some((service, listener, name)) = state.service(caller.vpc, self.vip, self.port, host) else {
            counts.unknown_service.add(1);
            return Decision::Answer(UNKNOWN);
        };
        self.control.idle_ticks.set(local.clock.ticks(service.idle_timeout_seconds.saturating_mul(1_000)));
        let action = listener.action(request.method().as_str(), name, request.uri().path());
        let forward = match action {
            Action::Fixed(status) => return Decision::Fixed(*status),
            Action::Forward(forward) => forward,
        };
        let nowhere = || {
            Decision::Answer(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no target of the service can be reached"))
        };
        let mut balance = view.balance.borrow_mut();
        let Some(number) = balance.group(forward) else { return nowhere() };
        let Some(group) = state.group(number) else { return nowhere() };
        let Some(target) = balance.target(number, &group.targets) else { return nowhere() };
        if limits.body_bytes > 0 && request.body().size_hint().lower() > limits.body_bytes {
            counts.hit(Limit::BodyBytes);
            return Decision::Answer(TOO_LARGE);
        }
        let to_http2 = group.protocol == ProtocolVersion::Http2;
        let journey = Journey {
            caller: caller.address,
            port: self.port,
            forwarded: listener.forwarded_headers,
            to_http2,
            id: id.clone(),
        };
        let key = Key {
            service: service.number,
            alias: target.alias,
            port: target.port,
            generation: target.generation,
            http2: to_http2,
        };
        let route = Route { key, target: target.clone(), connect_timeout_ms: group.connect_timeout_ms };
        Decision::Forward(Box::new(Plan { route, journey }))
    }

    async fn forward(
        &self,
        plan: Plan,
        mut request: Request<Incoming>,
        flight: &Rc<Flight>,
    ) -> Result<(Response<Incoming>, forward::Lease), Problem> {
        let local = &self.local;
        let version = request.version();
        let Some(uri) = target_uri(&mut request, plan.journey.to_http2) else {
            local.counts().refused_requests.add(1);
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the request target is malformed"));
        };
        *request.uri_mut() = uri;
        headers::request(request.headers_mut(), &plan.journey);
        *request.version_mut() = if plan.journey.to_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        // Extensions are hyper's own notes about the client's connection.
        request.extensions_mut().clear();
        let expects = request.headers().contains_key(EXPECT);
        if version == Version::HTTP_10 {
            request.headers_mut().remove(EXPECT);
        }
        let gate = self.interim(&mut request, expects && version != Version::HTTP_10, plan.journey.to_http2, version);
        let mut request = request.map(|body| RequestBody::new(body, Rc::clone(flight), Rc::clone(local), gate));
        if !plan.journey.to_http2
            && !request.body().is_empty()
            && request.body().size_hint().exact().is_none()
            && !request.headers().contains_key(CONTENT_LENGTH)
        {
            // hyper would send a GET without its body otherwise.
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut sending = pin!(forward::send(local, &plan.route, request));
        let sent = poll_fn(|cx| {
            if let Some(expired) = flight.poll_expired(cx) {
                return Poll::Ready(Err(expired));
            }
            if !self.http2 {
                self.control.interim.park(cx);
            }
            sending.as_mut().poll(cx).map(Ok)
        })
        .await;
        let (response, lease) = match sent {
            Ok(Ok(sent)) => sent,
            Ok(Err(failure)) => return Err(self.failed(failure, flight)),
            Err(expired) => return Err(self.expired(expired)),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Problem::new(StatusCode::BAD_GATEWAY, "the target changed the protocol without being asked"));
        }
        if !self.http2 {
            // Interim answers go first; the connection wakes this task when it has written them.
            let written = poll_fn(|cx| match flight.poll_expired(cx) {
                Some(expired) => Poll::Ready(Err(expired)),
                None if self.control.interim.some() => Poll::Pending,
                None => Poll::Ready(Ok(())),
            });
            written.await.map_err(|expired| self.expired(expired))?;
        }
        Ok((response, lease))
    }

    /// Has the target's interim answers noticed; the answer is the gate of the body of a client that waits for one.
    ///
    /// hyper tells of interim answers of HTTP/1 targets only, and can give them to no HTTP/2 client.
    fn interim(
        &self,
        request: &mut Request<Incoming>,
        expects: bool,
        to_http2: bool,
        version: Version,
    ) -> Option<Arc<Interim>> {
        if to_http2 || self.http2 && !expects {
            return None;
        }
        let interim = if self.http2 { Arc::default() } else { Arc::clone(&self.control.interim) };
        let forward = version == Version::HTTP_11;
        let noticed = Arc::clone(&interim);
        hyper::ext::on_informational(request, move |response| {
            noticed.received(response.status(), response.headers(), forward);
        });
        expects.then_some(interim)
    }

    fn failed(&self, failure: Failure, flight: &Flight) -> Problem {
        let counts = self.local.counts();
        if let Some(fault) = flight.fault.get() {
            if let Some(limit) = limit_of(fault) {
                counts.hit(limit);
            }
            return match (fault, self.control.refused_body.get()) {
                (Fault::TooLarge, _) => TOO_LARGE,
                (Fault::Client, Some(refusal)) => {
                    match refusal.limit() {
                        Some(limit) => counts.hit(limit),
                        None => counts.refused_requests.add(1),
                    }
                    Problem::closing(refusal.status(), refusal.text())
                }
                (Fault::Client, None) => {
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
                ConnectError::Retired => {
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the target has just been taken away")
                }
            },
            Failure::Target(error) => {
                tracing::debug!(%error, "a target did not answer");
                Problem::new(StatusCode::BAD_GATEWAY, "the target did not answer as HTTP says")
            }
            Failure::Busy => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the target has no room for a request"),
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

const TOO_LARGE: Problem = Problem::closing(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too long");

/// The host that a request names, without the port; empty where HTTP/1.0 names none. `None`: there is none where one
/// must be, several, or two different ones.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let mut fields = headers.get_all(HOST).iter();
    let field = match fields.next() {
        Some(field) => Some(field.to_str().ok()?),
        None => None,
    };
    if fields.next().is_some() {
        return None;
    }
    let whole = match (uri.authority().map(Authority::as_str), field) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => return None,
        (Some(authority), _) => authority,
        (None, Some(field)) => field,
        (None, None) => return Some(""),
    };
    if matches!(uri.scheme_str(), Some(scheme) if !scheme.eq_ignore_ascii_case("http")) {
        return None;
    }
    without_port(whole)
}

/// The host of `host` or `host:port`.
fn without_port(whole: &str) -> Option<&str> {
    let from = if whole.starts_with('[') { whole.find(']')? } else { 0 };
    match whole[from..].find(':') {
        None => Some(whole),
        Some(colon) => {
            let port = &whole[from + colon + 1..];
            (port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())).then(|| &whole[..from + colon])
        }
    }
}

/// The request target for the target. HTTP/1 has the host in a field, HTTP/2 in the URI.
fn target_uri(request: &mut Request<Incoming>, to_http2: bool) -> Option<Uri> {
    let authority = request.uri().authority().cloned();
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if to_http2 {
        let authority = match authority {
            Some(authority) => Some(authority),
            None => match request.headers().get(HOST) {
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
    if let Some(authority) = authority {
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        request.headers_mut().insert(HOST, host);
    }
    Some(Uri::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_off() {
        for (whole, host) in [
            ("a.example", Some("a.example")),
            ("a.example:80", Some("a.example")),
            ("a.example:", Some("a.example")),
            ("[fd00::1]", Some("[fd00::1]")),
            ("[fd00::1]:80", Some("[fd00::1]")),
            ("a:b", None),
            ("a:1:2", None),
            ("a:123456", None),
            ("[fd00::1", None),
            ("", Some("")),
        ] {
            assert_eq!(without_port(whole), host, "{whole}");
        }
    }

    #[test]
    fn hosts_must_agree() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("A.example:80"));
        assert_eq!(host(&headers, &Uri::from_static("/x")), Some("A.example"));
        assert_eq!(host(&headers, &Uri::from_static("http://a.example:80/x")), Some("a.example"));
        assert_eq!(host(&headers, &Uri::from_static("http://b.example/x")), None);
        assert_eq!(host(&headers, &Uri::from_static("https://a.example:80/x")), None);
        headers.append(HOST, HeaderValue::from_static("a.example:80"));
        assert_eq!(host(&headers, &Uri::from_static("/x")), None);
        assert_eq!(host(&HeaderMap::new(), &Uri::from_static("/x")), Some(""));
    }
}
