//! HTTP/2 targets that end their connections or refuse streams: what they did nothing with is sent again (RFC 9113, 6.8 and
//! 8.7), and nothing else is.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Collected, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Of `HEADERS` and `DATA`.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
/// HPACK's `:status: 200`.
const OK: &[u8] = &[0x88];
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What happens to a stream, by the number of its connection and its own number on it, from 0.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Answered with its own body.
    Serve,
    /// Answered, and the last one: GOAWAY with its id.
    Last,
    /// Not processed: GOAWAY with the id below, and this reason.
    Goaway(u32),
    /// Not processed, nor anything after it is looked at.
    Ignore,
    /// RST_STREAM with this reason.
    Reset(u32),
    /// Not processed after all: GOAWAY with the id below when [`LATE`] bytes of its body have come.
    Late,
    /// The connection ends, though the stream may have been processed.
    Close,
}

/// Streams that may be reset on a connection.
const RESETS: u32 = 100;
/// For [`Fate::Late`].
static LATE: AtomicU32 = AtomicU32::new(0);

/// Tells the number of its connection, and its own on it.
type Fates = fn(u32, u32) -> Fate;

struct Target {
    address: SocketAddr,
    connections: Arc<AtomicU32>,
    /// Bodies that were processed.
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Target {
    async fn start(fates: Fates) -> Self {
        let connections = Arc::<AtomicU32>::default();
        let bodies = Arc::<Mutex<Vec<Bytes>>>::default();
        let (counted, kept) = (Arc::clone(&connections), Arc::clone(&bodies));
        let address = raw_server(move |stream| {
            let (number, kept) = (counted.fetch_add(1, Relaxed), Arc::clone(&kept));
            async move {
                // It ends when the engine closes.
                let _ = serve(stream, number, fates, &kept).await;
            }
        })
        .await;
        Self { address, connections, bodies }
    }

    fn processed(&self) -> Vec<Bytes> {
        let mut bodies = self.bodies.lock().unwrap().clone();
        bodies.sort();
        bodies
    }
}

async fn write(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await
}

async fn goaway(stream: &mut TcpStream, last: u32, reason: u32) -> std::io::Result<()> {
    write(stream, GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat()).await
}

async fn serve(
    mut stream: TcpStream,
    connection: u32,
    fates: Fates,
    bodies: &Mutex<Vec<Bytes>>,
) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    write(&mut stream, SETTINGS, 0, 0, &[]).await?;
    let (mut begun, mut open) = (0, HashMap::<u32, Vec<u8>>::new());
    let (mut late, mut came, mut resets) = (None, 0, 0);
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let [a, b, c, kind, flags, id @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        let id = u32::from_be_bytes(id);
        match kind {
            SETTINGS if flags & 1 == 0 => write(&mut stream, SETTINGS, 1, 0, &[]).await?,
            HEADERS => {
                let fate = fates(connection, begun);
                begun += 1;
                match fate {
                    Fate::Serve => drop(open.insert(id, Vec::new())),
                    Fate::Last => {
                        open.insert(id, Vec::new());
                        goaway(&mut stream, id, 0).await?;
                    }
                    Fate::Goaway(reason) => goaway(&mut stream, id.saturating_sub(2), reason).await?,
                    Fate::Ignore => {}
                    Fate::Reset(reason) => write(&mut stream, RST_STREAM, 0, id, &reason.to_be_bytes()).await?,
                    Fate::Late => late = Some(id),
                    Fate::Close => return Ok(()),
                }
            }
            // As servers do that guard against rapid resets.
            RST_STREAM => {
                resets += 1;
                if resets > RESETS {
                    return goaway(&mut stream, id, ENHANCE_YOUR_CALM).await;
                }
            }
            DATA => {
                let more = u32::try_from(payload.len()).unwrap();
                if more > 0 {
                    write(&mut stream, WINDOW_UPDATE, 0, 0, &more.to_be_bytes()).await?;
                    write(&mut stream, WINDOW_UPDATE, 0, id, &more.to_be_bytes()).await?;
                }
                came += more;
                if let Some(id) = late
                    && came >= LATE.load(Relaxed)
                {
                    late = None;
                    goaway(&mut stream, id.saturating_sub(2), 0).await?;
                }
                if let Some(body) = open.get_mut(&id) {
                    body.extend_from_slice(&payload);
                }
            }
            _ => {}
        }
        if matches!(kind, HEADERS | DATA)
            && flags & END_STREAM != 0
            && let Some(body) = open.remove(&id)
        {
            write(&mut stream, HEADERS, END_HEADERS, id, OK).await?;
            for piece in body.chunks(16_000) {
                write(&mut stream, DATA, 0, id, piece).await?;
            }
            write(&mut stream, DATA, END_STREAM, id, &[]).await?;
            bodies.lock().unwrap().push(body.into());
        }
    }
}

