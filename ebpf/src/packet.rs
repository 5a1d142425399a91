//! Reading packets: what is common to both families of IP, ports and flags. Headers are in [`crate::ipv4`] and
//! [`crate::ipv6`].
//!
//! Everything is read with `bpf_skb_load_bytes`, which also reaches what does not lie in the linear part of a packet
//! (GSO, fragments of pages), and changes nothing: a packet that turns out not to be ours is as it came.

use aya_ebpf::programs::TcContext;
use brattice_abi::{DropReason, IPPROTO_TCP, IPPROTO_UDP};

use crate::{address::Ip, protocols::may_hide_ports};

/// `TCX_NEXT`: as if this program were not there.
pub(crate) const TCX_NEXT: i32 = -1;
/// `TCX_DROP`.
pub(crate) const TCX_DROP: i32 = 2;

/// No verdicts: what a program's first function leaves to another. All that is on the stack at once has 512 bytes, so such a
/// one is called after the first has returned, not by it.
pub(crate) const ICMP_ERROR: i32 = 0x100;
/// See [`ICMP_ERROR`].
pub(crate) const TOO_LARGE: i32 = 0x101;

/// ethertype of IPv4, as `__sk_buff.protocol` holds it (network order).
pub(crate) const ETH_P_IP: u32 = 0x0800u16.to_be() as u32;
/// ethertype of IPv6, as `__sk_buff.protocol` holds it.
pub(crate) const ETH_P_IPV6: u32 = 0x86ddu16.to_be() as u32;
/// ethertype of ARP, as `__sk_buff.protocol` holds it.
pub(crate) const ETH_P_ARP: u32 = 0x0806u16.to_be() as u32;

/// ethertype of a VLAN tag (IEEE 802.1Q), as `__sk_buff.protocol` holds it.
pub(crate) const ETH_P_8021Q: u32 = 0x8100u16.to_be() as u32;
/// ethertype of a provider's VLAN tag (IEEE 802.1ad), likewise.
pub(crate) const ETH_P_8021AD: u32 = 0x88a8u16.to_be() as u32;

/// Bytes before the IP header.
pub(crate) const ETH_LEN: u32 = 14;
/// Least bytes of a TCP header.
const TCP_MIN_LEN: u32 = 20;
/// Bytes of a UDP header.
pub(crate) const UDP_LEN: u32 = 8;

/// TCP flags (RFC 9293, 3.1).
pub(crate) const TCP_SYN: u8 = 0x02;
pub(crate) const TCP_RST: u8 = 0x04;
pub(crate) const TCP_ACK: u8 = 0x10;

