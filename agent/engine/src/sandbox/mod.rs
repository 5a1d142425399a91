//! The privileges that the engine gives up before it reads the first byte from outside.
//!
//! The order matters: capabilities are dropped from the bounding set while the process may still do so, then the user,
//! then everything that needs no privilege at all. Nothing here can be undone by the process afterwards.

mod caps;
mod landlock;
mod seccomp;
mod user;

pub use seccomp::FATAL;

/// Why the sandbox could not be entered. The engine does not serve without it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine must not be root.
    #[error("the engine's user must not be root (uid or gid 0): give `--engine-user` a user of its own")]
    Root,
    /// A call failed that works on every supported kernel.
    #[error("cannot {what}: {error}; the engine must be started by the agent as root, on Linux 6.1 or newer")]
    Refused {
        /// The step that failed.
        what: &'static str,
        /// The error of the kernel.
        error: std::io::Error,
    },
    /// A capability survived.
    #[error(
        "capabilities are left after dropping them ({0}); something outside grants them: look at securebits and file capabilities"
    )]
    Left(&'static str),
    /// The system call filter does not compile.
    #[error("the system call filter is not valid on this machine: {0}")]
    Filter(String),
}

impl SandboxError {
    pub(crate) fn last(what: &'static str) -> Self {
        Self::Refused { what, error: std::io::Error::last_os_error() }
    }
}

/// Gives up everything; call it once, while the process has a single thread (later threads inherit all of it).
///
/// Returns what the kernel does not offer, one line each: the engine serves without these, and says so in its
/// statistics.
///
/// # Errors
/// When a part that every supported kernel has cannot be entered. The process may then be half restricted and must
/// exit.
pub fn enter(uid: u32, gid: u32) -> Result<Vec<String>, SandboxError> {
    if uid == 0 || gid == 0 {
        return Err(SandboxError::Root);
    }
    // guard: bounding-set
    caps::drop_bounding_set()?;
    user::become_user(uid, gid)?;
    caps::drop_all()?;
    user::no_new_privileges()?;
    user::no_dumps()?;
    caps::check_none()?;
    // guard: landlock
    let missing = landlock::restrict()?;
    // guard: seccomp
    seccomp::install()?;
    Ok(missing)
}