async fn engine(target: &Target) -> Engine {
    Engine::serving(Limits::default(), ProtocolVersion::Http2, &[target.address]).await
}

/// Requests at once, with these bodies; status and body of each answer.
async fn ask(engine: &Engine, method: Method, bodies: &[Bytes]) -> Vec<(StatusCode, Bytes)> {
    let client = engine.http2(CALLER).await;
    let asked = bodies.iter().map(|body| {
        let mut client = client.clone();
        let request = Request::builder().method(method.clone()).uri(format!("http://{HOST}/"));
        let request = request.body(full(body.clone())).unwrap();
        async move {
            let answer = client.send_request(request).await.unwrap();
            (answer.status(), answer.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default())
        }
    });
    futures_util::future::join_all(asked).await
}

/// Bodies that all differ.
fn bodies(count: usize, size: usize) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::from(format!("{number:04}{}", "x".repeat(size)))).collect()
}

/// All requests are answered well, each is processed exactly once.
async fn once_each(fates: Fates, rounds: usize) -> u32 {
    let target = Target::start(fates).await;
    let engine = engine(&target).await;
    let mut all = Vec::new();
    for round in 0..rounds {
        for (method, size) in [(Method::POST, 0), (Method::POST, 10 + round), (Method::PUT, 20_000 + round)] {
            let bodies = bodies(12, size);
            for (asked, (status, body)) in bodies.iter().zip(ask(&engine, method, &bodies).await) {
                assert_eq!(status, StatusCode::OK, "round {round}, {size} bytes");
                assert_eq!(&body, asked, "round {round}");
            }
            all.extend(bodies);
        }
        let answers = ask(&engine, Method::GET, &vec![Bytes::new(); 12]).await;
        assert!(answers.iter().all(|(status, _)| *status == StatusCode::OK), "round {round}: {answers:?}");
        all.extend(vec![Bytes::new(); 12]);
    }
    all.sort();
    assert_eq!(target.processed(), all, "nothing is lost, nothing comes twice");
    target.connections.load(Relaxed)
}

#[tokio::test]
async fn a_target_that_stays_needs_one_connection() {
    assert_eq!(once_each(|_, _| Fate::Serve, 2).await, 1);
}

/// As nginx does with `keepalive_requests`.
#[tokio::test]
async fn streams_above_the_last_go_to_another_connection() {
    let fates: Fates = |_, stream| match stream {
        0..9 => Fate::Serve,
        9 => Fate::Last,
        _ => Fate::Ignore,
    };
    let connections = once_each(fates, 5).await;
    assert!((20..=60).contains(&connections), "{connections} connections of 10 requests for 240");
}

