//! Memory: what a workload may have of it, and how it is given back.
//!
//! The most that a connection, a request or a transfer can hold is known, as the kernel's buffers are bounded here and the
//! engine's everywhere. So memory is counted, not measured.
//!
//! ```text
//! target ─► socket (128 KiB) ─► hyper, body (at most 192 KiB) ─► socket (128 KiB) ─► client that does not read
//! ```
//!
//! The kernel takes twice as much for a socket's buffer as it is asked for, for its own book-keeping (socket(7)).

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::net::sockopt;

use crate::{
    events::metrics::counters::Counters,
    limits::{Usage, Use},
};

/// Bytes that a client connection counts as.
pub(crate) const CONNECTION: u64 = 64 * 1024;
/// Bytes that a request in flight counts as beyond that.
pub(crate) const REQUEST: u64 = 32 * 1024;
/// Bytes that a request counts as whose body, or whose response's body, is longer than [`LARGE`].
pub(crate) const TRANSFER: u64 = 768 * 1024;
/// A body that is not longer can be held by what is counted for its request.
pub(crate) const LARGE: u64 = 64 * 1024;

/// When all memory is used, workloads that have less than 1/`FEW` of it may still have more.
pub(crate) const FEW: u64 = 64;

/// What the socket of a client holds of what it sends, and what waits for it, bytes.
const CLIENT: (usize, usize) = (64 * 1024, 128 * 1024);
/// The same towards a target.
const TARGET: (usize, usize) = (128 * 1024, 64 * 1024);

/// Bounds the buffers of the connections that a listening socket accepts.
pub(crate) fn bound_clients(listener: &impl AsFd) {
    bound(listener, CLIENT);
}

/// Bounds the buffers of a socket towards a target; before it connects, so that no larger window is advertised to the
/// target.
pub(crate) fn bound_target(socket: &impl AsFd) {
    bound(socket, TARGET);
}

fn bound(socket: &impl AsFd, (receive, send): (usize, usize)) {
    // Without it the kernel's own bounds hold, which are larger.
    let _ = sockopt::set_socket_recv_buffer_size(socket, receive);
    let _ = sockopt::set_socket_send_buffer_size(socket, send);
}

/// Bytes that the process may have: the least that its cgroups and the machine allow. Reads files, so before the sandbox.
pub(crate) fn found() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let total = meminfo.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let mut least = total.map_or(u64::MAX, |kib| kib.saturating_mul(1024));
    for line in read("/proc/self/cgroup").lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (roots, files): (&[&str], &[&str]) = match controllers {
            "" => (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], &["memory.max", "memory.high"]),
            "memory" => (&["/sys/fs/cgroup/memory"], &["memory.limit_in_bytes"]),
            _ => continue,
        };
        // A cgroup is bounded by those above it, too.
        for folder in std::path::Path::new(path).ancestors() {
            for (root, file) in roots.iter().flat_map(|root| files.iter().map(move |file| (root, file))) {
                let limit = read(&format!("{root}{}/{file}", folder.display()));
                least = least.min(limit.trim().parse().unwrap_or(u64::MAX));
            }
        }
    }
    least
}

impl Usage {
    /// Most bytes that a workload's connections, requests and transfers can hold now.
    pub fn bytes(&self) -> u64 {
        let [connections, requests, transfers] =
            [Use::Connection, Use::Request, Use::Transfer].map(|which| u64::from(self.open(which)));
        connections * CONNECTION + requests * REQUEST + transfers * TRANSFER
    }
}

/// Most bytes that all traffic can hold now.
pub(crate) fn in_use(counters: &Counters) -> u64 {
    counters
        .open()
        .map(|open| open.connections * CONNECTION + open.requests * REQUEST + open.transfers * TRANSFER)
        .sum()
}

/// Blocks from this size on come from the kernel and go back to it at once. Set explicitly, as glibc otherwise
/// raises the threshold by itself up to 32 MiB, and then keeps the memory that a flood took. It is larger than any
/// buffer of a body, as mmap is slow.
const MAPPED: i32 = 1024 * 1024;
/// What was freed is given back at most so often, as it takes time ...
const TRIM: Duration = Duration::from_secs(5);
/// ... and only after traffic has become less by so much.
const TRIM_BYTES: u64 = 8 * 1024 * 1024;

/// Sets the allocator up; before there are threads.
pub(crate) fn prepare() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "mallopt(3) has no safe wrapper")]
    // SAFETY: it only sets a number of the allocator's.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}

/// Gives memory back after floods.
#[derive(Debug)]
pub(crate) struct Trimmer {
    most: u64,
    last: Instant,
}

impl Default for Trimmer {
    fn default() -> Self {
        Self { most: 0, last: Instant::now() }
    }
}

impl Trimmer {
    /// Looks at what traffic holds now, and gives back what it held before. Not on a worker's thread.
    pub(crate) fn look(&mut self, bytes: u64) {
        self.most = self.most.max(bytes);
        if self.most - bytes >= TRIM_BYTES && self.last.elapsed() >= TRIM {
            trim();
            self.most = bytes;
            self.last = Instant::now();
        }
    }
}

fn trim() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]
    // SAFETY: it may be called at any time; it locks each arena while it gives its free pages back.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_no_more_than_the_machine_has() {
        let found = found();
        assert!((1 << 20..1 << 50).contains(&found), "{found}");
    }
}
