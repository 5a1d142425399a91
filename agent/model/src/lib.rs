//! brattice-model
