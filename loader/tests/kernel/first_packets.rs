//! What a new interface receives for VIPs before its program is attached arrives once more, and is attested like any packet.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use brattice_loader::Datapath;
use brattice_loader::abi::{Address, Counter, DropReason, Workload, WorkloadKey};
use brattice_loader::first_packets::FirstPackets;

use crate::testbed::{Testbed, ifindex, inside, mac, sh, testbed, there};

const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 64, 40), 80);
const OWN: [&str; 2] = ["10.0.0.10", "10.0.0.11"];
/// An address that no workload has.
const LIE: &str = "203.0.113.9";
const PATIENCE: Duration = Duration::from_secs(10);

/// A workload whose interface has just appeared, as soon as its packets are kept.
fn new_workload(testbed: &Testbed, host: &str, own: &str) -> String {
    let netns = testbed.workload(host, &format!("{own}/32"));
    inside(&netns, &format!("ip neigh add {} lladdr {} dev eth0 nud permanent", VIP.0, mac(host)));
    inside(&netns, &format!("ip address add {LIE}/32 dev eth0"));
    let (index, since) = (ifindex(host).to_string(), Instant::now());
    // Of each packet socket the fifth word is its interface.
    let is_kept = || sh("cat /proc/self/net/packet").lines().any(|line| line.split_whitespace().nth(4) == Some(&index));
    while !is_kept() {
        assert!(since.elapsed() < PATIENCE, "{host} is not noticed");
        std::thread::sleep(Duration::from_millis(5));
    }
    netns
}

/// Sends a datagram to a VIP at which nothing listens.
fn send(netns: &str, from: &str) {
    there(netns, || {
        let socket = UdpSocket::bind((from.parse::<Ipv4Addr>().unwrap(), 4_000)).unwrap();
        socket.send_to(b"early", VIP).unwrap();
    });
}

/// Packets that were taken from workloads, and those dropped for a forged source.
fn counted(datapath: &Datapath) -> [u64; 2] {
    let counters = datapath.maps.counters().unwrap();
    let of = |index: u32| counters.iter().find(|(at, _)| *at == index).map_or(0, |(_, count)| *count);
    [of(Counter::FromWorkload.index()), of(DropReason::SpoofedSource.index())]
}

#[test]
fn what_came_before_the_attachment_is_attested_and_no_other_interfaces_is_touched() {
    testbed(async |testbed| {
        let datapath = testbed.start().await;
        let first = FirstPackets::keep(&testbed.options()).unwrap();
        let [one, two] = [("v0", OWN[0]), ("v1", OWN[1])].map(|(host, own)| new_workload(&testbed, host, own));
        // Its own, another's, and an address that no workload has.
        inside(&one, &format!("ip address add {}/32 dev eth0", OWN[1]));
        for from in [OWN[0], OWN[1], LIE] {
            send(&one, from);
        }
        send(&two, OWN[1]);
        for (number, (host, own)) in ["v0", "v1"].into_iter().zip(OWN).enumerate() {
            let key = WorkloadKey { ifindex: ifindex(host), address: Address::from(own.parse::<Ipv4Addr>().unwrap()) };
            let alias = Address::from(Ipv4Addr::new(100, 127, 0, 1 + u8::try_from(number).unwrap()));
            let workload = Workload { alias, workload_id: u32::try_from(number).unwrap() + 1, flags: 0 };
            datapath.maps.workloads().insert(&key, &workload).unwrap();
            datapath.attach(ifindex(host)).await.unwrap();
        }
        assert_eq!(counted(&datapath), [0, 0], "none of it met a program of the interface");
        assert_eq!(first.release(ifindex("v0")).unwrap(), 3);
        assert_eq!(counted(&datapath), [1, 2], "its own alone is taken");
        assert_eq!(first.release(ifindex("v0")).unwrap(), 0, "once");
        assert_eq!(first.release(ifindex("v1")).unwrap(), 1, "what its neighbour has sent is still kept");
        assert_eq!(counted(&datapath), [2, 2]);
    });
}
