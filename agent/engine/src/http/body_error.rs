//! Why a body ended before its end.

use super::refusal::Refusal;
use crate::upstream::target_error::TargetError;

/// See above.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// An HTTP/2 client failed.
    #[error(transparent)]
    Client(#[from] hyper::Error),
    /// The target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its client sends no more.
    #[error("the request ended before its body was complete")]
    Ended,
    /// What came is no body.
    #[error("{}", .0.text())]
    Refused(Refusal),
    /// It is longer than allowed.
    #[error("the request body is too long")]
    TooLarge,
    /// Its trailers are malformed or too many.
    #[error("trailer fields are malformed or too many")]
    Trailers,
    /// Its workload may have no more large bodies.
    #[error("the workload has too many large bodies in transfer")]
    NoRoom,
    /// Its stream was reset, although without an error.
    #[error("the stream was reset before the end of the body")]
    Reset,
    /// It stopped.
    #[error("the next part of the body did not arrive in time")]
    Stopped,
    /// The response is complete, the rest is not needed.
    #[error("the answer came before the whole request")]
    Cut,
}
