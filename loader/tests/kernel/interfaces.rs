//! The peers of interfaces, and events of changes.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use brattice_loader::interfaces::{Change, Interface, Watch, inventory};
use tokio::time::timeout;

use crate::testbed::{Testbed, inside, sh, testbed};

async fn find(name: &str) -> Interface {
    inventory().await.unwrap().into_iter().find(|i| i.name == name).unwrap()
}

#[test]
fn a_workload_is_seen_with_its_namespace_addresses_and_routes() {
    testbed(async |testbed: Testbed| {
        let netns = testbed.workload("v0", "10.0.0.10/24");
        inside(&netns, "ip link set eth0 address 02:00:00:00:00:77");
        inside(&netns, "ip -6 address add fd00::10/64 dev eth0 nodad");
        inside(&netns, "ip route add 198.18.0.0/15 dev eth0");
        sh("ip link add br0 type bridge");
        sh("ip link set v0 master br0 mtu 1400");
        sh("ip address add 10.0.0.1/24 dev br0");
        sh("ip link set br0 up");
        let v0 = find("v0").await;
        let bridge = find("br0").await;
        assert_eq!((v0.kind.as_str(), v0.mtu, v0.up, v0.has_default_route), ("veth", 1400, true, false));
        assert_eq!((v0.master, bridge.kind.as_str()), (Some(bridge.ifindex), "bridge"));
        assert_eq!(bridge.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(!v0.ours && bridge.peer.is_none());
        let peer = v0.peer.unwrap();
        assert_eq!((peer.name.as_str(), peer.mac), ("eth0", [2, 0, 0, 0, 0, 0x77]));
        assert_eq!(peer.namespace.as_deref(), Some(netns.as_str()));
        let inode = std::fs::metadata(format!("/run/netns/{netns}")).unwrap().ino();
        assert_eq!(peer.namespace_inode, Some(inode));
        assert_eq!(peer.addresses, ["10.0.0.10".parse::<IpAddr>().unwrap(), "fd00::10".parse().unwrap()]);
        assert!(peer.routes.contains(&"198.18.0.0/15".parse().unwrap()), "{:?}", peer.routes);
        assert!(peer.routes.contains(&"10.0.0.0/24".parse().unwrap()), "{:?}", peer.routes);
    });
}

#[test]
fn namespaces_that_only_a_process_holds_are_found() {
    testbed(async |_: Testbed| {
        sh("ip link add v0 type veth peer name v1");
        let mut child = std::process::Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", child.id());
        while std::fs::read_link(&theirs).unwrap() == own {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sh(&format!("ip link set v1 netns {}", child.id()));
        let inode = std::fs::metadata(&theirs).unwrap().ino();
        let peer = find("v0").await.peer;
        child.kill().unwrap();
        child.wait().unwrap();
        let peer = peer.unwrap();
        assert_eq!((peer.name.as_str(), peer.namespace, peer.namespace_inode), ("v1", None, Some(inode)));
    });
}

#[test]
fn namespaces_that_nothing_leads_to_are_asked_by_their_id() {
    testbed(async |_: Testbed| {
        // Held by an open file of a process, and by no name and no process inside.
        let hidden = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        let hidden = hidden.join().unwrap();
        use std::os::fd::AsRawFd;
        let path = format!("/proc/{}/fd/{}", std::process::id(), hidden.as_raw_fd());
        sh(&format!("ip link add v0 type veth peer name v1 && ip link set v1 netns {path}"));
        sh(&format!("nsenter --net={path} ip address add 10.3.0.7/24 dev v1"));
        // `nsenter` is in it for a moment only.
        let peer = find("v0").await.peer.unwrap();
        assert_eq!((peer.name.as_str(), peer.namespace, peer.namespace_inode), ("v1", None, None));
        assert_eq!(peer.addresses, ["10.3.0.7".parse::<IpAddr>().unwrap()]);
        assert!(peer.routes.is_empty());
    });
}

#[test]
fn default_routes_and_pairs_beside_are_seen() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        sh("ip link add up0 type veth peer name up1");
        sh("ip link set up0 up; ip link set up1 up; ip address add 192.0.2.1/24 dev up0");
        sh("ip route add default via 192.0.2.2 table 77");
        let up0 = find("up0").await;
        assert!(up0.has_default_route);
        let own = std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let peer = up0.peer.unwrap();
        assert_eq!((peer.name.as_str(), peer.namespace, peer.namespace_inode), ("up1", None, Some(own)));
        assert!(!find("up1").await.has_default_route);
        assert!(find("brattice0").await.ours && find("brattice1").await.ours);
        drop(datapath);
    });
}

async fn next(watch: &mut Watch, wanted: impl Fn(&Change) -> bool, what: &str) {
    let wait = async {
        loop {
            if wanted(&watch.changed().await.unwrap()) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(5), wait).await.unwrap_or_else(|_| panic!("no word of {what}"));
}

#[test]
fn changes_here_and_inside_are_told() {
    testbed(async |testbed: Testbed| {
        let mut watch = Watch::open().unwrap();
        let netns = testbed.workload("v0", "10.0.0.10/24");
        next(&mut watch, |c| c.links, "a new interface").await;
        next(&mut watch, |c| c.namespaces, "a new namespace name").await;
        // Being listed is what gives the peer's namespace its id here.
        inventory().await.unwrap();
        while timeout(Duration::from_millis(400), watch.changed()).await.is_ok() {}
        inside(&netns, "ip address add 10.0.0.11/24 dev eth0");
        next(&mut watch, |c| c.addresses, "an address inside").await;
        while timeout(Duration::from_millis(400), watch.changed()).await.is_ok() {}
        inside(&netns, "ip link set eth0 address 02:00:00:00:00:99");
        next(&mut watch, |c| c.links, "a new MAC inside").await;
        while timeout(Duration::from_millis(400), watch.changed()).await.is_ok() {}
        sh("nft add table ip mine");
        next(&mut watch, |c| c.firewall, "a table").await;
        sh("ip route add blackhole 203.0.113.0/24");
        next(&mut watch, |c| c.routes, "a route").await;
        sh(&format!("ip netns delete {netns}"));
        next(&mut watch, |c| c.namespaces, "a namespace's end").await;
    });
}

#[test]
fn a_burst_is_one_or_few_notices() {
    testbed(async |_: Testbed| {
        let mut watch = Watch::open().unwrap();
        let commands: String = (0..200).map(|n| format!("route add blackhole 203.0.{n}.0/24\n")).collect();
        sh(&format!("printf '{commands}' | ip -batch -"));
        let mut notices = 0;
        while timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {
            notices += 1;
        }
        assert!((1..50).contains(&notices), "{notices} notices for 200 changes");
    });
}
