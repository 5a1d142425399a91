//! Accepts connections of clients, for every protocol.

use std::{convert::Infallible, net::SocketAddr, rc::Rc, time::Duration};

use brattice_wire::snapshot::Protocol;

use super::{accepted::Accepted, tcp::TcpProxy};
use crate::{
    aliases::ClosedAliases,
    events::{RefusedConnection, WorkerEvent},
    http,
    local::Local,
    memory,
    transport::{Listener, Stream},
    views::{View, Views},
};

/// Pause after a failed accept (no descriptor left, most likely).
const PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections for a worker.
pub(crate) struct Acceptor {
    local: Rc<Local>,
    views: Rc<Views>,
    closed: Rc<ClosedAliases>,
    http: Rc<http::Server>,
    tcp: Rc<TcpProxy>,
}

impl Acceptor {
    pub(crate) fn new(closed: Rc<ClosedAliases>, http: Rc<http::Server>, tcp: Rc<TcpProxy>) -> Rc<Self> {
        Rc::new(Self { local: Rc::clone(&http.local), views: Rc::clone(&http.views), closed, http, tcp })
    }

    /// Accepts forever, on the worker's `LocalSet`; dropping the future stops accepting and leaves what is open.
    ///
    /// What comes by `listener` is served as `protocol` at the most: the kernel leads bypassed connections of an HTTP
    /// listener to the socket for TCP.
    pub(crate) async fn run(self: Rc<Self>, listener: Listener, protocol: Protocol) -> Infallible {
        memory::bound_clients(&listener);
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.begin(stream, peer, protocol),
                Err(error) => {
                    brattice_wire::rarely!(warn, %error, "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn begin(&self, stream: Stream, peer: SocketAddr, arrived: Protocol) {
        self.local.events.emit(WorkerEvent::ConnectionAccepted);
        let view = self.views.latest();
        let Some(accepted) = self.check(&view, stream, peer) else { return };
        let listens = accepted.called.map_or(Protocol::Http, |(_, listener)| listener.protocol);
        match (arrived, listens) {
            (Protocol::Http, Protocol::Http) => http::begin(&self.http, accepted),
            (Protocol::Tcp, _) | (_, Protocol::Tcp) => self.tcp.begin(accepted),
        }
    }

    /// Who calls what; `None`: the connection is reset.
    fn check<'v>(&self, view: &'v View, stream: Stream, peer: SocketAddr) -> Option<Accepted<'v>> {
        // Told before the stream is dropped: a client that sees the reset finds it counted.
        let refuse = |reason| self.local.events.emit(WorkerEvent::ConnectionRefused(reason));
        // A close would look like an orderly end of the data.
        stream.reset_on_drop(true);
        let caller = view.state.caller_at(peer.ip().to_canonical());
        let Some(caller) = caller.filter(|caller| self.closed.allow_caller(caller.id())) else {
            refuse(RefusedConnection::UnknownPeer);
            return None;
        };
        let admitted = self.local.shared.admit(caller.usage);
        let taken = admitted.map_err(|limit| refuse(RefusedConnection::Limit(limit))).ok()?;
        let called = stream.local_addr().ok()?;
        let (vip, port) = (called.ip().to_canonical(), called.port());
        let called = view.state.service_at(caller.vpc, vip, port);
        Some(Accepted { view, caller, source_port: peer.port(), vip, port, called, stream, taken })
    }
}
