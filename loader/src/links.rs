//! Attached programs: made, pinned, adopted, taken away. A link is held open as well as pinned, so that neither a removed
//! pin nor the end of this process detaches it. On kernels without TCX, a filter of `clsact` stands in for an interface's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::filters::Filter;
use crate::hook::Hook;
use crate::sys::{self, LinkInfo, Side, Target};
use crate::{Error, Result, pins};

/// What is open here and pinned there.
#[derive(Debug)]
pub(crate) struct Link {
    held: Held,
    pin: PathBuf,
}

#[derive(Debug)]
enum Held {
    Link(OwnedFd),
    Filter(Filter),
}

impl Link {
    /// Opens a pinned link; `None` if nothing is pinned there.
    pub(crate) fn open(pin: &Path) -> Result<Option<Self>> {
        if pins::is_filter(pin) {
            let filter = Filter::open(pin)?;
            return Ok(filter.map(|filter| Self { held: Held::Filter(filter), pin: pin.to_owned() }));
        }
        match sys::obj_get(pin) {
            Ok(fd) => Ok(Some(Self { held: Held::Link(fd), pin: pin.to_owned() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(Error::bpf(format!("opening the pinned link {}", pin.display()))(error)),
        }
    }

    /// Opens a pinned link if it still is what it was pinned as; the pin of one that is not is removed.
    pub(crate) fn adopt(pin: &Path, program_id: u32, target: Target) -> Result<Option<Self>> {
        let Some(link) = Self::open(pin)? else { return Ok(None) };
        if link.works(program_id, target)? {
            return Ok(Some(link));
        }
        link.remove()?;
        Ok(None)
    }

    /// Whether it is attached where it should be. An interface that was moved to another network namespace keeps its
    /// programs and often its index, so the kernel is asked from both ends.
    pub(crate) fn works(&self, program_id: u32, target: Target) -> Result<bool> {
        let info = self.info()?;
        Ok(info.program_id == program_id
            && info.target == target
            && match (&self.held, target) {
                (Held::Link(_), Target::Interface { ifindex, side }) => {
                    sys::query_tcx(ifindex, side).is_ok_and(|programs| programs.contains(&program_id))
                }
                // A filter was asked for from the interface's end.
                (Held::Filter(_), _) | (_, Target::Netns { .. } | Target::Cgroup { .. } | Target::Other { .. }) => true,
            })
    }

    fn keep(fd: OwnedFd, pin: PathBuf) -> Result<Self> {
        sys::obj_pin(fd.as_fd(), &pin).map_err(Error::bpf(format!("pinning {}", pin.display())))?;
        Ok(Self { held: Held::Link(fd), pin })
    }

    /// Attaches to an interface, before all other programs.
    pub(crate) fn interface(hook: Hook, program: &OwnedFd, ifindex: u32, side: Side, pin: PathBuf) -> Result<Self> {
        if hook == Hook::Clsact {
            let filter = Filter::attach(program, ifindex, side, &pin)?;
            return Ok(Self { held: Held::Filter(filter), pin });
        }
        let fd = sys::attach_tcx(program.as_fd(), ifindex, side).map_err(|source| match source.raw_os_error() {
            Some(libc::ENODEV) => Error::NoInterface { ifindex },
            _ => Error::Bpf { what: format!("attaching to interface {ifindex}"), source },
        })?;
        Self::keep(fd, pin)
    }

    /// Attaches to a network namespace's socket lookup.
    pub(crate) fn sk_lookup(program: &OwnedFd, namespace: impl AsFd, pin: PathBuf) -> Result<Self> {
        let fd = sys::attach_sk_lookup(program.as_fd(), namespace.as_fd())
            .map_err(Error::bpf("attaching vip_listener to the network namespace"))?;
        Self::keep(fd, pin)
    }

    /// Attaches to a hook of a cgroup, beside what others have there.
    pub(crate) fn cgroup(program: &OwnedFd, cgroup: impl AsFd, hook: u32, name: &str, pin: PathBuf) -> Result<Self> {
        let fd = sys::attach_cgroup(program.as_fd(), cgroup.as_fd(), hook)
            .map_err(Error::bpf(format!("attaching {name} to the root of the cgroups")))?;
        Self::keep(fd, pin)
    }

    /// What the kernel says of it now.
    pub(crate) fn info(&self) -> Result<LinkInfo> {
        let fd = match &self.held {
            Held::Link(fd) => fd,
            Held::Filter(filter) => return filter.info(),
        };
        sys::link_info(fd.as_fd()).map_err(Error::bpf(format!("asking for the link {}", self.pin.display())))
    }

    /// Pins it again if its pin was removed; whether it was.
    pub(crate) fn repin(&self) -> Result<bool> {
        let fd = match &self.held {
            Held::Link(fd) => fd,
            Held::Filter(filter) => return filter.repin(&self.pin),
        };
        if self.pin.exists() {
            return Ok(false);
        }
        sys::obj_pin(fd.as_fd(), &self.pin).map_err(Error::bpf(format!("pinning {}", self.pin.display())))?;
        Ok(true)
    }

    /// Detaches the program, also if another process holds the link, and removes the pin.
    pub(crate) fn remove(self) -> Result<()> {
        let fd = match self.held {
            Held::Link(fd) => fd,
            Held::Filter(filter) => return filter.remove(&self.pin),
        };
        match sys::link_detach(fd.as_fd()) {
            // ENOLINK and friends: its interface or namespace is gone already.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOLINK | libc::ENODEV | libc::ENOENT)) => {
                tracing::debug!(pin = %self.pin.display(), %error, "detaching; the pin is removed all the same");
            }
            _ => {}
        }
        pins::unlink(&self.pin).map(drop)
    }
}
