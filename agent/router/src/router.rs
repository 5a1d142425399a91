//! The rules of a listener, compiled.

use brattice_wire::snapshot::Rule;

use crate::{
    hash::FastMap,
    paths::{NONE, Paths, Rank},
};

/// The rules of one listener as an index: by host, then method, then path.
///
/// A look-up asks at most four tables (with and without host, with and without method), each by hash, and descends one
/// tree of path segments in each: its cost grows with the length of the path, never with the number of rules.
#[derive(Debug, Default)]
pub struct Router {
    any_host: Methods,
    hosts: FastMap<Box<str>, Methods>,
    /// Rank, lowest priority first → index in the slice that was compiled.
    order: Vec<usize>,
}

#[derive(Debug, Default)]
struct Methods {
    any: Paths,
    methods: FastMap<Box<str>, Paths>,
}

impl Router {
    /// Compiles rules. The order of the slice does not matter: the lowest priority wins, and of equal priorities (which
    /// a valid listener does not have) the one that comes first.
    pub fn compile(rules: &[Rule]) -> Self {
        let mut order: Vec<usize> = (0..rules.len()).collect();
        order.sort_by_key(|index| rules[*index].priority);
        let mut router = Self::default();
        for (rank, index) in order.iter().enumerate() {
            let matches = &rules[*index].matches;
            let methods = match &matches.host {
                Some(host) => router.hosts.entry(host.as_str().into()).or_default(),
                None => &mut router.any_host,
            };
            let paths = match &matches.method {
                Some(method) => methods.methods.entry(method.as_str().into()).or_default(),
                None => &mut methods.any,
            };
            paths.insert(matches.path.as_ref(), rank);
        }
        router.order = order;
        router
    }

    /// The index, in the slice that was compiled, of the first rule that matches. `None`: the default action.
    ///
    /// `method` is compared as it is, `host` must be in lower case and without a port, `path` comes without the query.
    pub fn find(&self, method: &str, host: &str, path: &str) -> Option<usize> {
        let mut best = self.any_host.find(method, path, NONE);
        if !self.hosts.is_empty()
            && let Some(methods) = self.hosts.get(host)
        {
            best = methods.find(method, path, best);
        }
        self.order.get(best).copied()
    }
}

impl Methods {
    fn find(&self, method: &str, path: &str, best: Rank) -> Rank {
        let best = self.any.find(path, best);
        if self.methods.is_empty() {
            return best;
        }
        self.methods.get(method).map_or(best, |paths| paths.find(path, best))
    }
}
