//! Connections of clients that speak HTTP/1: what comes is read by [`brattice_http1`], served by [`super::request`], and answered.
//!
//! ```text
//!                      ┌────────────────────────── one task ──────────────────────────┐
//! socket ─► Input: head ─► http::Request ─► request::serve ─► http::Response ─► Output ─► socket
//!             └► body ─► Body, read by the task of the connection to the target, as it takes it
//! ```
//!
//! One GET: [`connection`] waits for a head (`Connection::poll_head`), with a buffer of the worker's. [`head`] makes the request of
//! it. `Connection::exchange` runs the steps of the request, and looks meanwhile whether the client is still there. [`response`]
//! writes the head and frames the body, [`output`] holds both until [`socket`] has written them, head and first data in one call.
//! Then [`brattice_http1::conversation`] says whether another request is read.
//!
//! - [`input`]: what was read and not consumed; pure. [`body`]: the request's body. [`spare`]: room that a worker's connections lend.

pub(crate) mod body;
pub(crate) mod connection;
mod date;
mod head;
mod input;
mod output;
mod response;
pub(crate) mod socket;
pub(crate) mod spare;
