//! An engine with policies, metrics and the log in force, and one client that keeps its connection: what a request costs
//! there is counted by the tests that include this.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use brattice_engine::events::access_log::writer;
use brattice_wire::engine::AccessLog;
use socket2::{Domain, Socket, Type};

use crate::{
    scene::{self, allow},
    support::*,
};

/// Requests that are counted.
pub(crate) const REQUESTS: u64 = 10_000;
/// Requests before, so that everything has found its size: more than a worker remembers.
const BEFORE: u64 = 10_000;

/// The engine, its client, its log.
pub(crate) struct Kept {
    engine: Engine,
    client: TcpStream,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Kept {
    /// Starts all, and sends requests until nothing grows any more.
    pub(crate) async fn start() -> Self {
        // The statements depend on the path, so that each request is decided anew.
        let statements = [allow("*/orders/*"), allow("*/reports/*")];
        let engine = scene::serving(&[target()], &statements.each_ref().map(String::as_str)).await;
        let output = Arc::clone(&engine.shared.log);
        std::thread::Builder::new().name("log".into()).spawn(move || writer::run(&output)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let file = File::create(&log).unwrap();
        engine.shared.log.set_log(Some((AccessLog { sample: 1, file: true }, file.into())));
        let client = connect(engine.port);
        let mut kept = Self { engine, client, log, _folder: folder };
        kept.send(BEFORE);
        kept
    }

    /// Sends requests, one after the other, and reads their answers.
    pub(crate) fn send(&mut self, requests: u64) {
        for _ in 0..requests {
            ask(&mut self.client);
        }
    }

    /// More connections, each after one answered request.
    pub(crate) fn more(&self, connections: u64) -> Vec<TcpStream> {
        let mut all: Vec<TcpStream> = (0..connections).map(|_| connect(self.engine.port)).collect();
        all.iter_mut().for_each(ask);
        all
    }

    /// Whether all that was counted, and `more` requests, went through the engine, met policies and was logged.
    pub(crate) async fn check(self, more: u64) {
        let requests = BEFORE + REQUESTS + more;
        assert_eq!(self.engine.stats().requests, requests, "all went through the engine");
        assert_eq!(self.engine.get("/private").await.0, 403, "policies are in force");
        let lines = || fs::read_to_string(&self.log).unwrap().lines().count() as u64;
        let started = Instant::now();
        // And one that was refused.
        while lines() < requests + 1 {
            assert!(started.elapsed() < Duration::from_secs(10), "{} lines in the log", lines());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The id of this process's thread of this name.
pub(crate) fn thread(name: &str) -> u32 {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .find(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|found| found.trim() == name))
        .and_then(|task| task.file_name().to_str()?.parse().ok())
        .expect("a thread of this name")
}

/// A target that answers all requests of its connections alike.
fn target() -> SocketAddr {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nserver: a-target\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";
    let listener = TcpListener::bind((TARGET, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                while heads(&mut stream) {
                    stream.write_all(ANSWER).unwrap();
                }
            });
        }
    });
    address
}

/// Reads a head; false: the other side has closed.
fn heads(stream: &mut TcpStream) -> bool {
    let (mut room, mut known) = ([0; 4096], 0);
    while !room[..known].ends_with(b"\r\n\r\n") {
        match stream.read(&mut room[known..]) {
            Ok(0) | Err(_) => return false,
            Ok(count) => known += count,
        }
    }
    true
}

fn connect(port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((CALLER, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((VIP, port)).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream
}

/// One request, and its answer to the end.
fn ask(client: &mut TcpStream) {
    let request =
        format!("GET /orders/7?detail=full HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: test/1\r\naccept: */*\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let (mut room, mut known) = ([0; 4096], 0);
    while !room[..known].ends_with(b"\r\n\r\nhello\n") {
        let count = client.read(&mut room[known..]).unwrap();
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&room[..known]));
        known += count;
    }
    assert!(room.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&room[..known]));
}
