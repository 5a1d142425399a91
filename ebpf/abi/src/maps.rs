//! Keys, values, sizes and names of the maps.

use crate::Address;

/// Name of the map with one [`Config`].
pub const CONFIG: &str = "CONFIG";
/// `HASH` [`WorkloadKey`] → [`Workload`]: what `workload_ingress` accepts.
pub const WORKLOADS: &str = "WORKLOADS";
/// `HASH` [`Address`] (alias) → [`Alias`]: where `workload_egress` delivers.
pub const ALIASES: &str = "ALIASES";
/// `HASH` [`TargetKey`] → `u32` (1): what the engine may connect to: targets by alias, and endpoints it is configured with.
pub const TARGETS: &str = "TARGETS";
/// `HASH` [`ListenerKey`] → [`Listener`]: what `vip_listener` answers.
pub const LISTENERS: &str = "LISTENERS";
/// `SOCKMAP` slot → listening socket; see the `SLOT_*` constants.
pub const SOCKETS: &str = "SOCKETS";
/// `HASH` [`SwitchKey`] → [`Switch`]: `brattice bypass` and `detach`.
pub const SWITCHES: &str = "SWITCHES";
/// `LRU_HASH` [`InterceptKey`] → [`Intercept`]: the resolver a workload asked, for `dns: intercept`.
pub const INTERCEPTS: &str = "INTERCEPTS";
/// `LRU_HASH` `u32` (workload id) → [`HalfOpenCount`]: its questions in [`INTERCEPTS`] that are not answered yet.
pub const INTERCEPT_COUNTS: &str = "INTERCEPT_COUNTS";
/// `LRU_HASH` [`FlowKey`] → `u64` (epoch start, ns): SYNs not yet followed by an ACK.
pub const HALF_OPEN: &str = "HALF_OPEN";
/// `LRU_HASH` `u32` (workload id) → [`HalfOpenCount`]; LRU, so that numbers of workloads that are gone never fill it.
pub const HALF_OPEN_COUNTS: &str = "HALF_OPEN_COUNTS";
/// `PERCPU_ARRAY` index of a [`crate::DropReason`] or [`crate::Counter`] → `u64`.
pub const COUNTERS: &str = "COUNTERS";
/// `RINGBUF` of [`crate::DropEvent`].
pub const EVENTS: &str = "EVENTS";
/// `ARRAY` (`BPF_F_MMAPABLE`) worker → [`WorkerState`]: the only map the engine can write.
pub const WORKERS: &str = "WORKERS";

/// `HASH` [`HostKey`] → [`Host`]: which processes of the host are workloads.
pub const HOSTS: &str = "HOSTS";

/// Names of all maps, in the order in which they are pinned.
pub const ALL_MAPS: &[&str] = &[
    CONFIG,
    WORKLOADS,
    ALIASES,
    TARGETS,
    LISTENERS,
    SOCKETS,
    SWITCHES,
    INTERCEPTS,
    INTERCEPT_COUNTS,
    HALF_OPEN,
    HALF_OPEN_COUNTS,
    COUNTERS,
    EVENTS,
    WORKERS,
    HOSTS,
];

/// Program names, as pinned and as `bpftool prog` shows them.
pub const WORKLOAD_INGRESS: &str = "workload_ingress";
/// See [`WORKLOAD_INGRESS`].
pub const WORKLOAD_EGRESS: &str = "workload_egress";
/// See [`WORKLOAD_INGRESS`].
pub const VIP_LISTENER: &str = "vip_listener";

/// The socket programs: for what the engine connects or sends to and what it binds, and for host processes that call a
/// VIP.
pub const HOST_CONNECT4: &str = "host_connect4";
/// See [`HOST_CONNECT4`].
pub const HOST_CONNECT6: &str = "host_connect6";
/// See [`HOST_CONNECT4`].
pub const HOST_SENDMSG4: &str = "host_sendmsg4";
/// See [`HOST_CONNECT4`].
pub const HOST_SENDMSG6: &str = "host_sendmsg6";
/// See [`HOST_CONNECT4`].
pub const HOST_BIND4: &str = "host_bind4";
/// See [`HOST_CONNECT4`].
pub const HOST_BIND6: &str = "host_bind6";

