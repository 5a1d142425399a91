//! Tables, slots, counters, events.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use brattice_loader::abi::{self, DropReason};
use brattice_loader::{Datapath, EbpfLog, Error, Hook, Options, open_pinned_switches, sockets};
use tokio::time::timeout;

use crate::testbed::{Testbed, testbed};

#[test]
fn a_table_reads_what_it_writes_and_says_when_it_is_full() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        let table = datapath.maps.switches();
        let key = |id| abi::SwitchKey { scope: abi::SWITCH_SERVICE, id };
        let value = |until_ns| abi::Switch { until_ns, mode: abi::MODE_BYPASS, pad: 0 };
        assert!(table.is_empty().unwrap());
        assert_eq!(table.get(&key(1)).unwrap(), None);
        table.insert(&key(1), &value(11)).unwrap();
        table.insert(&key(1), &value(12)).unwrap();
        assert_eq!(table.get(&key(1)).unwrap(), Some(value(12)));
        table.remove(&key(2)).unwrap();
        for id in 2..=u32::from(u16::MAX) {
            match table.insert(&key(id), &value(id.into())) {
                Ok(()) => {}
                Err(Error::Full { map, capacity }) => {
                    assert_eq!((map.as_str(), capacity), ("SWITCHES", abi::MAX_SWITCHES));
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(table.len().unwrap(), abi::MAX_SWITCHES as usize);
        assert_eq!(table.capacity(), abi::MAX_SWITCHES);
        let mut entries = table.entries().unwrap();
        entries.sort_by_key(|(k, _)| k.id);
        assert_eq!(entries.len(), abi::MAX_SWITCHES as usize);
        assert!(entries.iter().skip(1).all(|(k, v)| v.until_ns == u64::from(k.id)));
        table.remove(&key(1)).unwrap();
        assert_eq!(table.get(&key(1)).unwrap(), None);
    });
}

#[test]
fn switches_work_without_an_agent() {
    testbed(async |testbed: Testbed| {
        assert!(open_pinned_switches(&testbed.bpffs).is_err());
        let datapath = testbed.start().await;
        let switches = datapath.maps.switches();
        drop(datapath);
        let offline = open_pinned_switches(&testbed.bpffs).unwrap();
        let all = abi::SwitchKey { scope: abi::SWITCH_ALL, id: 0 };
        let detach = abi::Switch { until_ns: 0, mode: abi::MODE_DETACH, pad: 0 };
        offline.insert(&all, &detach).unwrap();
        assert_eq!(switches.get(&all).unwrap(), Some(detach));
        // Also beside a running agent.
        let datapath = testbed.start().await;
        open_pinned_switches(&testbed.bpffs).unwrap().remove(&all).unwrap();
        assert_eq!(datapath.maps.switches().entries().unwrap(), []);
    });
}

#[test]
fn slots_tell_their_sockets_and_empty_themselves() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        let maps = &datapath.maps;
        let address = SocketAddrV4::new(Ipv4Addr::new(169, 254, 64, 1), 15_001);
        let socket = sockets::listener(address.into(), 128).unwrap();
        assert_eq!(maps.socket_cookie(0).unwrap(), None);
        maps.clear_socket(0).unwrap();
        maps.set_socket(0, socket.as_fd()).unwrap();
        let cookie = maps.socket_cookie(0).unwrap();
        assert!(cookie.is_some_and(|c| c != 0));
        maps.set_socket(0, socket.as_fd()).unwrap();
        assert_eq!(maps.socket_cookie(0).unwrap(), cookie);
        maps.clear_socket(0).unwrap();
        assert_eq!(maps.socket_cookie(0).unwrap(), None);
        maps.set_socket(1, socket.as_fd()).unwrap();
        drop(socket);
        for _ in 0..100 {
            if maps.socket_cookie(1).unwrap().is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(maps.socket_cookie(1).unwrap(), None, "closed everywhere");
        let dns =
            sockets::dns_udp(SocketAddrV4::new(Ipv4Addr::new(169, 254, 64, 17), 53).into(), crate::testbed::ENGINE)
                .unwrap();
        maps.set_socket(abi::SLOT_DNS_UDP, dns.as_fd()).unwrap();
        assert!(maps.socket_cookie(abi::SLOT_DNS_UDP).unwrap().is_some());
        assert!(maps.set_socket(abi::SLOTS, dns.as_fd()).is_err(), "no such slot");
    });
}

