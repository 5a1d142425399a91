//! Typed handles of the maps.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use aya::Pod;
use brattice_abi as abi;

use crate::hook::Hook;
use crate::pins::Pins;
use crate::sys::{self, Map};
use crate::{Error, Result};

/// A map in the kernel, opened.
#[derive(Debug)]
struct Handle {
    map: Map,
    name: &'static str,
}

impl Handle {
    fn open(pins: &Pins, name: &'static str) -> Result<Arc<Self>> {
        let map = Map::open(&pins.map(name)).map_err(Error::bpf(format!("opening the pinned map {name}")))?;
        Ok(Arc::new(Self { map, name }))
    }

    /// Most entries.
    fn capacity(&self) -> u32 {
        self.map.info.max_entries
    }

    fn error(&self, what: &str, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => Error::Full { map: self.name.into(), capacity: self.capacity() },
            _ => Error::Bpf { what: format!("{what} map {}", self.name), source },
        }
    }
}

/// A map of keys and values, shared with the kernel and with other processes: what is read is what holds at that moment.
#[derive(Debug)]
pub struct Table<K, V> {
    handle: Arc<Handle>,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), types: PhantomData }
    }
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Opens a pinned map whose keys and values have the sizes of these types.
    fn open(pins: &Pins, name: &'static str) -> Result<Self> {
        let handle = Handle::open(pins, name)?;
        let (key, value) = (size_of::<K>(), size_of::<V>());
        let info = &handle.map.info;
        if (info.key_size as usize, handle.map.value_bytes()) != (key, value) {
            return Err(Error::Layout {
                name: format!("map {name}"),
                detail: format!(
                    "its keys and values have {} and {} bytes, not {key} and {value}",
                    info.key_size,
                    handle.map.value_bytes()
                ),
            });
        }
        Ok(Self { handle, types: PhantomData })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        self.read(sys::bytes_of(key))
    }

    fn read(&self, key: &[u8]) -> Result<Option<V>> {
        let mut value = vec![0; size_of::<V>()];
        match self.handle.map.lookup(key, &mut value) {
            Ok(()) => Ok(sys::from_bytes(&value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(self.handle.error("reading", error)),
        }
    }

    /// Writes a key's value, in one step.
    ///
    /// # Errors
    /// [`Error::Full`] at the map's limit.
    pub fn insert(&self, key: &K, value: &V) -> Result<()> {
        self.handle
            .map
            .update(sys::bytes_of(key), sys::bytes_of(value))
            .map_err(|error| self.handle.error("writing", error))
    }

    /// Removes a key; one that is absent is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, key: &K) -> Result<()> {
        match self.handle.map.delete(sys::bytes_of(key)) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(self.handle.error("writing", error)),
            _ => Ok(()),
        }
    }

    /// All entries, in no order. An entry that comes or goes meanwhile may be in it or not; none is in it twice.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        for key in self.keys()? {
            if let (Some(k), Some(value)) = (sys::from_bytes(&key), self.read(&key)?) {
                entries.push((k, value));
            }
        }
        Ok(entries)
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>> {
        let mut seen = std::collections::HashSet::new();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut next = vec![0; size_of::<K>()];
        // When the last key is removed meanwhile, the kernel starts over; the bound ends a walk that never gets through.
        let bound = u64::from(self.handle.capacity()) * 2;
        for _ in 0..bound {
            let last = keys.last().map(Vec::as_slice);
            let more =
                self.handle.map.next_key(last, &mut next).map_err(|error| self.handle.error("reading", error))?;
            if !more {
                break;
            }
            if seen.insert(next.clone()) {
                keys.push(next.clone());
            } else {
                // Started over: go on behind what is known.
                let position = keys.iter().position(|k| *k == next).unwrap_or(0);
                let known = keys.remove(position);
                keys.push(known);
            }
        }
        Ok(keys)
    }

    /// Number of entries.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn len(&self) -> Result<usize> {
        Ok(self.keys()?.len())
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn is_empty(&self) -> Result<bool> {
        let mut next = vec![0; size_of::<K>()];
        self.handle.map.next_key(None, &mut next).map(|more| !more).map_err(|error| self.handle.error("reading", error))
    }

    /// Most entries.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.handle.capacity()
    }
}

