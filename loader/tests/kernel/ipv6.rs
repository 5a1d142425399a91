//! The IPv6 half of the data path: there where the host does IPv6, and back when it does again.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use brattice_loader::interfaces::{Watch, inventory};
use brattice_loader::{Datapath, Error, Ipv6, Options, cleanup, ipv6, preflight, sockets};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use tokio::time::timeout;

use crate::testbed::{Testbed, inside, sh, testbed, there};

const VIP_ROUTE: &str = "local fd00:a9fe::/64 dev lo";
const ALIAS_ROUTE: &str = "fd00:64::/48 via fe80::1 dev brattice0";
const OFF: &str = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1";
const ON: &str = "sysctl -qw net.ipv6.conf.all.disable_ipv6=0";

fn routes() -> String {
    sh("ip -6 route show table all proto 187")
}

async fn start(testbed: &Testbed) -> Datapath {
    Datapath::start(testbed.options6()).await.unwrap()
}

#[test]
fn a_start_puts_both_families_there_and_cleanup_takes_both() {
    testbed(async |testbed: Testbed| {
        let before = sh("ip -6 route show table all; ip -6 address; nft list ruleset");
        let datapath = start(&testbed).await;
        let routes = routes();
        assert!(routes.contains(VIP_ROUTE), "{routes}");
        assert!(routes.contains(ALIAS_ROUTE) && routes.contains("onlink") && routes.contains("mtu 1500"), "{routes}");
        // Of a longer prefix in the main table, as a router advertisement may bring, nothing is asked.
        sh("ip -6 route add fd00:64::2/128 dev brattice1");
        let way = sh("ip -6 route get fd00:64::2");
        assert!(way.contains("dev brattice0"), "{way}");
        sh("ip -6 route del fd00:64::2/128 dev brattice1");
        assert_eq!(sh("ip -o address show dev brattice0"), "");
        let config = datapath.maps.config().get(&0).unwrap().unwrap();
        assert_eq!(IpAddr::from(config.vip_net6), "fd00:a9fe::".parse::<IpAddr>().unwrap());
        assert_eq!(IpAddr::from(config.alias_net6), "fd00:64::".parse::<IpAddr>().unwrap());
        let footprint = datapath.footprint().join("\n");
        assert!(footprint.contains("route local fd00:a9fe::/64 dev lo proto 187"), "{footprint}");
        assert!(footprint.contains("route fd00:64::/48 via fe80::1 dev brattice0 onlink mtu 1500"), "{footprint}");
        // A restart finds all of it.
        drop(datapath);
        let datapath = start(&testbed).await;
        assert!(datapath.adopted());
        assert_eq!(datapath.steps(), Vec::<&str>::new());
        drop(datapath);
        let removed = cleanup::run(&testbed.bpffs).await.unwrap().join("\n");
        assert!(removed.contains("route local fd00:a9fe::/64") && removed.contains("route fd00:64::/48"), "{removed}");
        assert_eq!(sh("ip -6 route show table all; ip -6 address; nft list ruleset"), before);
    });
}

#[test]
fn a_node_without_ipv6_has_nothing_of_it() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        assert_eq!(routes(), "");
        assert!(!sh("nft list table inet brattice").contains("ip6"));
        let config = datapath.maps.config().get(&0).unwrap().unwrap();
        assert_eq!((config.vip_net6, config.alias_net6), Default::default());
        // The running ranges hold, "none" included.
        drop(datapath);
        let error = Datapath::start(testbed.options6()).await.unwrap_err();
        assert!(
            matches!(&error, Error::RangeChanged { which: "IPv6 VIP", running, .. } if running == "off"),
            "{error}"
        );
    });
}

