//! `brattice bypass` and `brattice detach`: one map write, by the agent or (agent dead) by the CLI from the pins.

use std::collections::BTreeMap;
use std::time::Duration;

use brattice_abi::{MODE_BYPASS, MODE_DETACH, SWITCH_ALL, SWITCH_SERVICE, SWITCH_WORKLOAD, Switch, SwitchKey};
use brattice_loader::Table;
use brattice_wire::api::{Mode, Scope, SwitchView};
use brattice_wire::snapshot::{ServiceNumber, WorkloadNumber};
use brattice_wire::words::is_workload;

use crate::clock::boottime_ns;
use crate::state::State;

/// The switches' map.
pub type Switches = Table<SwitchKey, Switch>;

/// What a switch can be about, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Service name → number.
    pub services: BTreeMap<String, ServiceNumber>,
    /// (VPC, workload name) → number.
    pub workloads: BTreeMap<(String, String), WorkloadNumber>,
}

/// Why a switch was not set.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// No such name.
    #[error("{0}")]
    NotFound(String),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] brattice_loader::Error),
}

impl Names {
    /// From the state directory.
    pub fn of(state: &State) -> Self {
        let workloads =
            state.workloads.entries().map(|(vpc, name, number)| ((vpc.to_owned(), name.to_owned()), number));
        Self { services: state.services.clone(), workloads: workloads.collect() }
    }

    /// The key of a scope.
    ///
    /// # Errors
    /// When the name is unknown or means several.
    pub fn key(&self, scope: &Scope) -> Result<SwitchKey, SwitchError> {
        match scope {
            Scope::All => Ok(SwitchKey { scope: SWITCH_ALL, id: 0 }),
            Scope::Service(name) => {
                let short = |full: &str| full.rsplit('/').next() == Some(name);
                let number = pick(
                    "service",
                    name,
                    "`brattice services` lists them",
                    self.services.iter().filter_map(|(full, number)| {
                        (full == name || short(full)).then_some((full == name, full.clone(), *number))
                    }),
                )?;
                Ok(SwitchKey { scope: SWITCH_SERVICE, id: number.get() })
            }
            Scope::Workload(name) => {
                let number = pick(
                    "workload",
                    name,
                    "`brattice workloads` lists them",
                    self.workloads.iter().filter_map(|((vpc, short), number)| {
                        let full = format!("{vpc}/{short}");
                        is_workload(name, vpc, short).then_some((full == *name, full, *number))
                    }),
                )?;
                Ok(SwitchKey { scope: SWITCH_WORKLOAD, id: number.get() })
            }
        }
    }

    fn scope(&self, key: SwitchKey) -> Scope {
        match key.scope {
            SWITCH_ALL => Scope::All,
            SWITCH_SERVICE => {
                let name =
                    self.services.iter().find(|(_, number)| number.get() == key.id).map(|(name, _)| name.clone());
                Scope::Service(name.unwrap_or_else(|| format!("#{}", key.id)))
            }
            _ => {
                let found = self.workloads.iter().find(|(_, number)| number.get() == key.id);
                Scope::Workload(
                    found.map_or_else(|| format!("#{}", key.id), |((vpc, name), _)| format!("{vpc}/{name}")),
                )
            }
        }
    }
}

/// (is the full name, full name, number)
fn pick<N: Copy>(
    what: &str,
    name: &str,
    hint: &str,
    found: impl Iterator<Item = (bool, String, N)>,
) -> Result<N, SwitchError> {
    let found: Vec<_> = found.collect();
    if let Some((_, _, number)) = found.iter().find(|(exact, ..)| *exact) {
        return Ok(*number);
    }
    match &found[..] {
        [(_, _, number)] => Ok(*number),
        [] => Err(SwitchError::NotFound(format!("there is no {what} {name}; {hint}"))),
        several => {
            let names: Vec<&str> = several.iter().map(|(_, full, _)| full.as_str()).collect();
            Err(SwitchError::NotFound(format!("{name} means {}; name one in full", names.join(" and "))))
        }
    }
}

