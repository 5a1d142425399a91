//! The head of the response is recorded. The record is written when the response has ended (`records/book.rs`).

use http::{Response, StatusCode};

use super::Exchange;
use crate::http::response_body::ResponseBody;

/// Counts the response by `status`, and says that the request is answered.
pub(super) fn record(exchange: &Exchange, response: &Response<ResponseBody>, status: StatusCode) {
    let session = &exchange.session;
    session.local().counts().answered(status.as_u16());
    exchange.flight.record.answer(response.status().as_u16(), response.headers());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        session.control.answered(exchange.number);
    }
}
