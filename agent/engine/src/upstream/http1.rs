//! Connections to HTTP/1.1 endpoints.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::{
    Upstream,
    connector::{ConnectError, parties},
    endpoint::Endpoint,
    pool::Reusable,
};
use crate::{
    http::{
        request_body::RequestBody,
        target_io::{HTTP1_FIELDS, Meter, Socket, TargetIo},
    },
    local::Local,
};

/// Most that hyper buffers of a connection in each direction: what a slow side costs. Bounds a target's header section,
/// too.
const BUFFER: usize = 128 * 1024;

/// A connection to an HTTP/1.1 target, for one request at a time.
pub(crate) struct Http1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) meter: Rc<Meter>,
    pub(super) handover: Handover,
}

/// Receives the socket when HTTP ends on a connection: for a request that upgrades the protocol.
pub(super) type Handover = Rc<RefCell<Option<oneshot::Sender<Socket>>>>;

impl Http1 {
    /// The next request may change the protocol.
    pub(super) fn may_switch(&self) -> oneshot::Receiver<Socket> {
        let (sender, receiver) = oneshot::channel();
        *self.handover.borrow_mut() = Some(sender);
        receiver
    }
}

impl Reusable for Http1 {
    fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }
}

/// A new connection.
pub(super) async fn open(
    upstream: &Upstream,
    endpoint: &Rc<Endpoint>,
    timeout: Duration,
) -> Result<Http1, ConnectError> {
    let local = &upstream.local;
    let stream = upstream.connector.connect(endpoint, timeout).await?;
    let meter = Rc::<Meter>::default();
    let io = TokioIo::new(TargetIo::new(stream, Rc::clone(&meter), endpoint.connection(local.upstream_socket())));
    let (sender, mut connection) = builder(local).handshake(io).await.map_err(io::Error::other)?;
    let handover = Handover::default();
    let (given, counts, followed) = (Rc::clone(&handover), Rc::clone(local), Rc::clone(&meter));
    upstream.tasks.spawn(parties(&endpoint.target), async move {
        // Its requests and bodies get the error.
        let _ = (&mut connection).await;
        followed.count_hit(&counts);
        if let Some(wanted) = given.take() {
            let parts = connection.into_parts();
            // The receiver may be gone; then the socket is closed.
            let _ = wanted.send((parts.io.into_inner(), parts.read_buf));
        }
    });
    Ok(Http1 { sender, meter, handover })
}

/// What a target's response may look like: what RFC 9112 has a proxy correct is corrected (5.1 and 5.2).
fn builder(local: &Local) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(BUFFER)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    let fields = local.limits().headers as usize;
    if fields > HTTP1_FIELDS {
        builder.max_headers(fields);
    }
    builder
}
