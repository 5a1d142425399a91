//! The events of a request and their order, for each end that it can have.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use brattice_wire::{
    engine::Limits,
    snapshot::{Protocol, ProtocolVersion},
};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Events, Sinks, access_log::output::LogOutput, metrics::counters::Counters};
use crate::heartbeat::Heartbeats;

#[path = "../../tests/http/support.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the L7 path, which need all of it")]
mod support;

use support::{CALLER, Engine, HOST, TARGET, fixed, raw_server, read_until};

/// Events of a worker of its own, without a process around it.
pub(crate) fn for_tests(log: &Arc<LogOutput>) -> Rc<Events> {
    let map = tempfile::tempfile().unwrap();
    map.set_len(64 * 16).unwrap();
    let slot = Heartbeats::map(&map).unwrap().slot(0).unwrap();
    let sinks = Sinks { counters: Arc::new(Counters::new(1)), log: Arc::clone(log), recorded: Arc::default() };
    Events::new(&sinks, slot, 0)
}

/// What bytes move is told as often as they move, which the kernel decides.
const BYTES: [&str; 6] = ["Received", "Sent", "BodyReceived", "BodySent", "TunnelReceived", "TunnelSent"];

/// An engine that records events.
struct Recorder(Engine);

impl Recorder {
    async fn start(targets: &[SocketAddr]) -> Self {
        let limits = Limits { requests_per_workload: 4, ..Limits::default() };
        Self(Engine::serving(limits, ProtocolVersion::Http1, targets).await)
    }

