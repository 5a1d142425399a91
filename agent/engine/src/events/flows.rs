//! The subscriber that knows the open connections, for `brattice flows`.

use std::{cell::RefCell, rc::Rc, time::Instant};

use slab::Slab;

use super::{
    ConnectionEvent, RequestEvent, Subscriber, connection::ConnectionSpan, names::Names, request::RequestSpan,
};
use crate::queries::question::Question;

/// Rows that a worker gives for one question.
const MOST_ROWS: usize = 4_096;

/// The open connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Flows(RefCell<Slab<Rc<ConnectionSpan>>>);

impl Flows {
    /// A row for each, as far as there is room.
    pub(super) fn answer(&self, names: &Names, question: &Question) {
        let now = Instant::now();
        let open = self.0.borrow();
        for (_, connection) in open.iter().take(MOST_ROWS) {
            question.row(&connection.row(names, now));
        }
        question.left_out(open.len().saturating_sub(MOST_ROWS));
    }
}

impl Subscriber for Flows {
    #[inline]
    fn on_connection(&self, connection: &Rc<ConnectionSpan>, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::Opened => connection.key.set(self.0.borrow_mut().insert(Rc::clone(connection))),
            ConnectionEvent::Closed => {
                self.0.borrow_mut().try_remove(connection.key.get());
            }
            _ => {}
        }
    }

    #[inline]
    fn on_request(&self, request: &RequestSpan, event: &RequestEvent<'_>) {
        match *event {
            RequestEvent::Decided { .. } => request.show_in_connection(),
            RequestEvent::TargetChosen { address, alias } => {
                let last = &mut *request.connection.last.borrow_mut();
                (last.target, last.target_alias) = (Some(address), Some(alias));
            }
            _ => {}
        }
    }
}
