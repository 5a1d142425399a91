//! `brattice init`: a first policies directory.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::ExitCode;

use crate::arguments::InitArguments;
use crate::output::print;
use crate::{Failure, Outcome, escape};

/// Path and content. `tests/command_line.rs` of the binary validates them.
const FILES: &[(&str, &str)] = &[
    ("README", include_str!("init/README")),
    ("accounts.yaml", include_str!("init/accounts.yaml")),
    ("vpcs.yaml", include_str!("init/vpcs.yaml")),
    ("roles.yaml", include_str!("init/roles.yaml")),
    ("accounts/platform/network.yaml", include_str!("init/network.yaml")),
    ("accounts/shop/orders.yaml", include_str!("init/orders.yaml")),
];

pub(crate) fn run(arguments: &InitArguments) -> Outcome {
    let directory = &arguments.directory;
    let documents = |path: &str| path.ends_with(".yaml");
    let there: Vec<&str> =
        FILES.iter().map(|(path, _)| *path).filter(|path| documents(path) && directory.join(path).exists()).collect();
    if !there.is_empty() {
        return Err(Failure::new(format!(
            "{} has {} already: nothing was written. Name a directory without documents, and copy from it what you want",
            directory.display(),
            there.join(", ")
        )));
    }
    for (path, text) in FILES {
        let file = directory.join(path);
        let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", file.display()));
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // Existing files are never overwritten: a README may be the user's own.
        match OpenOptions::new().write(true).create_new(true).open(&file) {
            Ok(mut new) => new.write_all(text.as_bytes()).map_err(failed)?,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && !documents(path) => continue,
            Err(e) => return Err(failed(e)),
        }
        print(&format!("{}\n", escape::cell(&file.display().to_string())));
    }
    print(&format!(
        "\nChange the names of interfaces and the addresses to yours, then:\n  brattice validate {}\n",
        escape::cell(&directory.display().to_string())
    ));
    Ok(ExitCode::SUCCESS)
}
