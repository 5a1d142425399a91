//! brattice-engine
