//! The protocol between agent and engine, over a Unix stream socket.
//!
//! A frame is a 4-byte length in network order and that many bytes of postcard. The agent trusts nothing in
//! [`FromEngine`]: it is bounded by [`MAX_FROM_ENGINE`] and every field is checked. File descriptors travel with
//! `SCM_RIGHTS` on the first byte of a frame: those of a [`ToEngine::Start`] or [`FromEngine::Hello`] in the order of
//! [`descriptor_count`], one each with [`ToEngine::AccessLog`], [`ToEngine::Metrics`] and [`ToEngine::Attend`]. With a
//! start comes one more, the last: a listening Unix socket, on which later agents call the engine.
//!
//! ```text
//! agent                                    engine
//!   │  spawn, with one end of a socket pair as its standard input
//!   │◄── Hello { running: None } ─────────────┤   a new engine
//!   ├─── Start { settings } + descriptors ───►│   among them the socket at <run>/engine.sock
//!   ├─── AccessLog, Metrics + descriptor ────►│
//!   ├─── Snapshot(..) ───────────────────────►│
//!   │◄── Applied { revision } ────────────────┤
//!   ├─── CloseAliases { .. } ────────────────►│
//!   │◄── AliasesClosed { .. } ────────────────┤
//!   ├─── Ping ───────────────────────────────►│   every 2 s: either side gives up a link that is silent
//!   │◄── Pong ────────────────────────────────┤
//!   ✗ agent dies; the engine serves on, and the next agent connects to <run>/engine.sock
//!   │◄── Hello { running: Some } + the same descriptors ─┤
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::records::{NodeMetrics, Query};
use crate::snapshot::{AliasGeneration, Snapshot};

/// Raised when a message changes; both sides refuse another version.
pub const PROTOCOL_VERSION: u32 = 9;
/// Time between two [`ToEngine::Ping`]s.
pub const PING: Duration = Duration::from_secs(2);
/// An engine that gets nothing from its agent for so long gives the link up and waits for the next call.
pub const SILENT: Duration = Duration::from_secs(30);
/// Largest frame from the agent, bytes.
pub const MAX_TO_ENGINE: usize = 512 * 1024 * 1024;
/// Largest frame from the engine, bytes.
pub const MAX_FROM_ENGINE: usize = 256 * 1024;

/// Descriptors of an engine with `workers` workers, in order: HTTP listener of each worker, relay listener of each
/// worker, DNS UDP socket, DNS TCP listener, with `ipv6` its DNS UDP socket, the `WORKERS` map.
pub const fn descriptor_count(workers: u32, ipv6: bool) -> usize {
    2 * workers as usize + 3 + ipv6 as usize
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToEngine {
    /// Once, as the first message to an engine that is not running yet; carries the descriptors, and behind them the
    /// listening Unix socket for later agents.
    Start(Settings),
    /// The state to serve from now on.
    Snapshot(Arc<Snapshot>),
    /// Close every connection from or to these aliases, purge them from pools, then answer
    /// [`FromEngine::AliasesClosed`].
    CloseAliases {
        /// Chosen by the agent, repeated in the answer.
        token: u64,
        /// (alias, generation); connections of a newer generation stay.
        aliases: Vec<(IpAddr, AliasGeneration)>,
    },
    /// Ask for [`FromEngine::Stats`].
    Stats,
    /// Ask for [`FromEngine::Pong`]. Answered in turn, so its answer says that what was asked before is done.
    Ping,
    /// Where the access log goes from now on; with a descriptor that can be written. `None`, without one: nowhere.
    AccessLog(Option<AccessLog>),
    /// Serve metrics on the listening socket (TCP or Unix) that comes with it, instead of any before; false, without
    /// one: nowhere.
    Metrics(bool),
    /// The agent's numbers for the metrics.
    NodeMetrics(Box<NodeMetrics>),
    /// Answer a caller of the agent, whose connection (Unix stream) comes with it; see [`crate::records`].
    Attend(Query),
    /// Stop accepting, let requests in flight finish for this long, then exit.
    Shutdown {
        /// Grace period, ms.
        grace_ms: u32,
    },
}

/// From the engine; hostile until checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromEngine {
    /// First message on every connection.
    Hello {
        /// [`PROTOCOL_VERSION`].
        version: u32,
        /// Present when the engine serves already: its descriptors travel with this frame.
        running: Option<Running>,
    },
    /// A snapshot is in force on every worker.
    Applied {
        /// Its revision.
        revision: u64,
    },
    /// A snapshot was refused; the one before stays in force.
    Refused {
        /// Its revision.
        revision: u64,
        /// Why, at most 1 KiB.
        reason: String,
    },
    /// Answer to [`ToEngine::CloseAliases`].
    AliasesClosed {
        /// The token of the request.
        token: u64,
    },
    /// Answer to [`ToEngine::Stats`].
    Stats(Stats),
    /// Answer to [`ToEngine::Ping`].
    Pong,
}

