//! Cgroups of a test's own, with processes that were started in them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{Namespace, commands::Output, output};

/// A cgroup below the root of the hierarchy; removed when dropped, once its processes ended.
pub struct Cgroup {
    /// Its path below the root.
    pub name: String,
    folder: PathBuf,
}

/// Where cgroup v2 is mounted.
///
/// # Panics
/// When it is not.
#[must_use]
pub fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts are told");
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2 is mounted");
    Path::new(line.split(' ').nth(4).expect("a mount point")).to_owned()
}

impl Cgroup {
    /// Makes it.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn create(name: &str) -> Self {
        let folder = cgroup_root().join(name);
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("the cgroup {name}: {error}"));
        Self { name: name.to_owned(), folder }
    }

    /// A program that is in this cgroup from before its first instruction, with a user's rights, in a namespace.
    #[must_use]
    pub fn command(&self, namespace: &Namespace, uid: u32, program: &str) -> Command {
        let mut command = namespace.command("sh");
        let procs = self.folder.join("cgroup.procs");
        let enter =
            format!("echo $$ >{} && exec setpriv --reuid {uid} --regid {uid} --clear-groups \"$@\"", procs.display());
        command.args(["-c", &enter, "sh", program]);
        command
    }

    /// Runs a program as [`Self::command`] does, to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn run(&self, namespace: &Namespace, uid: u32, line: &[&str]) -> Output {
        output(self.command(namespace, uid, line[0]).args(&line[1..]))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..200 {
            match fs::remove_dir(&self.folder) {
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}
