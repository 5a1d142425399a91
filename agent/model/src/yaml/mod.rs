//! YAML text to a tree with positions, and from the tree to typed values, collecting every error on the way.
//!
//! The tree is the one reader of YAML: documents, the agent's settings and the cases of `policy test` all come from it, so
//! that duplicate keys, anchors and aliases are refused everywhere, and values stay as they were written.

mod decoder;
mod mark;
mod policy;
mod syntax;
mod tree;

pub(crate) use decoder::{Decoder, Fields};
pub use mark::Mark;
pub(crate) use policy::diagnostic as policy_diagnostic;
pub(crate) use tree::Inside;
pub use tree::{Content, Key, Node, Refusal, is_null, read};