#[test]
fn what_vanishes_is_put_back_by_its_event() {
    testbed(async |testbed: Testbed| {
        let datapath = start(&testbed).await;
        let mut watch = Watch::open().unwrap();
        for (command, expected) in [
            ("ip link set brattice0 down; ip link set brattice0 up", vec!["alias-route", "alias-route-ipv6"]),
            ("ip -6 route del local fd00:a9fe::/64 dev lo proto 187", vec!["vip-route-ipv6"]),
            ("ip -6 route del fd00:64::/48 table local proto 187", vec!["alias-route-ipv6"]),
            // What IPv6 takes with it when it is turned off.
            (&format!("{OFF}; {ON}"), vec!["alias-route-ipv6", "vip-route-ipv6"]),
        ] {
            sh(command);
            let mut repaired = Vec::new();
            while !expected.iter().all(|e| repaired.contains(e)) {
                timeout(Duration::from_secs(5), watch.changed()).await.expect(command).unwrap();
                repaired.extend(datapath.repair().await.unwrap());
            }
            let routes = routes();
            assert!(routes.contains(VIP_ROUTE) && routes.contains(ALIAS_ROUTE), "after {command}: {routes}");
        }
        assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new());
    });
}

#[test]
fn a_host_with_ipv6_turned_off_is_served_over_ipv4_until_it_is_turned_on() {
    testbed(async |testbed: Testbed| {
        sh(&format!("{OFF} net.ipv6.conf.default.disable_ipv6=1"));
        assert_eq!(ipv6(), Ipv6::Off);
        let datapath = start(&testbed).await;
        assert_eq!(routes(), "");
        assert!(sh("ip route show table all proto 187").contains("100.127.0.0/16"));
        assert!(datapath.footprint().join("\n").contains("no IPv6 routes: IPv6 is off"), "{:?}", datapath.footprint());
        assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new());
        datapath.set_mtu(1400).await.unwrap();
        let checks = preflight::host(&testbed.bpffs, testbed.options().vip, testbed.options6().ipv6);
        let check = checks.iter().find(|check| check.name == "IPv6").unwrap();
        assert!(!check.ok && !check.required && check.found.contains("off on this host"), "{check:?}");

        let mut watch = Watch::open().unwrap();
        sh(ON);
        assert_eq!(ipv6(), Ipv6::On);
        let mut repaired = Vec::new();
        while repaired.len() < 2 {
            timeout(Duration::from_secs(5), watch.changed()).await.expect("word of it").unwrap();
            repaired.extend(datapath.repair().await.unwrap());
        }
        assert_eq!(repaired, ["alias-route-ipv6", "vip-route-ipv6"]);
        assert!(routes().contains("mtu 1400"), "{}", routes());
        let checks = preflight::host(&testbed.bpffs, testbed.options().vip, testbed.options6().ipv6);
        assert!(checks.iter().any(|check| check.name == "IPv6" && check.ok), "{checks:?}");
    });
}

#[test]
fn a_small_mtu_leaves_ipv6_its_least() {
    testbed(async |testbed: Testbed| {
        let datapath = start(&testbed).await;
        datapath.set_mtu(900).await.unwrap();
        assert!(routes().contains("mtu 1280"), "{}", routes());
        assert!(sh("ip route show table local proto 187").contains("mtu 900"));
        drop(datapath);
        // The next start takes up the MTU of IPv4, not IPv6's.
        let datapath = start(&testbed).await;
        assert_eq!(datapath.steps(), Vec::<&str>::new());
    });
}

#[test]
fn deprecated_addresses_belong_to_no_workload() {
    testbed(async |testbed: Testbed| {
        let netns = testbed.workload("v0", "10.0.0.10/24");
        inside(&netns, "ip address add fd10::10/64 dev eth0 nodad");
        inside(&netns, "ip address add fd10::11/64 dev eth0 nodad preferred_lft 0");
        let found = inventory().await.unwrap();
        let peer = found.iter().find(|i| i.name == "v0").and_then(|i| i.peer.clone()).unwrap();
        let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.10", "fd10::10"]);
    });
}

