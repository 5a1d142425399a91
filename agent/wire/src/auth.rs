//! Authorization as it is sent to the engine: networks, roles and policies.

use serde::{Deserialize, Serialize};

use crate::{index::PolicyIndex, origin::Origin};

/// Whether calls are decided by policies (Lattice `authType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum AuthType {
    /// All callers pass this level.
    #[default]
    None,
    /// The policy decides; without one all are refused.
    AwsIam,
}

/// A service network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// `account/name`.
    pub name: String,
    /// `sn-` + 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Whether its policy decides.
    pub auth_type: AuthType,
    /// Its policy.
    pub policy: Option<PolicyIndex>,
    /// Where it was written.
    pub origin: Origin,
}

/// A role: the principal that workloads call as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// `account/name`.
    pub name: String,
    /// `arn:aws:iam::<account>:role/<name>`.
    pub arn: String,
    /// 12 digits.
    pub account: String,
    /// `o-…`.
    pub organization: Option<String>,
    /// `o-…/r-…/ou-…/`.
    pub organization_paths: Vec<String>,
    /// `aws:PrincipalTag/…`.
    pub tags: Vec<(String, String)>,
    /// Its policy; none: whatever network and service allow.
    pub policy: Option<PolicyIndex>,
    /// Where it was written.
    pub origin: Origin,
}

/// A policy of a role, service network or service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The resource that it belongs to; decides which elements it may have.
    pub attachment: PolicyAttachment,
    /// The name of its role, service network or service: part of the ids of default denials.
    pub name: String,
    /// AWS's JSON.
    pub json: String,
    /// Whether it decides or only records.
    pub audit: bool,
    /// File it was written in, relative to the policies directory.
    pub file: String,
    /// Line (1-based) of each statement, in order.
    pub lines: Vec<u32>,
}

/// The kind of resource that a policy belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyAttachment {
    /// A role.
    Role,
    /// A service network.
    ServiceNetwork,
    /// A service.
    Service {
        /// Some listener reads HTTP.
        http: bool,
        /// Some listener relays connections as TCP.
        tcp: bool,
    },
}
