//! The response begins: subscribers get the event, and the connection may go on to its next request.

use http::{Response, StatusCode};

use super::Exchange;
use crate::{events::RequestEvent, http::response_body::ResponseBody};

/// Says that the request is answered.
pub(super) fn record(exchange: &Exchange, response: &Response<ResponseBody>) {
    let session = &exchange.session;
    let (status, headers) = (response.status().as_u16(), response.headers());
    exchange.active.span.emit(RequestEvent::ResponseStarted { status, headers });
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        session.control.answered(exchange.number);
    }
}
