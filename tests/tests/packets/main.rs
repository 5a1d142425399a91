//! What the programs do with single packets, run by the kernel (`BPF_PROG_TEST_RUN`), and what `vip_listener` does in
//! namespaces of its own. Needs root and the object that `cargo xtask build` makes; fails without either.
//!
//! docs/packets.md names these tests as `module::test`.

mod arp;
mod dns;
mod egress;
mod events;
mod family;
mod foreign;
mod fragments;
mod frames;
mod half_open;
mod icmp;
mod ingress;
mod ipv6;
mod listener;
mod malformed;
mod pmtu;
mod posing;
mod scene;
mod sockets;
mod switches;
mod tags;
mod verifier;
mod world;
