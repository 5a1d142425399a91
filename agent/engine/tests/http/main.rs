//! The L7 path over loopback: real workers, real sockets, no sandbox and no kernel programs. VIPs and aliases are
//! addresses of 127.0.0.0/8, so who calls is decided by the source address, as everywhere.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]

mod bounds;
mod early;
mod exchange;
mod failover;
mod fields;
mod filters;
mod floods;
mod frames;
mod framing;
mod goaway;
mod identity;
mod kept;
mod log;
mod neighbours;
mod normalise;
mod old;
mod pools;
mod records;
mod requests;
mod resets;
mod routing;
mod smuggling;
mod sticky;
mod support;
mod times;
mod tunnels;
mod upgrades;
mod weights;
mod windows;
