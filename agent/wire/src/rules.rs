//! Rules of a listener: what they ask of a request, and what is done with it.

use serde::{Deserialize, Serialize};

use crate::{
    index::{TargetGroupIndex, VpcIndex},
    origin::Origin,
};

/// A rule of a listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Name, unique within the listener.
    pub name: String,
    /// `rule-` + 17 characters.
    pub id: String,
    /// 1 to 2000, unique within the listener, lowest first. Where the listener's order is
    /// [`Precedence::MostSpecific`], the place in the document, from 1.
    pub priority: u16,
    /// All given members must match.
    pub matches: Match,
    /// Changes of request and response.
    pub filters: Filters,
    /// The action.
    pub action: Action,
    /// Where it was written.
    pub origin: Origin,
}

/// Which of several rules that match is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Precedence {
    /// Lattice's: the lowest priority.
    #[default]
    Priority,
    /// Gateway API's: the most specific (`HTTPRouteRule.matches`).
    MostSpecific,
}

/// Conditions of a rule; what is absent or empty matches everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
pub struct Match {
    /// Exact, case-sensitive; any token of RFC 9110, 5.6.2.
    pub method: Option<String>,
    /// Path, normalised, without the query.
    pub path: Option<PathMatch>,
    /// Host without port, lower case.
    pub host: Option<HostMatch>,
    /// Each must match.
    pub headers: Vec<HeaderMatch>,
    /// Each must match.
    pub query: Vec<QueryMatch>,
    /// A gRPC call.
    pub grpc: Option<GrpcMatch>,
    /// Port of the VIP that was called.
    pub port: Option<u16>,
    /// The caller's VPC is one of these.
    pub source_vpcs: Option<Vec<VpcIndex>>,
}

/// Condition on a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMatch {
    /// How it is compared.
    pub kind: PathMatchKind,
    /// A path that begins with `/`, or a regular expression that must match all of it.
    pub value: String,
    /// Lattice `caseSensitive`, by default true.
    pub case_sensitive: bool,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PathMatchKind {
    /// The whole path.
    Exact,
    /// By segment: `/a` matches `/a` and `/a/b`, not `/ab`; a trailing slash in the value is ignored.
    Prefix,
    /// By character: `/a` matches `/a`, `/a/b` and `/ab`.
    StringPrefix,
    /// A regular expression for the whole path.
    Regex,
}

/// Condition on a host (without port).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMatch {
    /// How it is compared.
    pub kind: HostMatchKind,
    /// Lower case, without a trailing dot; of a suffix without the leading dot.
    pub value: String,
}

/// How a host is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HostMatchKind {
    /// The whole name.
    Exact,
    /// By label: `shop.internal` matches `orders.shop.internal`, neither `shop.internal` nor `myshop.internal`.
    Suffix,
}

/// Condition on a header field (gRPC metadata is the same).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Field name, lower case.
    pub name: String,
    /// The condition on its value; several fields of the name are compared as their list joined by `, `.
    pub value: ValueMatch,
    /// Lattice `caseSensitive`, by default false.
    pub case_sensitive: bool,
    /// Turns the outcome round: an absent field then matches.
    pub invert: bool,
}

/// Condition on a query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryMatch {
    /// Name, percent-decoded, case-sensitive.
    pub name: String,
    /// The condition on its value (percent-decoded; of several, the first).
    pub value: ValueMatch,
}

/// How a value is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueMatch {
    /// It is there.
    Present,
    /// All of it.
    Exact(String),
    /// How it begins.
    Prefix(String),
    /// How it ends.
    Suffix(String),
    /// Somewhere in it.
    Contains(String),
    /// A regular expression for all of it.
    Regex(String),
    /// A decimal integer, App Mesh `range`: `start` included, `end` not.
    Range {
        /// Lowest.
        start: i64,
        /// One more than the highest.
        end: i64,
    },
}

/// A gRPC call: `POST /<service>/<method>` with a content type of `application/grpc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrpcMatch {
    /// `package.Service`.
    pub service: Option<String>,
    /// Method; given only with the service.
    pub method: Option<String>,
}

/// Changes of request and response. Order: request headers `remove`, `set`, `add`; rewrite; then the action. Of the response:
/// `remove`, `set`, `add`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Filters {
    /// Changes of the request's header fields.
    pub request_headers: HeaderEdits,
    /// Changes of the response's header fields.
    pub response_headers: HeaderEdits,
    /// Changes of the request's target; forwards only.
    pub rewrite: Rewrite,
}

/// Changes of header fields; names in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct HeaderEdits {
    /// Instead of what is there.
    pub set: Vec<(String, String)>,
    /// Beside what is there.
    pub add: Vec<(String, String)>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// Changes of a request's target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Rewrite {
    /// The new host, with or without a port.
    pub host: Option<String>,
    /// The new path; the query stays.
    pub path: Option<PathRewrite>,
}

/// How a path is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRewrite {
    /// The whole path becomes this.
    Full(String),
    /// Replaces the part of the path that the rule's prefix matched.
    Prefix(String),
    /// The first part that the pattern matches becomes this, `$1` or `${name}` standing for groups.
    Regex {
        /// Regular expression.
        pattern: String,
        /// The text that replaces it.
        substitution: String,
    },
}

/// The action for a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// To a target.
    Forward(Forward),
    /// A fixed response.
    FixedResponse(FixedResponse),
    /// A redirect.
    Redirect(Redirect),
}

/// To one of 1 to 10 target groups, by weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The shares.
    pub groups: Vec<WeightedTargetGroup>,
    /// How a caller gets the same group again.
    pub stickiness: Option<Stickiness>,
}

/// A share of a forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedTargetGroup {
    /// Its target group.
    pub target_group: TargetGroupIndex,
    /// 0 to 999; 0 takes no requests.
    pub weight: u16,
}

/// Stickiness: keeps a caller at a target group of a weighted forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stickiness {
    /// A cookie that the engine sets.
    Cookie {
        /// Its name.
        name: String,
        /// `Max-Age`, seconds; absent = until the client ends its session.
        max_age_seconds: Option<u32>,
    },
    /// The value of a header field; requests without it are spread by weight.
    Header(String),
    /// The calling workload's address in its VPC.
    Source,
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedResponse {
    /// 200 to 599.
    pub status: u16,
    /// `content-type`.
    pub content_type: Option<String>,
    /// Body, at most 4 KiB.
    pub body: String,
}

/// A redirect; what is absent stays as in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// New host.
    pub host: Option<String>,
    /// New port; absent: of a new scheme the usual one, else the listener's.
    pub port: Option<u16>,
    /// New path; the query stays.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}
