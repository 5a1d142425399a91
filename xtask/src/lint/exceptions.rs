//! `xtask/exceptions.txt`: what the lint found when it was new, and does not complain about. The list may only get shorter: a
//! line that nothing needs any more is an error, too.

use std::collections::BTreeSet;

/// What of the findings is no exception, and what of the exceptions nothing needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Found, and not in the list.
    pub(super) new: Vec<String>,
    /// In the list, and not found.
    pub(super) unneeded: Vec<String>,
}

/// Compares findings of one kind (the first word of a line) with the list.
pub(super) fn judge(list: &str, kind: &str, found: &BTreeSet<String>) -> Judged {
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let excepted: BTreeSet<String> = lines
        .filter_map(|line| line.split_once(' '))
        .filter(|(word, _)| *word == kind)
        .map(|(_, rest)| rest.trim().to_owned())
        .collect();
    Judged {
        new: found.difference(&excepted).cloned().collect(),
        unneeded: excepted.difference(found).cloned().collect(),
    }
}
