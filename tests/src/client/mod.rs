//! Clients. HTTP/1.1 on plain sockets: it can hold thousands of connections, choose its source port, send anything.
//! HTTP/2 and WebSocket by libraries.

mod answer;
mod http2;
mod load;
mod websocket;
mod workload;

use std::{
    io::{self, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

pub use self::{
    answer::Answer,
    http2::{Http2, Next, Stream},
    load::{Load, Tally},
    websocket::{NotUpgraded, Received, WebSocket},
};

/// The host name of the service most tests call.
pub const HOST: &str = "orders.shop.internal";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection on which requests follow each other.
pub struct Connection {
    reader: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// On an open stream.
    ///
    /// # Panics
    /// When the socket is not valid.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { reader: BufReader::new(stream), host: HOST.to_owned() }
    }

    /// Asks another host than [`HOST`].
    #[must_use]
    pub fn with_host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// `GET path` with more header lines (each with its CRLF), and its answer.
    ///
    /// # Errors
    /// When the connection is gone or the answer is no HTTP/1.1.
    pub fn get(&mut self, path: &str, more: &str) -> io::Result<Answer> {
        self.request("GET", path, more)
    }

    /// A request without a body, with more header lines (each with its CRLF), and its answer.
    ///
    /// # Errors
    /// When the connection is gone or the answer is no HTTP/1.1.
    pub fn request(&mut self, method: &str, path: &str, more: &str) -> io::Result<Answer> {
        let host = &self.host;
        self.send(format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n").as_bytes())?;
        answer::read(&mut self.reader, method == "HEAD")
    }

    /// `GET /` with a nonce, which the answer must repeat.
    ///
    /// # Errors
    /// When the connection is gone, or the answer is not 200 with this nonce.
    pub fn nonce(&mut self, nonce: &str) -> io::Result<Answer> {
        let answer = self.get("/", &format!("x-nonce: {nonce}\r\n"))?;
        if answer.status == 200 && answer.header("x-nonce") == Some(nonce) {
            Ok(answer)
        } else {
            Err(io::Error::other(format!(
                "asked with nonce {nonce}, answered {} with {:?}",
                answer.status,
                answer.header("x-nonce")
            )))
        }
    }

    /// Reads one answer, interim ones (1xx) collected in it.
    ///
    /// # Errors
    /// When the connection is gone or the answer is no HTTP/1.1.
    pub fn answer(&mut self) -> io::Result<Answer> {
        answer::read(&mut self.reader, false)
    }

    /// Whether the other side has closed, waiting at most this long.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut byte = [0];
        let closed = loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let _ = self.stream().set_read_timeout(Some(left));
            match self.reader.read(&mut byte) {
                Ok(count) => break count == 0,
                // A socket with a timeout is not read on by itself after an interruption.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    break false;
                }
                Err(error) => {
                    eprintln!("the connection ended: {error}");
                    break true;
                }
            }
        };
        let _ = self.stream().set_read_timeout(Some(PATIENCE));
        closed
    }

    /// The body of an answer whose head was read apart: for streaming tests.
    pub fn reader(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.reader
    }
}

/// Connects from a fixed port of the calling thread's namespace.
///
/// # Errors
/// When the port is taken or the connection refused.
pub fn connect_from(port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((any, port)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
    Ok(socket.into())
}
