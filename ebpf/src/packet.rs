//! Reading packets: the fixed IPv4 header, its checks, ports and flags.
//!
//! Everything is read with `bpf_skb_load_bytes`, which also reaches what does not lie in the linear part of a packet
//! (GSO, fragments of pages), and changes nothing: a packet that turns out not to be ours is as it came.

use aya_ebpf::programs::TcContext;
use brattice_abi::{DropReason, IPPROTO_TCP, IPPROTO_UDP};

/// `TCX_NEXT`: as if this program were not there.
pub(crate) const TCX_NEXT: i32 = -1;
/// `TCX_DROP`.
pub(crate) const TCX_DROP: i32 = 2;

/// ethertype of IPv4, as `__sk_buff.protocol` holds it (network order).
pub(crate) const ETH_P_IP: u32 = 0x0800u16.to_be() as u32;
/// ethertype of ARP, as `__sk_buff.protocol` holds it.
pub(crate) const ETH_P_ARP: u32 = 0x0806u16.to_be() as u32;

/// Bytes before the IP header.
pub(crate) const ETH_LEN: u32 = 14;
/// Least bytes of an IPv4 header.
const IPV4_MIN_LEN: u32 = 20;
/// Least bytes of a TCP header.
const TCP_MIN_LEN: u32 = 20;
/// Bytes of a UDP header.
const UDP_LEN: u32 = 8;

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
    /// The interface the program sits on.
    ifindex: ifindex,
    /// Where the packet came in; 0 for what this host made.
    ingress_ifindex: ingress_ifindex,
    /// Payload bytes of each segment; 0 when the packet is no GSO packet.
    gso_size: gso_size,
}

/// The fixed part of an IPv4 header (RFC 791, 3.1), as on the wire.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    total_length: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    pub(crate) protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

const _: () = assert!(size_of::<Ipv4>() == IPV4_MIN_LEN as usize);

impl Ipv4 {
    /// `None` when the frame is shorter than that.
    #[inline(always)]
    pub(crate) fn load(ctx: &TcContext) -> Option<Self> {
        ctx.load(ETH_LEN as usize).ok()
    }

    /// Host order.
    #[inline(always)]
    pub(crate) fn source(&self) -> u32 {
        u32::from_be(self.source)
    }

    /// Host order.
    #[inline(always)]
    pub(crate) fn destination(&self) -> u32 {
        u32::from_be(self.destination)
    }

    /// Header length in bytes, 0 to 60.
    #[inline(always)]
    fn len(&self) -> u32 {
        ((self.version_ihl & 0x0f) as u32) << 2
    }

    /// Fragment offset in units of 8 bytes.
    #[inline(always)]
    fn fragment_offset(&self) -> u16 {
        u16::from_be(self.fragment) & 0x1fff
    }

    /// Is this TCP or UDP, which alone have ports?
    #[inline(always)]
    pub(crate) fn has_ports(&self) -> bool {
        self.protocol == IPPROTO_TCP || self.protocol == IPPROTO_UDP
    }

    /// Destination port of what may be an interceptable packet: TCP or UDP, a well-formed IPv4 header, not a later
    /// fragment. For foreign traffic, hence no complaint about anything: 0 when there is none.
    #[inline(always)]
    pub(crate) fn peek_destination_port(&self, ctx: &TcContext) -> u16 {
        if !self.has_ports() || self.version_ihl >> 4 != 4 || self.len() < IPV4_MIN_LEN || self.fragment_offset() != 0 {
            return 0;
        }
        ctx.load::<u16>((ETH_LEN + self.len() + 2) as usize).map_or(0, u16::from_be)
    }

    /// Checks what [`Ipv4::load`] cannot: version, lengths, and that the frame holds all of them.
    #[inline(always)]
    pub(crate) fn check(&self, ctx: &TcContext) -> Result<Checked, DropReason> {
        let present = frame_len(ctx).wrapping_sub(ETH_LEN);
        let header = self.len();
        if self.version_ihl >> 4 != 4 || header < IPV4_MIN_LEN {
            return Err(DropReason::Malformed);
        }
        if header > present {
            return Err(DropReason::Truncated);
        }
        let mut total = u16::from_be(self.total_length) as u32;
        if total == 0 && gso_size(ctx) != 0 {
            // A GSO packet of more than 64 KiB has no total length that 16 bits could hold (BIG TCP).
            total = present;
        }
        if total < header {
            return Err(DropReason::Malformed);
        }
        let payload = if total < present { total } else { present } - header;
        let first = self.fragment_offset() == 0;
        if self.protocol == IPPROTO_TCP {
            if first && payload < TCP_MIN_LEN {
                return Err(DropReason::Truncated);
            }
            if !first && (self.fragment_offset() as u32) << 3 < TCP_MIN_LEN {
                // Would be put over the ports, flags or checksum of a header that was already judged (RFC 3128).
                return Err(DropReason::Malformed);
            }
        }
        if self.protocol == IPPROTO_UDP && first && payload < UDP_LEN {
            return Err(DropReason::Truncated);
        }
        Ok(Checked { l4_offset: ETH_LEN + header, payload, first, whole: total <= present })
    }
}

/// Where things lie in a packet whose IPv4 header is sound.
#[derive(Clone, Copy)]
pub(crate) struct Checked {
    /// Offset of the TCP or UDP header (or a later fragment's payload) in the frame.
    pub(crate) l4_offset: u32,
    /// Bytes of IP payload that are really there.
    payload: u32,
    /// Not a later fragment: the TCP or UDP header is in this packet.
    pub(crate) first: bool,
    /// The frame holds all that the total length promises.
    whole: bool,
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
}

impl Ports {
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
    /// Ports and flags; `None` for a later fragment. Only for TCP and UDP. Last of the checks: what is left to complain
    /// about after the headers are known to be there is a frame that is shorter than its total length.
    #[inline(always)]
    pub(crate) fn ports(&self, ctx: &TcContext, protocol: u8) -> Result<Option<Ports>, DropReason> {
        let mut ports = None;
        if self.first {
            if protocol == IPPROTO_TCP {
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
                });
            } else {
                let [source, destination]: [u16; 2] =
                    ctx.load(self.l4_offset as usize).map_err(|_| DropReason::HelperFailed)?;
                ports = Some(Ports { source: u16::from_be(source), destination: u16::from_be(destination), flags: 0 });
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
