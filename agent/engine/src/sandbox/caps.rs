//! All five capability sets become empty (capabilities(7)).
#![allow(unsafe_code, reason = "capset(2) has no wrapper in libc")]

use super::{
    SandboxError,
    user::{ZERO, prctl},
};

/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit words per set.
const VERSION_3: u32 = 0x2008_0522;
/// More capabilities than any kernel has; the loop ends at the kernel's own last one.
const MOST_CAPABILITIES: libc::c_ulong = 64;
/// `SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED`: uid 0 and
/// ambient capabilities mean nothing to this process any more.
const SECUREBITS: libc::c_ulong = 0b1100_0011;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Empties the bounding and the ambient set; needs `CAP_SETPCAP`, so it comes before the change of user.
pub(super) fn drop_bounding_set() -> Result<(), SandboxError> {
    for capability in 0..MOST_CAPABILITIES {
        // SAFETY: takes integers only.
        match unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, ZERO, ZERO, ZERO) } {
            1 => prctl(libc::PR_CAPBSET_DROP, capability, "drop a capability from the bounding set")?,
            0 => {}
            // EINVAL: past the kernel's last capability.
            _ => break,
        }
    }
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, "clear the ambient capabilities")?;
    prctl(libc::PR_SET_SECUREBITS, SECUREBITS, "lock the secure bits")
}

/// Empties the effective, permitted and inheritable sets.
pub(super) fn drop_all() -> Result<(), SandboxError> {
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [Sets::default(); 2];
    // SAFETY: both pointers are valid for the call, and version 3 asks for exactly two `Sets`.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) } != 0 {
        return Err(SandboxError::last("drop all capabilities"));
    }
    Ok(())
}

/// Asks the kernel whether really nothing is left.
pub(super) fn check_none() -> Result<(), SandboxError> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets { effective: u32::MAX, permitted: u32::MAX, inheritable: u32::MAX }; 2];
    // SAFETY: both pointers are valid for the call, and version 3 fills exactly two `Sets`.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) } != 0 {
        return Err(SandboxError::last("read the capabilities"));
    }
    if sets != [Sets::default(); 2] {
        return Err(SandboxError::Left("effective, permitted or inheritable"));
    }
    for capability in 0..MOST_CAPABILITIES {
        // SAFETY: takes integers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, ZERO, ZERO, ZERO) } == 1 {
            return Err(SandboxError::Left("bounding"));
        }
        // SAFETY: takes integers only.
        let ambient = unsafe {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as libc::c_ulong, capability, ZERO, ZERO)
        };
        if ambient == 1 {
            return Err(SandboxError::Left("ambient"));
        }
    }
    Ok(())
}
