//! The trait of a source of documents.

use std::collections::BTreeMap;

use brattice_model::Owner;
use brattice_wire::api::OwnerView;

use crate::tree::{ReadError, Tree};

/// Where documents come from: the policies directory; an API or a Kubernetes cluster would be others.
///
/// A source has a tree of document files per owner. It decides nothing: what is valid, and whose documents are in force,
/// is decided the same way for every source ([`crate::owners`]).
pub trait DocumentSource: Send + 'static {
    /// Tells of its changes.
    type Changes: Changes;

    /// Tells of changes from now on. Called once, before the first [`Self::read`], within a Tokio runtime.
    fn changes(&self) -> Self::Changes;

    /// What each owner has now. Blocks.
    ///
    /// # Errors
    /// When nothing can be read at all. What is wrong with one owner's documents is an error in the tree, of that owner.
    fn read(&self) -> Result<Tree, ReadError>;

    /// Reports to the authors of the documents what became of them, where the source has a place for that. Called after
    /// every reading; blocks.
    fn report(&self, status: &BTreeMap<Owner, OwnerView>);
}

/// Changes of a source.
pub trait Changes {
    /// Waits until the source should be read again. May be dropped and called again: nothing is lost. A change that is told
    /// twice, or is none, does no harm.
    fn next(&mut self) -> impl Future<Output = ()>;
}
