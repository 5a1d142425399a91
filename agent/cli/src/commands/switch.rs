//! `brattice bypass` and `brattice detach`.

use std::process::ExitCode;
use std::time::Duration;

use brattice_control::state::StateDirectory;
use brattice_control::switches;
use brattice_wire::api::{Answer, Mode, Request, Scope};
use brattice_wire::words::is_workload;

use crate::arguments::{ScopeArguments, SwitchArguments};
use crate::names::{Known, guess, is_named, without_dot};
use crate::output::{Tone, colours, paint, print_prose};
use crate::{Failure, Outcome, client, duration, escape};

pub(crate) fn run(mode: Mode, arguments: &SwitchArguments) -> Outcome {
    let seconds = arguments.lasts.as_deref().map(duration::seconds).transpose();
    let seconds = seconds.map_err(|why| Failure::new(format!("--for: {why}")).code(2))?;
    let on = !arguments.off;
    let message = if arguments.offline {
        let switches = brattice_loader::open_pinned_switches(&arguments.bpffs).map_err(Failure::new)?;
        let names = switches::Names::of(&StateDirectory::existing(&arguments.state_dir).peek());
        let scope = scope(&arguments.scope, &Offline(&names))?;
        switches::switch(&switches, &names, mode, &scope, on, seconds.map(Duration::from_secs)).map_err(Failure::new)?
    } else {
        let known = Known::ask(&arguments.run_dir);
        let request = Request::Switch { mode, scope: scope(&arguments.scope, &known)?, on, seconds };
        match client::ask(&arguments.run_dir, &request)? {
            Answer::Done { message } => message,
            _ => return Err(super::ask::unexpected()),
        }
    };
    let tone = if on { Tone::Bad } else { Tone::Plain };
    print_prose(&format!("{}\n", paint(&escape::text(&message), tone, colours())), false);
    Ok(ExitCode::SUCCESS)
}

/// Looks up the full names of services and workloads with a name.
trait Names {
    fn services(&self, name: &str) -> Vec<String>;
    fn workloads(&self, name: &str) -> Vec<String>;
    /// `; did you mean web-1?`, or nothing.
    fn guess(&self, name: &str, services: bool, workloads: bool) -> String;
}

impl Names for Known {
    fn services(&self, name: &str) -> Vec<String> {
        self.services_named(name)
    }

    fn workloads(&self, name: &str) -> Vec<String> {
        let mut found: Vec<String> = self
            .workloads_named(name)
            .into_iter()
            .filter(|(_, own)| !own.is_empty())
            .map(|(vpc, own)| format!("{vpc}/{own}"))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn guess(&self, name: &str, services: bool, workloads: bool) -> String {
        let mut all: Vec<&str> = Vec::new();
        if services {
            all.extend(self.service_names());
        }
        if workloads {
            all.extend(self.workload_names());
        }
        guess(name, all)
    }
}

/// Names on disk.
struct Offline<'n>(&'n switches::Names);

impl Names for Offline<'_> {
    fn services(&self, name: &str) -> Vec<String> {
        self.0.services.keys().filter(|own| is_named(own, name)).cloned().collect()
    }

    fn workloads(&self, name: &str) -> Vec<String> {
        let meant = self.0.workloads.keys().filter(|(vpc, own)| is_workload(name, vpc, own));
        meant.map(|(vpc, own)| format!("{vpc}/{own}")).collect()
    }

    fn guess(&self, name: &str, services: bool, workloads: bool) -> String {
        let own = self.0.services.keys().filter(|_| services).map(String::as_str);
        guess(name, own.chain(self.0.workloads.keys().filter(|_| workloads).map(|(_, own)| own.as_str())))
    }
}

