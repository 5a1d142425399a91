//! A request's body. The task of the connection to the target reads it, from the client's socket, as it sends it on: what that does
//! not take stays in the socket.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::socket::ClientSocket;
use crate::http::body_error::BodyError;

/// The body of one request of a connection.
#[derive(Debug)]
pub(crate) struct Body {
    socket: Rc<ClientSocket>,
    /// Of the request on its connection.
    number: u64,
    /// Bytes that are still to come, where that is known.
    left: Option<u64>,
    ended: bool,
}

impl Body {
    /// `left`: its length, where the head says it.
    pub(super) fn new(socket: &Rc<ClientSocket>, number: u64, left: Option<u64>) -> Self {
        Self { socket: Rc::clone(socket), number, left, ended: false }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = self.socket.poll_body(self.number, cx);
        if let Poll::Ready((frame, whole)) = next {
            self.ended = whole || !matches!(frame, Some(Ok(_)));
            if let (Some(left), Some(Ok(frame))) = (&mut self.left, &frame) {
                let data = frame.data_ref().map_or(0, Bytes::len) as u64;
                *left = left.saturating_sub(data);
            }
            return Poll::Ready(frame);
        }
        Poll::Pending
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.ended => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.ended {
            self.socket.abandon_body(self.number);
        }
    }
}
