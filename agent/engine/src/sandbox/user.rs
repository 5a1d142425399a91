//! The engine's user, and what a process can be stopped from doing without any further mechanism.
#![allow(unsafe_code, reason = "prctl and setres*id have no safe wrapper that also covers all threads' credentials")]

use super::SandboxError;

/// Leaves every supplementary group, then takes `gid` and `uid` as real, effective and saved ids.
pub(super) fn become_user(uid: u32, gid: u32) -> Result<(), SandboxError> {
    // SAFETY: a null list of length 0 is what setgroups(2) asks for to leave all groups.
    if unsafe { libc::setgroups(0, std::ptr::null()) } != 0 {
        return Err(SandboxError::last("leave all supplementary groups"));
    }
    // SAFETY: takes integers only.
    if unsafe { libc::setresgid(gid, gid, gid) } != 0 {
        return Err(SandboxError::last("become the engine's group"));
    }
    // SAFETY: takes integers only.
    if unsafe { libc::setresuid(uid, uid, uid) } != 0 {
        return Err(SandboxError::last("become the engine's user"));
    }
    // SAFETY: takes integers only. Getting root back must be impossible, or the saved ids were not changed.
    if unsafe { libc::setresuid(u32::MAX, 0, u32::MAX) } == 0 {
        return Err(SandboxError::Left("root can be taken back"));
    }
    Ok(())
}

/// From now on no `execve` can raise privileges; also what seccomp and Landlock ask for.
pub(super) fn no_new_privileges() -> Result<(), SandboxError> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, "set no_new_privs")
}

/// No core dumps (they would hold other people's requests), and no ptrace by processes of the same user.
pub(super) fn no_dumps() -> Result<(), SandboxError> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: points to a valid rlimit for the length of the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) } != 0 {
        return Err(SandboxError::last("forbid core dumps"));
    }
    // Changing the user resets this flag, so it comes afterwards.
    prctl(libc::PR_SET_DUMPABLE, 0, "make the process undumpable")
}

/// An unused argument of the variadic prctl(2), as wide as the kernel reads it.
pub(super) const ZERO: libc::c_ulong = 0;

pub(super) fn prctl(option: libc::c_int, value: libc::c_ulong, what: &'static str) -> Result<(), SandboxError> {
    // SAFETY: the options used here take integers only.
    if unsafe { libc::prctl(option, value, ZERO, ZERO, ZERO) } != 0 {
        return Err(SandboxError::last(what));
    }
    Ok(())
}
