//! The errors of the loader, in words for an operator.

use std::io;
use std::path::PathBuf;

/// Every error of this crate. The texts say what happened, the likely cause, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pin directory is not on a BPF file system.
    #[error(
        "{path} is not on a BPF file system, so nothing can be pinned there; mount one: mount -t bpf bpf /sys/fs/bpf"
    )]
    NotBpffs {
        /// The directory, or its nearest existing parent.
        path: PathBuf,
    },
    /// Pins of a schema that this build does not know.
    #[error(
        "{path} holds pins of schema {found}, and this build knows only schema {known}: another version of Brattice runs \
         (or ran) here. Nothing was touched. Start that version, or remove its data path with `brattice cleanup`"
    )]
    UnknownSchema {
        /// The pin directory.
        path: PathBuf,
        /// Name of the directory found, such as `v2`.
        found: String,
        /// The schema of this build.
        known: u32,
    },
    /// Links are pinned but what they need is not.
    #[error(
        "{path} holds attached programs, but {missing} is missing: a part of the pins was removed. \
         Run `brattice cleanup`, then start again"
    )]
    PinsIncomplete {
        /// The pin directory.
        path: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// A pinned map or program does not fit this build.
    #[error("the pinned {name} does not fit this build ({detail}). Run `brattice cleanup`, then start again")]
    Layout {
        /// Map or program.
        name: String,
        /// The difference.
        detail: String,
    },
    /// The running data path was started with other ranges.
    #[error(
        "the running data path uses the {which} range {running}, and {asked} was asked for: workloads hold addresses of the \
         running one. Ask for {running}, or run `brattice cleanup` first"
    )]
    RangeChanged {
        /// `VIP`, `alias`, `IPv6 VIP` or `IPv6 alias`.
        which: &'static str,
        /// As in the kernel.
        running: String,
        /// As asked.
        asked: String,
    },
    /// An option cannot be.
    #[error("{option} {value} is not possible: {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        reason: String,
    },
    /// The embedded object lacks something.
    #[error(
        "the embedded eBPF object has no {kind} {name}: it was built from other sources. Rebuild with `cargo xtask build`"
    )]
    MissingInObject {
        /// `map` or `program`.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The embedded object cannot be read or its maps not be created.
    #[error(
        "loading the eBPF object failed: {0}. Likely causes: not root (CAP_BPF, CAP_NET_ADMIN), or a kernel older than 6.1; `brattice preflight` tells"
    )]
    Object(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel refused a program.
    #[error("the kernel refused program {program}: {source}. `brattice preflight` shows what this kernel lacks")]
    Program {
        /// Its name.
        program: &'static str,
        /// With the verifier's log.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A bpf(2) call failed.
    #[error("{what}: {source} (bpf system call)")]
    Bpf {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The programs' lines cannot be read.
    #[error("the lines of the eBPF programs cannot be read: {0}; were they loaded with --ebpf-log debug?")]
    DebugLog(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A netlink request failed.
    #[error("{what}: {source} (netlink)")]
    Netlink {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file or socket operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The network namespace has no working loopback.
    #[error("the loopback device of this network namespace is down, and the VIP route leads there: ip link set lo up")]
    LoopbackDown,
    /// The pins belong to another network namespace.
    #[error(
        "{path} holds the data path of another network namespace, which is alive ({found}). Nothing was touched. An agent here \
         needs a --bpffs directory of its own. To remove that data path, run cleanup in its namespace, with its agent's \
         directories: {}",
        found.cleanup()
    )]
    OtherNamespace {
        /// The pin directory.
        path: PathBuf,
        /// How to enter the namespace.
        found: NamespaceFound,
    },
    /// A route of other software has the very range.
    #[error(
        "a route to {range} exists that is not Brattice's (table {table}, protocol {protocol}): remove it, or choose another \
         range (`brattice preflight` shows collisions)"
    )]
    RouteTaken {
        /// The range.
        range: String,
        /// Routing table.
        table: u32,
        /// Route protocol number of the software that wrote it.
        protocol: u8,
    },
    /// The kernel is too old.
    #[error(
        "this kernel is {release}, and Brattice needs Linux 6.1 or later: {lacks}. Nothing was changed. Boot a newer kernel; \
         `brattice preflight` tells whether it fits"
    )]
    KernelTooOld {
        /// As `uname -r` says.
        release: String,
        /// What was looked for and not found.
        lacks: String,
    },
    /// A tc filter of other software is where Brattice's has to be.
    #[error(
        "interface {ifindex} has a tc filter of preference 1 ({kind} {name}) that is not Brattice's, and Brattice's must be the \
         first of all: give the other a higher preference (tc filter show dev <interface> ingress)"
    )]
    FilterTaken {
        /// The interface.
        ifindex: u32,
        /// `bpf`, `flower`, ...
        kind: String,
        /// Its name, if it has one.
        name: String,
    },
    /// A probe makes no sense now.
    #[error("everything is detached, so nothing could get through: end that first (brattice detach --all --off)")]
    Detached,
    /// No interface has this index.
    #[error("there is no interface with index {ifindex} in this network namespace (any more)")]
    NoInterface {
        /// The index.
        ifindex: u32,
    },
    /// A device of other software with the name of Brattice's.
    #[error(
        "an interface named {name} exists and is not Brattice's ({found}). Nothing was changed. Rename or remove it: \
         ip link delete {name}"
    )]
    ForeignDevice {
        /// The name.
        name: &'static str,
        /// What it is.
        found: String,
    },
    /// Another data path works in this network namespace.
    #[error(
        "another Brattice data path works in this network namespace ({program}, program id {id}, is attached; {found}, not \
         under {path}). It was not touched. To work with that instance, name its directories: {}, or --config with its \
         agent.yaml. To remove it, stop its agent, then run `brattice cleanup` with the same",
        found.flag()
    )]
    OtherInstance {
        /// Which of its programs was found.
        program: &'static str,
        /// Its id.
        id: u32,
        /// Our pin directory.
        path: PathBuf,
        /// Where its pins are.
        found: PinsFound,
    },
    /// Another process holds the pin directory.
    #[error("another agent uses {path}: stop it first (`brattice status` shows it)")]
    InUse {
        /// The pin directory.
        path: PathBuf,
    },
    /// Others could put something among the pins.
    #[error(
        "{path} is no folder that root alone can change (owner {uid}, mode {mode:o}): whoever can, takes the data path over; \
         remove it (rm -r {path}), or use another --bpffs"
    )]
    PinsForeign {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its mode.
        mode: u32,
    },
    /// `nft` is not installed.
    #[error(
        "the nft command was not found: install the package nftables (it is needed to keep brattice0 out of connection tracking)"
    )]
    NftMissing,
    /// `nft` refused.
    #[error("nft refused {what}: {output}")]
    Nft {
        /// What was tried.
        what: &'static str,
        /// The output of nft.
        output: String,
    },
    /// A table is at its limit.
    #[error("map {map} is full ({capacity} entries, its limit)")]
    Full {
        /// The map.
        map: String,
        /// Its limit.
        capacity: u32,
    },
    /// The drop events have a reader already.
    #[error("the drop events are being read already; they have one reader")]
    EventsTaken,
    /// A helper thread ended early.
    #[error("a helper thread ended before its work was done ({0})")]
    Thread(&'static str),
}

