//! Path conditions of the rules that share a host and a method.

use brattice_wire::snapshot::{PathMatch, PathMatchKind};

use crate::hash::FastMap;

/// Longest path that is lowered without an allocation; a condition has at most 200 characters.
const LOWERED: usize = 256;

/// Place of a rule in the order of priorities; the lowest wins.
pub(crate) type Rank = usize;
/// Later than every rule.
pub(crate) const NONE: Rank = Rank::MAX;

/// Conditions on the path, each with the first rule that has it.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// First rule without a path condition.
    any: Option<Rank>,
    /// Compared as they are.
    exactly: Set,
    /// Written in lower case, compared with the path in lower case (ASCII).
    lowered: Set,
    /// Length of the longest condition in `lowered`.
    lowered_longest: usize,
}

#[derive(Debug, Default)]
struct Set {
    exact: FastMap<Box<str>, Rank>,
    prefix: Option<Box<Segment>>,
}

/// A node of the tree of prefixes; its key in the parent is one path segment.
#[derive(Debug, Default)]
struct Segment {
    rank: Option<Rank>,
    next: FastMap<Box<str>, Segment>,
}

impl Paths {
    /// Adds a rule; rules come in ascending rank, so the first one with a condition keeps it.
    pub(crate) fn insert(&mut self, condition: Option<&PathMatch>, rank: Rank) {
        let Some(condition) = condition else {
            self.any.get_or_insert(rank);
            return;
        };
        if condition.case_sensitive {
            self.exactly.insert(condition.kind, &condition.value, rank);
        } else {
            self.lowered_longest = self.lowered_longest.max(condition.value.len());
            self.lowered.insert(condition.kind, &condition.value.to_ascii_lowercase(), rank);
        }
    }

    /// The first rule that `path` meets, if it comes before `best`; else `best`.
    pub(crate) fn find(&self, path: &str, best: Rank) -> Rank {
        let best = best.min(self.any.unwrap_or(NONE));
        let best = self.exactly.find(path, best);
        if self.lowered.is_empty() {
            return best;
        }
        // Bytes after the longest condition cannot change the outcome, but one more tells `/a` from `/ab`.
        let mut end = path.len().min(self.lowered_longest + 1);
        while !path.is_char_boundary(end) {
            end += 1;
        }
        let mut room = [0; LOWERED];
        let Some(room) = room.get_mut(..end) else {
            return self.lowered.find(&path[..end].to_ascii_lowercase(), best);
        };
        room.copy_from_slice(&path.as_bytes()[..end]);
        room.make_ascii_lowercase();
        match std::str::from_utf8(room) {
            Ok(lower) => self.lowered.find(lower, best),
            Err(_) => best,
        }
    }
}

impl Set {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefix.is_none()
    }

    fn insert(&mut self, kind: PathMatchKind, value: &str, rank: Rank) {
        match kind {
            PathMatchKind::Exact => {
                self.exact.entry(value.into()).or_insert(rank);
            }
            PathMatchKind::Prefix => {
                let mut node: &mut Segment = self.prefix.get_or_insert_default();
                let value = value.strip_suffix('/').unwrap_or(value);
                if let Some(segments) = value.strip_prefix('/') {
                    for segment in segments.split('/') {
                        node = node.next.entry(segment.into()).or_default();
                    }
                }
                node.rank.get_or_insert(rank);
            }
        }
    }

    fn find(&self, path: &str, mut best: Rank) -> Rank {
        if !self.exact.is_empty()
            && let Some(rank) = self.exact.get(path)
        {
            best = best.min(*rank);
        }
        let (Some(root), Some(segments)) = (&self.prefix, path.strip_prefix('/')) else { return best };
        let mut node: &Segment = root;
        best = best.min(node.rank.unwrap_or(NONE));
        for segment in segments.split('/') {
            if node.next.is_empty() {
                break;
            }
            match node.next.get(segment) {
                Some(next) => node = next,
                None => break,
            }
            best = best.min(node.rank.unwrap_or(NONE));
        }
        best
    }
}
