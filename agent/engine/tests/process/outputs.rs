//! Access log, metrics and callers of the whole process, within its sandbox: everything comes open from the agent.

use std::{fs::File, io::Read, net::SocketAddr, os::fd::AsFd, time::Duration};

use brattice_wire::{
    engine::{AccessLog, ToEngine},
    records::{Flow, FlowProtocol, NodeMetrics, Notice, Past, Query},
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::{
    Test,
    agent::{Agent, Engine, Kit, PATIENCE, block_on, settings},
    relaying::{SEEING, connect, snapshot, stats},
};

pub(crate) const TESTS: &[Test] = &[
    ("outputs::lines_go_to_the_file_of_the_moment", lines_go_to_the_file_of_the_moment),
    ("outputs::metrics_are_served_and_handed_back", metrics_are_served_and_handed_back),
    ("outputs::callers_are_answered_on_their_connections", callers_are_answered_on_their_connections),
    ("outputs::flows_count_every_byte_of_a_client", flows_count_every_byte_of_a_client),
    ("outputs::the_last_lines_are_written_before_the_end", the_last_lines_are_written_before_the_end),
];

/// A target that sends back what it gets.
async fn echo_target() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.99.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

/// One relayed connection, from beginning to end.
async fn call(vip: SocketAddr) {
    let mut stream = connect(SEEING, vip).await;
    stream.write_all(b"ping").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"ping");
}

