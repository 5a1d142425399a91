//! IPv6: the same programs, maps and decisions as for IPv4, and what only IPv6 has.

mod fragments;
mod headers;
mod ingress;
mod malformed;
mod ndp;
pub(crate) mod scene;
