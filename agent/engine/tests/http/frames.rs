//! HTTP/2 by the byte, for what no client library sends.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header section of literals that enter no table.
pub(crate) fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
            block.extend_from_slice(text);
        }
    }
    block
}

/// What a stream, or its connection, came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A response with this status.
    Answered(u16),
    /// The stream was reset with this code.
    Reset(u32),
    /// The connection was ended with this code.
    GoAway(u32),
    /// The connection was closed without `GOAWAY`.
    Closed,
}

/// The error code `PROTOCOL_ERROR`.
pub(crate) const PROTOCOL_ERROR: u32 = 1;

/// A connection on which the preface was sent, and these bytes.
pub(crate) async fn begun(engine: &Engine, bytes: &[u8]) -> TcpStream {
    let mut stream = engine.connect(CALLER).await;
    stream.write_all(&[PREFACE, bytes].concat()).await.unwrap();
    stream
}

/// Reads until a stream, or all, has ended.
pub(crate) async fn end(stream: &mut TcpStream, id: u32) -> End {
    let reading = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return End::Closed;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if stream.read_exact(&mut payload).await.is_err() {
                return End::Closed;
            }
            let on = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match head[3] {
                HEADERS if on == id => return End::Answered(status(&payload)),
                RST_STREAM if on == id => return End::Reset(code(0)),
                GOAWAY if code(4) != 0 => return End::GoAway(code(4)),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("an end of the stream")
}

/// `:status`, which h2 sends first: an entry of the static table, or a literal with a name from there.
fn status(block: &[u8]) -> u16 {
    match block {
        [first @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)],
        // In Huffman's code, three digits are two or three bytes; no test expects such a status.
        _ => 0,
    }
}
