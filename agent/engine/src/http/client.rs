//! Client connections: accepted, identified, served in the version of HTTP that they begin with.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use brattice_wire::records::FlowProtocol;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::{
    control::{Control, Verdict},
    frames::PREFACE,
    http1::{connection, socket::ClientSocket, spare::Spare},
    http2,
    server::Server,
    session::Session,
};
use crate::{
    downstream::accepted::Accepted,
    events::{
        ConnectionEvent,
        connection::{Called, ConnectionSpan},
    },
    limits::{Limit, Taken},
    tasks::Parties,
    transport::Stream,
};

/// How long a connection without a service, as yet, may idle, ms; Lattice's shortest.
const FIRST_IDLE: u32 = 60_000;

/// Serves a connection as HTTP.
pub(crate) fn begin(server: &Rc<Server>, accepted: Accepted<'_>) {
    let Accepted { view, caller, source_port, vip, port, called, stream, taken } = accepted;
    let local = &server.local;
    let service = called.map(|(service, _)| service);
    let idle = service.map_or(FIRST_IDLE, |service| service.idle_timeout_ms);
    let idle_ticks = local.clock.ticks(idle);
    let (to, names) = ((service.map(|service| service.number), None), &view.state.names);
    let connection = local.events.open_connection(names, caller.id(), Called { source_port, vip, port }, to);
    let parties = Parties::default();
    parties.set(0, caller.alias, caller.generation);
    let control = Rc::new(Control::new(connection, parties.clone(), local.clock.tick(), idle_ticks));
    let open = Open::new(Rc::clone(server), Rc::clone(&control), taken);
    let session = Rc::new(Session {
        server: Rc::clone(server),
        control,
        caller: caller.id(),
        vip,
        port,
        http2: Cell::new(false),
        shown: OnceCell::new(),
        auth: brattice_decide::Connection::default(),
        parties: parties.clone(),
        switched: RefCell::default(),
    });
    stream.reset_on_drop(false);
    server.tasks.spawn(parties, async move {
        let _open = open;
        serve(session, stream).await;
    });
}

/// Counts a connection while it is open.
struct Open {
    server: Rc<Server>,
    connection: Rc<ConnectionSpan>,
    key: usize,
    _taken: Taken,
}

impl Open {
    fn new(server: Rc<Server>, control: Rc<Control>, taken: Taken) -> Self {
        let connection = Rc::clone(&control.connection);
        let key = server.clients.0.borrow_mut().insert(control);
        Self { server, connection, key, _taken: taken }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.emit(ConnectionEvent::Closed);
        self.server.clients.0.borrow_mut().try_remove(self.key);
    }
}

/// One connection, to its end.
async fn serve(session: Rc<Session>, stream: Stream) {
    let Some((stream, bytes)) = greet(&session, stream).await else { return };
    if session.http2.get() {
        return Box::pin(http2::serve(session, stream, bytes)).await;
    }
    let socket = {
        let (server, control) = (&session.server, &session.control);
        ClientSocket::new(stream, bytes, (control, &server.local.clock, &server.spare))
    };
    connection::serve(session, socket).await;
}

/// Waits for what the client begins with; `None`: it is not served.
async fn greet(session: &Session, stream: Stream) -> Option<(Stream, BytesMut)> {
    let control = &session.control;
    let mut greeting = Greeting { stream, bytes: BytesMut::new() };
    let version = poll_fn(|cx| {
        control.park(cx);
        if control.verdict() > Verdict::Serve {
            return Poll::Ready(None);
        }
        greeting.poll(session, cx)
    })
    .await;
    let Some(protocol) = version else {
        if control.verdict() == Verdict::HeaderTimeout {
            control.connection.emit(ConnectionEvent::LimitReached(Limit::HeaderTimeout));
        }
        if control.verdict().resets() {
            greeting.stream.reset_on_drop(true);
        }
        return None;
    };
    session.http2.set(protocol == FlowProtocol::Http2);
    control.connection.emit(ConnectionEvent::Protocol(protocol));
    Some((greeting.stream, greeting.bytes))
}

/// A connection that has not said which version of HTTP it speaks.
struct Greeting {
    stream: Stream,
    bytes: BytesMut,
}

impl Greeting {
    /// Reads until it is known; `None`: the client is gone.
    fn poll(&mut self, session: &Session, cx: &mut Context<'_>) -> Poll<Option<FlowProtocol>> {
        let (control, local) = (&session.control, session.local());
        loop {
            let known = self.bytes.len().min(PREFACE.len());
            if self.bytes[..known] != PREFACE[..known] {
                return Poll::Ready(Some(FlowProtocol::Http1));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Some(FlowProtocol::Http2));
            }
            match ready!(self.poll_read(&session.server.spare, cx)) {
                Some(bytes) => control.connection.emit(ConnectionEvent::Received { bytes }),
                None => return Poll::Ready(None),
            }
            control.header_section_begun(local.clock.tick());
        }
    }

    /// Reads on, into a block that all connections share while they have nothing; how many bytes. `None`: there are no more.
    fn poll_read(&mut self, spare: &Spare, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let mut block = spare.block();
        let read = pin!(self.stream.read_buf(&mut block)).poll(cx);
        let came = block.split();
        spare.give_block(block);
        if self.bytes.is_empty() {
            self.bytes = came;
        } else {
            self.bytes.extend_from_slice(&came);
        }
        read.map(|read| read.ok().filter(|count| *count > 0))
    }
}
