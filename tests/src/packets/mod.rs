//! Runs `workload_ingress` and `workload_egress` on single packets with `BPF_PROG_TEST_RUN`: [`frame`] builds packets,
//! [`node`] loads the programs, [`checksums`] judges what comes out without sharing code with the builder.

pub mod checksums;
pub mod corpus;
pub mod frame;
pub mod frame6;
pub mod node;