/// Most workload addresses on a node.
pub const MAX_WORKLOADS: u32 = 65_536;
/// Most (alias, protocol, port) a node's engine may connect to.
pub const MAX_TARGETS: u32 = 262_144;
/// Most (VIP, port, protocol).
pub const MAX_LISTENERS: u32 = 65_536;
/// Most switches in force at once.
pub const MAX_SWITCHES: u32 = 16_384;
/// Most (cgroup, user) of the host that are workloads.
pub const MAX_HOSTS: u32 = 16_384;
/// Cgroups above a process that are looked at, the root not counted; those further down are not seen.
pub const MAX_CGROUP_DEPTH: i32 = 16;
/// DNS questions in flight to intercepted resolvers.
pub const MAX_INTERCEPTS: u32 = 65_536;
/// Of these, unanswered ones of a workload in [`INTERCEPT_WINDOW_NS`]: a 64th, so that one workload evicts no other's.
pub const MAX_INTERCEPTS_OF_WORKLOAD: u32 = 1024;
/// Half-open connections remembered on a node.
pub const MAX_HALF_OPEN: u32 = 65_536;
/// Of these, the most of a workload: a 64th, likewise. [`Config::half_open_limit`] is no more.
pub const MAX_HALF_OPEN_OF_WORKLOAD: u32 = 1024;
/// Bytes of the event ring buffer.
pub const EVENTS_BYTES: u32 = 256 * 1024;
/// Entries of [`COUNTERS`]: drop reasons from 0, counters from 64.
pub const MAX_COUNTERS: u32 = 128;
/// Most engine workers; a worker is a core.
pub const MAX_WORKERS: u32 = 64;

/// Slot of worker `w`'s L7 TCP listener: `SLOT_HTTP + w`.
pub const SLOT_HTTP: u32 = 0;
/// Slot of worker `w`'s listener for connections that are served as TCP: `SLOT_TCP + w`.
pub const SLOT_TCP: u32 = MAX_WORKERS;
/// Slot of the DNS UDP socket.
pub const SLOT_DNS_UDP: u32 = 2 * MAX_WORKERS;
/// Slot of the DNS TCP listener.
pub const SLOT_DNS_TCP: u32 = 2 * MAX_WORKERS + 1;
/// Slot of the DNS UDP socket of IPv6: answers must come from the VIP that was asked, so each family has one. All other
/// sockets serve both.
pub const SLOT_DNS_UDP6: u32 = 2 * MAX_WORKERS + 2;
/// Slots in [`SOCKETS`].
pub const SLOTS: u32 = 2 * MAX_WORKERS + 3;

/// The VIP range starts with addresses of our own: offset 0 is the `src` of the local route (what a host process
/// shows when it calls a VIP), offsets 1 to 16 are the engine's source addresses, 17 is the DNS VIP; services start at
/// [`FIRST_SERVICE_VIP`].
pub const HOST_SOURCE_OFFSET: u32 = 0;
/// First engine source address, as an offset into the VIP range.
pub const FIRST_ENGINE_SOURCE: u32 = 1;
/// Number of engine source addresses.
pub const ENGINE_SOURCES: u32 = 16;
/// The DNS VIP, as an offset into the VIP range.
pub const DNS_VIP_OFFSET: u32 = 17;
/// VIP of preflight's active probe, as an offset into the VIP range.
pub const PROBE_VIP_OFFSET: u32 = 31;
/// Workload number of preflight's active probe, which no workload has. Its alias is the last address of the alias range,
/// which no workload gets.
pub const PROBE_WORKLOAD_ID: u32 = u32::MAX;
/// First VIP that a service can have, as an offset into the VIP range.
pub const FIRST_SERVICE_VIP: u32 = 32;

/// Most IPv6 extension headers of a packet that are read to find TCP or UDP behind them.
pub const MAX_EXTENSION_HEADERS: u32 = 8;

/// Most VLAN tags of a frame that are looked behind, if they only give a priority (id 0).
pub const MAX_TAGS: u32 = 6;

/// Prefix length of the IPv6 VIP range. Its first addresses are our own at the same offsets as in the IPv4 range; a
/// service's has the highest bit of its interface identifier (the lower 64 bits) set, so that the two never meet.
pub const VIP6_PREFIX: u8 = 64;
/// Prefix length of the IPv6 alias range.
pub const ALIAS6_PREFIX: u8 = 48;

/// What the programs know of the node. All zero until the agent has written it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct Config {
    /// 1 once the agent has written the rest.
    pub ready: u32,
    /// Network address of the VIP range, host order.
    pub vip_net: u32,
    /// Mask of the VIP range, host order.
    pub vip_mask: u32,
    /// Network address of the alias range, host order.
    pub alias_net: u32,
    /// Mask of the alias range, host order.
    pub alias_mask: u32,
    /// The engine's user.
    pub engine_uid: u32,
    /// Interface index of `brattice0`.
    pub brattice0: u32,
    /// Engine workers, 1 to [`MAX_WORKERS`].
    pub workers: u32,
    /// Most half-open connections of a workload.
    pub half_open_limit: u32,
    /// MAC of `brattice0`: destination of what is redirected into it.
    pub brattice0_mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
    /// Network address of the IPv6 VIP range, a /[`VIP6_PREFIX`]; all zero: the node has no IPv6.
    pub vip_net6: Address,
    /// Network address of the IPv6 alias range, a /[`ALIAS6_PREFIX`]; all zero: the node has no IPv6.
    pub alias_net6: Address,
    /// Cookie (`SO_NETNS_COOKIE`) of the node's network namespace, lower and upper half: the programs of sockets sit at the
    /// root of the cgroups, which is the root of all namespaces.
    pub netns: [u32; 2],
}

