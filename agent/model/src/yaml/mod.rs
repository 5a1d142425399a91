//! YAML text to a tree with positions, and from the tree to typed values, collecting every error on the way.

mod decoder;
mod tree;

pub(crate) use decoder::{Decoder, Fields};
pub(crate) use tree::{Content, Mark, Node, read};
