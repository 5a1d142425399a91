//! What everything on one worker's thread shares: no lock, no atomics but the counts.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use brattice_router::hash::FastMap;
use brattice_wire::{engine::Limits, snapshot::Target};
use futures_util::future::AbortHandle;
use tokio::{net::TcpStream, sync::oneshot};

use crate::{
    auth::{Authorizer, Reviews},
    balance::Balance,
    copy::Copier,
    descriptors::Held,
    dial::{self, Sources},
    flights::Flights,
    heartbeat::Slot,
    http::{Clients, again::Rooms},
    pool::Pool,
    random::Random,
    records::book::Book,
    state::{Shared, State},
    stats::Counts,
    tasks::{Parties, Tasks},
};

/// Ticks in the shortest of the times that the sweeper watches: a time is kept with at most a quarter more.
const TICKS: u32 = 8;
/// A tick is at least this long ...
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// ... and at most this.
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// Time in ticks of the sweeper. Reading it costs a load, so every frame of a body can be stamped with it.
#[derive(Debug)]
pub(crate) struct Clock {
    tick: Cell<u32>,
    period: Duration,
}

impl Clock {
    pub(crate) fn new(limits: &Limits) -> Self {
        let shortest = limits.header_timeout_ms.min(limits.body_idle_timeout_ms).min(limits.response_timeout_ms);
        let shortest = shortest.min(limits.pool_idle_timeout_ms).min(limits.write_timeout_ms);
        let period = Duration::from_millis((shortest / TICKS).into()).clamp(SHORTEST_TICK, LONGEST_TICK);
        Self { tick: Cell::new(0), period }
    }

    /// Time between two ticks.
    pub(crate) fn period(&self) -> Duration {
        self.period
    }

    /// Now.
    pub(crate) fn tick(&self) -> u32 {
        self.tick.get()
    }

    /// The sweeper's turn.
    pub(crate) fn advance(&self) {
        self.tick.set(self.tick.get().wrapping_add(1));
    }

    /// So many ticks after a moment, at least `ms` have passed since it.
    pub(crate) fn ticks(&self, ms: u32) -> u32 {
        let ticks = u128::from(ms).div_ceil(self.period.as_millis().max(1)) + 1;
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Whether so many ticks have passed since `since`.
    pub(crate) fn over(&self, since: u32, ticks: u32) -> bool {
        self.since(since) >= ticks
    }

    /// Ticks that have passed since `since`.
    pub(crate) fn since(&self, since: u32) -> u32 {
        self.tick.get().wrapping_sub(since)
    }
}

/// The state in force, and whose turn it is in it.
pub(crate) struct View {
    pub(crate) state: Arc<State>,
    pub(crate) balance: RefCell<Balance>,
}

/// A worker, seen from its own thread.
pub(crate) struct Local {
    pub(crate) index: u32,
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Slot,
    pub(crate) clock: Rc<Clock>,
    /// Client connections, HTTP/2 streams, connects, connections to targets.
    pub(crate) tasks: Rc<Tasks>,
    pub(crate) pool: Pool,
    /// For requests that may be sent again.
    pub(crate) rooms: Rooms,
    pub(crate) copier: Copier,
    pub(crate) flights: Flights,
    pub(crate) authorizer: Authorizer,
    pub(crate) reviews: Reviews,
    pub(crate) clients: Clients,
    pub(crate) book: Rc<Book>,
    /// Only the descriptors that are kept are left, as the sweeper saw it.
    pub(crate) crowded: Cell<bool>,
    pub(crate) random: RefCell<Random>,
    /// Set by an HTTP/2 stream's task when it is polled for the first time, taken by its request.
    pub(crate) stream: RefCell<Option<AbortHandle>>,
    view: RefCell<Rc<View>>,
    sources: RefCell<Sources>,
    /// Aliases that were closed, with the last generation that was.
    retired: RefCell<FastMap<IpAddr, u32>>,
}

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// connect(2) failed, or took too long.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The alias was taken away meanwhile.
    #[error("the target's address was taken away")]
    Retired,
}

impl Local {
    pub(crate) fn new(shared: Arc<Shared>, index: u32, slot: Slot, book: Rc<Book>) -> Rc<Self> {
        let mut random = Random::from_system();
        let state = shared.state.load_full();
        let balance = RefCell::new(Balance::new(&state, None, &mut random));
        let sources = Sources::of(&shared.settings, index);
        Rc::new(Self {
            index,
            slot,
            clock: Rc::new(Clock::new(&shared.limits)),
            tasks: Rc::default(),
            pool: Pool::default(),
            rooms: Rooms::default(),
            copier: Copier::default(),
            flights: Flights::default(),
            authorizer: Authorizer::default(),
            reviews: Reviews::default(),
            clients: Clients::default(),
            book,
            crowded: Cell::default(),
            random: RefCell::new(random),
            stream: RefCell::default(),
            view: RefCell::new(Rc::new(View { state, balance })),
            sources: RefCell::new(sources),
            retired: RefCell::default(),
            shared,
        })
    }

    pub(crate) fn counts(&self) -> &Counts {
        self.shared.counts.worker(self.index)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Counts a socket towards a target.
    pub(crate) fn held(&self) -> Held {
        Held::new(&self.shared, self.index)
    }

    /// The state in force now. A request keeps what it got.
    pub(crate) fn view(&self) -> Rc<View> {
        let state = self.shared.state.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(&state, &view.state) {
            let old = view.balance.borrow();
            let balance = RefCell::new(Balance::new(&state, Some((&view.state, &old)), &mut self.random.borrow_mut()));
            drop(old);
            *view = Rc::new(View { state: Arc::clone(&state), balance });
        }
        Rc::clone(&view)
    }

    /// Whether this generation of an alias was not closed.
    pub(crate) fn allows(&self, alias: IpAddr, generation: u32) -> bool {
        self.retired.borrow().get(&alias).is_none_or(|closed| generation > *closed)
    }

    /// Closes everything from and to these aliases, and lets nothing new begin.
    pub(crate) async fn close_aliases(&self, aliases: &[(IpAddr, u32)]) {
        {
            let mut retired = self.retired.borrow_mut();
            for (alias, generation) in aliases {
                let known = retired.entry(*alias).or_default();
                *known = (*known).max(*generation);
            }
        }
        self.pool.retain(
            |key| self.allows(key.alias, key.generation),
            |(alias, generation)| self.allows(*alias, *generation),
        );
        self.tasks.close(aliases).await;
    }

    /// A connection to a target. The attempt is a task of its own: it can be closed with the alias.
    pub(crate) async fn connect(self: &Rc<Self>, target: &Target, timeout_ms: u32) -> Result<TcpStream, ConnectError> {
        if !self.allows(target.alias, target.generation) {
            return Err(ConnectError::Retired);
        }
        let (sender, receiver) = oneshot::channel();
        let source = self.sources.borrow_mut().turn(target.alias);
        let address: SocketAddr = (target.alias, target.port).into();
        let parties = Parties::default();
        parties.set(0, target.alias, target.generation);
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(parties, async move {
            let connected = dial::workload(source, address, Duration::from_millis(timeout_ms.into())).await;
            shared.failing.tried(address, &connected);
            // Nobody waits any more: the client has gone.
            let _ = sender.send(connected);
        });
        let stream = receiver.await.map_err(|_| ConnectError::Retired)??;
        // Closed between the end of the attempt and now.
        if self.allows(target.alias, target.generation) { Ok(stream) } else { Err(ConnectError::Retired) }
    }
}
