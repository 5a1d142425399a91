//! The maps. Names, keys and values are those of [`brattice_abi`].

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SockMap},
};
use brattice_abi::{
    Address, Alias, Config, EVENTS_BYTES, FlowKey, HalfOpen, HalfOpenCount, Host, HostKey, Intercept, InterceptKey,
    Listener, ListenerKey, MAX_COUNTERS, MAX_HALF_OPEN, MAX_HOSTS, MAX_INTERCEPTS, MAX_LISTENERS, MAX_SWITCHES,
    MAX_TARGETS, MAX_WORKERS, MAX_WORKLOADS, SLOTS, Switch, SwitchKey, TargetKey, WorkerState, Workload, WorkloadKey,
};

// Tables that only user space fills are not preallocated: their limits are far above what most nodes need.
// LRU tables always are, so filling them never fails for lack of memory.

#[map]
pub(crate) static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

#[map]
pub(crate) static WORKLOADS: HashMap<WorkloadKey, Workload> =
    HashMap::with_max_entries(MAX_WORKLOADS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static ALIASES: HashMap<Address, Alias> = HashMap::with_max_entries(MAX_WORKLOADS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static HOSTS: HashMap<HostKey, Host> = HashMap::with_max_entries(MAX_HOSTS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static TARGETS: HashMap<TargetKey, u32> = HashMap::with_max_entries(MAX_TARGETS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static LISTENERS: HashMap<ListenerKey, Listener> =
    HashMap::with_max_entries(MAX_LISTENERS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static SOCKETS: SockMap = SockMap::with_max_entries(SLOTS, 0);

#[map]
pub(crate) static SWITCHES: HashMap<SwitchKey, Switch> = HashMap::with_max_entries(MAX_SWITCHES, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static INTERCEPTS: LruHashMap<InterceptKey, Intercept> = LruHashMap::with_max_entries(MAX_INTERCEPTS, 0);

#[map]
pub(crate) static INTERCEPT_COUNTS: LruHashMap<u32, HalfOpenCount> = LruHashMap::with_max_entries(MAX_WORKLOADS, 0);

#[map]
pub(crate) static HALF_OPEN: LruHashMap<FlowKey, HalfOpen> = LruHashMap::with_max_entries(MAX_HALF_OPEN, 0);

#[map]
pub(crate) static HALF_OPEN_COUNTS: LruHashMap<u32, HalfOpenCount> = LruHashMap::with_max_entries(MAX_WORKLOADS, 0);

#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_COUNTERS, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// Read here, written by the engine through a mapping: nothing but the choice between two workers may depend on it.
#[map]
pub(crate) static WORKERS: Array<WorkerState> = Array::with_max_entries(MAX_WORKERS, BPF_F_MMAPABLE);
