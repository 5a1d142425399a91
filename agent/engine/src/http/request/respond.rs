//! The response for the client: a target's, or one of our own.

use brattice_wire::records::FailureReason;
use http::{
    HeaderValue, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, SET_COOKIE, UPGRADE},
};

use super::{Closed, Exchange, Forwarded};
use crate::{
    active_requests::{Registration, Waits},
    events::RequestEvent,
    http::{
        filters, headers,
        local_reply::{self, LocalReply},
        response_body::ResponseBody,
        upgrade::{self, Upgrade},
    },
    upstream::lease::Lease,
};

/// Makes the response. What the request holds goes with its body.
pub(super) fn respond(
    exchange: &Exchange,
    outcome: Result<Forwarded, LocalReply>,
    registration: Registration,
) -> Result<Response<ResponseBody>, Closed> {
    let (session, head, id) = (&exchange.session, exchange.head, exchange.id.clone());
    let response = match outcome {
        Ok(forwarded) => of_target(exchange, forwarded, registration),
        Err(LocalReply::Problem(problem)) => local_reply::problem(problem, id, session.http2.get(), head, registration),
        Err(LocalReply::Denied(denied)) => local_reply::denied(*denied, id, head, registration),
        Err(LocalReply::Own(own)) => local_reply::own(*own, id, head, registration),
        Err(LocalReply::Reset) => {
            session.control.reset(FailureReason::ClientAccessDenied);
            return Err(Closed);
        }
    };
    session.control.interim.end();
    Ok(response)
}

fn of_target(exchange: &Exchange, forwarded: Forwarded, registration: Registration) -> Response<ResponseBody> {
    let Forwarded { plan, mut response, lease } = forwarded;
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
    headers.insert(headers::REQUEST_ID, exchange.id.clone());
    *response.version_mut() = if exchange.session.http2.get() { Version::HTTP_2 } else { Version::HTTP_11 };
    let Some(protocol) = protocol else {
        return response.map(|body| ResponseBody::forwarded(body, lease, registration));
    };
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
    switch(exchange, lease, registration);
    response.map(|_| ResponseBody::Switched)
}

/// Client and target have agreed on another protocol: from now on it counts as a connection, not as a request.
fn switch(exchange: &Exchange, lease: Lease, mut registration: Registration) {
    let session = &exchange.session;
    let local = session.local();
    let key = lease.key();
    if session.server.upstream.allows(key) {
        session.parties.set(1, key.alias, key.generation);
    } else {
        // The target's alias was taken away just now.
        session.control.reset(FailureReason::TargetConnectionClosed);
    }
    registration.active.touch(Waits::Nothing, &local.clock);
    registration.active.span.emit(RequestEvent::Upgraded);
    registration.complete = true;
    if !registration.active.transfers(&local.shared) {
        session.control.reset(FailureReason::ClientRateLimited);
    }
    registration.active.taken.borrow_mut().take();
    let Some(target) = lease.switch() else {
        // It closed between its response and now.
        registration.active.span.emit(RequestEvent::Failed(FailureReason::TargetConnectionClosed));
        return;
    };
    *session.switched.borrow_mut() = Some(Box::new(Upgrade { target, registration }));
}
