//! Starting, adopting, attaching, repairing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use brattice_loader::interfaces::Watch;
use brattice_loader::{Attachment, Datapath, Error, Hook, Options, cleanup};
use tokio::time::timeout;

use crate::foreign::attached;
use crate::testbed::{SOCKET_PROGRAMS, Testbed, ifindex, sh, testbed, tree, try_sh};

const VIP_ROUTE: &str = "local 169.254.64.0/20 dev lo";
const ALIAS_ROUTE: &str = "100.127.0.0/16 via 192.0.0.8 dev brattice0";

fn routes() -> String {
    sh("ip route show table all proto 187")
}

fn of<'a>(all: &'a [Attachment], program: &str) -> Vec<&'a Attachment> {
    all.iter().filter(|a| a.program == program).collect()
}

#[test]
fn a_start_puts_everything_there() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        assert!(!datapath.adopted());
        let routes = routes();
        assert!(routes.contains(VIP_ROUTE) && routes.contains("src 169.254.64.0"), "{routes}");
        assert!(routes.contains(ALIAS_ROUTE) && routes.contains("onlink") && routes.contains("mtu 1500"), "{routes}");
        let device = sh("ip -d link show brattice0");
        assert!(device.contains("NOARP") && device.contains("UP") && device.contains("addrgenmode none"), "{device}");
        assert_eq!(sh("ip -o address show dev brattice0"), "");
        let table = sh("nft list table inet brattice");
        assert_eq!(table.matches("notrack").count(), 4, "{table}");
        let attached = datapath.attached().unwrap();
        assert_eq!(of(&attached, "vip_listener").len(), 1);
        assert_eq!(of(&attached, "workload_egress")[0].attached_to, "brattice0");
        let config = datapath.maps.config().get(&0).unwrap().unwrap();
        assert_eq!((config.ready, config.workers), (1, 2));
        assert_eq!(config.brattice0, ifindex("brattice0"));
        let lines = 9 + usize::from(datapath.hook() == Hook::Clsact);
        assert_eq!(datapath.footprint().len(), lines, "{:?}", datapath.footprint());
    });
}

#[test]
fn aliases_of_the_host_are_addresses_of_the_device_over_a_restart_and_put_back() {
    testbed(async |testbed: Testbed| {
        let aliases: BTreeSet<IpAddr> = ["100.127.0.7", "100.127.0.8"].map(|alias| alias.parse().unwrap()).into();
        let shown = || sh("ip -o address show dev brattice0 | awk '{print $4, $6}'");
        let first = testbed.start().await;
        first.set_host_aliases(aliases.clone()).await.unwrap();
        assert_eq!(shown(), "100.127.0.7/32 host\n100.127.0.8/32 host\n");
        drop(first);
        let datapath = testbed.start().await;
        assert_eq!(datapath.host_aliases().unwrap(), aliases, "as they were");
        sh("ip address del 100.127.0.7/32 dev brattice0");
        assert_eq!(datapath.repair().await.unwrap(), ["host-aliases"]);
        assert_eq!(datapath.host_aliases().unwrap(), aliases);
        datapath.set_host_aliases(BTreeSet::new()).await.unwrap();
        assert_eq!(shown(), "");
    });
}

#[test]
fn a_restart_adopts_the_same_programs_and_links() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        let first = testbed.start().await;
        first.attach(ifindex("v0")).await.unwrap();
        first.attach(ifindex("v0")).await.unwrap();
        let before = first.attached().unwrap();
        assert_eq!(before.len(), 3 + SOCKET_PROGRAMS);
        assert_eq!(of(&before, "host_connect4")[0].attached_to, "cgroup root");
        let key = brattice_loader::abi::SwitchKey { scope: 1, id: 7 };
        let switch = brattice_loader::abi::Switch { until_ns: 5, mode: 1, pad: 0 };
        first.maps.switches().insert(&key, &switch).unwrap();
        drop(first);
        for _ in 0..3 {
            let next = testbed.start().await;
            assert!(next.adopted());
            assert_eq!(next.steps(), Vec::<&str>::new(), "nothing had to be done");
            assert_eq!(next.attached().unwrap(), before);
            assert_eq!(next.maps.switches().get(&key).unwrap(), Some(switch));
        }
    });
}

