//! The engine's sockets: made once by the agent, which keeps its own handle on the same sockets, so that a new engine
//! gets what waited for the old one.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use brattice_abi::{SLOT_DNS_TCP, SLOT_DNS_UDP, SLOT_DNS_UDP6, SLOT_HTTP, SLOT_TCP, WorkerState};
use brattice_wire::engine::descriptor_count;

/// Port of worker 0's HTTP listener on an engine source address; worker `w` has the `w`th after it. Reachable only
/// through `vip_listener`.
pub const HTTP_PORT: u16 = 15_001;
/// As [`HTTP_PORT`], for the relay.
pub const RELAY_PORT: u16 = 15_101;
/// Port of the DNS TCP listener on the first engine source address.
pub const DNS_TCP_PORT: u16 = 15_053;
/// Port of DNS at the DNS VIP.
pub const DNS_PORT: u16 = 53;
/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
pub const BACKLOG: u32 = 65_535;
/// Most connections reset in one go.
const DRAIN: usize = 8_192;

/// The kernel's socket table, as far as supervision needs it. A trait, so that supervision is tested without a kernel
/// data path.
pub trait Slots: Send + Sync {
    /// Puts a socket into a slot.
    ///
    /// # Errors
    /// A text for people.
    fn set(&self, slot: u32, socket: BorrowedFd<'_>) -> Result<(), String>;
    /// Empties a slot.
    ///
    /// # Errors
    /// A text for people.
    fn clear(&self, slot: u32) -> Result<(), String>;
    /// `SO_COOKIE` of the socket in a slot.
    fn cookie(&self, slot: u32) -> Option<u64>;
    /// What the workers last reported.
    fn worker_states(&self, workers: u32) -> Vec<WorkerState>;
    /// Makes all sockets anew.
    ///
    /// # Errors
    /// A text for people.
    fn sockets(&self) -> Result<Sockets, String>;
}

/// All descriptors an engine is given.
#[derive(Debug)]
pub struct Sockets {
    workers: u32,
    ipv6: bool,
    /// In the order of [`descriptor_count`].
    descriptors: Vec<OwnedFd>,
}

impl Sockets {
    /// Takes descriptors in the order of [`descriptor_count`]; `None` if their number is wrong.
    pub fn new(workers: u32, ipv6: bool, descriptors: Vec<OwnedFd>) -> Option<Self> {
        (workers >= 1 && descriptors.len() == descriptor_count(workers, ipv6)).then_some(Self {
            workers,
            ipv6,
            descriptors,
        })
    }

    /// In the order in which the engine expects them.
    pub fn all(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors.iter().map(|fd| fd.as_fd()).collect()
    }

    /// Each socket with its slot in the kernel's table.
    pub fn slots(&self) -> Vec<(u32, BorrowedFd<'_>)> {
        let workers = self.workers;
        let slots = (0..workers)
            .map(|w| SLOT_HTTP + w)
            .chain((0..workers).map(|w| SLOT_TCP + w))
            .chain([SLOT_DNS_UDP, SLOT_DNS_TCP])
            .chain(self.ipv6.then_some(SLOT_DNS_UDP6));
        slots.zip(self.all()).collect()
    }

    /// Whether every socket is the very one that is in its slot.
    pub fn match_slots(&self, slots: &dyn Slots) -> bool {
        self.slots().iter().all(|(slot, socket)| {
            let cookie = rustix::net::sockopt::socket_cookie(socket).ok();
            cookie.is_some() && cookie == slots.cookie(*slot)
        })
    }

    /// Resets connections that wait to be accepted; says how many.
    pub fn drain(&self) -> usize {
        let mut reset = 0;
        for (slot, listener) in self.slots() {
            if !matches!(slot, SLOT_DNS_UDP | SLOT_DNS_UDP6) {
                reset += drain(listener, DRAIN.saturating_sub(reset));
            }
        }
        reset
    }
}

/// Resets connections that wait to be accepted at a listener, `most` of them; says how many.
pub fn drain(listener: BorrowedFd<'_>, most: usize) -> usize {
    let mut reset = 0;
    if rustix::io::ioctl_fionbio(listener, true).is_err() {
        return reset;
    }
    while reset < most {
        let Ok(connection) = rustix::net::accept(listener) else { break };
        // Closing with no time to linger resets.
        let _ = rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO));
        reset += 1;
    }
    reset
}

/// Addresses of the listeners of worker `w`, (HTTP, relay), and of DNS over TCP. On a node with IPv6 they are written as
/// IPv4-mapped, and each listener serves callers of both families.
pub fn addresses(sources: &[IpAddr], workers: u32) -> (Vec<[SocketAddr; 2]>, SocketAddr) {
    let listeners = (0..workers)
        .zip(sources.iter().cycle())
        .map(|(w, source)| {
            let w = u16::try_from(w).expect("workers are at most 64");
            [SocketAddr::new(*source, HTTP_PORT + w), SocketAddr::new(*source, RELAY_PORT + w)]
        })
        .collect();
    let first = sources.first().copied().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    (listeners, SocketAddr::new(first, DNS_TCP_PORT))
}
