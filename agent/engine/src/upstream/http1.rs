//! Connections to HTTP/1.1 endpoints, each for one request at a time.
//!
//! - [`exchange`]: a request goes out, the head of its response comes in, both at once.
//! - [`upload`]: how a request is written. [`response`]: how a response is read.
//! - [`socket`]: what both share, and what can be closed from elsewhere.

pub(crate) mod exchange;
pub(crate) mod response;
mod socket;
mod upload;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use brattice_http1::{BodyReader, Index};
use bytes::{Bytes, BytesMut};

use self::socket::Socket;
use super::{
    Upstream,
    connector::{ConnectError, parties},
    endpoint::{Endpoint, OpenConnection},
    pool::Reusable,
};
use crate::{
    read_size::{self, ReadSize},
    tasks::{Close, Held, Parties, Tasks},
    transport::Stream,
    turn::Turn,
};

/// Read at once of a body whose bytes come faster than they are read.
const LARGEST_READ: usize = 128 * 1024;
/// Buffers that a worker keeps for connections that have something to read.
const SPARE_BUFFERS: usize = 64;

/// A connection to an HTTP/1.1 target.
pub(crate) struct Http1 {
    socket: Rc<Socket>,
    incoming: RefCell<Incoming>,
    /// Bytes that came from the target so far.
    received: Cell<u64>,
    /// As far as is known, it can carry another request after this one.
    keeps: Cell<bool>,
    /// A part of the request is not written yet.
    uploads: Cell<bool>,
    open: Cell<Option<OpenConnection>>,
    _held: Held,
}

/// What was read and not used yet. Empty, and without memory, while the connection idles.
#[derive(Debug)]
struct Incoming {
    buffer: BytesMut,
    /// Read at once.
    size: ReadSize,
    turn: Turn,
    /// Of the present response, once its head is there.
    body: Option<BodyReader>,
    trailers: Index,
}

/// Buffers of a worker that no connection has something in.
#[derive(Debug, Default)]
pub(super) struct SpareBuffers(RefCell<Vec<BytesMut>>);

impl SpareBuffers {
    fn take(&self) -> BytesMut {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    fn give(&self, mut buffer: BytesMut) {
        let mut spare = self.0.borrow_mut();
        // What others still hold a part of, or has grown, is left to them.
        buffer.clear();
        if spare.len() < SPARE_BUFFERS
            && buffer.try_reclaim(read_size::FIRST)
            && buffer.capacity() <= 2 * read_size::FIRST
        {
            spare.push(buffer);
        }
    }
}

impl Reusable for Rc<Http1> {
    fn is_closed(&self) -> bool {
        !self.socket.is_quiet()
    }
}

/// A new connection.
pub(super) async fn open(
    upstream: &Upstream,
    endpoint: &Rc<Endpoint>,
    timeout: Duration,
) -> Result<Rc<Http1>, ConnectError> {
    let stream = upstream.connector.connect(endpoint, timeout).await?;
    let open = endpoint.connection(upstream.local.upstream_socket());
    Ok(Http1::new(stream, &upstream.tasks, parties(&endpoint.target), Some(open)))
}

impl Http1 {
    fn new(stream: Stream, tasks: &Rc<Tasks>, parties: Parties, open: Option<OpenConnection>) -> Rc<Self> {
        let socket = Rc::new(Socket::new(stream));
        let closable: Rc<dyn Close> = Rc::<Socket>::clone(&socket);
        let held = tasks.hold(parties, Rc::downgrade(&closable));
        Rc::new(Self {
            socket,
            incoming: RefCell::new(Incoming {
                buffer: BytesMut::new(),
                size: ReadSize::up_to(LARGEST_READ),
                turn: Turn::default(),
                body: None,
                trailers: Index::default(),
            }),
            received: Cell::new(0),
            keeps: Cell::new(true),
            uploads: Cell::new(false),
            open: Cell::new(open),
            _held: held,
        })
    }

    /// A request begins: there is room for what comes.
    fn begin(&self, spare: &SpareBuffers) {
        let mut incoming = self.incoming.borrow_mut();
        incoming.buffer = spare.take();
        incoming.size = ReadSize::up_to(LARGEST_READ);
    }

    /// Reads on; 0: the target sends no more. `head`: of a head, a bounded part at once, as what has many pieces has them in turns.
    fn poll_read(&self, cx: &mut Context<'_>, head: bool) -> Poll<io::Result<usize>> {
        let Incoming { buffer, size, turn, .. } = &mut *self.incoming.borrow_mut();
        ready!(turn.poll(cx));
        let most = if head { read_size::FIRST } else { size.bytes() };
        let read = self.socket.poll_read(cx, buffer, most);
        match &read {
            Poll::Pending => turn.end(),
            Poll::Ready(Ok(count)) => {
                self.received.set(self.received.get() + *count as u64);
                turn.spend(*count, 0);
                if !head {
                    size.brought(*count, most);
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        read
    }

    /// Bytes that came from the target so far.
    pub(super) fn received(&self) -> u64 {
        self.received.get()
    }

    /// The response is complete. Whether the connection can carry another request.
    pub(super) fn rest(&self, spare: &SpareBuffers) -> bool {
        let mut incoming = self.incoming.borrow_mut();
        (incoming.body, incoming.trailers) = (None, Index::default());
        let buffer = std::mem::take(&mut incoming.buffer);
        let rest = buffer.len();
        spare.give(buffer);
        self.keeps.get() && !self.uploads.get() && rest == 0
    }

    /// Ends it.
    pub(super) fn close(&self) {
        self.socket.close();
    }

    /// The socket, for another protocol. `None`: it was closed meanwhile.
    pub(super) fn switch(&self) -> Option<TargetSocket> {
        let early = std::mem::take(&mut self.incoming.borrow_mut().buffer).freeze();
        Some(TargetSocket { stream: self.socket.take()?, early, _open: self.open.take() })
    }
}

/// A target's socket on which HTTP has ended.
pub(crate) struct TargetSocket {
    pub(crate) stream: Stream,
    /// What was read from it already.
    pub(crate) early: Bytes,
    pub(crate) _open: Option<OpenConnection>,
}
