//! Connections that are kept and say nothing, and one that sends or reads slowly.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{daemon, peers::Peer};

/// Kept connections, each after one answered request.
pub(crate) struct Held(Vec<TcpStream>);

impl Held {
    /// None yet.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// As many as that.
    ///
    /// # Errors
    /// When one is refused or not answered.
    pub(crate) fn grow(&mut self, peer: &Peer, connections: usize) -> Result<()> {
        while self.0.len() < connections {
            let mut stream = daemon::connect(peer.client(), peer.http1, Duration::from_secs(5))
                .with_context(|| format!("connection {} to {}", self.0.len() + 1, peer.name))?;
            get(&mut stream, peer.host, "/")?;
            self.0.push(stream);
        }
        Ok(())
    }
}

/// Sends a request; reads its answer, which must be a 200 with a length, to the end.
///
/// # Errors
/// When it is anything else.
pub(crate) fn get(stream: &mut TcpStream, host: &str, path: &str) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request(host, path).as_bytes())?;
    let mut text = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        if let Some(length) = whole(&text) {
            ensure!(text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&text));
            if text.len() >= length {
                return Ok(());
            }
        }
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "closed after {} bytes", text.len());
        text.extend_from_slice(&piece[..read]);
    }
}

/// A GET in HTTP/1.1.
pub(crate) fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

/// How long the answer is that begins so, once its head is whole.
pub(crate) fn whole(text: &[u8]) -> Option<usize> {
    let head = text.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let fields = std::str::from_utf8(&text[..head]).ok()?;
    let length = fields.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    Some(head + length.unwrap_or(0))
}
