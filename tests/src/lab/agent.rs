//! The real agent, in the node's namespace.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{ALIAS_RANGE, ENGINE_UID, Lab, Output, READERS_GID, VIP_RANGE, output, wait_until};

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Engine workers.
    pub workers: u32,
    /// Writes an access log to [`Lab::access_log`].
    pub access_log: bool,
    /// Serves metrics at [`Lab::metrics_socket`].
    pub metrics: bool,
    /// Range of the VIPs.
    pub vip_range: &'static str,
    /// The alias range it is given; none: it chooses.
    pub alias_range: Option<&'static str>,
    /// More arguments.
    pub more: Vec<String>,
    /// Waits for `ready` at most this long.
    pub within: Duration,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            workers: 2,
            access_log: false,
            metrics: false,
            vip_range: VIP_RANGE,
            alias_range: Some(ALIAS_RANGE),
            more: Vec::new(),
            within: Duration::from_secs(30),
        }
    }
}

impl AgentOptions {
    /// The usual ones, with an access log and metrics.
    pub fn recording() -> Self {
        Self { access_log: true, metrics: true, ..Self::default() }
    }
}

/// A running `brattice agent`; killed when dropped.
pub struct Agent {
    child: Child,
}

impl Agent {
    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; its exit code (-1 for a signal).
    ///
    /// # Panics
    /// When it has not ended after 15 s.
    pub fn stop(&mut self) -> i32 {
        let _ = kill(self.pid(), Signal::SIGTERM);
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.code().unwrap_or(-1),
                Ok(None) => assert!(start.elapsed() < Duration::from_secs(15), "the agent does not end on SIGTERM"),
                Err(error) => panic!("cannot wait for the agent: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The binary under test: `BRATTICE_BIN`, else the one built beside this test program.
///
/// # Panics
/// When there is none.
pub(super) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("BRATTICE_BIN") {
        return path.into();
    }
    beside("brattice")
}

/// The program `probe` of `tests/src/bin`, for the command line of another program.
///
/// # Panics
/// When it was not built.
pub fn probe() -> String {
    beside("probe").to_str().expect("a path in UTF-8").to_owned()
}

/// A program that was built with this test program. Found at run time: a clone may have moved since, and a guest has it
/// at another place.
fn beside(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("a program has a path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(path.is_file(), "no {}: run the tests with `cargo xtask test`", path.display());
    path
}

impl Lab {
    /// `brattice` with its global arguments, in the node.
    ///
    /// # Panics
    /// When the binary is missing.
    pub fn brattice_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.command(&binary().to_string_lossy());
        command.args(arguments);
        command
    }

    /// The same command as another user without any privilege. Its program is copied to a place that all users can
    /// reach: the clone may lie below a folder that only root may enter.
    ///
    /// # Panics
    /// When the command is none of [`super::Namespace::command`], or cannot be copied.
    pub fn as_user(&self, uid: u32, gid: u32, plain: &Command) -> Command {
        let words: Vec<&OsStr> = plain.get_args().collect();
        let [namespace, program, arguments @ ..] = words.as_slice() else {
            panic!("{plain:?} is no command of a namespace")
        };
        let copy = self.folder.join("for-all").join(Path::new(program).file_name().expect("a program has a name"));
        if !copy.is_file() {
            // Not by this process: a child that another thread forks would hold the file open, and it could not be run.
            let copied = output(Command::new("install").args(["-D", "-m", "755"]).arg(program).arg(&copy));
            assert!(copied.ok(), "{}", copied.text());
        }
        let mut command = Command::new(plain.get_program());
        command.arg(namespace).arg("setpriv").arg(format!("--reuid={uid}")).arg(format!("--regid={gid}"));
        command.args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]).arg(copy).args(arguments);
        command
    }

