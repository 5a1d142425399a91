//! Bodies in pieces of a byte, and a receiver that does not read its socket. HTTP/2 lets the sender go on for as long as the
//! windows are open; each piece that is queued as a frame of its own costs hundreds of bytes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::{resident, support::*};

/// Bodies of pieces, each a stream of its own.
const STREAMS: u32 = 32;
/// Pieces of each.
const PIECES: usize = 20_000;
/// More than all buffers of the sockets on the way take.
const FILLING: usize = 10 * 1024 * 1024;
/// All bodies may cost so much. As frames they would cost three times as much.
const MOST: u64 = 16 * 1024 * 1024;
/// What memory.rs counts a body as that waits.
const TRANSFER: u64 = 768 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Settings and a window update that open all windows as far as they go.
fn open_windows() -> Vec<u8> {
    let window = [&[0, 4][..], &0x7fff_ffff_u32.to_be_bytes(), &[0, 3, 0, 0, 16, 0]].concat();
    let update = (0x7fff_ffff_u32 - 65_535).to_be_bytes();
    [frame(SETTINGS, 0, 0, &window), frame(WINDOW_UPDATE, 0, 0, &update)].concat()
}

/// Byte `number` of a body.
fn piece(number: usize) -> u8 {
    b'a' + u8::try_from(number % 26).unwrap()
}

/// Writes a chunked body of pieces, and returns how far it came.
async fn write_pieces(stream: &mut TcpStream, written: &AtomicU64) -> std::io::Result<()> {
    for block in 0..PIECES / 100 {
        let chunks: Vec<u8> =
            (0..100).flat_map(|n| [b'1', b'\r', b'\n', piece(block * 100 + n), b'\r', b'\n']).collect();
        stream.write_all(&chunks).await?;
        written.fetch_add(100, Relaxed);
    }
    stream.write_all(b"0\r\n\r\n").await
}

async fn write_filling(stream: &mut TcpStream, written: &AtomicU64) -> std::io::Result<()> {
    for _ in 0..FILLING / 4096 {
        stream.write_all(&[b'x'; 4096]).await?;
        written.fetch_add(4096, Relaxed);
    }
    Ok(())
}

/// Waits until nothing more is written: some of it was, and then nothing for a while.
async fn stalled(written: &AtomicU64) {
    let started = Instant::now();
    let mut last = (0, Instant::now());
    while last.0 == 0 || last.1.elapsed() < Duration::from_millis(300) {
        assert!(started.elapsed() < Duration::from_secs(60), "it never stalls");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = written.load(Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
}

/// Reads frames until this many streams have ended; the bodies.
async fn read_bodies(stream: &mut TcpStream, streams: usize) -> HashMap<u32, Vec<u8>> {
    let mut bodies = HashMap::<u32, Vec<u8>>::new();
    let mut ended = 0;
    while ended < streams {
        let mut header = [0; 9];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut header)).await;
        read.unwrap_or_else(|_| panic!("{ended} of {streams} streams have ended")).unwrap();
        let [a, b, c, kind, flags, id @ ..] = header;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if kind == DATA {
            bodies.entry(u32::from_be_bytes(id)).or_default().extend(payload);
        }
        ended += usize::from(matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0);
    }
    bodies
}

fn check(bodies: &HashMap<u32, Vec<u8>>) {
    let expected: Vec<u8> = (0..PIECES).map(piece).collect();
    let whole = bodies.values().filter(|body| **body == expected).count();
    assert_eq!(whole, usize::try_from(STREAMS).unwrap(), "bodies in pieces, whole and in order");
    let filling = bodies.values().filter(|body| body.len() == FILLING).count();
    assert_eq!((filling, bodies.len()), (1, whole + 1));
}

