//! Endpoints: what a worker knows of a target, for as long as a revision names it. Each worker counts for itself, without a
//! lock.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use brattice_wire::snapshot::Target;

use crate::admission::UpstreamSocket;

/// Endpoints of a target group that a request, or a connection that is served as TCP, tries at most.
pub(crate) const ENDPOINTS: usize = 3;

/// What makes two targets the same endpoint, in whatever group and revision they are: alias, port, generation of the alias.
pub(crate) type EndpointKey = (IpAddr, u16, u32);

/// A target, and what this worker has to do with it now.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) target: Target,
    /// Open connections.
    connections: Cell<u32>,
    /// Attempts whose request has not ended.
    requests: Cell<u32>,
    /// Connects that failed since the last one that succeeded.
    failures: Cell<u32>,
}

impl Endpoint {
    pub(crate) fn new(target: Target) -> Rc<Self> {
        Rc::new(Self { target, connections: Cell::new(0), requests: Cell::new(0), failures: Cell::new(0) })
    }

    /// What it is known by.
    pub(crate) fn key(target: &Target) -> EndpointKey {
        (target.alias, target.port, target.generation)
    }

    /// Alias and port: what is connected to.
    pub(crate) fn address(&self) -> SocketAddr {
        (self.target.alias, self.target.port).into()
    }

    /// Real address and port, for records.
    pub(crate) fn real_address(&self) -> SocketAddr {
        (self.target.address, self.target.port).into()
    }

    /// Counts a connection until the answer is dropped. `held`: it is a descriptor of the process, too.
    pub(crate) fn connection(self: &Rc<Self>, held: UpstreamSocket) -> OpenConnection {
        self.connections.set(self.connections.get() + 1);
        OpenConnection { endpoint: Rc::clone(self), _held: held }
    }

    /// Counts a request until the answer is dropped.
    pub(crate) fn request(self: &Rc<Self>) -> InFlight {
        self.requests.set(self.requests.get() + 1);
        InFlight(Rc::clone(self))
    }

    /// What became of a connect.
    pub(crate) fn connected(&self, succeeded: bool) {
        let failures = if succeeded { 0 } else { self.failures.get().saturating_add(1) };
        let before = self.failures.replace(failures);
        if before.min(1) != failures.min(1) {
            let (connections, requests) = (self.connections.get(), self.requests.get());
            tracing::debug!(target = %self.real_address(), succeeded, connections, requests, "connects have another outcome");
        }
    }
}

/// An open connection to an endpoint.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    endpoint: Rc<Endpoint>,
    _held: UpstreamSocket,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.endpoint.connections.set(self.endpoint.connections.get() - 1);
    }
}

/// A request in flight at an endpoint, or an attempt at one.
#[derive(Debug)]
pub(crate) struct InFlight(Rc<Endpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
    }
}

/// Endpoints of a target group, in the order in which they are tried, each once.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    endpoints: Rc<[Rc<Endpoint>]>,
    next: usize,
    left: usize,
}

impl Candidates {
    /// From the one at `first` on; at most [`ENDPOINTS`].
    pub(crate) fn new(endpoints: &Rc<[Rc<Endpoint>]>, first: usize) -> Self {
        Self { endpoints: Rc::clone(endpoints), next: first, left: endpoints.len().min(ENDPOINTS) }
    }

    /// The next one, which stays the next.
    pub(crate) fn first(&self) -> Option<&Rc<Endpoint>> {
        if self.left == 0 { None } else { self.endpoints.get(self.next % self.endpoints.len()) }
    }
}

impl Iterator for Candidates {
    type Item = Rc<Endpoint>;

    fn next(&mut self) -> Option<Self::Item> {
        let endpoint = self.first().cloned()?;
        self.next = self.next.wrapping_add(1);
        self.left -= 1;
        Some(endpoint)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::events;

    pub(crate) fn target(last: u8) -> Target {
        Target { alias: [100, 127, 0, last].into(), port: 80, address: [10, 0, 0, last].into(), generation: 1 }
    }

    #[test]
    fn connections_requests_and_failures_are_counted() {
        let endpoint = Endpoint::new(target(1));
        let counted = || (endpoint.connections.get(), endpoint.requests.get());
        let events = events::tests::for_tests(&Arc::default());
        let connection = endpoint.connection(UpstreamSocket::new(&events));
        let (one, two) = (endpoint.request(), endpoint.request());
        assert_eq!(counted(), (1, 2));
        drop((one, two));
        assert_eq!(counted(), (1, 0));
        drop(connection);
        assert_eq!(counted(), (0, 0));
        for succeeded in [false, false] {
            endpoint.connected(succeeded);
        }
        assert_eq!(endpoint.failures.get(), 2);
        endpoint.connected(true);
        assert_eq!(endpoint.failures.get(), 0);
    }

    #[test]
    fn candidates_are_tried_once_each() {
        for (count, first, expected) in
            [(0, 5, vec![]), (1, 5, vec![0]), (2, 1, vec![1, 0]), (3, 7, vec![1, 2, 0]), (5, 4, vec![4, 0, 1])]
        {
            let endpoints: Rc<[_]> = (0..count).map(|n| Endpoint::new(target(n))).collect();
            let tried: Vec<_> = Candidates::new(&endpoints, first)
                .map(|tried| endpoints.iter().position(|endpoint| Rc::ptr_eq(endpoint, &tried)).unwrap())
                .collect();
            assert_eq!(tried, expected, "{count} from {first}");
        }
    }
}
