//! `host_egress`: what attested sockets of the host send to VIPs.

use aya_ebpf::{
    bindings::{BPF_ANY, bpf_sock},
    helpers::{bpf_sk_fullsock, generated::bpf_sk_storage_get},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use brattice_abi::{Address, Config, DropReason, FlowKey, HostFlowKey, HostSocket, IPPROTO_TCP, IPPROTO_UDP};

use crate::{
    config, half_open, host_identity,
    host_sockets::ALLOW,
    maps::{HOST_FLOWS, HOST_SOCKETS},
    packet::{ETH_P_IP, Ports, TCP_ACK, TCP_SYN},
    report::{self, Program, Seen, now_ns},
};

/// The packet is dropped.
const DROP: i32 = 0;
/// ethertype of IPv6, as `__sk_buff.protocol` holds it.
const ETH_P_IPV6: u32 = 0x86ddu16.to_be() as u32;

/// Egress of all processes. A packet to a VIP of a socket that `host_connect4` and its kin attested is noted for
/// `vip_listener`, which takes no other: what a socket shows as its source says nothing on a host, where anybody may bind what
/// is local. Packets of sockets that were not attested are not looked at.
#[cgroup_skb(egress)]
pub fn host_egress(ctx: SkBuffContext) -> i32 {
    let Some(socket) = attested(&ctx) else { return ALLOW };
    let Some(config) = config::get() else { return ALLOW };
    let Some((flow, protocol, flags)) = read(&ctx) else { return ALLOW };
    if !host_identity::same(&flow.alias, &socket.alias) || !host_identity::is_vip(config, &flow.vip) {
        return ALLOW;
    }
    match note(config, socket, flow, protocol, flags) {
        Ok(()) => ALLOW,
        Err(reason) => {
            let number = |address: &Address| {
                if host_identity::is_v4(address) { u32::from_be(host_identity::words(address)[3]) } else { 0 }
            };
            let seen = Seen {
                source: number(&flow.alias),
                destination: number(&flow.vip),
                source_port: flow.source_port,
                destination_port: flow.destination_port,
                protocol,
            };
            report::dropped(Program::HostEgress, reason, 0, &seen);
            DROP
        }
    }
}

/// As whom the packet's socket calls; `None` for all others, and for what has no socket.
#[inline(always)]
fn attested(ctx: &SkBuffContext) -> Option<&HostSocket> {
    // SAFETY: the context is valid while the program runs; the verifier checks the offset. Volatile for the reason given
    // at `context_field!` in `packet.rs`.
    let socket: *mut bpf_sock = unsafe { (&raw const (*ctx.skb.skb).__bindgen_anon_2.sk).read_volatile() };
    if socket.is_null() {
        return None;
    }
    // SAFETY: not 0, and of this packet.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    if socket.is_null() {
        return None;
    }
    let map = (&raw const HOST_SOCKETS).cast_mut().cast();
    // SAFETY: a whole socket; the map's values are `HostSocket`s.
    let found = unsafe { bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: null or a value of the map, which stays while the program runs.
    unsafe { found.cast::<HostSocket>().as_ref() }
}

/// Flow, protocol and TCP flags of what has ports and is no later fragment. The packet begins with its IP header, which the
/// host's own stack has built.
#[inline(always)]
fn read(ctx: &SkBuffContext) -> Option<(FlowKey, u8, u8)> {
    // SAFETY: as in `attested`.
    let (source, destination, protocol, offset) = match unsafe { (&raw const (*ctx.skb.skb).protocol).read_volatile() } {
        ETH_P_IP => {
            let header: [u32; 5] = ctx.load(0).ok()?;
            let fragment = u16::from_be((header[1] >> 16) as u16) & 0x1fff;
            if fragment != 0 {
                return None;
            }
            let mapped = |word| host_identity::from_words([0, 0, 0xffff_0000, word]);
            (mapped(header[3]), mapped(header[4]), (header[2] >> 8) as u8, (header[0] & 0x0f) << 2)
        }
        ETH_P_IPV6 => {
            let header: [u32; 10] = ctx.load(0).ok()?;
            let at = |n: usize| host_identity::from_words([header[n], header[n + 1], header[n + 2], header[n + 3]]);
            (at(2), at(6), (header[1] >> 16) as u8, 40)
        }
        _ => return None,
    };
    if protocol != IPPROTO_TCP && protocol != IPPROTO_UDP {
        return None;
    }
    let ports: [u16; 2] = ctx.load(offset as usize).ok()?;
    let flags = if protocol == IPPROTO_TCP { ctx.load::<u8>(offset as usize + 13).ok()? } else { 0 };
    let flow = FlowKey {
        alias: source,
        vip: destination,
        source_port: u16::from_be(ports[0]),
        destination_port: u16::from_be(ports[1]),
    };
    Some((flow, protocol, flags))
}

#[inline(always)]
fn note(config: &Config, socket: &HostSocket, flow: FlowKey, protocol: u8, flags: u8) -> Result<(), DropReason> {
    let begins = if protocol == IPPROTO_TCP {
        let ports = Ports { source: flow.source_port, destination: flow.destination_port, flags };
        if ports.is_bare_syn() {
            half_open::admit(socket.workload_id, &flow, config.half_open_limit)?;
            true
        } else {
            if flags & (TCP_SYN | TCP_ACK) == TCP_ACK {
                half_open::release(socket.workload_id, &flow);
            }
            false
        }
    } else {
        true
    };
    if begins {
        let key = HostFlowKey { flow, protocol: protocol as u32 };
        HOST_FLOWS.insert(key, now_ns(), BPF_ANY as u64).map_err(|_| DropReason::HelperFailed)?;
    }
    Ok(())
}
