//! What the agent is started with.

use std::path::PathBuf;

use brattice_wire::engine::Limits;
use ipnet::Ipv4Net;

use crate::engine::outputs::{LogDestination, MetricsAddress};

/// Default policies directory.
pub const POLICIES: &str = "/etc/brattice/policies";
/// Default directory of sockets.
pub const RUN_DIR: &str = "/run/brattice";
/// Default directory of what must survive.
pub const STATE_DIR: &str = "/var/lib/brattice";
/// Default directory of pins.
pub const BPFFS: &str = "/sys/fs/bpf/brattice";
/// Default suffix of generated names.
pub const DNS_SUFFIX: &str = "svc.brattice.internal";
/// Default user of the engine.
pub const ENGINE_USER: &str = "brattice-engine";
/// Default group of read-only callers.
pub const GROUP: &str = "brattice";
/// VIP ranges tried in this order when none is named: /20s inside 169.254.0.0/16 that avoid well-known metadata
/// addresses.
pub const VIP_CANDIDATES: [&str; 3] = ["169.254.64.0/20", "169.254.96.0/20", "169.254.208.0/20"];
/// Alias ranges tried in this order when none is named.
pub const ALIAS_CANDIDATES: [&str; 4] = ["100.127.0.0/16", "198.18.0.0/16", "100.126.0.0/16", "198.19.0.0/16"];
/// Default bound of half-open connections of a workload.
pub const HALF_OPEN_LIMIT: u32 = 256;

/// Settings of `brattice agent`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Policies directory.
    pub policies: PathBuf,
    /// Directory of sockets.
    pub run_dir: PathBuf,
    /// Directory of what must survive.
    pub state_dir: PathBuf,
    /// Directory of pins, on a bpffs.
    pub bpffs: PathBuf,
    /// The engine's user; never 0.
    pub engine_uid: u32,
    /// Group of the run directory: the engine runs in it, and its members may ask read-only questions.
    pub group: u32,
    /// Engine workers; 1 to 64.
    pub workers: u32,
    /// VIP range; none = the first candidate that fits, then kept.
    pub vip_range: Option<Ipv4Net>,
    /// Alias range; likewise.
    pub alias_range: Option<Ipv4Net>,
    /// Suffix of generated names.
    pub dns_suffix: String,
    /// Most half-open connections of a workload.
    pub half_open_limit: u32,
    /// Bounds of the engine.
    pub limits: Limits,
    /// Where the access log goes.
    pub access_log: LogDestination,
    /// Of the requests that were served, one in so many is logged; at least 1.
    pub access_log_sample: u32,
    /// Where metrics are served.
    pub metrics: MetricsAddress,
    /// Whether the engine ends with the agent.
    pub stop_engine_on_exit: bool,
    /// The program to start as the engine; the agent's own but in tests.
    pub engine_program: PathBuf,
    /// Log filter, handed on to the engine.
    pub log: Option<String>,
}

impl Settings {
    /// The API socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    /// The engine's socket.
    pub fn engine_socket(&self) -> PathBuf {
        self.run_dir.join("engine.sock")
    }

    /// Where the engine's process is recorded.
    pub fn engine_record(&self) -> PathBuf {
        self.run_dir.join("engine.json")
    }
}
