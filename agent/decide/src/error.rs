//! Why a snapshot is refused.

use std::net::IpAddr;

/// Why a snapshot was refused. Nothing of it comes into force then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// An index points nowhere.
    #[error("{place}: {what} number {index} does not exist (there are {count}); the agent that sent it has a defect")]
    Index {
        /// The place that refers to it.
        place: String,
        /// `VPC`, `service`, `target group`, `policy`, `role`, `service network`.
        what: &'static str,
        /// The index.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Two workloads with one alias: a caller could not be identified.
    #[error("the alias {0} stands for two workloads; the agent that sent it has a defect")]
    Alias(IpAddr),
    /// No response can have this status.
    #[error("{place}: {status} cannot be the status of an answer; use 200 to 599")]
    Status {
        /// Service and rule.
        place: String,
        /// The status.
        status: u16,
    },
    /// A rule would write a text into a request or a response that cannot be there.
    #[error("{place}: {text:?} cannot be a {what}; the agent that sent it has a defect")]
    Unusable {
        /// Service and rule.
        place: String,
        /// `field name`, `field value`, `host`.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// A regular expression of a rewrite or a redirect is refused.
    #[error("{place}: {error}")]
    Regex {
        /// Service, listener and rule.
        place: String,
        /// Why.
        error: Box<brattice_router::RegexError>,
    },
    /// The rules of a listener cannot be compiled.
    #[error("{place}: {error}")]
    Rules {
        /// Service and listener.
        place: String,
        /// Why.
        error: Box<brattice_router::CompileError>,
    },
    /// The policy was checked where it was written, and cannot be read here.
    #[error("{file}: the policy of {name} cannot be read: {finding}; agent and engine are of different versions")]
    Policy {
        /// File it was written in.
        file: String,
        /// The name of its role, service network or service.
        name: String,
        /// The first error.
        finding: String,
    },
    /// Statements and lines do not go together, so denials could not be named.
    #[error(
        "{file}: the policy of {name} has {statements} statements and {lines} lines; the agent that sent it has a defect"
    )]
    Lines {
        /// File it was written in.
        file: String,
        /// The name of its role, service network or service.
        name: String,
        /// Statements read.
        statements: usize,
        /// Lines given.
        lines: usize,
    },
}

impl CompileError {
    /// Checks an index into a list of `count`.
    pub(crate) fn check(place: &str, what: &'static str, index: usize, count: usize) -> Result<(), Self> {
        if index < count { Ok(()) } else { Err(Self::Index { place: place.to_owned(), what, index, count }) }
    }
}
