//! The way to attach of kernels without TCX, which this one has as well.

use std::time::Duration;

use brattice_loader::interfaces::Watch;
use brattice_loader::preflight::probe;
use brattice_loader::{Datapath, Error, Hook, cleanup};
use tokio::time::timeout;

use crate::testbed::{SOCKET_PROGRAMS, Testbed, ifindex, sh, testbed, tree, try_sh};

impl Testbed {
    async fn start_with_clsact(&self) -> Datapath {
        Datapath::start_with(self.options(), Hook::Clsact).await.unwrap()
    }
}

fn filters(device: &str) -> String {
    sh(&format!("tc filter show dev {device} ingress; tc filter show dev {device} egress"))
}

fn has_clsact(device: &str) -> bool {
    sh(&format!("tc qdisc show dev {device}")).contains("clsact")
}

/// A foreign filter, on a `clsact` that is there.
fn foreign(device: &str, preference: u32) {
    sh(&format!("tc filter add dev {device} ingress pref {preference} protocol all u32 match u32 0 0 flowid 1:1"));
}

#[test]
fn packets_pass_in_both_directions() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start_with_clsact().await;
        assert_eq!(datapath.hook(), Hook::Clsact);
        let report = probe(&datapath).await.unwrap();
        assert!(report.passed(), "{report:?}");
        // And not because nothing is there: without the program, it fails.
        sh("tc qdisc del dev brattice0 clsact");
        let report = probe(&datapath).await.unwrap();
        assert!(!report.passed(), "{report:?}");
        assert_eq!(datapath.repair().await.unwrap(), ["workload_egress"]);
        assert!(probe(&datapath).await.unwrap().passed());
    });
}

#[test]
fn filters_are_the_first_of_all_and_told_as_such() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        sh("tc qdisc add dev v0 clsact");
        foreign("v0", 2);
        foreign("v0", 49_152);
        let datapath = testbed.start_with_clsact().await;
        datapath.attach(ifindex("v0")).await.unwrap();
        datapath.attach(ifindex("v0")).await.unwrap();
        let there = filters("v0");
        let ours = there.find("pref 1 bpf").unwrap_or_else(|| panic!("{there}"));
        assert!(ours < there.find("pref 2 u32").unwrap(), "{there}");
        assert_eq!(there.matches("workload_ingress direct-action").count(), 1, "{there}");
        assert!(there.contains("handle 0xbb workload_ingress direct-action"), "{there}");
        if Hook::of_this_kernel() == Hook::Tcx {
            assert!(crate::foreign::attached("v0").is_empty(), "and no TCX program");
        }
        let attached = datapath.attached().unwrap();
        let hooks: Vec<_> = attached
            .iter()
            .filter(|a| a.hook != "cgroup")
            .map(|a| (a.program, a.attached_to.as_str(), a.hook))
            .collect();
        assert_eq!(
            hooks,
            [
                ("vip_listener", "network namespace", "sk_lookup"),
                ("workload_egress", "brattice0", "clsact"),
                ("workload_ingress", "v0", "clsact")
            ]
        );
        assert!(attached.iter().all(|a| a.instructions > 100), "{attached:?}");
    });
}

#[test]
fn a_restart_adopts_the_filters() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        let first = testbed.start_with_clsact().await;
        first.attach(ifindex("v0")).await.unwrap();
        let before = (first.attached().unwrap(), filters("v0"), filters("brattice0"), tree(&testbed.bpffs));
        drop(first);
        // As it was started, whatever this kernel has that is better.
        let next = testbed.start().await;
        assert!(next.adopted());
        assert_eq!((next.hook(), next.steps()), (Hook::Clsact, Vec::<&str>::new()));
        next.attach(ifindex("v0")).await.unwrap();
        assert_eq!((next.attached().unwrap(), filters("v0"), filters("brattice0"), tree(&testbed.bpffs)), before);
        next.detach(ifindex("v0")).await.unwrap();
        assert_eq!(next.attached().unwrap().len(), 2 + SOCKET_PROGRAMS);
    });
}

