//! `brattice engine`: what the agent starts, and its replacement.

use std::path::Path;
use std::process::ExitCode;

use brattice_wire::api::{Answer, Request};

use crate::arguments::EngineArguments;
use crate::output::print_prose;
use crate::{Failure, Outcome, client, escape};

/// The engine itself. It must have one thread when the sandbox closes, so nothing runs before.
pub(crate) fn run(arguments: &EngineArguments) -> Outcome {
    super::log(arguments.log.as_deref())?;
    let args = brattice_engine::Args { uid: arguments.uid, gid: arguments.gid };
    brattice_engine::run(args).map_err(|e| Failure::new(format!("the engine ended: {e}")))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the agent for another one.
pub(crate) fn restart(run_dir: &Path) -> Outcome {
    let Answer::Done { message } = client::ask(run_dir, &Request::RestartEngine)? else {
        return Err(super::ask::unexpected());
    };
    print_prose(&format!("{}\n", escape::text(&message)), false);
    Ok(ExitCode::SUCCESS)
}
