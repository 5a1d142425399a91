//! Cgroups: the root that the programs of sockets sit at, and the ids of those that documents name.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use brattice_abi as abi;

use crate::{Error, Result, sys};

/// `BPF_CGROUP_INET_EGRESS` and the hooks of socket addresses.
const INET_EGRESS: u32 = 1;
const BIND4: u32 = 8;
const BIND6: u32 = 9;
const CONNECT4: u32 = 10;
const CONNECT6: u32 = 11;
const SENDMSG4: u32 = 14;
const SENDMSG6: u32 = 15;

/// The programs at the root of the cgroups and their hooks.
pub(crate) const HOOKS: [(&str, u32); 7] = [
    (abi::HOST_CONNECT4, CONNECT4),
    (abi::HOST_CONNECT6, CONNECT6),
    (abi::HOST_SENDMSG4, SENDMSG4),
    (abi::HOST_SENDMSG6, SENDMSG6),
    (abi::HOST_BIND4, BIND4),
    (abi::HOST_BIND6, BIND6),
    // Sees every packet of the host, and is attached only while there is a workload for it.
    (abi::HOST_EGRESS, INET_EGRESS),
];

/// Inode of the root of all cgroups; that of a cgroup namespace or a container has another.
const ROOT_INODE: u64 = 1;
/// Most cgroups of one pattern.
pub const MAX_MATCHES: usize = 1_024;

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

    /// Ids of the cgroups that a path below the root means now, ascending; each of its parts is matched by `matches`. At
    /// most [`MAX_MATCHES`]. `/` is the root. A cgroup that vanishes meanwhile is left out.
    #[must_use]
    pub fn resolve(&self, path: &str, matches: &dyn Fn(&str, &str) -> bool) -> Vec<u64> {
        let mut found = vec![self.path.clone()];
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for folder in &found {
                if !part.contains(['*', '?']) {
                    next.push(folder.join(part));
                    continue;
                }
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                next.extend(entries.map(|entry| entry.path()).filter(|path| {
                    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| matches(part, name))
                        && path.is_dir()
                }));
            }
            next.truncate(MAX_MATCHES);
            found = next;
        }
        let mut ids: Vec<u64> = found
            .iter()
            .filter_map(|path| fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|metadata| metadata.ino()))
            .collect();
        ids.sort_unstable();
        ids
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

    #[test]
    fn patterns_are_resolved_part_by_part() {
        let place = tempfile::tempdir().expect("a temporary directory");
        for folder in ["a.slice/one.service", "a.slice/two.service", "b.slice/one.service"] {
            fs::create_dir_all(place.path().join(folder)).expect("a directory");
        }
        fs::write(place.path().join("a.slice/cgroup.procs"), "").expect("a file");
        let directory = File::open(place.path()).expect("opened");
        let root = Root { path: place.path().to_owned(), directory, id: 1 };
        let matches = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name,
        };
        let ids = |path| root.resolve(path, &matches).len();
        assert_eq!(ids("/"), 1);
        assert_eq!(ids("a.slice/one.service"), 1);
        assert_eq!(ids("a.slice/*"), 2);
        assert_eq!(ids("*/one.service"), 2);
        assert_eq!(ids("c.slice/one.service"), 0);
        // A file is no cgroup.
        assert_eq!(ids("a.slice/cgroup.procs"), 0);
    }
}
