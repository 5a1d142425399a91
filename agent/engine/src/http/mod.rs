//! HTTP: from a client's socket to a target's, and back.
//!
//! ```text
//! accept ─► who? ─► ClientIo(guard) ─► hyper server ─► service ─► forward ─► pool ─► hyper client ─► TargetIo
//!                      control ◄──── sweeper (times) ────► flights
//! ```

mod answer;
pub(crate) mod body;
mod client;
pub(crate) mod control;
mod fields;
mod forward;
mod frames;
pub mod guard;
pub(crate) mod headers;
mod io;
pub mod refusal;
mod service;

pub(crate) use client::{Clients, accept};
