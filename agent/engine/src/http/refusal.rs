//! Why a request is refused.

use http::StatusCode;

use crate::{
    events::{RefusedRequest, RequestEvent},
    limits::Limit,
};

/// Why bytes of a client, or a request, are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP as the standard writes it; says what is wrong.
    Malformed(&'static str),
    /// A header section of too many bytes.
    HeaderBytes,
    /// Too many header fields.
    Headers,
    /// A header section that did not come to its end in time.
    HeaderTimeout,
}

impl Refusal {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::HeaderBytes | Self::Headers => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeaderTimeout => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// For the client.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed(what) => what,
            Self::HeaderBytes => "the header section is too long",
            Self::Headers => "there are too many header fields",
            Self::HeaderTimeout => "the header section did not arrive in time",
        }
    }

    /// What happened to a request that is refused for it.
    pub(crate) fn event(self) -> RequestEvent<'static> {
        let malformed = RequestEvent::Refused(RefusedRequest::Malformed);
        self.limit().map_or(malformed, RequestEvent::LimitReached)
    }

    /// The bound that was reached, if it is one.
    fn limit(self) -> Option<Limit> {
        match self {
            Self::Malformed(_) => None,
            Self::HeaderBytes => Some(Limit::HeaderBytes),
            Self::Headers => Some(Limit::Headers),
            Self::HeaderTimeout => Some(Limit::HeaderTimeout),
        }
    }
}

impl From<brattice_http1::Refusal> for Refusal {
    fn from(refusal: brattice_http1::Refusal) -> Self {
        match refusal {
            brattice_http1::Refusal::Malformed(what) => Self::Malformed(what),
            brattice_http1::Refusal::HeaderBytes => Self::HeaderBytes,
            brattice_http1::Refusal::Headers => Self::Headers,
        }
    }
}
