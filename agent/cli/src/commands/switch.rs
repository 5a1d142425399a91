//! `brattice bypass` and `brattice detach`.

use std::process::ExitCode;
use std::time::Duration;

use brattice_control::state::StateDirectory;
use brattice_control::switches::{self, Names};
use brattice_wire::api::{Answer, Mode, Request, Scope};

use crate::arguments::SwitchArguments;
use crate::output::{Tone, colours, paint, print_prose};
use crate::{Failure, Outcome, client, duration, escape};

pub(crate) fn run(mode: Mode, arguments: &SwitchArguments) -> Outcome {
    let scope = match (&arguments.scope.workload, &arguments.scope.service) {
        (Some(name), _) => Scope::Workload(name.clone()),
        (_, Some(name)) => Scope::Service(name.clone()),
        _ => Scope::All,
    };
    let seconds = arguments.lasts.as_deref().map(duration::seconds).transpose();
    let seconds = seconds.map_err(|why| Failure::new(format!("--for: {why}")).code(2))?;
    let on = !arguments.off;
    let message = if arguments.offline {
        let switches = brattice_loader::open_pinned_switches(&arguments.bpffs).map_err(Failure::new)?;
        let names = Names::of(&StateDirectory::existing(&arguments.state_dir).peek());
        switches::switch(&switches, &names, mode, &scope, on, seconds.map(Duration::from_secs)).map_err(Failure::new)?
    } else {
        let request = Request::Switch { mode, scope, on, seconds };
        match client::ask(&arguments.run_dir, &request)? {
            Answer::Done { message } => message,
            _ => return Err(super::ask::unexpected()),
        }
    };
    let tone = if on { Tone::Bad } else { Tone::Plain };
    print_prose(&format!("{}\n", paint(&escape::text(&message), tone, colours())), false);
    Ok(ExitCode::SUCCESS)
}
