//! Why a request or a response failed in the middle of its body.

use std::io;

use brattice_wire::records::FailureReason;

use crate::active_requests::Fault;

/// Whether what a target sent is no HTTP; else it has ended its connection, or the stream.
pub(crate) fn target_failure(error: &hyper::Error) -> FailureReason {
    let source = std::error::Error::source(error);
    // An HTTP/2 error that was found on this side, and what hyper says of chunks.
    let http2 = source.and_then(|source| source.downcast_ref::<h2::Error>());
    let http2 = http2.is_some_and(|error| {
        error.is_library() || error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
    });
    let chunks = source
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData));
    if error.is_parse() || http2 || chunks {
        FailureReason::TargetProtocolError
    } else {
        FailureReason::TargetConnectionClosed
    }
}

/// What a request fails for whose body ended before its end, whatever the target makes of that.
pub(crate) fn body_failure(fault: Fault) -> FailureReason {
    match fault {
        Fault::TooLarge | Fault::Refused(_) => FailureReason::ClientProtocolError,
        Fault::NoRoom => FailureReason::ClientRateLimited,
        Fault::Client => FailureReason::ClientConnectionClosed,
    }
}
