//! What the engine reports of its work: live connections, remembered requests, lines of the access log.
//!
//! Who may ask is the agent's decision; it then hands the caller's connection over with
//! [`crate::engine::ToEngine::Attend`], and the engine answers on it: JSON objects, one per line, and at the end a
//! [`Notice`]. A line is a [`Notice`] if it begins with `{"notice":`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::numbers::AliasGeneration;

/// Most lines that [`Query::Follow`] can ask of the past.
pub const MAX_BACKLOG: u32 = 4_096;
/// Longest request id, bytes.
pub const MAX_REQUEST_ID: usize = 128;

/// A question of the agent's caller to the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// A [`Flow`] per live connection, then [`Notice::End`].
    Flows,
    /// The latest lines of the access log, oldest first and at most [`MAX_BACKLOG`]; [`Notice::BacklogEnds`]; then
    /// every new line until the caller closes. Lines that sampling keeps out of the log are among them.
    Follow {
        /// Lines of the past.
        backlog_lines: u32,
    },
    /// The [`Past`] of this request, if it is remembered, then [`Notice::End`].
    Recall {
        /// As in `x-amzn-requestid`.
        request_id: String,
    },
    /// The [`Past`] of a connection's latest request, likewise.
    RecallFlow {
        /// [`Flow::id`].
        flow: u64,
    },
}

/// A message of the engine beside the records that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "kebab-case")]
pub enum Notice {
    /// The answer is complete.
    End,
    /// The records that follow are new ones.
    BacklogEnds,
    /// The caller reads too slowly: this many lines were not sent to it.
    Lost {
        /// Lines.
        lines: u64,
    },
    /// There are more rows than an answer may have.
    LeftOut {
        /// Rows that were left out.
        rows: u64,
    },
    /// No answer.
    Refused {
        /// Why, and what to do.
        message: String,
    },
}

/// Protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FlowProtocol {
    /// Nothing came yet.
    #[serde(rename = "-")]
    Unknown,
    /// HTTP/1.1 or HTTP/1.0.
    #[serde(rename = "HTTP/1.1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "HTTP/2")]
    Http2,
    /// An HTTP/1.1 connection that changed its protocol: both sides are copied.
    #[serde(rename = "upgraded")]
    Upgraded,
    /// Relayed as TCP because of a bypass.
    #[serde(rename = "TCP")]
    Relayed,
}

impl FlowProtocol {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "-",
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Upgraded => "upgraded",
            Self::Relayed => "TCP",
        }
    }
}

/// A live connection of a caller. What changes from request to request is that of its latest one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Unique on the node; rises with time on each worker.
    pub id: u64,
    /// Its protocol.
    pub protocol: FlowProtocol,
    /// Real address and port of the caller, in its VPC.
    pub source: SocketAddr,
    /// Caller's VPC, `account/name`.
    pub source_vpc: String,
    /// Name of the calling workload.
    pub source_workload: String,
    /// The caller's alias on this node.
    pub alias: IpAddr,
    /// The VIP and port that were called.
    pub vip: SocketAddr,
    /// Service, `account/name`.
    pub service: Option<String>,
    /// Name of the listener.
    pub listener: Option<String>,
    /// Id of the rule, `default` where none matched.
    pub rule: Option<String>,
    /// Target group, `account/name`.
    pub target_group: Option<String>,
    /// Real address and port of the target, in its VPC.
    pub target: Option<SocketAddr>,
    /// VPC of the target, `account/name`.
    pub target_vpc: Option<String>,
    /// Name of the target's workload.
    pub target_workload: Option<String>,
    /// Since when, ms since 1970.
    pub since_ms: u64,
    /// Age, ms.
    pub age_ms: u64,
    /// Bytes read from the caller.
    pub bytes_received: u64,
    /// Bytes written to the caller.
    pub bytes_sent: u64,
    /// Requests so far.
    pub requests: u64,
    /// Requests in flight.
    pub requests_open: u32,
    /// Id of the latest request.
    pub request_id: Option<String>,
}

/// Why a request was not served as it should (Lattice `failureReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureReason {
    /// The target could not be reached: refused, unreachable, too slow to connect, or there is none.
    TargetConnectionError,
    /// The target's bytes are no HTTP.
    TargetProtocolError,
    /// The target took too long to begin or to go on with its answer.
    TargetDataTimeout,
    /// The target closed, or was removed, before its answer was complete.
    TargetConnectionClosed,
    /// The client closed, or took its request back, before the answer was complete.
    ClientConnectionClosed,
    /// The workload has reached a limit: requests in flight, memory of its large bodies, requests taken back.
    ClientRateLimited,
    /// A policy denied the request, or its caller was removed.
    ClientAccessDenied,
    /// The client's bytes are no HTTP, or exceed a limit.
    ClientProtocolError,
    /// The client stopped in the middle of its request, or did not take its answer, for longer than allowed.
    ConnectionDurationExceeded,
    /// The engine stopped, and the request was not complete when the grace period was over.
    EngineStopped,
    /// Anything else.
    InternalError,
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::TargetConnectionError,
        Self::TargetProtocolError,
        Self::TargetDataTimeout,
        Self::TargetConnectionClosed,
        Self::ClientConnectionClosed,
        Self::ClientRateLimited,
        Self::ClientAccessDenied,
        Self::ClientProtocolError,
        Self::ConnectionDurationExceeded,
        Self::EngineStopped,
        Self::InternalError,
    ];

    /// Lattice's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TargetConnectionError => "TargetConnectionError",
            Self::TargetProtocolError => "TargetProtocolError",
            Self::TargetDataTimeout => "TargetDataTimeout",
            Self::TargetConnectionClosed => "TargetConnectionClosed",
            Self::ClientConnectionClosed => "ClientConnectionClosed",
            Self::ClientRateLimited => "ClientRateLimited",
            Self::ClientAccessDenied => "ClientAccessDenied",
            Self::ClientProtocolError => "ClientProtocolError",
            Self::ConnectionDurationExceeded => "ConnectionDurationExceeded",
            Self::EngineStopped => "EngineStopped",
            Self::InternalError => "InternalError",
        }
    }
}