/// Where a packet from a workload comes in, and from which address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct WorkloadKey {
    /// Host-side interface.
    pub ifindex: u32,
    /// The workload's real address.
    pub address: Address,
}

/// What an attached (interface, address) is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct Workload {
    /// Its alias.
    pub alias: Address,
    /// Number of the workload on this node (one number for all its addresses), key of switches and limits.
    pub workload_id: u32,
    /// `WORKLOAD_*` flags.
    pub flags: u32,
}

/// [`Workload::flags`]: port 53 to any address is taken (`dns: intercept`).
pub const WORKLOAD_INTERCEPT_DNS: u32 = 1;
/// [`Workload::flags`]: frames with another MAC than [`Alias::mac`] are not its own. A document names that MAC, as there is
/// no interface of the workload to be asked (a guest behind a tap).
pub const WORKLOAD_MAC_DOCUMENTED: u32 = 2;

/// Where an alias is delivered.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct Alias {
    /// The workload's real address.
    pub address: Address,
    /// Host-side interface to send it out of; 0: a process of the host, whose alias is an address of `brattice0`.
    pub ifindex: u32,
    /// See [`Workload::workload_id`].
    pub workload_id: u32,
    /// The workload's MAC.
    pub mac: [u8; 6],
    /// Largest IP packet that reaches the workload, in bytes; 0: not known, nothing is too large.
    pub mtu: u16,
}

/// Processes of the host.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct HostKey {
    /// Id of their cgroup, or of one above it: the inode of its folder. Never given to another cgroup.
    pub cgroup: u64,
    /// Their user, or [`ANY_USER`].
    pub uid: u32,
    /// Zero.
    pub pad: u32,
}

/// [`HostKey::uid`]: whatever the user. No user has this number.
pub const ANY_USER: u32 = u32::MAX;

/// Which workload processes of the host are.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct Host {
    /// The alias they call VIPs of IPv4 from; all zero: none.
    pub alias: Address,
    /// Likewise of IPv6.
    pub alias6: Address,
}

/// A registered target, or an endpoint that the engine is configured with (a resolver outside).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct TargetKey {
    /// Alias of the workload that is the target; address of an endpoint.
    pub alias: Address,
    /// Target port, host order.
    pub port: u16,
    /// [`crate::IPPROTO_TCP`] or [`crate::IPPROTO_UDP`].
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

/// A VIP and port that is answered.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct ListenerKey {
    /// The VIP.
    pub vip: Address,
    /// Host order.
    pub port: u16,
    /// [`crate::IPPROTO_TCP`] or [`crate::IPPROTO_UDP`].
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

/// What answers a [`ListenerKey`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct Listener {
    /// `LISTENER_*`.
    pub kind: u32,
    /// Number of the service on this node, key of switches; 0 for DNS.
    pub service_id: u32,
}

/// [`Listener::kind`]: an HTTP listener of a service; a worker's `SLOT_HTTP` or, bypassed, `SLOT_TCP`.
pub const LISTENER_HTTP: u32 = 1;
/// [`Listener::kind`]: DNS; `SLOT_DNS_UDP` or `SLOT_DNS_TCP` by protocol.
pub const LISTENER_DNS: u32 = 2;
/// [`Listener::kind`]: a TCP listener of a service; a worker's `SLOT_TCP`.
pub const LISTENER_TCP: u32 = 3;

/// What `brattice bypass` and `brattice detach` switch.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct SwitchKey {
    /// `SWITCH_*` scope.
    pub scope: u32,
    /// Workload or service number; 0 for [`SWITCH_ALL`].
    pub id: u32,
}

/// [`SwitchKey::scope`]: everything on the node.
pub const SWITCH_ALL: u32 = 0;
/// [`SwitchKey::scope`]: one workload.
pub const SWITCH_WORKLOAD: u32 = 1;
/// [`SwitchKey::scope`]: one service.
pub const SWITCH_SERVICE: u32 = 2;

