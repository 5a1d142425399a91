//! The content of a source of documents, per owner.

use std::collections::BTreeMap;
use std::path::PathBuf;

use brattice_model::{Diagnostic, Owner, Source};

use crate::settle::Look;

/// What one walk found.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The files of each owner. The operator is always there.
    pub owners: BTreeMap<Owner, Found>,
    /// Set when the accounts' folders could not be listed: an account that is missing here is then unknown, not gone.
    pub accounts_unknown: bool,
}

/// The files of an owner.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its sources, sorted by path, or what is wrong with its folder.
    pub sources: Result<Vec<Source>, Vec<String>>,
    /// What its files looked like.
    pub look: Look,
    /// Files that are passed over, though they look as if they were meant.
    pub notes: Vec<Diagnostic>,
}

impl From<Result<Vec<Source>, Vec<String>>> for Found {
    /// Files that were not changed for long.
    fn from(sources: Result<Vec<Source>, Vec<String>>) -> Self {
        Self { sources, look: Look::default(), notes: Vec::new() }
    }
}

#[cfg(test)]
impl Found {
    /// One file with this text, where an owner's documents are.
    pub(crate) fn one_file(owner: &Owner, text: &str) -> Self {
        let path = match owner {
            Owner::Operator => "node.yaml".to_owned(),
            Owner::Account(name) => format!("accounts/{name}/x.yaml"),
        };
        Ok(vec![Source { path, text: text.to_owned() }]).into()
    }
}

impl Tree {
    /// Whether there is no document at all and nothing wrong: most likely a directory that is not mounted yet.
    pub fn is_empty(&self) -> bool {
        let nothing = |found: &Found| matches!(&found.sources, Ok(sources) if sources.is_empty());
        !self.accounts_unknown && self.owners.values().all(nothing)
    }
}

/// Why there is nothing to read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such directory.
    #[error(
        "{0} does not exist: not mounted or not created yet? Create it, or name another one (`policies` of agent.yaml, --policies); until then the last good documents stay in force"
    )]
    Missing(PathBuf),
    /// It cannot be opened.
    #[error("{path} cannot be read as a directory: {source}; the last good documents stay in force")]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The kernel's word.
        source: std::io::Error,
    },
}
