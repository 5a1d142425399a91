//! Which workload a process of the host is: by its cgroup, or one above it, and its user.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use brattice_abi::{ANY_USER, Address, Host, HostKey, MAX_CGROUP_DEPTH};

use crate::{
    address::{Ip, UNSPECIFIED, is_ipv4},
    maps::HOSTS,
};

/// The alias from which the calling process calls a VIP; `None` if it is no workload, or has none of this family.
#[inline(always)]
pub(crate) fn alias(uid: u32, vip: &Address) -> Option<Address> {
    let host = of_current(uid)?;
    let alias = if is_ipv4(vip) { host.alias } else { host.alias6 };
    if alias.is(UNSPECIFIED) { None } else { Some(alias) }
}

/// The cgroup nearest to the process counts, and in one cgroup the user before any user.
#[inline(always)]
fn of_current(uid: u32) -> Option<Host> {
    let mut found = None;
    for level in 1..=MAX_CGROUP_DEPTH {
        // SAFETY: takes no pointer.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if cgroup == 0 {
            break;
        }
        // SAFETY: the values are copied; the agent replaces whole values. So below.
        if let Some(host) = unsafe { HOSTS.get(HostKey { cgroup, uid, pad: 0 }) } {
            found = Some(*host);
        } else if let Some(host) = unsafe { HOSTS.get(HostKey { cgroup, uid: ANY_USER, pad: 0 }) } {
            found = Some(*host);
        }
    }
    found
}
