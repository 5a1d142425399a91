//! Everything of ours goes, and nothing else.

use std::time::{Duration, Instant};

use aya::programs::LinkOrder;
use brattice_loader::{Datapath, Error, Options, cleanup, preflight};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use crate::foreign::{Foreign, attached};
use crate::testbed::{Testbed, ifindex, sh, testbed, tree, try_sh};

/// What this namespace and pin directory hold.
fn state(testbed: &Testbed) -> Vec<String> {
    [
        "ip -o address show",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip rule show; ip -6 rule show",
        // Without what the kernel settles a moment later (carrier and operational state), and without its remarks on other
        // tests' namespaces that are just ending.
        "ip -o link show 2>/dev/null | cut -d: -f1,2",
        "ip -d link show 2>/dev/null | grep -v 'qdisc\\|link/' || true",
        "nft -a list ruleset",
        // Time stamps and the like change by themselves.
        "sysctl -a --pattern '^net\\.' 2>/dev/null | grep -v 'random\\|nf_conntrack_count\\|stat_refresh\\|\\.dirty'",
    ]
    .iter()
    .map(|command| sh(command))
    .chain([format!("{:#?}", tree(&testbed.bpffs)), tcx()])
    .collect()
}

/// TCX programs of every interface.
fn tcx() -> String {
    let names = sh("ip -o link show | cut -d: -f2 | cut -d@ -f1");
    names.lines().map(str::trim).map(|n| format!("{n}: {:?}\n", attached(n))).collect()
}

fn same(before: &[String], after: &[String]) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before, after);
    }
}

/// Waits until the kernel has looked for duplicates of the interfaces' own IPv6 addresses; only then does nothing change by itself.
fn settled() {
    let since = Instant::now();
    while !sh("ip -6 -o address show tentative").is_empty() {
        assert!(since.elapsed() < Duration::from_secs(10), "an address stays tentative");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One of each kind that is not ours, some of it close to ours.
fn foreign(testbed: &Testbed) -> (String, Foreign) {
    let netns = testbed.workload("v0", "10.0.0.10/24");
    sh("ip address add 10.0.0.1/24 dev v0");
    sh("ip link add brattice9 type veth peer name brattice8");
    sh("ip link set brattice9 group 187 up");
    sh("ip route add 203.0.113.0/24 via 10.0.0.10 proto 187");
    sh("ip route add local 198.51.100.0/24 dev lo");
    sh("ip rule add from 10.9.0.0/16 lookup 99 priority 77");
    sh("ip route add 192.0.2.0/24 dev v0 table 99");
    sh("nft add table inet brattice_not && nft add table arp brattice_not && nft add table ip filter && \
        nft 'add chain ip filter in { type filter hook input priority 0 ; }' && nft add rule ip filter in iifname lo accept");
    sh("sysctl -w net.ipv4.ip_forward=1 >/dev/null");
    sh(&format!("mkdir -p {}", testbed.bpffs.display()));
    settled();
    let program = Foreign::attach("v0", LinkOrder::first(), &testbed.bpffs.join("theirs"));
    (netns, program)
}

#[test]
fn cleanup_leaves_the_node_as_it_was() {
    testbed(async |testbed: Testbed| {
        let _foreign = foreign(&testbed);
        let before = state(&testbed);
        let datapath = testbed.start().await;
        datapath.attach(ifindex("v0")).await.unwrap();
        datapath.set_mtu(9000).await.unwrap();
        let programs: Vec<u32> = datapath.attached().unwrap().iter().map(|a| a.program_id).collect();
        assert_eq!(programs.len(), 9);
        // While an agent runs it would put everything back.
        assert!(matches!(cleanup::run(&testbed.bpffs).await, Err(Error::InUse { .. })));
        drop(datapath);
        let removed = cleanup::run(&testbed.bpffs).await.unwrap();
        // Filters stand in for links where there is no TCX.
        let removed: Vec<String> = removed.into_iter().map(|line| line.replace("filter ", "link ")).collect();
        for wanted in [
            "link vip_listener",
            "link workload_egress",
            "device brattice0",
            "nftables table inet brattice",
            "nftables table arp brattice",
            "map CONFIG",
        ] {
            assert!(removed.iter().any(|r| r.starts_with(wanted)), "{wanted} in {removed:#?}");
        }
        let at = |what: &str| removed.iter().position(|r| r.starts_with(what)).unwrap_or_else(|| panic!("{what}"));
        assert!(at("link workload_ingress-") < at("route local"), "{removed:#?}");
        assert!(
            at("route local") < at("route 100.127") && at("route 100.127") < at("link workload_egress"),
            "{removed:#?}"
        );
        assert!(at("device") < at("link vip_listener"), "{removed:#?}");
        same(&before, &state(&testbed));
        for id in programs {
            // The kernel frees programs a moment after their last reference.
            let gone = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                !try_sh(&format!("bpftool prog show id {id}")).0
            });
            assert!(gone, "program {id} is still in the kernel");
        }
        assert_eq!(cleanup::run(&testbed.bpffs).await.unwrap(), Vec::<String>::new());
        same(&before, &state(&testbed));
    });
}

