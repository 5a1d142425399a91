//! The programs, loaded for one test: maps of their own, attached to nothing.

use std::{
    fs::File,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    path::PathBuf,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf, SockMap},
    programs::{ProgramError, SchedClassifier, SkLookup, TcAttachType, TestRun, TestRunOptions, tc::qdisc_add_clsact},
};
use brattice_abi::{
    ALIASES, Address, Alias, CONFIG, COUNTERS, Config, Counter, DropEvent, DropReason, EVENTS, HALF_OPEN_COUNTS,
    HalfOpenCount, INTERCEPT_COUNTS, LISTENER_DNS, LISTENER_HTTP, LISTENERS, Listener, ListenerKey, SOCKETS, SWITCHES,
    Switch, SwitchKey, TARGETS, TargetKey, VIP_LISTENER, WORKERS, WORKLOAD_EGRESS, WORKLOAD_INGRESS, WORKLOADS,
    WorkerState, Workload, WorkloadKey,
};

/// `TCX_NEXT`, as the programs return it.
pub const TCX_NEXT: u32 = -1i32 as u32;
/// `TCX_DROP`.
pub const TCX_DROP: u32 = 2;
/// `TCX_REDIRECT`: the packet goes to the interface that the program named.
pub const TCX_REDIRECT: u32 = 7;

/// MAC of `brattice0` in [`config`].
pub const BRATTICE0_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xb0];
/// MAC of every workload that [`Node::add_workload`] adds.
pub const WORKLOAD_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x10];
/// Interface that test packets come from unless a test says otherwise: the loopback device of every namespace.
pub const IFINDEX: u32 = 1;

/// Where the object lies: `target/bpf/brattice.bpf.o` of the workspace, from the tests' folder.
pub fn object_path() -> PathBuf {
    PathBuf::from("../target/bpf/brattice.bpf.o")
}

/// Loads the object; nothing is pinned, so all of it goes away with the result.
///
/// # Panics
/// If the object is missing, or the process is not root.
pub fn load() -> Ebpf {
    load_with(Lines::Off)
}

/// Whether the programs send a line about each drop, as `brattice agent --ebpf-log` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// They send none.
    Off,
    /// A line per drop.
    Debug,
}

/// As [`load`], with or without lines.
///
/// # Panics
/// As [`load`].
pub fn load_with(lines: Lines) -> Ebpf {
    let path = object_path();
    // aya-log's `Level::Debug`.
    let level: u8 = if lines == Lines::Debug { 4 } else { 0 };
    EbpfLoader::new().override_global("AYA_LOG_LEVEL", &level, true).load_file(&path).unwrap_or_else(|e| {
        panic!("cannot load {} (needs root, and `cargo xtask build` to have made it): {e:?}", path.display())
    })
}

/// VIPs 169.254.64.0/20 and fd00:a9fe:4000:1::/64, aliases 100.127.0.0/16 and fd00:647f:4000::/48, engine user 0 (whose socket `BPF_PROG_TEST_RUN` gives each packet).
pub fn config() -> Config {
    Config {
        ready: 1,
        vip_net: u32::from(Ipv4Addr::new(169, 254, 64, 0)),
        vip_mask: 0xffff_f000,
        alias_net: u32::from(Ipv4Addr::new(100, 127, 0, 0)),
        alias_mask: 0xffff_0000,
        engine_uid: 0,
        brattice0: 77,
        workers: 2,
        half_open_limit: 8,
        brattice0_mac: BRATTICE0_MAC,
        pad: [0; 2],
        vip_net6: Ipv6Addr::new(0xfd00, 0xa9fe, 0x4000, 1, 0, 0, 0, 0).into(),
        alias_net6: Ipv6Addr::new(0xfd00, 0x647f, 0x4000, 0, 0, 0, 0, 0).into(),
        netns: [0; 2],
    }
}

/// What a program did with a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the program returned.
    pub verdict: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Which program to run.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// `workload_ingress`.
    Ingress,
    /// `workload_egress`.
    Egress,
}

impl Hook {
    fn program(self) -> &'static str {
        match self {
            Self::Ingress => WORKLOAD_INGRESS,
            Self::Egress => WORKLOAD_EGRESS,
        }
    }
}

/// What the kernel gets of a packet besides its bytes: the start of `struct __sk_buff` (UAPI, stable), whose other
/// fields must be 0 here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// Interface the packet came in by; 0 for one of this host.
    pub ingress_ifindex: u32,
    /// Interface of the program; 0 means [`IFINDEX`].
    pub ifindex: u32,
    /// Segments, when it is a GSO packet.
    pub gso_segs: u32,
    /// Bytes in each, when it is a GSO packet.
    pub gso_size: u32,
}

