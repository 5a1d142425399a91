//! Network namespaces: our own, named ones, and those that only processes hold.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::{self, Family, Socket};
use crate::{Error, Result};

/// Where `ip netns` keeps its names.
pub(crate) const NAMED: &str = "/run/netns";
/// `NSFS_MAGIC` of linux/magic.h: the type of the file system of namespaces.
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;

/// A namespace and how to enter it.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Name in [`NAMED`], if it has one.
    pub(crate) name: Option<String>,
    pub(crate) inode: u64,
    pub(crate) file: File,
}

/// The calling thread's namespace.
pub(crate) fn own() -> Result<Namespace> {
    open(Path::new("/proc/thread-self/ns/net"), None)
        .map_err(Error::io("opening this thread's network namespace (/proc/thread-self/ns/net)"))
}

fn open(path: &Path, name: Option<String>) -> io::Result<Namespace> {
    let file = File::open(path)?;
    let inode = file.metadata()?.ino();
    Ok(Namespace { name, inode, file })
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Namespace {
    /// The inode, as links tell it.
    pub(crate) fn link_inode(&self) -> u32 {
        self.inode.try_into().expect("the kernel numbers namespaces by 32 bits")
    }

    /// A routing socket inside; made on a thread that enters the namespace and ends, so that no other work lands there.
    pub(crate) fn socket(&self) -> io::Result<Socket> {
        let file = self.file.try_clone()?;
        std::thread::Builder::new()
            .name("kernel-netns".into())
            .spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Socket::open(Family::Route)
            })?
            .join()
            .map_err(|_| io::Error::other("the thread that entered the namespace panicked"))?
    }
}

/// The namespaces that the socket's namespace has an id for (those with an interface that is paired with ours), by id.
///
/// Named ones first; then those that some process is in, found in /proc. One that is held by neither (only by an open
/// file or a socket) is not found here; netlink still tells its links and addresses by id.
pub(crate) fn known(socket: &mut Socket) -> io::Result<BTreeMap<u32, Namespace>> {
    let mut seen = std::collections::HashSet::new();
    let mut found = BTreeMap::new();
    let mut add = |namespace: Namespace| -> io::Result<()> {
        if seen.insert(namespace.inode)
            && let Some(id) = netlink::nsid::of(socket, namespace.as_fd())?
        {
            found.insert(id, namespace);
        }
        Ok(())
    };
    for entry in fs::read_dir(NAMED).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // A name whose mount is not there (yet) is an ordinary empty file.
        if let Ok(namespace) = open(&entry.path(), Some(name))
            && is_namespace(&namespace.file)
        {
            add(namespace)?;
        }
    }
    let mut inodes = std::collections::HashSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        if !entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let path = entry.path().join("ns/net");
        // A process may end between the listing and here. Its link is read first: it costs less than an open file.
        let Ok(link) = fs::read_link(&path) else { continue };
        if inodes.insert(link)
            && let Ok(namespace) = open(&path, None)
        {
            add(namespace)?;
        }
    }
    Ok(found)
}

pub(crate) fn is_namespace(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|system| system.f_type == NSFS_MAGIC)
}
