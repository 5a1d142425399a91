//! An attempt at an HTTP/2 endpoint: a stream of a connection that only its caller's requests use.

use std::{io, rc::Rc};

use http::{Method, Request, header::CONTENT_LENGTH};
use http_body::Body;

use super::{Attempt, Failure, Route};
use crate::{
    http::{headers, request_body::RequestBody},
    limits::Limit,
    upstream::{
        Upstream,
        endpoint::Endpoint,
        http2::{self, Http2, Stream},
        lease::Lease,
        pool::{Choice, Key},
        retry::{Attempts, Outcome},
        retry_buffer::RetryBuffer,
        target_body::TargetBody,
    },
};

/// Times that an attempt may look for a connection with room.
const LOOKS: usize = 128;
/// One attempt.
pub(super) async fn attempt(
    upstream: &Rc<Upstream>,
    route: &Route,
    endpoint: &Rc<Endpoint>,
    mut request: Request<RequestBody>,
    attempts: &Attempts,
    retry_buffer: &mut RetryBuffer<'_>,
) -> Attempt {
    let key = route.key(endpoint);
    let places = attempts.places.unwrap_or(u32::MAX);
    let mut found = None;
    for look in 0..LOOKS {
        match connection(upstream, route, endpoint, key, places).await {
            // A connection that was there before may have ended for reasons of its own.
            Ok(Some(connection)) => found = Some((connection, look == 0 && attempts.here == 0)),
            Ok(None) => continue,
            Err(failure) => {
                let outcome = match failure {
                    Failure::Connect(_) => Outcome::NotConnected,
                    _ => Outcome::NotSendable,
                };
                return Attempt::unsent(outcome, failure, request);
            }
        }
        break;
    }
    let Some((mut connection, reused)) = found else {
        return Attempt::unsent(Outcome::NotSendable, Failure::Busy, request);
    };
    // Less, as some (h2) do not take what they say to the last byte.
    if header_list(&request) >= connection.peer.header_list() {
        return Attempt::unsent(Outcome::NotSendable, Failure::TooLong, request);
    }
    let stream = Stream::new(&connection, &upstream.local);
    let in_flight = endpoint.request();
    request.body_mut().sent_to(&connection.peer);
    retry_buffer.keep(&request);
    let mut error = match connection.sender.try_send_request(request).await {
        Ok(response) => {
            return Attempt::Answered(response.map(TargetBody::Http2), Lease::http2(key, stream, in_flight));
        }
        Err(error) => error,
    };
    let request = error.take_message();
    let error = error.into_error();
    let outcome = match &request {
        Some(_) => Outcome::Unsent,
        None if unprocessed(&error) => Outcome::Unprocessed,
        // It waited for its stream when the connection ended.
        None if error.is_user() && upstream.allows(&key) => Outcome::Unprocessed,
        None if broken(&error) => Outcome::Closed { reused },
        None => Outcome::Failed,
    };
    Attempt::Unanswered { outcome, failure: Failure::Target(error.into()), request, took: connection.peer.processed() }
}

/// Bytes that a field counts beside its own (RFC 9113, 6.5.2).
const OVERHEAD: usize = 32;

/// Bytes of the header section of a request to an HTTP/2 target, as RFC 9113, 6.5.2 counts them: with the pseudo-header
/// fields, and the length where hyper will say it.
fn header_list(request: &Request<RequestBody>) -> usize {
    let uri = request.uri();
    let pseudo = |name: &str, length: usize| name.len() + length + OVERHEAD;
    let mut size =
        headers::size(request.headers(), uri) + pseudo(":path", 0) + pseudo(":method", request.method().as_str().len());
    size += uri.scheme_str().map_or(0, |scheme| pseudo(":scheme", scheme.len()));
    size += uri.authority().map_or(0, |authority| pseudo(":authority", authority.as_str().len()));
    // hyper says no length where nothing is expected, nor where the request says it.
    let has_length = request.headers().contains_key(CONTENT_LENGTH);
    let unasked = matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE);
    match request.body().size_hint().exact() {
        None => size,
        Some(0) if unasked => size,
        Some(_) if has_length => size,
        Some(length) => size + pseudo(CONTENT_LENGTH.as_str(), length.max(1).ilog10() as usize + 1),
    }
}

/// A connection of the caller's to the endpoint. `None`: look again.
async fn connection(
    upstream: &Rc<Upstream>,
    route: &Route,
    endpoint: &Rc<Endpoint>,
    key: Key,
    places: u32,
) -> Result<Option<Http2>, Failure> {
    let local = &upstream.local;
    let most = local.limits().http2_connections_per_workload;
    let mut opened = match upstream.http2.choose(&route.caller, &key, &local.clock, most, places) {
        Choice::Use(connection) => return Ok(Some(connection)),
        Choice::Full(connection) => {
            local.events.limit_reached(Limit::Http2ConnectionsPerWorkload, 1);
            return connection.map(Some).ok_or(Failure::Busy);
        }
        Choice::Wait(opened) => opened,
        Choice::Open => http2::open(upstream, route.caller, endpoint, key, route.connect_timeout()),
    };
    match opened.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Err(error))) => Err(Failure::Connect(Rc::clone(error))),
        // Made, or the task that made it is gone; both show at the next look.
        _ => Ok(None),
    }
}

/// Whether the target said that it did nothing with the request (RFC 9113, 6.8 and 8.7): the stream is above the last one
/// of its GOAWAY, or was refused. h2 gives a GOAWAY of the target as the reason only to streams above the last one.
fn unprocessed(error: &hyper::Error) -> bool {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>()).is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Whether the connection broke, and not because we ended it for what the target sent.
fn broken(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() != io::ErrorKind::InvalidData)
}
