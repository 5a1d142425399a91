//! What everything on one worker's thread shares: no lock, no atomics but the counts.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use brattice_decide::Authorizer;
use brattice_wire::engine::Limits;
use futures_util::future::AbortHandle;

use crate::{
    aliases::ClosedAliases,
    auth::{Reviews, Targets},
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
    tasks::Tasks,
    upstream::{balance::Balance, connector::Connector, pool::Pool},
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
    /// What targets are told of the way.
    pub(crate) told: Targets,
    pub(crate) reviews: Reviews,
    pub(crate) clients: Clients,
    pub(crate) book: Rc<Book>,
    /// Only the descriptors that are kept are left, as the sweeper saw it.
    pub(crate) crowded: Cell<bool>,
    pub(crate) random: RefCell<Random>,
    /// Set by an HTTP/2 stream's task when it is polled for the first time, taken by its request.
    pub(crate) stream: RefCell<Option<AbortHandle>>,
    view: RefCell<Rc<View>>,
    pub(crate) connector: Connector,
    pub(crate) closed: Rc<ClosedAliases>,
}

impl Local {
    pub(crate) fn new(shared: Arc<Shared>, index: u32, slot: Slot, book: Rc<Book>) -> Rc<Self> {
        let mut random = Random::from_system();
        let state = shared.state.load_full();
        let balance = RefCell::new(Balance::new(&state, None, &mut random));
        let (tasks, closed) = (Rc::<Tasks>::default(), Rc::<ClosedAliases>::default());
        Rc::new(Self {
            index,
            slot,
            connector: Connector::new(&shared, index, &tasks, &closed),
            clock: Rc::new(Clock::new(&shared.limits)),
            tasks,
            pool: Pool::default(),
            retry_buffers: RetryBuffers::default(),
            copier: Copier::default(),
            flights: Flights::default(),
            authorizer: Authorizer::default(),
            told: Targets::default(),
            reviews: Reviews::default(),
            clients: Clients::default(),
            book,
            crowded: Cell::default(),
            random: RefCell::new(random),
            stream: RefCell::default(),
            view: RefCell::new(Rc::new(View { state, balance })),
            closed,
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

    /// Closes everything from and to these aliases, and lets nothing new begin.
    pub(crate) async fn close_aliases(&self, aliases: &[(IpAddr, u32)]) {
        self.closed.close(aliases);
        self.pool
            .retain(|key| self.closed.allow(key.alias, key.generation), |caller| self.closed.allow_caller(*caller));
        self.tasks.close(aliases).await;
    }
}