#[test]
fn cleanup_of_nothing_removes_nothing() {
    testbed(async |testbed: Testbed| {
        let before = state(&testbed);
        assert_eq!(cleanup::run(&testbed.bpffs).await.unwrap(), Vec::<String>::new());
        assert_eq!(cleanup::run(&testbed.bpffs).await.unwrap(), Vec::<String>::new());
        same(&before, &state(&testbed));
    });
}

#[test]
fn cleanup_of_half_a_data_path() {
    testbed(async |testbed: Testbed| {
        let before = state(&testbed);
        for damage in [
            // Pins alone; everything but pins; a start that failed; pieces.
            "ip link delete brattice0; nft delete table inet brattice; nft delete table arp brattice; ip route del local 169.254.64.0/20 dev lo"
                .to_owned(),
            format!("rm -r {}/v5", testbed.bpffs.display()),
            format!("rm {}/v5/links/* {}/v5/programs/*", testbed.bpffs.display(), testbed.bpffs.display()),
            "ip link set brattice0 down".to_owned(),
            "nft delete table inet brattice".to_owned(),
            "nft delete table arp brattice".to_owned(),
            format!("rm {0}/v5/links/vip_listener && mkdir {0}/v5/links/x; true", testbed.bpffs.display()),
        ] {
            drop(testbed.start().await);
            sh(&damage);
            let _ = std::fs::remove_dir(testbed.bpffs.join("v5/links/x"));
            cleanup::run(&testbed.bpffs).await.unwrap();
            same(&before, &state(&testbed));
            assert_eq!(cleanup::run(&testbed.bpffs).await.unwrap(), Vec::<String>::new());
        }
        sh("ip route add local 169.254.64.0/20 dev lo proto static");
        Datapath::start(testbed.options()).await.unwrap_err();
        cleanup::run(&testbed.bpffs).await.unwrap();
        sh("ip route del local 169.254.64.0/20 dev lo proto static");
        same(&before, &state(&testbed));
    });
}

#[test]
fn cleanup_is_the_way_out_of_another_schema() {
    testbed(async |testbed: Testbed| {
        drop(testbed.start().await);
        sh(&format!("mv {0}/v5 {0}/v6", testbed.bpffs.display()));
        assert!(matches!(Datapath::start(testbed.options()).await, Err(Error::UnknownSchema { .. })));
        cleanup::run(&testbed.bpffs).await.unwrap();
        assert!(!testbed.bpffs.exists());
        drop(testbed.start().await);
    });
}

