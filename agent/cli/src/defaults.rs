//! Defaults of the commands: what the agent's file sets for the agent also holds for the commands that deal with it. So a
//! node with its own directories needs them in one place only.

use std::ffi::OsString;
use std::path::PathBuf;

use brattice_control::ranges::Origin;
use brattice_control::settings::POLICIES;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use crate::arguments::{Arguments, Verb};
use crate::configuration::Values;
use crate::{Failure, configuration, escape};

/// Settings that are flags of other commands, too.
const SETTINGS: [&str; 10] = [
    "policies",
    "run-dir",
    "state-dir",
    "bpffs",
    "engine-user",
    "vip-range",
    "alias-range",
    "vip6-range",
    "alias6-range",
    "dns-suffix",
];
/// These read the file themselves.
const OWN: [&str; 2] = ["agent", "cleanup"];
/// This acts as the agent would, so a file with errors stops it as it stops the agent.
const STRICT: &str = "preflight";
/// This is asked for where something is wrong, which may be the file.
const LENIENT: &str = "support-bundle";
/// The flag that names the file.
const CONFIG: &str = "config";

/// Why there are no arguments.
#[derive(Debug)]
pub(crate) enum NotParsed {
    /// Wrong usage, or help was asked for.
    Usage(clap::Error),
    /// The file cannot be used.
    File(Failure),
}

impl From<clap::Error> for NotParsed {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

/// The command line, with `--config` in each command that has settings of the agent among its flags.
pub(crate) fn command() -> Command {
    let command = Arguments::command();
    let names: Vec<String> = command.get_subcommands().map(|own| own.get_name().to_owned()).collect();
    names
        .iter()
        .filter(|name| !OWN.contains(&name.as_str()))
        .fold(command, |command, name| command.mut_subcommand(name, with_config))
}

fn with_config(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|own| own.get_name().to_owned()).collect();
    let command = names.iter().fold(command, |command, name| command.mut_subcommand(name, with_config));
    let has_config = command.get_arguments().any(|argument| argument.get_id() == CONFIG);
    if has_config || !command.get_arguments().any(|argument| setting(argument).is_some()) {
        return command;
    }
    command.arg(Arg::new(CONFIG).long(CONFIG).value_name("FILE").value_parser(clap::value_parser!(PathBuf)).help(
        "Configuration file of the agent, for what is not given here [default: /etc/brattice/agent.yaml, if it is there]",
    ))
}

/// The setting that is the default of an argument.
fn setting(argument: &Arg) -> Option<&str> {
    let usual = argument.get_default_values().first();
    match argument.get_long() {
        // Without a default it says by which documents a question is answered, rather than by the agent.
        Some("policies") | None => usual.filter(|value| *value == POLICIES).map(|_| "policies"),
        Some(long) => SETTINGS.contains(&long).then_some(long),
    }
}

/// Reads the command line. What is not given comes from the agent's file, then from the defaults.
pub(crate) fn parse(command: Command, words: &[OsString]) -> Result<Arguments, NotParsed> {
    let mut found = command.clone().try_get_matches_from(words)?;
    let Values { settings, mut range_origins } = settings(&command, &found).map_err(NotParsed::File)?;
    let (verb, given) = verb(&found);
    for (id, origin) in [
        ("vip_range", &mut range_origins.vip),
        ("alias_range", &mut range_origins.alias),
        ("vip6_range", &mut range_origins.vip6),
        ("alias6_range", &mut range_origins.alias6),
    ] {
        let has = given.try_contains_id(id).is_ok_and(|has| has);
        if has && given.value_source(id) == Some(ValueSource::CommandLine) {
            *origin = Origin::Flag;
        }
    }
    if !settings.is_empty() {
        found = with_defaults(command, &verb, &settings).try_get_matches_from(words)?;
    }
    let mut arguments = Arguments::from_arg_matches(&found)?;
    if let Verb::Preflight(preflight) = &mut arguments.verb {
        preflight.node.range_origins = range_origins;
    }
    Ok(arguments)
}

/// The words of the verb (`engine`, `restart`), and what was given to it.
fn verb(found: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let (mut words, mut found) = (Vec::new(), found);
    while let Some((name, own)) = found.subcommand() {
        words.push(name.to_owned());
        found = own;
    }
    (words, found)
}

/// What the file sets for this command line; nothing where the command has no use for it.
fn settings(command: &Command, found: &ArgMatches) -> Result<Values, Failure> {
    let (words, given) = verb(found);
    let Some(first) = words.first().filter(|first| !OWN.contains(&first.as_str())) else {
        return Ok(Values::default());
    };
    let mut own = command;
    for word in &words {
        let Some(below) = own.find_subcommand(word) else { return Ok(Values::default()) };
        own = below;
    }
    if !own.get_arguments().any(|argument| argument.get_id() == CONFIG) {
        return Ok(Values::default());
    }
    let typed = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let named = given.get_one::<PathBuf>(CONFIG).filter(|_| typed(CONFIG));
    // A file that is not needed must not be in the way.
    let mut wanted = own.get_arguments().filter(|argument| setting(argument).is_some());
    if named.is_none() && wanted.all(|argument| typed(argument.get_id().as_str())) {
        return Ok(Values::default());
    }
    match configuration::values(named.map(PathBuf::as_path)) {
        Err(failure) if first == LENIENT || (named.is_none() && first != STRICT) => {
            eprintln!("warning: {}\nit is not used, and the usual directories are", escape::text(&failure.text));
            Ok(Values::default())
        }
        other => other,
    }
}

