//! The policies directory: reading it with bounds ([`walk`]), noticing its changes ([`watch`]), and finding out which
//! process still writes ([`writers`]).

pub mod walk;
pub mod watch;
pub mod writers;

use std::collections::BTreeMap;
use std::path::PathBuf;

use brattice_model::Owner;
use brattice_wire::api::OwnerView;

use crate::source::{Changes, DocumentSource};
use crate::tree::{ReadError, Tree};

pub use walk::read;
pub use watch::Watch;

/// The policies directory as a source.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl DocumentSource for Directory {
    type Changes = Watch;

    fn changes(&self) -> Watch {
        Watch::new(&self.0)
    }

    fn read(&self) -> Result<Tree, ReadError> {
        read(&self.0)
    }

    /// A directory has no place for it: `brattice status` shows it, and nothing is written where documents are.
    fn report(&self, _: &BTreeMap<Owner, OwnerView>) {}
}

impl Changes for Watch {
    async fn next(&mut self) {
        self.changed().await;
    }
}
