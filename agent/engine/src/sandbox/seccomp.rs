//! The system calls that are still allowed (seccomp(2)).
//!
//! Three filters are stacked; the strictest answer wins:
//!
//! 1. [`FATAL`]: calls that the engine never makes and that an attacker with code execution would try first. They kill
//!    the process: the agent sees `SIGSYS`, says so, and starts a clean engine.
//! 2. `clone3` answers `ENOSYS`, so that the C library falls back to `clone`, whose flags a filter can read.
//! 3. [`allowed`]: everything else that is not in the list answers `EPERM`. Not a kill: a library that asks for
//!    something harmless in a corner (a memory setting in /proc, say) must not take the node's traffic down; it gets
//!    nothing, which is all that is needed. No call that opens, makes or changes a file is in the list, memory can not
//!    become executable, no process can be started, and sockets are TCP and UDP only.
//!
//! Calls without a condition on arguments cost nothing: the kernel keeps them in a bitmap.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::SandboxError;

/// Calls that kill the engine.
pub const FATAL: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_pidfd_getfd,
];

/// Calls that are allowed with any arguments.
const FREE: &[c_long] = &[
    // Bytes in and out of descriptors that are open already.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_shutdown,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    // Sockets; what they may be is decided when they are made.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    // Time and chance; clock_gettime is normally the vDSO's.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // Memory that is given back or grows; making it is conditional.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // Threads and signals of our own.
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Older forms of calls in [`FREE`] that only this architecture has.
#[cfg(target_arch = "x86_64")]
const FREE_HERE: &[c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
/// Older forms of calls in [`FREE`] that only this architecture has.
#[cfg(not(target_arch = "x86_64"))]
const FREE_HERE: &[c_long] = &[];

/// Options of sockets: `SOL_SOCKET`.
const SOCKET_OPTIONS: &[i32] = &[
    libc::SO_KEEPALIVE,
    libc::SO_LINGER,
    libc::SO_RCVBUF,
    libc::SO_SNDBUF,
    libc::SO_REUSEADDR,
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
];
/// `IPPROTO_TCP`.
const TCP_OPTIONS: &[i32] = &[
    libc::TCP_NODELAY,
    libc::TCP_CORK,
    libc::TCP_QUICKACK,
    libc::TCP_KEEPIDLE,
    libc::TCP_KEEPINTVL,
    libc::TCP_KEEPCNT,
    libc::TCP_USER_TIMEOUT,
    libc::TCP_NOTSENT_LOWAT,
];
/// `IPPROTO_IP`.
const IP_OPTIONS: &[i32] = &[libc::IP_BIND_ADDRESS_NO_PORT, libc::IP_FREEBIND, libc::IP_TOS, libc::IP_MTU_DISCOVER];
/// `IPPROTO_IPV6`.
const IPV6_OPTIONS: &[i32] = &[libc::IPV6_V6ONLY, libc::IPV6_FREEBIND, libc::IPV6_TCLASS];
/// fcntl(2) commands.
const FCNTL: &[i32] = &[libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];
/// ioctl(2) requests: they ask a descriptor about its queues or set its mode.
const IOCTL: &[u64] = &[libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::TIOCOUTQ];

/// Installs the filters; later threads inherit them.
pub(super) fn install() -> Result<(), SandboxError> {
    let kill = FATAL.iter().map(|&call| (call, Vec::new())).collect();
    apply(kill, SeccompAction::Allow, SeccompAction::KillProcess)?;
    let fall_back = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply(fall_back, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs()))?;
    let rules = allowed(std::process::id()).map_err(|error| SandboxError::Filter(error.to_string()))?;
    apply(rules, SeccompAction::Errno(libc::EPERM.unsigned_abs()), SeccompAction::Allow)
}

fn apply(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<(), SandboxError> {
    let invalid = |error: &dyn std::fmt::Display| SandboxError::Filter(error.to_string());
    let architecture = std::env::consts::ARCH.try_into().map_err(|error: seccompiler::BackendError| invalid(&error))?;
    let filter = SeccompFilter::new(rules, otherwise, matching, architecture).map_err(|error| invalid(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error: seccompiler::BackendError| invalid(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| SandboxError::Refused {
        what: "install a seccomp filter",
        error: std::io::Error::other(error),
    })
}

/// A 32-bit argument; the kernel ignores the upper half of these.
fn int(index: u8, operator: SeccompCmpOp, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value.cast_unsigned()))
}

fn any_of(index: u8, values: &[i32]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    values.iter().map(|&value| SeccompRule::new(vec![int(index, SeccompCmpOp::Eq, value)?])).collect()
}

/// The allow-list of process `pid`.
fn allowed(pid: u32) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};

    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        FREE.iter().chain(FREE_HERE).map(|&call| (call, Vec::new())).collect();

    // socket(2): TCP and UDP over IPv4 and IPv6. No Unix sockets: daemons of the host listen on those for all users.
    let kind_mask = MaskedEq(!u64::from((libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).cast_unsigned()) & 0xffff_ffff);
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)] {
            for protocol in [0, protocol] {
                sockets.push(SeccompRule::new(vec![
                    int(0, Eq, family)?,
                    int(1, kind_mask.clone(), kind)?,
                    int(2, Eq, protocol)?,
                ])?);
            }
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    // The runtime makes one for signals. A stream of a pair is connected to the other one for good, and sends to no one
    // else, which a datagram socket could.
    let pair = vec![int(0, Eq, libc::AF_UNIX)?, int(1, kind_mask, libc::SOCK_STREAM)?, int(2, Eq, 0)?];
    rules.insert(libc::SYS_socketpair, vec![SeccompRule::new(pair)?]);

    let mut options = Vec::new();
    for (level, names) in [
        (libc::SOL_SOCKET, SOCKET_OPTIONS),
        (libc::IPPROTO_TCP, TCP_OPTIONS),
        (libc::IPPROTO_IP, IP_OPTIONS),
        (libc::IPPROTO_IPV6, IPV6_OPTIONS),
    ] {
        for &name in names {
            options.push(SeccompRule::new(vec![int(1, Eq, level)?, int(2, Eq, name)?])?);
        }
    }
    rules.insert(libc::SYS_setsockopt, options);

    rules.insert(libc::SYS_fcntl, any_of(1, FCNTL)?);
    let requests = IOCTL
        .iter()
        .map(|&request| SeccompRule::new(vec![SeccompCondition::new(1, SeccompCmpArgLen::Dword, Eq, request)?]));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);

    // Memory: never executable.
    let exec = u64::from(libc::PROT_EXEC.cast_unsigned());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![int(2, MaskedEq(exec), 0)?])?]);
    }

    // Threads, not processes.
    let thread = libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND;
    let thread_mask = MaskedEq(u64::from(thread.cast_unsigned()));
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![int(0, thread_mask, thread)?])?]);
    // Answered by the filter of its own, before this one is asked.
    rules.insert(libc::SYS_clone3, Vec::new());

    // Signals to ourselves (abort), names of threads, limits only read.
    rules.insert(libc::SYS_tgkill, any_of(0, &[pid.cast_signed()])?);
    rules.insert(libc::SYS_prctl, any_of(0, &[libc::PR_SET_NAME, libc::PR_GET_NAME])?);
    let unset = SeccompCondition::new(2, SeccompCmpArgLen::Qword, Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![unset])?]);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_fatal_is_allowed() {
        let rules = allowed(1).unwrap();
        assert!(FATAL.iter().all(|call| !rules.contains_key(call)));
        for call in [libc::SYS_openat, libc::SYS_listen, libc::SYS_kill, libc::SYS_memfd_create] {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }
}
