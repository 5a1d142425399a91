//! Events of every change, without polling.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::inotify::{ReadFlags, WatchFlags, add_watch};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, sleep_until};

use crate::namespace::NAMED;
use crate::netlink::{Family, Socket};
use crate::readiness::{Owned, readable};
use crate::{Error, Result, inotify};

/// Multicast groups of routing netlink: links, traffic control, IPv4 and IPv6 addresses, routes and rules, namespace ids.
const ROUTING_GROUPS: [u32; 9] = [1, 4, 5, 7, 8, 9, 11, 19, 28];
/// Multicast group of nftables changes.
const NFTABLES_GROUPS: [u32; 1] = [7];
/// Changes come in bursts (a namespace with its veth, address and route); one notice for all that comes within this time. A new
/// workload's first call waits for it.
const GATHER: Duration = Duration::from_millis(1);
/// `ip netns add` makes an empty file, seen at once, and mounts the namespace on it, without an event: so look again.
const MOUNTED_BY_THEN: Duration = Duration::from_millis(200);
/// Most messages gathered for one notice, so that a flood of changes cannot hold it back.
const MAX_GATHERED: usize = 4096;

/// What changed since the last notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Interfaces, or the queueing disciplines and filters on them, came, went or changed, here or in a namespace with a peer
    /// of ours. (For TCX programs the kernel sends no event; they are seen with the next change of anything.)
    pub links: bool,
    /// Addresses, likewise.
    pub addresses: bool,
    /// Routes and policy rules, likewise.
    pub routes: bool,
    /// Names in `/run/netns`.
    pub namespaces: bool,
    /// nftables rules here; with every change where the kernel does not tell of them.
    pub firewall: bool,
    /// The kernel had more to tell than there was room for: everything may have changed (all else is set, too).
    pub lost: bool,
}

impl Change {
    fn all() -> Self {
        Self { links: true, addresses: true, routes: true, namespaces: true, firewall: true, lost: true }
    }

    fn any(self) -> bool {
        self != Self::default()
    }

    fn add(&mut self, kind: u16) {
        match kind {
            libc::RTM_NEWLINK
            | libc::RTM_DELLINK
            | libc::RTM_NEWTFILTER
            | libc::RTM_DELQDISC
            | libc::RTM_DELTFILTER => self.links = true,
            libc::RTM_NEWADDR | libc::RTM_DELADDR => self.addresses = true,
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE | libc::RTM_NEWRULE | libc::RTM_DELRULE => {
                self.routes = true;
            }
            libc::RTM_NEWNSID | libc::RTM_DELNSID => self.namespaces = true,
            _ => {}
        }
    }
}

/// Listens for changes; those between [`Watch::open`] and the first [`Watch::changed`] are not lost.
pub struct Watch {
    routing: AsyncFd<Owned<Socket>>,
    nftables: Option<AsyncFd<Owned<Socket>>>,
    names: AsyncFd<Owned<OwnedFd>>,
    names_directory_watched: bool,
    again: Option<Instant>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("again", &self.again).finish_non_exhaustive()
    }
}

impl Watch {
    /// Starts to listen, in the calling thread's network namespace and in those with a peer of an interface here.
    ///
    /// # Errors
    /// When the kernel refuses a socket or watch; outside a runtime.
    pub fn open() -> Result<Self> {
        let socket = Socket::listen(Family::Route, &ROUTING_GROUPS, true)
            .map_err(Error::netlink("listening for changes of interfaces and routes"))?;
        let nftables = match Socket::listen(Family::Netfilter, &NFTABLES_GROUPS, false) {
            Ok(socket) => Some(readable(socket).map_err(Error::io("waiting for nftables changes"))?),
            Err(error) => {
                tracing::warn!(%error, "cannot watch changes of nftables: a removed table is restored with the next other change");
                None
            }
        };
        let inotify = inotify::open().map_err(|e| Error::io("making an inotify watch")(e.into()))?;
        let mut watch = Self {
            routing: readable(socket).map_err(Error::io("waiting for changes of interfaces and routes"))?,
            nftables,
            names: readable(inotify).map_err(Error::io("waiting for network namespace names"))?,
            names_directory_watched: false,
            again: None,
        };
        watch.watch_names()?;
        Ok(watch)
    }

    /// Watches `/run/netns`, or `/run` for as long as that does not exist.
    fn watch_names(&mut self) -> Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        let inotify = self.names.get_ref();
        match add_watch(inotify, NAMED, flags) {
            Ok(_) => self.names_directory_watched = true,
            Err(Errno::NOENT) => {
                add_watch(inotify, "/run", flags).map_err(|e| Error::io("watching /run")(e.into()))?;
                self.names_directory_watched = false;
            }
            Err(error) => return Err(Error::io(format!("watching {NAMED}"))(error.into())),
        }
        Ok(())
    }

    /// Waits for the next change, gathers what comes along with it, and returns what it was.
    ///
    /// # Errors
    /// When the runtime shuts down or the kernel closes a socket.
    pub async fn changed(&mut self) -> Result<Change> {
        loop {
            let mut change = Change::default();
            self.wait(&mut change).await?;
            if change.any() {
                sleep(GATHER).await;
                self.drain(&mut change)?;
                change.firewall |= self.nftables.is_none();
                return Ok(if change.lost { Change::all() } else { change });
            }
        }
    }

    async fn wait(&mut self, change: &mut Change) -> Result<()> {
        let again = self.again;
        let later = async move {
            match again {
                Some(when) => sleep_until(when).await,
                None => std::future::pending().await,
            }
        };
        let nftables = async {
            match &self.nftables {
                Some(socket) => socket.readable().await.map(|mut ready| ready.clear_ready()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = self.routing.readable() => {
                ready.map_err(Error::io("waiting for changes of interfaces and routes"))?.clear_ready();
            }
            ready = nftables => ready.map_err(Error::io("waiting for nftables changes"))?,
            ready = self.names.readable() => {
                ready.map_err(Error::io("waiting for network namespace names"))?.clear_ready();
            }
            () = later => {
                self.again = None;
                change.namespaces = true;
            }
        }
        self.drain(change)
    }

    /// Takes what is there now.
    fn drain(&mut self, change: &mut Change) -> Result<()> {
        let mut kinds = Vec::new();
        change.lost |= take(&self.routing.get_ref().0, &mut kinds)?;
        for kind in kinds.drain(..) {
            change.add(kind);
        }
        if let Some(socket) = &self.nftables {
            change.lost |= take(&socket.get_ref().0, &mut kinds)?;
            change.firewall |= !kinds.is_empty();
        }
        let events = inotify::events(self.names.get_ref());
        let events = events.map_err(|e| Error::io("reading names of network namespaces")(e.into()))?;
        if events.is_empty() {
            return Ok(());
        }
        if self.names_directory_watched || events.iter().any(|e| e.name.as_deref() == Some("netns".as_ref())) {
            change.namespaces = true;
            self.again = Some(Instant::now() + MOUNTED_BY_THEN);
        }
        if !self.names_directory_watched || events.iter().any(|e| e.what.contains(ReadFlags::IGNORED)) {
            self.watch_names()?;
        }
        Ok(())
    }
}

/// Reads all that waits; whether something was lost.
fn take(socket: &Socket, kinds: &mut Vec<u16>) -> Result<bool> {
    let mut lost = false;
    while kinds.len() < MAX_GATHERED {
        match socket.received(kinds) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(lost),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::netlink("reading changes")(error)),
        }
    }
    // More waits; the readiness that was cleared would not come back for it.
    Ok(true)
}
