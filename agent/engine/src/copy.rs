//! Bytes from socket to socket, in both directions at once.

use std::{cell::RefCell, io, net::Shutdown};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes moved at once. One buffer serves all connections of a copier; a connection holds bytes of its own only while
/// the receiver is slower than the sender, at most this many per direction.
const BUFFER: usize = 64 * 1024;

/// Moves bytes for many connections of one thread.
#[derive(Debug)]
pub struct Copier(RefCell<Box<[u8]>>);

/// One end.
#[derive(Debug)]
pub struct End<'a> {
    /// Its socket.
    pub stream: &'a TcpStream,
    /// What was read from it already.
    pub early: Bytes,
}

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the first end to the second.
    There,
    /// From the second end to the first.
    Back,
}

impl Default for Copier {
    fn default() -> Self {
        Self(RefCell::new(vec![0; BUFFER].into()))
    }
}

impl Copier {
    /// Both ways, each until its sender has finished, which the receiver is told (half-close). `moved` is told of every
    /// piece that was read or written, with how many bytes of it were written.
    ///
    /// # Errors
    /// The first error of either socket; the other way ends where it is.
    pub async fn both(&self, one: End<'_>, two: End<'_>, moved: &dyn Fn(Way, usize)) -> io::Result<()> {
        let (first, second) = (one.stream, two.stream);
        let (there, back) = (|count| moved(Way::There, count), |count| moved(Way::Back, count));
        tokio::try_join!(self.pump(one, second, &there), self.pump(two, first, &back)).map(drop)
    }

    async fn pump(&self, from: End<'_>, to: &TcpStream, moved: &dyn Fn(usize)) -> io::Result<()> {
        let mut rest = from.early;
        let from = from.stream;
        loop {
            while !rest.is_empty() {
                to.writable().await?;
                let count = send(to, &rest)?;
                if count > 0 {
                    moved(count);
                    rest.advance(count);
                }
            }
            from.readable().await?;
            {
                let mut buffer = self.0.borrow_mut();
                let count = match from.try_read(&mut buffer) {
                    // The other direction goes on.
                    Ok(0) => return SockRef::from(to).shutdown(Shutdown::Write),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error),
                };
                let sent = send(to, &buffer[..count])?;
                moved(sent);
                rest = Bytes::copy_from_slice(&buffer[sent..count]);
            }
            // A fast pair of peers must not keep the thread from its other connections.
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// As many bytes as the socket takes now.
fn send(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match to.try_write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
