//! What is written down about requests and connections.
//!
//! ```text
//! worker: Record (one per request) ─ends─► Book ─► Ring          the latest requests, for `explain` and `logs`
//!                                            ├───► Series        metrics
//!                                            ├───► chunks ─────► log thread ─► access log
//!                                            └───► chunks ─────► desk ───────► followers (`logs --follow`)
//!         Flow (one per connection) ──────► Book ◄── desk: flows, backlog, recall
//! ```
//!
//! - [`record`], [`flow`]: what is known of a request and of a connection while it lasts.
//! - [`names`]: the texts of a snapshot, escaped once; [`place`]: those of what a request met.
//! - [`line`], [`json`], [`time`]: a line of the access log; [`past`]: what is remembered.
//! - [`book`], [`ring`]: a worker's records; its thread alone touches them, and in a steady state they allocate nothing.
//! - [`outlets`], [`log`], [`desk`], [`ask`]: what leaves the workers, and where it goes.

#[cfg(test)]
mod allocations;
pub(crate) mod ask;
pub(crate) mod book;
pub(crate) mod desk;
pub(crate) mod flow;
pub(crate) mod json;
pub(crate) mod line;
pub mod log;
pub mod names;
pub mod outlets;
mod past;
pub(crate) mod place;
pub(crate) mod record;
pub(crate) mod ring;
pub(crate) mod time;
