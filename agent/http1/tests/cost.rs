//! What the crate keeps and allocates: nothing per message, and little under every hostile stream.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

use brattice_allocations::{Counting, counted};
use brattice_http1::{
    BodyLength, BodyReader, Edits, Index, Known, Limits, Part, RequestHead, RequestReader, ResponseHead,
    ResponseReader, write,
};
use bytes::BytesMut;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUESTS: Limits = Limits::requests(60 * 1024, 100);
const RESPONSES: Limits = Limits::responses(128 * 1024, 100, 32, 256 * 1024);

const REQUEST: &[u8] =
    b"POST /orders/7?full=1 HTTP/1.1\r\nHost: orders.example\r\nUser-Agent: client/1.0\r\nAccept: */*\r\n\
    Connection: x-hop\r\nX-Hop: 1\r\nX-Odd:  2 \r\nTransfer-Encoding: chunked\r\n\r\n";
const BODY: &[u8] = b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n";

#[test]
fn no_message_allocates_once_there_is_room() {
    let (mut head, mut edits, mut trailers) = (RequestHead::default(), Edits::default(), Index::default());
    let (mut response, mut out) = (ResponseHead::default(), BytesMut::with_capacity(4096));
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX : 1\r\nY: 1\r\n 2\r\n\r\n".to_vec();
    let mut exchange = || {
        out.clear();
        edits.clear();
        let read = RequestReader::new(&REQUESTS).read(REQUEST, &mut head);
        assert_eq!(read, Ok(Some(REQUEST.len())));
        let fields = head.on(REQUEST).fields();
        edits.remove(fields, Known::Connection);
        edits.remove(fields, "x-hop");
        edits.set(fields, Known::XForwardedFor, b"10.0.0.10").unwrap();
        edits.add_parts("x-parts", &[b"a", b", ", b"b"]).unwrap();
        edits.frame(fields, BodyLength::Chunked);
        write::request(&mut out, 4096, (b"POST", &[b"/orders/7", b"?full=1"]), fields.edited(&edits)).unwrap();
        let (mut body, mut at) = (BodyReader::new(head.body, &REQUESTS), 0);
        loop {
            match body.next(&BODY[at..], &mut trailers).unwrap() {
                Part::Data(length) | Part::Framing { length, .. } => at += length,
                Part::End(_) => break,
                Part::More => panic!("all is there"),
            }
        }
        let read = ResponseReader::new(&RESPONSES, false).read(&mut answer, &mut response);
        assert!(read.unwrap().is_some());
    };
    for _ in 0..3 {
        exchange();
    }
    assert_eq!(counted(|| (0..100).for_each(|_| exchange())), 0);
}

/// Reads a stream without an end, in pieces; the most that the caller and the index hold, until it is refused.
fn hostile(name: &str, begin: &str, repeat: &[u8], piece: usize, response: bool) {
    let (mut reader, mut head) = (RequestReader::new(&REQUESTS), RequestHead::default());
    let (mut responses, mut answer) = (ResponseReader::new(&RESPONSES, false), ResponseHead::default());
    let mut held = begin.as_bytes().to_vec();
    let (limit, mut taken) = (if response { RESPONSES.head_bytes } else { REQUESTS.head_bytes }, 0);
    let most_interim = RESPONSES.interim_bytes;
    loop {
        let read = if response {
            responses.read(&mut held, &mut answer).map_err(brattice_http1::BadResponse::text)
        } else {
            reader.read(&held, &mut head).map_err(brattice_http1::Refusal::text)
        };
        match read {
            Err(_) => break,
            Ok(None) => {}
            Ok(Some(length)) => {
                taken += length;
                held.drain(..length);
                continue;
            }
        }
        assert!(held.len() <= limit + piece, "{name}: {} bytes are held", held.len());
        assert!(taken <= most_interim, "{name}: {taken} bytes were taken");
        held.extend(repeat.iter().copied().cycle().skip(held.len() % repeat.len()).take(piece));
    }
    let index = head.index().allocated() + answer.index().allocated();
    assert!(index <= 128 * 32, "{name}: the index has {index} bytes");
}

#[test]
fn hostile_heads_are_bounded() {
    for piece in [1, 100, 4096] {
        hostile("a long target", "GET /", b"a", piece, false);
        hostile("a long name", "GET / HTTP/1.1\r\n", b"a", piece, false);
        hostile("a long value", "GET / HTTP/1.1\r\na: ", b"a", piece, false);
        hostile("empty lines", "", b"\r\n", piece, false);
        hostile("a long reason", "HTTP/1.1 200 ", b"a", piece, true);
        hostile("a long value", "HTTP/1.1 200 OK\r\na: ", b"a", piece, true);
    }
    hostile("many fields", "GET / HTTP/1.1\r\n", b"a: b\r\n", 6, false);
    hostile("many fields", "HTTP/1.1 200 OK\r\n", b"a: b\r\n", 6, true);
    hostile("many folds", "HTTP/1.1 200 OK\r\na: b\r\n", b" c\r\n", 4, true);
    hostile("interim responses", "", b"HTTP/1.1 103 x\r\n\r\n", 18, true);
}

/// Bytes of a body that are looked at again when more comes: none but those of a line or a section that is bounded.
#[test]
fn hostile_chunks_are_bounded() {
    for (name, begin, repeat, limit) in [
        ("a long extension", "5;", &b"a"[..], 256),
        ("many zeros", "", b"0", 256),
        ("long trailers", "0\r\na: ", b"a", REQUESTS.trailer_bytes),
        ("many trailers", "0\r\n", b"a: b\r\n", REQUESTS.trailer_bytes),
        ("small chunks", "1\r\n", b"a\r\n1\r\n", 256),
    ] {
        let (mut body, mut trailers) = (BodyReader::new(BodyLength::Chunked, &REQUESTS), Index::default());
        let mut held = begin.as_bytes().to_vec();
        'stream: for round in 0..200_000 {
            loop {
                match body.next(&held, &mut trailers) {
                    Err(_) => break 'stream,
                    Ok(Part::More) => break,
                    Ok(Part::Data(length) | Part::Framing { length, .. }) => drop(held.drain(..length)),
                    Ok(Part::End(_)) => panic!("{name} has no end"),
                }
            }
            assert!(held.len() <= limit + repeat.len(), "{name}: {} bytes are held", held.len());
            assert!(trailers.allocated() <= 128 * 32, "{name}");
            held.extend(repeat);
            assert!(round < 199_999 || name == "small chunks", "{name} is refused");
        }
    }
}
