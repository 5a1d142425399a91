//! Counters of the programs, and their events.

use crate::Address;

/// Declares an enum whose variants index [`crate::COUNTERS`], with a name and an explanation for operators.
macro_rules! reasons {
    ($(#[$m:meta])* $name:ident { $( $(#[doc = $doc:literal])+ $v:ident = $n:literal => $text:literal ),* $(,)? }) => {
        $(#[$m])*
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[cfg_attr(feature = "user", derive(Debug))]
        pub enum $name { $( $(#[doc = $doc])+ $v = $n ),* }

        impl $name {
            /// Every variant, in order of its number.
            pub const ALL: &[$name] = &[$($name::$v),*];

            /// The variant of a number read from a map; `None` for one this build does not know.
            pub const fn from_u32(n: u32) -> Option<Self> {
                match n { $($n => Some($name::$v),)* _ => None }
            }

            /// Stable name, as metrics and `status` show it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$v => stringify!($v)),* }
            }

            /// What it means for an operator, in a sentence.
            pub const fn text(self) -> &'static str {
                match self { $($name::$v => $text),* }
            }
        }
    };
}

reasons! {
    /// Why a program dropped a packet or refused a connection. The number indexes [`crate::COUNTERS`].
    DropReason {
        /// Source address is not one of the workload's, or a guest's MAC not the documented one.
        SpoofedSource = 0 => "the workload sent service traffic from an address that is not its own, or a guest with another MAC than its document says",
        /// Destination lies in the alias range.
        ToAlias = 1 => "a workload sent a packet to another workload's alias",
        /// Source lies in the VIP or alias range.
        FromReserved = 2 => "a workload sent a packet with a source in the VIP or alias range",
        /// Neither TCP nor UDP to a VIP.
        UnsupportedProtocol = 3 => "a VIP was addressed with a protocol other than TCP or UDP",
        /// Header ends before the packet does.
        Truncated = 4 => "the packet ends inside its IP, TCP or UDP header",
        /// IHL below 5, version not that of the ethertype, length impossible, TCP data offset below 5, a TCP fragment that
        /// reaches into the header, a hop-by-hop header that is not the first, or UDP over IPv6 without checksum.
        Malformed = 5 => "the IP, TCP or UDP header is malformed",
        /// Too many unanswered SYNs.
        HalfOpenLimit = 6 => "the workload has too many half-open connections",
        /// A packet to an alias that the host only forwards.
        Forwarded = 7 => "another host or interface tried to reach an alias through this host",
        /// Source outside the VIP range.
        SourceNotVip = 8 => "a host process sent to an alias from an address outside the VIP range",
        /// Not the engine's user.
        NotEngine = 9 => "a host process that is not the engine tried to reach a workload through its alias",
        /// Not an engine source address.
        NotEngineSource = 10 => "a packet to an alias came from a VIP that is not an engine source address",
        /// (alias, protocol, port) is not registered.
        NotTarget = 11 => "the alias, protocol and port are no registered target",
        /// No workload has this alias.
        UnknownAlias = 12 => "no workload has this alias (any more)",
        /// Neither TCP nor UDP to an alias, or not of a family that the node has.
        NotForWorkload = 13 => "brattice0 was given a packet that is no service traffic",
        /// VIP lookup not from brattice0.
        UnattestedPeer = 14 => "a VIP was called by something that is not an attached workload (another host, an interface not yet attached)",
        /// None of our (VIP, port, protocol).
        NoListener = 15 => "no service listens on this VIP and port",
        /// Slot empty.
        EngineDown = 16 => "the engine is not running: its listening sockets are gone",
        /// Switched off with `brattice detach`.
        Detached = 17 => "the service, or everything, is detached (brattice detach)",
        /// A helper of the kernel failed.
        HelperFailed = 18 => "a kernel helper refused to change the packet",
        /// The configuration map is empty.
        NotConfigured = 19 => "the agent has not configured the programs yet",
        /// More than [`crate::MAX_EXTENSION_HEADERS`].
        TooManyHeaders = 20 => "the packet has more IPv6 extension headers than are read",
        /// An IPv6 routing header of type 0 (RFC 5095), or one with segments left; an IPv4 source route option.
        SourceRouted = 21 => "the packet names its own way by an IPv6 routing header or an IPv4 source route",
        /// The packet that an ICMP error quotes is not from or to the workload that the error is from or to.
        IcmpForeign = 22 => "an ICMP error is about a packet that is not of the workload it came from or goes to",
        /// Cut off, malformed, a later fragment, neither TCP nor UDP.
        IcmpQuote = 23 => "an ICMP error does not quote the start of a TCP or UDP packet",
        /// A later fragment that no error may be sent about.
        TooLarge = 24 => "a fragment is larger than the workload's MTU",
        /// Neither a registered target nor a configured endpoint.
        EngineReach = 25 => "the engine tried to reach what is neither a registered target nor an endpoint it is configured with",
        /// Not an address the engine connects from.
        EngineBind = 26 => "the engine tried to bind an address that is none of its sources",
        /// No `Workload` names its cgroup and user, or its socket had an address of its own already.
        UnattestedHost = 27 => "a process of the host called a VIP, and is no workload: no Workload document names its cgroup and user (or its socket was bound before)",
        /// No process of the host may bind an alias.
        HostBind = 28 => "a process of the host tried to bind an alias, which only the kernel gives to those who are attested",
        /// More than [`crate::MAX_TAGS`], all with VLAN id 0.
        TooManyTags = 29 => "the frame has more VLAN tags of id 0, which only give a priority, than are looked behind",
        /// More than [`crate::MAX_INTERCEPTS_OF_WORKLOAD`].
        InterceptLimit = 30 => "the workload has too many unanswered DNS questions to other resolvers (dns: intercept)",
    }
}

reasons! {
    /// What is counted that is no drop. The number, plus 64, indexes [`crate::COUNTERS`].
    Counter {
        /// Service packets taken from workloads.
        FromWorkload = 0 => "service packets taken from workloads",
        /// Packets handed to workloads.
        ToWorkload = 1 => "packets handed to workloads",
        /// ARP requests for a VIP answered.
        ArpAnswered = 2 => "ARP requests for a VIP answered",
        /// Connections and datagrams given to the engine.
        ToEngine = 3 => "connections and datagrams given to the engine",
        /// Connections given to the engine's relay because of a bypass.
        Bypassed = 4 => "connections relayed without L7 because of brattice bypass",
        /// DNS queries to foreign resolvers taken.
        DnsIntercepted = 5 => "DNS packets to other resolvers taken (dns: intercept)",
        /// Packets left alone because of `brattice detach`.
        DetachedPassed = 6 => "packets of detached workloads left alone",
        /// Drop events lost because the ring buffer was full.
        EventsLost = 7 => "drop events lost because the ring buffer was full",
        /// Half-open entries forgotten when their window ended.
        HalfOpenExpired = 8 => "half-open windows that ended with unanswered SYNs",
        /// Neighbour solicitations for a VIP answered.
        NdpAnswered = 9 => "IPv6 neighbour solicitations for a VIP answered",
        /// ICMP errors of workloads about what was sent to them.
        IcmpFromWorkload = 10 => "ICMP errors of workloads, or of routers before them, taken",
        /// ICMP errors of the host about what workloads sent.
        IcmpToWorkload = 11 => "ICMP errors of this host handed to workloads",
        /// See `too_large.rs`.
        TooLargeAnswered = 12 => "packets larger than a workload's MTU, answered with an ICMP error",
    }
}

impl DropReason {
    /// Index in [`crate::COUNTERS`].
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

impl Counter {
    /// Index in [`crate::COUNTERS`].
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32 + 64
    }
}

/// The first drops of each reason on each CPU are all sent as events ...
pub const EVENT_BURST: u64 = 32;
/// ... later ones when `count & EVENT_SAMPLE_MASK == 0`.
pub const EVENT_SAMPLE_MASK: u64 = 0xff;

/// One sampled drop, sent over [`crate::EVENTS`].
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Debug))]
pub struct DropEvent {
    /// `CLOCK_BOOTTIME`, ns.
    pub at_ns: u64,
    /// A [`DropReason`].
    pub reason: u32,
    /// Interface of the packet (where it came in, or would go out).
    pub ifindex: u32,
    /// Source address as the program saw it.
    pub source: Address,
    /// Destination address as the program saw it.
    pub destination: Address,
    /// 0 where there is none.
    pub source_port: u16,
    /// 0 where there is none.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Which program: 1 `workload_ingress`, 2 `workload_egress`, 3 `vip_listener`, 4 those of sockets (`host_connect4`
    /// and its kin).
    pub program: u8,
    /// Zero.
    pub pad: [u8; 2],
}

crate::pod!(DropEvent);
const _: () = assert!(size_of::<DropEvent>() == 56);
