//! HTTP: from a client's socket to a target's, and back.
//!
//! ```text
//! accept ─► client ─┬─► http1: our own loop ─┬─► request: its steps ─► upstream: attempts ─┬─► http1
//!                   └─► http2: hyper, h2 ────┘                                            └─► http2: hyper, h2
//!                 control ◄──── sweeper (times) ────► active requests
//!                   after an accepted Upgrade:  socket ◄───────────── copy ─────────────► socket
//! ```

pub(crate) mod announced_trailers;
mod body_error;
pub mod canonical;
mod client;
pub(crate) mod client_body;
pub(crate) mod control;
mod failure;
pub(crate) mod field_map;
mod filters;
pub(crate) mod frames;
mod framing;
pub(crate) mod head;
pub(crate) mod headers;
mod hpack;
pub(crate) mod http1;
mod http2;
pub(crate) mod interim;
mod local_reply;
pub(crate) mod peer;
pub(crate) mod reason_phrase;
pub mod refusal;
mod request;
pub(crate) mod request_body;
mod response_body;
mod sections;
mod server;
mod session;
mod upgrade;
pub(crate) mod write_stall;

pub(crate) use client::begin;
pub(crate) use server::Server;