#[test]
fn the_listener_is_attached_before_its_route() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        let steps = datapath.steps();
        let at = |name: &str| steps.iter().position(|s| *s == name).unwrap_or_else(|| panic!("{name} in {steps:?}"));
        assert!(at("config") < at("alias-route") && at("vip_listener") < at("brattice0"), "{steps:?}");
        assert!(at("host") < at("alias-route"), "{steps:?}");
        assert!(at("brattice0") < at("nft") && at("nft") < at("workload_egress"), "{steps:?}");
        assert!(at("workload_egress") < at("alias-route") && at("alias-route") < at("vip-route"), "{steps:?}");
    });
}

#[test]
fn a_start_that_cannot_write_the_vip_route_has_its_guards_attached() {
    testbed(async |testbed: Testbed| {
        // A route of other software to the very range stops the start at its last step.
        sh("ip route add local 169.254.64.0/20 dev lo proto static");
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(matches!(error, Error::RouteTaken { table: 255, protocol: 4, .. }), "{error}");
        assert!(testbed.bpffs.join("v5/links/vip_listener").exists());
        let guards = tree(&testbed.bpffs.join("v5")).into_iter().map(|pin| pin.display().to_string());
        assert_eq!(
            guards.filter(|pin| pin.contains("s/workload_egress")).count(),
            2,
            "the program and where it is attached"
        );
        assert!(!routes().contains("local 169.254"), "{}", routes());
        // The half-started state is taken up when the hindrance is gone.
        sh("ip route del local 169.254.64.0/20 dev lo proto static");
        let datapath = testbed.start().await;
        assert!(datapath.adopted());
        assert_eq!(datapath.steps(), ["vip-route"]);
    });
}

#[test]
fn what_vanishes_is_put_back_by_its_event() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        let mut watch = Watch::open().unwrap();
        for (command, expected) in [
            ("ip link set brattice0 down; ip link set brattice0 up", vec!["alias-route"]),
            ("ip link set brattice0 down", vec!["brattice0", "alias-route"]),
            ("ip route del local 169.254.64.0/20 dev lo proto 187", vec!["vip-route"]),
            (
                "ip route replace 100.127.0.0/16 via 192.0.0.8 dev brattice0 onlink table local proto 187",
                vec!["alias-route"],
            ),
            ("nft delete table inet brattice", vec!["nft"]),
            ("nft flush ruleset", vec!["nft"]),
            ("ip link delete brattice0", vec!["brattice0", "config", "workload_egress", "alias-route"]),
        ] {
            sh(command);
            let since = Instant::now();
            let mut repaired = Vec::new();
            while !expected.iter().all(|e| repaired.contains(e)) {
                timeout(Duration::from_secs(5), watch.changed()).await.expect(command).unwrap();
                repaired.extend(datapath.repair().await.unwrap());
            }
            assert!(since.elapsed() < Duration::from_secs(2), "{command} took {:?}", since.elapsed());
            assert_eq!(repaired.len(), expected.len(), "{command}: {repaired:?}");
            let routes = routes();
            assert!(routes.contains(VIP_ROUTE) && routes.contains(ALIAS_ROUTE), "after {command}: {routes}");
            sh("nft list table inet brattice");
        }
        assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new());
        assert_eq!(datapath.attached().unwrap().len(), 2 + SOCKET_PROGRAMS);
    });
}

#[test]
fn removed_pins_do_not_detach_and_are_put_back() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        let datapath = testbed.start().await;
        datapath.attach(ifindex("v0")).await.unwrap();
        let before = (datapath.attached().unwrap(), tree(&testbed.bpffs));
        sh(&format!("rm -r {}/v5", testbed.bpffs.display()));
        assert_eq!(datapath.attached().unwrap(), before.0);
        assert_eq!(datapath.repair().await.unwrap(), ["pins"]);
        assert_eq!((datapath.attached().unwrap(), tree(&testbed.bpffs)), before);
    });
}

