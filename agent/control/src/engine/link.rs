//! Messages of the engine, with the descriptors and the sender that the kernel says came with them.
//!
//! The engine is hostile until checked: descriptors are only taken where some are due, and everything else ends the
//! connection.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use brattice_frames::{Reader as Frames, StreamError};
pub use brattice_frames::{Sender, send};
use brattice_wire::engine::{FrameError, FromEngine, MAX_FROM_ENGINE, decode};
use tokio::net::UnixStream;

/// Why a connection to the engine ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side closed it.
    #[error("the engine closed the connection")]
    Closed,
    /// The kernel refused.
    #[error("the connection to the engine failed: {0}")]
    Io(#[from] io::Error),
    /// Not a frame of this protocol.
    #[error("the engine sent {0}")]
    Frame(#[from] FrameError),
    /// Descriptors where none are due, or too many.
    #[error("the engine sent file descriptors that the agent did not request")]
    Descriptors,
}

impl From<StreamError> for LinkError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Closed => Self::Closed,
            // It ended in the middle of a frame.
            StreamError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            StreamError::Io(error) => Self::Io(error),
            StreamError::Frame(error) => Self::Frame(error),
            StreamError::Descriptors => Self::Descriptors,
        }
    }
}

/// A message and what travelled with it.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub message: FromEngine,
    /// Descriptors sent with its first byte.
    pub descriptors: Vec<OwnedFd>,
    /// The sender's process and user, as the kernel says; only where the socket asks for it (`SO_PASSCRED`).
    pub sender: Option<Sender>,
}

/// Reads messages.
pub struct Reader(Frames<Arc<UnixStream>>);

impl Reader {
    /// Reads from `stream`.
    pub fn new(stream: Arc<UnixStream>) -> Self {
        Self(Frames::new(stream, MAX_FROM_ENGINE))
    }

    /// The next message.
    ///
    /// # Errors
    /// When the connection ended, or what came is no message.
    pub async fn next(&mut self) -> Result<Received, LinkError> {
        let frame = self.0.next().await?;
        Ok(Received { message: decode(&frame.body)?, descriptors: frame.descriptors, sender: frame.sender })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use brattice_wire::engine::encode;

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
}
