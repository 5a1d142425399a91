//! Frames of [`brattice_wire::engine`] with descriptors, over a Unix stream.
#![allow(unsafe_code, reason = "descriptors out of SCM_RIGHTS are plain numbers until they are owned")]

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use brattice_wire::engine::{FrameError, body_length};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tokio::{io::Interest, net::UnixStream};

/// Most descriptors of one frame: those of an engine with 64 workers, and the metrics' socket. The kernel's own bound
/// (`SCM_MAX_FD`) is 253.
pub const MAX_DESCRIPTORS: usize = brattice_wire::engine::descriptor_count(64, true) + 1;
/// Bytes read at once, so that an announced length alone costs no memory.
const CHUNK: usize = 256 * 1024;

/// Why a frame did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The other side closed the connection between two frames.
    #[error("the other side has closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// Too long, or no message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The kernel cut the ancillary data.
    #[error(
        "more than {MAX_DESCRIPTORS} descriptors came with a frame, or this process has no descriptor left (RLIMIT_NOFILE)"
    )]
    Descriptors,
}

/// Sends a whole frame, as made by [`brattice_wire::engine::encode`]; the descriptors travel with its first byte.
///
/// # Errors
/// When the connection breaks.
pub async fn send(stream: &UnixStream, frame: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), StreamError> {
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let mut sent = 0;
    while sent < frame.len() {
        let rights = [ControlMessage::ScmRights(&raw)];
        let ancillary: &[_] = if sent == 0 && !raw.is_empty() { &rights } else { &[] };
        let bytes = stream
            .async_io(Interest::WRITABLE, || {
                let rest = [IoSlice::new(&frame[sent..])];
                sendmsg::<()>(stream.as_raw_fd(), &rest, ancillary, MsgFlags::MSG_NOSIGNAL, None).map_err(Into::into)
            })
            .await?;
        sent += bytes;
    }
    Ok(())
}

/// Receives a frame's body and what descriptors came with it (close-on-exec).
///
/// Not cancel-safe: a frame that was begun must be read to its end.
///
/// # Errors
/// When the connection ends or breaks, or the frame is longer than `limit`.
pub async fn receive(stream: &UnixStream, limit: usize) -> Result<(Vec<u8>, Vec<OwnedFd>), StreamError> {
    let mut descriptors = Vec::new();
    let mut prefix = [0; 4];
    let mut have = 0;
    while have < prefix.len() {
        match read(stream, &mut prefix[have..], &mut descriptors).await? {
            0 if have == 0 => return Err(StreamError::Closed),
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            bytes => have += bytes,
        }
    }
    let length = body_length(prefix, limit)?;
    let mut body = Vec::new();
    let mut have = 0;
    while have < length {
        if body.len() == have {
            body.resize(length.min(have + CHUNK), 0);
        }
        match read(stream, &mut body[have..], &mut descriptors).await? {
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            bytes => have += bytes,
        }
    }
    Ok((body, descriptors))
}

async fn read(stream: &UnixStream, buffer: &mut [u8], into: &mut Vec<OwnedFd>) -> Result<usize, StreamError> {
    let (bytes, truncated, received) = stream
        .async_io(Interest::READABLE, || {
            let mut ancillary = nix::cmsg_space!([std::os::fd::RawFd; MAX_DESCRIPTORS]);
            let mut slices = [IoSliceMut::new(buffer)];
            let message =
                recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut ancillary), MsgFlags::MSG_CMSG_CLOEXEC)?;
            let mut received = Vec::new();
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(numbers) = control {
                    // SAFETY: the kernel has just made these descriptors for us and nobody else knows their numbers.
                    received.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
                }
            }
            Ok((message.bytes, message.flags.contains(MsgFlags::MSG_CTRUNC), received))
        })
        .await?;
    into.extend(received);
    if truncated || into.len() > MAX_DESCRIPTORS {
        return Err(StreamError::Descriptors);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use brattice_wire::engine::{FromEngine, MAX_FROM_ENGINE, decode, encode};

    use super::*;

    #[tokio::test]
    async fn descriptors_travel_with_their_frame() {
        let (left, right) = UnixStream::pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let plain = encode(&FromEngine::Applied { revision: 1 }, MAX_FROM_ENGINE).unwrap();
        let carrying = encode(&FromEngine::Applied { revision: 2 }, MAX_FROM_ENGINE).unwrap();
        send(&left, &plain, &[]).await.unwrap();
        send(&left, &carrying, &[reader.as_fd(), writer.as_fd()]).await.unwrap();
        drop((reader, writer));

        let (body, none) = receive(&right, MAX_FROM_ENGINE).await.unwrap();
        assert_eq!(decode::<FromEngine>(&body).unwrap(), FromEngine::Applied { revision: 1 });
        assert!(none.is_empty());
        let (_, two) = receive(&right, MAX_FROM_ENGINE).await.unwrap();
        assert_eq!(two.len(), 2);
        nix::unistd::write(&two[1], b"x").unwrap();
        let mut byte = [0];
        assert_eq!(nix::unistd::read(&two[0], &mut byte).unwrap(), 1);
        let flags = nix::fcntl::fcntl(&two[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        drop(left);
        assert!(matches!(receive(&right, MAX_FROM_ENGINE).await, Err(StreamError::Closed)));
    }

    #[tokio::test]
    async fn large_frames_pass_in_pieces_and_longer_ones_not_at_all() {
        let (left, right) = UnixStream::pair().unwrap();
        let reason = "x".repeat(3 * CHUNK);
        let frame = encode(&FromEngine::Refused { revision: 1, reason: reason.clone() }, 4 * CHUNK).unwrap();
        let sender = tokio::spawn(async move {
            send(&left, &frame, &[]).await.unwrap();
            left
        });
        let (body, _) = receive(&right, 4 * CHUNK).await.unwrap();
        assert_eq!(decode::<FromEngine>(&body).unwrap(), FromEngine::Refused { revision: 1, reason });
        let left = sender.await.unwrap();
        send(&left, &[0xff; 4], &[]).await.unwrap();
        assert!(matches!(receive(&right, 4 * CHUNK).await, Err(StreamError::Frame(FrameError::TooLong { .. }))));
    }

    #[tokio::test]
    async fn half_a_frame_is_an_error() {
        let (left, right) = UnixStream::pair().unwrap();
        send(&left, &[0, 0, 0, 9, 1], &[]).await.unwrap();
        drop(left);
        assert!(matches!(receive(&right, MAX_FROM_ENGINE).await, Err(StreamError::Io(_))));
    }
}