#[test]
fn what_others_take_away_is_noticed_and_put_back() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        let datapath = testbed.start_with_clsact().await;
        datapath.attach(ifindex("v0")).await.unwrap();
        let mut watch = Watch::open().unwrap();
        for (command, expected) in [
            ("tc qdisc del dev v0 clsact", "workload_ingress"),
            ("tc filter del dev v0 ingress pref 1", "workload_ingress"),
            ("tc filter del dev v0 ingress", "workload_ingress"),
            ("tc qdisc del dev brattice0 clsact", "workload_egress"),
        ] {
            sh(command);
            let mut repaired = Vec::new();
            while !repaired.contains(&expected) {
                let change = timeout(Duration::from_secs(5), watch.changed()).await.expect(command).unwrap();
                assert!(change.links, "{command}: {change:?}");
                repaired.extend(datapath.repair().await.unwrap());
            }
            datapath.attach(ifindex("v0")).await.unwrap();
            assert_eq!(datapath.attached().unwrap().len(), 3 + SOCKET_PROGRAMS, "after {command}");
            assert!(filters("v0").contains("workload_ingress") && filters("brattice0").contains("workload_egress"));
        }
        sh("ip link delete brattice0");
        let repaired = datapath.repair().await.unwrap();
        assert!(repaired.contains(&"workload_egress"), "{repaired:?}");
        assert_eq!(datapath.attached().unwrap().len(), 3 + SOCKET_PROGRAMS);
        let pins = tree(&testbed.bpffs.join("v5/filters"));
        let egress = pins.iter().filter(|pin| pin.to_string_lossy().contains("workload_egress")).count();
        assert_eq!(egress, 1, "no pin is left for the device that is gone: {pins:?}");
        // Removed pins detach nothing, and are put back.
        let before = tree(&testbed.bpffs);
        sh(&format!("rm -r {}/v5", testbed.bpffs.display()));
        assert_eq!(datapath.repair().await.unwrap(), ["pins"]);
        assert_eq!(tree(&testbed.bpffs), before);
    });
}

#[test]
fn clsact_goes_only_if_it_was_made_here_and_is_unused() {
    testbed(async |testbed: Testbed| {
        let _workloads = ["v0", "v1", "v2"].map(|name| testbed.workload(name, "10.0.0.10/24"));
        sh("tc qdisc add dev v0 clsact");
        let datapath = testbed.start_with_clsact().await;
        for name in ["v0", "v1", "v2"] {
            datapath.attach(ifindex(name)).await.unwrap();
        }
        foreign("v1", 5);
        for name in ["v0", "v1", "v2"] {
            datapath.detach(ifindex(name)).await.unwrap();
            assert!(!filters(name).contains("workload_ingress"), "{name}");
        }
        assert!(has_clsact("v0"), "it was there before");
        assert!(has_clsact("v1") && filters("v1").contains("u32"), "somebody uses it");
        assert!(!has_clsact("v2"), "made here, and empty");
        assert_eq!(tree(&testbed.bpffs.join("v5/filters")).len(), 2, "those of brattice0");
        // Made here, though by an agent before.
        datapath.attach(ifindex("v2")).await.unwrap();
        drop(datapath);
        testbed.start_with_clsact().await.detach(ifindex("v2")).await.unwrap();
        assert!(!has_clsact("v2"));
    });
}

