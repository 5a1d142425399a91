//! Where a part of a document was written.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where something was written; carried to every decision, error and log line. Written out as `Display` does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// In a file.
    File {
        /// Path relative to the policies directory.
        path: String,
        /// 1-based.
        line: u32,
    },
}

impl Origin {
    /// The file.
    pub fn file(&self) -> &str {
        match self {
            Self::File { path, .. } => path,
        }
    }

    /// The line in [`Self::file`], 1-based.
    pub fn line(&self) -> u32 {
        match self {
            Self::File { line, .. } => *line,
        }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::File { path: String::new(), line: 0 }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
        }
    }
}
