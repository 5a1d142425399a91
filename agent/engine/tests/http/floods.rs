//! Peers that send without end what costs them little. Each is ended and counted, each has its control that stays below
//! the bound, and a bystander on the same worker is served meanwhile.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use brattice_wire::{
    engine::Limits,
    index::ServiceIndex,
    snapshot::{ProtocolVersion, Snapshot},
};
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

/// So much longer may a bystander wait beside a flood than one at the same time on a worker without: a worker that dealt with a
/// flood until it ended kept others waiting for 200 to 300 ms. The machine does other things, too, and both feel that.
const LONGER: Duration = Duration::from_millis(150);
/// Another service, of the bystander.
const OTHER_VIP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 20, 0, 2);
const HINT: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Two services: the floods' with these targets, and the bystander's with one that answers.
async fn with_bystander(protocol: ProtocolVersion, targets: &[SocketAddr]) -> Engine {
    let engine = Engine::start(Limits::default());
    let server = Server::echo(false).await;
    let mut world: Snapshot = engine.world(protocol, targets);
    world.vpcs[1].services.push(ServiceIndex::new(1));
    let listener = listener(engine.port, forward(&[(1, 1)]));
    world.services.push(service("other", OTHER_VIP, &["other.example"], vec![listener]));
    world.target_groups.push(group("other", ProtocolVersion::Http1, &[server.address]));
    engine.apply(world).await;
    // The server's task lives as long as the test.
    engine
}

/// Runs a flood beside a bystander that asks all the time, and beside another one on a worker of its own.
async fn beside<F: Future<Output = ()>>(engine: &Engine, what: &str, flood: F) {
    let calm = with_bystander(ProtocolVersion::Http1, &[]).await;
    let (done, ended) = tokio::sync::watch::channel(false);
    let bystander = tokio::spawn(bystand(engine.connect_to(STRANGER, OTHER_VIP).await, ended.clone()));
    let control = tokio::spawn(bystand(calm.connect_to(STRANGER, OTHER_VIP).await, ended));
    flood.await;
    done.send(true).unwrap();
    let ((worst, asked), (usual, _)) = (bystander.await.unwrap(), control.await.unwrap());
    println!("{what}: a bystander waited at most {worst:?} in {asked} calls, another one {usual:?}");
    assert!(worst < usual + LONGER, "{what}: a bystander waited {worst:?}, without a flood {usual:?}");
}

