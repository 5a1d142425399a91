//! What our nftables table keeps out. The stack asks `vip_listener` only for what begins something; a packet for an
//! established connection finds its socket before, whichever interface it came by.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::room::{inside, room, sh};

const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 64, 40), 5000);
const ALIAS: (Ipv4Addr, u16) = (Ipv4Addr::new(100, 127, 0, 5), 4000);
const SHORT: Duration = Duration::from_millis(300);

/// A socket made in a named namespace, to be used from here.
fn there(netns: &str, make: impl FnOnce() -> UdpSocket + Send) -> UdpSocket {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(File::open(format!("/run/netns/{netns}")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            make()
        });
        thread.join().unwrap()
    })
}

/// Whether an ICMP echo request to the VIP is answered.
fn pinged(netns: &str) -> bool {
    let ping = there(netns, || {
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).unwrap().into()
    });
    ping.set_read_timeout(Some(SHORT)).unwrap();
    // Echo request, its checksum, id 1, number 1.
    ping.send_to(&[8, 0, 0xf7, 0xfd, 0, 1, 0, 1], (VIP.0, 0)).unwrap();
    let mut packet = [0; 128];
    // A raw socket shows the IP header, too.
    matches!(ping.recv(&mut packet), Ok(length) if length >= 28 && packet[20] == 0)
}

#[test]
fn packets_from_elsewhere_reach_no_connection() {
    room(async |room| {
        let netns = room.workload("v0", "10.0.0.10/24");
        sh("ip address add 10.0.0.1/24 dev v0");
        // Else the kernel's own filter would hide what is shown here; many hosts have it off.
        sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.v0.rp_filter=0");
        let datapath = room.start().await;
        let connection = UdpSocket::bind(VIP).unwrap();
        connection.connect(ALIAS).unwrap();
        connection.set_read_timeout(Some(SHORT)).unwrap();

        // Not attached, and says that it is the alias.
        inside(&netns, &format!("ip address add {}/32 dev eth0", ALIAS.0));
        let liar = there(&netns, || UdpSocket::bind(ALIAS).unwrap());
        let arrives = || {
            liar.send_to(b"lie", VIP).unwrap();
            match connection.recv(&mut [0; 8]) {
                Ok(length) => length == 3,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                    false
                }
            }
        };
        assert!(!arrives() && !arrives(), "a forged packet reached an established connection");
        assert!(!pinged(&netns), "ICMP to a VIP was answered");
        let table = sh("nft list table inet brattice");
        let counted = table.lines().filter(|l| l.contains("counter packets") && !l.contains("packets 0 ")).count();
        assert_eq!(counted, 2, "both are counted: {table}");

        // It is the table that keeps them out: nothing else would.
        sh("nft delete table inet brattice");
        assert!(arrives() && pinged(&netns), "without the table");
        assert_eq!(datapath.repair().await.unwrap(), ["nft"]);
        assert!(!arrives() && !pinged(&netns), "with the table again");
    });
}

/// Connects from an address in the VIP range to the alias; why not, and after how long.
fn opened(from: Ipv4Addr) -> (Errno, Duration) {
    let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&stream, sockopt::SendTimeout, &TimeVal::new(0, 500_000)).unwrap();
    bind(stream.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(from, 8080))).unwrap();
    let since = Instant::now();
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(ALIAS.0, ALIAS.1));
    (connect(stream.as_raw_fd(), &to).unwrap_err(), since.elapsed())
}

/// A socket that waits for an answer from an alias would get a workload's SYN to its VIP and port, and the service not.
#[test]
fn nobody_waits_at_the_address_of_a_service() {
    room(async |room| {
        let datapath = room.start().await;
        let (why, after) = opened(VIP.0);
        assert_eq!(why, Errno::ECONNREFUSED);
        assert!(after < Duration::from_millis(100), "{after:?}");
        // An engine source is no service's address: there workload_egress alone judges, and drops.
        assert_eq!(opened(Ipv4Addr::new(169, 254, 64, 16)).0, Errno::EINPROGRESS);
        sh("nft delete table inet brattice");
        assert_eq!(opened(VIP.0).0, Errno::EINPROGRESS, "without the table");
        assert_eq!(datapath.repair().await.unwrap(), ["nft"]);
        assert_eq!(opened(VIP.0).0, Errno::ECONNREFUSED);
    });
}

#[test]
fn a_table_without_its_guards_is_written_anew() {
    room(async |room| {
        let datapath = room.start().await;
        let whole = sh("nft list table inet brattice");
        let rules = [
            ("guard", "\"brattice0\" accept"),
            ("guard", "\"lo\" accept"),
            ("guard", "saddr"),
            ("guard", "l4proto"),
            ("prerouting", "notrack"),
            ("output", "skuid"),
            ("output", "notrack"),
        ];
        for (chain, rule) in rules {
            let handle = sh(&format!("nft -a list chain inet brattice {chain}"))
                .lines()
                .find(|line| line.contains(rule))
                .and_then(|line| line.rsplit(' ').next().map(str::to_owned))
                .unwrap();
            sh(&format!("nft delete rule inet brattice {chain} handle {handle}"));
            assert_eq!(datapath.repair().await.unwrap(), ["nft"], "{rule}");
            assert_eq!(sh("nft list table inet brattice"), whole);
        }
    });
}
