//! Where the documents say a workload's network namespace is: at a path, or behind the processes of a cgroup.
//!
//! Processes are asked by cgroup, never all of them: the folders of the cgroup hierarchy that a pattern can lead to are
//! walked, and of those that fit, each process' namespace is looked up. Cost: one `readdir` per folder, one `readlink` per
//! process in a cgroup that fits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use crate::namespace::{Namespace, is_namespace, own};
use crate::netlink::link;
use crate::{Error, Result, cgroups};

/// Most folders of the cgroup hierarchy that are walked.
pub const MAX_CGROUPS: usize = 16_384;
/// Most processes whose namespace is looked up at a time.
pub const MAX_PROCESSES: usize = 65_536;

/// What is asked for.
#[derive(Clone)]
pub struct Asked {
    /// Paths of network namespaces.
    pub paths: BTreeSet<String>,
    /// What the paths of cgroups begin with, below the root, that are wanted; none: no cgroup is looked at.
    pub prefixes: BTreeSet<String>,
    /// Whether a cgroup, by its path below the root, is wanted.
    pub wanted: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Whether a cgroup itself is wanted, for processes of the host.
    pub hosts: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("paths", &self.paths).field("prefixes", &self.prefixes).finish_non_exhaustive()
    }
}

/// Why a path leads to no workload's namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoNamespace {
    /// Nothing is there.
    #[error("there is nothing at this path now")]
    Missing,
    /// The process ended; another one of its number is another workload.
    #[error("the process ended; a process that has its number now is another one")]
    ProcessGone,
    /// A symlink, or one on the way out of a process' root.
    #[error("it is a symlink; name what it leads to")]
    Symlink,
    /// Something else.
    #[error("it is no network namespace but {0}")]
    Other(&'static str),
    /// This node's own.
    #[error("it is the network namespace of the node itself")]
    Host,
    /// The kernel refuses.
    #[error("it cannot be opened: {0}")]
    Refused(String),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Path → inode of the network namespace there.
    pub paths: BTreeMap<String, std::result::Result<u64, NoNamespace>>,
    /// Inode → the wanted cgroups that its processes are in.
    pub cgroups: BTreeMap<u64, BTreeSet<String>>,
    /// Inode → kinds of the interfaces in a namespace that no interface here is paired with.
    pub inside: BTreeMap<u64, BTreeSet<String>>,
    /// Path → id of the cgroups that are wanted themselves: the inode of the folder, which the kernel never gives again.
    pub hosts: BTreeMap<String, u64>,
    /// What was not looked at, and why.
    pub problem: Option<String>,
}

/// Folders of processes that paths name, held so that another process of the same number is not taken for them.
#[derive(Debug, Default)]
pub(super) struct Processes(BTreeMap<String, File>);

/// Looks, once. `paired`: namespaces with the other end of an interface here.
///
/// # Errors
/// When this node's own namespace cannot be asked for.
pub fn look(asked: &Asked, paired: &BTreeSet<u64>) -> Result<Places> {
    let mut processes = Processes::default();
    let mut places = Places::default();
    resolve(asked, &mut processes, &mut places)?;
    if let Some(root) = cgroups::mounted() {
        walk(asked, &root, &mut places, |_| {});
    }
    look_inside(asked, paired, &mut places);
    Ok(places)
}

pub(super) fn resolve(asked: &Asked, processes: &mut Processes, places: &mut Places) -> Result<()> {
    let host = own()?.inode;
    processes.0.retain(|path, _| asked.paths.contains(path));
    for path in &asked.paths {
        let inode = open_namespace(path, processes).map(|namespace| namespace.inode);
        let inode = inode.and_then(|inode| if inode == host { Err(NoNamespace::Host) } else { Ok(inode) });
        places.paths.insert(path.clone(), inode);
    }
    Ok(())
}

/// A process' folder and what is asked in it, of `/proc/PID/...`.
fn of_process(path: &str) -> Option<(&str, &str)> {
    let (pid, rest) = path.strip_prefix("/proc/")?.split_once('/')?;
    pid.bytes().all(|b| b.is_ascii_digit()).then_some((pid, rest))
}

