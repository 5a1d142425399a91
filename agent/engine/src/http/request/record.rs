//! The response begins: subscribers get the event.

use http::Response;

use super::Exchange;
use crate::{events::RequestEvent, http::response_body::ResponseBody};

/// Says that the request is answered.
pub(super) fn record(exchange: &Exchange, response: &Response<ResponseBody>) {
    let (status, headers) = (response.status().as_u16(), response.headers());
    exchange.active.span.emit(RequestEvent::ResponseStarted { status, headers });
}