    /// What happens until the connection is closed.
    async fn of<F: Future>(&self, client: F) -> Vec<String> {
        self.0.shared.recorded.start();
        client.await;
        let started = Instant::now();
        loop {
            let events = self.0.shared.recorded.so_far();
            if events.iter().any(|event| event == "Closed") {
                return events.into_iter().filter(|event| !BYTES.contains(&&**event)).collect();
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{events:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One request on a connection of its own, and its response.
    async fn ask(&self, host: &str, path: &str, more: &str) -> Vec<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n");
        self.of(async {
            let mut stream = self.0.connect(CALLER).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            read_until(&mut stream, "\r\n\r\n").await;
            // Also where the client wants more.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        })
        .await
    }
}

/// A target that gives these answers one after the other. One that is empty closes the connection, and so does the end.
async fn target(answers: &'static [&'static str]) -> SocketAddr {
    let answers = Arc::new(Mutex::new(answers.iter()));
    raw_server(move |mut stream| {
        let answers = Arc::clone(&answers);
        async move {
            let mut bytes = [0; 4_096];
            while stream.read(&mut bytes).await.unwrap_or(0) > 0 {
                let answer = answers.lock().unwrap().next().copied().unwrap_or_default();
                if answer.is_empty() {
                    return;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const ACCEPTED: [&str; 3] = ["ConnectionAccepted", "Opened", "Protocol(Http1)"];
const ROUTED: [&str; 7] =
    ["Began", "Identified", "ServiceFound", "HeadRead", "Allowed(Passed", "RuleMatched", "GroupChosen"];

/// Events in the order in which they are expected.
fn sequence(parts: &[&[&str]]) -> Vec<String> {
    parts.iter().flat_map(|part| part.iter()).map(|event| (*event).to_owned()).collect()
}

/// A request that a target gets, up to its first byte there.
const FORWARDED: [&str; 3] = ["TargetChosen", "Decided", "AttemptBegan"];
const ENDED: [&str; 3] = ["ResponseStarted", "Ended", "Closed"];

#[tokio::test]
async fn a_response_is_sent() {
    let recorder = Recorder::start(&[target(&[OK, OK]).await]).await;
    let answered: &[&str] = &["RequestSent", "ResponseReceived"];
    let events = recorder.ask(HOST, "/", "").await;
    assert_eq!(events, sequence(&[&ACCEPTED, &ROUTED, &FORWARDED, &["UpstreamOpened"], answered, &ENDED]));
    let events = recorder.ask(HOST, "/", "").await;
    assert_eq!(events, sequence(&[&ACCEPTED, &ROUTED, &FORWARDED, answered, &ENDED]), "over a kept connection");
}

#[tokio::test]
async fn a_client_goes_away() {
    const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";
    let recorder = Recorder::start(&[target(&[HALF]).await]).await;
    let mut events = recorder.ask(HOST, "/", "").await;
    // A task of its own closes the connection to the target, before or after that.
    events.retain(|event| event != "UpstreamClosed");
    let answered: &[&str] = &["UpstreamOpened", "RequestSent", "ResponseReceived"];
    assert_eq!(events, sequence(&[&ACCEPTED, &ROUTED, &FORWARDED, answered, &ENDED]));
}

#[tokio::test]
async fn a_request_is_refused() {
    let recorder = Recorder::start(&[target(&[]).await]).await;
    let begun: &[&str] = &["Began", "Identified"];
    let events = recorder.ask("nobody.example", "/", "").await;
    assert_eq!(events, sequence(&[&ACCEPTED, begun, &["Refused(UnknownService)", "Decided"], &ENDED]));
    let events = recorder.ask(HOST, "/%2", "").await;
    let refused: &[&str] = &["ServiceFound", "Refused(Malformed)", "Decided", "Failed(ClientProtocolError)"];
    assert_eq!(events, sequence(&[&ACCEPTED, begun, refused, &ENDED]));
    let events = recorder.ask(HOST, "/ HTTP/1.1\r\n", "").await;
    assert_eq!(events.iter().filter(|event| *event == "Ended").count(), 1, "{events:?}");
}

#[tokio::test]
async fn a_rule_has_the_response() {
    let recorder = Recorder::start(&[target(&[]).await]).await;
    let mut world = recorder.0.world(ProtocolVersion::Http1, &[]);
    (world.revision, world.services[0].listeners[0].default_action) = (2, fixed(404));
    recorder.0.apply(world).await;
    let events = recorder.ask(HOST, "/", "").await;
    assert_eq!(events, sequence(&[&ACCEPTED, &ROUTED[..6], &["Decided"], &ENDED]));
}

#[tokio::test]
async fn a_request_is_sent_again() {
    let recorder = Recorder::start(&[target(&[OK, "", OK]).await]).await;
    recorder.ask(HOST, "/", "").await;
    let events = recorder.ask(HOST, "/", "").await;
    let failed: &[&str] = &["RequestSent", "UpstreamClosed", "AttemptFailed"];
    let again: &[&str] = &["AttemptBegan", "UpstreamOpened", "RequestSent", "ResponseReceived"];
    assert_eq!(events, sequence(&[&ACCEPTED, &ROUTED, &FORWARDED, failed, again, &ENDED]));
}

#[tokio::test]
async fn a_target_fails() {
    let recorder = Recorder::start(&[target(&[]).await]).await;
    let events = recorder.ask(HOST, "/", "").await;
    let failed: &[&str] =
        &["UpstreamOpened", "RequestSent", "UpstreamClosed", "AttemptFailed", "Failed(TargetConnectionClosed)"];
    assert_eq!(events, sequence(&[&ACCEPTED, &ROUTED, &FORWARDED, failed, &ENDED]));
    // Nothing listens there.
    let recorder = Recorder::start(&[(TARGET, 1).into()]).await;
    let events = recorder.ask(HOST, "/", "").await;
    let failed: &[&str] = &["ConnectFailed", "AttemptFailed"];
    // The body is freed before it is known that no target had it.
    let unsent: &[&str] = &["RequestSent", "RequestNotSent", "Failed(TargetConnectionError)"];
    assert_eq!(events, sequence(&[&ACCEPTED, &ROUTED, &FORWARDED, failed, unsent, &ENDED]));
}

#[tokio::test]
async fn a_connection_is_upgraded() {
    const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";
    let recorder = Recorder::start(&[target(&[SWITCHED]).await]).await;
    let events = recorder.ask(HOST, "/", "connection: upgrade\r\nupgrade: test\r\n").await;
    let upgraded: &[&str] = &["RequestSent", "ResponseReceived", "Upgraded", "TransferBegan", "ResponseStarted"];
    let closed: &[&str] = &["Failed(ClientConnectionClosed)", "UpstreamClosed", "TransferEnded", "Ended", "Closed"];
    assert_eq!(events, sequence(&[&ACCEPTED, &ROUTED, &FORWARDED, &["UpstreamOpened"], upgraded, closed]));
}

#[tokio::test]
async fn a_connection_is_tunnelled() {
    let recorder = Recorder::start(&[]).await;
    let mut world = recorder.0.world(ProtocolVersion::Http1, &[target(&[OK]).await]);
    (world.revision, world.services[0].listeners[0].protocol) = (2, Protocol::Tcp);
    recorder.0.apply(world).await;
    let events = recorder.ask(HOST, "/", "").await;
    let opened: &[&str] = &["ConnectionAccepted", "TransferBegan", "Opened", "Began", "Protocol(Relayed)"];
    let routed: &[&str] = &["ServiceFound", "GroupChosen", "Decided", "TargetChosen", "TunnelOpened", "UpstreamOpened"];
    let closed: &[&str] = &["Failed(ClientConnectionClosed)", "UpstreamClosed", "TransferEnded", "Ended", "Closed"];
    assert_eq!(events, sequence(&[opened, routed, closed]));
}
