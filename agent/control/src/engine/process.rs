//! The engine's process: started, or found running; watched by pidfd.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// An engine in another network namespace: it belongs to another node, whose agent may be dead while it serves on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the engine that {} names (process {pid}) works in another network namespace, which is another node. Nothing was touched. An \
     agent here needs a --run-dir of its own. To remove that node, run cleanup in its namespace, with its agent's directories: \
     nsenter --net=/proc/{pid}/ns/net brattice cleanup", record.display()
)]
pub struct EngineOfOtherNamespace {
    record: PathBuf,
    pid: u32,
}

/// What is written next to the sockets, so that a later agent or `brattice cleanup` finds the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22): distinguishes a process from a later one with
    /// the same id.
    pub start_ticks: u64,
}

impl Record {
    /// Reads a record; `None` where there is none or it is broken.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// The recorded process, if it still runs and belongs to `uid` (or to root: not yet dropped).
    pub fn running(self, uid: u32) -> Option<Process> {
        self.find(|owner| owner == uid || owner == 0)
    }

    /// The recorded process if it still runs, under any user.
    pub fn running_as_any_user(self) -> Option<Process> {
        self.find(|_| true)
    }

    /// Refuses the process that this file records if it works in another network namespace than the calling thread.
    ///
    /// # Errors
    /// [`EngineOfOtherNamespace`].
    pub fn refuse_other_namespace(path: &Path) -> Result<(), EngineOfOtherNamespace> {
        let Some(process) = Self::read(path).and_then(Self::running_as_any_user) else { return Ok(()) };
        let inode = |path: String| fs::metadata(path).map(|found| found.ino());
        match (inode(format!("/proc/{}/ns/net", process.pid)), inode("/proc/thread-self/ns/net".to_owned())) {
            (Ok(theirs), Ok(own)) if theirs != own => {
                Err(EngineOfOtherNamespace { record: path.to_owned(), pid: process.pid })
            }
            // One that is just ending has none.
            _ => Ok(()),
        }
    }

    fn find(self, fits: impl Fn(u32) -> bool) -> Option<Process> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        // First the handle, then the checks: what is checked cannot be another process any more.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let owner = fs::metadata(format!("/proc/{}", self.pid)).ok()?.uid();
        (fits(owner) && start_ticks(self.pid) == Some(self.start_ticks)).then_some(())?;
        Process::new(self.pid, pidfd, None).ok()
    }
}

/// A process with a handle that cannot come to mean another one.
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When the agent started or found it.
    pub since: Instant,
    pidfd: AsyncFd<OwnedFd>,
    child: Option<Child>,
}

impl Process {
    fn new(pid: u32, pidfd: OwnedFd, child: Option<Child>) -> io::Result<Self> {
        #[allow(unsafe_code, reason = "tokio leaves it to the caller that the descriptor stays the same")]
        // SAFETY: an `OwnedFd` always is the descriptor it was made of, until it is dropped.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, tokio::io::Interest::READABLE) }?;
        Ok(Self { pid, since: Instant::now(), pidfd, child })
    }

    /// Starts the engine, with `link` as its standard input. It outlives the agent: own process group, no terminal, no
    /// other inherited descriptors but stderr.
    ///
    /// # Errors
    /// When the program cannot be executed.
    pub fn start(program: &Path, arguments: &[std::ffi::OsString], link: impl Into<Stdio>) -> io::Result<Self> {
        let mut command = Command::new(program);
        for name in crate::notify::ENVIRONMENT {
            command.env_remove(name);
        }
        let child =
            command.args(arguments).current_dir("/").stdin(link).stdout(Stdio::null()).process_group(0).spawn()?;
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        Self::new(child.id(), pidfd, Some(child))
    }

    /// Takes over a process that connected to us; `uid` is checked again on the handle.
    ///
    /// # Errors
    /// When it is gone, or its id belongs to another process.
    pub fn adopt(pid: u32, uid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty())?;
        if fs::metadata(format!("/proc/{pid}"))?.uid() != uid {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Self::new(pid, pidfd, None)
    }

    /// Waits for its end and collects it.
    pub async fn ended(&mut self) -> String {
        if let Err(e) = self.pidfd.readable().await {
            return format!("it cannot be watched: {e}");
        }
        match &mut self.child {
            Some(child) => match child.wait() {
                Ok(status) => status.to_string(),
                Err(e) => e.to_string(),
            },
            None => "it was started by an earlier agent".to_owned(),
        }
    }

    /// Ends it at once.
    pub fn kill(&self) {
        // It may be gone already.
        let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }

    /// What [`Record::running`] needs.
    pub fn record(&self) -> Option<Record> {
        Some(Record { pid: self.pid, start_ticks: start_ticks(self.pid)? })
    }
}

/// Field 22 of `/proc/<pid>/stat`; the name in field 2 may hold anything, so it is counted from the last `)`.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_record_finds_its_process_and_no_other() {
        let uid = rustix::process::geteuid().as_raw();
        let mut process = Process::start(Path::new("/bin/sleep"), &["60".into()], Stdio::null()).unwrap();
        let record = process.record().unwrap();
        assert!(record.running(uid).is_some());
        assert!(Record { start_ticks: record.start_ticks + 1, ..record }.running(uid).is_none());
        process.kill();
        process.ended().await;
        assert!(record.running(uid).is_none());
    }

    #[tokio::test]
    async fn a_process_of_another_user_is_not_adopted() {
        let mut process = Process::start(Path::new("/bin/sleep"), &["60".into()], Stdio::null()).unwrap();
        assert!(Process::adopt(process.pid, 4_242).is_err());
        process.kill();
        process.ended().await;
    }
}
