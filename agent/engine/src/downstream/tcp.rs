//! Connections that are served as TCP: bytes go to a target of the listener's default action. So are those of an HTTP
//! listener while `brattice bypass` is on.
//!
//! No HTTP is parsed and no rule is evaluated. Which services a caller may see, and how many connections a workload
//! may have, holds as for HTTP. Where a policy could refuse a request, the connection is refused: policies are not
//! evaluated here.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::IpAddr,
    ops::Range,
    rc::Rc,
    time::Duration,
};

use brattice_decide::{Listener, Service, route_connection};
use brattice_wire::index::TargetGroupIndex;
use brattice_wire::records::FailureReason;
use brattice_wire::snapshot::{AliasGeneration, ServiceNumber};
use bytes::Bytes;
use futures_util::future::{AbortHandle, Abortable};
use slab::Slab;
use tokio::time::Instant;

use crate::{
    aliases::ClosedAliases,
    auth::{self, Origin, Revoked},
    copy::{Copier, End, Moved},
    downstream::accepted::Accepted,
    events::{ConnectionEvent, RefusedConnection, RequestEvent, WorkerEvent, connection::Called, request::RequestSpan},
    limits::Taken,
    local::Local,
    state::State,
    tasks::{Parties, Tasks},
    transport::Stream,
    upstream::{connector::Connector, endpoint::Candidates},
    views::View,
};

/// Serves a worker's connections as TCP.
pub(crate) struct TcpProxy {
    local: Rc<Local>,
    tasks: Rc<Tasks>,
    connector: Connector,
    copier: Copier,
    open: RefCell<Slab<Connection>>,
}

/// An open connection.
struct Connection {
    origin: Origin,
    /// [`Service::number`].
    service: ServiceNumber,
    ends: AbortHandle,
    /// Why a review ended it.
    revoked: Rc<OnceCell<Revoked>>,
}

/// The target and service to which a caller is connected.
struct Route {
    /// Index of the target group.
    group: TargetGroupIndex,
    candidates: Candidates,
    timeout: Duration,
    idle: Duration,
}

/// Counts a connection while it is open.
struct Open {
    proxy: Rc<TcpProxy>,
    key: usize,
    span: RequestSpan,
    /// The peers of its task.
    parties: Parties,
    /// Both sides have ended as they wanted.
    complete: bool,
    _taken: Taken,
}

impl Open {
    fn new(proxy: Rc<TcpProxy>, connection: Connection, span: RequestSpan, parties: Parties, taken: Taken) -> Self {
        let key = proxy.open.borrow_mut().insert(connection);
        Self { proxy, key, span, parties, complete: false, _taken: taken }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.proxy.open.borrow_mut().try_remove(self.key);
        if let Some(aborted) = self.parties.aborted().filter(|_| !self.complete) {
            self.span.emit(aborted.event());
        }
        self.span.end(self.complete);
        self.span.connection.emit(ConnectionEvent::Closed);
    }
}

impl Connection {
    /// Why it would not be let through now.
    fn revoked(&self, state: &State) -> Option<Revoked> {
        let Origin { caller, vip, .. } = self.origin;
        let Some(caller) = state.caller(caller) else { return Some(Revoked::Gone) };
        let Some(service) = state.service_of(caller.vpc, vip, self.service) else { return Some(Revoked::Withdrawn) };
        auth::revoked_unread(state, &caller, service)
    }

    /// Resets it if it would not be let through now; whether it was this that did.
    fn review(&self, state: &State) -> bool {
        let Some(revoked) = self.revoked(state) else { return false };
        let first = self.revoked.set(revoked).is_ok();
        self.ends.abort();
        first
    }
}

impl TcpProxy {
    /// For a worker. Whose turn it is, is counted where requests count it, so that a bypass goes on where they were.
    pub(crate) fn new(local: &Rc<Local>, closed: &Rc<ClosedAliases>) -> Rc<Self> {
        let tasks = Rc::<Tasks>::default();
        let connector = Connector::new(&local.shared, local.index, &tasks, closed);
        Rc::new(Self { local: Rc::clone(local), tasks, connector, copier: Copier::default(), open: RefCell::default() })
    }

    /// A connection is reset before anything is read.
    fn refuse(&self, reason: RefusedConnection) {
        self.local.events.emit(WorkerEvent::ConnectionRefused(reason));
    }

    /// Resets every connection from or to these aliases, and returns when they are gone.
    pub(crate) async fn close_aliases(&self, aliases: &[(IpAddr, AliasGeneration)]) {
        self.tasks.close(aliases).await;
    }

    /// Lets what is open end by itself for this long, then resets the rest.
    pub(crate) async fn finish(&self, grace: Duration) {
        self.tasks.finish(grace).await;
    }

