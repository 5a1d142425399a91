//! The policies directory: reading it with bounds ([`walk`]), noticing its changes ([`watch`]), and telling who still
//! writes ([`writers`]).

pub mod walk;
pub mod watch;
pub mod writers;

pub use walk::read;
