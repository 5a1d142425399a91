//! Verbs that ask the agent.

use std::process::ExitCode;

use brattice_wire::api::{Answer, Health, Request};
use serde_json::json;

use crate::arguments::{AcceptArguments, AskArguments, Format};
use crate::output::{colours, print, print_json};
use crate::{Failure, Outcome, client, escape, views};

pub(crate) fn status(arguments: &AskArguments) -> Outcome {
    // Refused is not the same as healthy: whoever may not ask must not read "all well" from the exit code.
    let answer = client::ask(&arguments.run_dir, &Request::Status).map_err(|failure| failure.code(2))?;
    let Answer::Status(status) = answer else { return Err(unexpected()) };
    match arguments.output {
        Format::Json => print_json(&json!(status)),
        Format::Table => print(&views::status(&status, colours())),
    }
    Ok(ExitCode::from(match status.health {
        Health::Ok => 0,
        Health::Degraded => 1,
        Health::Down => 2,
    }))
}

pub(crate) fn services(arguments: &AskArguments) -> Outcome {
    let Answer::Services(services) = client::ask(&arguments.run_dir, &Request::Services)? else {
        return Err(unexpected());
    };
    match arguments.output {
        Format::Json => print_json(&json!(services)),
        Format::Table => print(&views::services(&services, colours())),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn workloads(arguments: &AskArguments) -> Outcome {
    let Answer::Workloads(workloads) = client::ask(&arguments.run_dir, &Request::Workloads)? else {
        return Err(unexpected());
    };
    match arguments.output {
        Format::Json => print_json(&json!(workloads)),
        Format::Table => print(&views::workloads(&workloads, colours())),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn accept(arguments: &AcceptArguments) -> Outcome {
    let request = Request::Accept { owner: arguments.owner.clone() };
    let Answer::Done { message } = client::ask(&arguments.run_dir, &request)? else { return Err(unexpected()) };
    print(&format!("{}\n", escape::text(&message)));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn unexpected() -> Failure {
    Failure::new("the agent answered something else than was asked; is it of another version? See brattice version")
}
