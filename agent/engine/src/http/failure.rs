//! Why a request or a response failed in the middle of its body.

use brattice_wire::records::FailureReason;

use crate::active_requests::Fault;

/// What a request fails for whose body ended before its end, whatever the target makes of that.
pub(crate) fn body_failure(fault: Fault) -> FailureReason {
    match fault {
        Fault::TooLarge | Fault::Refused(_) => FailureReason::ClientProtocolError,
        Fault::NoRoom => FailureReason::ClientRateLimited,
        Fault::Client => FailureReason::ClientConnectionClosed,
    }
}
