//! Checks, collisions, and the probe that names what drops packets.

use std::net::IpAddr;

use brattice_loader::interfaces::inventory;
use brattice_loader::preflight::{self, Leg, Overlap, Report};
use brattice_loader::{Datapath, probe};
use ipnet::{IpNet, Ipv4Net};

use crate::testbed::{SOCKET_PROGRAMS, Testbed, sh, testbed, tree, try_sh};

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

#[test]
fn this_kernel_has_all_that_is_required() {
    testbed(async |testbed: Testbed| {
        let checks = preflight::host(&testbed.bpffs, net("169.254.64.0/20"), None);
        assert!(checks.len() > 15, "{checks:#?}");
        for check in checks.iter().filter(|c| c.required) {
            assert!(check.ok, "{check:?}");
        }
        // Each program under its own name, with what the verifier had to look at.
        let programs: Vec<_> = checks.iter().filter(|c| c.name.starts_with("program ")).collect();
        let names: std::collections::BTreeSet<_> = programs.iter().map(|c| c.name).collect();
        assert_eq!((programs.len(), names.len()), (3 + SOCKET_PROGRAMS, 3 + SOCKET_PROGRAMS), "{programs:#?}");
        assert!(names.contains("program vip_listener") && names.contains("program host_bind6"), "{names:?}");
        assert!(programs.iter().all(|c| c.found.contains("instructions verified")), "{programs:#?}");
        assert!(!testbed.bpffs.exists(), "nothing is made");
        let wrong = probe::kernel(std::path::Path::new("/tmp"));
        assert!(wrong.iter().any(|c| c.name == "bpffs" && !c.ok && c.fix.is_some()));
    });
}

#[test]
fn a_name_server_on_every_address_is_named() {
    testbed(async |testbed: Testbed| {
        let _daemon = std::net::UdpSocket::bind("0.0.0.0:53").unwrap();
        let checks = preflight::host(&testbed.bpffs, net("169.254.64.0/20"), None);
        let dns = checks.iter().find(|c| c.name == "DNS port").unwrap();
        assert!(!dns.ok && dns.found.contains("0.0.0.0:53"), "{dns:?}");
    });
}

/// The kernel writes a route for each address of `brattice0`.
#[test]
fn aliases_of_processes_of_the_host_are_no_collision() {
    testbed(async |testbed: Testbed| {
        let ranges = testbed.options6().ranges();
        let datapath = Datapath::start(testbed.options6()).await.unwrap();
        let aliases: [IpAddr; 2] = ["100.127.0.1", "fd00:64::1"].map(|alias| alias.parse().unwrap());
        datapath.set_host_aliases(aliases.into()).await.unwrap();
        for (alias, routes) in aliases.iter().zip(["ip route show table local", "ip -6 route show table local"]) {
            assert!(sh(routes).contains(&format!("{alias} dev brattice0")), "control: {alias} has a route");
        }
        assert_eq!(preflight::overlaps(&ranges, &[]).await.unwrap(), []);
        // The same addresses on anything else are one, each by address and by route.
        datapath.set_host_aliases(Default::default()).await.unwrap();
        sh("ip address add 100.127.0.1/32 dev lo && ip -6 address add fd00:64::1/128 dev lo nodad");
        let found = preflight::overlaps(&ranges, &[]).await.unwrap();
        for alias in aliases {
            let collides = |overlap: &&Overlap| overlap.serious && overlap.net.addr() == alias;
            assert!(found.iter().filter(collides).count() >= 1, "control: {alias} of lo, in {found:?}");
        }
    });
}