/// The pin directory of another instance, where it could be found.
#[derive(Debug)]
pub struct PinsFound(pub Option<PathBuf>);

impl PinsFound {
    fn flag(&self) -> String {
        match &self.0 {
            Some(path) => format!("--bpffs {}", path.display()),
            None => "--bpffs <its directory>".to_owned(),
        }
    }
}

impl std::fmt::Display for PinsFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "its pins are under {}", path.display()),
            None => f.write_str("its pins were not found on any bpffs"),
        }
    }
}

/// A path by which another network namespace can be entered, where one was found.
#[derive(Debug)]
pub struct NamespaceFound(pub Option<PathBuf>);

impl NamespaceFound {
    fn cleanup(&self) -> String {
        match &self.0 {
            Some(path) => format!("nsenter --net={} brattice cleanup", path.display()),
            None => "nsenter --net=<a process' /proc/PID/ns/net> brattice cleanup".to_owned(),
        }
    }
}

impl std::fmt::Display for NamespaceFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "it is {}", path.display()),
            None => f.write_str("no mount and no process leads to it"),
        }
    }
}

impl Error {
    /// For `map_err`: a failed file or socket operation.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: a failed bpf(2) call.
    pub(crate) fn bpf(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Bpf { what, source }
    }

    /// For `map_err`: a failed netlink request.
    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Netlink { what, source }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