/// The command, with these settings as the defaults of a verb's arguments.
fn with_defaults(command: Command, verb: &[String], settings: &[(String, String)]) -> Command {
    if let [first, rest @ ..] = verb {
        return command.mut_subcommand(first, |own| with_defaults(own, rest, settings));
    }
    let mut changes = Vec::new();
    for argument in command.get_arguments() {
        if let Some((_, value)) = settings.iter().find(|(name, _)| setting(argument) == Some(name)) {
            changes.push((argument.get_id().clone(), value.clone()));
        }
    }
    changes.into_iter().fold(command, |command, (id, value)| {
        // The parser keeps defaults for as long as the process lives; this is done once.
        command.mut_arg(id, |argument| argument.default_value(&*value.leak()))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use brattice_control::ranges::Origins;

    use super::*;
    use crate::arguments::EngineVerb;

    const FILE: &str = "policies: /srv/pol\nrun-dir: /srv/run\nstate-dir: /srv/state\nbpffs: /sys/fs/bpf/srv\n\
                        engine-user: web\nvip-range: 10.9.0.0/20\nalias-range: 10.8.0.0/16\nvip6-range: off\n\
                        dns-suffix: mesh.internal\nworkers: 2\nstop-engine-on-exit: true\n";

    fn with_file(text: &str, words: &[&str]) -> Result<Verb, NotParsed> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let words = [&["brattice"], words, &["--config", path]].concat();
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        parse(command(), &words).map(|arguments| arguments.verb)
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn preflight_checks_what_the_agent_would_use() {
        let Verb::Preflight(found) = with_file(FILE, &["preflight", "--run-dir", "/mine"]).unwrap() else { panic!() };
        assert_eq!(found.policies, Path::new("/srv/pol"));
        assert_eq!((found.run_dir, found.bpffs), ("/mine".into(), "/sys/fs/bpf/srv".into()), "flags win");
        assert_eq!(found.engine_user.as_deref(), Some("web"));
        assert_eq!(found.node.vip_range, Some("10.9.0.0/20".parse().unwrap()));
        assert_eq!(found.node.alias_range, Some("10.8.0.0/16".parse().unwrap()));
        assert!(found.node.vip6_range.is_some() && found.node.alias6_range.is_none());
        let Origins { vip, alias6, .. } = &found.node.range_origins;
        assert!(matches!(vip, Origin::File { line: 6, column: 12, .. }), "{vip:?}");
        assert_eq!(*alias6, Origin::Default);
        let words = ["preflight", "--vip-range", "10.7.0.0/20"];
        let Verb::Preflight(found) = with_file(FILE, &words).unwrap() else { panic!() };
        assert_eq!(found.node.range_origins.vip, Origin::Flag);
        assert_eq!((found.node.dns_suffix.as_str(), found.node.state_dir), ("mesh.internal", "/srv/state".into()));
    }

    #[test]
    fn other_commands_take_the_agents_directories() {
        let Verb::Status(found) = with_file(FILE, &["status"]).unwrap() else { panic!() };
        assert_eq!(found.run_dir, Path::new("/srv/run"));
        let Verb::Engine(EngineVerb::Restart { run_dir }) = with_file(FILE, &["engine", "restart"]).unwrap() else {
            panic!()
        };
        assert_eq!(run_dir, Path::new("/srv/run"));
        let Verb::Validate(found) = with_file(FILE, &["validate"]).unwrap() else { panic!() };
        assert_eq!((found.directory, found.node.state_dir), ("/srv/pol".into(), "/srv/state".into()));
        let Verb::Diff(found) = with_file(FILE, &["diff", "/mine"]).unwrap() else { panic!() };
        assert_eq!(found.directory, Path::new("/mine"));
        let Verb::Bypass(found) = with_file(FILE, &["bypass", "--all"]).unwrap() else { panic!() };
        assert_eq!(found.bpffs, Path::new("/sys/fs/bpf/srv"));
        let Verb::Explain(found) = with_file(FILE, &["explain", "r-1"]).unwrap() else { panic!() };
        assert_eq!((found.basis.policies, found.basis.run_dir), (None, "/srv/run".into()), "the agent answers");
        let Verb::SupportBundle(found) = with_file(FILE, &["support-bundle"]).unwrap() else { panic!() };
        assert_eq!((found.policies, found.bpffs), ("/srv/pol".into(), "/sys/fs/bpf/srv".into()));
    }

    #[test]
    fn a_named_file_must_be_usable() {
        let error = with_file("run-dri: /srv\n", &["status"]).unwrap_err();
        assert!(matches!(error, NotParsed::File(failure) if failure.text.contains("agent.yaml:1:1: unknown setting")));
        let words = ["brattice", "status", "--config", "/nonexistent/agent.yaml"].map(OsString::from);
        assert!(matches!(parse(command(), &words), Err(NotParsed::File(_))));
        let bundle = with_file("run-dri: /srv\n", &["support-bundle"]);
        assert!(matches!(bundle, Ok(Verb::SupportBundle(_))), "it is for such a host: {bundle:?}");
        assert!(matches!(with_file(FILE, &["version"]), Err(NotParsed::Usage(_))), "it has no such setting");
    }
}
