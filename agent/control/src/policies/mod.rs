//! The policies directory: reading it with bounds ([`read`]) and noticing its changes ([`watch`]).

pub mod read;
pub mod watch;
