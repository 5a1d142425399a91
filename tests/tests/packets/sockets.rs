//! Sockets of the engine and of the workload's clients in a [`World`].

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use brattice_abi::SLOT_HTTP;
use socket2::Type;

use crate::{family::Family, world::World};

pub(crate) const SERVICE: u32 = 9;
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// A listening socket of the engine, not blocking.
pub(crate) fn listener<F: Family>(port: u16) -> TcpListener {
    let socket = F::bound(Type::STREAM, at(F::ENGINE, port), false);
    socket.listen(1024).expect("a socket can");
    socket.set_nonblocking(true).expect("a socket can");
    socket.into()
}

/// A connection from a listener's queue, within [`PATIENCE`].
#[track_caller]
pub(crate) fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(false).expect("a socket can");
                stream.set_read_timeout(Some(PATIENCE)).expect("a socket can");
                return (stream, peer);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(e) => panic!("nobody connected: {e}"),
        }
    }
}

/// Connects from the workload.
pub(crate) fn connect(world: &World, address: impl Into<IpAddr>, port: u16) -> std::io::Result<TcpStream> {
    let to = at(address, port);
    world.workload(move || TcpStream::connect_timeout(&to, PATIENCE))
}

#[track_caller]
pub(crate) fn refused<T>(result: std::io::Result<T>) {
    match result {
        Ok(_) => panic!("connected"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionRefused, "{e}"),
    }
}

/// A service on VIP:80 with one worker.
pub(crate) fn with_service<F: Family>(world: &mut World) -> TcpListener {
    let listener = listener::<F>(15001);
    world.node.add_service(F::VIP, 80, SERVICE);
    world.node.set_socket(SLOT_HTTP, &listener);
    world.node.set_socket(SLOT_HTTP + 1, &listener);
    listener
}

/// The service answers from its VIP to the workload's alias, and data goes both ways.
#[track_caller]
pub(crate) fn reached<F: Family>(world: &World, listener: &TcpListener) {
    let mut client = connect(world, F::VIP, 80).expect("the service is reached");
    let (mut server, peer) = accept(listener);
    assert_eq!(peer, at(F::ALIAS, client.local_addr().expect("connected").port()), "the caller is its alias");
    assert_eq!(server.local_addr().expect("connected"), at(F::VIP, 80));
    client.set_read_timeout(Some(PATIENCE)).expect("a socket can");
    client.write_all(b"ping").expect("sent");
    let mut buffer = [0; 4];
    server.read_exact(&mut buffer).expect("received");
    server.write_all(b"pong").expect("sent");
    client.read_exact(&mut buffer).expect("received");
    assert_eq!(&buffer, b"pong");
}

#[track_caller]
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "in vain");
        thread::sleep(Duration::from_millis(10));
    }
}
