//! brattice-loader
