//! Frames of [`brattice_wire::engine`] with file descriptors, on a Unix stream: one implementation for agent and engine.
//!
//! Either side is hostile until checked: a frame is bounded before it is read, memory grows only with what has arrived, and
//! a frame's descriptors are those that came with its own bytes, as nothing is read beyond its end.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use brattice_wire::engine::{FrameError, body_length, descriptor_count};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors of one frame: those of an engine with 64 workers, and the metrics' socket. The kernel's own bound
/// (`SCM_MAX_FD`) is 253.
pub const MAX_DESCRIPTORS: usize = descriptor_count(64, true) + 1;
/// Bytes of a body that memory is taken for at once, so that an announced length alone costs none.
const CHUNK: usize = 256 * 1024;
/// Bytes of a frame's length.
const PREFIX: usize = 4;

/// Why a frame did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The other side closed the connection between two frames.
    #[error("the other side has closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// Too long, or no message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The kernel cut the ancillary data.
    #[error(
        "more than {MAX_DESCRIPTORS} descriptors came with a frame, or this process has no descriptor left (RLIMIT_NOFILE)"
    )]
    Descriptors,
}

/// A frame's body, and what the kernel says came with it.
#[derive(Debug)]
pub struct Frame {
    /// The encoded message.
    pub body: Vec<u8>,
    /// Its descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// The sender's process and user; only where the socket asks for it (`SO_PASSCRED`).
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

/// Reads frames.
#[derive(Debug)]
pub struct Reader<S> {
    stream: S,
    limit: usize,
    /// What has come of the frame being read.
    prefix: [u8; PREFIX],
    body: Vec<u8>,
    have: usize,
    descriptors: Vec<OwnedFd>,
    sender: Option<Sender>,
}

impl<S: Deref<Target = UnixStream>> Reader<S> {
    /// Reads frames of at most `limit` bytes.
    pub fn new(stream: S, limit: usize) -> Self {
        let (body, descriptors) = (Vec::new(), Vec::new());
        Self { stream, limit, prefix: [0; PREFIX], body, have: 0, descriptors, sender: None }
    }

    /// The next frame. Cancel-safe: what was read of one is kept for the next call.
    ///
    /// # Errors
    /// When the connection ends or breaks, or a frame is longer than the limit.
    pub async fn next(&mut self) -> Result<Frame, StreamError> {
        while self.have < PREFIX {
            self.fill().await?;
        }
        let end = PREFIX + body_length(self.prefix, self.limit)?;
        while self.have < end {
            if self.body.len() == self.have - PREFIX {
                self.body.resize((end - PREFIX).min(self.body.len() + CHUNK), 0);
            }
            self.fill().await?;
        }
        self.have = 0;
        Ok(Frame {
            body: std::mem::take(&mut self.body),
            descriptors: std::mem::take(&mut self.descriptors),
            sender: self.sender,
        })
    }

    /// Reads once, into the prefix or the body.
    async fn fill(&mut self) -> Result<(), StreamError> {
        let Self { stream, prefix, body, have, descriptors, sender, .. } = self;
        let stream = &**stream;
        let into = if *have < PREFIX { &mut prefix[*have..] } else { &mut body[*have - PREFIX..] };
        let (read, flags) = stream
            .async_io(Interest::READABLE, || {
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let result = rustix::net::recvmsg(
                    stream.as_fd(),
                    &mut [IoSliceMut::new(into)],
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
                Ok((result.bytes, result.flags))
            })
            .await?;
        if flags.contains(ReturnFlags::CTRUNC) || self.descriptors.len() > MAX_DESCRIPTORS {
            return Err(StreamError::Descriptors);
        }
        match read {
            0 if self.have == 0 => Err(StreamError::Closed),
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            bytes => {
                self.have += bytes;
                Ok(())
            }
        }
    }
}

/// Receives one frame, where no [`Reader`] is needed: nothing is read beyond its end.
///
/// Not cancel-safe: a frame that was begun must be read to its end.
///
/// # Errors
/// As [`Reader::next`].
pub async fn receive(stream: &UnixStream, limit: usize) -> Result<Frame, StreamError> {
    Reader::new(stream, limit).next().await
}

/// Sends a whole frame, as made by [`brattice_wire::engine::encode`]; the descriptors travel with its first byte.
///
/// # Errors
/// When the connection breaks.
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
mod tests;
