//! ICMP errors about what others sent.

use std::net::IpAddr;

use brattice_abi::DropReason::{FromReserved, IcmpForeign, IcmpQuote, UnsupportedProtocol};
use brattice_tests::{
    packets::icmp::{Error, Quote},
    raw::mac,
};

use super::{
    scene::{BRIDGE, Family, GATEWAY, GATEWAY6, Scene},
    sender::VIRTUAL_MAC,
};

const TCP: u8 = 6;

/// "Too big" about a packet of the service to an address, told to the service.
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
            // Of another sender than the VIP that is told.
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
    // About its own it may be told.
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

/// "Too big" to the host itself, about a ping that it answered: the stack looks for no socket then, and remembers the MTU. It
/// learns none of an alias this way, which would make every packet to that workload small.
pub(super) fn errors_to_the_host(scene: &Scene) {
    let bridge = mac(&scene.lab.node, BRIDGE);
    let lie = |family: &Family, from: IpAddr, to: IpAddr| {
        // Echo replies, as the kernel sends them.
        let (icmp, reply, host): (_, _, IpAddr) =
            if family.own.is_ipv4() { (1, 0, GATEWAY.into()) } else { (58, 129, GATEWAY6.into()) };
        let mut quote = Quote::new((from, 0), (to, 0), icmp);
        quote.payload = vec![reply, 0, 0, 0, 0, 1, 0, 1];
        let error = Error::too_big(quote).with(|e| {
            (e.to, e.from, e.source, e.destination) = (bridge, scene.sender.mac, family.own, host);
        });
        scene.sender.send(&error.build());
        scene.sender.fence(super::scene::OWN);
    };
    let engine: [IpAddr; 2] = ["169.254.64.1".parse().unwrap(), "fd8b:2a77:1c51::1".parse().unwrap()];
    for (family, engine) in scene.families().into_iter().zip(engine) {
        let host: IpAddr = if family.own.is_ipv4() { GATEWAY.into() } else { GATEWAY6.into() };
        lie(&family, host, family.neighbour);
        assert_eq!(learnt(scene, family.neighbour, host), Some(1280), "it believes what is told of the bridge");
        scene.guarded_against(2, || {
            for alias in [family.alias, family.own_alias] {
                lie(&family, engine, alias);
                assert_eq!(learnt(scene, alias, engine), None, "{alias}");
            }
        });
    }
}
