//! Serves the metrics: HTTP/1, one answer per connection. Who may connect is decided by where the agent made the socket.

use std::{os::fd::OwnedFd, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};

/// Connections at once. Each holds a page.
pub(crate) const CONNECTIONS: usize = 4;
/// Longest head of a request, bytes.
pub(crate) const REQUEST_BYTES: usize = 8 * 1024;
/// From the accept to the last byte of the answer.
pub(crate) const TIME: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket of either kind.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// From a listening stream socket, within a runtime.
    ///
    /// # Errors
    /// When it is neither TCP nor Unix.
    pub(crate) fn new(socket: OwnedFd) -> std::io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.is_unix() {
            return UnixListener::from_std(OwnedFd::from(socket).into()).map(Self::Unix);
        }
        TcpListener::from_std(socket.into()).map(Self::Tcp)
    }

    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Serves for ever, on a `LocalSet`; `page` makes what is served.
pub(crate) async fn serve(listener: Listener, page: Rc<dyn Fn() -> String>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Who comes too many waits in the socket's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let page = Rc::clone(&page);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    // Whoever is too slow gets what was written.
                    let _ = tokio::time::timeout(TIME, answer(stream, &*page)).await;
                });
            }
            Err(error) => {
                brattice_wire::rarely!(warn, %error, "the metrics' socket does not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: Box<dyn Stream>, page: &dyn Fn() -> String) -> std::io::Result<()> {
    let (status, kind, body) = match head(&mut stream).await? {
        Ok(false) => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", page()),
        Ok(true) => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", String::new()),
        Err(status) => (status, "text/plain; charset=utf-8", format!("{status}: GET /metrics is served here\n")),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads a request's head. True: HEAD, whose answer has no body. The inner error is the status of the answer.
async fn head(stream: &mut Box<dyn Stream>) -> std::io::Result<Result<bool, &'static str>> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.take((REQUEST_BYTES - bytes.len()) as u64).read_buf(&mut bytes).await? == 0 {
            let full = bytes.len() >= REQUEST_BYTES;
            return if full {
                Ok(Err("431 Request Header Fields Too Large"))
            } else {
                Err(std::io::ErrorKind::UnexpectedEof.into())
            };
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&bytes) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                let path = request.path.unwrap_or_default();
                return Ok(match (request.method, path.split('?').next()) {
                    (Some("GET"), Some("/metrics")) => Ok(false),
                    (Some("HEAD"), Some("/metrics")) => Ok(true),
                    (Some("GET" | "HEAD"), _) => Err("404 Not Found"),
                    _ => Err("405 Method Not Allowed"),
                });
            }
            Err(_) => return Ok(Err("400 Bad Request")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    async fn with_server<F: Future<Output = ()>>(test: impl FnOnce(std::path::PathBuf) -> F) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.sock");
        let socket: OwnedFd = std::os::unix::net::UnixListener::bind(&path).unwrap().into();
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let listener = Listener::new(socket).unwrap();
                tokio::task::spawn_local(serve(listener, Rc::new(|| "a 1\n".to_owned())));
                test(path).await;
            })
            .await;
    }

    async fn ask(path: &std::path::Path, request: &str) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn only_the_page_is_served() {
        with_server(|path| async move {
            let page = ask(&path, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\na 1\n"), "{page}");
            assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
            let head = ask(&path, "HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
            for (request, status) in
                [("GET / HTTP/1.1\r\n\r\n", "404"), ("POST /metrics HTTP/1.1\r\n\r\n", "405"), ("\u{1}\r\n\r\n", "400")]
            {
                assert!(ask(&path, request).await.starts_with(&format!("HTTP/1.1 {status}")), "{request}");
            }
            let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(REQUEST_BYTES));
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(&long.as_bytes()[..REQUEST_BYTES]).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert!(text.starts_with("HTTP/1.1 431"), "{text}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_do_not_keep_others_out_for_long() {
        with_server(|path| async move {
            let mut silent = Vec::new();
            for _ in 0..CONNECTIONS {
                silent.push(UnixStream::connect(&path).await.unwrap());
            }
            let begun = tokio::time::Instant::now();
            assert!(ask(&path, "GET /metrics HTTP/1.0\r\n\r\n").await.contains("200 OK"));
            assert!(begun.elapsed() <= TIME + Duration::from_secs(1), "{:?}", begun.elapsed());
        })
        .await;
    }
}