    /// Serves a connection as TCP, if no policy could refuse a request on it.
    pub(crate) fn begin(self: &Rc<Self>, accepted: Accepted<'_>) {
        let Accepted { view, caller, source_port, vip, port, called, stream: client, taken } = accepted;
        let state = &view.state;
        let Some((service, listener)) = called else {
            self.refuse(RefusedConnection::UnknownService);
            return;
        };
        // guard: policies-of-bypass
        if !auth::may_pass_unread(state, &caller, service.index) {
            self.refuse(RefusedConnection::PolicyReads);
            return;
        }
        let Some(route) = self.route(view, service, listener) else {
            self.refuse(RefusedConnection::NoTarget);
            return;
        };
        let transfer = match self.local.shared.admit_transfer(caller.usage, &self.local.events) {
            Ok(transfer) => transfer,
            Err(limit) => return self.refuse(RefusedConnection::Limit(limit)),
        };
        let parties = Parties::default();
        parties.set(0, caller.alias, caller.generation);
        let (ends, ended) = AbortHandle::new_pair();
        let origin = Origin { caller: caller.id(), vip, port };
        let (events, called) = (&self.local.events, Called { source_port, vip, port });
        let to = (Some(service.number), Some(route.group));
        let span = events.begin_tunnel(&events.open_connection(&state.names, caller.id(), called, to));
        span.emit(RequestEvent::ServiceFound { service: service.number });
        span.emit(RequestEvent::GroupChosen { group: route.group });
        // From here on, whatever ends it, its record has the names of what it was for.
        span.emit(RequestEvent::Decided { names: &state.names });
        let revoked = Rc::<OnceCell<Revoked>>::default();
        let connection = Connection { origin, service: service.number, ends, revoked: Rc::clone(&revoked) };
        let open = Open::new(Rc::clone(self), connection, span, parties.clone(), taken);
        self.tasks.spawn(parties.clone(), async move {
            let (mut open, _transfer) = (open, transfer);
            let served = Abortable::new(open.proxy.serve(client, route, &parties, &open.span), ended).await;
            open.complete = served.unwrap_or(false);
            // Ended by a review: both sides are reset.
            if let Some(revoked) = served.err().and_then(|_| revoked.get()) {
                open.span.emit(revoked.event());
            }
        });
    }

    /// Places in the table of open connections, empty ones included.
    pub(crate) fn span(&self) -> usize {
        self.open.borrow().capacity()
    }

    /// Resets those of the connections at some places that would not be let through now; how many.
    pub(crate) fn review(&self, places: Range<usize>, state: &State) -> u64 {
        let open = self.open.borrow();
        let mut ended = 0;
        for connection in places.filter_map(|place| open.get(place)) {
            ended += u64::from(connection.review(state));
        }
        ended
    }

    /// The targets of the default action, in the order in which they are tried; `None` if there is nowhere to go.
    fn route(&self, view: &View, service: &Service, listener: &Listener) -> Option<Route> {
        let mut balance = view.balance.borrow_mut();
        let (number, group) = route_connection(&view.state, listener, |forward| balance.share(forward))?;
        let candidates = balance.pick(number)?;
        let limits = self.local.limits();
        // A connection that the L7 path would let idle must not end here.
        let idle = [limits.body_idle_timeout_ms, limits.response_timeout_ms, service.idle_timeout_ms];
        Some(Route {
            group: number,
            candidates,
            timeout: Duration::from_millis(group.connect_timeout_ms.into()),
            idle: Duration::from_millis(idle.into_iter().max().unwrap_or_default().into()),
        })
    }

    /// True: both sides have ended as they wanted.
    async fn serve(&self, client: Stream, route: Route, parties: &Parties, span: &RequestSpan) -> bool {
        for endpoint in route.candidates {
            let target = &endpoint.target;
            parties.set(1, target.alias, target.generation);
            match self.connector.connect(&endpoint, route.timeout).await {
                Ok(stream) => {
                    span.emit(RequestEvent::TargetChosen { address: endpoint.real_address(), alias: target.alias });
                    span.emit(RequestEvent::TunnelOpened);
                    let _open = endpoint.connection(self.local.upstream_socket());
                    stream.reset_on_drop(true);
                    let copied = self.copy(&client, &stream, route.idle, span).await;
                    client.reset_on_drop(copied.is_err());
                    stream.reset_on_drop(copied.is_err());
                    return copied.map_err(|reason| span.emit(RequestEvent::Failed(reason))).is_ok();
                }
                Err(error) => {
                    self.local.events.emit(WorkerEvent::ConnectFailed);
                    tracing::debug!(%error, target = %endpoint.real_address(), "a target cannot be reached");
                }
            }
        }
        span.emit(RequestEvent::Failed(FailureReason::TargetConnectionError));
        false
    }

    /// Both directions, each until its sender has finished; an error: why it ended before.
    async fn copy(
        &self,
        client: &Stream,
        target: &Stream,
        idle: Duration,
        span: &RequestSpan,
    ) -> Result<(), FailureReason> {
        let last = Cell::new(Instant::now());
        let [client, target] = [client, target].map(|stream| End { stream, early: Bytes::new() });
        let moved = |moved: Moved| {
            last.set(Instant::now());
            if let Some(event) = moved.event() {
                span.emit(event);
            }
        };
        let both = self.copier.both(client, target, &moved);
        let idles = async {
            loop {
                let deadline = last.get() + idle;
                if Instant::now() >= deadline {
                    return;
                }
                tokio::time::sleep_until(deadline).await;
            }
        };
        tokio::select! {
            done = both => done.map_err(|broken| broken.failure()),
            () = idles => Err(FailureReason::ConnectionDurationExceeded),
        }
    }
}
