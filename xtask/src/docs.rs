//! Writes the pages that are made of the source. Tests say when one of them is stale.

pub(crate) mod packets;
#[cfg(test)]
mod places;

use std::fs;

use anyhow::{Context, Result};

use crate::{paths, run, sabotage};

/// Writes all of them.
///
/// # Errors
/// When one cannot be made or written.
pub(crate) fn run() -> Result<()> {
    let pages = [(sabotage::page::PAGE, sabotage::page::text()), (packets::PAGE, packets::text()?)];
    for (page, text) in pages {
        let path = paths::root().join(page);
        let same = fs::read_to_string(&path).is_ok_and(|old| old == text);
        if !same {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        run::say(&format!("{page}: {}", if same { "unchanged" } else { "written" }));
    }
    Ok(())
}
