//! README's first service: every document is right as it is written, and every command runs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `BRATTICE_BIN`, else the one built beside this test program: found at run time, as a clone may have moved since.
fn binary() -> PathBuf {
    std::env::var_os("BRATTICE_BIN").map_or_else(
        || std::env::current_exe().expect("a program has a path").with_file_name("../brattice"),
        PathBuf::from,
    )
}

/// The blocks of a language in a section of README.
fn blocks(language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(Path::new("../README.md")).expect("README.md");
    let (_, section) = page.split_once("\n## A first service\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let fence = format!("```{language}\n");
    section.split(&fence).skip(1).map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_first_service_works_as_it_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let documents = blocks("yaml");
    assert!(documents.len() >= 3, "{documents:?}");
    for text in &documents {
        let name =
            text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("each begins with its file's name");
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let mut ran = 0;
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["brattice", arguments @ ..] = words.as_slice() else { panic!("{line:?} is no command of Brattice") };
        let output = Command::new(binary()).args(arguments).current_dir(folder.path()).output().expect("it runs");
        let message = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{line}: {message}");
        assert!(!message.contains("warning:"), "{line}: {message}");
        ran += 1;
    }
    assert!(ran >= 3, "commands are tried");
}
