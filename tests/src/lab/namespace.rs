//! Network namespaces with a name.

use std::{fs::File, process::Command, sync::Arc};

use nix::sched::{CloneFlags, setns};

use super::commands::{Output, output, sh};

/// A named network namespace. It lives until the lab's end.
#[derive(Clone)]
pub struct Namespace {
    /// Its name in /run/netns.
    pub name: String,
    handle: Arc<File>,
}

impl Namespace {
    /// Makes one, with its loopback up.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn create(name: &str) -> Self {
        sh(&format!("ip netns add {name}"));
        sh(&format!("ip -n {name} link set lo up"));
        let handle = File::open(format!("/run/netns/{name}")).expect("just made");
        Self { name: name.to_owned(), handle: Arc::new(handle) }
    }

    /// Moves the calling thread into it for good.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn enter_this_thread(&self) {
        setns(&*self.handle, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
    }

    /// Runs a closure on a thread of its own inside; sockets it makes stay inside wherever they are used later.
    ///
    /// # Panics
    /// When the closure does.
    #[track_caller]
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter_this_thread();
                work()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A program inside. (Not `ip netns exec`: that mounts a new /sys, which hides the bpffs.)
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    /// Runs a program inside to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn run(&self, line: &[&str]) -> Output {
        output(self.command(line[0]).args(&line[1..]))
    }

    /// Runs a line of words inside; it must succeed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.run(&words);
        assert!(output.ok(), "`{line}` in {} failed with {}: {}", self.name, output.code, output.text());
        output.stdout
    }

    /// `ip` with a line of arguments; it must succeed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ip(&self, line: &str) -> String {
        sh(&format!("ip -n {} {line}", self.name))
    }

    /// Runs a program that sees /etc/netns/<name>/resolv.conf as /etc/resolv.conf.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn run_with_resolver(&self, line: &[&str]) -> Output {
        output(Command::new("ip").args(["netns", "exec", &self.name]).args(line))
    }
}
