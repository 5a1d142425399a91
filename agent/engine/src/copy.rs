//! Bytes from socket to socket, in both directions at once.

use std::{cell::RefCell, io};

use bytes::{Buf, Bytes};

use crate::transport::Stream;

/// Bytes moved at once. One buffer serves all connections of a copier; a connection holds bytes of its own only while
/// the receiver is slower than the sender, at most this many per direction.
const BUFFER: usize = 64 * 1024;

/// Moves bytes for many connections of one thread.
#[derive(Debug)]
pub struct Copier(RefCell<Box<[u8]>>);

/// One end.
#[derive(Debug)]
pub struct End<'a> {
    /// Its stream.
    pub stream: &'a Stream,
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
    /// Both ways, each until its sender has finished, which is passed on (half-close). `moved` is called for every
    /// piece that was read or written, with how many bytes of it were written.
    ///
    /// # Errors
    /// The first error of either socket; the other way ends where it is.
    pub async fn both(&self, one: End<'_>, two: End<'_>, moved: &dyn Fn(Way, usize)) -> io::Result<()> {
        let (first, second) = (one.stream, two.stream);
        let (there, back) = (|count| moved(Way::There, count), |count| moved(Way::Back, count));
        tokio::try_join!(self.pump(one, second, &there), self.pump(two, first, &back)).map(drop)
    }

    async fn pump(&self, from: End<'_>, to: &Stream, moved: &dyn Fn(usize)) -> io::Result<()> {
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
                    Ok(0) => return to.shutdown_write(),
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
fn send(to: &Stream, bytes: &[u8]) -> io::Result<usize> {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const NOTHING: Bytes = Bytes::new();

    /// Copies between two clients' streams while they do what `clients` does; the result of the copying.
    async fn copied<F: Future<Output = ()>>(clients: impl FnOnce(Stream, Stream) -> F) -> io::Result<()> {
        let ((one, near), (far, two)) = (Stream::pair(8), Stream::pair(8));
        let copier = Copier::default();
        let copying = async move {
            let ends = [&near, &far].map(|stream| End { stream, early: NOTHING });
            let [first, second] = ends;
            let copied = copier.both(first, second, &|_, _| {}).await;
            near.reset_on_drop(copied.is_err());
            far.reset_on_drop(copied.is_err());
            copied
        };
        tokio::join!(copying, clients(one, two)).0
    }

    #[tokio::test]
    async fn each_direction_ends_on_its_own() {
        let long = vec![7; 1_000];
        let copied = copied(async |mut one, mut two| {
            let sends = async {
                one.write_all(&long).await.unwrap();
                one.shutdown_write().unwrap();
                let mut heard = String::new();
                one.read_to_string(&mut heard).await.unwrap();
                assert_eq!(heard, "answer");
            };
            let answers = async {
                let mut heard = Vec::new();
                two.read_to_end(&mut heard).await.unwrap();
                assert_eq!(heard, long, "more than the stream holds at once");
                two.write_all(b"answer").await.unwrap();
                two.shutdown().await.unwrap();
            };
            tokio::join!(sends, answers);
        });
        copied.await.unwrap();
    }

    #[tokio::test]
    async fn a_reset_is_passed_on() {
        let copied = copied(async |one, mut two| {
            one.reset_on_drop(true);
            drop(one);
            let error = two.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
        assert_eq!(copied.await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
