//! Programs that run while others are measured.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use brattice_tests::lab::Namespace;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::cpu;

/// A running program; it and what it started are killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it inside of `namespace` and waits until it listens on a port there.
    ///
    /// # Errors
    /// When it does not start, ends, or does not listen in time; with its output.
    pub(crate) fn start(
        name: &str,
        command: &mut Command,
        namespace: &Namespace,
        port: u16,
        patience: Duration,
    ) -> Result<Self> {
        let log = std::env::temp_dir().join(format!("bench-{}-{port}.log", namespace.name));
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut daemon = Self { child };
        let deadline = Instant::now() + patience;
        loop {
            if listens(namespace, port) {
                let _ = std::fs::remove_file(&log);
                return Ok(daemon);
            }
            let ended = daemon.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log_text = std::fs::read_to_string(&log).unwrap_or_default();
                let _ = std::fs::remove_file(&log);
                bail!(
                    "{name} does not listen on port {port}{}:\n{log_text}",
                    if ended.is_some() { ": it ended" } else { "" }
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its processes now.
    pub(crate) fn pids(&self) -> BTreeSet<i32> {
        cpu::with_children(self.child.id().cast_signed())
    }
}

fn listens(namespace: &Namespace, port: u16) -> bool {
    namespace.sh(&format!("ss -Hltn sport = :{port}")).contains(&format!(":{port}"))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Connects from inside of a namespace.
///
/// # Errors
/// When the connection is refused or takes too long.
pub(crate) fn connect(namespace: &Namespace, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    namespace.enter(|| TcpStream::connect_timeout(&to, patience))
}
