//! Why a target's response failed.

use std::io;

use brattice_wire::records::FailureReason;

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