async fn lines(file: &mut File, count: usize) -> Vec<serde_json::Value> {
    let mut text = String::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        file.read_to_string(&mut text).unwrap();
        if text.lines().count() >= count {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn lines_go_to_the_file_of_the_moment() {
    block_on(async {
        let kit = Kit::new();
        let vip = kit.relay_address();
        let target = echo_target().await;
        let (_engine, agent) = Engine::serving(&kit, snapshot(1, vip, &[target])).await;
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str| {
            let path = folder.path().join(name);
            (File::create(&path).unwrap(), File::open(&path).unwrap())
        };
        let (one, mut read_one) = create("one");
        let log = ToEngine::AccessLog(Some(AccessLog { sample: 1, file: true }));
        agent.send_with(&log, &[one.as_fd()]).await;
        stats(&agent).await;
        call(vip).await;
        let [line] = lines(&mut read_one, 1).await.try_into().unwrap();
        assert_eq!(
            (&line["protocol"], &line["bytesReceived"], &line["bytesSent"]),
            (&"TCP".into(), &4.into(), &4.into())
        );
        assert_eq!(line["failureReason"], "-");
        assert_eq!(line["targetIpPort"], target.to_string());
        assert_eq!((&line["requestMethod"], &line["responseCode"]), (&"-".into(), &"-".into()));
        // Renamed and opened again.
        let (two, mut read_two) = create("two");
        agent.send_with(&log, &[two.as_fd()]).await;
        stats(&agent).await;
        call(vip).await;
        lines(&mut read_two, 1).await;
        assert_eq!(lines(&mut read_one, 0).await.len(), 0, "nothing more in the old one");
        // Nowhere.
        agent.send(&ToEngine::AccessLog(None)).await;
        stats(&agent).await;
        call(vip).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(lines(&mut read_two, 0).await.len(), 0);
        assert_eq!(stats(&agent).await.log_lines, [2, 0, 0]);
    });
}

async fn scrape(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> String {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    text
}

fn metrics_are_served_and_handed_back() {
    block_on(async {
        let kit = Kit::new();
        let vip = kit.relay_address();
        let (mut engine, agent) = Engine::serving(&kit, snapshot(1, vip, &[echo_target().await])).await;
        call(vip).await;
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        agent.send_with(&ToEngine::Metrics(true), &[tcp.as_fd()]).await;
        let numbers = NodeMetrics { drops: vec![("Spoofed".into(), 7)], ..NodeMetrics::default() };
        agent.send(&ToEngine::NodeMetrics(Box::new(numbers))).await;
        stats(&agent).await;
        drop(tcp);
        let page = scrape(&mut TcpStream::connect(address).await.unwrap()).await;
        assert!(page.contains("\nbrattice_kernel_drops_total{reason=\"Spoofed\"} 7\n"), "{page}");
        assert!(page.contains("brattice_connections_total{service="), "{page}");
        // A Unix socket instead; the TCP one is closed.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.sock");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        agent.send_with(&ToEngine::Metrics(true), &[unix.as_fd()]).await;
        stats(&agent).await;
        scrape(&mut UnixStream::connect(&path).await.unwrap()).await;
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens there any more");
        // The next agent is shown the socket and can keep it.
        drop(agent);
        drop(unix);
        let (agent, running, mut descriptors) = engine.hello().await;
        let running = running.unwrap();
        assert!(running.metrics && running.settings == settings());
        let shown = std::os::unix::net::UnixListener::from(descriptors.pop().unwrap());
        assert_eq!(shown.local_addr().unwrap().as_pathname(), Some(&*path));
        scrape(&mut UnixStream::connect(&path).await.unwrap()).await;
        agent.send(&ToEngine::Metrics(false)).await;
        stats(&agent).await;
        drop(shown);
        // The server ends a moment after the order.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while UnixStream::connect(&path).await.is_ok() {
            assert!(tokio::time::Instant::now() < deadline, "still served");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

/// Asks on a connection that is handed over; the lines of the answer.
async fn ask(agent: &Agent, query: Query) -> BufReader<UnixStream> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    agent.send_with(&ToEngine::Attend(query), &[theirs.as_fd()]).await;
    BufReader::new(ours)
}

async fn next(answer: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    let read = tokio::time::timeout(PATIENCE, answer.read_line(&mut line)).await;
    assert!(read.expect("an answer").unwrap() > 0, "the answer ended");
    line
}

fn notice(line: &str) -> Notice {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn callers_are_answered_on_their_connections() {
    block_on(async {
        let kit = Kit::new();
        let vip = kit.relay_address();
        let target = echo_target().await;
        let (_engine, agent) = Engine::serving(&kit, snapshot(1, vip, &[target])).await;
        call(vip).await;
        let mut open = connect(SEEING, vip).await;
        open.write_all(b"hello").await.unwrap();
        open.read_exact(&mut [0; 5]).await.unwrap();

        let mut flows = ask(&agent, Query::Flows).await;
        let flow: Flow = serde_json::from_str(&next(&mut flows).await).unwrap();
        assert_eq!((flow.protocol, flow.bytes_received, flow.bytes_sent), (FlowProtocol::Relayed, 5, 5));
        assert_eq!((flow.vip, flow.target), (vip, Some(target)));
        assert_eq!(flow.source, SocketAddr::new("10.0.0.10".parse().unwrap(), open.local_addr().unwrap().port()));
        assert_eq!(notice(&next(&mut flows).await), Notice::End);
        assert_eq!(flows.read_line(&mut String::new()).await.unwrap(), 0, "closed");

        let mut recalled = ask(&agent, Query::RecallFlow { flow: flow.id }).await;
        let past: Past = serde_json::from_str(&next(&mut recalled).await).unwrap();
        assert_eq!((past.flow, past.duration_ms, past.target), (flow.id, None, Some(target)));
        let mut unknown = ask(&agent, Query::Recall { request_id: "nobody's".into() }).await;
        assert_eq!(notice(&next(&mut unknown).await), Notice::End);

        let mut follower = ask(&agent, Query::Follow { backlog_lines: 10 }).await;
        assert!(next(&mut follower).await.contains("\"protocol\":\"TCP\""), "the call before");
        assert_eq!(notice(&next(&mut follower).await), Notice::BacklogEnds);
        open.shutdown().await.unwrap();
        let line: serde_json::Value = serde_json::from_str(&next(&mut follower).await).unwrap();
        assert_eq!(line["flowId"], flow.id);
        // A caller that is gone is forgotten, and others are answered.
        drop(follower);
        let mut flows = ask(&agent, Query::Flows).await;
        assert_eq!(notice(&next(&mut flows).await), Notice::End);
    });
}

/// A connection's only row.
async fn flow(agent: &Agent) -> Flow {
    let mut flows = ask(agent, Query::Flows).await;
    let flow = serde_json::from_str(&next(&mut flows).await).unwrap();
    assert_eq!(notice(&next(&mut flows).await), Notice::End);
    flow
}

/// Whole heads, heads in pieces, bodies; in either version, and after a change of the protocol.
fn flows_count_every_byte_of_a_client() {
    block_on(async {
        let kit = Kit::new();
        let vip = kit.http[0].local_addr().unwrap();
        let target = tokio::net::TcpListener::bind("127.99.0.1:0").await.unwrap();
        let (_engine, agent) = Engine::serving(&kit, snapshot(1, vip, &[target.local_addr().unwrap()])).await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = target.accept().await {
                tokio::spawn(async move {
                    let mut came = Vec::new();
                    while stream.read_buf(&mut came).await.is_ok_and(|count| count > 0) {
                        let upgrade = came.windows(7).any(|part| part == b"upgrade");
                        if upgrade && came.ends_with(b"bytes behind") {
                            return stream.write_all(b"ok").await.unwrap();
                        }
                        if upgrade && came.ends_with(b"\r\n\r\n") {
                            let head = b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                            stream.write_all(head).await.unwrap();
                        } else if came.ends_with(b"\r\n\r\n") || came.ends_with(b"a body") {
                            came.clear();
                            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                        }
                    }
                });
            }
        });
        let get = format!("GET / HTTP/1.1\r\nhost: {vip}\r\n\r\n");
        let post = format!("POST / HTTP/1.1\r\nhost: {vip}\r\ncontent-length: 6\r\n\r\na body");
        let offer = format!("GET / HTTP/1.1\r\nhost: {vip}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let mut client = connect(SEEING, vip).await;
        let (mut sent, mut got) = (0, 0);
        for (text, pieces, ends) in [
            (&get, 1, "ok"),
            (&get, 3, "ok"),
            (&post, 1, "ok"),
            (&post, 4, "ok"),
            (&get, 1, "ok"),
            (&offer, 1, "\r\n\r\n"),
            (&"bytes behind".to_owned(), 2, "ok"),
        ] {
            for piece in text.as_bytes().chunks(text.len().div_ceil(pieces)) {
                client.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            sent += text.len() as u64;
            let mut answer = Vec::new();
            while !answer.ends_with(ends.as_bytes()) {
                assert!(client.read_buf(&mut answer).await.unwrap() > 0, "closed after {answer:?}");
            }
            got += answer.len() as u64;
            let flow = flow(&agent).await;
            assert_eq!((flow.bytes_received, flow.bytes_sent), (sent, got), "after {text:?} in {pieces}");
        }
        drop(client);
        let mut client = connect(SEEING, vip).await;
        let mut sent = 0;
        for bytes in
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"\0\0\0\x04\0\0\0\0\0", b"\0\0\x08\x06\0\0\0\0\0PingPing"]
        {
            client.write_all(bytes).await.unwrap();
            sent += bytes.len() as u64;
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while flow(&agent).await.bytes_received != sent {
                assert!(tokio::time::Instant::now() < deadline, "{sent} sent, {}", flow(&agent).await.bytes_received);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
}

fn the_last_lines_are_written_before_the_end() {
    block_on(async {
        let kit = Kit::new();
        let vip = kit.relay_address();
        let (mut engine, agent) = Engine::serving(&kit, snapshot(1, vip, &[echo_target().await])).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = File::create(&path).unwrap();
        agent.send_with(&ToEngine::AccessLog(Some(AccessLog { sample: 1, file: true })), &[file.as_fd()]).await;
        stats(&agent).await;
        for _ in 0..20 {
            call(vip).await;
        }
        agent.send(&ToEngine::Shutdown { grace_ms: 200 }).await;
        assert!(engine.exit().await.success());
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 20);
    });
}
