//! The smallest reverse proxy that hyper allows: one thread, kept connections to one server, no rules, limits, log or
//! policies. It shows what the library costs, and so what is ours.
//!
//! `bare-hyper PORT PORT-HTTP2 SERVER:PORT`

use std::{cell::RefCell, collections::VecDeque, net::SocketAddr, rc::Rc};

use anyhow::{Context, Result, bail};
use hyper::{
    Request, Response, Version,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{CONNECTION, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::LocalSet,
};

/// Connections to the server; their latest answer may still be on its way.
type Pool = Rc<RefCell<VecDeque<SendRequest<Incoming>>>>;

/// Kept connections that are looked at before a new one is made.
const LOOKS: usize = 4;

/// Waiting connections.
const BACKLOG: u32 = 16_384;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [http1, http2, server] = &words[..] else { bail!("usage: bare-hyper PORT PORT-HTTP2 SERVER:PORT") };
    let server: SocketAddr = server.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (http1, http2): (u16, u16) = (http1.parse()?, http2.parse()?);
    LocalSet::new().block_on(&runtime, async move {
        let pool = Pool::default();
        let other = tokio::task::spawn_local(serve(http2, server, Rc::clone(&pool), true));
        serve(http1, server, pool, false).await?;
        other.await?
    })
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([0, 0, 0, 0], port)))?;
    Ok(socket.listen(BACKLOG)?)
}

async fn serve(port: u16, server: SocketAddr, pool: Pool, http2: bool) -> Result<()> {
    let listener = listen(port)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pool = Rc::clone(&pool);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| answer(request, server, Rc::clone(&pool)));
            let stream = TokioIo::new(stream);
            // A client that aborts is no error of this server.
            if http2 {
                let _ = http2::Builder::new(Local).serve_connection(stream, service).await;
            } else {
                let _ = http1::Builder::new().serve_connection(stream, service).await;
            }
        });
    }
}

async fn answer(mut request: Request<Incoming>, server: SocketAddr, pool: Pool) -> Result<Response<Incoming>> {
    *request.version_mut() = Version::HTTP_11;
    if !request.headers().contains_key("host") {
        let host = request.uri().authority().map_or("server", |authority| authority.as_str());
        let host = HeaderValue::from_str(host)?;
        request.headers_mut().insert("host", host);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse()?;
    *request.uri_mut() = path;
    request.headers_mut().remove(CONNECTION);
    let mut sender = match take(&pool) {
        Some(sender) => sender,
        None => connect(server).await?,
    };
    let mut response = sender.send_request(request).await.context("the server")?;
    response.headers_mut().remove(CONNECTION);
    pool.borrow_mut().push_back(sender);
    Ok(response)
}

/// A kept connection whose latest answer was read to its end; looks at a few.
fn take(pool: &Pool) -> Option<SendRequest<Incoming>> {
    let mut pool = pool.borrow_mut();
    for _ in 0..pool.len().min(LOOKS) {
        let sender = pool.pop_front()?;
        if sender.is_ready() {
            return Some(sender);
        }
        if !sender.is_closed() {
            pool.push_back(sender);
        }
    }
    None
}

async fn connect(server: SocketAddr) -> Result<SendRequest<Incoming>> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Runs what hyper starts on this thread.
#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
