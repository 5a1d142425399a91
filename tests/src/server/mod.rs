//! Servers that tests call: one that speaks HTTP/1.1 and HTTP/2 and names itself, one that plays bytes.

mod http;
mod open;
mod raw;
mod resolver;
mod upgrade;
mod wildcard;
mod wsgi;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

pub use self::{
    raw::RawServer,
    resolver::Resolver,
    wildcard::{BANNER, WildcardServices},
    wsgi::WsgiServer,
};
use crate::lab::Namespace;

/// What a server counted.
#[derive(Default, Debug)]
pub struct Counters {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Requests whose head was read.
    pub requests: AtomicU64,
    /// Answers that were begun.
    pub answers: AtomicU64,
    /// Upgraded connections that are open now.
    pub upgraded: AtomicU64,
    /// Bodies of `/drip` that are open now.
    pub dripping: AtomicU64,
    /// Peer addresses of the latest connections, at most 4,096.
    pub peers: Mutex<Vec<SocketAddr>>,
}

impl Counters {
    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Upgraded connections that are open now.
    pub fn upgraded(&self) -> u64 {
        self.upgraded.load(Ordering::SeqCst)
    }

    /// Bodies of `/drip` that are open now.
    pub fn dripping(&self) -> u64 {
        self.dripping.load(Ordering::SeqCst)
    }

    /// Notes an accepted connection.
    pub(crate) fn accepted(&self, peer: SocketAddr) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let mut peers = self.peers.lock().expect("no holder of this lock panics");
        if peers.len() < 4_096 {
            peers.push(peer);
        }
    }
}

/// An HTTP server on threads of its own inside a namespace; ends when dropped.
///
/// It answers every request with 200 and JSON that names it and repeats the request, except:
/// `/bytes/N` streams N bytes of [`pattern`], `/hash` reads the body (at `?rate=` bytes a second) and answers its
/// SHA-256, `/slow/MS` waits first, `/status/N` answers N, `/trailers` ends with trailers, `/reset` closes without one,
/// `/drip/MS` sends a line every MS milliseconds forever. An `Upgrade` to `websocket` or `echo` is accepted on every
/// path but `/refuse`; what comes then is sent back. All of it is under `/public` as well.
pub struct Server {
    /// What it calls itself.
    pub name: String,
    /// Its port, on all addresses.
    pub port: u16,
    /// What it counted.
    pub counters: Arc<Counters>,
    stop: Arc<tokio::sync::Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one in a namespace.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Self {
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(tokio::sync::Notify::new());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (entered, its_name, its_counters, its_stop) =
            (namespace.clone(), name.to_owned(), counters.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name(format!("server-{name}"))
            .spawn(move || {
                entered.enter_this_thread();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let listener = http::listen(port);
                    ready.send(()).expect("the starter waits");
                    tokio::select! {
                        () = http::serve(listener, its_name, its_counters) => {}
                        () = its_stop.notified() => {}
                    }
                });
                runtime.shutdown_timeout(Duration::from_millis(100));
            })
            .expect("a thread");
        is_ready.recv_timeout(Duration::from_secs(5)).unwrap_or_else(|_| panic!("no server {name} on port {port}"));
        Self { name: name.to_owned(), port, counters, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves in the namespace of the calling thread until the process ends.
///
/// # Panics
/// When the port is taken.
pub fn serve_here(name: &str, port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { http::serve(http::listen(port), name.to_owned(), Arc::new(Counters::default())).await });
}

/// Byte `offset` of the endless stream that `/bytes/N` begins.
pub fn pattern(offset: u64) -> u8 {
    let word = (offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635;
    word.to_le_bytes()[(offset % 8) as usize]
}

/// The bytes of [`pattern`] from `offset` on.
pub fn fill(offset: u64, buffer: &mut [u8]) {
    let mut at = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let word = ((at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635).to_le_bytes();
        let from = (at % 8) as usize;
        let count = (8 - from).min(rest.len());
        rest[..count].copy_from_slice(&word[from..from + count]);
        rest = &mut rest[count..];
        at += count as u64;
    }
}

/// SHA-256 of the first `length` bytes of [`pattern`], hexadecimal.
pub fn pattern_hash(length: u64) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    while at < length {
        let count = usize::try_from(length - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        fill(at, &mut buffer[..count]);
        hash.update(&buffer[..count]);
        at += count as u64;
    }
    hex(&hash.finalize())
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_the_same_in_any_portions() {
        let mut whole = vec![0; 1000];
        fill(0, &mut whole);
        let mut parts = vec![0; 1000];
        let mut at = 0;
        for length in [1, 7, 8, 9, 300, 675] {
            fill(at as u64, &mut parts[at..at + length]);
            at += length;
        }
        assert_eq!(whole, parts);
        assert!(whole.iter().enumerate().all(|(offset, byte)| pattern(offset as u64) == *byte));
    }
}
