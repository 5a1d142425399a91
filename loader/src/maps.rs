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
use crate::{Error, Result, sys};

/// A map in the kernel, opened.
#[derive(Debug)]
struct Handle {
    fd: OwnedFd,
    name: &'static str,
    capacity: u32,
    value_size: u32,
}

impl Handle {
    fn open(pins: &Pins, name: &'static str) -> Result<Arc<Self>> {
        let fd = sys::obj_get(&pins.map(name)).map_err(Error::bpf(format!("opening the pinned map {name}")))?;
        let info = sys::map_info(fd.as_fd()).map_err(Error::bpf(format!("asking for map {name}")))?;
        Ok(Arc::new(Self { fd, name, capacity: info.max_entries, value_size: info.value_size }))
    }

    fn error(&self, what: &str, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => Error::Full { map: self.name.into(), capacity: self.capacity },
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
    fn new(handle: &Arc<Handle>) -> Self {
        Self { handle: Arc::clone(handle), types: PhantomData }
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
        match sys::lookup(self.handle.fd.as_fd(), key, &mut value) {
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
        sys::update(self.handle.fd.as_fd(), sys::bytes_of(key), sys::bytes_of(value))
            .map_err(|error| self.handle.error("writing", error))
    }

    /// Removes a key; one that is absent is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, key: &K) -> Result<()> {
        match sys::delete(self.handle.fd.as_fd(), sys::bytes_of(key)) {
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
        let bound = u64::from(self.handle.capacity) * 2;
        for _ in 0..bound {
            let last = keys.last().map(Vec::as_slice);
            let more = sys::next_key(self.handle.fd.as_fd(), last, &mut next)
                .map_err(|error| self.handle.error("reading", error))?;
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
        sys::next_key(self.handle.fd.as_fd(), None, &mut next)
            .map(|more| !more)
            .map_err(|error| self.handle.error("reading", error))
    }

    /// Most entries.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.handle.capacity
    }
}

/// All maps. Cheap to clone; clones are the same maps.
#[derive(Clone, Debug)]
pub struct Maps {
    config: Arc<Handle>,
    workloads: Arc<Handle>,
    aliases: Arc<Handle>,
    targets: Arc<Handle>,
    listeners: Arc<Handle>,
    sockets: Arc<Handle>,
    switches: Arc<Handle>,
    half_open_counts: Arc<Handle>,
    counters: Arc<Handle>,
    events: Arc<Handle>,
    workers: Arc<Handle>,
    hosts: Arc<Handle>,
    /// Only the programs use these.
    kernel_only: [Arc<Handle>; 3],
    /// CPUs that per-CPU values have room for.
    cpus: usize,
}

impl Maps {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            config: Handle::open(pins, abi::CONFIG)?,
            workloads: Handle::open(pins, abi::WORKLOADS)?,
            aliases: Handle::open(pins, abi::ALIASES)?,
            targets: Handle::open(pins, abi::TARGETS)?,
            listeners: Handle::open(pins, abi::LISTENERS)?,
            sockets: Handle::open(pins, abi::SOCKETS)?,
            switches: Handle::open(pins, abi::SWITCHES)?,
            half_open_counts: Handle::open(pins, abi::HALF_OPEN_COUNTS)?,
            counters: Handle::open(pins, abi::COUNTERS)?,
            events: Handle::open(pins, abi::EVENTS)?,
            workers: Handle::open(pins, abi::WORKERS)?,
            hosts: Handle::open(pins, abi::HOSTS)?,
            kernel_only: [
                Handle::open(pins, abi::INTERCEPTS)?,
                Handle::open(pins, abi::INTERCEPT_COUNTS)?,
                Handle::open(pins, abi::HALF_OPEN)?,
            ],
            cpus: aya::util::nr_cpus().map_err(|(path, e)| Error::io(format!("reading {path}"))(e))?,
        })
    }

    /// (interface, address) → workload: what `workload_ingress` accepts.
    #[must_use]
    pub fn workloads(&self) -> Table<abi::WorkloadKey, abi::Workload> {
        Table::new(&self.workloads)
    }

    /// Alias → where it is delivered.
    #[must_use]
    pub fn aliases(&self) -> Table<abi::Address, abi::Alias> {
        Table::new(&self.aliases)
    }

    /// Which processes of the host are workloads.
    #[must_use]
    pub fn hosts(&self) -> Table<abi::HostKey, abi::Host> {
        Table::new(&self.hosts)
    }

    /// What the engine may connect to; the value is 1.
    #[must_use]
    pub fn targets(&self) -> Table<abi::TargetKey, u32> {
        Table::new(&self.targets)
    }

    /// What `vip_listener` answers.
    #[must_use]
    pub fn listeners(&self) -> Table<abi::ListenerKey, abi::Listener> {
        Table::new(&self.listeners)
    }

    /// Bypasses and detachments in force.
    #[must_use]
    pub fn switches(&self) -> Table<abi::SwitchKey, abi::Switch> {
        Table::new(&self.switches)
    }

    /// The configuration: one entry with key 0, which cannot be removed.
    #[must_use]
    pub fn config(&self) -> Table<u32, abi::Config> {
        Table::new(&self.config)
    }

    /// Half-open connections by workload number.
    #[must_use]
    pub fn half_open_counts(&self) -> Table<u32, abi::HalfOpenCount> {
        Table::new(&self.half_open_counts)
    }

    /// Puts a listening (or bound UDP) socket into a slot, in place of what is there.
    ///
    /// # Errors
    /// When the kernel refuses: no such slot, or no listening socket.
    pub fn set_socket(&self, slot: u32, socket: BorrowedFd<'_>) -> Result<()> {
        let fd = socket.as_raw_fd();
        let wide = u64::from(fd.cast_unsigned()).to_ne_bytes();
        let narrow = fd.to_ne_bytes();
        let value: &[u8] = if self.sockets.value_size == 8 { &wide } else { &narrow };
        sys::update(self.sockets.fd.as_fd(), &slot.to_ne_bytes(), value)
            .map_err(Error::bpf(format!("putting a socket into slot {slot}")))
    }

    /// Empties a slot; one that is empty is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear_socket(&self, slot: u32) -> Result<()> {
        match sys::delete(self.sockets.fd.as_fd(), &slot.to_ne_bytes()) {
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
        match sys::lookup(self.sockets.fd.as_fd(), &slot.to_ne_bytes(), &mut cookie) {
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
        let mut values = vec![0; self.cpus * size_of::<u64>()];
        (0..self.counters.capacity)
            .map(|index| {
                sys::lookup(self.counters.fd.as_fd(), &index.to_ne_bytes(), &mut values)
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
        let table = Table::<u32, abi::WorkerState>::new(&self.workers);
        let count = count.min(self.workers.capacity);
        Ok((0..count).map(|w| table.get(&w)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// A descriptor of the workers' map, for the engine to map into its memory.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn workers_fd(&self) -> Result<OwnedFd> {
        self.workers.fd.try_clone().map_err(Error::io("duplicating the descriptor of map WORKERS"))
    }

    pub(crate) fn events_fd(&self) -> Result<OwnedFd> {
        self.events.fd.try_clone().map_err(Error::io("duplicating the descriptor of map EVENTS"))
    }

    /// Pins again what is pinned no longer; whether there was any.
    pub(crate) fn repin(&self, pins: &Pins) -> Result<bool> {
        let mut any = false;
        let own = [
            &self.config,
            &self.workloads,
            &self.aliases,
            &self.targets,
            &self.listeners,
            &self.sockets,
            &self.switches,
            &self.half_open_counts,
            &self.counters,
            &self.events,
            &self.workers,
            &self.hosts,
        ];
        for handle in own.into_iter().chain(&self.kernel_only) {
            let path = pins.map(handle.name);
            if !path.exists() {
                sys::obj_pin(handle.fd.as_fd(), &path).map_err(Error::bpf(format!("pinning map {}", handle.name)))?;
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
    let handle = Handle::open(&pins, abi::SWITCHES)?;
    if handle.value_size as usize != size_of::<abi::Switch>() {
        return Err(Error::Layout {
            name: "map SWITCHES".into(),
            detail: format!("its values have {} bytes", handle.value_size),
        });
    }
    Ok(Table::new(&handle))
}