/// Asks again and again until the flood has ended; the longest wait, and the number of calls.
async fn bystand(mut stream: TcpStream, ended: tokio::sync::watch::Receiver<bool>) -> (Duration, u32) {
    let (mut worst, mut asked) = (Duration::ZERO, 0);
    while asked < 20 || !*ended.borrow() {
        let started = Instant::now();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: other.example\r\n\r\n").await.unwrap();
        assert!(read_until(&mut stream, "GET / ").await.starts_with("HTTP/1.1 200"));
        worst = worst.max(started.elapsed());
        asked += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (worst, asked)
}

/// Writes the same bytes until the peer ends the connection or `most` were taken; how many were. What the peer says is
/// read and thrown away if `reads`.
async fn pour(stream: TcpStream, piece: &[u8], most: usize, reads: bool) -> usize {
    let block = piece.repeat((256 * 1024 / piece.len()).max(1));
    let (mut reader, mut writer) = stream.into_split();
    let ended = tokio::spawn(async move {
        let mut room = vec![0; 64 * 1024];
        while reads && reader.read(&mut room).await.is_ok_and(|count| count > 0) {}
        if reads { None } else { Some(reader) }
    });
    let mut sent = 0;
    while sent < most {
        match tokio::time::timeout(Duration::from_secs(5), writer.write(&block[..block.len().min(most - sent)])).await {
            Ok(Ok(count)) if count > 0 => sent += count,
            _ => break,
        }
    }
    ended.abort();
    sent
}

/// HTTP/1: this many interim responses, then a response.
async fn hints_server() -> SocketAddr {
    raw_server(|mut stream| async move {
        loop {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            if head.contains("/endless") {
                pour(stream, HINT.as_bytes(), 512 * 1024 * 1024, false).await;
                return;
            }
            let count = head.split(' ').nth(1).unwrap().trim_start_matches('/').parse().unwrap();
            let text = format!("{}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", HINT.repeat(count));
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    })
    .await
}

/// The same over HTTP/2.
async fn hints_server2() -> SocketAddr {
    raw_server(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut answer))) = connection.accept().await {
            let path = request.uri().path();
            let count = if path == "/endless" { u32::MAX } else { path.trim_start_matches('/').parse().unwrap() };
            tokio::spawn(async move {
                for n in 0..count {
                    let hint = http::Response::builder().status(103).body(()).unwrap();
                    if answer.send_informational(hint).is_err() {
                        return;
                    }
                    if n % 64 == 63 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                let mut body = answer.send_response(http::Response::new(()), false).unwrap();
                body.send_data("ok".into(), true).unwrap();
            });
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_responses_without_end_are_a_bad_gateway() {
    for (from, to) in ALL {
        let target = if to { hints_server2().await } else { hints_server().await };
        let engine = with_bystander(version(to), &[target]).await;
        let most = Limits::default().interim_responses;
        let mut client = Client::new(&engine, from).await;
        for _ in 0..3 {
            let (status, _, body) = client.ask(http::Method::GET, &format!("/{most}"), &[]).await;
            assert_eq!((status, &*body), (StatusCode::OK, &b"ok"[..]), "{from} {to}: as many as allowed");
        }
        assert_eq!(engine.hits("interim_responses"), 0);
        let (status, _, _) = client.ask(http::Method::GET, &format!("/{}", most + 40), &[]).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{from} {to}");
        engine.until("counted", |_| engine.hits("interim_responses") == 1).await;
        beside(&engine, &format!("interim responses, HTTP/2 {from} to {to}"), async {
            for n in 0..8 {
                let (status, _, _) = client.ask(http::Method::GET, "/endless", &[]).await;
                assert_eq!(status, StatusCode::BAD_GATEWAY, "{from} {to}: {n}");
            }
        })
        .await;
        engine.until("counted", |_| engine.hits("interim_responses") == 9).await;
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_frames_without_end_end_the_connection() {
    let server = Server::echo(false).await;
    let engine = with_bystander(ProtocolVersion::Http1, &[server.address]).await;
    let floods = [
        ("SETTINGS", frame(4, 0, 0, &[])),
        ("PING", frame(6, 0, 0, &[7; 8])),
        ("PING, answers", frame(6, 1, 0, &[7; 8])),
        ("PRIORITY", frame(2, 0, 3, &[0, 0, 0, 0, 16])),
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("an unknown frame", frame(99, 0, 0, &[])),
    ];
    for (n, (what, flood)) in floods.iter().enumerate() {
        beside(&engine, what, async {
            let mut stream = engine.connect(CALLER).await;
            stream.write_all(PREFACE).await.unwrap();
            let sent = pour(stream, flood, 256 * 1024 * 1024, true).await;
            assert!(sent < 64 * 1024 * 1024, "{what}: {sent} bytes were taken");
        })
        .await;
        assert_eq!(engine.hits("http2_control_frames"), n as u64 + 1, "{what}");
    }
    // DATA with nothing in it, of a request that goes on.
    beside(&engine, "empty DATA", async {
        let mut stream = engine.connect(CALLER).await;
        let head = [0x83, 0x86, 0x84, 0x41, 14].into_iter().chain(*b"orders.example").collect::<Vec<u8>>();
        stream.write_all(&[PREFACE, &frame(1, 4, 1, &head)].concat()).await.unwrap();
        let sent = pour(stream, &frame(0, 0, 1, &[]), 256 * 1024 * 1024, true).await;
        assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken");
    })
    .await;
    // h2 has a bound of its own for these; it may be the first.
    let hits = engine.hits("http2_control_frames");
    engine.until("closed", |stats| stats.connections_open == 0).await;
    // A client that asks whether the connection lives as often as it has something to say is no flood.
    let (mut client, mut connection) = h2::client::handshake(engine.connect(CALLER).await).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    for _ in 0..500 {
        pings.ping(h2::Ping::opaque()).await.unwrap();
        client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(get2("/").map(|_| ()), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(engine.hits("http2_control_frames"), hits);
}

/// A client that reads in small pieces may return the window in small pieces, as Go's net/http2 does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_in_small_pieces_is_no_flood() {
    const LENGTH: usize = 48 * 1024 * 1024;
    const PIECE: usize = 4096;
    let body = bytes::Bytes::from(vec![b'x'; LENGTH]);
    let server = Server::start(false, TARGET, move |_| {
        let body = body.clone();
        async move { Ok(http::Response::new(full(body))) }
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[server.address]).await;
    let mut stream = engine.connect(CALLER).await;
    stream.write_all(PREFACE).await.unwrap();
    // `:method: GET`, `:scheme: http`, `:path: /`, `:authority` as a literal (RFC 7541, appendix A).
    let host = [&[0x82, 0x86, 0x84, 0x41, u8::try_from(HOST.len()).unwrap()], HOST.as_bytes()].concat();
    stream.write_all(&frame(1, 5, 1, &host)).await.unwrap();
    let update = u32::try_from(PIECE).unwrap().to_be_bytes();
    let updates = [frame(8, 0, 0, &update), frame(8, 0, 1, &update)].concat();
    let (mut read, mut given) = (0, 0);
    while read < LENGTH {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await.unwrap_or_else(|error| panic!("after {read} bytes: {error}"));
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if header[3] == 0 {
            read += payload.len();
        }
        while read - given >= PIECE {
            given += PIECE;
            stream.write_all(&updates).await.unwrap();
        }
    }
    assert_eq!(engine.hits("http2_control_frames"), 0);
}

/// A target that floods costs its own callers a connection, and other callers nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_frames_of_a_target_end_its_connection() {
    let target = raw_server(|mut stream| async move {
        stream.write_all(&PREFACE[24..]).await.unwrap();
        read_until(&mut stream, "PRI").await;
        pour(stream, &frame(6, 0, 0, &[7; 8]), 256 * 1024 * 1024, true).await;
    })
    .await;
    let engine = with_bystander(ProtocolVersion::Http2, &[target]).await;
    beside(&engine, "PING of a target", async {
        assert_eq!(engine.get("/").await.0, StatusCode::BAD_GATEWAY);
    })
    .await;
    engine.until("counted", |_| engine.hits("http2_control_frames") > 0).await;
}

/// These have no end of their own: what is sent is served, or refused by its own bound, in turns with others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_of_http1_come_in_turns() {
    let server = Server::start(false, TARGET, |request| async move {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(http::Response::new(full("ok")))
    })
    .await;
    let engine = with_bystander(ProtocolVersion::Http1, &[server.address]).await;
    let chunked = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n");
    let requests = "GET / HTTP/1.1\r\nhost: nobody.example\r\n\r\n";
    let floods: [(&str, &str, String, usize); 5] = [
        ("pipelined 404s", "", requests.repeat(100), 4 * 1024 * 1024),
        ("chunks of a byte", &chunked, "1\r\nx\r\n".into(), 1024 * 1024),
        ("chunk extensions", &chunked, format!("1;{}\r\nx\r\n", "e".repeat(200)), 4 * 1024 * 1024),
        ("chunk extensions without end", &chunked, "1;eeeeeeee".into(), 64 * 1024 * 1024),
        ("empty lines", "", "\r\n".into(), 64 * 1024 * 1024),
    ];
    for (what, begin, flood, most) in &floods {
        beside(&engine, what, async {
            let mut poured = tokio::task::JoinSet::new();
            for _ in 0..4 {
                let mut stream = engine.connect(CALLER).await;
                stream.write_all(begin.as_bytes()).await.unwrap();
                let (flood, most) = (flood.clone(), *most);
                poured.spawn(async move { pour(stream, flood.as_bytes(), most, true).await });
            }
            poured.join_all().await;
        })
        .await;
    }
}
