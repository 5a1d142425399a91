//! `brattice bypass`: connections are relayed as plain TCP to the targets of the listener's default action. Nothing is
//! parsed, no rule is asked; who may see the service, and how many connections a workload may have, holds as ever. Where a
//! policy could refuse a request, none is relayed: nobody would ask it.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{IpAddr, SocketAddr},
    ops::Range,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use brattice_wire::{records::FailureReason, snapshot::Target};
use bytes::Bytes;
use futures_util::future::{AbortHandle, Abortable};
use slab::Slab;
use tokio::time::Instant;

use crate::{
    auth::{self, Origin},
    copy::{Copier, End, Way},
    limits::Taken,
    local::{Local, View},
    memory,
    records::record::Record,
    rules::Action,
    state::{Listener, Service, State},
    stats::Counts,
    tasks::{Parties, Tasks},
    transport::{Listener as Socket, Stream},
    upstream::dial::{self, Sources},
};

/// Targets of a group that are tried before a connection is reset.
const ATTEMPTS: usize = 3;
/// Pause after a failed accept (no descriptor left, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The relay of one worker.
pub struct Relay {
    local: Rc<Local>,
    tasks: Rc<Tasks>,
    sources: RefCell<Sources>,
    copier: Copier,
    relayed: RefCell<Slab<Relayed>>,
}

/// An open connection.
struct Relayed {
    origin: Origin,
    /// [`Service::number`].
    service: u32,
    ends: AbortHandle,
}

/// What a caller is connected to.
struct Route {
    /// Index of the target group.
    group: u32,
    targets: Vec<Target>,
    timeout: Duration,
    idle: Duration,
}

/// Counts a connection while it is open.
struct Open {
    relay: Rc<Relay>,
    key: usize,
    record: Record,
    /// Both sides have ended as they wanted.
    complete: bool,
    _taken: Taken,
}

impl Open {
    fn new(relay: Rc<Relay>, relayed: Relayed, record: Record, taken: Taken) -> Self {
        relay.counts().connections_open.add(1);
        relay.counts().connections_relayed.add(1);
        relay.local.slot.connections().fetch_add(1, Relaxed);
        let key = relay.relayed.borrow_mut().insert(relayed);
        Self { relay, key, record, complete: false, _taken: taken }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.relay.counts().connections_open.sub(1);
        self.relay.local.slot.connections().fetch_sub(1, Relaxed);
        self.relay.relayed.borrow_mut().try_remove(self.key);
        self.relay.local.book.end(&self.record, self.complete);
        self.relay.local.book.disconnected(&self.record.flow);
    }
}

impl Relayed {
    /// Whether it would be relayed now.
    fn is_allowed(&self, state: &State) -> bool {
        let Origin { alias, generation, vip, .. } = self.origin;
        let Some(caller) = state.caller(alias).filter(|caller| caller.generation == generation) else { return false };
        let Some(service) = state.service_of(caller.vpc, vip, self.service) else { return false };
        state.guards.relayable(&auth::Parties { workload: caller.index, vpc: caller.vpc, service })
    }
}

impl Relay {
    /// For a worker. Whose turn it is, is counted where requests count it, so that a bypass goes on where they were.
    pub(crate) fn new(local: Rc<Local>) -> Rc<Self> {
        let sources = Sources::of(&local.shared.settings, local.index);
        Rc::new(Self {
            local,
            tasks: Rc::default(),
            sources: RefCell::new(sources),
            copier: Copier::default(),
            relayed: RefCell::default(),
        })
    }

    fn counts(&self) -> &Counts {
        self.local.counts()
    }