/// Fields of `__sk_buff` that the programs read. Volatile: the verifier wants each to be a load at a fixed offset from
/// the context, which an optimizer that merges loads would spoil.
macro_rules! context_field {
    ($($(#[$m:meta])* $name:ident: $field:ident),* $(,)?) => {
        $(
            $(#[$m])*
            #[inline(always)]
            pub(crate) fn $name(ctx: &TcContext) -> u32 {
                // SAFETY: the context is valid while the program runs; the verifier checks the offset.
                unsafe { (&raw const (*ctx.skb.skb).$field).read_volatile() }
            }
        )*
    };
}

context_field! {
    /// Bytes of the frame, Ethernet header included.
    frame_len: len,
    /// ethertype, network order.
    protocol: protocol,
    /// Not 0 when a VLAN tag was taken off the frame.
    vlan: vlan_present,
    /// Tag control information of that tag.
    vlan_tci: vlan_tci,
    /// Its ethertype, network order.
    vlan_proto: vlan_proto,
    /// The interface the program sits on.
    ifindex: ifindex,
    /// Where the packet came in; 0 for what this host made.
    ingress_ifindex: ingress_ifindex,
    /// Payload bytes of each segment; 0 when the packet is no GSO packet.
    gso_size: gso_size,
}

/// An IP header of either family, as far as the programs ask about it.
pub(crate) trait Header: Copy {
    /// Addresses of the family.
    type Address: Ip;

    /// `None` when the frame is shorter than the fixed header.
    fn load(ctx: &TcContext) -> Option<Self>;

    fn source(&self) -> Self::Address;

    fn destination(&self) -> Self::Address;

    /// What the fixed header says that follows: for IPv6 this may be an extension header.
    fn protocol(&self) -> u8;

    /// Destination port of what may be an interceptable packet: TCP or UDP, a well-formed header, not a later fragment.
    /// For foreign traffic, hence no complaint about anything: 0 when there is none.
    fn peek_destination_port(&self, ctx: &TcContext) -> u16;

    /// Checks what `load` cannot: version, lengths, extension headers, and that the frame holds all of them.
    fn check(&self, ctx: &TcContext) -> Result<Checked, DropReason>;
}

/// Is this TCP or UDP, which alone have ports?
#[inline(always)]
pub(crate) fn has_ports(protocol: u8) -> bool {
    protocol == IPPROTO_TCP || protocol == IPPROTO_UDP
}

/// What a packet whose IP header is sound carries, and where it lies.
#[derive(Clone, Copy)]
pub(crate) struct Checked {
    /// Behind extension headers, if there are any.
    pub(crate) protocol: u8,
    /// Offset of the TCP or UDP header (or a later fragment's payload) in the frame.
    pub(crate) l4_offset: u32,
    /// Bytes of it that are really there.
    pub(crate) payload: u32,
    /// Not a later fragment: the TCP or UDP header is in this packet.
    pub(crate) first: bool,
    /// The frame holds all that the IP header promises.
    pub(crate) whole: bool,
    /// UDP must have a checksum (RFC 8200, 8.1).
    pub(crate) needs_checksum: bool,
}

/// What the programs want to know of a TCP or UDP header.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    /// Host order.
    pub(crate) source: u16,
    /// Host order.
    pub(crate) destination: u16,
    /// TCP flags; 0 for UDP.
    pub(crate) flags: u8,
    /// TCP sequence number, host order; 0 for UDP.
    pub(crate) sequence: u32,
    /// TCP acknowledgment number, likewise.
    pub(crate) acknowledgment: u32,
}

impl Ports {
    /// Ports of UDP: no flags, no sequence numbers.
    #[inline(always)]
    pub(crate) fn of_udp(source: u16, destination: u16) -> Self {
        Self { source, destination, flags: 0, sequence: 0, acknowledgment: 0 }
    }

    /// A SYN that asks for a new connection.
    #[inline(always)]
    pub(crate) fn is_bare_syn(&self) -> bool {
        self.flags & (TCP_SYN | TCP_ACK) == TCP_SYN
    }
}

/// The first bytes of a TCP header, up to the flags.
#[repr(C)]
#[derive(Clone, Copy)]
struct TcpStart {
    source: u16,
    destination: u16,
    sequence: u32,
    acknowledgment: u32,
    data_offset: u8,
    flags: u8,
    window: u16,
}

impl Checked {
    /// Itself, unless the TCP or UDP header is cut off, or a later fragment, at this many bytes, reaches into it.
    #[inline(always)]
    pub(crate) fn with_room_for_ports(self, fragment_offset: u32) -> Result<Self, DropReason> {
        if self.protocol == IPPROTO_TCP {
            if self.first && self.payload < TCP_MIN_LEN {
                return Err(DropReason::Truncated);
            }
            // guard: overlapping-fragments
            if !self.first && fragment_offset < TCP_MIN_LEN {
                // Would be put over the ports, flags or checksum of a header that was already judged (RFC 3128).
                return Err(DropReason::Malformed);
            }
        }
        if self.protocol == IPPROTO_UDP && self.first && self.payload < UDP_LEN {
            return Err(DropReason::Truncated);
        }
        Ok(self)
    }

    /// Is it TCP or UDP, or may its first fragment be? A later fragment of IPv6 may begin with destination options or AH,
    /// and does not show what is behind them.
    #[inline(always)]
    pub(crate) fn is_service(&self) -> bool {
        has_ports(self.protocol) || !self.first && may_hide_ports(self.protocol)
    }

    /// Ports and flags; `None` for a later fragment. Only for TCP and UDP. Last of the checks: what is left to complain
    /// about after the headers are known to be there is a frame that is shorter than its IP header promises.
    #[inline(always)]
    pub(crate) fn ports(&self, ctx: &TcContext) -> Result<Option<Ports>, DropReason> {
        let mut ports = None;
        if self.first {
            if self.protocol == IPPROTO_TCP {
                let tcp: TcpStart = ctx.load(self.l4_offset as usize).map_err(|_| DropReason::HelperFailed)?;
                let len = (tcp.data_offset >> 4) as u32 * 4;
                if len < TCP_MIN_LEN {
                    return Err(DropReason::Malformed);
                }
                if len > self.payload {
                    return Err(DropReason::Truncated);
                }
                ports = Some(Ports {
                    source: u16::from_be(tcp.source),
                    destination: u16::from_be(tcp.destination),
                    flags: tcp.flags,
                    sequence: u32::from_be(tcp.sequence),
                    acknowledgment: u32::from_be(tcp.acknowledgment),
                });
            } else {
                let [source, destination, _, checksum]: [u16; 4] =
                    ctx.load(self.l4_offset as usize).map_err(|_| DropReason::HelperFailed)?;
                if self.needs_checksum && checksum == 0 {
                    return Err(DropReason::Malformed);
                }
                ports = Some(Ports::of_udp(u16::from_be(source), u16::from_be(destination)));
            }
        }
        if !self.whole {
            return Err(DropReason::Malformed);
        }
        Ok(ports)
    }

    /// The first two bytes of UDP payload, as on the wire: a DNS message's id. 0 when there are none.
    #[inline(always)]
    pub(crate) fn dns_id(&self, ctx: &TcContext) -> u16 {
        if self.payload < UDP_LEN + 2 {
            return 0;
        }
        ctx.load::<u16>((self.l4_offset + UDP_LEN) as usize).unwrap_or(0)
    }
}
