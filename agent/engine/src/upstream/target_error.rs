//! Why a target's response, or the rest of it, does not come.

use std::io;

use brattice_http1::{BadResponse, Refusal};
use brattice_wire::records::FailureReason;

/// See above.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// An HTTP/2 connection, or a stream of it, broke.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
    /// An HTTP/1 connection ended, or broke.
    #[error("the connection to the target ended: {0}")]
    Ended(#[from] io::Error),
    /// The head of an HTTP/1 response is refused.
    #[error(transparent)]
    Head(#[from] BadResponse),
    /// The body of an HTTP/1 response is refused.
    #[error("the body of the target's response is malformed: {0}")]
    Body(#[from] Refusal),
    /// The request's body ended before its end.
    #[error("the request ended before its body was complete")]
    Request,
}

impl TargetError {
    /// The target sends no more, before its response was complete.
    pub(crate) fn cut() -> Self {
        Self::Ended(io::ErrorKind::UnexpectedEof.into())
    }

    /// Whether what the target sent is no HTTP; else it has ended its connection, or the stream.
    pub(crate) fn reason(&self) -> FailureReason {
        let protocol = match self {
            Self::Http2(error) => error.is_parse() || http2_protocol(error),
            Self::Head(_) | Self::Body(_) => true,
            Self::Ended(_) | Self::Request => false,
        };
        if protocol { FailureReason::TargetProtocolError } else { FailureReason::TargetConnectionClosed }
    }

    /// Whether the response's head is longer than it may be.
    pub(crate) fn is_too_long(&self) -> bool {
        match self {
            Self::Head(BadResponse::TooLong) => true,
            Self::Http2(error) => error.is_parse_too_large(),
            _ => false,
        }
    }
}

/// An HTTP/2 error that was found on this side.
fn http2_protocol(error: &hyper::Error) -> bool {
    let error = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_some_and(|error| {
        error.is_library() || error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
    })
}
