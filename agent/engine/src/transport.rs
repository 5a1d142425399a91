//! Byte streams to clients and targets, whatever carries them.
//!
//! The rest of the engine knows a [`Stream`] and no socket. Today each is a TCP connection; TLS and a tunnel to another
//! node are further kinds of [`Kind`]. Tests have one in memory.

mod listener;
#[cfg(test)]
mod memory;

use std::{
    cell::Cell,
    io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
};

pub use self::listener::{Listener, ListeningSocket};

/// A byte stream to a client or a target. Dispatch is static: a `match` over the kinds.
#[derive(Debug)]
pub struct Stream {
    kind: Kind,
    /// See [`Stream::reset_on_drop`].
    reset: Cell<bool>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    #[cfg(test)]
    Memory(memory::End),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self { kind: Kind::Tcp(stream), reset: Cell::new(false) }
    }
}

impl Stream {
    /// Connects a TCP socket that the caller has prepared.
    ///
    /// # Errors
    /// The error of connect(2).
    pub async fn connect(socket: TcpSocket, target: SocketAddr) -> io::Result<Self> {
        let stream = socket.connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(stream.into())
    }

    /// Two ends of one stream, each of which holds at most this many bytes that the other has not read.
    #[cfg(test)]
    pub fn pair(capacity: usize) -> (Self, Self) {
        let (one, two) = memory::pair(capacity);
        let stream = |end| Self { kind: Kind::Memory(end), reset: Cell::new(false) };
        (stream(one), stream(two))
    }

    /// Whether dropping it resets the connection. Without, a drop closes it, which looks like an orderly end of the data.
    pub fn reset_on_drop(&self, reset: bool) {
        self.reset.set(reset);
    }

    /// Tells the peer that no more bytes come; reading goes on (half-close).
    ///
    /// # Errors
    /// Where the connection is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            #[cfg(test)]
            Kind::Memory(end) => {
                end.shutdown_write();
                Ok(())
            }
        }
    }

    /// The certificate that the peer has proved to hold, DER; `None` where the transport has none.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Tcp(_) => None,
            #[cfg(test)]
            Kind::Memory(_) => None,
        }
    }

    /// The socket, where bytes pass through it as they are.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            Kind::Tcp(stream) => Some(stream.as_fd()),
            #[cfg(test)]
            Kind::Memory(_) => None,
        }
    }

    /// The address that the peer connected to.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Tcp(stream) => stream.local_addr(),
            #[cfg(test)]
            Kind::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Why the connection is gone, if it is; returned once.
    ///
    /// # Errors
    /// The error of getsockopt(2).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match &self.kind {
            Kind::Tcp(stream) => stream.take_error(),
            #[cfg(test)]
            Kind::Memory(_) => Ok(None),
        }
    }

    /// Asks a peer that sends nothing for so long whether it is still there; one that is not ends the connection.
    pub fn keep_alive(&self, idle: Duration) {
        match &self.kind {
            // Without it the connection works all the same.
            Kind::Tcp(stream) => {
                let keepalive = TcpKeepalive::new().with_time(idle).with_interval(idle / 4);
                let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
            }
            #[cfg(test)]
            Kind::Memory(_) => {}
        }
    }

    /// Waits until [`Stream::try_read`] has something to say.
    ///
    /// # Errors
    /// Where the runtime is gone.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream) => stream.readable().await,
            #[cfg(test)]
            Kind::Memory(end) => end.readable().await,
        }
    }

    /// What is there now; 0: the peer sends no more.
    ///
    /// # Errors
    /// `WouldBlock`, or that the connection is gone.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(stream) => stream.try_read(buffer),
            #[cfg(test)]
            Kind::Memory(end) => end.try_read(buffer),
        }
    }

    /// Waits until [`Stream::try_write`] has something to say.
    ///
    /// # Errors
    /// Where the runtime is gone.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream) => stream.writable().await,
            #[cfg(test)]
            Kind::Memory(end) => end.writable().await,
        }
    }

    /// Writes as many bytes as are taken now.
    ///
    /// # Errors
    /// `WouldBlock`, or that the connection is gone.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(stream) => stream.try_write(bytes),
            #[cfg(test)]
            Kind::Memory(end) => end.try_write(bytes),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.reset.get() {
            return;
        }
        match &self.kind {
            // A socket that is gone already needs no reset.
            Kind::Tcp(stream) => drop(stream.set_zero_linger()),
            #[cfg(test)]
            Kind::Memory(end) => end.reset(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(test)]
            Kind::Memory(end) => end.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(test)]
            Kind::Memory(end) => end.poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            #[cfg(test)]
            Kind::Memory(end) => end.poll_write(cx, bufs.iter().find(|buf| !buf.is_empty()).map_or(&[], |buf| buf)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(test)]
            Kind::Memory(_) => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(test)]
            Kind::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(test)]
            Kind::Memory(end) => {
                end.shutdown_write();
                Poll::Ready(Ok(()))
            }
        }
    }
}
