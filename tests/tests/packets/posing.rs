//! A user of the host who poses as a service. A socket that connects from a VIP to an alias is found, while it waits,
//! by a packet the other way, without any lookup that `vip_listener` is asked about; TCP then takes the two for a
//! connection opened from both sides (RFC 9293, 3.5).

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener},
    os::fd::AsFd,
    time::Duration,
};

use brattice_abi::{DropReason, SLOT_HTTP};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    scene::{ALIAS, ENGINE, REAL, VIP},
    world::{World, in_world},
};

const SERVICE: u32 = 9;
/// Above 1023: any process may bind it.
const PORT: u16 = 8080;

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddrV4::new(address, port).into()
}

fn tcp(from: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_reuse_address(true).expect("a socket can");
    socket.bind(&from.into()).expect("an own or a local address");
    socket
}

/// The workload calls the service from this port.
fn call(world: &World, from: u16) -> std::io::Result<()> {
    world.workload(move || tcp(at(REAL, from)).connect_timeout(&at(VIP, PORT).into(), Duration::from_millis(500)))
}

/// packets.md egress 150: other TCP segments of a socket of another user than the engine's and root's (a SYN-ACK where
///   both sides connect) | dropped | `NotEngine`
#[test]
fn a_host_user_does_not_answer_for_a_service() {
    in_world(|world| {
        let engine = TcpListener::bind(at(ENGINE, 15001)).expect("the VIP range is local");
        world.node.add_service(VIP, PORT, SERVICE);
        world.node.set_socket(SLOT_HTTP, &engine);
        world.node.set_socket(SLOT_HTTP + 1, &engine);
        // 65534 is also what the kernel says of packets without a socket. The port is one that the user guessed.
        for (uid, port) in [(4242, 40_000), (65_534, 40_001)] {
            let poser = tcp(at(VIP, PORT));
            nix::unistd::fchown(poser.as_fd(), Some(uid.into()), None).expect("root may");
            poser.set_nonblocking(true).expect("a socket can");
            let waits = poser.connect(&at(ALIAS, port).into()).expect_err("nobody answers");
            assert_eq!(waits.raw_os_error(), Some(libc::EINPROGRESS), "{waits}");
            let before = world.node.dropped(DropReason::NotEngine);
            call(world, port).expect_err("the user answered in the service's place");
            assert!(world.node.dropped(DropReason::NotEngine) > before, "what it answered was dropped");
            assert_ne!((&poser).write(b"x").map_err(|e| e.kind()), Ok(1), "the user got a connection");
        }
        call(world, 40_002).expect("nobody in between");
        engine.set_nonblocking(true).expect("a socket can");
        let (_, peer) = engine.accept().expect("the engine was called");
        assert_eq!(peer, at(ALIAS, 40_002));
    });
}
