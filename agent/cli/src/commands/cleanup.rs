//! `brattice cleanup`: everything Brattice added to this host goes, also what a dead or half-started agent left.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use brattice_control::engine::process::Record;
use brattice_control::settings;
use brattice_control::state::StateDirectory;

use crate::arguments::{AgentArguments, CleanupArguments};
use crate::output::print;
use crate::{Failure, Outcome, client, configuration, escape, systemd};

pub(crate) fn run(arguments: &CleanupArguments) -> Outcome {
    super::need_root("cleanup")?;
    let Directories { bpffs, run_dir, state_dir } = Directories::of(arguments)?;
    if client::is_there(&run_dir) {
        let stop = systemd::stop(&run_dir);
        return Err(Failure::new(format!("an agent runs here; stop it first, {stop} (it would put everything back)")));
    }
    let removed = super::runtime()?.block_on(async {
        Record::refuse_other_namespace(&run_dir.join("engine.json")).map_err(Failure::new)?;
        // The data path first: nothing reaches the engine any more when it ends.
        let mut removed = brattice_loader::cleanup::run(&bpffs).await.map_err(Failure::new)?;
        removed.extend(stop_engine(&run_dir.join("engine.json")).await?);
        Ok::<_, Failure>(removed)
    })?;
    let mut removed = removed;
    for name in ["agent.sock", "engine.sock", "engine.json", "engine.new"] {
        let path = run_dir.join(name);
        if std::fs::remove_file(&path).is_ok() {
            removed.push(path.display().to_string());
        }
    }
    if std::fs::remove_dir(&run_dir).is_ok() {
        removed.push(run_dir.display().to_string());
    }
    let state = StateDirectory::existing(&state_dir);
    removed.extend(state.remove().map_err(|e| Failure::new(format!("{}: {e}", state_dir.display())))?);
    if removed.is_empty() {
        print("nothing of Brattice was here\n");
    }
    for line in removed {
        print(&format!("removed {}\n", escape::cell(&line)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the agent has put things: as given here, else in its configuration file, else as usual.
struct Directories {
    bpffs: PathBuf,
    run_dir: PathBuf,
    state_dir: PathBuf,
}

impl Directories {
    fn of(arguments: &CleanupArguments) -> Result<Self, Failure> {
        let told = AgentArguments {
            config: arguments.config.clone(),
            bpffs: arguments.bpffs.clone(),
            run_dir: arguments.run_dir.clone(),
            state_dir: arguments.state_dir.clone(),
            ..AgentArguments::default()
        };
        let all = told.bpffs.is_some() && told.run_dir.is_some() && told.state_dir.is_some();
        // A file that is not needed must not be in the way.
        let told = if all { told } else { configuration::complete(told)? };
        Ok(Self {
            bpffs: told.bpffs.unwrap_or_else(|| settings::BPFFS.into()),
            run_dir: told.run_dir.unwrap_or_else(|| settings::RUN_DIR.into()),
            state_dir: told.state_dir.unwrap_or_else(|| settings::STATE_DIR.into()),
        })
    }
}

async fn stop_engine(record: &Path) -> Result<Option<String>, Failure> {
    let Some(mut engine) = Record::read(record).and_then(Record::running_as_any_user) else { return Ok(None) };
    engine.kill();
    let pid = engine.pid;
    match tokio::time::timeout(Duration::from_secs(10), engine.ended()).await {
        Ok(_) => Ok(Some(format!("engine process {pid}"))),
        Err(_) => Err(Failure::new(format!("the engine (process {pid}) does not end; is it stuck in the kernel?"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_from_the_flags_then_from_the_agents_settings() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("agent.yaml");
        std::fs::write(&config, "run-dir: /srv/run\nbpffs: /srv/bpf\n").unwrap();
        let flags = |bpffs: Option<&str>| CleanupArguments {
            config: Some(config.clone()),
            bpffs: bpffs.map(PathBuf::from),
            run_dir: None,
            state_dir: None,
        };
        let found = Directories::of(&flags(Some("/mine"))).unwrap();
        assert_eq!((found.bpffs, found.run_dir), ("/mine".into(), "/srv/run".into()));
        let found = Directories::of(&flags(None)).unwrap();
        assert_eq!((found.bpffs, found.state_dir), ("/srv/bpf".into(), settings::STATE_DIR.into()));
    }
}
