//! The loader against the real kernel, each test in a network namespace and pin directory of its own. Needs root.

mod cleanup;
mod foreign;
mod interfaces;
mod maps;
mod preflight;
mod room;
mod sockets;
mod start;