/// Every connection takes five requests of the 64 that are in flight all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_take_few_requests_lose_none() {
    const CALLS: usize = 500;
    const AT_ONCE: usize = 64;
    let target = Target::start(|_, stream| match stream {
        0..4 => Fate::Serve,
        4 => Fate::Last,
        _ => Fate::Ignore,
    })
    .await;
    let engine = engine(&target).await;
    let mut clients = Vec::new();
    for _ in 0..AT_ONCE {
        clients.push(engine.http2(CALLER).await);
    }
    let calls = (0..CALLS).map(|number| {
        let mut client = clients[number % AT_ONCE].clone();
        let method = if number % 2 == 0 { Method::GET } else { Method::POST };
        let request =
            Request::builder().method(method).uri(format!("http://{HOST}/")).body(full(format!("{number:04}")));
        async move { client.send_request(request.unwrap()).await.unwrap().status() }
    });
    let answers: Vec<StatusCode> = futures_util::stream::iter(calls).buffer_unordered(AT_ONCE).collect().await;
    let failed = answers.iter().filter(|status| **status != StatusCode::OK).count();
    let connections = target.connections.load(Relaxed);
    println!("{failed} of {CALLS} failed, {connections} connections");
    assert_eq!(failed, 0, "of {CALLS}");
    let expected: Vec<Bytes> = (0..CALLS).map(|number| Bytes::from(format!("{number:04}"))).collect();
    assert_eq!(target.processed(), expected, "each once");
    assert!(connections <= 200, "{connections} connections of 5 requests for {CALLS}");
}

#[tokio::test]
async fn a_goaway_to_the_first_request_costs_nothing() {
    let fates: Fates = |connection, stream| match (connection, stream) {
        (0 | 1, 0) => Fate::Goaway(0),
        (2, 0) => Fate::Goaway(ENHANCE_YOUR_CALM),
        (0..3, _) => Fate::Ignore,
        _ => Fate::Serve,
    };
    once_each(fates, 1).await;
}

#[tokio::test]
async fn refused_streams_are_sent_again() {
    once_each(|_, stream| if stream % 3 == 1 { Fate::Reset(REFUSED_STREAM) } else { Fate::Serve }, 3).await;
}

#[tokio::test]
async fn a_target_that_never_takes_a_request_is_not_asked_for_ever() {
    let target = Target::start(|_, _| Fate::Goaway(0)).await;
    let engine = engine(&target).await;
    for method in [Method::GET, Method::POST] {
        let answers = ask(&engine, method, &bodies(1, 10)).await;
        assert_eq!(answers[0].0, StatusCode::BAD_GATEWAY);
    }
    let connections = target.connections.load(Relaxed);
    assert_eq!(connections, 16, "8 for each request");
}

/// A target that refuses every stream costs each request two tries at most; the group's other target serves all of them, also
/// those whose body was begun.
#[tokio::test]
async fn the_other_target_serves_what_one_refuses() {
    for refuses in [(|_, _| Fate::Reset(REFUSED_STREAM)) as Fates, |_, _| Fate::Goaway(0)] {
        let (refusing, serving) = (Target::start(refuses).await, Target::start(|_, _| Fate::Serve).await);
        let addresses = [refusing.address, serving.address];
        let engine = Engine::serving(Limits::default(), ProtocolVersion::Http2, &addresses).await;
        let mut all = Vec::new();
        for (method, size) in [(Method::POST, 0), (Method::POST, 20_000), (Method::GET, 0)] {
            let asked = bodies(6, size);
            for (asked, (status, body)) in asked.iter().zip(ask(&engine, method.clone(), &asked).await) {
                assert_eq!((status, &body), (StatusCode::OK, asked), "{method}, {size} bytes");
            }
            all.extend(asked);
        }
        all.sort();
        assert_eq!(serving.processed(), all, "each once");
        assert!(refusing.processed().is_empty());
        assert!(refusing.connections.load(Relaxed) > 0, "the control: it was asked");
    }
}

/// What may have been processed is not sent again, unless that does no harm.
#[tokio::test]
async fn only_idempotent_requests_are_repeated_when_a_kept_connection_breaks() {
    let fates: Fates = |connection, stream| if connection == 0 && stream == 1 { Fate::Close } else { Fate::Serve };
    for (method, size, expected) in [
        (Method::GET, 0, StatusCode::OK),
        (Method::POST, 0, StatusCode::BAD_GATEWAY),
        (Method::PUT, 10, StatusCode::BAD_GATEWAY),
    ] {
        let target = Target::start(fates).await;
        let engine = engine(&target).await;
        assert_eq!(ask(&engine, Method::GET, &[Bytes::new()]).await[0].0, StatusCode::OK);
        let body = if size == 0 { Bytes::new() } else { bodies(1, size).remove(0) };
        assert_eq!(ask(&engine, method.clone(), &[body]).await[0].0, expected, "{method} {size}");
    }
    let cancelled: Fates = |_, stream| if stream == 0 { Fate::Reset(8) } else { Fate::Serve };
    let target = Target::start(cancelled).await;
    let engine = engine(&target).await;
    assert_eq!(ask(&engine, Method::GET, &[Bytes::new()]).await[0].0, StatusCode::BAD_GATEWAY, "it was not refused");
}

