//! brattice-cli
