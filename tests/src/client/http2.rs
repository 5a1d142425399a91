//! An HTTP/2 client on one connection, with streams that stay open, and errors as the frames say them.

use std::{future::Future, io, net::TcpStream, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, Request};
use tokio::{runtime::Runtime, task::JoinHandle, time::timeout};

use super::{Answer, HOST};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An HTTP/2 connection, by prior knowledge.
pub struct Http2 {
    sender: SendRequest<Bytes>,
    host: String,
    connection: JoinHandle<Result<(), h2::Error>>,
    runtime: Runtime,
}

/// An answer whose body is still coming.
pub struct Stream {
    /// Status code.
    pub status: u16,
    /// Fields.
    pub headers: HeaderMap,
    body: RecvStream,
}

/// What [`Http2::next`] waited for.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes of the body.
    Data(Vec<u8>),
    /// Its regular end.
    End,
    /// RST_STREAM, GOAWAY or the end of the connection, in words.
    Broken(String),
    /// Nothing within the limit.
    Nothing,
}

impl Http2 {
    /// On an open stream.
    ///
    /// # Errors
    /// When the connection is gone.
    ///
    /// # Panics
    /// When no thread can be made.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (sender, connection) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let (sender, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
            io::Result::Ok((sender, tokio::spawn(connection)))
        })?;
        Ok(Self { sender, host: HOST.to_owned(), connection, runtime })
    }

    /// Asks another host than [`HOST`].
    #[must_use]
    pub fn with_host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    fn block<T>(&self, what: impl Future<Output = Result<T, h2::Error>>) -> Result<T, String> {
        match self.runtime.block_on(async { timeout(PATIENCE, what).await }) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("nothing within {PATIENCE:?}")),
        }
    }

    /// Sends a request with a body and reads the head of its answer.
    ///
    /// # Errors
    /// RST_STREAM, GOAWAY, the end of the connection, or nothing within 10 s.
    pub fn open(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Stream, String> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.host));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(|error| error.to_string())?;
        self.sender = self.block(self.sender.clone().ready())?;
        let (answer, mut sending) =
            self.sender.send_request(request, body.is_empty()).map_err(|error| error.to_string())?;
        if !body.is_empty() {
            sending.send_data(Bytes::copy_from_slice(body), true).map_err(|error| error.to_string())?;
        }
        let (head, body) = self.block(answer)?.into_parts();
        Ok(Stream { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// The next bytes of an answer's body.
    pub fn next(&self, stream: &mut Stream, limit: Duration) -> Next {
        match self.runtime.block_on(async { timeout(limit, stream.body.data()).await }) {
            Err(_) => Next::Nothing,
            Ok(None) => Next::End,
            Ok(Some(Err(error))) => Next::Broken(error.to_string()),
            Ok(Some(Ok(bytes))) => {
                let _ = stream.body.flow_control().release_capacity(bytes.len());
                Next::Data(bytes.to_vec())
            }
        }
    }

    /// `GET path`, and its whole answer.
    ///
    /// # Errors
    /// As [`Http2::open`].
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        self.request("GET", path, headers, b"")
    }

    /// A request and its whole answer.
    ///
    /// # Errors
    /// As [`Http2::open`].
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let mut stream = self.open(method, path, headers, body)?;
        let mut answer = Answer { status: stream.status, headers: fields(&stream.headers), ..Answer::default() };
        loop {
            match self.next(&mut stream, PATIENCE) {
                Next::Data(bytes) => answer.body.extend(bytes),
                Next::End => break,
                Next::Broken(why) => return Err(why),
                Next::Nothing => return Err(format!("nothing within {PATIENCE:?}")),
            }
        }
        if let Some(trailers) = self.block(stream.body.trailers())? {
            answer.trailers = fields(&trailers);
        }
        Ok(answer)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.connection.is_finished()
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn fields(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}
