//! The faults, and the tests that must notice them.

/// A small change that makes Brattice wrong.
pub(super) struct Fault {
    /// Short name.
    pub(super) name: &'static str,
    /// What goes wrong.
    pub(super) means: &'static str,
    /// File, from the workspace's root.
    pub(super) file: &'static str,
    /// Must be found exactly once.
    pub(super) search: &'static str,
    /// Takes its place.
    pub(super) replace: &'static str,
    /// (test program, or `unit <package>`; full name of the test): at least one must fail.
    pub(super) tests: &'static [(&'static str, &'static str)],
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[];
