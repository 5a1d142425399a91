//! Too much of what is allowed.

use std::sync::atomic::{AtomicBool, Ordering};

use brattice_abi::DropReason::{HalfOpenLimit, NoListener};

use super::{
    scene::{OWN, Scene},
    sender::{ACK, PATIENCE, SHORT, SYN, host, tcp, udp},
};

/// Sends while the neighbour calls the service again and again.
fn beside_calls(scene: &Scene, send: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let (neighbour, vip) = (&scene.neighbour, scene.vips[0]);
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut calls = 0;
            // At least some after the flood as well.
            while !over.load(Ordering::SeqCst) || calls < 20 {
                let mut open = neighbour.http(vip).unwrap().with_host(host(vip));
                open.nonce(&format!("call {calls}")).unwrap();
                calls += 1;
            }
        });
        send();
        over.store(true, Ordering::SeqCst);
        calls.join().unwrap();
    });
}

/// Datagrams to a service of TCP.
pub(super) fn datagrams(scene: &Scene) {
    const EACH: u64 = 1_000;
    beside_calls(scene, || {
        let before = scene.lab.drops("NoListener");
        for number in 0..EACH {
            for family in scene.families() {
                let payload = udp(1_024 + number as u16, 80, b"flood");
                scene.sender.send(&scene.sender.frame(family.own, family.vip.ip(), payload));
            }
        }
        scene.sender.fence(OWN);
        brattice_tests::lab::wait_until("all are counted", PATIENCE, || {
            scene.lab.drops(NoListener.name()) == before + 2 * EACH
        });
    });
    scene.refused(&[], || {});
}

/// SYNs that are never followed by more, and ones followed by an ACK with made-up numbers. It comes last: the attacker is locked
/// out until its window ends.
pub(super) fn half_open_connections(scene: &Scene) {
    const MORE: u64 = 500;
    let vip = scene.vips[0];
    let mut kept = scene.attacker.http(vip).unwrap();
    kept.nonce("before").unwrap();
    let windows = || scene.lab.status().counters.get("HalfOpenExpired").copied().unwrap_or(0);
    // The count starts again when a window ends, which a slow machine may meet in the middle. It does not meet three.
    let exact = (0..3).any(|round| {
        let ended = windows();
        // What earlier attacks left half open.
        let (used, limit) = scene.lab.status().limits["half-open (busiest workload)"];
        let before = scene.lab.drops(HalfOpenLimit.name());
        beside_calls(scene, || {
            for number in 0..limit + MORE {
                for flags in [SYN, ACK] {
                    let payload = tcp(1_024 + number as u16, 80, flags);
                    scene.sender.send(&scene.sender.frame(OWN.into(), vip.ip(), payload));
                }
            }
            scene.sender.fence(OWN);
        });
        let dropped = scene.lab.drops(HalfOpenLimit.name()) - before;
        let within_a_window = windows() == ended;
        println!("round {round}: {used} of {limit} were used, {dropped} were dropped, one window: {within_a_window}");
        assert!(!within_a_window || dropped == used + MORE, "{used} used, {dropped} dropped");
        within_a_window
    });
    assert!(exact, "each of three floods met the end of a window of 30 s");
    assert!(scene.sender.handshake(SHORT, OWN.into(), vip, |_| {}).is_none(), "locked out");
    kept.nonce("after").unwrap();
    scene.neighbour_calls(vip);
}
