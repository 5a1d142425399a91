//! Endpoints: what a worker knows of a target, for as long as a revision names it. Each worker counts for itself, without a
//! lock.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use brattice_wire::snapshot::{AliasGeneration, Target};

use crate::admission::UpstreamSocket;

/// Endpoints of a target group that a request, or a connection that is served as TCP, tries at most.
pub(crate) const ENDPOINTS: u8 = 3;

/// The key of an endpoint, the same in all groups and revisions: alias, port, generation of the alias.
pub(crate) type EndpointKey = (IpAddr, u16, AliasGeneration);

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

    /// Its key.
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

    /// The result of a connect.
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

/// The endpoints that a target group has in one state.
#[derive(Debug)]
pub(crate) struct GroupEndpoints {
    all: Rc<[Rc<Endpoint>]>,
    /// Those that the group has in the state in force: one cell for all states of the group.
    in_force: Rc<RefCell<Rc<[Rc<Endpoint>]>>>,
}

impl GroupEndpoints {
    /// Of a state that comes in force. `old`: those of the same group in the state before.
    pub(crate) fn new(all: Rc<[Rc<Endpoint>]>, old: Option<&Self>) -> Rc<Self> {
        let in_force = old.map_or_else(Rc::default, |old| Rc::clone(&old.in_force));
        *in_force.borrow_mut() = Rc::clone(&all);
        Rc::new(Self { all, in_force })
    }

    pub(crate) fn all(&self) -> &[Rc<Endpoint>] {
        &self.all
    }

    /// The state in force does not have the group.
    pub(crate) fn remove(&self) {
        *self.in_force.borrow_mut() = Rc::default();
    }

    fn is_in_force(&self, endpoint: &Rc<Endpoint>) -> bool {
        let in_force = self.in_force.borrow();
        Rc::ptr_eq(&in_force, &self.all) || in_force.iter().any(|other| Rc::ptr_eq(other, endpoint))
    }
}

/// Endpoints of a target group, in the order in which they are tried, each once. The first one is of the state that decided
/// about the request. Each further one must be in the group in the state in force, as a connect may hang for seconds.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    group: Rc<GroupEndpoints>,
    next: usize,
    /// Those not yet looked at.
    left: u8,
    /// One was tried.
    begun: bool,
}

impl Candidates {
    /// From the one at `first` on; at most [`ENDPOINTS`].
    pub(crate) fn new(group: &Rc<GroupEndpoints>, first: usize) -> Self {
        let left = group.all.len().min(ENDPOINTS.into()).try_into().expect("no more than ENDPOINTS");
        Self { group: Rc::clone(group), next: first, left, begun: false }
    }

    /// The next one, which stays the next.
    pub(crate) fn first(&self) -> Option<&Rc<Endpoint>> {
        if self.left == 0 { None } else { self.group.all.get(self.next % self.group.all.len()) }
    }
}

impl Iterator for Candidates {
    type Item = Rc<Endpoint>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(endpoint) = self.first().cloned() {
            self.next = self.next.wrapping_add(1);
            self.left -= 1;
            if !std::mem::replace(&mut self.begun, true) || self.group.is_in_force(&endpoint) {
                return Some(endpoint);
            }
        }
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::events;

    pub(crate) fn target(last: u8) -> Target {
        Target {
            alias: [100, 127, 0, last].into(),
            port: 80,
            address: [10, 0, 0, last].into(),
            generation: AliasGeneration::new(1),
        }
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
            let tried: Vec<_> = Candidates::new(&GroupEndpoints::new(Rc::clone(&endpoints), None), first)
                .map(|tried| endpoints.iter().position(|endpoint| Rc::ptr_eq(endpoint, &tried)).unwrap())
                .collect();
            assert_eq!(tried, expected, "{count} from {first}");
        }
    }

    #[test]
    fn further_candidates_are_those_that_the_group_still_has() {
        let endpoints: Rc<[_]> = (0..3).map(|n| Endpoint::new(target(n))).collect();
        let group = GroupEndpoints::new(Rc::clone(&endpoints), None);
        let rest =
            |mut candidates: Candidates| candidates.by_ref().map(|endpoint| endpoint.target.alias).collect::<Vec<_>>();
        let alias = |n: usize| endpoints[n].target.alias;
        let mut candidates = Candidates::new(&group, 0);
        assert_eq!(candidates.next().map(|first| first.target.alias), Some(alias(0)));
        assert_eq!(rest(candidates.clone()), [alias(1), alias(2)], "control: nothing has changed");
        // Another state has the second one no more; it is that of the same group.
        let next = GroupEndpoints::new([&endpoints[0], &endpoints[2]].map(Rc::clone).into(), Some(&group));
        assert_eq!(rest(candidates.clone()), [alias(2)]);
        assert_eq!(rest(Candidates::new(&group, 1)), [alias(1), alias(2), alias(0)], "the first is as decided");
        next.remove();
        assert!(rest(candidates).is_empty());
    }
}
