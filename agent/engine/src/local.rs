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
use tokio::sync::oneshot;

use crate::{
    auth::{Authorizer, Reviews},
    clock::Clock,
    copy::Copier,
    descriptors::Held,
    flights::Flights,
    heartbeat::Slot,
    http::{Clients, retry_buffer::RetryBuffers},
    random::Random,
    records::book::Book,
    state::{Shared, State},
    stats::Counts,
    tasks::{Parties, Tasks},
    transport::Stream,
    upstream::{
        balance::Balance,
        dial::{self, Sources},
        pool::Pool,
    },
};

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
    pub(crate) retry_buffers: RetryBuffers,
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
            retry_buffers: RetryBuffers::default(),
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
    pub(crate) async fn connect(self: &Rc<Self>, target: &Target, timeout_ms: u32) -> Result<Stream, ConnectError> {
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
