//! The crate beside a naive reader: every message of the corpus, with every change of one byte, and with random changes.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod compare;
#[path = "messages/corpus.rs"]
#[allow(dead_code)]
mod corpus;
mod naive;

use corpus::Row;
use proptest::prelude::*;

/// Bytes that mean something to some reader.
const TELLING: &[u8] = b"\r\n \t:;,\0/?#*0aA9-_\x7f\x80\xff\"<`";

/// Each message, cut short anywhere, and with each byte replaced, removed, or another one put before it.
fn variants(rows: &[Row], mut check: impl FnMut(&[u8])) {
    for row in rows {
        let bytes = row.bytes();
        for at in 0..=bytes.len() {
            check(&bytes[..at]);
        }
        for at in 0..bytes.len().min(160) {
            for byte in TELLING {
                let mut changed = bytes.clone();
                changed[at] = *byte;
                check(&changed);
                let mut longer = bytes.clone();
                longer.insert(at, *byte);
                check(&longer);
            }
            let mut shorter = bytes.clone();
            shorter.remove(at);
            check(&shorter);
        }
    }
}

#[test]
fn requests_are_read_as_the_grammar_says() {
    variants(&corpus::requests(), compare::request);
}

#[test]
fn responses_are_read_as_the_grammar_says() {
    variants(&corpus::responses(), |bytes| compare::response(bytes, bytes.len() % 4 == 3));
}

#[test]
fn chunks_are_read_as_the_grammar_says() {
    let bodies = |bytes: &[u8]| {
        let behind_head = bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        compare::chunked(&bytes[behind_head.unwrap_or_default()..]);
    };
    variants(&corpus::requests(), bodies);
    variants(&corpus::responses(), bodies);
}

/// Lines made of pieces that frame messages, well-formed or nearly.
fn line() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "Host: h",
        "Content-Length: 5",
        "content-length:5",
        "Content-Length: 5, 5",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Connection: close, x",
        "X: a",
        " folded",
        "\tfolded: b",
        "X:",
        "X",
        ": x",
        "X: \u{e9} ",
        "Expect: 100-continue",
        "TE: trailers",
        "Upgrade: x",
        "5",
        "0",
        "5;a=b",
        "hello",
        "",
        "x\ry: z",
    ]);
    let ends = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", ""]);
    (pieces, ends).prop_map(|(piece, end)| format!("{piece}{end}"))
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "\r\nGET http://h HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 \r\n",
        "HTTP/1.0 200\r\n",
        "HTTP/1.1 100 Continue\r\n",
        "5\r\nhello\r\n",
        "",
    ]);
    (first, prop::collection::vec(line(), 0..8)).prop_map(|(first, lines)| {
        let text = format!("{first}{}", lines.concat());
        text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_messages_are_read_as_the_grammar_says(bytes in message(), to_head: bool) {
        compare::request(&bytes);
        compare::response(&bytes, to_head);
        compare::chunked(&bytes);
    }
}
