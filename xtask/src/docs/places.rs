//! What pages name is there: files, folders, and pages that they link to.

use std::{collections::BTreeSet, path::Path};

use crate::{paths, run};

/// Folders of the tree's root whose names begin a path.
const ROOTS: [&str; 9] =
    ["agent/", "docs/", "ebpf/", "examples/", "loader/", "packaging/", "tests/", "vagrant/", "xtask/"];

/// What of a page's text is not there.
fn missing(page: &str, text: &str, tracked: &[&str]) -> BTreeSet<String> {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let mut missing = BTreeSet::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 && is_path(part) && !named(part.trim_end_matches('/'), tracked) {
            missing.insert(part.to_owned());
        }
    }
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let file = link.split('#').next().unwrap_or_default();
        if !file.is_empty() && !file.contains("://") && !paths::root().join(folder).join(file).exists() {
            missing.insert(link.to_owned());
        }
    }
    missing
}

/// Whether a word in backticks names a place of the tree.
fn is_path(word: &str) -> bool {
    let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
    plain && (word.ends_with(".rs") || ROOTS.iter().any(|root| word.starts_with(root)))
}

/// Whether it is there: from the root, or as the end of a file's or folder's path.
fn named(word: &str, tracked: &[&str]) -> bool {
    tracked.iter().any(|file| {
        let file = format!("/{file}");
        file.ends_with(&format!("/{word}")) || file.contains(&format!("/{word}/"))
    })
}

#[test]
fn pages_name_what_is_there() {
    let listed =
        run::capture(run::git().args(["ls-files", "--cached", "--others", "--exclude-standard"])).expect("git");
    let tracked: Vec<&str> = listed.lines().filter(|name| paths::root().join(name).exists()).collect();
    let mut found = Vec::new();
    for page in tracked.iter().filter(|name| name.ends_with(".md")) {
        let text = std::fs::read_to_string(paths::root().join(page)).expect("a page");
        found.extend(missing(page, &text, &tracked).into_iter().map(|name| format!("{page}: {name}")));
    }
    assert!(found.is_empty(), "pages name what is not there:\n{}", found.join("\n"));
}

#[test]
fn what_is_not_there_is_found() {
    let tracked = ["agent/engine/src/http/decide.rs", "README.md", "tests/lab/a.txt"];
    let text = "`http/decide.rs` `decide.rs` `agent/engine/src` `tests/lab/` `a b.rs` `std::fs` [x](README.md#y) [z](https://a)";
    assert!(missing("README.md", text, &tracked).is_empty());
    let text = "`http/decision.rs` `cide.rs` `agent/engines` [x](docs/nowhere.md)";
    assert_eq!(missing("README.md", text, &tracked).len(), 4);
}

#[test]
fn architecture_is_short() {
    let text = std::fs::read(paths::root().join("ARCHITECTURE.md")).expect("the page");
    assert!(
        text.len() <= 12 * 1024,
        "ARCHITECTURE.md has {} bytes: details have pages of their own in docs/",
        text.len()
    );
}
