//! Connections to targets: from an engine source, ended with the target's alias.

use std::{cell::RefCell, io, rc::Rc, sync::Arc, time::Duration};

use brattice_wire::snapshot::Target;
use tokio::sync::oneshot;

use super::{
    dial::{self, Sources},
    endpoint::Endpoint,
};
use crate::{
    aliases::ClosedAliases,
    state::Shared,
    tasks::{Parties, Tasks},
    transport::Stream,
};

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// connect(2) failed, or took too long.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The alias was taken away meanwhile.
    #[error("the target's address was removed")]
    Closed,
}

/// Connects a worker to targets.
pub(crate) struct Connector {
    shared: Arc<Shared>,
    sources: RefCell<Sources>,
    /// Attempts, with all else that is found by an alias.
    tasks: Rc<Tasks>,
    closed: Rc<ClosedAliases>,
}

impl Connector {
    pub(crate) fn new(shared: &Arc<Shared>, worker: u32, tasks: &Rc<Tasks>, closed: &Rc<ClosedAliases>) -> Self {
        let sources = RefCell::new(Sources::of(&shared.settings, worker));
        Self { shared: Arc::clone(shared), sources, tasks: Rc::clone(tasks), closed: Rc::clone(closed) }
    }

    /// A connection to an endpoint. The connect is a task of its own: it can be closed with the alias.
    pub(crate) async fn connect(&self, endpoint: &Rc<Endpoint>, timeout: Duration) -> Result<Stream, ConnectError> {
        let target = &endpoint.target;
        let allowed = || self.closed.allow(target.alias, target.generation);
        if !allowed() {
            return Err(ConnectError::Closed);
        }
        let (sender, receiver) = oneshot::channel();
        let source = self.sources.borrow_mut().turn(target.alias);
        let (shared, tried) = (Arc::clone(&self.shared), Rc::clone(endpoint));
        self.tasks.spawn(parties(target), async move {
            let connected = dial::workload(source, tried.address(), timeout).await;
            tried.connected(connected.is_ok());
            shared.failing.tried(tried.address(), &connected);
            // No receiver any more: the client has gone.
            let _ = sender.send(connected);
        });
        let stream = receiver.await.map_err(|_| ConnectError::Closed)??;
        // Closed between the end of the attempt and now.
        if allowed() { Ok(stream) } else { Err(ConnectError::Closed) }
    }
}

/// By which the tasks that talk with a target are found.
pub(super) fn parties(target: &Target) -> Parties {
    let parties = Parties::default();
    parties.set(0, target.alias, target.generation);
    parties
}
