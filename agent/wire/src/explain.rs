//! Questions and answers of `brattice route` and `brattice explain`.

use serde::{Deserialize, Serialize};

/// A made-up request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// Who calls: a workload (`vpc/name`, or its name where only one has it) or a VPC (name, id, ARN); either with
    /// `/address` behind it.
    pub from: String,
    /// The service: `account/name`, name where only one has it, id, ARN, or one of its DNS names.
    pub service: String,
    /// Method.
    pub method: String,
    /// Path as it would be sent, with or without a query.
    pub path: String,
    /// `Host`; absent = a name of the service.
    pub host: Option<String>,
    /// Port; absent = that of the service's only listener, or 80.
    pub port: Option<u16>,
    /// Header fields.
    pub headers: Vec<(String, String)>,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is served.
    Allowed,
    /// A policy refuses it.
    Denied,
    /// Something else keeps it from being served.
    Unreachable,
    /// It cannot be known.
    Unknown,
}

impl Outcome {
    /// Exit code of the command: 0 served, 1 not served, 2 cannot tell.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Allowed => 0,
            Self::Denied | Self::Unreachable => 1,
            Self::Unknown => 2,
        }
    }

    /// For people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allowed => "ALLOWED",
            Self::Denied => "DENIED",
            Self::Unreachable => "UNREACHABLE",
            Self::Unknown => "CANNOT TELL",
        }
    }
}

/// The reason of the outcome; stable words. In the order in which a request meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nothing stands in its way.
    Allowed,
    /// The caller's interface or address is refused.
    NotAttached,
    /// The caller's interface is attached in a moment.
    Attaching,
    /// The caller that is remembered is gone: its alias belongs to no workload, or to another one.
    CallerGone,
    /// The caller's VPC is not in force.
    VpcNotInForce,
    /// The service is not in force.
    ServiceNotInForce,
    /// Workload, service or everything is detached.
    Detached,
    /// No listener of the service has the port.
    NoListener,
    /// No engine serves.
    EngineDown,
    /// The caller has as many connections open without an answer as it may: new ones are dropped until its window ends.
    LimitReached,
    /// Bypass is in force, and everything that calls may.
    Bypass,
    /// Bypass is in force, and the service can be called by policies only.
    BypassRefused,
    /// VPC and service have no service network in common.
    NoAssociation,
    /// They would have, had an association not failed.
    AssociationFailed,
    /// Method, header fields or the like are malformed, or not supported.
    RequestRefused,
    /// The host is no name of the service.
    UnknownHost,
    /// The path is refused as ambiguous or malformed.
    PathRefused,
    /// A policy, or the lack of one.
    Policy,
    /// Path or location cannot be rewritten as the rule says.
    RewriteRefused,
    /// No target of the rule's target groups can be reached.
    NoTarget,
    /// Something asks about a secret part of a request, which is not remembered.
    Unremembered,
}

/// Where something was written: `file:line`.
pub type Place = String;

/// The outcome of a request, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The outcome.
    pub outcome: Outcome,
    /// The reason of that outcome.
    pub reason: Reason,
    /// The same in a sentence.
    pub summary: String,
    /// Revision by which it was decided.
    pub revision: u64,
    /// By documents alone: what a node knows (attachments, switches, targets that can be reached) is assumed to be well.
    pub documents_only: bool,
    /// The request.
    pub request: RequestView,
    /// Who calls.
    pub caller: CallerView,
    /// The service.
    pub service: CalledView,
    /// Service networks that the caller's VPC or the service are in, those in common first.
    pub networks: Vec<NetworkView>,
    /// The decision of the policies; none where they are not asked.
    pub decision: Option<DecisionView>,
    /// Which rule it meets; none where it does not come to that.
    pub route: Option<RouteView>,
    /// Changes that would let it pass, as lines; one that begins with blanks is a statement of the change above it.
    pub remedy: Vec<String>,
    /// Other facts that may matter.
    pub notes: Vec<String>,
    /// Of a request that was sent: what was decided then.
    pub then: Option<ThenView>,
}

/// A request, as it is decided about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct RequestView {
    /// Method.
    pub method: String,
    /// Path as sent, without the query.
    pub path: String,
    /// Path as rules, policies and targets see it; none: it is refused.
    pub normal_path: Option<String>,
    /// Why the path is refused.
    pub path_refused: Option<String>,
    /// Query, without the `?`.
    pub query: String,
    /// Host, without the port, lower case.
    pub host: String,
    /// Port of the VIP.
    pub port: u16,
    /// Names of its header fields (values can be secrets).
    pub headers: Vec<String>,
}

/// Who calls, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct CallerView {
    /// The workload's name; none: a VPC alone was asked about.
    pub workload: Option<String>,
    /// VPC, `account/name`.
    pub vpc: String,
    /// Its address in the VPC.
    pub address: Option<String>,
    /// The alias that stands for it outside the VPC.
    pub alias: Option<String>,
    /// Host-side interface.
    pub interface: Option<String>,
    /// Network namespace behind it, where it has a name.
    pub namespace: Option<String>,
    /// Since when it is attached with this identity, seconds since 1970. An agent that was started later knows its own
    /// start.
    pub since: Option<u64>,
    /// `attached`, `attaching`, `refused`.
    pub state: Option<String>,
    /// Where its document is.
    pub origin: Option<Place>,
    /// The attested identity by its attachment: an ARN.
    pub attested: Option<String>,
    /// The evidence of that identity.
    pub evidence: Vec<String>,
    /// The role it calls as, `account/name`.
    pub role: Option<String>,
    /// The role's ARN.
    pub role_arn: Option<String>,
    /// Name of its session.
    pub session: Option<String>,
    /// Why this role, or why none.
    pub role_reason: String,
}

