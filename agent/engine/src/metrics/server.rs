//! Serves the metrics: HTTP/1, one answer per connection. The socket, which the agent makes, decides who may connect.

use std::{convert::Infallible, os::fd::OwnedFd, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixListener,
    sync::Semaphore,
};

use crate::transport;

/// Connections at once. Each holds a page.
pub(crate) const CONNECTIONS: usize = 4;
/// Longest header section of a request, bytes.
pub(crate) const REQUEST_BYTES: usize = 8 * 1024;
/// From the accept to the last byte of the answer.
pub(crate) const TIME: Duration = Duration::from_secs(10);
/// The text format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket of either kind.
pub(crate) enum Listener {
    Tcp(transport::Listener),
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
        transport::Listener::new(OwnedFd::from(socket).into()).map(Self::Tcp)
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

/// Serves forever, on a `LocalSet`; `page` makes what is served.
pub(crate) async fn serve(listener: Listener, page: Rc<dyn Fn() -> String>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Connections over the limit wait in the socket's backlog.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let page = Rc::clone(&page);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    // A client that is too slow gets the part that was written by then.
                    let _ = tokio::time::timeout(TIME, answer(stream, page)).await;
                });
            }
            Err(error) => {
                brattice_wire::rarely!(warn, %error, "the metrics' socket does not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: Box<dyn Stream>, page: Rc<dyn Fn() -> String>) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &*page);
        async { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn respond(method: &Method, path: &str, page: &dyn Fn() -> String) -> Response<String> {
    let (status, body) = match (method, path) {
        (&Method::GET, "/metrics") => (StatusCode::OK, page()),
        (&Method::HEAD, "/metrics") => (StatusCode::OK, String::new()),
        (&Method::GET | &Method::HEAD, _) => refuse(StatusCode::NOT_FOUND),
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED),
    };
    let kind = if status == StatusCode::OK { EXPOSITION } else { "text/plain; charset=utf-8" };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn refuse(status: StatusCode) -> (StatusCode, String) {
    (status, format!("{status}: GET /metrics is served here\n"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
