//! Before the agent has seen an interface.

use std::net::IpAddr;

use brattice_abi::DropReason::UnattestedPeer;
use brattice_tests::{lab::Wiring, raw::mac};
use nix::sys::signal::{Signal, kill};

use super::{
    scene::{BRIDGE, Scene},
    sender::{SHORT, SYN, Sender, host, tcp, udp},
};

/// A new interface sends while the agent is stopped: its packets belong to no workload, also with another's alias as
/// source. Once attached, it is served under its own identity.
pub(super) fn before_attachment(scene: &Scene) {
    let agent = scene.lab.agent.as_ref().unwrap().pid();
    let (own, own6): (IpAddr, IpAddr) = ("10.0.0.19".parse().unwrap(), "fd10::19".parse().unwrap());
    let mut fresh = None;
    let before = scene.guarded();
    scene.refused(&[(UnattestedPeer, 6)], || {
        kill(agent, Signal::SIGSTOP).unwrap();
        let workload = scene.lab.workload("blue9", &own.to_string(), Wiring::Bridged(BRIDGE));
        scene.lab.also(&workload, &own6.to_string(), Wiring::Bridged(BRIDGE));
        let sender = Sender::of(&workload);
        // A new port may have given the bridge another.
        let bridge = mac(&scene.lab.node, BRIDGE);
        for (family, own) in scene.families().into_iter().zip([own, own6]) {
            let to_bridge = |frame: &mut Vec<u8>| frame[..6].copy_from_slice(&bridge);
            for payload in [tcp(4_000, 80, SYN), udp(4_000, 80, b"early")] {
                let mut frame = sender.frame(own, family.vip.ip(), payload.clone());
                to_bridge(&mut frame);
                sender.send(&frame);
                let mut frame = sender.frame(family.alias, family.vip.ip(), payload);
                to_bridge(&mut frame);
                sender.send(&frame);
            }
            assert!(sender.handshake(SHORT, own, family.vip, to_bridge).is_none());
        }
        fresh = Some(sender);
        kill(agent, Signal::SIGCONT).unwrap();
    });
    assert_eq!(scene.guarded(), before + 4, "what came from an alias");
    let fresh = fresh.unwrap();
    for (family, own) in scene.families().into_iter().zip([own, own6]) {
        scene.lab.alias("blue9", own);
        let answer = fresh.call(own, family.vip, host(family.vip), |_| {}).unwrap();
        assert!(answer.to_ascii_lowercase().contains(&format!("\"{own}\"")), "{answer}");
    }
}