/// A body of which a part is sent before the target sends GOAWAY, and the rest after another connection was made.
async fn interrupted(before: usize, after: usize, late: u32) -> (StatusCode, Bytes, Vec<Bytes>) {
    LATE.store(late, Relaxed);
    let target = Target::start(|connection, _| if connection == 0 { Fate::Late } else { Fate::Serve }).await;
    let engine = engine(&target).await;
    let connections = Arc::clone(&target.connections);
    let pieces = futures_util::stream::unfold(0, move |number| {
        let connections = Arc::clone(&connections);
        async move {
            let piece = match number {
                0 => vec![b'a'; before],
                1 => {
                    while after > 0 && connections.load(Relaxed) < 2 {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    vec![b'b'; after]
                }
                _ => return None,
            };
            Some((Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(piece))), number + 1))
        }
    });
    let body = StreamBody::new(pieces).map_err(|never| match never {}).boxed_unsync();
    let mut client = engine.http2(CALLER).await;
    let request = Request::post(format!("http://{HOST}/")).body(body).unwrap();
    let answer = client.send_request(request).await.unwrap();
    let status = answer.status();
    (status, answer.into_body().collect().await.unwrap().to_bytes(), target.processed())
}

#[tokio::test]
async fn a_body_that_was_begun_is_sent_again_as_far_as_it_was_kept() {
    for (before, after, late) in [(60_000, 0, 40_000), (40_000, 300_000, 40_000), (10, 20, 10)] {
        let (status, body, processed) = interrupted(before, after, late).await;
        assert_eq!(status, StatusCode::OK, "{before} bytes and {after}");
        assert!(body == [vec![b'a'; before], vec![b'b'; after]].concat(), "{} bytes came back", body.len());
        assert!(processed == [body], "once, and whole");
    }
    // More than is kept.
    let (status, _, processed) = interrupted(200_000, 0, 100_000).await;
    assert_eq!((status, processed.len()), (StatusCode::BAD_GATEWAY, 0));
}

#[tokio::test]
async fn a_target_that_has_enough_of_resets_ends_the_calls_of_who_resets() {
    let target = Target::start(|_, _| Fate::Serve).await;
    let engine = Engine::start(Limits::default());
    let mut world = engine.world(ProtocolVersion::Http2, &[target.address]);
    world.vpcs[1].services = visible(&[0]);
    engine.apply(world).await;
    let begin = async |from| {
        let (client, connection) = h2::client::handshake(engine.connect(from).await).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let post = || Request::post(format!("http://{HOST}/")).body(()).unwrap();
    let (mut victim, mut neighbour) = (begin(STRANGER).await, begin(CALLER).await);
    let mut pending = [victim.send_request(post(), false).unwrap(), neighbour.send_request(post(), false).unwrap()];
    engine.until("both under way", |stats| stats.requests_open == 2).await;
    let mut attacker = begin(CALLER).await;
    for number in 0..RESETS + 20 {
        attacker = attacker.ready().await.unwrap();
        let (_answer, mut body) = attacker.send_request(post(), false).unwrap();
        engine.until("begun", |stats| stats.requests == u64::from(number) + 3).await;
        body.send_reset(h2::Reason::CANCEL);
        engine.until("taken back", |stats| stats.requests_open <= 2).await;
    }
    let [victims, own] = &mut pending;
    victims.1.send_data(Bytes::from_static(b"whole"), true).unwrap();
    assert_eq!((&mut victims.0).await.unwrap().status(), StatusCode::OK);
    // The control: the attack did end a connection.
    assert_eq!((&mut own.0).await.unwrap().status(), StatusCode::BAD_GATEWAY);
}