#[test]
fn collisions_of_the_ipv6_ranges_are_found() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        let ranges = testbed.options6().ranges();
        let cidrs = vec![("Vpc blue".to_owned(), "fd10::/64".parse().unwrap())];
        let datapath = start(&testbed).await;
        assert_eq!(preflight::overlaps(&ranges, &cidrs).await.unwrap(), [], "ours are no collision");
        drop(datapath);
        sh("ip -6 route add fd00::/8 dev v0");
        let found = preflight::overlaps(&ranges, &cidrs).await.unwrap();
        assert!(found.len() == 2 && found.iter().all(|o| !o.serious), "a wider route loses: {found:?}");
        sh("ip -6 route add fd00:64:0:7::/64 dev v0");
        let cidrs = vec![("Vpc green".to_owned(), "fd00:a9fe::/32".parse().unwrap())];
        let found = preflight::overlaps(&ranges, &cidrs).await.unwrap();
        for (pool, part) in [("IPv6 alias", "route fd00:64:0:7::/64 dev v0"), ("IPv6 VIP", "Vpc green")] {
            assert!(found.iter().any(|o| o.serious && o.pool == pool && o.with.contains(part)), "{part}: {found:#?}");
        }
    });
}

const VIP: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd00, 0xa9fe, 0, 0, 0x8000, 0, 0, 40), 5000);
const ALIAS: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, 5), 4000);
const REAL: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0x10);
const SHORT: Duration = Duration::from_millis(300);

/// A socket at an address that need not be there.
fn free(kind: SockType, address: (Ipv6Addr, u16)) -> std::os::fd::OwnedFd {
    let socket = socket(AddressFamily::Inet6, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::IpFreebind, &true).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from(address))).unwrap();
    socket
}

