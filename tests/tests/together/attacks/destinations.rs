//! Where it must not get to.

use std::{
    io::Read,
    net::{IpAddr, SocketAddr},
};

use brattice_abi::DropReason::{NoListener, ToAlias, UnsupportedProtocol};
use brattice_tests::{
    packets::frame::Payload,
    raw::mac,
    server::{BANNER, WildcardServices},
};

use super::{
    scene::{GATEWAY, Scene},
    sender::{ACK, PATIENCE, SYN, tcp, udp},
};

/// ICMP or ICMPv6 echo request; its checksum is not looked at.
fn echo(to: IpAddr) -> Payload {
    let (protocol, kind) = if to.is_ipv4() { (1, 8) } else { (58, 128) };
    Payload::Raw(protocol, vec![kind, 0, 0, 0, 0, 1, 0, 1])
}

fn to_alias(scene: &Scene, aliases: [IpAddr; 2]) {
    scene.refused(&[(ToAlias, 10)], || {
        for (family, alias) in scene.families().into_iter().zip(aliases) {
            for payload in [
                tcp(4_000, 8_080, SYN),
                tcp(4_000, 8_080, ACK),
                udp(4_000, 8_080, b"hello"),
                udp(4_000, 53, b"hello"),
                echo(alias),
            ] {
                scene.sender.send(&scene.sender.frame(family.own, alias, payload));
            }
        }
    });
}

/// The server's alias, at its registered port and others.
pub(super) fn the_alias_of_another(scene: &Scene) {
    to_alias(scene, scene.aliases);
}

/// Its own alias: it must not be its own caller from outside its VPC either.
pub(super) fn its_own_alias(scene: &Scene) {
    to_alias(scene, scene.own_aliases);
}

/// The engine's addresses and ports, also by the MAC of `brattice0`.
pub(super) fn the_engines_own_sockets(scene: &Scene) {
    let brattice0 = mac(&scene.lab.node, "brattice0");
    scene.refused(&[(NoListener, 16)], || {
        for (family, range) in scene.families().into_iter().zip(["169.254.64.", "fd8b:2a77:1c51::"]) {
            for to in ["1", "2"].map(|last| format!("{range}{last}").parse().unwrap()) {
                for payload in [tcp(4_000, 15_001, SYN), udp(4_000, 15_001, b"hello")] {
                    let mut frame = scene.sender.frame(family.own, to, payload);
                    scene.sender.send(&frame);
                    frame[..6].copy_from_slice(&brattice0);
                    scene.sender.send(&frame);
                }
            }
        }
    });
}

/// Ports at which the host has daemons on all addresses, and no service listens.
pub(super) fn daemons_of_the_host(scene: &Scene) {
    let daemons = WildcardServices::start(&scene.lab.node, &[22, 6_443]);
    scene.refused(&[(NoListener, 8)], || {
        for family in scene.families() {
            for port in [22, 6_443] {
                for payload in [tcp(4_000, port, SYN), udp(4_000, port, b"hello")] {
                    scene.sender.send(&scene.sender.frame(family.own, family.vip.ip(), payload));
                }
            }
        }
    });
    assert_eq!(daemons.hits(), 0);
    let mut open = scene.attacker.connect(SocketAddr::from((GATEWAY, 22))).unwrap();
    open.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = [0; BANNER.len()];
    open.read_exact(&mut text).unwrap();
    assert_eq!(text, BANNER, "by the host's own address it is there");
}

/// Whatever has no ports: pings, tunnels with a packet to the server's alias inside, SCTP.
pub(super) fn other_protocols(scene: &Scene) {
    scene.refused(&[(UnsupportedProtocol, 8)], || {
        for family in scene.families() {
            let inner = scene.sender.frame(family.own, family.alias, tcp(4_000, 8_080, SYN)).split_off(14);
            let tunnel = if family.own.is_ipv4() { 4 } else { 41 };
            for payload in [
                echo(family.own),
                Payload::Raw(tunnel, inner.clone()),
                Payload::Raw(47, [&[0, 0, 8, 0][..], &inner].concat()),
                Payload::Raw(132, vec![0; 32]),
            ] {
                scene.sender.send(&scene.sender.frame(family.own, family.vip.ip(), payload));
            }
        }
    });
}
