//! A request begins, and has an id.

use std::rc::Rc;

use http::{Method, Request, Version};

use super::Exchange;
use crate::{
    active_requests::Registration,
    events::RequestEvent,
    http::{client_body::ClientBody, headers, session::Session},
    limits::Limit,
};

/// Begins a request. What the second one holds is freed when the response is complete.
pub(super) fn begin(
    session: Rc<Session>,
    request: &Request<ClientBody>,
    offers_upgrade: bool,
) -> (Exchange, Registration) {
    let (local, control) = (session.local(), &session.control);
    let number = control.requests.get();
    control.requests.set(number + 1);
    let stream = session.server.stream.borrow_mut().take();
    control.open.set(control.open.get() + 1);
    control.touched.set(local.clock.tick());
    control.interim.begin(number + 1, request.version() == Version::HTTP_11);
    let span = local.events.begin_request(&control.connection, request);
    if session.http2.get() && control.open.get() >= local.limits().http2_streams {
        // h2 refuses the next one by itself.
        span.emit(RequestEvent::LimitReached(Limit::Http2Streams));
    }
    let registration = session.server.active_requests.begin(control, span, stream);
    let id = headers::request_id(request.headers(), &mut session.server.random.borrow_mut());
    registration.active.span.emit(RequestEvent::Identified { id: id.as_bytes() });
    let (head, version, active) =
        (*request.method() == Method::HEAD, request.version(), Rc::clone(&registration.active));
    (Exchange { session, id, head, version, offers_upgrade, active }, registration)
}
