//! Whether systemd owns the agent: then its own commands start it and show its log.

use std::path::Path;

use brattice_control::settings::RUN_DIR;

/// Where a unit can be: the administrator's, the package's.
const UNITS: [&str; 3] = [
    "etc/systemd/system/brattice.service",
    "usr/lib/systemd/system/brattice.service",
    "lib/systemd/system/brattice.service",
];

/// How the agent of this run directory is started, with what to look at first.
pub(crate) fn start(run_dir: &Path) -> &'static str {
    start_below(Path::new("/"), run_dir)
}

/// How it is stopped.
pub(crate) fn stop(run_dir: &Path) -> &'static str {
    if owns(Path::new("/"), run_dir) { "with `systemctl stop brattice`" } else { "with SIGTERM" }
}

fn start_below(root: &Path, run_dir: &Path) -> &'static str {
    if owns(root, run_dir) {
        "`systemctl start brattice` (`systemctl status brattice` and `journalctl --unit brattice` say why it ended)"
    } else {
        "`brattice agent`"
    }
}

fn owns(root: &Path, run_dir: &Path) -> bool {
    let runs = root.join("run/systemd/system").is_dir();
    let has_unit = UNITS.iter().any(|unit| root.join(unit).exists());
    // An agent with another directory is started by hand.
    runs && has_unit && run_dir == Path::new(RUN_DIR)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_agent_is_started_by_whom_it_belongs_to() {
        let root = tempfile::tempdir().unwrap();
        let usual = Path::new(RUN_DIR);
        assert_eq!(start_below(root.path(), usual), "`brattice agent`");
        let unit = root.path().join(UNITS[1]);
        fs::create_dir_all(unit.parent().unwrap()).unwrap();
        fs::write(&unit, "").unwrap();
        assert_eq!(start_below(root.path(), usual), "`brattice agent`", "a unit, but another init");
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        assert!(start_below(root.path(), usual).starts_with("`systemctl start brattice`"));
        assert_eq!(start_below(root.path(), Path::new("/tmp/run")), "`brattice agent`", "another agent");
    }
}
