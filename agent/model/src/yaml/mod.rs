//! YAML text to a tree with positions, and from the tree to typed values, collecting every error on the way.

mod decoder;
mod policy;
mod tree;

pub(crate) use decoder::{Decoder, Fields};
pub(crate) use policy::diagnostic as policy_diagnostic;
pub(crate) use tree::{Content, Inside, Mark, Node, read};
