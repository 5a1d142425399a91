//! Frames and file descriptors on the Unix socket between agent and engine (`brattice_wire::engine`).
//!
//! The engine is hostile until checked: a frame is bounded before it is read, descriptors are only taken where one is
//! due, and everything else ends the connection.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use brattice_abi::MAX_WORKERS;
use brattice_wire::engine::{FrameError, FromEngine, MAX_FROM_ENGINE, body_length, decode, descriptor_count};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors in one message: what an engine with [`MAX_WORKERS`] workers has, and the metrics' socket.
const MAX_DESCRIPTORS: usize = descriptor_count(MAX_WORKERS, true) + 1;

/// Why a connection to the engine ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side closed it.
    #[error("the engine closed the connection")]
    Closed,
    /// The kernel's word.
    #[error("the connection to the engine failed: {0}")]
    Io(#[from] io::Error),
    /// Not a frame of ours.
    #[error("the engine sent {0}")]
    Frame(#[from] FrameError),
    /// Descriptors where none are due, or too many.
    #[error("the engine sent file descriptors that nobody asked for")]
    Descriptors,
}

/// A message and what travelled with it.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub message: FromEngine,
    /// Descriptors sent with its first byte.
    pub descriptors: Vec<OwnedFd>,
    /// The kernel's word on who sent it; only where the socket asks for it (`SO_PASSCRED`).
    pub sender: Option<Sender>,
}

/// A process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its id.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// Reads messages.
pub struct Reader {
    stream: Arc<UnixStream>,
    buffer: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    sender: Option<Sender>,
}

impl Reader {
    /// Reads from `stream`.
    pub fn new(stream: Arc<UnixStream>) -> Self {
        Self { stream, buffer: Vec::new(), descriptors: Vec::new(), sender: None }
    }

    /// The next message.
    ///
    /// # Errors
    /// When the connection ended, or what came is no message.
    pub async fn next(&mut self) -> Result<Received, LinkError> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<4>() {
                let end = 4 + body_length(*prefix, MAX_FROM_ENGINE)?;
                if self.buffer.len() >= end {
                    let message = decode(&self.buffer[4..end])?;
                    self.buffer.drain(..end);
                    let descriptors = std::mem::take(&mut self.descriptors);
                    return Ok(Received { message, descriptors, sender: self.sender });
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), LinkError> {
        let Self { stream, buffer, descriptors, sender } = self;
        let (read, flags) = stream
            .async_io(Interest::READABLE, || {
                let mut bytes = [0; 16 * 1024];
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let result = rustix::net::recvmsg(
                    &**stream,
                    &mut [IoSliceMut::new(&mut bytes)],
                    &mut control,
                    RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
                )?;
                for message in control.drain() {
                    match message {
                        RecvAncillaryMessage::ScmRights(received) => descriptors.extend(received),
                        RecvAncillaryMessage::ScmCredentials(of) => {
                            let pid = u32::try_from(of.pid.as_raw_nonzero().get()).ok();
                            *sender = pid.map(|pid| Sender { pid, uid: of.uid.as_raw() });
                        }
                        _ => {}
                    }
                }
                buffer.extend_from_slice(&bytes[..result.bytes]);
                Ok((result.bytes, result.flags))
            })
            .await?;
        if flags.contains(ReturnFlags::CTRUNC) || self.descriptors.len() > MAX_DESCRIPTORS {
            return Err(LinkError::Descriptors);
        }
        if read == 0 { Err(LinkError::Closed) } else { Ok(()) }
    }
}

/// Writes a frame, with descriptors on its first byte.
///
/// # Errors
/// When the connection is gone.
pub async fn send(stream: &UnixStream, frame: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut sent = 0;
    while sent < frame.len() {
        sent += stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if sent == 0 && !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                    return Err(io::Error::other("more file descriptors than fit in a message"));
                }
                Ok(rustix::net::sendmsg(
                    stream,
                    &[IoSlice::new(&frame[sent..])],
                    &mut control,
                    SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
                )?)
            })
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use brattice_wire::engine::{ToEngine, encode};

    use super::*;

    #[tokio::test]
    async fn frames_and_descriptors_arrive_together() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut reader = Reader::new(Arc::new(there));
        let file = tempfile::tempfile().unwrap();
        let hello = encode(&FromEngine::Hello { version: 1, running: None }, MAX_FROM_ENGINE).unwrap();
        let applied = encode(&FromEngine::Applied { revision: 3 }, MAX_FROM_ENGINE).unwrap();
        send(&here, &hello, &[file.as_fd(), file.as_fd()]).await.unwrap();
        send(&here, &applied, &[]).await.unwrap();
        let first = reader.next().await.unwrap();
        assert_eq!(first.descriptors.len(), 2);
        let second = reader.next().await.unwrap();
        assert_eq!(second.message, FromEngine::Applied { revision: 3 });
        assert!(second.descriptors.is_empty());
        drop(here);
        assert!(matches!(reader.next().await, Err(LinkError::Closed)));
    }

    #[tokio::test]
    async fn junk_is_refused_before_it_is_read() {
        for junk in [&[0xff; 8][..], &[0, 0, 0, 2, 0xee, 0xee], &[0, 0, 0, 0]] {
            let (here, there) = UnixStream::pair().unwrap();
            let mut reader = Reader::new(Arc::new(there));
            send(&here, junk, &[]).await.unwrap();
            assert!(matches!(reader.next().await, Err(LinkError::Frame(_))), "{junk:?}");
        }
    }

    #[tokio::test]
    async fn large_frames_pass_in_pieces() {
        let (here, there) = UnixStream::pair().unwrap();
        let frame = encode(&ToEngine::Shutdown { grace_ms: 1 }, 64).unwrap();
        let big: Vec<u8> = frame.iter().copied().cycle().take(4 * 1024 * 1024).collect();
        let copy = big.clone();
        let writer = tokio::spawn(async move { send(&here, &copy, &[]).await });
        let mut read = Vec::new();
        let mut there = there;
        tokio::io::AsyncReadExt::read_to_end(&mut there, &mut read).await.unwrap();
        writer.await.unwrap().unwrap();
        assert!(read == big);
    }
}