/// What the switch is about.
fn scope(arguments: &ScopeArguments, names: &impl Names) -> Result<Scope, Failure> {
    let (name, services, workloads) = match arguments {
        ScopeArguments { name: Some(name), .. } => (name, true, true),
        ScopeArguments { workload: Some(name), .. } => (name, false, true),
        ScopeArguments { service: Some(name), .. } => (name, true, false),
        _ => return Ok(Scope::All),
    };
    let name = without_dot(name);
    let mut found: Vec<Scope> = Vec::new();
    if services {
        found.extend(names.services(name).into_iter().map(Scope::Service));
    }
    if workloads {
        found.extend(names.workloads(name).into_iter().map(Scope::Workload));
    }
    let full = |scope: &Scope| matches!(scope, Scope::Service(own) | Scope::Workload(own) if own == name);
    if let Some(at) = found.iter().position(full).filter(|at| !found[at + 1..].iter().any(full)) {
        return Ok(found.swap_remove(at));
    }
    match &found[..] {
        [_] => Ok(found.swap_remove(0)),
        // The agent may know one that is gone, whose switch is to be ended.
        [] if !(services && workloads) => {
            Ok(if services { Scope::Service(name.into()) } else { Scope::Workload(name.into()) })
        }
        [] => Err(Failure::new(format!(
            "no service or workload is named {name}{}; `brattice services` and `brattice workloads` list those that are \
             there, and one that is gone is named with --service or --workload",
            names.guess(name, services, workloads)
        ))),
        several => {
            let all: Vec<String> = several
                .iter()
                .map(|scope| match scope {
                    Scope::Service(own) => format!("--service {own}"),
                    Scope::Workload(own) => format!("--workload {own}"),
                    Scope::All => "--all".to_owned(),
                })
                .collect();
            Err(Failure::new(format!("{name} means several: write {}", all.join(" or "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use brattice_wire::snapshot::{ServiceNumber, WorkloadNumber};

    use super::*;

    fn named(name: Option<&str>, workload: Option<&str>, service: Option<&str>) -> Result<Scope, String> {
        let names = switches::Names {
            services: [("shop/orders", 1), ("shop/web", 2)]
                .map(|(name, number)| (name.to_owned(), ServiceNumber::new(number)))
                .into(),
            workloads: [("platform/blue", "web", 1), ("platform/blue", "clerk", 2), ("platform/green", "clerk", 3)]
                .map(|(vpc, name, number)| ((vpc.to_owned(), name.to_owned()), WorkloadNumber::new(number)))
                .into(),
        };
        let own = |text: Option<&str>| text.map(str::to_owned);
        let arguments = ScopeArguments { name: own(name), workload: own(workload), service: own(service), all: false };
        scope(&arguments, &Offline(&names)).map_err(|failure| failure.text)
    }

    #[test]
    fn a_name_means_a_service_or_a_workload_as_in_other_commands() {
        let service = |name: &str| Ok(Scope::Service(name.into()));
        let workload = |name: &str| Ok(Scope::Workload(name.into()));
        assert_eq!(named(Some("orders"), None, None), service("shop/orders"));
        assert_eq!(named(Some("shop/orders"), None, None), service("shop/orders"));
        assert_eq!(named(Some("blue/clerk"), None, None), workload("platform/blue/clerk"));
        assert_eq!(named(None, Some("web"), None), workload("platform/blue/web"));
        assert_eq!(named(None, Some("platform/green/clerk"), None), workload("platform/green/clerk"));
        assert_eq!(named(None, None, Some("web")), service("shop/web"));
        // Gone: the agent may know it.
        assert_eq!(named(None, Some("gone"), None), workload("gone"));
        assert_eq!(named(None, None, None), Ok(Scope::All));
        let why = named(Some("web"), None, None).unwrap_err();
        assert_eq!(why, "web means several: write --service shop/web or --workload platform/blue/web");
        let why = named(None, Some("clerk"), None).unwrap_err();
        assert!(why.ends_with("--workload platform/blue/clerk or --workload platform/green/clerk"), "{why}");
        let why = named(Some("ordesr"), None, None).unwrap_err();
        assert!(why.starts_with("no service or workload is named ordesr; did you mean shop/orders?"), "{why}");
    }
}