impl Context {
    fn bytes(&self) -> Vec<u8> {
        // Offsets in `struct __sk_buff`.
        const LEN: usize = 192;
        let mut b = vec![0; LEN];
        let mut put = |at: usize, v: u32| b[at..at + 4].copy_from_slice(&v.to_ne_bytes());
        put(36, self.ingress_ifindex);
        put(40, self.ifindex);
        put(164, self.gso_segs);
        put(176, self.gso_size);
        b
    }
}

/// A node with nothing attached.
pub struct Node {
    ebpf: Ebpf,
    events: RingBuf<MapData>,
}

impl Node {
    /// Loads and configures the programs.
    ///
    /// # Panics
    /// If that fails.
    pub fn new() -> Self {
        let mut node = Self::unconfigured();
        node.configure(config());
        node
    }

    /// Loads the programs and leaves the configuration empty.
    ///
    /// # Panics
    /// If that fails.
    pub fn unconfigured() -> Self {
        Self::unconfigured_with(Lines::Off)
    }

    /// As [`Self::unconfigured`], with or without lines of the programs.
    ///
    /// # Panics
    /// As [`Self::unconfigured`].
    pub fn unconfigured_with(lines: Lines) -> Self {
        let mut ebpf = load_with(lines);
        for name in [WORKLOAD_INGRESS, WORKLOAD_EGRESS] {
            let program: &mut SchedClassifier =
                ebpf.program_mut(name).expect("the object has the program").try_into().expect("it is a classifier");
            uninterrupted(|| program.load()).unwrap_or_else(|e| panic!("the kernel refuses {name}: {e:?}"));
        }
        let events = RingBuf::try_from(ebpf.take_map(EVENTS).expect("the object has the map")).expect("ring buffer");
        Self { ebpf, events }
    }

