//! `brattice engine`: what the agent starts. It must have one thread when the sandbox closes, so nothing runs before.

use std::process::ExitCode;

use crate::arguments::EngineArguments;
use crate::{Failure, Outcome};

pub(crate) fn run(arguments: &EngineArguments) -> Outcome {
    super::log(arguments.log.as_deref())?;
    let args = brattice_engine::Args { socket: arguments.socket.clone(), uid: arguments.uid, gid: arguments.gid };
    brattice_engine::run(args).map_err(|e| Failure::new(format!("the engine ended: {e}")))?;
    Ok(ExitCode::SUCCESS)
}
