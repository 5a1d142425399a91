//! A log filter: levels, and levels of targets. A target is a crate or module that logs.

/// Levels.
const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
/// Crates of agent and engine that may log; Brattice's first.
const CRATES: [&str; 14] = [
    "brattice_control",
    "brattice_engine",
    "brattice_loader",
    "brattice_sources",
    "aya",
    "aya_log",
    "aya_obj",
    "h2",
    "hickory_proto",
    "hyper",
    "hyper_util",
    "mio",
    "netlink_packet_route",
    "tokio",
];

// The modules of our crates that log, and those that they are in: `MODULES`.
include!(concat!(env!("OUT_DIR"), "/log_modules.rs"));

/// A filter as `EnvFilter` reads it, checked for what that takes in silence: a word that is no level is a target to it, of
/// which it logs all, and nothing else; and a target that nothing has fits nothing.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    if text.trim().is_empty() {
        return Err("no level is named; info is the default, and off logs nothing".to_owned());
    }
    for directive in &directives {
        if directive.is_empty() {
            return Err(format!("a level is missing beside a comma of {text:?}"));
        }
        let (target, level) =
            directive.split_once('=').map_or((None, *directive), |(target, level)| (Some(target), level));
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let help = match (brattice_model::nearest(level, LEVELS), target) {
                (Some(nearest), _) => format!("did you mean {nearest}?"),
                (None, None) => format!("a target has a level: {directive}=debug"),
                (None, Some(_)) => format!("levels are {}", LEVELS.join(", ")),
            };
            return Err(format!("{level:?} is no level; {help}"));
        }
        target.map_or(Ok(()), known)?;
    }
    // `EnvFilter` takes no blanks.
    let filter = directives.join(",");
    tracing_subscriber::EnvFilter::try_new(&filter).map_err(|e| e.to_string())?;
    Ok(filter)
}

/// A target fits all whose name begins with it. What follows in brackets is about spans.
fn known(target: &str) -> Result<(), String> {
    let path = target.split('[').next().unwrap_or_default();
    let fits = match path.split_once("::") {
        Some((name, _)) if MODULES.contains(&name) => return known_module(path),
        Some((name, _)) => CRATES.contains(&name),
        None => CRATES.iter().any(|known| known.starts_with(path)),
    };
    if fits {
        return Ok(());
    }
    let name = path.split("::").next().unwrap_or_default();
    // People write crates as packages are called.
    let help = match brattice_model::nearest(&name.replace('-', "_"), CRATES) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("targets are {}", CRATES.join(", ")),
    };
    Err(format!("nothing logs as {name:?}; {help}"))
}

/// A module of Brattice: those of other crates are not known.
fn known_module(path: &str) -> Result<(), String> {
    if MODULES.contains(&path) {
        return Ok(());
    }
    let parent = path.rsplit_once("::").map_or(path, |(parent, _)| parent);
    let below = || MODULES.into_iter().filter(|module| module.rsplit_once("::").is_some_and(|(own, _)| own == parent));
    let help = match brattice_model::nearest(path, MODULES) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None if below().next().is_some() => format!("in {parent} there are {}", below().collect::<Vec<_>>().join(", ")),
        None => format!("name the crate: {}", path.split("::").next().unwrap_or_default()),
    };
    Err(format!("nothing logs as {path:?}; {help}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_nothing_has_is_refused_with_the_nearest() {
        for (filter, nearest) in [
            ("brattice_contrl=debug", "brattice_control"),
            ("brattice-engine=debug", "brattice_engine"),
            ("info,brattice_loadr::datapath=trace", "brattice_loader"),
            ("hypr=off", "hyper"),
            ("brattice_control::engin=debug", "brattice_control::engine"),
            ("brattice_control::engine::supervisr=debug", "brattice_control::engine::supervisor"),
            ("info,brattice_loader::nftt=trace", "brattice_loader::nft"),
        ] {
            let error = parse(filter).unwrap_err();
            assert!(
                error.contains("nothing logs as") && error.contains(&format!("did you mean {nearest}?")),
                "{error}"
            );
        }
        assert!(parse("apache=debug").unwrap_err().contains("targets are brattice_control, "));
        for good in [
            "brattice_control=debug",
            "brattice=debug",
            "brattice_engine::http=trace,info",
            "brattice_control::engine=debug",
            "brattice_control::api::server=debug",
            "hyper::proto=debug",
            "brattice_control[turn]=debug",
            "[turn]=debug",
            "debug",
        ] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        assert_eq!(parse("info, h2=warn").as_deref(), Ok("info,h2=warn"));
    }

    /// What is in the list is there, and what is there and logs is in the list.
    #[test]
    fn the_list_of_modules_is_that_of_the_sources() {
        for there in ["brattice_control::engine::supervisor::machine", "brattice_loader::nft", "brattice_engine"] {
            assert!(MODULES.contains(&there), "{there}");
        }
        let tests: Vec<&str> = MODULES.into_iter().filter(|module| module.contains("tests")).collect();
        assert!(tests.is_empty(), "{tests:?}");
        assert!(parse("brattice_control::something_else=debug").unwrap_err().contains("in brattice_control there are"));
    }

    #[test]
    fn an_empty_filter_is_told_as_that() {
        for empty in ["", " "] {
            let error = parse(empty).unwrap_err();
            assert!(error.contains("no level is named") && error.contains("info is the default"), "{error}");
        }
        for gap in ["info,", ",info", "info,,h2=warn"] {
            assert!(parse(gap).unwrap_err().contains("beside a comma"), "{gap}");
        }
        assert!(parse("h2=").unwrap_err().contains("levels are"));
    }

    #[test]
    fn crates_that_log_are_named_as_they_are() {
        let lock = include_str!("../../../Cargo.lock");
        for name in CRATES {
            let named = [name.to_owned(), name.replace('_', "-")];
            assert!(named.iter().any(|name| lock.contains(&format!("name = \"{name}\""))), "{name}");
        }
    }
}