    fn table<K: Pod, V: Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        HashMap::try_from(self.ebpf.map_mut(name).expect("the object has the map")).expect("a hash table")
    }

    /// Writes the configuration.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn configure(&mut self, config: Config) {
        let mut map: Array<_, Config> =
            Array::try_from(self.ebpf.map_mut(CONFIG).expect("the object has the map")).expect("an array");
        map.set(0, config, 0).expect("configuration is written");
    }

    /// Adds a workload with one address behind `ifindex`, in both directions; its MAC is [`WORKLOAD_MAC`].
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn add_workload(
        &mut self,
        ifindex: u32,
        address: impl Into<Address>,
        alias: impl Into<Address>,
        workload_id: u32,
        flags: u32,
    ) {
        self.add_workload_at(ifindex, address, alias, workload_id, flags, WORKLOAD_MAC);
    }

    /// The same with a MAC.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn add_workload_at(
        &mut self,
        ifindex: u32,
        address: impl Into<Address>,
        alias: impl Into<Address>,
        workload_id: u32,
        flags: u32,
        mac: [u8; 6],
    ) {
        let (address, alias) = (address.into(), alias.into());
        self.table(WORKLOADS)
            .insert(WorkloadKey { ifindex, address }, Workload { alias, workload_id, flags }, 0)
            .expect("workload is written");
        self.table(ALIASES)
            .insert(alias, Alias { address, ifindex, workload_id, mac, mtu: 0 }, 0)
            .expect("alias is written");
    }

    /// Says how large a packet to an alias may be; 0 is not known.
    ///
    /// # Panics
    /// If the alias is not there, or the kernel refuses.
    pub fn set_mtu(&mut self, alias: impl Into<Address>, mtu: u16) {
        let (key, mut table) = (alias.into(), self.table::<Address, Alias>(ALIASES));
        let alias = table.get(&key, 0).expect("the alias was added");
        table.insert(key, Alias { mtu, ..alias }, 0).expect("alias is written");
    }

    /// Registers a target.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn add_target(&mut self, alias: impl Into<Address>, port: u16, protocol: u8) {
        let key = TargetKey { alias: alias.into(), port, protocol, pad: 0 };
        self.table(TARGETS).insert(key, 1u32, 0).expect("target is written");
    }

    /// Registers a DNS listener.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn add_dns_listener(&mut self, vip: impl Into<Address>, protocol: u8) {
        let key = ListenerKey { vip: vip.into(), port: 53, protocol, pad: 0 };
        self.table(LISTENERS)
            .insert(key, Listener { kind: LISTENER_DNS, service_id: 0 }, 0)
            .expect("listener is written");
    }

    /// Registers a listener for a service.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn add_service(&mut self, vip: impl Into<Address>, port: u16, service_id: u32) {
        self.add_listener(vip, port, LISTENER_HTTP, service_id);
    }

    /// Registers a listener of a kind (`LISTENER_*`).
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn add_listener(&mut self, vip: impl Into<Address>, port: u16, kind: u32, service_id: u32) {
        let key = ListenerKey { vip: vip.into(), port, protocol: 6, pad: 0 };
        self.table(LISTENERS).insert(key, Listener { kind, service_id }, 0).expect("listener is written");
    }

    /// Puts a socket into a slot, or another in its place.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn set_socket(&mut self, slot: u32, socket: &impl AsRawFd) {
        let mut map =
            SockMap::try_from(self.ebpf.map_mut(SOCKETS).expect("the object has the map")).expect("a socket map");
        map.set(slot, socket, 0).expect("socket is put into its slot");
    }

    /// Empties a slot.
    ///
    /// # Panics
    /// If it is empty.
    pub fn clear_socket(&mut self, slot: u32) {
        let mut map =
            SockMap::try_from(self.ebpf.map_mut(SOCKETS).expect("the object has the map")).expect("a socket map");
        map.clear_index(&slot).expect("the slot was filled");
    }

    /// Writes what a worker reports.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn set_connections(&mut self, worker: u32, connections: u32) {
        let mut map: Array<_, WorkerState> =
            Array::try_from(self.ebpf.map_mut(WORKERS).expect("the object has the map")).expect("an array");
        map.set(worker, WorkerState { heartbeat_ns: 0, connections, requests: 0 }, 0).expect("state is written");
    }

    /// Attaches a classifier for as long as the node lives: by TCX, or by clsact where the kernel has none.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn attach(&mut self, hook: Hook, interface: &str) {
        let (name, direction) = match hook {
            Hook::Ingress => (WORKLOAD_INGRESS, TcAttachType::Ingress),
            Hook::Egress => (WORKLOAD_EGRESS, TcAttachType::Egress),
        };
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(name).expect("the object has the program").try_into().expect("it is a classifier");
        if program.attach(interface, direction).is_ok() {
            return;
        }
        let _ = qdisc_add_clsact(interface);
        program.attach(interface, direction).unwrap_or_else(|e| panic!("cannot attach {name} to {interface}: {e:?}"));
    }

    fn load_vip_listener(&mut self) -> &mut SkLookup {
        let program: &mut SkLookup = self
            .ebpf
            .program_mut(VIP_LISTENER)
            .expect("the object has the program")
            .try_into()
            .expect("it is an sk_lookup program");
        uninterrupted(|| program.load()).unwrap_or_else(|e| panic!("the kernel refuses {VIP_LISTENER}: {e:?}"));
        program
    }

    /// Instructions that the verifier followed to load a program.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn verified_instructions(&mut self, name: &str) -> u32 {
        if name == VIP_LISTENER {
            self.load_vip_listener();
        }
        let info = self.ebpf.program(name).expect("the object has the program").info().expect("it is loaded");
        info.verified_instruction_count().expect("kernels tell since 5.16")
    }

    /// Loads `vip_listener` and attaches it to the calling thread's network namespace for as long as the node lives.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn attach_vip_listener(&mut self) {
        let program = self.load_vip_listener();
        let namespace = File::open("/proc/thread-self/ns/net").expect("a thread has a namespace");
        program.attach(namespace).unwrap_or_else(|e| panic!("cannot attach {VIP_LISTENER}: {e:?}"));
    }

    /// Sets a switch.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn switch(&mut self, scope: u32, id: u32, mode: u32, until_ns: u64) {
        self.table(SWITCHES)
            .insert(SwitchKey { scope, id }, Switch { until_ns, mode, pad: 0 }, 0)
            .expect("switch is written");
    }

    /// Takes a switch away.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn unswitch(&mut self, scope: u32, id: u32) {
        self.table::<_, Switch>(SWITCHES).remove(&SwitchKey { scope, id }).expect("switch was there");
    }

    /// Half-open connections that are counted for a workload.
    pub fn half_open(&mut self, workload_id: u32) -> Option<HalfOpenCount> {
        self.table(HALF_OPEN_COUNTS).get(&workload_id, 0).ok()
    }

    /// What is counted of a workload's unanswered questions to other resolvers.
    pub fn unanswered(&mut self, workload_id: u32) -> Option<HalfOpenCount> {
        self.table(INTERCEPT_COUNTS).get(&workload_id, 0).ok()
    }

    /// Writes it.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn set_unanswered(&mut self, workload_id: u32, count: HalfOpenCount) {
        self.table(INTERCEPT_COUNTS).insert(workload_id, count, 0).expect("count is written");
    }

    /// Writes what is counted for a workload.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn set_half_open(&mut self, workload_id: u32, count: HalfOpenCount) {
        self.table(HALF_OPEN_COUNTS).insert(workload_id, count, 0).expect("count is written");
    }

    fn test_run(
        &mut self,
        hook: Hook,
        frame: &[u8],
        context: Option<&[u8]>,
        repeat: u32,
    ) -> Result<Outcome, ProgramError> {
        let name = hook.program();
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(name).expect("the object has the program").try_into().expect("it is a classifier");
        let mut out = vec![0; frame.len() + 256];
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: context,
            repeat,
            ..TestRunOptions::new()
        })?;
        out.truncate(result.data_size_out as usize);
        Ok(Outcome { verdict: result.return_value, frame: out })
    }

    /// Runs a program on a frame.
    ///
    /// # Panics
    /// If the kernel refuses to.
    pub fn run(&mut self, hook: Hook, frame: &[u8], context: Context) -> Outcome {
        self.test_run(hook, frame, Some(&context.bytes()), 1)
            .unwrap_or_else(|e| panic!("BPF_PROG_TEST_RUN of {} bytes with {context:?}: {e:?}", frame.len()))
    }

    /// Runs a program on a frame that the kernel may find too short to be one; `None` when it does.
    pub fn try_run(&mut self, hook: Hook, frame: &[u8]) -> Option<Outcome> {
        self.test_run(hook, frame, None, 1).ok()
    }

    /// Runs a program on the same frame many times, for programs that drop it and so leave it as it is.
    ///
    /// # Panics
    /// If the kernel refuses to.
    pub fn run_many(&mut self, hook: Hook, frame: &[u8], times: u32) {
        self.test_run(hook, frame, None, times).unwrap_or_else(|e| panic!("BPF_PROG_TEST_RUN: {e:?}"));
    }

    /// Average time of a run, ns, of a frame that the program leaves as it is; `None` of a frame that the kernel finds too
    /// short to be one.
    pub fn time_ns(&mut self, hook: Hook, frame: &[u8], times: u32) -> Option<f64> {
        let name = hook.program();
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(name).expect("the object has the program").try_into().expect("it is a classifier");
        let mut out = vec![0; frame.len() + 256];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), repeat: times, ..TestRunOptions::new() };
        // The kernel's average, in whole nanoseconds.
        Some(program.test_run(options).ok()?.duration.as_secs_f64() * 1e9)
    }

    /// Value of a counter by its index, over all CPUs.
    fn counter(&self, index: u32) -> u64 {
        let map: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.ebpf.map(COUNTERS).expect("the object has the map")).expect("per-CPU array");
        map.get(&index, 0).expect("counter is read").iter().sum()
    }

    /// How often a reason was counted.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.counter(reason.index())
    }

    /// How often something was counted that is no drop.
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counter(counter.index())
    }

    /// Everything that is counted, by name; what is 0 is left out.
    pub fn all_counted(&self) -> Vec<(&'static str, u64)> {
        let drops = DropReason::ALL.iter().map(|r| (r.name(), self.dropped(*r)));
        let others = Counter::ALL.iter().map(|c| (c.name(), self.counted(*c)));
        drops.chain(others).filter(|(_, n)| *n != 0).collect()
    }

    /// Drop events sent since the last call.
    ///
    /// # Panics
    /// If an event has another size than [`DropEvent`].
    #[allow(unsafe_code, reason = "the ring buffer gives bytes")]
    pub fn events(&mut self) -> Vec<DropEvent> {
        let mut events = Vec::new();
        while let Some(item) = self.events.next() {
            assert_eq!(item.len(), size_of::<DropEvent>(), "size of an event");
            // SAFETY: the length was checked, every bit pattern is a DropEvent, and the read asks for no alignment.
            events.push(unsafe { item.as_ptr().cast::<DropEvent>().read_unaligned() });
        }
        events
    }
}

/// Loads again, at most 25 times, when a signal stopped the verifier (`EAGAIN`), as the loader does.
fn uninterrupted(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..25 {
        match load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
    load()
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

/// `CLOCK_BOOTTIME`: the clock of switches, windows and events.
///
/// # Panics
/// If the kernel has no such clock.
pub fn boot_time() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME");
    Duration::new(now.tv_sec() as u64, now.tv_nsec() as u32)
}