fn open_namespace(path: &str, processes: &mut Processes) -> std::result::Result<Namespace, NoNamespace> {
    let refused = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => NoNamespace::Missing,
        Some(libc::ELOOP) => NoNamespace::Symlink,
        _ => NoNamespace::Refused(error.to_string()),
    };
    let file = match of_process(path) {
        // The one link that is followed: the kernel's own.
        Some((pid, "ns/net")) => {
            let folder = match processes.0.get(path) {
                Some(folder) => folder,
                None => {
                    let folder = File::open(Path::new("/proc").join(pid)).map_err(refused)?;
                    processes.0.entry(path.to_owned()).or_insert(folder)
                }
            };
            let opened = openat(folder, "ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            File::from(opened.map_err(|error| match error {
                Errno::SRCH | Errno::NOENT => NoNamespace::ProcessGone,
                error => refused(error.into()),
            })?)
        }
        // What a process shows of its root is for itself to arrange.
        Some((_, rest)) if rest.starts_with("root") || rest.starts_with("cwd") => return Err(NoNamespace::Symlink),
        _ => {
            // Without opening it: a device or a pipe may do something.
            let found = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| refused(error.into()))?;
            let found = File::from(found);
            let kind = found.metadata().map_err(refused)?.file_type();
            if kind.is_symlink() {
                return Err(NoNamespace::Symlink);
            }
            if !is_namespace(&found) {
                return Err(NoNamespace::Other(if kind.is_dir() { "a directory" } else { "a file" }));
            }
            File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(refused)?
        }
    };
    if !is_network(&file) {
        return Err(NoNamespace::Other("a namespace of another kind"));
    }
    Ok(Namespace { name: None, inode: file.metadata().map_err(refused)?.ino(), file })
}

#[allow(unsafe_code)]
fn is_network(file: &File) -> bool {
    /// `NS_GET_NSTYPE`.
    const KIND: libc::Ioctl = 0xb703;
    // SAFETY: this ioctl takes no argument, and the descriptor lives through the call.
    is_namespace(file) && unsafe { libc::ioctl(file.as_fd().as_raw_fd(), KIND) } == libc::CLONE_NEWNET
}

/// Walks the folders that a wanted cgroup may be in, and passes each to `seen`.
pub(super) fn walk(asked: &Asked, root: &Path, places: &mut Places, mut seen: impl FnMut(&Path)) {
    if asked.prefixes.is_empty() {
        return;
    }
    let Ok(host) = own() else { return };
    let (mut folders, mut processes) = (0, 0);
    let mut waiting = vec![String::new()];
    while let Some(cgroup) = waiting.pop() {
        folders += 1;
        if folders > MAX_CGROUPS || processes > MAX_PROCESSES {
            places.problem = Some(format!(
                "the patterns of namespaceCgroup and cgroup lead to more than {MAX_CGROUPS} cgroups or {MAX_PROCESSES} processes; narrow them"
            ));
            return;
        }
        let folder = root.join(&cgroup);
        seen(&folder);
        if !cgroup.is_empty()
            && (asked.hosts)(&cgroup)
            && let Ok(found) = fs::metadata(&folder)
        {
            places.hosts.insert(cgroup.clone(), found.ino());
        }
        if !cgroup.is_empty() && (asked.wanted)(&cgroup) {
            // It may be gone by now.
            for pid in processes_of(&folder) {
                processes += 1;
                if let Some(inode) = namespace_of(&pid).filter(|inode| *inode != host.inode) {
                    places.cgroups.entry(inode).or_default().insert(cgroup.clone());
                }
            }
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let below = if cgroup.is_empty() { name } else { format!("{cgroup}/{name}") };
            let leads = |prefix: &String| prefix.starts_with(&below) || below.starts_with(prefix.as_str());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && asked.prefixes.iter().any(leads) {
                waiting.push(below);
            }
        }
    }
}

fn processes_of(folder: &Path) -> Vec<String> {
    let mut text = String::new();
    let read = File::open(folder.join("cgroup.procs")).and_then(|file| {
        // A line is at most 8 bytes.
        file.take(8 * MAX_PROCESSES as u64).read_to_string(&mut text)
    });
    if read.is_err() {
        return Vec::new();
    }
    text.lines().map(str::to_owned).collect()
}

/// Inode of a process' network namespace.
fn namespace_of(pid: &str) -> Option<u64> {
    let link = fs::read_link(Path::new("/proc").join(pid).join("ns/net")).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// What is in the namespaces that were found and that no interface here leads to: a reason to tell.
pub(super) fn look_inside(asked: &Asked, paired: &BTreeSet<u64>, places: &mut Places) {
    for path in &asked.paths {
        let Some(Ok(inode)) = places.paths.get(path) else { continue };
        if paired.contains(inode) || places.inside.contains_key(inode) {
            continue;
        }
        let kinds = open_namespace(path, &mut Processes::default()).ok().and_then(|namespace| {
            let links = link::list(&mut namespace.socket().ok()?, None).ok()?;
            Some(links.into_iter().map(|link| link.kind).filter(|kind| !kind.is_empty()).collect())
        });
        let inode = *inode;
        places.inside.insert(inode, kinds.unwrap_or_default());
    }
}

impl Processes {
    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Device and inode of each path: what a mount on it changes.
pub(super) fn fingerprint(paths: &BTreeSet<String>) -> Vec<Option<(u64, u64)>> {
    paths.iter().map(|path| fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))).collect()
}

/// For errors of watches.
pub(super) fn watching(error: Errno) -> Error {
    Error::io("watching cgroups")(error.into())
}
