//! The root of the cgroups, where the socket programs are attached.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cgroup_hooks::HOOKS;
use crate::links::Link;
use crate::object::Loaded;
use crate::pins::Pins;
use crate::sys::{self, Target};
use crate::{Error, Result};

/// The links of [`HOOKS`], by program, and the id of the root that they are at. The root is not kept open: no process could
/// unmount it.
#[derive(Debug, Default)]
pub(crate) struct Links {
    root: Option<u64>,
    by_program: BTreeMap<&'static str, Link>,
}

impl Links {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&&'static str, &Link)> {
        self.by_program.iter()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Link> {
        self.by_program.values()
    }
}

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
        let Some(path) = mounted() else { return Ok(None) };
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
}

/// Where cgroup v2 is mounted.
pub(crate) fn mounted() -> Option<PathBuf> {
    mount_point(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The mount point of a `cgroup2` file system in the text of `mountinfo`.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Takes up the pinned links of these programs, and attaches those that are not attached, where there is a root; whether
/// anything had to be done.
pub(crate) fn ensure(programs: &[(&'static str, Loaded)], links: &mut Links, pins: &Pins) -> Result<bool> {
    let root = Root::find()?;
    links.root = root.as_ref().map(|root| root.id);
    let Some(root) = root else { return Ok(false) };
    let links = &mut links.by_program;
    let mut done = false;
    for ((name, loaded), (_, hook)) in programs.iter().zip(HOOKS) {
        let target = Target::Cgroup { id: root.id, hook };
        if links.get(name).map_or(Ok(false), |link| link.works(loaded.id, target))? {
            continue;
        }
        links.remove(name);
        let pin = pins.link(name);
        let link = match Link::adopt(&pin, loaded.id, target)? {
            Some(link) => link,
            None => {
                done = true;
                Link::cgroup(&loaded.fd, &root.directory, hook, name, pin)?
            }
        };
        links.insert(name, link);
    }
    Ok(done)
}

/// Whether all are attached to the root that [`ensure`] found. Where it found none, whether there still is none.
pub(crate) fn whole(programs: &[(&'static str, Loaded)], links: &Links) -> Result<bool> {
    let Some(id) = links.root else { return Ok(Root::find()?.is_none()) };
    for ((name, loaded), (_, hook)) in programs.iter().zip(HOOKS) {
        let target = Target::Cgroup { id, hook };
        if !links.by_program.get(name).map_or(Ok(false), |link| link.works(loaded.id, target))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What [`crate::Datapath::footprint`] says of it.
pub(crate) fn describe() -> String {
    match Root::find() {
        Ok(Some(root)) if root.is_of_the_machine() => format!("programs at the cgroup root {}", root.path.display()),
        Ok(Some(root)) => {
            format!("programs at {}, which is a container's: WHAT RUNS OUTSIDE OF IT IS NOT SEEN", root.path.display())
        }
        Ok(None) => "no cgroup v2 is mounted: THE ENGINE'S REACH IS NOT BOUNDED".to_owned(),
        Err(error) => format!("cgroups cannot be asked for: {error}"),
    }
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