#[test]
fn another_instance_is_not_touched_by_cleanup_or_preflight() {
    testbed(async |testbed: Testbed| {
        testbed.workload("v0", "10.0.0.10/24");
        let datapath = testbed.start().await;
        datapath.attach(ifindex("v0")).await.unwrap();
        settled();
        let before = state(&testbed);
        let other = testbed.bpffs.with_file_name(format!("{}-other", testbed.name));
        let refused = async |when: &str| {
            let options = Options { bpffs: other.clone(), ..testbed.options() };
            let outcomes = [
                cleanup::run(&other).await.map(drop),
                preflight::probe_alone(options).await.map(drop),
                preflight::no_other_instance(&other).await,
            ];
            for outcome in outcomes {
                let error = outcome.unwrap_err();
                assert!(matches!(error, Error::OtherInstance { program: "vip_listener", .. }), "{when}: {error}");
                let named = format!("--bpffs {},", testbed.bpffs.display());
                assert!(error.to_string().contains(&named), "{when}: {error}");
            }
            assert!(!other.exists(), "{when}");
            same(&before, &state(&testbed));
        };
        refused("its agent runs").await;
        assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new());
        drop(datapath);
        refused("its agent is dead, and it serves on").await;
        preflight::no_other_instance(&testbed.bpffs).await.unwrap();
        assert!(!cleanup::run(&testbed.bpffs).await.unwrap().is_empty());

        // What a dead instance left, without pins, works no more: it goes, whichever directory is named.
        drop(testbed.start().await);
        sh(&format!("rm -r {}", testbed.bpffs.display()));
        let removed = cleanup::run(&other).await.unwrap();
        assert!(removed.iter().any(|line| line.starts_with("device brattice0")), "{removed:#?}");
        assert!(preflight::no_other_instance(&other).await.is_ok());
    });
}

/// Runs this on a thread in a network namespace of its own.
fn elsewhere<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work())
    });
    thread.join().unwrap()
}

#[test]
fn a_data_path_of_another_network_namespace_is_not_touched() {
    testbed(async |testbed: Testbed| {
        testbed.workload("v0", "10.0.0.10/24");
        let name = format!("{}-own", testbed.name);
        sh(&format!("ip netns attach {name} {}", gettid()));
        let datapath = testbed.start().await;
        datapath.attach(ifindex("v0")).await.unwrap();
        drop(datapath);
        settled();
        // Whole, and after its listener's pin was lost.
        let listener = testbed.bpffs.join("v5/links/vip_listener");
        for damage in ["true".to_owned(), format!("rm {}", listener.display())] {
            sh(&damage);
            let before = state(&testbed);
            let options = testbed.options();
            let outcomes = elsewhere(async move || {
                sh("ip link set lo up");
                [
                    ("cleanup", cleanup::run(&options.bpffs).await.map(drop)),
                    ("preflight", preflight::no_other_instance(&options.bpffs).await),
                    ("probe", preflight::probe_alone(options.clone()).await.map(drop)),
                    ("start", Datapath::start(options).await.map(drop)),
                ]
            });
            for (what, outcome) in outcomes {
                let error = outcome.expect_err(what);
                assert!(matches!(error, Error::OtherNamespace { .. }), "{what}: {error}");
                let text = error.to_string();
                assert!(text.contains(&testbed.bpffs.display().to_string()), "{text}");
                if listener.exists() {
                    assert!(text.contains(&format!("nsenter --net=/run/netns/{name} brattice cleanup")), "{text}");
                }
            }
            same(&before, &state(&testbed));
        }
        // In its own namespace it is whole again, and goes.
        let datapath = testbed.start().await;
        assert!(datapath.adopted());
        assert_eq!(datapath.steps(), ["vip_listener"]);
        drop(datapath);
        assert!(!cleanup::run(&testbed.bpffs).await.unwrap().is_empty());
        assert!(!testbed.bpffs.exists());
    });
}

#[test]
fn what_a_gone_network_namespace_left_is_removed_from_anywhere() {
    testbed(async |testbed: Testbed| {
        for damage in ["true".to_owned(), format!("rm {}/v5/links/vip_listener", testbed.bpffs.display())] {
            let options = testbed.options();
            let pins = testbed.bpffs.clone();
            elsewhere(async move || {
                sh("ip link set lo up");
                drop(Datapath::start(options).await.unwrap());
            });
            sh(&damage);
            // The kernel takes a namespace down a moment after its last process has left.
            let since = Instant::now();
            while let Err(error) = cleanup::run(&pins).await {
                assert!(matches!(error, Error::OtherNamespace { .. }), "{error}");
                assert!(since.elapsed() < Duration::from_secs(10), "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(!pins.exists());
        }
    });
}
