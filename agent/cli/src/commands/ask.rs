//! Commands that ask the agent.

use std::collections::BTreeMap;
use std::process::ExitCode;

use brattice_wire::api::{Answer, Health, Request, WorkloadView};
use serde::Serialize;
use serde_json::json;

use super::watch::{View, show};
use crate::arguments::{
    AcceptArguments, Format, ListArguments, ListFormat, ServicesArguments, StatusArguments, WorkloadsArguments,
};
use crate::fold::fold;
use crate::labels::Selector;
use crate::names::{self, Known};
use crate::output::{Look, print_prose};
use crate::{Failure, Outcome, client, escape, views};

pub(crate) fn status(arguments: &StatusArguments) -> Outcome {
    let wide = arguments.wide && arguments.output == Format::Table;
    let format = if wide { Format::Wide } else { arguments.output };
    show(arguments.watch, || {
        // Refused is not the same as healthy: a user without permission must not read "all well" from the exit code.
        let answer = client::ask(&arguments.run_dir, &Request::Status).map_err(|failure| failure.code(2))?;
        let Answer::Status(status) = answer else { return Err(unexpected()) };
        let view = match format {
            Format::Json | Format::Yaml => View::Value(format, json!(status)),
            Format::Table | Format::Wide => {
                let look = Look::of_stdout(format == Format::Wide);
                View::Text(fold(&views::status(&status, look), look))
            }
        };
        let code = match status.health {
            Health::Ok => 0,
            Health::Degraded => 1,
            Health::Down => 2,
        };
        Ok((view, code))
    })
}

pub(crate) fn services(arguments: &ServicesArguments) -> Outcome {
    let (list, names) = (&arguments.list, &arguments.names);
    show(list.watch, || {
        let Answer::Services(services) = client::ask(&list.run_dir, &Request::Services)? else {
            return Err(unexpected());
        };
        let wanted: Vec<String> = names.iter().map(|name| names::without_dot(name).to_owned()).collect();
        let mut chosen = names::choose(services, &wanted, "service", names::of_service)?;
        list.tell_none("services", chosen.is_empty());
        chosen.retain(|service| list.is_of_account(&service.name));
        list.tell_account(chosen.is_empty());
        select(list, arguments.selector.as_ref(), "service", &mut chosen, |service| &service.labels);
        Ok((listed(list, names.len() == 1, &chosen, |service| service.name.clone(), views::services), 0))
    })
}

pub(crate) fn workloads(arguments: &WorkloadsArguments) -> Outcome {
    let (list, names) = (&arguments.list, &arguments.names);
    show(list.watch, || {
        let Answer::Workloads(workloads) = client::ask(&list.run_dir, &Request::Workloads)? else {
            return Err(unexpected());
        };
        let title = |workload: &WorkloadView| Some(workload.name.clone()).filter(|name| !name.is_empty());
        let mut chosen = names::choose_by(workloads, names, "workload", names::is_workload_view, title)?;
        list.tell_none("workloads", chosen.is_empty());
        chosen.retain(|workload| list.is_of_account(&workload.vpc));
        list.tell_account(chosen.is_empty());
        select(list, arguments.selector.as_ref(), "workload", &mut chosen, |workload| &workload.labels);
        Ok((listed(list, names.len() == 1, &chosen, |workload| workload.name.clone(), views::workloads), 0))
    })
}

/// Leaves those whose labels are selected; says so where nothing is left.
fn select<T>(
    list: &ListArguments,
    selector: Option<&Selector>,
    kind: &str,
    chosen: &mut Vec<T>,
    labels: impl Fn(&T) -> &BTreeMap<String, String>,
) {
    let Some(selector) = selector else { return };
    if !list.watch && !chosen.is_empty() && !chosen.iter().any(|one| selector.selects(labels(one))) {
        eprintln!("{}", escape::text(&selector.nothing(kind, chosen.iter().map(&labels))));
    }
    chosen.retain(|one| selector.selects(labels(one)));
}

impl ListArguments {
    /// Whether something with a name like `account/name` is asked for.
    pub(super) fn is_of_account(&self, whole: &str) -> bool {
        self.account.as_deref().is_none_or(|account| names::is_of_account(whole, account))
    }

    /// Says that there is nothing at all, as an empty table would leave that open.
    fn tell_none(&self, kind: &str, is_empty: bool) {
        if is_empty && !self.watch && self.account.is_none() {
            eprintln!("there are no {kind}");
        }
    }

    /// Says that the account has nothing, with the nearest one that has.
    pub(super) fn tell_account(&self, is_empty: bool) {
        if let (true, Some(account)) = (is_empty && !self.watch, &self.account) {
            let why = Known::ask(&self.run_dir).no_account(account);
            eprintln!("{}", escape::text(&why.unwrap_or_else(|| format!("the account {account} has none"))));
        }
    }
}

/// A list as it is asked for; with `one`, one thing alone, as it was asked for by its name.
pub(super) fn listed<T: Serialize>(
    list: &ListArguments,
    one: bool,
    chosen: &[T],
    name: impl Fn(&T) -> String,
    table: impl FnOnce(&[T], Look) -> String,
) -> View {
    let output = if list.wide && list.output == ListFormat::Table { ListFormat::Wide } else { list.output };
    match output.format() {
        None => View::Text(chosen.iter().map(|own| format!("{}\n", escape::cell(&name(own)))).collect()),
        Some(format @ (Format::Json | Format::Yaml)) => match chosen {
            [only] if one => View::Value(format, json!(only)),
            all => View::Value(format, json!(all)),
        },
        Some(format) => View::Text(table(chosen, Look::of_stdout(format == Format::Wide))),
    }
}

pub(crate) fn accept(arguments: &AcceptArguments) -> Outcome {
    let request = Request::Accept { owner: arguments.owner.clone() };
    let Answer::Done { message } = client::ask(&arguments.run_dir, &request)? else { return Err(unexpected()) };
    print_prose(&format!("{}\n", escape::text(&message)), false);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn unexpected() -> Failure {
    Failure::new("the agent answered something else than was asked; is it of another version? See brattice version")
}
