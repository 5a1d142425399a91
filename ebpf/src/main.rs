//! The kernel side of Brattice: its programs and the maps between them and user space.
//!
//! | program | hook | what it decides |
//! |---|---|---|
//! | [`workload_ingress`] | TCX ingress of a workload's host-side interface | Is this packet for a VIP, and is its source really the workload? Then source → alias, and into `brattice0`. Answers ARP and NDP for VIPs. |
//! | [`workload_egress`] | TCX egress of `brattice0` | May this packet reach a workload? Only the engine's may. Then alias → real address, and out of the workload's interface. |
//! | [`vip_listener`] | `sk_lookup` of the node's network namespace | Which listening socket answers this VIP and port? One of ours, or none: it never falls through to a socket of the host. |
//! | [`host_sockets`] | `connect`, `sendmsg`, `bind` of all processes | Is it the engine? Then only targets, configured endpoints and its own sources. Does it call a VIP, and is it a workload? Then from its alias. All else is left alone. |
//!
//! Translation is one to one and keeps no state: a workload's address has one alias, and nothing is lost when a
//! program is replaced. The two tables that do change per packet, `HALF_OPEN` and `INTERCEPTS`, are LRU tables of fixed
//! size: the first only bounds what a workload may ask for, the second only restores the source of DNS answers.
//!
//! # What is ours, and what is not
//!
//! `workload_ingress` takes a packet only when it is IPv4 or IPv6 (where the node has that) without a tag of another VLAN and its
//! destination lies in the VIP range, or in the alias range, or its source lies in either, or (workloads with `dns:
//! intercept`) it goes to port 53. Everything else gets `TCX_NEXT` with not a byte changed, so that other TCX programs
//! and the host see it as it came: VLAN, other ethertypes, broken headers of foreign traffic, ARP and NDP for other
//! addresses. `workload_egress` sits on a device of our own: what it does not deliver, it drops. `vip_listener` leaves
//! every lookup outside the VIP range alone.
//!
//! # Odd packets
//!
//! A packet that is ours is delivered whole or dropped with a reason ([`brattice_abi::DropReason`]); never half changed:
//! a kernel helper that refuses is a drop (`HelperFailed`).
//!
//! - **Cut off.** A header that ends before its time is `Truncated`, whether the frame or the IP total length cuts
//!   it. Without the fixed 20 or 40 bytes of the IP header no destination is known, so such a frame is not ours.
//! - **Malformed.** A version that is not the ethertype's, IHL below 5, a total length below the header or above the
//!   frame, a TCP data offset below 5. A wrong IP, TCP or UDP checksum stays as wrong as it came (all updates are
//!   incremental) and the receiver drops it.
//! - **IP options** are carried along unread, 0 to 40 bytes.
//! - **IPv6 extension headers** (hop-by-hop, destination options, routing, AH, fragment) are carried along unread, at
//!   most [`brattice_abi::MAX_EXTENSION_HEADERS`] of them (`TooManyHeaders`); what follows them is judged. Hop-by-hop
//!   options are first or `Malformed`; a routing header of type 0 or with segments left is `SourceRouted`.
//! - **Fragments** are translated one by one, without state: the address in each, the TCP or UDP checksum in the
//!   first, which alone has it. A first fragment must hold the whole TCP or UDP header, and a later TCP fragment
//!   must not reach into it (RFC 3128), so that the flags that were judged are those that are delivered.
//! - **UDP checksum 0** (none) stays 0; over IPv6 it is `Malformed`.
//! - **Checksum offload and GSO.** The helpers know which part of a checksum the sender left to the hardware; headers of a
//!   GSO packet are translated once for all its segments.
//! - **Jumbograms** are GSO packets, whose lengths of 0 mean all that is there, or else `Truncated`.
//! - **ICMP errors** about our flows are translated with the packet they quote, both ways (`icmp`); other ICMP to a VIP or
//!   alias, neighbour solicitations for a VIP aside, is dropped (`UnsupportedProtocol`, `NotForWorkload`).
//! - **Larger than the workload's MTU**: becomes an ICMP error about itself (`too_large`).
//!
//! # Bounds
//!
//! No loops but some with a fixed bound, over IPv6 extension headers, IPv4 and NDP options and the cgroups above a process, and no tail calls: each
//! program is otherwise a straight line of at most a few dozen helper calls. Only contexts of the kernel's stable
//! interface are read (`__sk_buff`, `bpf_sk_lookup`, `bpf_sock_addr`), so one object fits every kernel from 6.1 on.
#![no_std]
#![no_main]
// Read-modify-write on map values (see `atomic`).
#![feature(asm_experimental_arch)]

mod address;
mod arp;
mod atomic;
mod call;
mod config;
mod documented_mac;
mod half_open;
mod host_identity;
mod host_sockets;
mod icmp;
mod intercept;
mod ipv4;
mod ipv6;
mod maps;
mod ndp;
mod packet;
mod protocols;
mod reach;
mod report;
mod rewrite;
mod switches;
mod tags;
mod too_large;
mod vip_listener;
mod window;
mod workload_egress;
mod workload_ingress;

/// The licence for the kernel; no helper in use asks for GPL.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: nothing here indexes, unwraps or overflows; the verifier would refuse an endless loop.
    loop {}
}
