//! Which rule of a listener a request meets, and which target group gets it. Pure: no I/O, no clock.
//!
//! - [`Router`]: the rules of a listener, indexed so that a look-up costs the same with 10 rules as with 2,000.
//! - [`Shares`]: a weighted choice that is never further than one request from the exact share.
//! - [`hash`]: the hasher of both, for tables whose keys only the operator writes.

pub mod hash;
mod paths;
mod router;
mod shares;

pub use router::Router;
pub use shares::Shares;