/// A switch in force.
///
/// *Bypass*: new connections are relayed as plain TCP to the default action's targets: no HTTP parsing, rules, header
/// changes. *Detach*: a workload's packets are left untouched as if Brattice were not there (its calls to VIPs are then
/// refused, and nothing reaches it through its alias); a service's VIP is refused; all: both, for all.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct Switch {
    /// When it ends by itself: `CLOCK_BOOTTIME` ns; 0 = never.
    pub until_ns: u64,
    /// [`MODE_BYPASS`] or [`MODE_DETACH`].
    pub mode: u32,
    /// Zero.
    pub pad: u32,
}

/// [`Switch::mode`]: relay without L7.
pub const MODE_BYPASS: u32 = 1;
/// [`Switch::mode`]: out of Brattice.
pub const MODE_DETACH: u32 = 2;

/// Identifies a DNS exchange with a resolver that is not ours.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct InterceptKey {
    /// The client's alias.
    pub alias: Address,
    /// The client's port, host order.
    pub port: u16,
    /// UDP: the DNS message id (RFC 1035, 4.1.1), as on the wire; TCP: 0.
    pub id: u16,
    /// [`crate::IPPROTO_TCP`] or [`crate::IPPROTO_UDP`].
    pub protocol: u32,
}

/// What is kept of a DNS exchange with a resolver that is not ours.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct Intercept {
    /// The resolver.
    pub resolver: Address,
    /// The window it is counted in: [`HalfOpenCount::window_ns`] of its workload in [`INTERCEPT_COUNTS`].
    pub window_ns: u64,
}

/// Length of a window of [`INTERCEPT_COUNTS`]: no caller waits longer for its answer.
pub const INTERCEPT_WINDOW_NS: u64 = 5_000_000_000;

/// A TCP flow of a workload.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct FlowKey {
    /// The workload's alias.
    pub alias: Address,
    /// The VIP.
    pub vip: Address,
    /// The workload's port, host order.
    pub source_port: u16,
    /// The VIP's port, host order.
    pub destination_port: u16,
}

/// A flow that is half open.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct HalfOpen {
    /// The window it is counted in: [`HalfOpenCount::window_ns`] of its workload.
    pub window_ns: u64,
    /// What the workload must acknowledge: the number behind that of the SYN-ACK, with [`HALF_OPEN_ANSWERED`]; 0 before.
    pub answer: u64,
}

/// Set in [`HalfOpen::answer`] once there was a SYN-ACK.
pub const HALF_OPEN_ANSWERED: u64 = 1 << 32;

/// Half-open connections (or unanswered DNS questions) of a workload in the present window.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct HalfOpenCount {
    /// Start of the window, `CLOCK_BOOTTIME` ns. The count starts again [`HALF_OPEN_WINDOW_NS`] later, so that SYNs
    /// that are never answered hold their place for that long at most, also without an agent.
    pub window_ns: u64,
    /// Unanswered SYNs in it. May wrap below zero (as two's complement, with `pad`) when a window ends while another CPU
    /// takes one back; programs read both as one signed word.
    pub count: u32,
    /// Zero.
    pub pad: u32,
}

/// Length of a window of [`HalfOpenCount`].
pub const HALF_OPEN_WINDOW_NS: u64 = 30_000_000_000;

/// What a worker of the engine reports; written by the engine through its mapping.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct WorkerState {
    /// `CLOCK_BOOTTIME` ns of the last turn of the worker's loop.
    pub heartbeat_ns: u64,
    /// Open client connections.
    pub connections: u32,
    /// Requests in flight.
    pub requests: u32,
}

crate::pod!(
    Config,
    WorkloadKey,
    Workload,
    Alias,
    HostKey,
    Host,
    TargetKey,
    ListenerKey,
    Listener,
    SwitchKey,
    Switch,
    InterceptKey,
    Intercept,
    FlowKey,
    HalfOpen,
    HalfOpenCount,
    WorkerState,
);

const _: () = assert!(size_of::<Config>() == 84);
const _: () = assert!(size_of::<WorkloadKey>() == 20);
const _: () = assert!(size_of::<Workload>() == 24);
const _: () = assert!(size_of::<Alias>() == 32);
const _: () = assert!(size_of::<HostKey>() == 16);
const _: () = assert!(size_of::<Host>() == 32);
const _: () = assert!(size_of::<TargetKey>() == 20);
const _: () = assert!(size_of::<ListenerKey>() == 20);
const _: () = assert!(size_of::<Listener>() == 8);
const _: () = assert!(size_of::<SwitchKey>() == 8);
const _: () = assert!(size_of::<Switch>() == 16);
const _: () = assert!(size_of::<InterceptKey>() == 24);
const _: () = assert!(size_of::<Intercept>() == 24);
const _: () = assert!(size_of::<FlowKey>() == 36);
const _: () = assert!(size_of::<HalfOpen>() == 16);
const _: () = assert!(size_of::<HalfOpenCount>() == 16);
const _: () = assert!(size_of::<WorkerState>() == 16);