#[test]
fn workers_are_read_through_their_map() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        let states = datapath.maps.worker_states(3).unwrap();
        assert_eq!(states, [abi::WorkerState { heartbeat_ns: 0, connections: 0, requests: 0 }; 3]);
        assert_eq!(datapath.maps.worker_states(1_000).unwrap().len(), abi::MAX_WORKERS as usize);
        datapath.maps.workers_fd().unwrap();
    });
}

#[test]
fn a_drop_is_counted_and_told() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        let mut events = datapath.events().unwrap();
        assert!(matches!(datapath.events(), Err(Error::EventsTaken)));
        let unattested = |counters: Vec<(u32, u64)>| {
            counters.iter().find(|(i, _)| *i == DropReason::UnattestedHost.index()).map_or(0, |(_, n)| *n)
        };
        let before = unattested(datapath.maps.counters().unwrap());
        // A host process is no workload.
        let vip = Ipv4Addr::new(169, 254, 64, 40);
        let error = TcpStream::connect((vip, 80)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(unattested(datapath.maps.counters().unwrap()) > before);
        let event = timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap();
        assert_eq!(event.reason, DropReason::UnattestedHost.index());
        assert_eq!((event.destination, event.destination_port), (vip.into(), 80));
        drop(events);
        drop(datapath.events().unwrap());
    });
}

/// A host process calls a VIP, which is dropped.
fn call_a_vip() {
    let error = TcpStream::connect((Ipv4Addr::new(169, 254, 64, 40), 80)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn instructions(datapath: &Datapath) -> Vec<(&'static str, u32)> {
    datapath.attached().unwrap().into_iter().map(|attached| (attached.program, attached.instructions)).collect()
}

#[test]
fn the_programs_send_lines_where_they_are_asked_to_and_have_nothing_of_them_otherwise() {
    for hook in [Hook::of_this_kernel(), Hook::Clsact] {
        testbed(async move |testbed: Testbed| {
            let start =
                async |ebpf_log| Datapath::start_with(Options { ebpf_log, ..testbed.options() }, hook).await.unwrap();
            let silent = start(EbpfLog::Off).await;
            let off = instructions(&silent);
            assert!(silent.debug_log().is_ok(), "there is a ring buffer, with space for nothing");
            drop(silent);

            // The running data path gets other programs, and every one stays attached meanwhile.
            let speaking = start(EbpfLog::Debug).await;
            assert!(speaking.adopted() && speaking.steps() == ["programs"], "{:?}", speaking.steps());
            assert!(speaking.whole().unwrap());
            let on = instructions(&speaking);
            for ((program, off), (_, on)) in off.iter().zip(&on) {
                assert!(on > off, "{program}: {on} instructions with lines, {off} without");
            }
            let mut lines = speaking.debug_log().unwrap();
            call_a_vip();
            let line = timeout(Duration::from_secs(5), lines.next()).await.unwrap().unwrap();
            assert!(line.starts_with("UnattestedHost by vip_listener on interface 1: TCP 169.254.64.0:"), "{line}");
            assert!(line.contains(" → 169.254.64.40:80 ("), "{line}");
            drop((lines, speaking));

            let silent = start(EbpfLog::Off).await;
            assert!(silent.whole().unwrap());
            assert_eq!(instructions(&silent), off, "nothing is left of it");
            let mut lines = silent.debug_log().unwrap();
            call_a_vip();
            assert!(timeout(Duration::from_millis(200), lines.next()).await.is_err());
        });
    }
}
