//! What a request costs in memory, with policies, metrics and the log in force. A binary of its own, with one test, as it
//! counts the allocations of a thread.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]
#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

#[path = "auth/scene.rs"]
#[allow(dead_code, reason = "shared with the tests of policies, which need all of it")]
mod scene;
#[path = "http/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of the L7 path, which need all of it")]
mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use brattice_engine::records::log;
use brattice_wire::engine::AccessLog;
use socket2::{Domain, Socket, Type};

use crate::{scene::allow, support::*};

/// Allocations, growing included, of the worker's thread for a GET over kept HTTP/1.1 connections. It may only fall.
const ALLOCATIONS: u64 = 21;
/// Requests that are counted.
const REQUESTS: u64 = 10_000;
/// Requests before, so that everything has found its size: more than a worker remembers.
const BEFORE: u64 = 10_000;

/// Allocates with the system's allocator and counts by thread.
struct Counting;

/// Threads that are counted; what comes later is not.
const THREADS: usize = 64;
/// Thread ids, and how often each allocated.
static COUNTS: [(AtomicU32, AtomicU64); THREADS] = [const { (AtomicU32::new(0), AtomicU64::new(0)) }; THREADS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Counting {
    fn count() {
        PLACE.with(|place| {
            let at = place.get().unwrap_or_else(|| {
                let at = NEXT.fetch_add(1, Relaxed);
                place.set(Some(at));
                if let Some((thread, _)) = COUNTS.get(at) {
                    // SAFETY: gettid(2) has no conditions.
                    thread.store(unsafe { libc::gettid() }.cast_unsigned(), Relaxed);
                }
                at
            });
            if let Some((_, count)) = COUNTS.get(at) {
                count.fetch_add(1, Relaxed);
            }
        });
    }

    /// Of a thread, so far.
    fn of(thread: u32) -> u64 {
        let known = COUNTS.iter().find(|(id, _)| id.load(Relaxed) == thread);
        known.expect("the thread is one of those that are counted").1.load(Relaxed)
    }
}

// SAFETY: all is left to the system's allocator; counting allocates nothing (a thread-local without destructor, statics).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer is from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[tokio::test]
async fn a_kept_get_allocates_no_more_than_it_did() {
    // The statements depend on the path, so that each request is decided anew.
    let statements = [allow("*/orders/*"), allow("*/reports/*")];
    let engine = scene::serving(&[target()], &statements.each_ref().map(String::as_str)).await;
    let outlets = Arc::clone(&engine.shared.outlets);
    std::thread::spawn(move || log::run(&outlets));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let file = File::create(&path).unwrap();
    engine.shared.outlets.set_log(Some((AccessLog { sample: 1, file: true }, file.into())));
    let worker = thread("worker-0");
    let mut client = connect(engine.port);
    let mut send = |requests: u64| {
        let before = Counting::of(worker);
        for _ in 0..requests {
            ask(&mut client);
        }
        Counting::of(worker) - before
    };
    send(BEFORE);
    let allocated = send(REQUESTS);
    let each = (allocated + REQUESTS / 2) / REQUESTS;
    println!("{allocated} allocations for {REQUESTS} requests");
    assert_eq!(engine.stats().requests, BEFORE + REQUESTS, "all went through the engine");
    assert_eq!(engine.get("/private").await.0, 403, "policies are in force");
    let lines = || fs::read_to_string(&path).unwrap().lines().count() as u64;
    let started = Instant::now();
    // And one that was refused.
    while lines() < BEFORE + REQUESTS + 1 {
        assert!(started.elapsed() < Duration::from_secs(10), "{} lines in the log", lines());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(each <= ALLOCATIONS, "{each} allocations a request, and no more than {ALLOCATIONS} are allowed");
    assert!(each >= ALLOCATIONS, "{each} allocations a request: lower the budget of {ALLOCATIONS}");
}

/// The id of this process's thread of this name.
fn thread(name: &str) -> u32 {
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
