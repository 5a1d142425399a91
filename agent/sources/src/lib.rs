//! Sources of documents, and which owners' documents are in force.
//!
//! - [`directory`]: the policies directory: one bounded walk, its changes, and which files are still written.
//! - [`tree`]: what a source has, per owner.
//! - [`settle`]: whether an owner's files are written to the end. Pure.
//! - [`owners`]: per owner, all or nothing. Pure.
//! - [`linking`]: all owners' documents to one model.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

pub mod directory;
pub mod linking;
pub mod owners;
pub mod parsers;
pub mod settle;
pub mod source;
pub mod tree;
pub mod worker;
