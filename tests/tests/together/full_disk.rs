//! A state directory on a full disk: what is served, what is reported, and that it recovers.

use std::{fs, path::PathBuf};

use brattice_tests::lab::{Retail, SETTLE, forward, service, sh, wait_until};
use nix::sys::signal::{Signal, kill};

const ORDERS: &str = "accounts/shop/orders.yaml";

/// A file system of its own in place of the state directory.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: PathBuf) -> Self {
        sh(&format!("mount -t tmpfs -o size=512k,mode=0700 tmpfs {}", folder.display()));
        Self(folder)
    }

    fn fill(&self) {
        // Until there is room for nothing, not even a page.
        let ballast = self.0.join("ballast");
        let _ = fs::write(&ballast, vec![0; 1 << 20]);
        assert!(fs::metadata(&ballast).unwrap().len() > 4096);
        assert!(fs::write(self.0.join("more"), "x").is_err() || fs::remove_file(self.0.join("more")).is_ok());
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn version(retail: &Retail) -> String {
    retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server().to_owned()
}

#[test]
fn an_agent_that_starts_on_a_full_state_disk_serves_says_so_and_heals() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let disk = Disk::mount(retail.lab.state_dir());
    retail.lab.start_agent();
    disk.fill();
    // Changes go on, and are not kept.
    for (v1, v2) in [(0, 1), (1, 1), (1, 0)] {
        retail.lab.apply(ORDERS, &service(&forward(v1, v2)));
    }
    assert_eq!(version(&retail), "v1");
    let served = retail.lab.status().revision;
    // The next agent knows numbers that the engine has gone past, and a change waits for it.
    let engine = retail.lab.engine_pid();
    retail.lab.agent().kill();
    retail.lab.write(ORDERS, &service(&forward(0, 1)));
    retail.lab.start_agent();
    assert_eq!(retail.lab.engine_pid(), engine, "the engine is taken over");
    wait_until("the change that waited is served", SETTLE, || version(&retail) == "v2");
    let status = retail.lab.status();
    assert!(status.revision > served, "{} after {served}: no number is given twice", status.revision);
    wait_until("the engine has it", SETTLE, || {
        let status = retail.lab.status();
        status.engine.revision == status.revision
    });
    wait_until("it is said", SETTLE, || {
        let problems = retail.lab.status().problems.join("\n");
        problems.contains("is full") && problems.contains("free space") && problems.contains("documents of shop")
    });
    assert_eq!(retail.lab.brattice(&["status"]).code, 1, "degraded");
    // Without an engine as well.
    retail.lab.agent().kill();
    kill(engine, Signal::SIGKILL).unwrap();
    retail.lab.start_agent();
    assert_eq!(version(&retail), "v2");
    disk.free();
    wait_until("it heals", SETTLE * 2, || retail.lab.brattice(&["status"]).code == 0);
    let kept = fs::read_to_string(retail.lab.state_dir().join("last-good/account-shop.json")).unwrap();
    assert!(kept.contains("orders-v2, weight: 1"), "{kept}");
    let state: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(retail.lab.state_dir().join("state.json")).unwrap()).unwrap();
    assert_eq!(state["revision"], retail.lab.status().revision);
    drop(disk);
}