/// The service that is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct CalledView {
    /// `account/name`.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Lattice's status word.
    pub status: String,
    /// Its VIP.
    pub vip: Option<String>,
    /// Lattice's `authType`.
    pub auth_type: String,
    /// Where it was written.
    pub origin: Place,
}

/// A service network, and which of the two is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkView {
    /// `account/name`.
    pub name: String,
    /// Lattice's `authType`.
    pub auth_type: String,
    /// The VPC's association: Lattice's status word, `-` where there is none.
    pub vpc: String,
    /// The service's association, likewise.
    pub service: String,
    /// Where the network and the associations were written.
    pub details: Vec<String>,
    /// Associations that failed: where, code and text.
    pub failures: Vec<String>,
    /// Whether calls can come through it.
    pub common: bool,
}

/// The decision of the policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionView {
    /// Whether the request may pass.
    pub allowed: bool,
    /// Lattice's `authDeniedReason`.
    pub denied_at: Option<String>,
    /// Id of what denies: `file:line#Sid`, or of a default.
    pub id: Option<String>,
    /// Id of what would deny, were its policy not in audit mode.
    pub audited: Option<String>,
    /// The service network that the request comes through.
    pub network: Option<String>,
    /// The response to the caller.
    pub message: Option<String>,
    /// Each level in turn.
    pub levels: Vec<LevelView>,
}

/// The result at one level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelView {
    /// `identity`, `network`, `service`.
    pub level: String,
    /// The name of the policy's role, service network or service; also where it has none.
    pub name: String,
    /// `open`, `policy`, `audit`, `no-policy`.
    pub state: String,
    /// `passes`, `denies`, `does not allow`.
    pub verdict: String,
    /// Statements that deny: `file:line#Sid`.
    pub denying: Vec<String>,
    /// Statements that allow.
    pub allowing: Vec<String>,
    /// Statements that nearly allow.
    pub near: Vec<NearMissView>,
}

/// A statement that nearly allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMissView {
    /// `file:line#Sid`.
    pub statement: String,
    /// Conditions of the statement that the request does not fit.
    pub failed: Vec<MismatchView>,
}

/// Something wanted and something else found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MismatchView {
    /// A condition key with its operator, or a part of the request.
    pub what: String,
    /// The value that is required.
    pub expected: String,
    /// The value of the request.
    pub actual: String,
}

/// Which rule a request meets, and what that does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// Name of the listener.
    pub listener: String,
    /// Its id.
    pub listener_id: String,
    /// Its port.
    pub port: u16,
    /// Where it was written.
    pub listener_origin: Place,
    /// Which of several rules that match is taken: `priority`, `most-specific`.
    pub precedence: String,
    /// Rules that come first and do not match.
    pub passed: Vec<PassedView>,
    /// How many more there are than are shown.
    pub passed_more: usize,
    /// The rule; none: the default action.
    pub rule: Option<RuleView>,
    /// The action.
    pub action: ActionView,
    /// Changes of the request's header fields, a line each.
    pub request_headers: Vec<String>,
    /// Changes of the answer's header fields.
    pub response_headers: Vec<String>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleView {
    /// Name.
    pub name: String,
    /// Id.
    pub id: String,
    /// Priority, or place where the most specific is taken.
    pub priority: u16,
    /// Where it was written.
    pub origin: Place,
}

/// A rule that does not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedView {
    /// Which.
    pub rule: RuleView,
    /// The first condition that does not hold.
    pub because: MismatchView,
}

/// The action for a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", tag = "kind")]
pub enum ActionView {
    /// To a target.
    Forward {
        /// The target groups.
        groups: Vec<GroupView>,
        /// How a caller gets the same group again.
        sticky: Option<String>,
        /// The target group that this request gets, where that is certain.
        chosen: Option<String>,
        /// The path (and query) as the target sees it.
        path: String,
        /// The host as the target sees it.
        host: String,
    },
    /// An answer of the engine's own.
    FixedResponse {
        /// Status.
        status: u16,
        /// `content-type`.
        content_type: Option<String>,
        /// Body.
        body: String,
    },
    /// An answer that sends the client elsewhere.
    Redirect {
        /// Status.
        status: u16,
        /// `Location`.
        location: String,
    },
}

/// A target group of a forward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupView {
    /// `account/name`.
    pub name: String,
    /// Its weight.
    pub weight: u16,
    /// Its share of the requests, percent.
    pub share: f64,
    /// How many targets can be reached.
    pub reachable_count: u32,
    /// A few of them: `address:port`.
    pub reachable: Vec<String>,
    /// Targets in the documents.
    pub configured: u32,
    /// Where it was written.
    pub origin: Place,
}

/// The decision about a request that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThenView {
    /// Its id.
    pub request_id: String,
    /// When, as RFC 3339 has it.
    pub time: String,
    /// Revision in force then.
    pub revision: u64,
    /// Status of the answer; 0: there was none.
    pub status: u16,
    /// The decision, in a sentence.
    pub summary: String,
    /// Differences to the decision that would be made now, a line each.
    pub differences: Vec<String>,
}
