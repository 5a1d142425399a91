//! Which network namespace the pinned data path works in. Pins are files that every namespace of the host sees, so a directory
//! may be named by mistake whose data path is another's.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::cgroups::namespace_cookie;
use crate::error::NamespaceFound;
use crate::maps::pinned_config;
use crate::namespace::Namespace;
use crate::options::cookie_halves;
use crate::pins::{self, Pins};
use crate::sys::{self, Target};
use crate::{Error, Result};

/// Refuses pins of a data path that works in another network namespace, whether or not its agent runs. Where that namespace
/// is gone, its pins belong to nobody.
pub(crate) fn refuse_other_namespace(pins: &Pins, namespace: &Namespace) -> Result<()> {
    let refuse = |found| Err(Error::OtherNamespace { path: pins.root().to_owned(), found: NamespaceFound(found) });
    let mut listener_is_pinned = false;
    for schema in pins.schemas()? {
        let links = pins.root().join(schema).join("links");
        match target(&links.join(pins::LISTENER_LINK)) {
            Some(Target::Netns { inode }) if inode != 0 && u64::from(inode) != namespace.inode => {
                return refuse(entrance(inode));
            }
            Some(_) => listener_is_pinned = true,
            None => {}
        }
    }
    // The listener's link is the one that names its namespace. Without it, the configuration tells of which namespace the
    // data path was, and a link to an interface whether that one is alive.
    if !listener_is_pinned && is_configured_for_another(pins)? && any_interface(pins)? {
        return refuse(None);
    }
    Ok(())
}

/// Where a pinned link is attached; `None`: there is no link at this path.
fn target(pin: &Path) -> Option<Target> {
    let link = sys::obj_get(pin).ok()?;
    sys::link_info(link.as_fd()).ok().map(|info| info.target)
}

fn is_configured_for_another(pins: &Pins) -> Result<bool> {
    let Some(config) = pinned_config(pins).filter(|config| config.ready == 1) else { return Ok(false) };
    Ok(config.netns != cookie_halves(namespace_cookie()?))
}

/// Whether a link of the known schema is attached to an interface that is there.
fn any_interface(pins: &Pins) -> Result<bool> {
    let links = pins.schema().join("links");
    let attached =
        |name: &String| matches!(target(&links.join(name)), Some(Target::Interface { ifindex, .. }) if ifindex != 0);
    Ok(pins::names(&links)?.iter().any(attached))
}

/// A path by which the network namespace with this inode can be entered: a mount of it, else a process in it.
fn entrance(inode: u32) -> Option<PathBuf> {
    let link = format!("net:[{inode}]");
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    mounts.lines().find_map(|line| mount_point(line, &link)).or_else(|| process_in(&link))
}

/// The mount point in a line of `mountinfo`, if what is mounted there is this namespace.
fn mount_point(line: &str, link: &str) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(3);
    let (root, point) = (words.next()?, words.next()?);
    (root == link).then(|| point.replace("\\040", " ").into())
}

fn process_in(link: &str) -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let mut namespaces = numbered.map(|entry| entry.path().join("ns/net"));
    namespaces.find(|path| fs::read_link(path).is_ok_and(|found| found.as_os_str() == OsStr::new(link)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_a_namespace_is_found_by_its_inode() {
        let line = "912 29 0:4 net:[4026532281] /run/netns/blue\\040one rw shared:5 - nsfs nsfs rw";
        assert_eq!(mount_point(line, "net:[4026532281]"), Some("/run/netns/blue one".into()));
        assert_eq!(mount_point(line, "net:[402653228]"), None);
        assert_eq!(mount_point("30 24 0:26 / /sys rw - sysfs sysfs rw", "net:[4026532281]"), None);
        assert_eq!(mount_point("", "net:[1]"), None);
    }

    #[test]
    fn a_process_in_a_namespace_is_found_and_none_in_one_that_is_not_there() {
        let own = fs::read_link("/proc/self/ns/net").expect("a process has a network namespace");
        let found = process_in(own.to_str().expect("ASCII")).expect("this process is in it");
        assert_eq!(fs::read_link(found).ok(), Some(own));
        assert_eq!(process_in("net:[1]"), None);
    }
}
