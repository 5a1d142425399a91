//! A running guest.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::{Initramfs, Kernel};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Lines of the console that an error quotes: a panic and its trace fit, whatever else is on the stack.
const LAST_WORDS: usize = 120;

/// How a guest is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Processors.
    pub processors: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Added to the kernel's command line.
    pub command_line: String,
    /// An existing tap device of the calling thread's network namespace, and the MAC the guest's card (`virtio-net`) has.
    pub tap: Option<(String, String)>,
    /// Ended when it runs longer.
    pub within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { processors: 2, memory: 1024, command_line: String::new(), tap: None, within: Duration::from_secs(120) }
    }
}

/// The result.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The script's exit code.
    pub code: i32,
    /// What the script printed.
    pub lines: Vec<String>,
    /// What the kernel printed.
    pub console: String,
    /// From start to power off.
    pub took: Duration,
}

/// The result of a line that a guest ran.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// What it printed, to either output.
    pub text: String,
}

/// A qemu process; killed when dropped, and when the thread that started it ends.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    stdin: ChildStdin,
    folder: PathBuf,
    lines: mpsc::Receiver<String>,
    start: Instant,
    within: Duration,
}

impl Guest {
    /// Starts a guest.
    ///
    /// # Errors
    /// When qemu is missing or the files cannot be written.
    pub fn start(kernel: &Kernel, files: &Initramfs, options: &Options) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("brattice-guest-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        match Self::start_in(&folder, kernel, files, options) {
            Ok(guest) => Ok(guest),
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                Err(error)
            }
        }
    }

    fn start_in(folder: &std::path::Path, kernel: &Kernel, files: &Initramfs, options: &Options) -> Result<Self> {
        let archive = folder.join("initramfs");
        files.write(&archive)?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35,accel=tcg", "-cpu", "max"])
            .args(["-smp", &options.processors.to_string(), "-m", &format!("{}M", options.memory)])
            .arg("-kernel")
            .arg(kernel.image())
            .arg("-initrd")
            .arg(&archive)
            .arg("-serial")
            .arg(format!("file:{}", folder.join("console").display()))
            .args(["-chardev", "stdio,id=lines,signal=off", "-serial", "chardev:lines"])
            .arg("-append")
            .arg(format!("console=ttyS0 quiet panic=-1 oops=panic rdinit=/init {}", options.command_line))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.join("qemu"))?)
            .process_group(0);
        match &options.tap {
            Some((tap, mac)) => command
                .args(["-netdev", &format!("tap,id=net0,ifname={tap},script=no,downscript=no")])
                .args(["-device", &format!("virtio-net-pci,netdev=net0,mac={mac}")]),
            None => command.args(["-nic", "none"]),
        };
        die_with_parent(&mut command);
        let mut child = command.spawn().context("cannot start qemu-system-x86_64: apt-get install qemu-system-x86")?;
        let (sender, lines) = mpsc::channel();
        let stdin = child.stdin.take().context("its input was asked for")?;
        let stdout = child.stdout.take().context("its output was asked for")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, stdin, folder: folder.to_owned(), lines, start: Instant::now(), within: options.within })
    }

    /// The next line that the script prints; `None` when there was none in time. `exit CODE` is the last.
    pub fn line(&self, within: Duration) -> Option<String> {
        self.lines.recv_timeout(within).ok()
    }

    /// Waits until a guest with [`Initramfs::shell`] is up.
    ///
    /// # Errors
    /// When it is not in time: with the kernel's last output.
    pub fn ready(&self) -> Result<()> {
        while let Some(line) = self.line(self.within.saturating_sub(self.start.elapsed())) {
            if line == "ready" {
                return Ok(());
            }
        }
        bail!("the guest is not ready within {:?}; the kernel's last words:\n{}", self.within, self.last_words())
    }

    /// Has a guest with [`Initramfs::shell`] that is [`Guest::ready`] run a line of `sh`, to its end.
    ///
    /// # Errors
    /// When the line holds a line break, or the guest's time is up: with the kernel's last output.
    pub fn run(&mut self, line: &str) -> Result<Ran> {
        if line.contains('\n') {
            bail!("several lines: {line:?}");
        }
        writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush()).context("the guest is gone")?;
        let mut text = String::new();
        while let Some(line) = self.line(self.within.saturating_sub(self.start.elapsed())) {
            match line.strip_prefix("= ").and_then(|code| code.parse().ok()) {
                Some(code) => return Ok(Ran { code, text: text.trim_end().to_owned() }),
                None => text.extend([line.as_str(), "\n"]),
            }
        }
        bail!(
            "`{line}` has not ended within the guest's {:?}: {text}\nthe kernel's last words:\n{}",
            self.within,
            self.last_words()
        )
    }

    /// What the kernel printed so far.
    pub fn console(&self) -> String {
        fs::read(self.folder.join("console")).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Waits for the end; `tell` gets each line that is printed.
    ///
    /// # Errors
    /// When the guest does not end in time, or ends before its script does: with the kernel's last output.
    pub fn wait(mut self, mut tell: impl FnMut(&str)) -> Result<Outcome> {
        let mut lines = Vec::new();
        loop {
            if self.start.elapsed() > self.within {
                bail!(
                    "the guest has not ended within {:?}; the kernel's last words:\n{}",
                    self.within,
                    self.last_words()
                );
            }
            let ended = self.child.try_wait().context("cannot wait for qemu")?;
            // What it printed before it ended is still in the pipe.
            let patience = Duration::from_millis(if ended.is_some() { 500 } else { 100 });
            match self.lines.recv_timeout(patience) {
                Ok(line) => match line.strip_prefix("exit ").and_then(|code| code.trim().parse().ok()) {
                    Some(code) => {
                        let took = self.start.elapsed();
                        return Ok(Outcome { code, lines, console: self.console(), took });
                    }
                    None => {
                        tell(&line);
                        lines.push(line);
                    }
                },
                Err(_) => {
                    if let Some(status) = ended {
                        let log = fs::read_to_string(self.folder.join("qemu")).unwrap_or_default();
                        bail!(
                            "the guest ended early ({status}): {log}\nthe kernel's last words:\n{}",
                            self.last_words()
                        );
                    }
                }
            }
        }
    }

    fn last_words(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A guest must not outlive the process that started it, also if that is killed.
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only prctl(2) is called, which is safe there.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        });
    }
}
