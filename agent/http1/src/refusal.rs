//! Why bytes are refused, in words for the peer or the log.

/// Why bytes of a client are refused. Nothing behind them on their connection is read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not HTTP as the standard writes it; says what is wrong.
    #[error("{0}")]
    Malformed(&'static str),
    /// A header or trailer section of too many bytes.
    #[error("the header section is too long")]
    HeaderBytes,
    /// Too many header or trailer fields.
    #[error("there are too many header fields")]
    Headers,
}

impl Refusal {
    /// The status of the response: 400, or 431 over a limit.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::HeaderBytes | Self::Headers => 431,
        }
    }

    /// For the client.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed(what) => what,
            Self::HeaderBytes => "the header section is too long",
            Self::Headers => "there are too many header fields",
        }
    }
}

/// Why bytes of a target are refused: 502, and its connection is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// Not HTTP as the standard writes it; says what is wrong, for the log.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its length is contradictory; says so to the client as well.
    #[error("{0}")]
    Framing(&'static str),
    /// A head of too many bytes or fields.
    #[error("the target's answer has too many header fields, or bytes of them")]
    TooLong,
    /// More interim responses, or bytes of them, than may come.
    #[error("the target sent too many interim responses")]
    TooManyInterim,
}

impl BadResponse {
    /// For the client.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::TooManyInterim => "the target did not answer as HTTP says",
            Self::Framing(what) => what,
            Self::TooLong => "the target's answer has too many header fields, or bytes of them",
        }
    }
}

impl From<Refusal> for BadResponse {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(what) => Self::Malformed(what),
            Refusal::HeaderBytes | Refusal::Headers => Self::TooLong,
        }
    }
}
