//! Sockets made for the engine, and connections destroyed.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use brattice_loader::sockets;

use crate::testbed::{SOCKET_PROGRAMS, Testbed, sh, testbed};

#[test]
fn the_dns_socket_belongs_to_the_engine() {
    testbed(async |_: Testbed| {
        // Freebind: the address does not exist here.
        let address = SocketAddrV4::new(Ipv4Addr::new(169, 254, 64, 17), 53).into();
        let socket = sockets::dns_udp(address, 4711).unwrap();
        let listed = sh("ss -lunep");
        assert!(listed.contains("169.254.64.17:53") && listed.contains("uid:4711"), "{listed}");
        let error = sockets::dns_udp(address, 4711).unwrap_err();
        assert!(error.to_string().contains("169.254.64.17:53"), "{error}");
        drop(socket);
    });
}

#[test]
fn each_program_of_sockets_is_missed() {
    testbed(async |testbed: Testbed| {
        let datapath = testbed.start().await;
        let at_cgroups = || datapath.attached().unwrap().into_iter().filter(|link| link.hook == "cgroup");
        assert_eq!(at_cgroups().count(), SOCKET_PROGRAMS);
        for link in at_cgroups() {
            assert!(datapath.whole().unwrap(), "{}", link.program);
            sh(&format!("bpftool link detach id {}", link.link_id));
            assert!(!datapath.whole().unwrap(), "{}", link.program);
            assert_eq!(datapath.repair().await.unwrap(), ["host"]);
        }
        assert!(datapath.whole().unwrap());
        assert_eq!(at_cgroups().count(), SOCKET_PROGRAMS);
    });
}

#[test]
fn connections_are_destroyed_by_their_peer_and_no_others() {
    testbed(async |_: Testbed| {
        assert!(sockets::destroy_supported());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = |source: &str| {
            let socket = TcpStream::connect(("127.0.0.1", port));
            assert!(socket.is_ok(), "{source}");
        };
        connect("a first try");
        let from = |source: Ipv4Addr| -> (TcpStream, TcpStream) {
            use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
            use std::os::fd::AsRawFd;
            let client = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            bind(client.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0))).unwrap();
            connect(client.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))).unwrap();
            loop {
                let (server, peer) = listener.accept().unwrap();
                if peer.ip() == source {
                    server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                    return (client.into(), server);
                }
            }
        };
        let gone = Ipv4Addr::new(127, 0, 7, 7);
        let kept = Ipv4Addr::new(127, 0, 7, 8);
        let mut victims: Vec<_> = (0..5).map(|_| from(gone)).collect();
        let mut bystander = from(kept);
        assert_eq!(sockets::destroy(gone.into()).unwrap(), 5);
        for (_client, server) in &mut victims {
            let error = server.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        }
        let error = bystander.1.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "still open, only silent");
        assert_eq!(sockets::destroy(gone.into()).unwrap(), 0);
        assert_eq!(bystander.0.as_fd().try_clone_to_owned().map(|_| ()).ok(), Some(()));
    });
}
