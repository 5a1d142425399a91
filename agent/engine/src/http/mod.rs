//! HTTP: from a client's socket to a target's, and back.
//!
//! ```text
//! accept ─► who? ─► ClientIo(guard) ─► hyper server ─► service ─► forward ─► pool ─► hyper client ─► TargetIo
//!                      control ◄──── sweeper (times) ────► flights
//!                                                     decide: head, then brattice-decide
//!                   after an accepted Upgrade:  socket ◄───────────── copy ─────────────► socket
//! ```

mod answer;
pub mod canonical;
mod client;
pub(crate) mod control;
mod decide;
mod failure;
mod fields;
mod filters;
mod forward;
pub(crate) mod frames;
mod framing;
pub mod guard;
pub(crate) mod head;
pub(crate) mod headers;
mod hpack;
pub(crate) mod interim;
mod io;
pub(crate) mod peer;
pub mod refusal;
mod request_body;
mod response_body;
pub(crate) mod retry_buffer;
mod sections;
mod server;
mod service;
mod session;
pub(crate) mod target_io;
mod upgrade;
pub(crate) mod write_stall;

pub(crate) use client::begin;
pub(crate) use forward::Forwarder;
pub(crate) use server::Server;
