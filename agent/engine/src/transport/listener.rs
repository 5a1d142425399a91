//! Listening sockets, from the descriptor that the agent made to the streams that are accepted.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use socket2::SockRef;
use tokio::net::TcpListener;

use super::Stream;

/// A listening socket that belongs to no thread's runtime yet; non-blocking.
#[derive(Debug)]
pub struct ListeningSocket(std::net::TcpListener);

/// Of a socket of which was checked that it is non-blocking, and listens.
impl From<OwnedFd> for ListeningSocket {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl From<std::net::TcpListener> for ListeningSocket {
    fn from(listener: std::net::TcpListener) -> Self {
        Self(listener)
    }
}

/// A listening socket of this thread's runtime.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// What it accepts does not wait for more bytes before it sends (`TCP_NODELAY`).
    ///
    /// # Errors
    /// Outside of a runtime.
    pub fn new(ListeningSocket(socket): ListeningSocket) -> io::Result<Self> {
        // Sockets have it of their listener. Only speed depends on it.
        let _ = SockRef::from(&socket).set_tcp_nodelay(true);
        TcpListener::from_std(socket).map(Self)
    }

    /// The next connection, and its peer's address.
    ///
    /// # Errors
    /// The error of accept(2); most likely no descriptor is left.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((stream.into(), peer))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