#[test]
fn collisions_are_found_and_a_free_range_chosen() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        sh("ip address add 10.0.0.1/24 dev v0");
        let alias = net("100.127.0.0/16");
        let ranges = testbed.options().ranges();
        let cidrs: Vec<(String, IpNet)> = vec![("Vpc blue".into(), "10.0.0.0/16".parse().unwrap())];
        assert_eq!(preflight::overlaps(&ranges, &cidrs).await.unwrap(), []);
        let datapath = testbed.start().await;
        assert_eq!(preflight::overlaps(&ranges, &cidrs).await.unwrap(), [], "ours are no collision");
        drop(datapath);

        sh("ip route add 169.254.0.0/16 dev v0");
        let found = preflight::overlaps(&ranges, &cidrs).await.unwrap();
        assert!(found.len() == 1 && !found[0].serious, "a wider route loses: {found:?}");
        sh("ip route add 100.64.0.0/10 dev v0 table 52");
        sh("ip route add 169.254.65.0/24 dev v0");
        sh("ip address add 100.127.9.9/32 dev lo");
        crate::testbed::inside(&format!("{}-v0", testbed.name), "ip address add 100.127.0.5/32 dev eth0");
        sh("nft add table ip filter && nft 'add chain ip filter f { type filter hook forward priority 0 ; }' && \
            nft add rule ip filter f ip saddr 100.64.0.0/10 drop");
        let cidrs = vec![("Vpc green".to_owned(), "100.127.0.0/24".parse().unwrap())];
        let found = preflight::overlaps(&ranges, &cidrs).await.unwrap();
        let serious = |part: &str| found.iter().any(|o| o.serious && o.with.contains(part));
        for part in [
            "table 52",
            "route 169.254.65.0/24 dev v0",
            "address of interface lo",
            "eth0 in",
            "Vpc green",
            "nftables rule in ip filter f",
        ] {
            assert!(serious(part), "{part} in {found:#?}");
        }
        let candidates = [alias, net("198.18.0.0/16"), net("100.126.0.0/16")];
        assert_eq!(preflight::free_range("alias", &candidates, &[]).await.unwrap(), Some(candidates[1]));
        let taken = vec![
            ("Vpc x".to_owned(), "198.18.0.0/15".parse().unwrap()),
            ("Vpc y".to_owned(), "100.126.4.0/24".parse().unwrap()),
        ];
        assert_eq!(preflight::free_range("alias", &candidates, &taken).await.unwrap(), None);
    });
}

async fn nothing_stays(datapath: &Datapath) {
    assert!(inventory().await.unwrap().iter().all(|i| !i.name.starts_with("brattice-p")));
    let maps = &datapath.maps;
    assert!(maps.workloads().is_empty().unwrap() && maps.aliases().is_empty().unwrap());
    assert!(maps.targets().is_empty().unwrap() && maps.listeners().is_empty().unwrap());
    assert_eq!(maps.socket_cookie(brattice_loader::abi::SLOT_DNS_TCP).unwrap(), None);
    let pins = tree(&datapath.options().bpffs.join("v5")).into_iter().map(|pin| pin.display().to_string());
    let attached = pins.filter(|pin| pin.contains("/links/") || pin.contains("/filters/workload"));
    assert_eq!(attached.count(), 2 + SOCKET_PROGRAMS);
    assert!(!try_sh("nft list table inet brattice-probe").0);
}

#[test]
fn the_probe_gets_through_both_ways_and_leaves_nothing() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        for _ in 0..2 {
            let report = preflight::probe(&datapath).await.unwrap();
            assert!(report.passed(), "{report:#?}");
            assert!(report.culprits.is_empty() && report.hints.is_empty(), "{report:#?}");
            nothing_stays(&datapath).await;
        }
    });
}

async fn failing(datapath: &Datapath) -> Report {
    let report = preflight::probe(datapath).await.unwrap();
    nothing_stays(datapath).await;
    assert!(!report.passed(), "{report:#?}");
    report
}

#[test]
fn an_input_policy_of_drop_is_named_with_the_command_that_mends_it() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        assert!(preflight::probe(&datapath).await.unwrap().passed());
        sh(
            "nft add table inet filter && nft 'add chain inet filter input { type filter hook input priority 0 ; policy drop ; }' && \
            nft add rule inet filter input iifname lo accept && nft add rule inet filter input ct state established accept",
        );
        assert_eq!(preflight::dropping_chains().unwrap().len(), 1);
        let report = failing(&datapath).await;
        assert!(matches!(report.to_vip, Leg::Failed(_)) && matches!(report.to_workload, Leg::Failed(_)), "{report:#?}");
        assert_eq!(report.culprits.len(), 1, "{report:#?}");
        let culprit = &report.culprits[0];
        assert_eq!(
            (culprit.table.as_str(), culprit.chain.as_str(), culprit.hook.as_str()),
            ("filter", "input", "input")
        );
        assert_eq!(culprit.what, "policy drop");
        sh(&culprit.fix);
        let report = preflight::probe(&datapath).await.unwrap();
        assert!(report.passed(), "{report:#?}");
    });
}

