//! Reads a response: heads by [`brattice_http1`], interim ones first, then the body as it is asked for.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use brattice_http1::{BadResponse, BodyLength, BodyReader, Fields, Limits, Part, ResponseHead, ResponseReader, reason};
use bytes::{Buf, Bytes};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::{super::target_error::TargetError, Http1, Incoming};
use crate::http::{field_map, reason_phrase::ReasonPhrase};

/// Bytes of a header section, or of trailers.
const SECTION_BYTES: usize = 128 * 1024;
/// Bytes of interim responses and of the final response's head, together.
const INTERIM_BYTES: usize = 256 * 1024;

/// Bounds of a response.
pub(super) fn limits(limits: &brattice_wire::engine::Limits) -> Limits {
    Limits::responses(SECTION_BYTES, limits.headers as usize, limits.interim_responses, INTERIM_BYTES)
}

/// What is waited for: the head of the final response.
pub(super) struct Heads {
    pub(super) limits: Limits,
    pub(super) reader: ResponseReader,
    pub(super) head: ResponseHead,
}

impl Heads {
    /// Reads on, until the head of the final response is there.
    ///
    /// # Errors
    /// When the target ends the connection before, or what it sends is refused.
    pub(super) fn poll(
        &mut self,
        connection: &Rc<Http1>,
        interim: &mut dyn FnMut(StatusCode, &HeaderMap),
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Http1Body>, TargetError>> {
        loop {
            while let Some(bytes) = self.next(connection)? {
                let headers = map(self.head.on(&bytes).fields(), &bytes)?;
                let status =
                    StatusCode::from_u16(self.head.status).map_err(|_| BadResponse::Malformed("the status"))?;
                if self.head.is_interim() {
                    interim(status, &headers);
                    continue;
                }
                connection.keeps.set(self.head.keeps());
                let mut response = Response::new(Http1Body::new(connection, self.head.body, &self.limits));
                (*response.status_mut(), *response.headers_mut()) = (status, headers);
                let phrase = self.head.on(&bytes).reason();
                if phrase != reason::phrase(self.head.status).as_bytes() {
                    response.extensions_mut().insert(ReasonPhrase(bytes.slice_ref(phrase)));
                }
                return Poll::Ready(Ok(response));
            }
            if ready!(connection.poll_read(cx, true))? == 0 {
                return Poll::Ready(Err(TargetError::cut()));
            }
        }
    }

    /// The bytes of the next head, if they are there.
    fn next(&mut self, connection: &Http1) -> Result<Option<Bytes>, BadResponse> {
        let mut incoming = connection.incoming.borrow_mut();
        if incoming.buffer.is_empty() {
            return Ok(None);
        }
        let Some(length) = self.reader.read(&mut incoming.buffer, &mut self.head)? else { return Ok(None) };
        incoming.turn.spend(0, 1);
        Ok(Some(incoming.buffer.split_to(length).freeze()))
    }
}

fn map(fields: Fields<'_>, bytes: &Bytes) -> Result<HeaderMap, BadResponse> {
    field_map::fill(fields, bytes, HeaderMap::new()).ok_or(BadResponse::TooLong)
}

/// The body of a response. What reads it is the connection's, so that this is small.
pub(crate) struct Http1Body {
    connection: Rc<Http1>,
    length: BodyLength,
    /// Nothing follows; the connection may be another request's by now.
    ended: bool,
}

impl Http1Body {
    fn new(connection: &Rc<Http1>, length: BodyLength, limits: &Limits) -> Self {
        let reader = BodyReader::new(length, limits);
        let ended = reader.has_ended();
        connection.incoming.borrow_mut().body = Some(reader);
        Self { connection: Rc::clone(connection), length, ended }
    }

    /// The next frame of what was read. `None`: more must be read.
    fn next(&mut self) -> Result<Option<Option<Frame<Bytes>>>, TargetError> {
        let Incoming { buffer, body, trailers, turn, .. } = &mut *self.connection.incoming.borrow_mut();
        let Some(reader) = body.as_mut().filter(|_| !self.ended) else { return Ok(Some(None)) };
        loop {
            let part = reader.next(buffer, trailers)?;
            self.ended = reader.has_ended();
            match part {
                Part::Data(length) => return Ok(Some(Some(Frame::data(buffer.split_to(length).freeze())))),
                Part::Framing { length, .. } => {
                    buffer.advance(length);
                    turn.spend(0, 1);
                }
                Part::More => return Ok(None),
                Part::End(length) => {
                    let bytes = buffer.split_to(length).freeze();
                    let fields = map(trailers.on(&bytes), &bytes)?;
                    return Ok(Some(Some(fields).filter(|fields| !fields.is_empty()).map(Frame::trailers)));
                }
            }
        }
    }

    /// The target sends no more.
    fn cut(&mut self) -> Result<(), TargetError> {
        let mut incoming = self.connection.incoming.borrow_mut();
        let reader = incoming.body.as_mut().ok_or_else(TargetError::cut)?;
        reader.end_of_input().map_err(|_| TargetError::cut())?;
        self.ended = true;
        Ok(())
    }
}

impl Body for Http1Body {
    type Data = Bytes;
    type Error = TargetError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TargetError>>> {
        let this = self.get_mut();
        loop {
            if let Some(frame) = this.next()? {
                return Poll::Ready(frame.map(Ok));
            }
            if ready!(this.connection.poll_read(cx, false)).map_err(TargetError::Ended)? == 0 {
                this.cut()?;
                return Poll::Ready(None);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        let left = || self.connection.incoming.borrow().body.as_ref().map_or(0, BodyReader::left);
        match self.length {
            _ if self.ended => SizeHint::with_exact(0),
            BodyLength::None => SizeHint::with_exact(0),
            BodyLength::Length(_) => SizeHint::with_exact(left()),
            BodyLength::Chunked | BodyLength::UntilClose => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
