//! The guards that SECURITY.md names, and the tests that must turn red without them.
//!
//! A guard is marked in the source: `// guard: NAME` above a statement or a match arm. Its fault is made from the code that
//! stands there (`fault.rs`), so a renaming breaks nothing, and code that moves takes its guard along.

mod table;

use std::fmt;

pub(super) use self::table::GUARDS;

use self::Operator::{Always, Default, Dropped, False, Never, Passed, True};

/// How the code below a guard's marker is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    /// The condition never holds: of the first `if`, guard of a match arm, `.then_some(…)` or closure in it.
    Never,
    /// That condition always holds.
    Always,
    /// The value is true: that of a `let`, or of an expression.
    True,
    /// That value is false.
    False,
    /// The statement, or the match arm, is left out.
    Dropped,
    /// Where the first `?` in it would return an error, the function returns as if all were well.
    Passed,
    /// The value of a `let` is its type's default.
    Default,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Never => "condition never holds",
            Always => "condition always holds",
            True => "value is true",
            False => "value is false",
            Dropped => "left out",
            Passed => "error passes",
            Default => "default value",
        })
    }
}

/// A guard.
pub(super) struct Guard {
    /// As in its marker.
    pub(super) name: &'static str,
    /// What goes wrong without it.
    pub(super) means: &'static str,
    pub(super) operator: Operator,
    /// Each must fail without it.
    pub(super) tests: &'static [Test],
}

/// One test.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
pub(super) struct Test {
    /// Where it is.
    pub(super) program: Program,
    /// Its full name there.
    pub(super) name: &'static str,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.program {
            Program::Unit(folder) => write!(f, "{folder}: {}", self.name),
            Program::Of(folder, program) => write!(f, "{folder}/tests/{program}: {}", self.name),
        }
    }
}

/// A test program, by the folder of its crate.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
pub(super) enum Program {
    /// The unit tests of its library.
    Unit(&'static str),
    /// A file or folder in its `tests/`.
    Of(&'static str, &'static str),
}

impl Program {
    /// The crate's folder, from the workspace's root.
    pub(super) fn folder(self) -> &'static str {
        let (Self::Unit(folder) | Self::Of(folder, _)) = self;
        folder
    }
}