/// Which policy denied a request (Lattice `authDeniedReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeniedBy {
    /// The service's.
    Service,
    /// The service network's.
    Network,
    /// The role's, or the caller has no identity that may call.
    Identity,
}

impl DeniedBy {
    /// Lattice's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Network => "Network",
            Self::Identity => "Identity",
        }
    }
}

/// A request that was served or refused, as remembered: enough to decide it again.
///
/// A relayed connection is remembered, too, with an empty method; an upgraded one from its beginning on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// As in `x-amzn-requestid`; empty for a relayed connection.
    pub request_id: String,
    /// The connection it came on, [`Flow::id`].
    pub flow: u64,
    /// When it began, ms since 1970.
    pub time_ms: u64,
    /// How long it took, ms; none: it goes on (upgraded, relayed).
    pub duration_ms: Option<u64>,
    /// Revision that decided it.
    pub revision: u64,
    /// Caller's alias.
    pub alias: IpAddr,
    /// Generation of the alias.
    pub generation: AliasGeneration,
    /// Caller's VPC, `account/name`; empty where the caller was unknown.
    pub vpc: String,
    /// Name of the calling workload; likewise.
    pub workload: String,
    /// The VIP that was called.
    pub vip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it came over HTTP/2.
    pub http2: bool,
    /// Method.
    pub method: String,
    /// Path, normalised where that was possible, without the query.
    pub path: String,
    /// What follows `?`, raw.
    pub query: String,
    /// Host, lower case, without port.
    pub host: String,
    /// Header fields that rules or policies of the service ask for, by name (lower case). Of secret ones (`authorization`,
    /// `cookie`, tokens) there is the name only.
    pub headers: Vec<PastHeader>,
    /// Some text above was longer than 8 KiB and is cut: what is decided again may differ.
    pub cut: bool,
    /// Service, `account/name`.
    pub service: Option<String>,
    /// Name of the listener.
    pub listener: Option<String>,
    /// Id of the rule, `default` where none matched.
    pub rule: Option<String>,
    /// Target group, `account/name`.
    pub target_group: Option<String>,
    /// Real address and port of the target.
    pub target: Option<SocketAddr>,
    /// Status of the answer; none: none was given.
    pub status: Option<u16>,
    /// The failure, if there was one.
    pub failure: Option<FailureReason>,
    /// Id of the decision, where policies decided.
    pub decision_id: Option<String>,
    /// Which policy denied it.
    pub denied_by: Option<DeniedBy>,
}

/// A header field of a remembered request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastHeader {
    /// Lower case.
    pub name: String,
    /// Values in their order, not UTF-8 replaced; none of a secret one.
    pub values: Option<Vec<String>>,
}

/// The agent's own numbers, for the metrics; each list at most [`NodeMetrics::MOST`] long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeMetrics {
    /// Packets dropped by the kernel programs, by `DropReason` name.
    pub drops: Vec<(String, u64)>,
    /// Other counts of the kernel programs, by `Counter` name.
    pub counters: Vec<(String, u64)>,
    /// Things put back because another process removed them.
    pub repairs: Vec<(String, u64)>,
    /// Fill of bounded tables: name, used, limit.
    pub tables: Vec<(String, u64, u64)>,
    /// Replacements of the engine since the agent's start.
    pub engine_restarts: u64,
    /// 0: ok, 1: degraded, 2: down, as `brattice status` exits.
    pub health: u8,
    /// Problems that `brattice status` shows, by kind.
    pub problems: Vec<(String, u64)>,
    /// Owners of documents by the state of these.
    pub owners: Vec<(String, u64)>,
    /// Owners whose documents on disk are not in force, and the state of these.
    pub not_in_force: Vec<(String, String)>,
    /// Switches in force, by kind.
    pub switches: Vec<(String, u64)>,
    /// The agent's version.
    pub version: String,
    /// When the agent started, s since 1970.
    pub agent_start_seconds: u64,
}

impl NodeMetrics {
    /// Most entries of a list.
    pub const MOST: usize = 256;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_on_the_wire() {
        for reason in FailureReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for by in [DeniedBy::Service, DeniedBy::Network, DeniedBy::Identity] {
            assert_eq!(serde_json::to_value(by).unwrap(), by.as_str());
        }
        for protocol in [
            FlowProtocol::Unknown,
            FlowProtocol::Http1,
            FlowProtocol::Http2,
            FlowProtocol::Upgraded,
            FlowProtocol::Relayed,
        ] {
            assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.as_str());
        }
    }

    #[test]
    fn notices_begin_as_promised() {
        for notice in [Notice::End, Notice::Lost { lines: 3 }, Notice::Refused { message: "no".into() }] {
            assert!(serde_json::to_string(&notice).unwrap().starts_with("{\"notice\":"), "{notice:?}");
        }
    }
}
