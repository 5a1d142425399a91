//! Heartbeats and load of each worker, for the kernel programs and the agent: a page of memory that is the `WORKERS`
//! map.
//!
//! The map is mapped, so writing needs no system call and no privilege, and nothing else can be written through it.
#![allow(unsafe_code, reason = "a mapping shared with the kernel is raw memory")]

use std::{
    os::fd::{AsFd, AsRawFd},
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use brattice_abi::{MAX_WORKERS, WorkerState};

use crate::ticker::Ticker;

/// Time between two heartbeats of a worker. The agent's patience is a multiple of it.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// The same bytes as [`WorkerState`], written while others read.
#[repr(C)]
struct Live {
    heartbeat_ns: AtomicU64,
    connections: AtomicU32,
    requests: AtomicU32,
}

const _: () = assert!(size_of::<Live>() == size_of::<WorkerState>() && align_of::<Live>() == align_of::<WorkerState>());

/// Bytes of the map.
const LENGTH: usize = MAX_WORKERS as usize * size_of::<WorkerState>();

struct Mapping(NonNull<Live>);

// SAFETY: the memory stays mapped until the last owner is dropped, and is accessed through atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `Heartbeats::map` with this address and length; no reference is left.
        unsafe { libc::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}

/// The whole map.
#[derive(Clone)]
pub struct Heartbeats(Arc<Mapping>);

impl Heartbeats {
    /// Maps the `WORKERS` map.
    ///
    /// # Errors
    /// When the descriptor cannot be mapped: it is another map, or one without `BPF_F_MMAPABLE`.
    pub fn map(descriptor: impl AsFd) -> std::io::Result<Self> {
        // SAFETY: asks for a new mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor.as_fd().as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(Self(Arc::new(Mapping(address))))
    }

    /// The place of a worker, cleared; `None` beyond [`MAX_WORKERS`].
    pub fn slot(&self, worker: u32) -> Option<Slot> {
        let slot = (worker < MAX_WORKERS).then(|| Slot { map: Arc::clone(&self.0), worker: worker as usize })?;
        slot.live().connections.store(0, Ordering::Relaxed);
        slot.live().requests.store(0, Ordering::Relaxed);
        slot.beat();
        Some(slot)
    }
}

/// A worker's place in the map. The counters in it are the worker's own gauges: it raises and lowers them, `vip_listener`
/// reads them when it chooses a worker.
#[derive(Clone)]
pub struct Slot {
    map: Arc<Mapping>,
    worker: usize,
}

impl Slot {
    fn live(&self) -> &Live {
        // SAFETY: `worker` is below MAX_WORKERS, so the place lies in the mapping, which lives as long as `self.map`;
        // its bytes are valid for atomics, and the mapping is page-aligned.
        unsafe { self.map.0.add(self.worker).as_ref() }
    }

    /// Writes the time of now (`CLOCK_BOOTTIME`).
    pub fn beat(&self) {
        self.live().heartbeat_ns.store(boottime_ns(), Ordering::Relaxed);
    }

    /// Open client connections.
    pub fn connections(&self) -> &AtomicU32 {
        &self.live().connections
    }

    /// Requests in flight.
    pub fn requests(&self) -> &AtomicU32 {
        &self.live().requests
    }

    /// Beats every [`INTERVAL`], forever: a task of the worker's own runtime, so that it stops when the worker hangs.
    pub(crate) async fn run(self, ticker: Ticker) {
        loop {
            self.beat();
            ticker.tick().await;
        }
    }
}

/// `CLOCK_BOOTTIME`, ns.
pub fn boottime_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: points to a valid timespec for the length of the call. The clock exists on every supported kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use std::{io::Read, io::Seek, os::fd::FromRawFd};

    use super::*;

    /// A file in memory stands for the map: both are mapped shared.
    fn file() -> std::fs::File {
        // SAFETY: a valid C string; the descriptor is new and ours.
        let file = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"workers".as_ptr(), libc::MFD_CLOEXEC)) };
        file.set_len(LENGTH as u64).unwrap();
        file
    }

    #[test]
    fn what_a_worker_writes_is_in_the_map() {
        let mut file = file();
        let heartbeats = Heartbeats::map(&file).unwrap();
        let slot = heartbeats.slot(3).unwrap();
        let before = boottime_ns();
        slot.beat();
        slot.connections().fetch_add(5, Ordering::Relaxed);
        slot.requests().fetch_add(7, Ordering::Relaxed);
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let place = &bytes[48..64];
        let beat = u64::from_ne_bytes(place[..8].try_into().unwrap());
        assert!(beat >= before && beat <= boottime_ns());
        assert_eq!(place[8..12], 5_u32.to_ne_bytes());
        assert_eq!(place[12..], 7_u32.to_ne_bytes());
        assert!(bytes[..48].iter().all(|&byte| byte == 0));
        // A successor begins at zero.
        heartbeats.slot(3).unwrap();
        assert_eq!(slot.connections().load(Ordering::Relaxed), 0);
        assert!(heartbeats.slot(MAX_WORKERS).is_none());
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        assert!(Heartbeats::map(reader).is_err());
    }
}
