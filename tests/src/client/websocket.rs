//! A WebSocket client (RFC 6455), by a library that knows nothing of Brattice.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket as Socket,
    client::IntoClientRequest,
    handshake::{HandshakeError, client::Response},
    http::{HeaderName, HeaderValue},
};

use super::HOST;
use crate::lab::Workload;

/// How long an echo may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open WebSocket.
pub struct WebSocket {
    socket: Socket<TcpStream>,
    /// The answer to the handshake.
    pub response: Response,
}

/// Why there is no WebSocket.
#[derive(Debug)]
pub enum NotUpgraded {
    /// The server answered with this status and text instead.
    Refused(u16, String),
    /// Anything else.
    Broken(String),
}

/// What [`WebSocket::receive`] waited for.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A text.
    Text(String),
    /// The end, in whatever way.
    End,
    /// Nothing within the limit.
    Nothing,
}

impl WebSocket {
    /// Opens one from a workload, with more header fields.
    ///
    /// # Errors
    /// When the answer is not 101 or there is none.
    pub fn open(
        from: &Workload,
        to: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, NotUpgraded> {
        let broken = |error: &dyn std::fmt::Display| NotUpgraded::Broken(error.to_string());
        let mut request = format!("ws://{HOST}{path}").into_client_request().map_err(|error| broken(&error))?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|error| broken(&error))?;
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        let stream = from.connect(to).map_err(|error| broken(&error))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| broken(&error))?;
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => Ok(Self { socket, response }),
            Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
                Err(NotUpgraded::Refused(response.status().as_u16(), text))
            }
            Err(error) => Err(broken(&error)),
        }
    }

    /// Sends a text.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, text: &str) -> Result<(), String> {
        self.socket.send(Message::text(text)).map_err(|error| error.to_string())
    }

    /// Sends a text and reads until it comes back.
    ///
    /// # Errors
    /// When the connection is gone or something else comes.
    pub fn echo(&mut self, text: &str) -> Result<(), String> {
        self.send(text)?;
        match self.receive(PATIENCE) {
            Received::Text(back) if back == text => Ok(()),
            other => Err(format!("sent {text:?}, received {other:?}")),
        }
    }

    /// Waits for a text or the end.
    ///
    /// # Panics
    /// When the socket is not valid.
    pub fn receive(&mut self, limit: Duration) -> Received {
        let started = std::time::Instant::now();
        loop {
            let left = limit.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
            self.socket.get_ref().set_read_timeout(Some(left)).expect("a socket");
            match self.socket.read() {
                Ok(Message::Text(text)) => return Received::Text(text.to_string()),
                Ok(Message::Close(_)) => return Received::End,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    if started.elapsed() >= limit {
                        return Received::Nothing;
                    }
                }
                Err(_) => return Received::End,
            }
        }
    }
}
