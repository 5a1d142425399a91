//! Where the eBPF object is loaded. In the copy of the tree, it is the one that the environment names.

use anyhow::{Result, bail};

/// Names the file of the object to load instead of the usual one.
pub(super) const OBJECT: &str = "BRATTICE_FAULTY_OBJECT";

/// A source file that loads the object.
#[derive(Clone, Copy)]
pub(super) struct Loader {
    /// From the tree's root.
    pub(super) file: &'static str,
    /// What names the usual object there ...
    usual: &'static str,
    /// ... and what names the one to load.
    other: &'static str,
}

pub(super) const LOADERS: [Loader; 2] = [
    // Of the agent and of preflight; embedded in the program.
    Loader {
        file: "loader/src/object.rs",
        usual: "load(OBJECT)",
        other: "load(&std::env::var_os(\"BRATTICE_FAULTY_OBJECT\").map_or_else(|| OBJECT.to_vec(), |path| \
                std::fs::read(path).expect(\"the object with a fault\")))",
    },
    // Of tests of single packets.
    Loader {
        file: "tests/src/packets/node.rs",
        usual: "let path = object_path();",
        other: "let path = std::env::var_os(\"BRATTICE_FAULTY_OBJECT\").map_or_else(object_path, Into::into);",
    },
];

impl Loader {
    /// The file's text, so that it loads the object that [`OBJECT`] names.
    ///
    /// # Errors
    /// When it does not say any more what is replaced.
    pub(super) fn of_a_file(&self, text: &str) -> Result<String> {
        if !text.contains(self.usual) {
            bail!("nothing in {} says `{}` any more: say here how the object is loaded now", self.file, self.usual);
        }
        Ok(text.replace(self.usual, self.other))
    }
}