#[test]
fn a_taken_place_is_refused_and_left_alone() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        sh("tc qdisc add dev v0 clsact");
        foreign("v0", 1);
        let datapath = testbed.start_with_clsact().await;
        let before = (filters("v0"), tree(&testbed.bpffs));
        let error = datapath.attach(ifindex("v0")).await.unwrap_err();
        assert!(matches!(&error, Error::FilterTaken { kind, .. } if kind == "u32"), "{error}");
        assert!(error.to_string().contains("preference"), "{error}");
        assert_eq!((filters("v0"), tree(&testbed.bpffs)), before);
        // With another preference it may stay.
        sh("tc filter del dev v0 ingress pref 1");
        foreign("v0", 2);
        datapath.attach(ifindex("v0")).await.unwrap();
        assert!(filters("v0").contains("u32"));
        assert!(matches!(datapath.attach(4_711).await, Err(Error::NoInterface { ifindex: 4_711 })));
    });
}

#[test]
fn a_pin_is_not_taken_for_another_interface_of_the_same_index() {
    testbed(async |testbed: Testbed| {
        sh("ip link add v0 index 777 type veth peer name v1");
        let datapath = testbed.start_with_clsact().await;
        datapath.attach(777).await.unwrap();
        drop(datapath);
        sh("ip link delete v0");
        sh("ip link add w0 index 777 type veth peer name w1");
        sh("tc qdisc add dev w0 clsact");
        foreign("w0", 3);
        let datapath = testbed.start_with_clsact().await;
        assert_eq!(datapath.steps(), ["workload_ingress"], "its pin was let go");
        assert!(has_clsact("w0") && filters("w0").contains("u32"), "not ours to remove");
        assert!(
            !tree(&testbed.bpffs).iter().any(|pin| pin.to_string_lossy().ends_with("-777")),
            "{:?}",
            tree(&testbed.bpffs)
        );
        datapath.attach(777).await.unwrap();
        datapath.detach(777).await.unwrap();
        assert!(has_clsact("w0"), "nor later");
    });
}

#[test]
fn cleanup_takes_filters_and_our_clsact_and_nothing_else() {
    testbed(async |testbed: Testbed| {
        let _workloads = ["v0", "v1"].map(|name| testbed.workload(name, "10.0.0.10/24"));
        sh("tc qdisc add dev v0 clsact");
        foreign("v0", 7);
        let state = || {
            let qdiscs: Vec<String> = ["v0", "v1"].map(|name| sh(&format!("tc qdisc show dev {name}"))).into();
            (qdiscs, filters("v0"), try_sh("ip link show brattice0").0, tree(&testbed.bpffs))
        };
        let before = state();
        for damage in [
            "true".to_owned(),
            // The agent's records are gone, and one with them of what it made.
            format!("rm -r {}/v5 && tc qdisc add dev v1 clsact; true", testbed.bpffs.display()),
            "tc qdisc del dev v1 clsact".to_owned(),
        ] {
            let datapath = testbed.start_with_clsact().await;
            datapath.attach(ifindex("v0")).await.unwrap();
            datapath.attach(ifindex("v1")).await.unwrap();
            drop(datapath);
            assert!(filters("v0").contains("workload_ingress") && state() != before, "there is something to remove");
            sh(&damage);
            let removed = cleanup::run(&testbed.bpffs).await.unwrap();
            assert!(removed.iter().any(|line| line.starts_with("filter workload_ingress")), "{damage}: {removed:#?}");
            if damage.starts_with("rm") {
                // Which process made it is not known any more: it stays, empty.
                assert!(has_clsact("v1") && filters("v1").is_empty());
                sh("tc qdisc del dev v1 clsact");
            }
            assert_eq!(state(), before, "{damage}");
            assert_eq!(cleanup::run(&testbed.bpffs).await.unwrap(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_second_data_path_is_refused() {
    testbed(async |testbed: Testbed| {
        let _first = testbed.start_with_clsact().await;
        for hook in [Hook::Clsact, Hook::Tcx] {
            let elsewhere = brattice_loader::Options { bpffs: testbed.bpffs.join("other"), ..testbed.options() };
            let error = Datapath::start_with(elsewhere, hook).await.unwrap_err();
            assert!(matches!(error, Error::OtherInstance { .. }), "{error}");
        }
    });
}
