//! Other protocols over a connection that began as HTTP/1.1 (`Upgrade`, RFC 9110, 7.8): WebSocket and whatever else
//! target and client agree on.
//!
//! ```text
//! client: head with Upgrade ─► nothing behind it is looked at ─► decided, sent like any request
//!   101 naming an offered protocol ─► both sockets leave HTTP, bytes are copied until both sides have finished
//!   anything else                  ─► an answer; what is behind the head is HTTP
//! ```
//!
//! Never offered to a target: HTTP itself in another version or inside TLS. Its requests would pass unread.
//! An offer is no duty (RFC 9110, 7.8), so where it cannot be passed on (a request with a body, HTTP/1.0, a target
//! group that speaks HTTP/2) the request is, without it.

use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Duration};

use brattice_router::fields;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{CONNECTION, UPGRADE},
};

use super::control::Control;
use crate::{
    active_requests::Registration,
    copy::{Copier, End, Moved},
    events::RequestEvent,
    transport::Stream,
    upstream::http1::TargetSocket,
};

/// After so long without a byte the kernel asks a peer whether it is still there; only a peer that is not is closed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection whose ends have agreed on another protocol.
pub(crate) struct Upgrade {
    pub(crate) target: TargetSocket,
    pub(crate) registration: Registration,
}

/// The protocols that a request offers and that a target may be offered, as one field value.
pub(crate) fn offered(headers: &HeaderMap) -> Option<HeaderValue> {
    if !items(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let upgrades = headers.get_all(UPGRADE).iter();
    let passed: Vec<&[u8]> = upgrades.flat_map(|value| fields::offered(value.as_bytes())).collect();
    if passed.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&passed.join(&b", "[..])).ok()
}

/// What the target chose, if it is one of those offered.
pub(crate) fn chosen(offer: &HeaderValue, answer: &HeaderMap) -> Option<HeaderValue> {
    let known = |chosen: &[u8]| fields::list(offer.as_bytes()).any(|offered| offered.eq_ignore_ascii_case(chosen));
    let mut protocols = items(answer, &UPGRADE).peekable();
    protocols.peek()?;
    if protocols.all(known) { answer.get(UPGRADE).cloned() } else { None }
}

fn items<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(|value| fields::list(value.as_bytes()))
}

/// Copies until both sides have finished, one fails, or the connection is ended from here. Unless both have finished,
/// both are reset: an end that comes from elsewhere must not look like theirs.
///
/// `early` was read from the client already.
pub(crate) async fn run((client, early): (Stream, Bytes), upgrade: Upgrade, copier: &Copier, control: &Rc<Control>) {
    let Upgrade { target, registration } = upgrade;
    let active = Rc::clone(&registration.active);
    client.reset_on_drop(true);
    if !early.is_empty() {
        // The connection has counted them when they were read.
        active.span.emit(RequestEvent::BodyReceived { bytes: early.len() });
    }
    let mut joined = pin!(async {
        let TargetSocket { stream: target, early: late, _open } = target;
        target.reset_on_drop(true);
        client.keep_alive(KEEPALIVE);
        target.keep_alive(KEEPALIVE);
        let ends = (End { stream: &client, early }, End { stream: &target, early: late });
        let span = &active.span;
        let moved = |moved: Moved| {
            if let Some(event) = moved.event() {
                span.emit(event);
            }
        };
        let copied = copier.both(ends.0, ends.1, &moved).await;
        target.reset_on_drop(copied.is_err());
        client.reset_on_drop(copied.is_err());
        if let Err(broken) = copied {
            span.emit(RequestEvent::Failed(broken.failure()));
        }
    });
    poll_fn(|cx| {
        control.park(cx);
        if control.verdict().closes() { Poll::Ready(()) } else { joined.as_mut().poll(cx) }
    })
    .await;
    drop(registration);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn http_is_never_offered() {
        for (fields, offer) in [
            (vec![("connection", "upgrade"), ("upgrade", "websocket")], Some("websocket")),
            (vec![("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")], Some("WebSocket")),
            (vec![("connection", "close"), ("connection", "upgrade"), ("upgrade", "a/1, b")], Some("a/1, b")),
            (vec![("connection", "upgrade"), ("upgrade", "a"), ("upgrade", ",b , ,c")], Some("a, b, c")),
            (vec![("connection", "upgrade"), ("upgrade", "h2c, websocket, TLS/1.2")], Some("websocket")),
            (vec![("connection", "upgrade"), ("upgrade", "a b, c/, d/1/2, /1, e")], Some("e")),
            (vec![("upgrade", "websocket")], None),
            (vec![("connection", "upgraded"), ("upgrade", "websocket")], None),
            (vec![("connection", "upgrade")], None),
            (vec![("connection", "upgrade"), ("upgrade", "")], None),
            (vec![("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")], None),
            (vec![("connection", "upgrade"), ("upgrade", "H2C")], None),
            (vec![("connection", "upgrade"), ("upgrade", "h2c-14, h2, h3")], None),
            (vec![("connection", "upgrade"), ("upgrade", "HTTP/2.0, http/1.1, HTTP-draft-04/2.0")], None),
            (vec![("connection", "upgrade"), ("upgrade", "TLS/1.0, HTTP/1.1")], None),
        ] {
            let found = offered(&headers(&fields));
            assert_eq!(found.as_ref().and_then(|value| value.to_str().ok()), offer, "{fields:?}");
        }
    }

    #[test]
    fn a_target_chooses_among_what_was_offered() {
        let offer = HeaderValue::from_static("websocket, a/1");
        for (fields, chosen_one) in [
            (vec![("upgrade", "websocket")], true),
            (vec![("upgrade", "WebSocket")], true),
            (vec![("upgrade", "a/1, websocket")], true),
            (vec![("upgrade", "a/2")], false),
            (vec![("upgrade", "h2c")], false),
            (vec![("upgrade", "websocket, h2c")], false),
            (vec![("upgrade", "websocket"), ("upgrade", "h2c")], false),
            (vec![("upgrade", "")], false),
            (vec![], false),
        ] {
            assert_eq!(chosen(&offer, &headers(&fields)).is_some(), chosen_one, "{fields:?}");
        }
    }
}