/// The message of a running engine to a new agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Settings it was started with.
    pub settings: Settings,
    /// Revision in force.
    pub revision: u64,
    /// It serves metrics: that listening socket is the last of its descriptors, after those of [`descriptor_count`].
    pub metrics: bool,
}

/// How the access log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Of the requests that were served, one in this many is logged; at least 1. Denied and failed ones always are.
    pub sample: u32,
    /// The descriptor is a regular file: writing never waits for a reader.
    pub file: bool,
}

/// The settings with which an engine is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Workers, one per core; 1 to 64.
    pub workers: u32,
    /// Engine source addresses (VIP range), to bind before connecting to a target.
    pub sources: Vec<Ipv4Addr>,
    /// As `sources`, of IPv6; empty: the node has no IPv6.
    pub sources6: Vec<Ipv6Addr>,
    /// Bounds.
    pub limits: Limits,
    /// How often the bounds of memory are halved, as the kernel ended engines before for lack of it.
    pub halvings: u32,
}

impl Settings {
    /// How many descriptors go with them.
    pub fn descriptors(&self) -> usize {
        descriptor_count(self.workers, !self.sources6.is_empty())
    }
}

/// Bounds of the engine, each with a counter in [`Stats::limits_hit`] under its field name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Descriptors of the process; 0 = as many as RLIMIT_NOFILE allows. A reserve is kept for workloads with few
    /// connections, for DNS and for metrics, and no workload may have over half of the rest: bounds below that would
    /// allow more are lowered. When only the reserve is left, further connections of workloads with more than a few are
    /// reset.
    pub descriptors: u32,
    /// Bytes of memory of the process, of which traffic has a part; 0 = as many as cgroup and machine allow. Over that
    /// part: as `bytes_per_workload`, for workloads that use more than a little.
    pub memory_bytes: u64,
    /// Bytes that a workload's connections, requests and large bodies can come to hold, in our buffers and the kernel's;
    /// 0 = a quarter of `memory_bytes`. Over it: connections are reset, requests 503, bodies without a length cut.
    pub bytes_per_workload: u64,
    /// Client connections of a workload, over all workers. Over it: reset.
    pub connections_per_workload: u32,
    /// Requests in flight of a workload, over all workers. Over it: 503.
    pub requests_per_workload: u32,
    /// Bytes of a request's header section (Lattice: 60 KB). Over it: 431.
    pub header_bytes: u32,
    /// Header fields of a request (Lattice: 100), and of a target's response. Over it: 431, or 502.
    pub headers: u32,
    /// Bytes of a request body; 0 = unlimited. Over it: 413.
    pub body_bytes: u64,
    /// Time for a client to send a whole header section, ms. Over it: 408, closed.
    pub header_timeout_ms: u32,
    /// Time without a byte of body from client or target, ms, where the service does not allow more. Over it: 408 or 504,
    /// closed.
    pub body_idle_timeout_ms: u32,
    /// Time that a client may take none of the bytes that wait for it, ms. Over it: reset.
    pub write_timeout_ms: u32,
    /// Time for a target to begin its answer, ms, where the service does not allow more. Over it: 504.
    pub response_timeout_ms: u32,
    /// Kept connections to one (service, target) that idle, per worker.
    pub idle_per_target: u32,
    /// Time such a connection may idle, ms, where the target group does not say.
    pub pool_idle_timeout_ms: u32,
    /// Streams a client may open at once on an HTTP/2 connection.
    pub http2_streams: u32,
    /// Interim responses (1xx) of a target to one request. Over it: 502.
    pub interim_responses: u32,
    /// Frames of an HTTP/2 peer that carry no part of a message, a second, beside four for each that does. Over it: reset.
    pub http2_control_frames: u32,
    /// HTTP/2 connections of a workload's address to targets, per worker; its idle ones are closed for new ones. Over it,
    /// requests share those there are; 503 where none leads to the target.
    pub http2_connections_per_workload: u32,
    /// HTTP/2 requests that a workload may take back within 10 s, over all its connections. Over it, a connection is reset
    /// on which most requests were taken back.
    pub http2_cancelled_per_workload: u32,
    /// DNS questions in flight, over all callers. Over it: SERVFAIL.
    pub dns_in_flight: u32,
    /// DNS questions in flight of a workload. Over it: SERVFAIL.
    pub dns_in_flight_per_workload: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            descriptors: 0,
            memory_bytes: 0,
            bytes_per_workload: 0,
            connections_per_workload: 10_000,
            requests_per_workload: 10_000,
            header_bytes: 60 * 1024,
            headers: 100,
            body_bytes: 0,
            header_timeout_ms: 10_000,
            body_idle_timeout_ms: 60_000,
            write_timeout_ms: 60_000,
            response_timeout_ms: 60_000,
            idle_per_target: 1_024,
            pool_idle_timeout_ms: 30_000,
            http2_streams: 256,
            interim_responses: 32,
            http2_control_frames: 1_000,
            http2_connections_per_workload: 1_024,
            http2_cancelled_per_workload: 200,
            dns_in_flight: 4_096,
            dns_in_flight_per_workload: 256,
        }
    }
}