#[test]
fn a_link_detached_by_force_is_told_and_attached_anew() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        let datapath = testbed.start().await;
        let v0 = ifindex("v0");
        datapath.attach(v0).await.unwrap();
        for link in datapath.attached().unwrap() {
            match link.link_id {
                0 => sh(&format!("tc qdisc del dev {} clsact", link.attached_to)),
                id => sh(&format!("bpftool link detach id {id}")),
            };
        }
        assert!(datapath.attached().unwrap().is_empty());
        let repaired = datapath.repair().await.unwrap();
        assert_eq!(repaired, ["vip_listener", "host", "workload_egress", "workload_ingress"]);
        assert_eq!(datapath.attached().unwrap().len(), 2 + SOCKET_PROGRAMS);
        datapath.attach(v0).await.unwrap();
        assert_eq!(datapath.attached().unwrap().len(), 3 + SOCKET_PROGRAMS);
    });
}

#[test]
fn a_pinned_link_is_not_adopted_for_another_interface_of_the_same_index() {
    testbed(async |testbed: Testbed| {
        sh("ip link add v0 index 777 type veth peer name v1");
        let datapath = testbed.start().await;
        datapath.attach(777).await.unwrap();
        drop(datapath);
        sh("ip link delete v0");
        sh("ip link add w0 index 777 type veth peer name w1");
        let datapath = testbed.start().await;
        assert_eq!(datapath.steps(), ["workload_ingress"], "its link was let go");
        assert!(!testbed.bpffs.join("v5/links/workload_ingress-777").exists());
        assert_eq!(datapath.attached().unwrap().len(), 2 + SOCKET_PROGRAMS);
        datapath.attach(777).await.unwrap();
        let attached = datapath.attached().unwrap();
        assert_eq!(of(&attached, "workload_ingress")[0].attached_to, "w0");
        // Gone while it runs: nothing shows, and both ways to let go work.
        sh("ip link delete w0");
        assert_eq!(datapath.attached().unwrap().len(), 2 + SOCKET_PROGRAMS);
        datapath.detach(777).await.unwrap();
        datapath.detach(777).await.unwrap();
        assert!(matches!(datapath.attach(777).await, Err(Error::NoInterface { ifindex: 777 })));
    });
}

#[test]
fn detaching_takes_the_program_away() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        let datapath = testbed.start().await;
        let v0 = ifindex("v0");
        datapath.attach(v0).await.unwrap();
        assert_eq!(attached("v0").len(), 1);
        datapath.detach(v0).await.unwrap();
        assert_eq!(attached("v0"), []);
        // A link that only its pin holds, of an agent before.
        datapath.attach(v0).await.unwrap();
        drop(datapath);
        let datapath = testbed.start().await;
        datapath.detach(v0).await.unwrap();
        assert_eq!(attached("v0"), []);
        assert!(!testbed.bpffs.join(format!("v5/links/workload_ingress-{v0}")).exists());
    });
}

#[test]
fn pins_of_another_schema_are_refused_untouched() {
    testbed(async |testbed: Testbed| {
        let other = format!("v{}", brattice_abi::SCHEMA_VERSION + 1);
        sh(&format!("mkdir -p {}/{other}/links", testbed.bpffs.display()));
        let before = tree(&testbed.bpffs);
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(matches!(error, Error::UnknownSchema { .. }), "{error}");
        assert!(error.to_string().contains(&format!("schema {other}")), "{error}");
        assert_eq!(tree(&testbed.bpffs), before);
        assert_eq!(routes(), "");
        assert!(!try_sh("ip link show brattice0").0);
        assert!(brattice_loader::open_pinned_switches(&testbed.bpffs).is_err());
    });
}

#[test]
fn a_map_of_another_layout_is_refused() {
    testbed(async |testbed: Testbed| {
        drop(testbed.start().await);
        let map = testbed.bpffs.join("v5/maps/SWITCHES");
        sh(&format!("rm {}", map.display()));
        sh(&format!("bpftool map create {} type hash key 8 value 8 entries 16 name SWITCHES", map.display()));
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(matches!(&error, Error::Layout { name, .. } if name == "map SWITCHES"), "{error}");
        assert!(error.to_string().contains("brattice cleanup"), "{error}");
    });
}

