//! A subscriber for tests: remembers what happened, in order.

use std::{
    fmt::Debug,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use super::{ConnectionEvent, RequestEvent, Subscriber, WorkerEvent, connection::ConnectionSpan, request::RequestSpan};

/// What happened on all workers, by the names of the events; `None`: it is not asked for.
#[derive(Debug, Default)]
pub(crate) struct Recorded(Mutex<Option<Vec<String>>>);

impl Recorded {
    fn events(&self) -> std::sync::MutexGuard<'_, Option<Vec<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what happened so far, and records from now on.
    pub(crate) fn start(&self) {
        *self.events() = Some(Vec::new());
    }

    /// What happened since the start.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.events().clone().unwrap_or_default()
    }

    fn push(&self, event: &impl Debug) {
        if let Some(events) = &mut *self.events() {
            let text = format!("{event:?}");
            events.push(text.split([' ', '{']).next().unwrap_or_default().to_owned());
        }
    }
}

/// A worker's part of it.
#[derive(Debug)]
pub(super) struct Recording(pub(super) Arc<Recorded>);

impl Subscriber for Recording {
    fn on_worker(&self, event: &WorkerEvent) {
        self.0.push(event);
    }

    fn on_connection(&self, _connection: &Rc<ConnectionSpan>, event: &ConnectionEvent) {
        self.0.push(event);
    }

    fn on_request(&self, _request: &RequestSpan, event: &RequestEvent<'_>) {
        match event {
            // What refers to a whole snapshot would be long.
            RequestEvent::Decided { .. } => self.0.push(&format_args!("Decided")),
            RequestEvent::HeadRead { .. } => self.0.push(&format_args!("HeadRead")),
            event => self.0.push(event),
        }
    }
}