/// All maps. Cheap to clone; clones are the same maps.
#[derive(Clone, Debug)]
pub struct Maps {
    config: Table<u32, abi::Config>,
    workloads: Table<abi::WorkloadKey, abi::Workload>,
    aliases: Table<abi::Address, abi::Alias>,
    hosts: Table<abi::HostKey, abi::Host>,
    targets: Table<abi::TargetKey, u32>,
    listeners: Table<abi::ListenerKey, abi::Listener>,
    switches: Table<abi::SwitchKey, abi::Switch>,
    half_open_counts: Table<u32, abi::HalfOpenCount>,
    workers: Table<u32, abi::WorkerState>,
    sockets: Arc<Handle>,
    counters: Arc<Handle>,
    events: Arc<Handle>,
    /// Only the programs use these.
    kernel_only: [Arc<Handle>; 3],
}

impl Maps {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            config: Table::open(pins, abi::CONFIG)?,
            workloads: Table::open(pins, abi::WORKLOADS)?,
            aliases: Table::open(pins, abi::ALIASES)?,
            hosts: Table::open(pins, abi::HOSTS)?,
            targets: Table::open(pins, abi::TARGETS)?,
            listeners: Table::open(pins, abi::LISTENERS)?,
            switches: Table::open(pins, abi::SWITCHES)?,
            half_open_counts: Table::open(pins, abi::HALF_OPEN_COUNTS)?,
            workers: Table::open(pins, abi::WORKERS)?,
            sockets: Handle::open(pins, abi::SOCKETS)?,
            counters: Handle::open(pins, abi::COUNTERS)?,
            events: Handle::open(pins, abi::EVENTS)?,
            kernel_only: [
                Handle::open(pins, abi::INTERCEPTS)?,
                Handle::open(pins, abi::INTERCEPT_COUNTS)?,
                Handle::open(pins, abi::HALF_OPEN)?,
            ],
        })
    }

    /// The configuration: one entry with key 0, which cannot be removed.
    #[must_use]
    pub fn config(&self) -> Table<u32, abi::Config> {
        self.config.clone()
    }

    /// (interface, address) → workload: what `workload_ingress` accepts.
    #[must_use]
    pub fn workloads(&self) -> Table<abi::WorkloadKey, abi::Workload> {
        self.workloads.clone()
    }

    /// Alias → where it is delivered.
    #[must_use]
    pub fn aliases(&self) -> Table<abi::Address, abi::Alias> {
        self.aliases.clone()
    }

    /// Which processes of the host are workloads.
    #[must_use]
    pub fn hosts(&self) -> Table<abi::HostKey, abi::Host> {
        self.hosts.clone()
    }

    /// What the engine may connect to; the value is 1.
    #[must_use]
    pub fn targets(&self) -> Table<abi::TargetKey, u32> {
        self.targets.clone()
    }

    /// What `vip_listener` answers.
    #[must_use]
    pub fn listeners(&self) -> Table<abi::ListenerKey, abi::Listener> {
        self.listeners.clone()
    }

    /// Bypasses and detachments in force.
    #[must_use]
    pub fn switches(&self) -> Table<abi::SwitchKey, abi::Switch> {
        self.switches.clone()
    }

    /// Half-open connections by workload number.
    #[must_use]
    pub fn half_open_counts(&self) -> Table<u32, abi::HalfOpenCount> {
        self.half_open_counts.clone()
    }

    /// Puts a listening (or bound UDP) socket into a slot, in place of what is there.
    ///
    /// # Errors
    /// When the kernel refuses: no such slot, or no listening socket.
    pub fn set_socket(&self, slot: u32, socket: BorrowedFd<'_>) -> Result<()> {
        // Eight bytes, as of the map whose cookies are read.
        let value = u64::from(socket.as_raw_fd().cast_unsigned()).to_ne_bytes();
        self.sockets
            .map
            .update(&slot.to_ne_bytes(), &value)
            .map_err(Error::bpf(format!("putting a socket into slot {slot}")))
    }

    /// Empties a slot; one that is empty is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear_socket(&self, slot: u32) -> Result<()> {
        match self.sockets.map.delete(&slot.to_ne_bytes()) {
            // The kernel says EINVAL for an empty slot.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {
                Err(Error::bpf(format!("emptying slot {slot}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Cookie of the socket in a slot (`SO_COOKIE`); `None` if it is empty, which a slot becomes by itself when its
    /// socket is closed everywhere.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn socket_cookie(&self, slot: u32) -> Result<Option<u64>> {
        let mut cookie = [0; 8];
        match self.sockets.map.lookup(&slot.to_ne_bytes(), &mut cookie) {
            Ok(()) => Ok(Some(u64::from_ne_bytes(cookie))),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(Error::bpf(format!("reading slot {slot}"))(error)),
        }
    }

    /// All counters with their index ([`abi::DropReason::index`], [`abi::Counter::index`]), summed over CPUs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self) -> Result<Vec<(u32, u64)>> {
        let mut values = vec![0; self.counters.map.value_bytes()];
        (0..self.counters.capacity())
            .map(|index| {
                self.counters
                    .map
                    .lookup(&index.to_ne_bytes(), &mut values)
                    .map_err(|error| self.counters.error("reading", error))?;
                let sum = values
                    .chunks_exact(size_of::<u64>())
                    .filter_map(sys::from_bytes::<u64>)
                    .fold(0_u64, u64::wrapping_add);
                Ok((index, sum))
            })
            .collect()
    }

    /// What the first `count` workers report.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn worker_states(&self, count: u32) -> Result<Vec<abi::WorkerState>> {
        let count = count.min(self.workers.capacity());
        Ok((0..count).map(|w| self.workers.get(&w)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// A descriptor of the workers' map, for the engine to map into its memory.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn workers_fd(&self) -> Result<OwnedFd> {
        self.workers.handle.map.try_clone_fd().map_err(Error::io("duplicating the descriptor of map WORKERS"))
    }

    pub(crate) fn events_fd(&self) -> Result<OwnedFd> {
        self.events.map.try_clone_fd().map_err(Error::io("duplicating the descriptor of map EVENTS"))
    }

    /// Pins again what is pinned no longer; whether there was any.
    pub(crate) fn repin(&self, pins: &Pins) -> Result<bool> {
        let mut any = false;
        let own = [
            &self.config.handle,
            &self.workloads.handle,
            &self.aliases.handle,
            &self.hosts.handle,
            &self.targets.handle,
            &self.listeners.handle,
            &self.switches.handle,
            &self.half_open_counts.handle,
            &self.workers.handle,
            &self.sockets,
            &self.counters,
            &self.events,
        ];
        for handle in own.into_iter().chain(&self.kernel_only) {
            let path = pins.map(handle.name);
            if !path.exists() {
                sys::obj_pin(handle.map.as_fd(), &path).map_err(Error::bpf(format!("pinning map {}", handle.name)))?;
                any = true;
            }
        }
        Ok(any)
    }
}

/// The switches of a data path that is there, with or without an agent: `brattice bypass --offline`.
///
/// # Errors
/// When none is pinned there, or one of another schema.
pub fn open_pinned_switches(bpffs: &Path) -> Result<Table<abi::SwitchKey, abi::Switch>> {
    let pins = Pins::new(bpffs, Hook::Tcx);
    pins.check()?;
    Table::open(&pins, abi::SWITCHES)
}

/// The configuration that is pinned, of the known schema; `None` where there is none that can be read.
pub(crate) fn pinned_config(pins: &Pins) -> Option<abi::Config> {
    Table::open(pins, abi::CONFIG).ok()?.get(&0).ok()?
}
