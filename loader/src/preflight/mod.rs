//! Checks before the agent starts: does this host fit, do the ranges collide, and does a packet get through.

mod active;
mod addresses;
mod elsewhere;
mod firewall;
mod host;
mod overlaps;
mod trace;

pub use active::{Leg, Report, no_other_instance, probe, probe_alone};
pub(crate) use addresses::forget;
pub use firewall::{BaseChain, Keeper, base_chains, dropping_chains};
pub(crate) use firewall::{FIREWALLD_FIX, UFW_FIX};
pub use host::host;
pub use overlaps::{Overlap, free_range, overlaps};
pub use trace::Culprit;
pub(crate) use trace::TRACE_TABLE;
