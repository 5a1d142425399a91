//! The socket programs at the root of the cgroups, and their hooks.

use brattice_abi as abi;

/// The hooks of socket addresses (`BPF_CGROUP_*`).
const BIND4: u32 = 8;
const BIND6: u32 = 9;
const CONNECT4: u32 = 10;
const CONNECT6: u32 = 11;
const SENDMSG4: u32 = 14;
const SENDMSG6: u32 = 15;

/// The programs and their hooks, in the order in which they are attached.
pub(crate) const HOOKS: [(&str, u32); 6] = [
    (abi::HOST_CONNECT4, CONNECT4),
    (abi::HOST_CONNECT6, CONNECT6),
    (abi::HOST_SENDMSG4, SENDMSG4),
    (abi::HOST_SENDMSG6, SENDMSG6),
    (abi::HOST_BIND4, BIND4),
    (abi::HOST_BIND6, BIND6),
];
