//! The policies directory: reading it with bounds ([`read`]), noticing its changes ([`watch`]), and telling whether they
//! are written to the end ([`settle`], [`writers`]).

pub mod read;
pub mod settle;
pub mod watch;
pub mod writers;
