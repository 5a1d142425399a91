//! `brattice cleanup`: everything Brattice added to this host goes, also what a dead or half-started agent left.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use brattice_control::engine::process::Record;
use brattice_control::state::StateDirectory;

use crate::arguments::CleanupArguments;
use crate::output::print;
use crate::{Failure, Outcome, client, escape};

pub(crate) fn run(arguments: &CleanupArguments) -> Outcome {
    super::need_root("cleanup")?;
    if client::is_there(&arguments.run_dir) {
        return Err(Failure::new("an agent runs here; stop it first (it would put everything back)"));
    }
    let removed = super::runtime()?.block_on(async {
        // The data path first: nothing reaches the engine any more when it ends.
        let mut removed = brattice_loader::cleanup::run(&arguments.bpffs).await.map_err(Failure::new)?;
        removed.extend(stop_engine(&arguments.run_dir.join("engine.json")).await?);
        Ok::<_, Failure>(removed)
    })?;
    let mut removed = removed;
    for name in ["agent.sock", "engine.sock", "engine.json", "engine.new"] {
        let path = arguments.run_dir.join(name);
        if std::fs::remove_file(&path).is_ok() {
            removed.push(path.display().to_string());
        }
    }
    if std::fs::remove_dir(&arguments.run_dir).is_ok() {
        removed.push(arguments.run_dir.display().to_string());
    }
    let state = StateDirectory::existing(&arguments.state_dir);
    removed.extend(state.remove().map_err(|e| Failure::new(format!("{}: {e}", arguments.state_dir.display())))?);
    if removed.is_empty() {
        print("nothing of Brattice was here\n");
    }
    for line in removed {
        print(&format!("removed {}\n", escape::cell(&line)));
    }
    Ok(ExitCode::SUCCESS)
}

async fn stop_engine(record: &Path) -> Result<Option<String>, Failure> {
    let Some(mut engine) = Record::read(record).and_then(Record::running_as_anybody) else { return Ok(None) };
    engine.kill();
    let pid = engine.pid;
    match tokio::time::timeout(Duration::from_secs(10), engine.ended()).await {
        Ok(_) => Ok(Some(format!("engine process {pid}"))),
        Err(_) => Err(Failure::new(format!("the engine (process {pid}) does not end; is it stuck in the kernel?"))),
    }
}