/// Counts since the engine's start, summed over workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Stats {
    /// Revision in force.
    pub revision: u64,
    /// Client connections accepted.
    pub connections_accepted: u64,
    /// Client connections open now.
    pub connections_open: u64,
    /// Connections relayed as TCP because of a bypass.
    pub connections_relayed: u64,
    /// Requests whose head was read.
    pub requests: u64,
    /// Requests in flight now.
    pub requests_open: u64,
    /// Answers by class: 1xx, 2xx, 3xx, 4xx, 5xx.
    #[serde(with = "crate::named::responses")]
    pub responses: [u64; 5],
    /// Requests refused as malformed or smuggling.
    pub refused_requests: u64,
    /// Requests for a service unknown to the caller (404).
    pub unknown_service: u64,
    /// Requests that policies refused (403), by level: identity, network, service.
    #[serde(with = "crate::named::levels")]
    pub denied: [u64; 3],
    /// What was ended because it is not allowed any more: requests, streams and upgraded connections; client connections
    /// between requests and relayed ones.
    #[serde(with = "crate::named::revoked")]
    pub revoked: [u64; 2],
    /// Bypassed connections reset, because a policy would have to be asked about what they carry.
    pub unrelayed: u64,
    /// Failed or timed out connects to targets.
    pub connect_errors: u64,
    /// Connections refused because the peer was no known alias.
    pub unknown_peers: u64,
    /// Times each limit was hit, by field name of [`Limits`].
    pub limits_hit: Vec<(String, u64)>,
    /// Client connections, requests in flight and DNS questions in flight now, each of the workload that has most.
    #[serde(with = "crate::named::busiest")]
    pub busiest: [u32; 3],
    /// The limit of each for a workload.
    #[serde(with = "crate::named::busiest")]
    pub most: [u32; 3],
    /// Descriptors in use, and how many there may be before those that are kept are touched; 0: without a bound.
    #[serde(with = "crate::named::descriptors")]
    pub descriptors: [u32; 2],
    /// Bytes that all traffic can come to hold now, and may.
    #[serde(with = "crate::named::memory")]
    pub memory: [u64; 2],
    /// The same of the workload that has most.
    #[serde(with = "crate::named::memory")]
    pub busiest_memory: [u64; 2],
    /// DNS questions answered by us, forwarded, refused.
    #[serde(with = "crate::named::dns")]
    pub dns: [u64; 3],
    /// Lines of the access log: written, dropped because the destination was too slow or failed, left out by sampling.
    #[serde(with = "crate::named::log_lines")]
    pub log_lines: [u64; 3],
    /// Requests counted in the overflow row of the metrics, because there are too many series.
    pub metrics_overflow: u64,
    /// Sandbox in force: what the engine could not switch on is named here (empty = all).
    pub sandbox_missing: Vec<String>,
    /// Targets that could not be connected to within the last minute; at most [`FailingTarget::MOST`].
    pub failing: Vec<FailingTarget>,
}

