//! Everything of Brattice that touches the kernel from user space: loading, attaching and pinning the eBPF programs, typed
//! map handles, the device, routes and nftables table of the data path, interface inventory and events, sockets, probes,
//! and cleanup.
//!
//! All functions act in the calling thread's network namespace; the agent is started inside the node's.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod adopt;
pub mod announce;
mod cgroup_hooks;
pub mod cgroups;
pub mod cleanup;
pub mod coexistence;
mod datapath;
mod debug_log;
mod detours;
pub mod device;
mod error;
mod events;
mod filters;
pub mod first_packets;
mod hook;
mod inotify;
mod instances;
pub mod interfaces;
mod ipv6;
mod links;
mod maps;
mod namespace;
mod netlink;
mod nft;
mod object;
mod options;
mod own_thread;
mod pin_owner;
mod pin_watch;
mod pins;
pub mod preflight;
pub mod probe;
pub mod ranges;
mod readiness;
mod replace;
pub mod routes;
mod rules;
mod socket_option;
pub mod sockets;
mod sys;

pub use aya::Pod;
pub use brattice_abi as abi;
pub use datapath::{Attachment, Datapath};
pub use debug_log::DebugLog;
pub use error::{Error, NamespaceFound, PinsFound, Result};
pub use events::{Events, describe_drop};
pub use hook::Hook;
pub use ipv6::{Ipv6, ipv6};
pub use maps::{Maps, Table, open_pinned_switches};
pub use options::{EbpfLog, Ipv6Ranges, Options, check_engine_uid};
pub use pin_watch::PinWatch;
