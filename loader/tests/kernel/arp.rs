//! When a workload that is not attached asks for the MAC of a VIP, nothing answers. With an answer of the stack, its
//! first packets would be lost, and it would ignore the announcement that it gets when it is attached.

use std::time::{Duration, Instant};

use crate::testbed::{inside, mac, mac_in, sh, testbed};

const VIP: &str = "169.254.64.40";
const VIP6: &str = "fd00:a9fe::40";
/// How long an answer may take: within one host, it takes microseconds.
const SHORT: Duration = Duration::from_millis(300);

/// Has a namespace ask for the MAC of an address; returns the MAC that answered, if any.
fn answer(netns: &str, address: &str) -> Option<String> {
    inside(netns, "ip neigh flush dev eth0");
    // Port 9 is "discard": whether the datagram arrives does not matter.
    inside(netns, &format!("bash -c 'echo > /dev/udp/{address}/9'"));
    let since = Instant::now();
    while since.elapsed() < SHORT {
        let known = inside(netns, &format!("ip neigh show {address} dev eth0"));
        let mut words = known.split_whitespace().skip_while(|word| *word != "lladdr");
        if let Some(mac) = words.nth(1) {
            return Some(mac.to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// packets.md vip 75: ARP question for a VIP by a bridge, of a workload that is not attached | dropped by the nftables table `arp brattice`:
///   not answered until the workload is attached; it then gets an announcement | the rule's own
#[test]
fn the_host_does_not_answer_for_vips_where_no_workload_is_attached() {
    testbed(async |testbed| {
        let netns = testbed.workload("v0", "10.0.0.10/24");
        let other = testbed.workload("v1", "10.0.0.11/24");
        sh(
            "ip link add br0 type bridge && ip link set br0 up && ip link set v0 master br0 && ip link set v1 master br0",
        );
        // The kernel's defaults, whatever this machine gives to new namespaces.
        sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.br0.rp_filter=0 net.ipv4.conf.all.arp_ignore=0");
        // Addresses of the host outside of the VIP range, one of them link-local; and another host's use of one within.
        sh("ip address add 192.0.2.1/32 dev lo && ip address add 169.254.32.1/32 dev lo");
        inside(&other, "ip address add 169.254.64.41/32 dev eth0");
        let bridge = mac("br0");
        let neighbour = mac_in(&inside(&other, "ip -o link show eth0"));

        let datapath = testbed.start().await;
        let untouched = || {
            assert_eq!(answer(&netns, "192.0.2.1").as_ref(), Some(&bridge), "control: an address of the host");
            assert_eq!(
                answer(&netns, "169.254.32.1").as_ref(),
                Some(&bridge),
                "control: a link-local address of the host"
            );
            assert_eq!(answer(&netns, "10.0.0.11").as_ref(), Some(&neighbour), "control: a neighbour on the bridge");
            assert_eq!(answer(&netns, "169.254.64.41").as_ref(), Some(&neighbour), "control: its link-local address");
        };
        assert_eq!(answer(&netns, VIP), None);
        untouched();
        let table = sh("nft list table arp brattice");
        assert!(table.contains("counter packets") && !table.contains("counter packets 0 "), "counted: {table}");

        // A call to a VIP ends when the neighbour was asked three times in vain, a second each.
        let call = |seconds: u32| {
            let since = Instant::now();
            inside(&netns, "ip neigh flush dev eth0");
            // "timeout" ends with 124 if it has to end the call.
            let code = inside(
                &netns,
                &format!("bash -c 'timeout {seconds} bash -c \"echo > /dev/tcp/{VIP}/9\" 2>&1; echo $?'"),
            );
            (code.lines().last().map(str::to_owned), since.elapsed())
        };
        let (code, took) = call(10);
        assert!(
            code.as_deref() == Some("1") && took < Duration::from_secs(8),
            "unreachable soon: {code:?} after {took:?}"
        );

        // It is the table that keeps the stack from answering.
        sh("nft delete table arp brattice");
        assert_eq!(answer(&netns, VIP).as_ref(), Some(&bridge), "without the table");
        // The host has no route back by the bridge: neither an answer nor a refusal arrives.
        assert_eq!(call(5).0.as_deref(), Some("124"), "without the table, a call hangs");
        assert_eq!(datapath.repair().await.unwrap(), ["nft"]);
        assert_eq!(answer(&netns, VIP), None, "with the table again");
        untouched();
    });
}

#[test]
fn a_changed_table_is_written_anew_and_once() {
    testbed(async |testbed| {
        let datapath = testbed.start().await;
        let unmarked = || sh("nft list table arp brattice | grep -v 'as loaded'");
        let (whole, packets) = (unmarked(), sh("nft list table inet brattice"));
        for change in [
            "nft flush chain arp brattice questions",
            "nft insert rule arp brattice questions accept",
            "nft add table arp brattice '{ flags dormant ; }'",
            "nft add chain arp brattice questions '{ policy drop ; }'",
            "nft add chain arp brattice more",
            "nft flush chain arp brattice loaded",
            "nft delete table arp brattice",
        ] {
            sh(change);
            assert_eq!(datapath.repair().await.unwrap(), ["nft"], "{change}");
            assert_eq!(unmarked(), whole);
            assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new(), "control: once");
        }
        assert_eq!(sh("nft list table inet brattice"), packets, "the other table was left alone");
    });
}

/// The stack speaks only for addresses of the interface that was asked, and for those that `ip neigh add proxy` lists, also where
/// `proxy_ndp` is on.
#[test]
fn the_host_does_not_answer_for_ipv6_vips_by_itself() {
    testbed(async |testbed| {
        let netns = testbed.workload("v0", "fd10::10/64");
        inside(&netns, "ip -6 route add default dev eth0");
        sh("sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.proxy_ndp=1 net.ipv6.conf.v0.proxy_ndp=1");
        // A proxy answers after a while of its own choice.
        sh("sysctl -qw net.ipv6.neigh.v0.proxy_delay=0");
        sh("ip address add fd10::1/64 dev v0 nodad");
        let host = mac("v0");
        let _datapath = brattice_loader::Datapath::start(testbed.options6()).await.unwrap();
        assert_eq!(answer(&netns, "fd10::1"), Some(host.clone()), "control: an address of the interface");
        assert_eq!(answer(&netns, VIP6), None);
        sh(&format!("ip neigh add proxy {VIP6} dev v0"));
        assert_eq!(answer(&netns, VIP6), Some(host), "control: a listed proxy");
    });
}