/// A target that cannot be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingTarget {
    /// Its alias and port.
    pub target: std::net::SocketAddr,
    /// Connects that failed since the latest one that did not.
    pub failures: u32,
    /// Since how long, s.
    pub seconds: u64,
    /// Why the latest one failed.
    pub why: String,
}

impl FailingTarget {
    /// Most of them that are listed.
    pub const MOST: usize = 64;
}

/// A frame that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Announced length over the bound.
    #[error("a frame of {length} bytes, of at most {limit}")]
    TooLong {
        /// Announced.
        length: usize,
        /// Allowed.
        limit: usize,
    },
    /// Not a message.
    #[error("a frame that is no message: {0}")]
    Malformed(#[from] postcard::Error),
}

/// A message as a frame.
///
/// # Errors
/// When the message cannot be encoded, or is longer than `limit` bytes.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; 4])?;
    let length = frame.len() - 4;
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    let prefix = u32::try_from(length).map_err(|_| FrameError::TooLong { length, limit })?;
    frame[..4].copy_from_slice(&prefix.to_be_bytes());
    Ok(frame)
}

/// The length of the body that follows a frame's first four bytes.
///
/// # Errors
/// When it is over `limit`.
pub fn body_length(prefix: [u8; 4], limit: usize) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > limit { Err(FrameError::TooLong { length, limit }) } else { Ok(length) }
}

/// A message from a frame's body.
///
/// # Errors
/// When it is no message of this type, or bytes are left over.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (message, rest) = postcard::take_from_bytes(body)?;
    if rest.is_empty() { Ok(message) } else { Err(FrameError::Malformed(postcard::Error::SerdeDeCustom)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip() {
        let message = FromEngine::Refused { revision: 7, reason: "no".into() };
        let frame = encode(&message, MAX_FROM_ENGINE).unwrap();
        let length = body_length(frame[..4].try_into().unwrap(), MAX_FROM_ENGINE).unwrap();
        assert_eq!(length, frame.len() - 4);
        assert_eq!(decode::<FromEngine>(&frame[4..]).unwrap(), message);
    }

    #[test]
    fn frames_are_bounded() {
        let message = FromEngine::Refused { revision: 7, reason: "x".repeat(100) };
        assert!(matches!(encode(&message, 50), Err(FrameError::TooLong { .. })));
        assert!(matches!(body_length([0xff; 4], MAX_FROM_ENGINE), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let mut frame = encode(&FromEngine::Applied { revision: 1 }, MAX_FROM_ENGINE).unwrap();
        frame.push(0);
        assert!(decode::<FromEngine>(&frame[4..]).is_err());
    }
}