    /// Runs a verb that takes `--run-dir`.
    ///
    /// # Panics
    /// When the binary is missing.
    #[track_caller]
    pub fn brattice(&self, arguments: &[&str]) -> Output {
        output(self.brattice_command(arguments).arg("--run-dir").arg(self.run_dir()))
    }

    /// `brattice cleanup`.
    ///
    /// # Panics
    /// When the binary is missing.
    #[track_caller]
    pub fn cleanup(&self) -> Output {
        let mut command = self.brattice_command(&["cleanup"]);
        output(
            command
                .arg("--run-dir")
                .arg(self.run_dir())
                .arg("--state-dir")
                .arg(self.state_dir())
                .arg("--bpffs")
                .arg(self.bpffs()),
        )
    }

    /// Starts the agent with the usual options and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready within 30 s.
    #[track_caller]
    pub fn start_agent(&mut self) {
        self.start_agent_with(&AgentOptions::default());
    }

    /// Starts the agent and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready in time.
    #[track_caller]
    pub fn start_agent_with(&mut self, options: &AgentOptions) {
        if let Err(reason) = self.try_start_agent(options) {
            panic!("the agent is not ready: {reason}\n{}", self.log());
        }
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// When it ends or does not get ready in time.
    pub fn try_start_agent(&mut self, options: &AgentOptions) -> Result<(), String> {
        let mut child = self.agent_command(options).spawn().map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        self.agent = Some(Agent { child });
        let deadline = Instant::now() + options.within;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.trim() == "ready" => return Ok(()),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(format!("not within {:?}", options.within)),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err("it ended".to_owned()),
            }
        }
    }

    /// `brattice agent` with all its directories.
    ///
    /// # Panics
    /// When the binary is missing.
    pub fn agent_command(&self, options: &AgentOptions) -> Command {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut command = self.brattice_command(&["agent"]);
        command
            .arg("--policies")
            .arg(self.policies())
            .arg("--run-dir")
            .arg(self.run_dir())
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--bpffs")
            .arg(self.bpffs())
            .args(["--engine-user", &ENGINE_UID.to_string(), "--group", &READERS_GID.to_string()])
            .args(["--workers", &options.workers.to_string()])
            .args(["--vip-range", options.vip_range])
            .args(&options.more);
        if let Some(range) = options.alias_range {
            command.args(["--alias-range", range]);
        }
        if options.access_log {
            command.arg("--access-log").arg(self.access_log());
        }
        if options.metrics {
            command.arg("--metrics").arg(format!("unix:{}", self.metrics_socket().display()));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for us: the lab ends its processes itself.
            .process_group(0);
        command
    }

    /// The running agent.
    ///
    /// # Panics
    /// When none was started.
    pub fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("an agent was started")
    }

    /// The engine's process.
    ///
    /// # Panics
    /// When there is none within 5 s.
    #[track_caller]
    pub fn engine_pid(&self) -> Pid {
        let mut found = None;
        wait_until("the engine runs", Duration::from_secs(5), || {
            found = self.try_status().ok().and_then(|status| status.engine.pid);
            found.is_some()
        });
        Pid::from_raw(found.expect("just found").cast_signed())
    }

    /// Where agent and engine write their logs.
    pub fn log_path(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    /// What agent and engine logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Prints the end of the log: a failing test's context.
    pub(super) fn report(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(40)..];
        eprintln!("--- log of {} (last {} lines)\n{}\n---", self.id, tail.len(), tail.join("\n"));
        if let Ok(status) = self.try_status() {
            eprintln!("status: {}", serde_json::to_string(&status).unwrap_or_default());
        }
    }

    /// Leaves everything as it is when this value is dropped or this process ends.
    pub fn keep(mut self) {
        super::reaper::forget(&self.id);
        if let Some(agent) = self.agent.take() {
            std::mem::forget(agent);
        }
        std::mem::forget(self);
    }

    /// Removes a lab that was kept, by its id.
    pub fn tear_down(id: &str) {
        super::reaper::tear_down(id);
    }
}
