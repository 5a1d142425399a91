//! A node and its VPCs, made of network namespaces.
//!
//! Everything has a name that holds this process's id and a number, so that labs run side by side, and all of it is
//! removed when the lab is dropped, when a test panics, and on SIGINT and SIGTERM. What a killed test run left behind
//! is swept by the next one.

mod agent;
mod api;
mod cgroup;
mod commands;
mod documents;
mod guarded;
mod namespace;
mod reaper;
mod records;
mod topology;
mod waiting;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

pub use self::{
    agent::{Agent, AgentOptions, probe},
    api::SETTLE,
    cgroup::{Cgroup, cgroup_root},
    commands::{Output, output, sh},
    documents::{NETWORK, NODE, NODE_OF_BOTH, Retail, forward, service, service_of},
    guarded::{Guarded, LEDGER, LEDGER_HOST, OPERATOR, ORDERS, ORDERS_HOST, RETAIL},
    namespace::Namespace,
    records::{Metrics, Sample, records_of},
    topology::{GATEWAY, GATEWAY6, Wiring, Workload},
    waiting::{eventually, wait_until},
};

/// The VIP range every lab's agent is given.
pub const VIP_RANGE: &str = "169.254.64.0/20";
/// The alias range every lab's agent is given.
pub const ALIAS_RANGE: &str = "100.127.0.0/16";
/// The DNS VIP in [`VIP_RANGE`].
pub const DNS_VIP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 64, 17);
/// The IPv6 VIP range that an agent has by default.
pub const VIP6_RANGE: &str = "fd8b:2a77:1c51::/64";
/// The IPv6 alias range, likewise.
pub const ALIAS6_RANGE: &str = "fdc4:90e6:5b0d::/48";
/// The DNS VIP in [`VIP6_RANGE`].
pub const DNS_VIP6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd8b, 0x2a77, 0x1c51, 0, 0, 0, 0, 17);
/// The engine's user: of no other process, and without an entry in /etc/passwd.
pub const ENGINE_UID: u32 = 61_234;
/// The group that may read status.
pub const READERS_GID: u32 = 61_235;
/// What all names of ours begin with.
pub(crate) const PREFIX: &str = "brt";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A node with its own agent, engine, bpffs folder and policies.
pub struct Lab {
    /// Begins every name: `brt-<pid>-<number>`.
    pub id: String,
    /// The node's namespace.
    pub node: Namespace,
    /// Holds `policies`, `run`, `state`, logs.
    pub folder: PathBuf,
    /// The running agent.
    pub agent: Option<Agent>,
}

impl Lab {
    /// A node without agent and workloads.
    ///
    /// # Panics
    /// When not root, or the kernel has no network namespaces.
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests need root: they make network namespaces and load eBPF programs"
        );
        Self::named(&format!("{PREFIX}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst)))
    }

    /// A node whose names begin with `id`; not swept by later test runs.
    ///
    /// # Panics
    /// When there is one of this name already, or the kernel has no network namespaces.
    pub fn named(id: &str) -> Self {
        reaper::start();
        let id = id.to_owned();
        let folder = std::env::temp_dir().join(&id);
        let _ = fs::remove_dir_all(&folder);
        reaper::register(&id);
        for name in ["policies", "state"] {
            fs::create_dir_all(folder.join(name)).expect("a temporary folder");
        }
        open_to_all(&folder);
        let node = Namespace::create(&format!("{id}-node"));
        Self { id, node, folder, agent: None }
    }

    /// The policies directory.
    pub fn policies(&self) -> PathBuf {
        self.folder.join("policies")
    }

    /// The agent's bpffs folder.
    pub fn bpffs(&self) -> PathBuf {
        Path::new("/sys/fs/bpf").join(&self.id)
    }

    /// The agent's run directory.
    pub fn run_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The agent's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Writes a file of the policies directory as editors do: beside, then renamed over.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let file = self.policies().join(path);
        let folder = file.parent().expect("inside the policies directory");
        fs::create_dir_all(folder).expect("a folder");
        let fresh = folder.join(".fresh~");
        fs::write(&fresh, text).expect("a file");
        fs::rename(&fresh, &file).expect("renamed");
    }

    /// Removes a file of the policies directory.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove(&self, path: &str) {
        fs::remove_file(self.policies().join(path)).expect("a file of the policies directory");
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        reaper::stop_if_interrupted();
        if std::thread::panicking() {
            self.report();
        }
        self.agent = None;
        reaper::tear_down(&self.id);
    }
}

/// The engine's user must be able to reach the run directory.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("permissions");
}
