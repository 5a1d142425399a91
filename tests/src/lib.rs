//! brattice-tests