/// A client of HTTP/2 that does not read its answers.
pub(crate) async fn for_a_stalled_client_cost_little_memory() {
    let written = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&written);
    let target = raw_server(move |mut stream| {
        let written = Arc::clone(&counted);
        async move {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            // Its peer may be gone at the end of the test.
            let _ = if head.starts_with("GET /filling") {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {FILLING}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                write_filling(&mut stream, &written).await
            } else if head.starts_with("GET /pieces") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
                write_pieces(&mut stream, &written).await
            } else {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
            };
        }
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let mut client = engine.connect(CALLER).await;
    let request = |stream: u32, path: &str| {
        let field = |name: u8, value: &str| [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
        let section = [&[0x82, 0x86][..], &field(0x04, path), &field(0x01, HOST)].concat();
        frame(HEADERS, END_STREAM | END_HEADERS, stream, &section)
    };
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    client.write_all(&[open_windows(), request(1, "/filling")].concat()).await.unwrap();
    stalled(&written).await;
    assert!(written.load(Relaxed) < FILLING as u64, "the client's socket is full");
    let before = resident();
    let requests: Vec<u8> = (1..=STREAMS).flat_map(|n| request(2 * n + 1, "/pieces")).collect();
    client.write_all(&requests).await.unwrap();
    engine.until("all are asked", |stats| stats.requests_open == u64::from(STREAMS) + 1).await;
    stalled(&written).await;
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes for {STREAMS} streams of pieces for a stalled client");
    assert!(grown < MOST, "{grown} bytes for {STREAMS} streams of pieces");
    let started = Instant::now();
    while engine.shared.bytes() < u64::from(STREAMS) * TRANSFER {
        assert!(started.elapsed() < Duration::from_secs(10), "{} bytes are counted", engine.shared.bytes());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A bystander, and the control: a client that goes on gets all of it.
    assert_eq!(engine.get("/").await.0, 200);
    check(&read_bodies(&mut client, usize::try_from(STREAMS).unwrap() + 1).await);
    engine.until("all have ended", |stats| stats.requests_open == 0).await;
}

/// A target of HTTP/2 that does not read its requests; it goes on when it is released.
async fn stalled_target(go_on: Arc<Notify>) -> (SocketAddr, tokio::task::JoinHandle<HashMap<u32, Vec<u8>>>) {
    let listener = TcpListener::bind((TARGET, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let bodies = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&open_windows()).await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        go_on.notified().await;
        read_bodies(&mut stream, usize::try_from(STREAMS).unwrap() + 1).await
    });
    (address, bodies)
}

/// The other direction.
pub(crate) async fn for_a_stalled_target_cost_little_memory() {
    let (go_on, written) = (Arc::<Notify>::default(), Arc::<AtomicU64>::default());
    let (target, bodies) = stalled_target(Arc::clone(&go_on)).await;
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http2, &[target]);
    world.services[0].listeners[0].rules.push(rule(
        1,
        Some((brattice_wire::snapshot::PathMatchKind::Exact, "/bystander")),
        None,
        forward(&[(1, 1)]),
    ));
    world.target_groups.push(group("other", ProtocolVersion::Http1, &[server.address]));
    engine.apply(world).await;
    let mut filling = engine.connect(CALLER).await;
    let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {FILLING}\r\n\r\n");
    filling.write_all(head.as_bytes()).await.unwrap();
    let counted = Arc::clone(&written);
    let filling = tokio::spawn(async move {
        write_filling(&mut filling, &counted).await.unwrap();
        filling
    });
    stalled(&written).await;
    assert!(written.load(Relaxed) < FILLING as u64, "the target's socket is full");
    let before = resident();
    let mut uploads = Vec::new();
    for _ in 0..STREAMS {
        let (mut client, written) = (engine.connect(CALLER).await, Arc::clone(&written));
        uploads.push(tokio::spawn(async move {
            let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n");
            client.write_all(head.as_bytes()).await.unwrap();
            write_pieces(&mut client, &written).await.unwrap();
            client
        }));
    }
    engine.until("all are asked", |stats| stats.requests_open == u64::from(STREAMS) + 1).await;
    stalled(&written).await;
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes for {STREAMS} streams of pieces for a stalled target");
    assert!(grown < MOST, "{grown} bytes for {STREAMS} streams of pieces");
    assert_eq!(engine.get("/bystander").await.0, 200);
    go_on.notify_one();
    check(&bodies.await.unwrap());
    drop((filling, uploads));
}
