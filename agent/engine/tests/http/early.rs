//! Targets that answer before they have the whole request, and end the connection: the answer goes on.

use std::{net::SocketAddr, time::Duration};

use brattice_wire::engine::Limits;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncWriteExt;

use crate::support::*;

const TRIES: usize = 40;
const ANSWER: &[u8] = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 8\r\n\r\ntoo long";

/// Chunks for longer than the target reads, with a little time between them.
fn long() -> TestBody {
    let chunks = futures_util::stream::unfold(0, |number| async move {
        tokio::time::sleep(Duration::from_micros(200)).await;
        (number < 64)
            .then(|| (Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![b'x'; 16_384]))), number + 1))
    });
    StreamBody::new(chunks).map_err(|never| match never {}).boxed_unsync()
}

/// Clients of both versions get the target's early answer, whole, each time.
async fn answers_go_on(to: bool, target: SocketAddr) {
    for from in [false, true] {
        let engine = Engine::serving(Limits::default(), version(to), &[target]).await;
        for number in 0..TRIES {
            let mut client = Client::new(&engine, from).await;
            let body = if number % 2 == 0 { long() } else { full(vec![b'x'; 1 << 20]) };
            let request = client.request(Method::POST, "/").body(body).unwrap();
            let answer = client.send(request).await;
            assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "try {number}, HTTP/2: {from}");
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "too long", "try {number}");
        }
    }
}

/// The kernel resets a connection that is closed with bytes unread, right behind the answer.
#[tokio::test]
async fn an_answer_before_a_reset_goes_on() {
    let address = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(ANSWER).await.unwrap();
    })
    .await;
    answers_go_on(false, address).await;
}

/// The control: a target that only resets has not answered.
#[tokio::test]
async fn a_reset_without_an_answer_is_none() {
    let address = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
    })
    .await;
    for from in [false, true] {
        let engine = Engine::serving(Limits::default(), version(false), &[address]).await;
        let mut client = Client::new(&engine, from).await;
        let request = client.request(Method::POST, "/").body(full(vec![b'x'; 1 << 20])).unwrap();
        assert_eq!(client.send(request).await.status(), StatusCode::BAD_GATEWAY, "HTTP/2: {from}");
    }
}

/// RFC 9113, 8.1: the whole answer, then RST_STREAM with NO_ERROR.
#[tokio::test]
async fn an_answer_of_an_http2_target_goes_on() {
    let server = Server::start(true, TARGET, |_| async {
        Ok(Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE).body(full("too long"))?)
    })
    .await;
    answers_go_on(true, server.address).await;
}

/// A stream that the target ends and then resets is one that has ended, not two: others of its connection live.
#[tokio::test]
async fn an_early_answer_ends_no_other_stream() {
    let server = Server::start(true, TARGET, |request| async move {
        if request.method() == Method::GET {
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Ok(Response::new(full("late")));
        }
        Ok(Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE).body(full("too long"))?)
    })
    .await;
    let engine = Engine::serving(Limits::default(), version(true), &[server.address]).await;
    let mut sender = engine.http2(CALLER).await;
    for number in 0..10 {
        let late = sender.send_request(get2("/"));
        let mut posts = Vec::new();
        for _ in 0..4 {
            let mut request = get2("/").map(|_| long());
            *request.method_mut() = Method::POST;
            posts.push(sender.send_request(request));
        }
        for post in posts {
            assert_eq!(post.await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE, "try {number}");
        }
        assert_eq!(late.await.unwrap().status(), StatusCode::OK, "try {number}");
    }
    assert_eq!(engine.hits("interim_responses"), 0);
}