#[test]
fn missing_pins_below_attached_programs_are_an_error_and_below_none_a_fresh_start() {
    testbed(async |testbed: Testbed| {
        drop(testbed.start().await);
        sh(&format!("rm {}/v5/programs/workload_ingress", testbed.bpffs.display()));
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(matches!(error, Error::PinsIncomplete { .. }), "{error}");
        sh(&format!("rm -f {0}/v5/links/* {0}/v5/filters/*", testbed.bpffs.display()));
        if Hook::of_this_kernel() == Hook::Clsact {
            // A filter stays where its pin is gone.
            let error = Datapath::start(testbed.options()).await.unwrap_err();
            assert!(matches!(error, Error::OtherInstance { program: "workload_egress", .. }), "{error}");
            cleanup::run(&testbed.bpffs).await.unwrap();
        }
        let datapath = testbed.start().await;
        assert!(!datapath.adopted());
        assert_eq!(datapath.attached().unwrap().len(), 2 + SOCKET_PROGRAMS);
    });
}

#[test]
fn two_agents_do_not_share_a_node() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        let elsewhere = Options { bpffs: testbed.bpffs.join("other"), ..testbed.options() };
        let error = Datapath::start(elsewhere).await.unwrap_err();
        assert!(matches!(error, Error::OtherInstance { program: "vip_listener", .. }), "{error}");
        assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new());
    });
}

#[test]
fn other_ranges_than_the_running_ones_are_refused() {
    testbed(async |testbed: Testbed| {
        drop(testbed.start().await);
        let asked = Options { vip: "169.254.96.0/20".parse().unwrap(), ..testbed.options() };
        let error = Datapath::start(asked).await.unwrap_err();
        assert!(matches!(&error, Error::RangeChanged { which: "VIP", .. }), "{error}");
        let asked = Options { alias: "198.18.0.0/16".parse().unwrap(), ..testbed.options() };
        let error = Datapath::start(asked).await.unwrap_err();
        assert!(matches!(&error, Error::RangeChanged { which: "alias", .. }), "{error}");
        // What can change does: workers and the like are written anew.
        let datapath = Datapath::start(Options { workers: 3, ..testbed.options() }).await.unwrap();
        assert_eq!(datapath.maps.config().get(&0).unwrap().unwrap().workers, 3);
    });
}

#[test]
fn a_foreign_device_is_left_alone() {
    testbed(async |testbed: Testbed| {
        sh("ip link add brattice0 type veth peer name brattice1");
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(matches!(error, Error::ForeignDevice { .. }), "{error}");
        assert!(!testbed.bpffs.exists());
        sh("ip link show brattice0");
    });
}

#[test]
fn the_alias_route_follows_the_mtu() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        datapath.set_mtu(9000).await.unwrap();
        assert!(routes().contains("mtu 9000"), "{}", routes());
        assert!(sh("ip link show brattice0").contains("mtu 9000"));
        datapath.set_mtu(1280).await.unwrap();
        assert!(routes().contains("mtu 1280"), "{}", routes());
        assert!(datapath.set_mtu(20).await.is_err());
        assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new());
        drop(datapath);
        let datapath = testbed.start().await;
        assert_eq!(datapath.steps(), Vec::<&str>::new(), "the MTU is kept");
    });
}

#[test]
fn the_pins_of_a_vanished_namespace_are_started_afresh() {
    testbed(async |testbed: Testbed| {
        let options = testbed.options();
        let elsewhere = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            sh("ip link set lo up");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(Datapath::start(options)).map(drop).unwrap();
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        let held = elsewhere.join().unwrap();
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(matches!(error, Error::OtherNamespace { .. }), "{error}");
        drop(held);
        // The kernel takes a namespace down a moment after its last holder is gone.
        for _ in 0..500 {
            match Datapath::start(testbed.options()).await {
                Ok(datapath) => {
                    assert!(!datapath.adopted());
                    assert_eq!(datapath.attached().unwrap().len(), 2 + SOCKET_PROGRAMS);
                    return;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("{}", Datapath::start(testbed.options()).await.unwrap_err());
    });
}

#[test]
fn a_namespace_without_loopback_is_told_what_to_do() {
    testbed(async |testbed: Testbed| {
        sh("ip link set lo down");
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(error.to_string().contains("ip link set lo up"), "{error}");
        assert!(!testbed.bpffs.exists());
    });
}