#[test]
fn an_output_policy_and_a_rule_behind_a_jump_are_named_in_turn() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        sh(
            "nft add table ip fw && nft 'add chain ip fw out { type filter hook output priority 0 ; policy drop ; }' && \
            nft 'add chain ip fw in { type filter hook input priority 0 ; }' && nft add chain ip fw strict && \
            nft add rule ip fw in iifname != lo jump strict && nft add rule ip fw strict meta l4proto tcp counter drop",
        );
        let report = failing(&datapath).await;
        let mut commands: Vec<String> = report.culprits.iter().map(|c| c.fix.clone()).collect();
        let mut rounds = 0;
        // One may hide the other; each round names at least one.
        while !commands.is_empty() && rounds < 3 {
            for command in &commands {
                sh(command);
            }
            let report = preflight::probe(&datapath).await.unwrap();
            commands = report.culprits.iter().map(|c| c.fix.clone()).collect();
            if report.passed() {
                nothing_stays(&datapath).await;
                let rules = sh("nft list table ip fw");
                assert_eq!(rules.matches("brattice0").count(), 2, "{rules}");
                return;
            }
            rounds += 1;
        }
        panic!("still not through: {}", sh("nft list ruleset"));
    });
}

#[test]
fn a_probe_without_an_agent_starts_and_removes_a_data_path() {
    testbed(async |testbed: Testbed| {
        let before = sh("ip route show table all; ip link; nft list ruleset");
        let report = preflight::probe_alone(testbed.options()).await.unwrap();
        assert!(report.passed(), "{report:#?}");
        assert!(!testbed.bpffs.exists());
        assert_eq!(sh("ip route show table all; ip link; nft list ruleset"), before);
        // Through one that is pinned, which stays.
        drop(testbed.start().await);
        let report = preflight::probe_alone(testbed.options()).await.unwrap();
        assert!(report.passed(), "{report:#?}");
        assert!(testbed.start().await.adopted());
    });
}

#[test]
fn a_detached_node_is_not_probed() {
    testbed(async |testbed: Testbed| {
        use brattice_loader::abi::{MODE_DETACH, SWITCH_ALL, Switch, SwitchKey};
        let datapath = testbed.start().await;
        let everything = SwitchKey { scope: SWITCH_ALL, id: 0 };
        datapath.maps.switches().insert(&everything, &Switch { until_ns: 0, mode: MODE_DETACH, pad: 0 }).unwrap();
        let error = preflight::probe(&datapath).await.unwrap_err();
        assert!(error.to_string().contains("brattice detach --all --off"), "{error}");
    });
}

#[test]
fn what_a_killed_probe_left_is_forgotten_by_the_next_start() {
    testbed(async |testbed: Testbed| {
        use brattice_loader::abi::{Alias, PROBE_WORKLOAD_ID, Workload, WorkloadKey};
        use std::net::Ipv4Addr;
        let datapath = testbed.start().await;
        let real = Ipv4Addr::new(192, 0, 2, 10).into();
        let add = |alias: Ipv4Addr, ifindex, workload_id| {
            let to = Alias { address: real, ifindex, workload_id, mac: [2; 6], mtu: 0 };
            datapath.maps.aliases().insert(&alias.into(), &to).unwrap();
            let key = WorkloadKey { ifindex, address: real };
            datapath.maps.workloads().insert(&key, &Workload { alias: alias.into(), workload_id, flags: 0 }).unwrap();
        };
        add(Ipv4Addr::new(100, 127, 255, 255), 4711, PROBE_WORKLOAD_ID);
        add(Ipv4Addr::new(100, 127, 0, 1), 4712, 1);
        drop(datapath);
        let datapath = testbed.start().await;
        let workloads = datapath.maps.workloads().entries().unwrap();
        assert_eq!(workloads.iter().map(|(k, _)| k.ifindex).collect::<Vec<_>>(), [4712]);
        assert_eq!(datapath.maps.aliases().len().unwrap(), 1);
    });
}
