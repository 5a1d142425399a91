//! What a careless host runs: daemons on every address, TCP and UDP, IPv4 and IPv6.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Namespace;

/// What a daemon sends to each client.
pub const BANNER: &[u8] = b"WILDCARD";

/// Daemons on 0.0.0.0 and [::] on several ports; they end when this is dropped.
pub struct WildcardServices {
    hits: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WildcardServices {
    /// Starts them in a namespace.
    ///
    /// # Panics
    /// When a port is taken.
    pub fn start(namespace: &Namespace, ports: &[u16]) -> Self {
        let hits = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (streams, datagrams) = namespace.enter(|| {
            let mut streams = Vec::new();
            let mut datagrams = Vec::new();
            for port in ports {
                for wildcard in ["0.0.0.0", "[::]"] {
                    let address: SocketAddr = format!("{wildcard}:{port}").parse().expect("an address");
                    streams.push(std::net::TcpListener::from(socket(address, Type::STREAM, Protocol::TCP)));
                    datagrams.push(UdpSocket::from(socket(address, Type::DGRAM, Protocol::UDP)));
                }
            }
            (streams, datagrams)
        });
        let (its_hits, its_stop) = (hits.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            use std::io::Write;
            let mut buffer = [0; 2048];
            while !its_stop.load(Ordering::SeqCst) {
                for listener in &streams {
                    while let Ok((mut stream, _)) = listener.accept() {
                        its_hits.fetch_add(1, Ordering::SeqCst);
                        let _ = stream.write_all(BANNER);
                    }
                }
                for socket in &datagrams {
                    while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                        its_hits.fetch_add(1, Ordering::SeqCst);
                        let _ = socket.send_to(BANNER, peer);
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { hits, stop, thread: Some(thread) }
    }

    /// Connections and datagrams that reached a daemon.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Drop for WildcardServices {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> Socket {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol)).expect("a socket");
    if address.is_ipv6() {
        // [::] alone would take IPv4's packets as well, and leave no room for 0.0.0.0.
        socket.set_only_v6(true).expect("IPV6_V6ONLY");
    }
    socket.set_reuse_address(kind == Type::STREAM).expect("SO_REUSEADDR");
    socket.set_nonblocking(true).expect("non-blocking");
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("{address}: {error}"));
    if kind == Type::STREAM {
        socket.listen(128).expect("listen");
    }
    socket
}
