//! An engine that is killed again and again stays down: clients are reset, `status` says why, and an operator's word or a
//! change of the documents brings it back.

use std::time::{Duration, Instant};

use brattice_tests::lab::{Retail, forward, service, wait_until};
use brattice_wire::api::Health;
use nix::sys::signal::{Signal, kill};

/// As in the agent (`MAX_FAILURES`); written down here, because it is a promise.
const FAILURES: u64 = 5;

#[test]
fn an_engine_killed_five_times_stays_down_until_it_is_asked_for() {
    let retail = Retail::start();
    let vip = retail.orders();
    retail.blue.http(vip).unwrap().nonce("before").unwrap();
    kill_five_times(&retail);

    let status = retail.lab.brattice(&["status"]);
    assert_eq!(status.code, 2, "{}", status.text());
    assert!(status.stdout.contains("stays down") && status.stdout.contains("SIGKILL"), "{}", status.stdout);
    assert!(status.stdout.contains("brattice engine restart"), "{}", status.stdout);
    assert_eq!(retail.lab.status().health, Health::Down);
    for _ in 0..5 {
        let start = Instant::now();
        let refused = retail.blue.connect_within(vip, Duration::from_secs(2)).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(start.elapsed() < Duration::from_millis(500), "left hanging for {:?}", start.elapsed());
    }
    assert_eq!(retail.lab.status().engine.restarts, FAILURES, "no more tries");

    // Only root may bring it back; then it serves.
    let restarted = retail.lab.brattice(&["engine", "restart"]);
    assert!(restarted.ok() && restarted.stdout.contains("a new engine serves"), "{}", restarted.text());
    assert_eq!(retail.blue.http(vip).unwrap().nonce("after").unwrap().server(), "v1");
    wait_until("all is well again", Duration::from_secs(5), || retail.lab.brattice(&["status"]).code == 0);

    // A working engine is replaced, too.
    let before = retail.lab.engine_pid();
    assert!(retail.lab.brattice(&["engine", "restart"]).ok());
    assert_ne!(retail.lab.engine_pid(), before);
    retail.blue.http(vip).unwrap().nonce("again").unwrap();
}

#[test]
fn a_change_of_the_documents_brings_an_engine_back_that_stays_down() {
    let retail = Retail::start();
    let vip = retail.orders();
    kill_five_times(&retail);
    assert!(retail.blue.connect_within(vip, Duration::from_secs(2)).is_err());
    retail.lab.write("accounts/shop/orders.yaml", &service(&forward(0, 1)));
    wait_until("it serves by the new documents", Duration::from_secs(10), || {
        retail.blue.http(vip).and_then(|mut open| open.nonce("n")).is_ok_and(|answer| answer.server() == "v2")
    });
    assert_eq!(retail.lab.brattice(&["status"]).code, 0);
}

fn kill_five_times(retail: &Retail) {
    for failures in 1..=FAILURES {
        kill(retail.lab.engine_pid(), Signal::SIGKILL).unwrap();
        wait_until("it is replaced, or given up", Duration::from_secs(10), || {
            let state = if failures < FAILURES { "running" } else { "down" };
            retail
                .lab
                .try_status()
                .is_ok_and(|status| status.engine.restarts == failures && status.engine.state == state)
        });
    }
}
