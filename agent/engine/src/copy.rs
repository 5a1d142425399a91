//! Bytes from socket to socket, in both directions at once.

use std::{cell::RefCell, io};

use brattice_wire::records::FailureReason;
use bytes::{Buf, Bytes};

use crate::{events::RequestEvent, transport::Stream};

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

/// Whose end of the copying it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Who opened the connection.
    Client,
    /// What it was connected to.
    Target,
}

/// Bytes that went through a peer's stream. Those of [`End::early`] were read before, and are only written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many were read from it.
    From(Peer, usize),
    /// So many were written to it.
    To(Peer, usize),
}

/// A peer's stream broke: it was reset, or takes nothing any more.
#[derive(Debug, thiserror::Error)]
#[error("the connection of the {peer:?} broke: {error}")]
pub struct Broken {
    /// The peer whose stream it was.
    pub peer: Peer,
    /// What the system said.
    pub error: io::Error,
}

impl Moved {
    /// What it is to a record, which counts what the client has sent and what it was sent.
    pub(crate) fn event(self) -> Option<RequestEvent<'static>> {
        match self {
            Self::From(Peer::Client, bytes) => Some(RequestEvent::TunnelReceived { bytes }),
            Self::To(Peer::Client, bytes) => Some(RequestEvent::TunnelSent { bytes }),
            Self::From(Peer::Target, _) | Self::To(Peer::Target, _) => None,
        }
    }
}

impl Broken {
    /// Why the connection ended, for its record.
    pub(crate) fn failure(&self) -> FailureReason {
        match self.peer {
            Peer::Client => FailureReason::ClientConnectionClosed,
            Peer::Target => FailureReason::TargetConnectionClosed,
        }
    }
}

impl Default for Copier {
    fn default() -> Self {
        Self(RefCell::new(vec![0; BUFFER].into()))
    }
}

impl Copier {
    /// Both ways, each until its sender has finished, which is passed on (half-close). `moved` is called for every piece that was
    /// read or written.
    ///
    /// # Errors
    /// The first stream that broke; the other way ends where it is.
    pub async fn both(&self, client: End<'_>, target: End<'_>, moved: &dyn Fn(Moved)) -> Result<(), Broken> {
        let (to_client, to_target) = (client.stream, target.stream);
        tokio::try_join!(
            self.pump((Peer::Client, client), (Peer::Target, to_target), moved),
            self.pump((Peer::Target, target), (Peer::Client, to_client), moved)
        )
        .map(drop)
    }

    async fn pump(
        &self,
        (sender, from): (Peer, End<'_>),
        (receiver, to): (Peer, &Stream),
        moved: &dyn Fn(Moved),
    ) -> Result<(), Broken> {
        let reading = |error| Broken { peer: sender, error };
        let writing = |error| Broken { peer: receiver, error };
        let mut rest = from.early;
        let from = from.stream;
        loop {
            while !rest.is_empty() {
                to.writable().await.map_err(writing)?;
                let count = send(to, &rest, |count| moved(Moved::To(receiver, count))).map_err(writing)?;
                rest.advance(count);
            }
            from.readable().await.map_err(reading)?;
            {
                let mut buffer = self.0.borrow_mut();
                let count = match from.try_read(&mut buffer) {
                    // The other direction goes on.
                    Ok(0) => return to.shutdown_write().map_err(writing),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(reading(error)),
                };
                moved(Moved::From(sender, count));
                let sent = send(to, &buffer[..count], |count| moved(Moved::To(receiver, count))).map_err(writing)?;
                rest = Bytes::copy_from_slice(&buffer[sent..count]);
            }
            // A fast pair of peers must not keep the thread from its other connections.
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// As many bytes as the socket takes now; `wrote` is called for each piece, so that those before an error count, too.
fn send(to: &Stream, bytes: &[u8], wrote: impl Fn(usize)) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match to.try_write(&bytes[sent..]) {
            Ok(count) => {
                wrote(count);
                sent += count;
            }
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

    /// Copies between the streams of a client and a target while they do what `peers` does; what was moved, and the result.
    async fn copied<F: Future<Output = ()>>(
        peers: impl FnOnce(Stream, Stream) -> F,
    ) -> (Vec<Moved>, Result<(), Broken>) {
        let ((client, near), (far, target)) = (Stream::pair(8), Stream::pair(8));
        let (copier, all) = (Copier::default(), RefCell::default());
        let copying = async {
            let ends = [&near, &far].map(|stream| End { stream, early: NOTHING });
            let [first, second] = ends;
            let copied = copier.both(first, second, &|moved| Vec::push(&mut all.borrow_mut(), moved)).await;
            near.reset_on_drop(copied.is_err());
            far.reset_on_drop(copied.is_err());
            drop((near, far));
            copied
        };
        let copied = tokio::join!(copying, peers(client, target)).0;
        (all.into_inner(), copied)
    }

    /// All bytes that were moved in a direction.
    fn sum(all: &[Moved], direction: impl Fn(Peer, usize) -> Moved, peer: Peer) -> usize {
        let of_piece = |moved: &Moved| match *moved {
            Moved::From(_, count) | Moved::To(_, count) if *moved == direction(peer, count) => count,
            _ => 0,
        };
        all.iter().map(of_piece).sum()
    }

    #[tokio::test]
    async fn each_direction_ends_on_its_own() {
        let long = vec![7; 1_000];
        let (all, copied) = copied(async |mut client, mut target| {
            let sends = async {
                client.write_all(&long).await.unwrap();
                client.shutdown_write().unwrap();
                let mut heard = String::new();
                client.read_to_string(&mut heard).await.unwrap();
                assert_eq!(heard, "answer");
            };
            let answers = async {
                let mut heard = Vec::new();
                target.read_to_end(&mut heard).await.unwrap();
                assert_eq!(heard, long, "more than the stream holds at once");
                target.write_all(b"answer").await.unwrap();
                target.shutdown().await.unwrap();
            };
            tokio::join!(sends, answers);
        })
        .await;
        copied.unwrap();
        let client = (sum(&all, Moved::From, Peer::Client), sum(&all, Moved::To, Peer::Client));
        let target = (sum(&all, Moved::From, Peer::Target), sum(&all, Moved::To, Peer::Target));
        assert_eq!((client, target), ((1_000, 6), (6, 1_000)));
    }

    #[tokio::test]
    async fn a_reset_is_passed_on_and_says_whose_it_was() {
        for peer in [Peer::Client, Peer::Target] {
            let (_, copied) = copied(async |client, target| {
                let (resets, mut other) = if peer == Peer::Client { (client, target) } else { (target, client) };
                resets.reset_on_drop(true);
                drop(resets);
                let error = other.read_u8().await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            })
            .await;
            let broken = copied.unwrap_err();
            assert_eq!((broken.peer, broken.error.kind()), (peer, io::ErrorKind::ConnectionReset));
        }
    }

    /// What was read from a client counts as received, whether or not the target takes it.
    #[tokio::test]
    async fn bytes_count_where_they_were_read_and_written() {
        let (all, copied) = copied(async |mut client, target| {
            client.write_all(&[7; 24]).await.unwrap();
            // The target takes none of it: its stream has room for 8.
            tokio::task::yield_now().await;
            client.reset_on_drop(true);
            drop(client);
            drop(target);
        })
        .await;
        copied.unwrap_err();
        assert!(sum(&all, Moved::From, Peer::Client) > sum(&all, Moved::To, Peer::Target), "{all:?}");
        assert_eq!(sum(&all, Moved::To, Peer::Target), 8);
    }
}
