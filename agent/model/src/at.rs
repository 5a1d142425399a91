//! Positions in the model's lists.

use std::cmp::Ordering;
use std::fmt::{self, Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// The position of an entity in the list of its kind, which no other list takes.
pub(crate) struct At<T> {
    position: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T> At<T> {
    pub(crate) const fn new(position: usize) -> Self {
        Self { position, kind: PhantomData }
    }

    pub(crate) const fn position(self) -> usize {
        self.position
    }

    /// The entity, of the list that the position was made for.
    pub(crate) fn of(self, list: &[T]) -> &T {
        &list[self.position]
    }
}

// Derived, these would ask the same of the entity.
impl<T> Clone for At<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for At<T> {}

impl<T> Debug for At<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.position.fmt(formatter)
    }
}

impl<T> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl<T> Eq for At<T> {}

impl<T> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for At<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.position.cmp(&other.position)
    }
}

impl<T> Hash for At<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.position.hash(state);
    }
}
