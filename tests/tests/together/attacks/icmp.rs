//! ICMP errors about packets of others.

use std::net::IpAddr;

use brattice_abi::DropReason::{FromReserved, IcmpForeign, IcmpQuote, UnsupportedProtocol};
use brattice_tests::{
    packets::icmp::{Error, Quote},
    raw::{checksum, mac},
};

use super::{
    scene::{BRIDGE, ENGINE, Family, GATEWAY, GATEWAY6, Scene},
    sender::VIRTUAL_MAC,
};

const TCP: u8 = 6;

/// "Too big" about a packet of the service to an address, sent to the service.
fn too_big(scene: &Scene, family: &Family, victim: IpAddr) -> Error {
    Error::too_big(Quote::new((family.vip.ip(), 80), (victim, 40_000), TCP)).with(|error| {
        (error.to, error.from, error.source) = (VIRTUAL_MAC, scene.sender.mac, family.own);
    })
}

/// Errors to a VIP: about packets to a neighbour, to an alias and of another service; that quote what is no packet of a
/// connection; redirects; with a source of ours.
pub(super) fn errors_to_a_vip(scene: &Scene) {
    let mut kept = scene.neighbour_connects(scene.vips[0]);
    let mut kept6 = scene.neighbour_connects(scene.vips[1]);
    scene.refused(&[(IcmpForeign, 8), (IcmpQuote, 2), (UnsupportedProtocol, 2), (FromReserved, 2)], || {
        for family in scene.families() {
            for victim in [family.neighbour, family.alias, family.own_alias] {
                scene.sender.send(&too_big(scene, &family, victim).build());
            }
            let own = too_big(scene, &family, family.own);
            // About a packet of another sender than the VIP that gets the error.
            scene.sender.send(&own.clone().with(|e| e.quote.source = family.alias).build());
            // About an error.
            let icmp = if family.own.is_ipv4() { 1 } else { 58 };
            scene.sender.send(&own.clone().with(|e| e.quote.protocol = icmp).build());
            let redirect = if family.own.is_ipv4() { 5 } else { 137 };
            scene.sender.send(&own.clone().with(|e| e.kind = redirect).build());
            scene.sender.send(&own.with(|e| e.source = family.alias).build());
        }
    });
    kept.nonce("after").unwrap();
    kept6.nonce("after").unwrap();
    // An error about its own packets is let through.
    let before = scene.lab.status().counters.get("IcmpFromWorkload").copied().unwrap_or(0);
    for family in scene.families() {
        scene.sender.send(&too_big(scene, &family, family.own).build());
    }
    scene.sender.fence(super::scene::OWN);
    let after = scene.lab.status().counters.get("IcmpFromWorkload").copied().unwrap_or(0);
    assert_eq!(after, before + 2);
}

/// The MTU that the host's stack has learnt of a destination.
fn learnt(scene: &Scene, to: IpAddr, from: IpAddr) -> Option<u32> {
    let text = scene.lab.node.ip(&format!("route get {to} from {from}"));
    let mut words = text.split_whitespace();
    // What it learnt expires.
    text.contains("expires").then(|| words.find(|w| *w == "mtu").and_then(|_| words.next()?.parse().ok())).flatten()
}

/// The frame's packet in fragments of this many bytes.
fn fragments(frame: &[u8], size: usize, id: u8) -> Vec<Vec<u8>> {
    let ipv4 = frame[12..14] == [0x08, 0];
    let (head, body) = frame.split_at(if ipv4 { 34 } else { 54 });
    let count = body.len().div_ceil(size);
    let build = |(number, data): (usize, &[u8])| {
        let mut fragment = head.to_vec();
        let offset = (number * size) as u16;
        if ipv4 {
            let flags = (offset / 8) | if number + 1 < count { 0x2000 } else { 0 };
            fragment[16..18].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
            fragment[18..20].copy_from_slice(&[77, id]);
            fragment[20..22].copy_from_slice(&flags.to_be_bytes());
            fragment[24..26].copy_from_slice(&[0, 0]);
            let sum = checksum(&fragment[14..34], 0);
            fragment[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            let flags = offset | u16::from(number + 1 < count);
            fragment[18..20].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
            let next = std::mem::replace(&mut fragment[20], 44);
            fragment.extend([next, 0]);
            fragment.extend(flags.to_be_bytes());
            fragment.extend([0, 0, 77, id]);
        }
        fragment.extend(data);
        fragment
    };
    body.chunks(size).enumerate().map(build).collect()
}

/// "Too big" to the host itself, about a ping that it answered: the stack looks for no socket then, and remembers the MTU. It
/// learns none of an alias this way, which would make every packet to that workload small.
pub(super) fn errors_to_the_host(scene: &Scene) {
    let bridge = mac(&scene.lab.node, BRIDGE);
    let id = std::cell::Cell::new(0);
    let lie = |family: &Family, from: IpAddr, to: IpAddr, mtu: u32, size: usize| {
        // Echo replies, as the kernel sends them.
        let (icmp, reply, host): (_, _, IpAddr) =
            if family.own.is_ipv4() { (1, 0, GATEWAY.into()) } else { (58, 129, GATEWAY6.into()) };
        let mut quote = Quote::new((from, 0), (to, 0), icmp);
        quote.payload = vec![reply, 0, 0, 0, 0, 1, 0, 1];
        let error = Error::too_big(quote).with(|e| {
            (e.to, e.from, e.source, e.destination) = (bridge, scene.sender.mac, family.own, host);
            e.rest = mtu;
        });
        id.set(id.get() + 1);
        for fragment in fragments(&error.build(), size, id.get()) {
            scene.sender.send(&fragment);
        }
        scene.sender.fence(super::scene::OWN);
    };
    for (family, engine) in scene.families().into_iter().zip(ENGINE) {
        let host: IpAddr = if family.own.is_ipv4() { GATEWAY.into() } else { GATEWAY6.into() };
        // In fragments of which the first shows what it is about, and whole.
        for (mtu, size) in [(1380, 48), (1280, 1_500)] {
            lie(&family, host, family.neighbour, mtu, size);
            assert_eq!(learnt(scene, family.neighbour, host), Some(mtu), "it believes what is told of the bridge");
        }
        scene.guarded_against(8, || {
            for alias in [family.alias, family.own_alias] {
                for size in [1_500, 48, 16, 8] {
                    lie(&family, engine, alias, 1280, size);
                    assert_eq!(learnt(scene, alias, engine), None, "{alias} in {size}");
                }
            }
        });
    }
}