    /// Accepts for ever, on the worker's `LocalSet`; dropping the future stops accepting and leaves what is open.
    pub async fn accept(self: Rc<Self>, listener: Socket) {
        memory::bound_clients(&listener);
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.begin(stream, peer),
                Err(error) => {
                    brattice_wire::rarely!(warn, %error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Resets every relayed connection from or to these aliases, and returns when they are gone.
    pub async fn close_aliases(&self, aliases: &[(IpAddr, u32)]) {
        self.tasks.close(aliases).await;
    }

    /// Lets what is open end by itself for this long, then resets the rest.
    pub async fn finish(&self, grace: Duration) {
        self.tasks.finish(grace).await;
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.tasks.len()
    }

    fn begin(self: &Rc<Self>, stream: Stream, peer: SocketAddr) {
        let counts = self.counts();
        counts.connections_accepted.add(1);
        let client = stream;
        // Until both sides have finished a close would look like an orderly end of the data.
        client.reset_on_drop(true);
        let view = self.local.view();
        let state = &view.state;
        let alias = peer.ip().to_canonical();
        let Some(caller) = state.caller(alias) else {
            counts.unknown_peers.add(1);
            return;
        };
        let Some(taken) = self.local.shared.admit(&caller.usage, counts) else { return };
        let Ok(local) = client.local_addr() else { return };
        let Some((service, listener)) = state.service_at(caller.vpc, local.ip().to_canonical(), local.port()) else {
            counts.unknown_service.add(1);
            return;
        };
        let called = auth::Parties { workload: caller.index, vpc: caller.vpc, service: service.index };
        // guard: policies-of-bypass
        if !state.guards.relayable(&called) {
            counts.unrelayed.add(1);
            return;
        }
        let Some(route) = self.route(&view, service, listener) else {
            counts.connect_errors.add(1);
            return;
        };
        let Some(transfer) = self.local.shared.transfer(&caller.usage, self.local.index) else { return };
        let parties = Parties::default();
        parties.set(0, alias, caller.generation);
        let (ends, ended) = AbortHandle::new_pair();
        let origin =
            Origin { alias, generation: caller.generation, vip: local.ip().to_canonical(), port: local.port() };
        let called = (origin.vip, origin.port);
        let to = (Some(service.number), Some(route.group));
        let flow = self.local.book.connected(&state.records, (alias, caller.generation), peer.port(), called, to);
        let record = self.local.book.begin_relayed(&flow);
        record.meet(|met| (met.service, met.group) = to);
        let relayed = Relayed { origin, service: service.number, ends };
        let open = Open::new(Rc::clone(self), relayed, record, taken);
        let state = Arc::clone(state);
        self.tasks.spawn(parties.clone(), async move {
            let (mut open, _transfer) = (open, transfer);
            match Abortable::new(open.relay.serve(client, route, &parties, &open.record, state), ended).await {
                Ok(complete) => open.complete = complete,
                // Ended by a review: both sides are reset.
                Err(_) => open.record.fail(FailureReason::ClientAccessDenied),
            }
        });
    }

    /// Places in the table of open connections, empty ones included.
    pub(crate) fn span(&self) -> usize {
        self.relayed.borrow().capacity()
    }

    /// Resets those of the connections at some places that would not be relayed now; how many.
    pub(crate) fn review(&self, places: Range<usize>, state: &State) -> u64 {
        let relayed = self.relayed.borrow();
        let mut ended = 0;
        for connection in places.filter_map(|place| relayed.get(place)) {
            if !connection.is_allowed(state) {
                connection.ends.abort();
                ended += 1;
            }
        }
        ended
    }

    /// The targets of the default action, in the order in which they are tried; `None` if there is nowhere to go.
    fn route(&self, view: &View, service: &Service, listener: &Listener) -> Option<Route> {
        // A fixed response is HTTP, which is what a bypass leaves out.
        let Action::Forward(forward) = listener.default_action() else { return None };
        let mut balance = view.balance.borrow_mut();
        let number = *forward.groups.get(balance.share(forward)?)?;
        let group = view.state.group(number)?;
        let targets: Vec<_> = balance.targets(number, &group.targets).take(ATTEMPTS).cloned().collect();
        if targets.is_empty() {
            return None;
        }
        let limits = self.local.limits();
        // What the L7 path would let idle must not end here.
        let idle = [limits.body_idle_timeout_ms, limits.response_timeout_ms, service.idle_timeout_ms];
        Some(Route {
            group: number,
            targets,
            timeout: Duration::from_millis(group.connect_timeout_ms.into()),
            idle: Duration::from_millis(idle.into_iter().max().unwrap_or_default().into()),
        })
    }

    /// True: both sides have ended as they wanted.
    async fn serve(&self, client: Stream, route: Route, parties: &Parties, record: &Record, state: Arc<State>) -> bool {
        for target in &route.targets {
            parties.set(1, target.alias, target.generation);
            let source = self.sources.borrow_mut().turn(target.alias);
            let address = (target.alias, target.port).into();
            let connected = dial::workload(source, address, route.timeout).await;
            self.local.shared.failing.tried(address, &connected);
            match connected {
                Ok(stream) => {
                    record.meet(|met| met.target = Some(((target.address, target.port).into(), target.alias)));
                    self.local.book.settle(record, &state.records);
                    drop(state);
                    self.local.book.lasting(record);
                    let _held = self.local.held();
                    stream.reset_on_drop(true);
                    let copied = self.copy(&client, &stream, route.idle, record).await;
                    let complete = copied.is_ok();
                    client.reset_on_drop(!complete);
                    stream.reset_on_drop(!complete);
                    if copied.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
                        record.fail(FailureReason::ConnectionDurationExceeded);
                    }
                    return complete;
                }
                Err(error) => {
                    self.counts().connect_errors.add(1);
                    tracing::debug!(%error, target = %target.address, port = target.port, "a target cannot be reached");
                }
            }
        }
        self.local.book.settle(record, &state.records);
        record.fail(FailureReason::TargetConnectionError);
        false
    }

    /// Both directions, each until its sender has finished.
    async fn copy(&self, client: &Stream, target: &Stream, idle: Duration, record: &Record) -> io::Result<()> {
        let last = Cell::new(Instant::now());
        let ends = [client, target].map(|stream| End { stream, early: Bytes::new() });
        let moved = |way, bytes| {
            last.set(Instant::now());
            match way {
                Way::There => record.relayed_in(bytes),
                Way::Back => record.relayed_out(bytes),
            }
        };
        let [client, target] = ends;
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
            done = both => done,
            () = idles => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
