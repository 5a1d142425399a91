//! A request begins: it is counted, recorded, and has an id.

use std::{rc::Rc, sync::atomic::Ordering::Relaxed};

use http::{Method, Request, Version};
use hyper::body::Incoming;

use super::Exchange;
use crate::{
    flights::Finish,
    http::{headers, session::Session},
    stats::Limit,
};

/// Counts and records a request. What the second one holds is let go of when the response is complete.
pub(super) fn begin(session: Rc<Session>, request: &Request<Incoming>) -> (Exchange, Finish) {
    let (local, control) = (session.local(), &session.control);
    let number = control.requests.get();
    control.requests.set(number + 1);
    let stream = session.server.stream.borrow_mut().take();
    control.open.set(control.open.get() + 1);
    control.touched.set(local.clock.tick());
    control.interim.begin(number + 1, request.version() == Version::HTTP_11);
    local.counts().requests.add(1);
    local.counts().requests_open.add(1);
    local.slot.requests().fetch_add(1, Relaxed);
    if session.http2.get() && control.open.get() >= local.limits().http2_streams {
        // h2 refuses the next one by itself.
        local.counts().hit(Limit::Http2Streams);
    }
    let record = session.server.book.begin(&control.flow, request);
    let finish = session.server.flights.begin(control, record, stream);
    let id = headers::request_id(request.headers(), &mut session.server.random.borrow_mut());
    finish.flight.record.id(id.as_bytes());
    let (head, version, flight) = (*request.method() == Method::HEAD, request.version(), Rc::clone(&finish.flight));
    (Exchange { session, number, id, head, version, flight }, finish)
}
