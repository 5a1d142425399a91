//! Tables of rules by texts.

use brattice_wire::rules::{PathMatchKind, ValueMatch};

use crate::{
    RequestHead,
    condition::{Condition, Source},
    field,
    tree::{Place, Tree},
    value::folded,
};

/// Place of a rule in the order in which rules are tried; the lowest that matches wins.
pub(crate) type Rank = usize;

/// Counts comparisons, or does not.
pub(crate) trait Tally {
    fn add(&mut self, comparisons: u64);
}

/// Does not.
pub(crate) struct Uncounted;

impl Tally for Uncounted {
    fn add(&mut self, _: u64) {}
}

/// A look-up.
pub(crate) struct Search<'a, R: ?Sized> {
    pub(crate) request: &'a R,
    /// By rank: what the index leaves open.
    pub(crate) open: &'a [Box<[Condition]>],
}

/// A value that distinguishes rules, beside the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Header(Box<str>),
    Query(Box<str>),
}

/// A condition on such a value: text, and whether in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    place: Place,
    text: Box<[u8]>,
    fold: bool,
}

impl Source<'_> {
    /// Whether the index tells all that it asks for.
    pub(crate) fn is_indexed(&self) -> bool {
        match self {
            Self::Method(_) | Self::Host(_) => true,
            Self::Path(path) => path.kind != PathMatchKind::Regex,
            Self::Header(_) | Self::Query(..) => self.key().is_some(),
            Self::Grpc(_) | Self::Port(_) | Self::Vpcs(_) => false,
        }
    }

    /// As an entry of a table of values.
    pub(crate) fn key(&self) -> Option<(Key, Entry)> {
        let (key, value, fold) = match self {
            Self::Header(header) if !header.invert => {
                (Key::Header(header.name.as_str().into()), &header.value, !header.case_sensitive)
            }
            Self::Query(name, value) => (Key::Query((*name).into()), *value, false),
            _ => return None,
        };
        let (place, text) = match value {
            ValueMatch::Exact(text) => (Place::All, text),
            ValueMatch::Prefix(text) => (Place::Start, text),
            _ => return None,
        };
        Some((key, Entry { place, text: folded(text, fold), fold }))
    }

    /// Whether it is a regular expression.
    pub(crate) fn is_regex(&self) -> bool {
        match self {
            Self::Path(path) => path.kind == PathMatchKind::Regex,
            Self::Header(header) => matches!(header.value, ValueMatch::Regex(_)),
            Self::Query(_, value) => matches!(value, ValueMatch::Regex(_)),
            _ => false,
        }
    }
}

/// Rules by a text.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// Compared as it is.
    exactly: Tree<Rules>,
    /// Compared in lower case.
    folded: Tree<Rules>,
}

/// Rules that the tables so far do not tell apart.
#[derive(Debug, Default)]
struct Rules {
    /// Those without further entries, ascending.
    ranks: Vec<Rank>,
    /// The others by their next entry, in the order of the first rule of each.
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    /// The first rule in it.
    first: Rank,
    key: Key,
    values: Texts,
}

impl Texts {
    /// Adds a rule that comes after all that are in.
    pub(crate) fn insert(&mut self, place: Place, text: &[u8], fold: bool, rank: Rank, keys: &[(Key, Entry)]) {
        let tree = if fold { &mut self.folded } else { &mut self.exactly };
        tree.entry(place, text).insert(rank, keys);
    }

    /// The first rule that matches, if it comes before `best`; else `best`.
    pub(crate) fn find<R: RequestHead + ?Sized>(
        &self,
        text: &[u8],
        search: &Search<'_, R>,
        mut best: Rank,
        tally: &mut impl Tally,
    ) -> Rank {
        for (tree, fold) in [(&self.exactly, false), (&self.folded, true)] {
            let steps = tree.walk(text, fold, |_, _, rules| best = rules.find(search, best, tally));
            tally.add(steps);
        }
        best
    }
}

impl Rules {
    fn insert(&mut self, rank: Rank, keys: &[(Key, Entry)]) {
        let Some(((key, entry), keys)) = keys.split_first() else {
            self.ranks.push(rank);
            return;
        };
        let table = match self.tables.iter().position(|table| table.key == *key) {
            Some(place) => &mut self.tables[place],
            None => self.tables.push_mut(Table { first: rank, key: key.clone(), values: Texts::default() }),
        };
        table.values.insert(entry.place, &entry.text, entry.fold, rank, keys);
    }

    fn find<R: RequestHead + ?Sized>(&self, search: &Search<'_, R>, mut best: Rank, tally: &mut impl Tally) -> Rank {
        for rank in &self.ranks {
            if *rank >= best {
                break;
            }
            tally.add(1);
            let fits = |condition: &Condition| {
                tally.add(1);
                condition.matches(search.request)
            };
            if search.open[*rank].iter().all(fits) {
                best = *rank;
                break;
            }
        }
        for table in &self.tables {
            if table.first >= best {
                break;
            }
            tally.add(1);
            let found = match &table.key {
                Key::Header(name) => {
                    field::header(search.request, name, |value| table.values.find(value, search, best, tally))
                }
                Key::Query(name) => field::query(search.request.query(), name.as_bytes(), |value| {
                    table.values.find(value, search, best, tally)
                }),
            };
            best = found.unwrap_or(best);
        }
        best
    }
}
