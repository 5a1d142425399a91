//! The command line: `brattice <verb>`.
//!
//! Exit codes: 0 done (for `status`: all well; for `route` and `explain`: the request is served), 1 not done or something
//! needs attention (the request is not served), 2 wrong usage (for `status`: not serving, or no agent; for `route` and
//! `explain`: nothing can be said). Tables are for people, `--output json` for programs; colours appear on terminals only. What
//! comes from documents, interfaces or the network is escaped in every output.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod arguments;
mod client;
mod commands;
mod configuration;
mod defaults;
mod duration;
mod escape;
mod fold;
mod labels;
mod log_filter;
mod look;
mod manual;
mod names;
mod output;
mod ranges;
mod systemd;
mod table;
mod users;
mod views;
mod yaml;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::Verb;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let arguments = match defaults::parse(manual::command(), &words) {
        Ok(arguments) => arguments,
        Err(defaults::NotParsed::File(failure)) => return fail(&failure),
        Err(defaults::NotParsed::Usage(e)) => {
            // clap's own texts; what the user typed is in them.
            let code = u8::try_from(e.exit_code()).expect("clap exits with 0 or 2");
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    let result = match arguments.verb {
        Verb::Agent(arguments) => commands::agent::run(&arguments),
        Verb::Engine(arguments::EngineVerb::Run(arguments)) => commands::engine::run(&arguments),
        Verb::Engine(arguments::EngineVerb::Restart { run_dir }) => commands::engine::restart(&run_dir),
        Verb::Init(arguments) => commands::init::run(&arguments),
        Verb::ExplainField(arguments) => commands::explain_field::run(&arguments),
        Verb::Validate(arguments) => commands::documents::validate(&arguments),
        Verb::Diff(arguments) => commands::documents::diff(&arguments),
        Verb::Policy(arguments::PolicyVerb::Test(arguments)) => commands::policy::test(&arguments),
        Verb::Status(arguments) => commands::ask::status(&arguments),
        Verb::Services(arguments) => commands::ask::services(&arguments),
        Verb::Workloads(arguments) => commands::ask::workloads(&arguments),
        Verb::Flows(arguments) => commands::flows::run(&arguments),
        Verb::Logs(arguments) => commands::logs::run(&arguments),
        Verb::Route(arguments) => commands::route::run(&arguments),
        Verb::Explain(arguments) => commands::explain::run(&arguments),
        Verb::Bypass(arguments) => commands::switch::run(brattice_wire::api::Mode::Bypass, &arguments),
        Verb::Detach(arguments) => commands::switch::run(brattice_wire::api::Mode::Detach, &arguments),
        Verb::Accept(arguments) => commands::ask::accept(&arguments),
        Verb::Preflight(arguments) => commands::preflight::run(&arguments),
        Verb::Cleanup(arguments) => commands::cleanup::run(&arguments),
        Verb::Version => {
            commands::version();
            Ok(ExitCode::SUCCESS)
        }
        Verb::SupportBundle(arguments) => commands::support_bundle::run(&arguments),
        Verb::Man { directory } => commands::man(&directory),
        Verb::Completions { shell } => {
            commands::completions(shell);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|failure| fail(&failure))
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("{} {}", output::red_on_stderr("error:"), escape::text(&failure.text));
    ExitCode::from(failure.code)
}

/// Why a verb did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What happened, likely cause, what to do.
    text: String,
    /// Exit code.
    code: u8,
}

impl Failure {
    fn new(text: impl std::fmt::Display) -> Self {
        Self { text: text.to_string(), code: 1 }
    }

    fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

/// What every verb returns.
pub(crate) type Outcome = Result<ExitCode, Failure>;
