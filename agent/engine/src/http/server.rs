//! The HTTP server of one worker: what its connections share.

use std::{cell::RefCell, ops::Range, rc::Rc};

use brattice_decide::Authorizer;
use brattice_wire::records::FailureReason;
use futures_util::future::AbortHandle;
use slab::Slab;

use super::{
    control::{Control, Verdict},
    http1::spare::Spare,
};
use crate::{
    active_requests::ActiveRequests, auth::TargetFields, copy::Copier, events::ConnectionEvent, limits::Limit,
    local::Local, random::Random, tasks::Tasks, upstream::Upstream, views::Views,
};

/// What all HTTP connections of a worker share.
pub(crate) struct Server {
    pub(crate) local: Rc<Local>,
    pub(crate) views: Rc<Views>,
    pub(crate) clients: Clients,
    /// Room for what connections of HTTP/1 read and write.
    pub(crate) spare: Rc<Spare>,
    pub(crate) active_requests: Rc<ActiveRequests>,
    pub(crate) authorizer: Authorizer,
    /// The fields about the route for targets.
    pub(crate) target_fields: TargetFields,
    pub(crate) upstream: Rc<Upstream>,
    /// After an accepted upgrade.
    pub(crate) copier: Copier,
    /// Connections of clients, streams of theirs, and all that leads to targets.
    pub(crate) tasks: Rc<Tasks>,
    /// For request ids.
    pub(crate) random: RefCell<Random>,
    /// Set by an HTTP/2 stream's task when it is polled for the first time, taken by its request.
    pub(crate) stream: RefCell<Option<AbortHandle>>,
}

impl Server {
    pub(crate) fn new(local: &Rc<Local>, views: &Rc<Views>, upstream: Rc<Upstream>) -> Rc<Self> {
        Rc::new(Self {
            local: Rc::clone(local),
            views: Rc::clone(views),
            clients: Clients::default(),
            spare: Rc::default(),
            active_requests: ActiveRequests::new(local),
            authorizer: Authorizer::default(),
            target_fields: TargetFields::default(),
            tasks: Rc::clone(&upstream.tasks),
            upstream,
            copier: Copier::default(),
            random: RefCell::new(Random::from_system()),
            stream: RefCell::default(),
        })
    }
}

/// All client connections of a worker.
#[derive(Default)]
pub(crate) struct Clients(pub(super) RefCell<Slab<Rc<Control>>>);

impl Clients {
    /// Client connections open now.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// They take no new requests, and end when those in flight are done.
    pub(crate) fn drain(&self) {
        for (_, control) in self.0.borrow().iter() {
            control.decide(Verdict::Drain);
        }
    }

    /// The engine stops: they end now, whatever is in flight.
    pub(crate) fn stop(&self) {
        for (_, control) in self.0.borrow().iter() {
            control.end(Verdict::Close, FailureReason::EngineStopped);
        }
    }

    /// Places in the table, empty ones included.
    pub(crate) fn span(&self) -> usize {
        self.0.borrow().capacity()
    }

    /// Connections at some places of the table.
    pub(crate) fn slice(&self, places: Range<usize>, each: impl FnMut(&Rc<Control>)) {
        let clients = self.0.borrow();
        places.filter_map(|place| clients.get(place)).for_each(each);
    }

    /// Ends what idles or begins too slowly.
    pub(crate) fn sweep(&self, local: &Local, header_ticks: u32, write_ticks: u32) {
        let clock = &local.clock;
        for (_, control) in self.0.borrow().iter() {
            control.look_for_client(clock);
            // guard: write-stall
            if control.write_stall.since().is_some_and(|since| clock.over(since, write_ticks)) {
                control.write_stall.progress();
                control.connection.emit(ConnectionEvent::LimitReached(Limit::WriteTimeout));
                control.reset(FailureReason::ConnectionDurationExceeded);
            } else if let Some(since) = control.header_section_since() {
                if clock.over(since, header_ticks) {
                    control.decide(Verdict::HeaderTimeout);
                }
            } else if control.open.get() == 0 {
                let since = |ticks| clock.over(control.touched.get(), ticks) && clock.over(control.wrote.get(), ticks);
                let idle = control.idle_ticks.get();
                if since(idle.saturating_add(header_ticks)) {
                    // It was asked to end, and did not: its client takes nothing any more.
                    control.reset(FailureReason::ConnectionDurationExceeded);
                } else if since(idle) {
                    control.decide(Verdict::Drain);
                }
            }
        }
    }
}
