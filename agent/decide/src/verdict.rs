//! The verdict of policies.

use brattice_iam::Level;
use brattice_wire::index::NetworkIndex;

/// A request may pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The service network it comes through.
    pub network: Option<NetworkIndex>,
    /// Id of what would have refused it, had that policy not been in audit mode.
    pub audited: Option<Box<str>>,
}

/// A request may not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The level that refuses.
    pub level: Level,
    /// Id of the decision: the statement's place, or that of the default denial.
    pub decision: Box<str>,
    /// For the caller; empty where it cannot be told, as its connection is no HTTP.
    pub text: String,
}
