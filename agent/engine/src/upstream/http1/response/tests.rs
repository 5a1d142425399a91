use std::{cell::Cell, future::poll_fn, net::IpAddr, task::Waker};

use brattice_http1::ResponseReader;
use brattice_wire::snapshot::AliasGeneration;

use super::{super::SpareBuffers, *};
use crate::{
    tasks::{Parties, Tasks},
    transport::Stream,
};

/// A target's end of a connection, and ours, with a request on its way.
struct Target {
    stream: Option<Stream>,
    connection: Rc<Http1>,
    tasks: Rc<Tasks>,
    spare: SpareBuffers,
}

const ALIAS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(100, 127, 0, 1));

impl Target {
    fn new() -> Self {
        let (stream, targets) = Stream::pair(1 << 20);
        let (tasks, parties) = (Rc::<Tasks>::default(), Parties::default());
        parties.set(0, ALIAS, AliasGeneration::new(1));
        let connection = Http1::new(stream, &tasks, parties, None);
        let spare = SpareBuffers::default();
        connection.begin(&spare);
        Self { stream: Some(targets), connection, tasks, spare }
    }

    fn says(&self, bytes: &[u8]) {
        assert_eq!(self.stream.as_ref().unwrap().try_write(bytes).unwrap_or_default(), bytes.len());
    }

    fn heads(&self, to_head: bool) -> Heads {
        let limits = Limits::responses(1_024, 8, 2, 4_096);
        Heads { limits, reader: ResponseReader::new(&limits, to_head), head: ResponseHead::default() }
    }
}

/// A response as it was read: interim statuses, status and fields, body, trailers; or why not.
fn read(message: &[u8], cut: usize, to_head: bool) -> (String, bool) {
    let mut target = Target::new();
    let (cx, mut text) = (&mut Context::from_waker(Waker::noop()), String::new());
    let mut rest = [&message[..cut], &message[cut..]].into_iter();
    let mut heads = target.heads(to_head);
    let mut response = loop {
        let mut interim = |status: StatusCode, _: &HeaderMap| text.push_str(&format!("({status}) "));
        match heads.poll(&target.connection, &mut interim, cx) {
            Poll::Ready(Ok(response)) => break response,
            Poll::Ready(Err(error)) => return (format!("{text}{error}"), false),
            Poll::Pending => match rest.next() {
                Some(bytes) => target.says(bytes),
                None => target.stream = None,
            },
        }
    };
    text.push_str(&format!("{} {:?}", response.status(), response.headers()));
    let mut body = Vec::new();
    loop {
        match Pin::new(response.body_mut()).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => text.push_str(&format!(" {:?}", frame.trailers_ref())),
            },
            Poll::Ready(Some(Err(error))) => {
                assert!(!response.body().is_end_stream(), "what is broken off is not complete");
                return (format!("{text} {} {error}", body.escape_ascii()), false);
            }
            Poll::Ready(None) => break,
            Poll::Pending => match rest.next() {
                Some(bytes) => target.says(bytes),
                None => target.stream = None,
            },
        }
    }
    assert!(response.body().is_end_stream());
    text.push_str(&format!(" {}", body.escape_ascii()));
    // What was said behind the response, too.
    rest.for_each(|bytes| target.says(bytes));
    let kept = target.connection.rest(&target.spare) && target.connection.socket.is_quiet();
    assert_eq!(target.connection.incoming.borrow().buffer.capacity(), 0, "an idle connection has no buffer");
    (text, kept)
}

#[test]
fn a_response_is_the_same_however_it_is_cut() {
    for (message, to_head, ends, kept) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false, " hello", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello", false, " hello", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", false, " hello", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true, "\"5\"} ", true),
        ("HTTP/1.1 204\r\n\r\n", false, "204 No Content {} ", true),
        ("HTTP/1.1 304 x\r\ncontent-length: 5\r\n\r\n", false, "\"5\"} ", true),
        ("HTTP/1.1 200 OK\r\n\r\nhello", false, "200 OK {} hello", false),
        (
            "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n",
            false,
            "\"0\"} ",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            false,
            " hello",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nsum: 1\r\n\r\n",
            false,
            " Some({\"sum\": \"1\"}) hello",
            true,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello!", false, " hello", false),
        ("HTTP/1.1 204 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false, "204 No Content {} ", false),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
            false,
            " hell the connection to the target ended: unexpected end of file",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            false,
            " hello the connection to the target ended: unexpected end of file",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5x\r\nhello",
            false,
            "the body of the target's response is malformed: a chunk's size is malformed",
            false,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-le", false, "the connection to the target ended: unexpected end of file", false),
        ("SSH-2.0-OpenSSH", false, "this is not an HTTP response", false),
    ] {
        let whole = read(message.as_bytes(), message.len(), to_head);
        assert!(whole.0.ends_with(ends), "{message:?}: {whole:?}");
        assert_eq!(whole.1, kept, "kept after {message:?}");
        for cut in 0..message.len() {
            assert_eq!(read(message.as_bytes(), cut, to_head), whole, "{message:?} cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_connection_whose_alias_is_closed_ends_whoever_waits_for_it() {
    let set = tokio::task::LocalSet::new();
    set.run_until(async {
        let target = Target::new();
        let (connection, ended) = (Rc::clone(&target.connection), Rc::new(Cell::new(false)));
        let (mut heads, seen) = (target.heads(false), Rc::clone(&ended));
        let waiting = tokio::task::spawn_local(async move {
            let response = poll_fn(|cx| heads.poll(&connection, &mut |_, _| {}, cx)).await;
            seen.set(matches!(response, Err(TargetError::Ended(_))));
        });
        tokio::task::yield_now().await;
        // An earlier generation of it is another target.
        target.tasks.close(&[(ALIAS, AliasGeneration::new(0))]).await;
        assert!(target.connection.socket.is_quiet() && !waiting.is_finished());
        target.tasks.close(&[(ALIAS, AliasGeneration::new(1))]).await;
        assert!(!target.connection.socket.is_quiet(), "the socket is gone when the alias is");
        assert_eq!(target.stream.as_ref().unwrap().try_read(&mut [0]).unwrap(), 0);
        waiting.await.unwrap();
        assert!(ended.get());
    })
    .await;
}

#[test]
fn a_buffer_is_used_again_only_if_nobody_else_has_a_part_of_it() {
    let spare = SpareBuffers::default();
    let mut buffer = spare.take();
    buffer.extend_from_slice(&[7; 100]);
    let part = buffer.split_to(50).freeze();
    spare.give(buffer);
    assert_eq!(spare.take().capacity(), 0, "a part of it is still on its way");
    assert_eq!(part, [7; 50][..]);
    let mut buffer = spare.take();
    buffer.reserve(2 * 8 * 1_024);
    buffer.extend_from_slice(&[7; 100]);
    drop(buffer.split_to(50).freeze());
    spare.give(buffer);
    assert!(spare.take().capacity() >= 8 * 1_024);
}
