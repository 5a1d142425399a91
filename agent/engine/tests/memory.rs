//! What slow sides cost. A binary of its own, with one test, as it measures the memory of the whole process.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]

#[path = "memory/pieces.rs"]
mod pieces;
#[path = "http/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of the L7 path, which need all of it")]
mod support;

use std::time::{Duration, Instant};

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use http::Response;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_sides_cost_little_memory() {
    pieces::for_a_stalled_client_cost_little_memory().await;
    pieces::for_a_stalled_target_cost_little_memory().await;
    a_slow_reader_costs_little_memory().await;
    a_slow_target_costs_little_memory().await;
}

/// Resident memory of this process, bytes.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

async fn a_slow_reader_costs_little_memory() {
    const SIZE: u64 = 256 * 1024 * 1024;
    // Sends as fast as it is let to.
    let target = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n").as_bytes()).await.unwrap();
        let piece = vec![7; 64 * 1024];
        for _ in 0..SIZE / piece.len() as u64 {
            if stream.write_all(&piece).await.is_err() {
                return;
            }
        }
    })
    .await;
    let engine = Engine::serving(Limits::default(), ProtocolVersion::Http1, &[target]).await;
    let before = resident();
    let mut bodies = Vec::new();
    let mut one = engine.http1(CALLER).await;
    bodies.push(one.send_request(get("/")).await.unwrap().into_body());
    let mut two = engine.http2(CALLER).await;
    bodies.push(two.send_request(get2("/")).await.unwrap().into_body());
    // A reader that takes some and stops: what is on the way must wait in the target, not in the engine.
    for body in &mut bodies {
        for _ in 0..20 {
            body.frame().await.unwrap().unwrap();
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes for two stopped readers");
    // And one that reads all of it gets all of it.
    let started = Instant::now();
    let mut total = 0;
    let mut one = engine.http1(CALLER).await;
    let mut body = one.send_request(get("/")).await.unwrap().into_body();
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.iter().all(|byte| *byte == 7));
        total += data.len() as u64;
    }
    assert_eq!(total, SIZE);
    let grown = resident().saturating_sub(before);
    assert!(grown < 24 * 1024 * 1024, "{grown} bytes after {SIZE} in {:?}", started.elapsed());
}

async fn a_slow_target_costs_little_memory() {
    const SIZE: usize = 256 * 1024 * 1024;
    for http2 in [false, true] {
        // Takes nothing for a second, then all of it.
        let server = Server::start(http2, TARGET, |request| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut body = request.into_body();
            let mut total = 0;
            while let Some(frame) = body.frame().await {
                total += frame?.into_data().map_or(0, |data| data.len());
            }
            Ok(Response::new(full(total.to_string())))
        })
        .await;
        let protocol = if http2 { ProtocolVersion::Http2 } else { ProtocolVersion::Http1 };
        let engine = Engine::serving(Limits::default(), protocol, &[server.address]).await;
        let mut client = engine.connect(CALLER).await;
        let before = resident();
        client
            .write_all(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {SIZE}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let (mut reader, mut writer) = client.into_split();
        let upload = tokio::spawn(async move {
            let piece = vec![7; 64 * 1024];
            for _ in 0..SIZE / piece.len() {
                writer.write_all(&piece).await.unwrap();
            }
            writer
        });
        tokio::time::sleep(Duration::from_millis(900)).await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 16 * 1024 * 1024, "{grown} bytes for a target that stopped");
        let _writer = upload.await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(SIZE.to_string().as_bytes()) {
            assert!(tokio::io::AsyncReadExt::read_buf(&mut reader, &mut answer).await.unwrap() > 0);
        }
        assert_eq!(status(&answer), 200);
    }
}
