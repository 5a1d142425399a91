//! The root of the cgroups, which the programs of sockets sit at.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use brattice_abi as abi;

use crate::{Error, Result, sys};

/// The hooks of socket addresses (`BPF_CGROUP_*`).
const BIND4: u32 = 8;
const BIND6: u32 = 9;
const CONNECT4: u32 = 10;
const CONNECT6: u32 = 11;
const SENDMSG4: u32 = 14;
const SENDMSG6: u32 = 15;

/// The programs at the root of the cgroups and their hooks.
pub(crate) const HOOKS: [(&str, u32); 6] = [
    (abi::HOST_CONNECT4, CONNECT4),
    (abi::HOST_CONNECT6, CONNECT6),
    (abi::HOST_SENDMSG4, SENDMSG4),
    (abi::HOST_SENDMSG6, SENDMSG6),
    (abi::HOST_BIND4, BIND4),
    (abi::HOST_BIND6, BIND6),
];

/// Inode of the root of all cgroups; that of a cgroup namespace or a container has another.
const ROOT_INODE: u64 = 1;
/// The root of the cgroup v2 hierarchy, as this process sees it.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    directory: File,
    id: u64,
}

impl Root {
    /// Finds it; `None` where no cgroup v2 is mounted.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn find() -> Result<Option<Self>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(Error::io("reading /proc/self/mountinfo"))?;
        let Some(path) = mount_point(&mounts) else { return Ok(None) };
        let what = || format!("opening {}", path.display());
        let directory = File::open(&path).map_err(Error::io(what()))?;
        let id = directory.metadata().map_err(Error::io(what()))?.ino();
        Ok(Some(Self { path, directory, id }))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether all processes of the machine are below it. In a container's cgroup namespace they are not, and what is
    /// attached there misses the others.
    #[must_use]
    pub fn is_of_the_machine(&self) -> bool {
        self.id == ROOT_INODE
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn directory(&self) -> &File {
        &self.directory
    }
}

/// The mount point of a `cgroup2` file system in the text of `mountinfo`.
pub(crate) fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// `SO_NETNS_COOKIE` of the calling thread's network namespace.
///
/// # Errors
/// When the kernel has no such cookies (before 5.14).
pub(crate) fn namespace_cookie() -> Result<u64> {
    sys::netns_cookie().map_err(Error::io("asking for the cookie of this network namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_point_is_found_wherever_it_is() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
                      31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                      33 30 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("33 30 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }
}
