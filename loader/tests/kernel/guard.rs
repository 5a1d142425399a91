//! What our nftables table keeps out. The stack asks `vip_listener` only for what begins something; a packet for an
//! established connection finds its socket before, from any interface.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use brattice_loader::{Datapath, Options};

use crate::testbed::{inside, mac, sh, testbed, there};

const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 64, 40), 5000);
const ALIAS: (Ipv4Addr, u16) = (Ipv4Addr::new(100, 127, 0, 5), 4000);
const SHORT: Duration = Duration::from_millis(300);

/// Whether an ICMP echo request to the VIP is answered.
fn pinged(netns: &str) -> bool {
    let ping: UdpSocket = there(netns, || {
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).unwrap().into()
    });
    ping.set_read_timeout(Some(SHORT)).unwrap();
    // Echo request, its checksum, id 1, number 1.
    ping.send_to(&[8, 0, 0xf7, 0xfd, 0, 1, 0, 1], (VIP.0, 0)).unwrap();
    let mut packet = [0; 128];
    // A raw socket shows the IP header, too.
    matches!(ping.recv(&mut packet), Ok(length) if length >= 28 && packet[20] == 0)
}

/// packets.md vip 50
/// packets.md vip 60: … with an alias as source, for a connection that is established (no lookup is made for it) |
///   dropped by the nftables table | the rule's own
/// packets.md vip 70: … of another protocol than TCP and UDP | dropped by the nftables table | the rule's own
#[test]
fn packets_from_elsewhere_reach_no_connection() {
    testbed(async |testbed| {
        let netns = testbed.workload("v0", "10.0.0.10/24");
        sh("ip address add 10.0.0.1/24 dev v0");
        // Else the kernel's own filter would hide what is shown here; many hosts have it off.
        sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.v0.rp_filter=0");
        let datapath = testbed.start().await;
        let connection = UdpSocket::bind(VIP).unwrap();
        connection.connect(ALIAS).unwrap();
        connection.set_read_timeout(Some(SHORT)).unwrap();

        // A static neighbour entry, as nothing answers ARP for the VIP here.
        inside(&netns, &format!("ip neigh add {} lladdr {} dev eth0", VIP.0, mac("v0")));
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
///
/// packets.md egress 110: … of another user, from a VIP that is no engine source | reset by the nftables table before:
///   else its socket would wait, and get the SYN of a workload that calls that VIP | the rule's own
#[test]
fn a_socket_waiting_at_the_address_of_a_service_is_reset() {
    testbed(async |testbed| {
        let datapath = testbed.start().await;
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
    testbed(async |testbed| {
        let datapath = testbed.start().await;
        // The mark is of this very table: its handles are in it.
        let unmarked = || sh("nft list table inet brattice | grep -v 'as loaded'");
        let whole = unmarked();
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
            assert_eq!(unmarked(), whole);
        }
        // A guard that is there, and does not guard.
        for change in [
            "nft insert rule inet brattice guard accept",
            "nft add rule inet brattice guard counter",
            "nft add table inet brattice '{ flags dormant ; }'",
            "nft add chain inet brattice guard '{ policy drop ; }'",
            "nft add chain inet brattice more",
            "nft flush chain inet brattice loaded",
            "nft delete table inet brattice; nft add table inet brattice",
        ] {
            sh(change);
            assert_eq!(datapath.repair().await.unwrap(), ["nft"], "{change}");
            assert_eq!(unmarked(), whole);
            assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new(), "control: once");
        }
        // What it counts is no change.
        sh("ip link add v0 type veth peer name v1 && ip link set v0 up && ip address add 10.0.0.1/24 dev v0");
        sh("ip route add 100.127.9.0/24 dev v0 table local && bash -c 'echo > /dev/udp/100.127.9.9/9' || true");
        assert!(unmarked().contains("packets 1 "), "control: {}", unmarked());
        assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new());
    });
}

/// An ICMP error "fragmentation needed" with MTU 600, about a packet to an address, in fragments of this many bytes.
fn too_big(id: u8, about: Ipv4Addr, fragments_of: usize) -> Vec<Vec<u8>> {
    let mut quote = vec![0x45, 0, 0x05, 0xdc, 0, 1, 0x40, 0, 64, 6, 0, 0];
    quote.extend([169, 254, 64, 1]);
    quote.extend(about.octets());
    quote.extend([0; 8]);
    let mut icmp = vec![3, 4, 0, 0, 0, 0, 0x02, 0x58];
    icmp.extend(quote);
    let sum = icmp.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    icmp[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let count = icmp.len().div_ceil(fragments_of);
    let packet = |(number, data): (usize, &[u8])| {
        let more = if number + 1 < count { 0x2000 } else { 0 };
        let offset = (more | (number * fragments_of / 8)) as u16;
        // The kernel fills in length and checksum.
        let mut packet = vec![0x45, 0, 0, 0, 77, id];
        packet.extend(offset.to_be_bytes());
        packet.extend([64, 1, 0, 0, 10, 0, 0, 10, 10, 0, 0, 1]);
        packet.extend(data);
        packet
    };
    icmp.chunks(fragments_of).enumerate().map(packet).collect()
}

/// The table's bits of an address are right for any length of prefix, and in fragments.
#[test]
fn errors_about_aliases_are_dropped_whole_and_in_fragments_with_any_prefix() {
    testbed(async |testbed| {
        let netns = testbed.workload("v0", "10.0.0.10/24");
        sh("ip address add 10.0.0.1/24 dev v0");
        let datapath =
            Datapath::start(Options { alias: "198.18.0.0/15".parse().unwrap(), ..testbed.options() }).await.unwrap();
        let dropped = || {
            let chain = sh("nft list chain inet brattice guard");
            let packets = chain
                .lines()
                .filter(|line| line.contains("icmp type"))
                .filter_map(|line| line.split("packets ").nth(1)?.split(' ').next()?.parse::<u32>().ok());
            packets.sum::<u32>()
        };
        let raw: UdpSocket = there(&netns, || {
            socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap().into()
        });
        let received = || sh("nstat -asz IcmpInMsgs | tail -1").split_whitespace().nth(1).unwrap().to_owned();
        let mut id = 0;
        // Whole; a first fragment that shows the quoted address, and ones that do not.
        for size in [64, 32, 16, 8] {
            for (about, ours) in
                [("198.18.0.1", true), ("198.19.255.254", true), ("198.20.0.1", false), ("198.17.255.255", false)]
            {
                let (before, heard) = (dropped(), received());
                id += 1;
                for packet in too_big(id, about.parse().unwrap(), size) {
                    raw.send_to(&packet, ("10.0.0.1", 0)).unwrap();
                }
                // One that shows nothing is dropped whatever it is about.
                let drop = ours || size < 32;
                let arrived = || dropped() > before || received() != heard;
                let since = Instant::now();
                while !arrived() && since.elapsed() < Duration::from_secs(5) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                assert_eq!((dropped() - before, received() != heard), (u32::from(drop), !drop), "{about} in {size}");
            }
        }
        drop(datapath);
    });
}
