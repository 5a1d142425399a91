//! brattice-router
