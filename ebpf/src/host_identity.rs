//! Which workload a process of the host is, and its addresses.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use brattice_abi::{ANY_UID, Address, Config, Host, HostKey, MAX_CGROUP_DEPTH};

use crate::{
    config::Ranges,
    maps::HOSTS,
};

/// No address.
pub(crate) const NONE: Address = Address([0; 16]);

/// The workload that the current process is, by the deepest cgroup around it that is one; of one cgroup, the user's own
/// entry before everybody's.
#[inline(always)]
pub(crate) fn of_current(uid: u32) -> Option<&'static Host> {
    let mut level = MAX_CGROUP_DEPTH;
    while level > 0 {
        level -= 1;
        // SAFETY: takes a number; 0 where the process is not that deep.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        if cgroup == 0 {
            continue;
        }
        let mut key = HostKey { cgroup, uid, pad: 0 };
        // SAFETY: the value is only read; the agent replaces whole values. So below.
        if let Some(host) = unsafe { HOSTS.get(key) } {
            return Some(host);
        }
        key.uid = ANY_UID;
        // SAFETY: as above.
        if let Some(host) = unsafe { HOSTS.get(key) } {
            return Some(host);
        }
    }
    None
}

/// In the VIP range, of either family?
#[inline(always)]
pub(crate) fn is_vip(config: &Config, address: &Address) -> bool {
    if is_v4(address) {
        return Ranges::is_vip(config, u32::from_be(words(address)[3]));
    }
    let (a, net) = (words(address), words(&config.vip_net6));
    net[0] != 0 && (a[0] ^ net[0]) | (a[1] ^ net[1]) == 0
}

/// IPv4-mapped?
#[inline(always)]
pub(crate) fn is_v4(address: &Address) -> bool {
    let words = words(address);
    words[0] | words[1] | (words[2] ^ 0xffff_0000) == 0
}

/// The four words of an address, as they lie in memory.
#[inline(always)]
pub(crate) fn words(address: &Address) -> [u32; 4] {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute::<Address, [u32; 4]>(*address) }
}

/// The reverse of [`words`].
#[inline(always)]
pub(crate) fn from_words(words: [u32; 4]) -> Address {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute::<[u32; 4], Address>(words) }
}

/// Are they the same? (Compared byte by byte, it would be a call.)
#[inline(always)]
pub(crate) fn same(one: &Address, other: &Address) -> bool {
    let (a, b) = (words(one), words(other));
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
}

const _: () = assert!(cfg!(target_endian = "little"), "the marker of an IPv4-mapped address is that of such a machine");
