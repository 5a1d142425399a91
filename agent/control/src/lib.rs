//! brattice-control
