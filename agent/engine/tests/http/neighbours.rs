//! What one caller does to a target's HTTP/2 connections costs that caller only. Each attack runs beside the calls of a
//! workload of another VPC to the same service and target.

use std::time::Duration;

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;

use crate::support::*;

/// Ticks that the victim waits for.
const TICKS: usize = 18;
/// Time between two.
const TICK: Duration = Duration::from_millis(20);
/// Until a tick must have come; far longer than any takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// Frames of a body, then nothing for as long as the test takes.
fn frames(count: usize, size: usize) -> TestBody {
    let frames = futures_util::stream::unfold(0, move |number| async move {
        if number == count {
            std::future::pending::<()>().await;
        }
        // Each frame is written alone.
        tokio::task::yield_now().await;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![b'x'; size]))), number + 1))
    });
    StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync()
}

fn ticks() -> TestBody {
    let ticks = futures_util::stream::unfold(0, |number| async move {
        tokio::time::sleep(TICK).await;
        (number < TICKS)
            .then(|| (Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"tick"))), number + 1))
    });
    StreamBody::new(ticks).map_err(|never| match never {}).boxed_unsync()
}

async fn serve(request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(1);
    let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    Ok(Response::new(match path.as_str() {
        "/large" => full(vec![0; 20 << 20]),
        "/ticks" => ticks(),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            full("late")
        }
        "/echo" => full(request.into_body().collect().await?.to_bytes()),
        _ => {
            let (count, size) = (number(), number());
            frames(count, size)
        }
    }))
}

/// Two workloads of two VPCs that call one service, whose only target speaks HTTP/2.
struct Neighbours {
    engine: Engine,
    server: Server,
}

impl Neighbours {
    async fn start() -> Self {
        let server = Server::start(true, TARGET, serve).await;
        let engine = Engine::start(Limits::default());
        let mut world = engine.world(ProtocolVersion::Http2, &[server.address]);
        world.vpcs[1].services = visible(&[0]);
        engine.apply(world).await;
        Self { engine, server }
    }

    /// A client that takes no byte of any answer.
    async fn unreading(&self) -> h2::client::SendRequest<Bytes> {
        let stream = self.engine.connect(CALLER).await;
        let (client, connection) =
            h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// The victim's download goes on in its time, and so do its calls.
    async fn serves_others(&self) {
        let victim = self.engine.http2(STRANGER).await;
        let (mut download, mut calls) = (victim.clone(), victim);
        let downloading = async {
            let mut body = download.send_request(get2("/ticks")).await.unwrap().into_body();
            for tick in 0..TICKS {
                let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
                let frame = frame.unwrap_or_else(|_| panic!("tick {tick} did not come"));
                frame.expect("a tick").unwrap_or_else(|error| panic!("tick {tick}: {error}"));
            }
        };
        let calling = async {
            for call in 0..TICKS {
                let text = format!("call {call} {}", "x".repeat(40_000));
                let request = Request::post(format!("http://{HOST}/echo")).body(full(text.clone())).unwrap();
                let answered = tokio::time::timeout(PATIENCE, calls.send_request(request)).await;
                let answer = answered.unwrap_or_else(|_| panic!("call {call} was not answered")).unwrap();
                assert_eq!(answer.status(), StatusCode::OK, "call {call}");
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), text.as_bytes());
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::join!(downloading, calling);
    }

    async fn begun(&self, requests: u64) {
        self.engine.until("all begun", |stats| stats.requests_open == requests).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while self.server.seen() < requests {
            assert!(tokio::time::Instant::now() < deadline, "{} of {requests} requests", self.server.seen());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn ask(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://{HOST}{path}")).body(()).unwrap()
}

#[tokio::test]
async fn the_victim_is_served_alone() {
    Neighbours::start().await.serves_others().await;
}

#[tokio::test]
async fn unread_downloads_do_not_delay_other_callers() {
    let world = Neighbours::start().await;
    let mut attacker = world.unreading().await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(attacker.send_request(ask(Method::GET, "/large"), true).unwrap().0.await.unwrap());
    }
    world.begun(5).await;
    world.serves_others().await;
}

#[tokio::test]
async fn unread_small_frames_do_not_end_calls_of_others() {
    for (count, size) in [(2_100, 1), (2_300, 20)] {
        let world = Neighbours::start().await;
        let mut attacker = world.unreading().await;
        let victims = world.serves_others();
        let attack = async {
            // While the victim's download is under way.
            world.begun(1).await;
            let answer = attacker.send_request(ask(Method::GET, &format!("/{count}/{size}")), true).unwrap().0;
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            answer
        };
        let (_, _unread) = tokio::join!(victims, attack);
    }
}

#[tokio::test]
async fn uploads_to_a_slow_handler_do_not_delay_other_callers() {
    let world = Neighbours::start().await;
    let stream = world.engine.connect(CALLER).await;
    let (mut attacker, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut held = Vec::new();
    for _ in 0..32 {
        attacker = attacker.ready().await.unwrap();
        let (answer, mut body) = attacker.send_request(ask(Method::POST, "/slow"), false).unwrap();
        body.send_data(Bytes::from(vec![0; 200_000]), false).unwrap();
        held.push((answer, body));
    }
    world.begun(32).await;
    world.serves_others().await;
}

/// A request with this many fields of 1,000 bytes.
fn with_fields(count: usize) -> Request<TestBody> {
    let mut request = get2("/echo");
    for number in 0..count {
        let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
        request.headers_mut().insert(name, "y".repeat(1_000).parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_header_section_that_the_target_does_not_take_is_refused_alone() {
    // hyper's servers take 16 KiB.
    let world = Neighbours::start().await;
    let mut client = world.engine.http2(CALLER).await;
    let attack = async {
        world.begun(1).await;
        for (fields, expected) in [(40, 431), (10, 200), (40, 431), (16, 431), (15, 200)] {
            let answer = client.send_request(with_fields(fields)).await.unwrap();
            assert_eq!(answer.status().as_u16(), expected, "{fields} fields");
        }
    };
    tokio::join!(world.serves_others(), attack);
}

/// The bound is exact: what counts is what RFC 9113, 6.5.2 says, with all fields that are ours.
#[tokio::test]
async fn the_longest_header_section_that_a_target_takes_reaches_it() {
    let world = Neighbours::start().await;
    let mut client = world.engine.http2(CALLER).await;
    let sent = |length: usize| {
        let mut request = get2("/echo");
        request.headers_mut().insert("x-long", "y".repeat(length).parse().unwrap());
        request
    };
    assert_eq!(client.send_request(sent(1_000)).await.unwrap().status(), StatusCode::OK);
    let seen = world.server.last();
    let fields = seen.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>();
    let pseudo = [":method", "GET", ":scheme", "http", ":authority", HOST, ":path", "/echo"];
    let rest = fields + pseudo.iter().map(|part| part.len()).sum::<usize>() + 4 * 32 - 1_000;
    // hyper's servers take one byte less than they say.
    let longest = 16 * 1_024 - rest - 1;
    for (length, expected) in [(longest, 200), (longest + 1, 431)] {
        let answer = client.send_request(sent(length)).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{length} bytes where {longest} fit");
    }
    assert_eq!(world.server.accepted(), 1, "the target ended no connection");
}