/// Whether an ICMPv6 echo request to the VIP is answered.
fn pinged(netns: &str) -> bool {
    let ping: UdpSocket = there(netns, || {
        let ping = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6).unwrap();
        // An answer to the alias that is on the interface as well would go another way.
        bind(ping.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((REAL, 0)))).unwrap();
        ping.into()
    });
    ping.set_read_timeout(Some(SHORT)).unwrap();
    // The kernel makes the checksum.
    ping.send_to(&[128, 0, 0, 0, 0, 1, 0, 1], (VIP.0, 0)).unwrap();
    let since = Instant::now();
    let mut packet = [0; 128];
    while since.elapsed() < SHORT {
        match ping.recv(&mut packet) {
            Ok(length) if length >= 8 && packet[0] == 129 => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

#[test]
fn packets_from_elsewhere_reach_no_connection() {
    testbed(async |testbed| {
        let netns = testbed.workload("v0", "fd10::10/64");
        inside(&netns, "ip -6 route add default via fd10::1 dev eth0");
        inside(&netns, &format!("ip address add {}/128 dev eth0 nodad", ALIAS.0));
        sh("ip address add fd10::1/64 dev v0 nodad");
        let datapath = start(&testbed).await;
        let connection = UdpSocket::from(free(SockType::Datagram, VIP));
        connection.connect(ALIAS).unwrap();
        connection.set_read_timeout(Some(SHORT)).unwrap();
        let liar = there(&netns, || UdpSocket::bind(ALIAS).unwrap());
        // Nothing leaves the workload before v0 has made its link-local address its own, which takes a second or two: it
        // would wait in a queue and come later. Asked from the alias, the node would not answer: the table lets nothing out
        // to aliases.
        let neighbour = there(&netns, || UdpSocket::bind((REAL, 0)).unwrap());
        let honest = UdpSocket::from(free(SockType::Datagram, (Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 1), 0)));
        honest.set_read_timeout(Some(SHORT)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while honest.recv(&mut [0; 8]).is_err() {
            assert!(Instant::now() < deadline, "nothing leaves the workload");
            neighbour.send_to(b"hello", honest.local_addr().unwrap()).unwrap();
        }
        let arrives = || {
            liar.send_to(b"lie", VIP).unwrap();
            matches!(connection.recv(&mut [0; 8]), Ok(3))
        };
        assert!(!arrives() && !arrives(), "a forged packet reached an established connection");
        assert!(!pinged(&netns), "ICMPv6 to a VIP was answered");
        // It is the table that keeps them out: nothing else would.
        sh("nft delete table inet brattice");
        assert!(arrives(), "without the table");
        assert!(pinged(&netns), "without the table");
        assert_eq!(datapath.repair().await.unwrap(), ["nft"]);
        assert!(!arrives() && !pinged(&netns), "with the table again");
    });
}

#[test]
fn a_socket_waiting_at_the_address_of_a_service_is_reset() {
    testbed(async |testbed| {
        let opened = |from: Ipv6Addr| {
            let stream = free(SockType::Stream, (from, 8080));
            setsockopt(&stream, sockopt::SendTimeout, &TimeVal::new(0, 500_000)).unwrap();
            connect(stream.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from(ALIAS))).unwrap_err()
        };
        let datapath = start(&testbed).await;
        assert_eq!(opened(VIP.0), Errno::ECONNREFUSED);
        // An engine source is no service's address: there workload_egress alone judges, and drops.
        assert_eq!(opened("fd00:a9fe::10".parse().unwrap()), Errno::EINPROGRESS);
        sh("nft delete table inet brattice");
        assert_eq!(opened(VIP.0), Errno::EINPROGRESS, "without the table");
        assert_eq!(datapath.repair().await.unwrap(), ["nft"]);
        assert_eq!(opened(VIP.0), Errno::ECONNREFUSED);
    });
}

#[test]
fn a_table_without_a_guard_of_ipv6_is_written_anew() {
    testbed(async |testbed| {
        let datapath = start(&testbed).await;
        // The mark is of this very table: its handles are in it.
        let unmarked = || sh("nft list table inet brattice | grep -v 'as loaded'");
        let whole = unmarked();
        for (chain, rule) in
            [("guard", "ip6 saddr"), ("guard", "ip6 daddr fd00:a9fe::/64 meta"), ("output", "ip6 saddr")]
        {
            let handle = sh(&format!("nft -a list chain inet brattice {chain}"))
                .lines()
                .find(|line| line.contains(rule))
                .and_then(|line| line.rsplit(' ').next().map(str::to_owned))
                .unwrap_or_else(|| panic!("{rule} in {whole}"));
            sh(&format!("nft delete rule inet brattice {chain} handle {handle}"));
            assert_eq!(datapath.repair().await.unwrap(), ["nft"], "{rule}");
            assert_eq!(unmarked(), whole);
        }
    });
}

/// The engine's listeners serve both families, and cannot be reached at a wildcard address.
#[test]
fn a_listener_at_a_mapped_address_is_bound_to_the_ipv4_address_alone() {
    testbed(async |testbed: Testbed| {
        let _datapath = start(&testbed).await;
        assert!(sockets::ipv6_supported());
        let mapped = "169.254.64.1".parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped();
        let listener = TcpListener::from(sockets::listener(SocketAddr::from((mapped, 0)), 4).unwrap());
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect(("::1", port)).is_err() && TcpStream::connect(("127.0.0.1", port)).is_err());
    });
}

#[test]
fn connections_of_an_ipv6_peer_are_destroyed() {
    testbed(async |_: Testbed| {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        assert_eq!(sockets::destroy("fd10::1".parse().unwrap()).unwrap(), 0);
        client.write_all(b"y").unwrap();
        server.read_exact(&mut [0]).unwrap();
        assert!(sockets::destroy("::1".parse().unwrap()).unwrap() >= 1);
        assert!(server.read(&mut [0]).is_err());
    });
}

#[test]
fn ranges_that_cannot_be_are_refused_before_anything_is_made() {
    testbed(async |testbed: Testbed| {
        let mut options: Options = testbed.options6();
        if let Some(ipv6) = &mut options.ipv6 {
            ipv6.vip = "2001:db8::/64".parse().unwrap();
        }
        let error = Datapath::start(options).await.unwrap_err();
        assert!(
            error.to_string().contains("IPv6 VIP range 2001:db8::/64") && error.to_string().contains("RFC 4193"),
            "{error}"
        );
        assert!(!testbed.bpffs.exists());
    });
}
