//! `brattice bypass` and `brattice detach`.

use brattice_abi::{MODE_BYPASS, MODE_DETACH, SWITCH_ALL, SWITCH_SERVICE, SWITCH_WORKLOAD, SwitchKey};

use crate::{maps::SWITCHES, report::now_ns};

/// The mode in force for one scope, or 0. A switch whose time is over counts as absent, agent or no agent.
#[inline(always)]
fn mode(scope: u32, id: u32) -> u32 {
    // SAFETY: the value is only read, and its fields are read once each; the agent replaces whole values.
    match unsafe { SWITCHES.get(SwitchKey { scope, id }) } {
        Some(switch) if switch.until_ns == 0 || now_ns() < switch.until_ns => switch.mode,
        _ => 0,
    }
}

/// Is everything detached?
#[inline(always)]
pub(crate) fn all_detached() -> bool {
    mode(SWITCH_ALL, 0) == MODE_DETACH
}

/// Is this workload detached by a switch of its own?
#[inline(always)]
pub(crate) fn workload_detached(workload: u32) -> bool {
    mode(SWITCH_WORKLOAD, workload) == MODE_DETACH
}

/// Is this service detached by a switch of its own?
#[inline(always)]
pub(crate) fn service_detached(service: u32) -> bool {
    mode(SWITCH_SERVICE, service) == MODE_DETACH
}

/// Are new connections of this workload to this service relayed without L7?
#[inline(always)]
pub(crate) fn bypassed(workload: u32, service: u32) -> bool {
    mode(SWITCH_ALL, 0) == MODE_BYPASS
        || mode(SWITCH_WORKLOAD, workload) == MODE_BYPASS
        || mode(SWITCH_SERVICE, service) == MODE_BYPASS
}