/// Sets or ends a switch; says what was done.
///
/// # Errors
/// When the name is unknown or the kernel refuses.
pub fn switch(
    switches: &Switches,
    names: &Names,
    mode: Mode,
    scope: &Scope,
    on: bool,
    lasts: Option<Duration>,
) -> Result<String, SwitchError> {
    let key = names.key(scope)?;
    let about = about(&names.scope(key));
    if on {
        // saturates: an operator's number of seconds may be any, and 585 years are for ever.
        let ns = |lasts: Duration| u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = lasts.map_or(0, |lasts| boottime_ns().saturating_add(ns(lasts)));
        let mode_number = match mode {
            Mode::Bypass => MODE_BYPASS,
            Mode::Detach => MODE_DETACH,
        };
        switches.insert(&key, &Switch { until_ns, mode: mode_number, pad: 0 })?;
        let until = lasts
            .map_or_else(|| "until it is ended with --off".to_owned(), |lasts| format!("for {} s", lasts.as_secs()));
        return Ok(match mode {
            Mode::Bypass => format!(
                "BYPASS: new connections of {about} are relayed without rules, {until}; where a policy could refuse what they carry, they are reset"
            ),
            Mode::Detach => format!("DETACH: {about} is out of Brattice, {until}"),
        });
    }
    match switches.get(&key)? {
        Some(switch) if mode_of(switch.mode) == Some(mode) => {
            switches.remove(&key)?;
            Ok(format!("{} of {about} ended", word(mode)))
        }
        _ => Ok(format!("there was no {} of {about}", word(mode))),
    }
}

/// Switches in force.
///
/// # Errors
/// When the kernel refuses.
pub fn in_force(switches: &Switches, names: &Names) -> Result<Vec<SwitchView>, brattice_loader::Error> {
    let now = boottime_ns();
    let mut views: Vec<SwitchView> = switches
        .entries()?
        .into_iter()
        .filter(|(_, switch)| switch.until_ns == 0 || switch.until_ns > now)
        .filter_map(|(key, switch)| {
            Some(SwitchView {
                mode: mode_of(switch.mode)?,
                scope: names.scope(key),
                seconds_left: (switch.until_ns != 0).then(|| (switch.until_ns - now).div_ceil(1_000_000_000)),
            })
        })
        .collect();
    views.sort_by(|a, b| a.scope.cmp(&b.scope));
    Ok(views)
}

/// Takes out of the map what ended by itself: the programs ignore it already.
///
/// # Errors
/// When the kernel refuses.
pub fn sweep(switches: &Switches) -> Result<(), brattice_loader::Error> {
    let now = boottime_ns();
    for (key, switch) in switches.entries()? {
        if switch.until_ns != 0 && switch.until_ns <= now {
            switches.remove(&key)?;
        }
    }
    Ok(())
}

fn mode_of(number: u32) -> Option<Mode> {
    match number {
        MODE_BYPASS => Some(Mode::Bypass),
        MODE_DETACH => Some(Mode::Detach),
        _ => None,
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Bypass => "bypass",
        Mode::Detach => "detach",
    }
}

fn about(scope: &Scope) -> String {
    match scope {
        Scope::All => "everything on this node".to_owned(),
        Scope::Workload(name) => format!("workload {name}"),
        Scope::Service(name) => format!("service {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let workload = |vpc: &str, name: &str, number| ((vpc.to_owned(), name.to_owned()), WorkloadNumber::new(number));
        let service = |name: &str, number| (name.to_owned(), ServiceNumber::new(number));
        Names {
            services: [service("shop/orders", 1), service("pay/orders", 2), service("shop/cart", 3)].into(),
            workloads: [
                workload("platform/blue", "app", 10),
                workload("platform/green", "app", 11),
                workload("blue", "db", 12),
            ]
            .into(),
        }
    }

    #[test]
    fn names_are_found_in_full_or_where_they_are_unique() {
        let names = names();
        let id = |scope: Scope| names.key(&scope).map(|key| key.id).map_err(|e| e.to_string());
        assert_eq!(id(Scope::All), Ok(0));
        assert_eq!(id(Scope::Service("shop/orders".into())), Ok(1));
        assert_eq!(id(Scope::Service("cart".into())), Ok(3));
        assert!(id(Scope::Service("orders".into())).unwrap_err().contains("pay/orders and shop/orders"));
        assert!(id(Scope::Service("nope".into())).unwrap_err().contains("there is no service nope"));
        assert_eq!(id(Scope::Workload("db".into())), Ok(12));
        assert_eq!(id(Scope::Workload("platform/green/app".into())), Ok(11));
        assert!(id(Scope::Workload("app".into())).is_err());
    }

    #[test]
    fn keys_find_their_names_again() {
        let names = names();
        assert_eq!(names.scope(SwitchKey { scope: SWITCH_SERVICE, id: 2 }), Scope::Service("pay/orders".into()));
        assert_eq!(names.scope(SwitchKey { scope: SWITCH_WORKLOAD, id: 12 }), Scope::Workload("blue/db".into()));
        assert_eq!(names.scope(SwitchKey { scope: SWITCH_WORKLOAD, id: 99 }), Scope::Workload("#99".into()));
    }
}
