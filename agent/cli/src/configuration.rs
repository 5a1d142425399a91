//! The agent's configuration file: the same settings as the flags of `brattice agent`, under the same names, read by the
//! same rules: each setting becomes the flag it is named after. Flags of the command line win.

use std::error::Error as _;
use std::path::Path;

use brattice_control::ranges::{Origin, Origins};
use brattice_control::settings;
use brattice_model::nearest;
use brattice_model::yaml::{self, Content, Mark, Node};
use clap::{Arg, ArgAction, CommandFactory as _, Parser};

use crate::Failure;
use crate::arguments::AgentArguments;

/// Read if it is there.
pub(crate) const DEFAULT: &str = "/etc/brattice/agent.yaml";
/// Largest file, bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// Its files are named by absolute paths.
const ACCESS_LOG: &str = "access-log";
/// Names the file itself, and so is no setting in it.
const CONFIG: &str = "config";

/// The flags of `brattice agent`, alone.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Flags {
    #[command(flatten)]
    settings: AgentArguments,
}

/// Fills in from the file what the flags left out.
///
/// # Errors
/// When a named file is missing, or what is in it makes no sense.
pub(crate) fn complete(mut flags: AgentArguments) -> Result<AgentArguments, Failure> {
    let (file, _) = load(flags.config.as_deref())?;
    merge(&mut flags, file);
    Ok(flags)
}

/// What a file sets, for commands other than the agent.
#[derive(Default)]
pub(crate) struct Values {
    /// Name and value as text.
    pub(crate) settings: Vec<(String, String)>,
    /// Where the ranges are set.
    pub(crate) range_origins: Origins,
}

/// The settings in this file, or in [`DEFAULT`] if it is there.
///
/// # Errors
/// As for [`complete`].
pub(crate) fn values(named: Option<&Path>) -> Result<Values, Failure> {
    let (file, flags) = load(named)?;
    // A setting that is a switch has no value as a flag.
    let settings = flags.iter().filter_map(|flag| flag.strip_prefix("--")?.split_once('=')).map(owned).collect();
    Ok(Values { settings, range_origins: file.range_origins })
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Reads the named file, or [`DEFAULT`] if it is there.
fn load(named: Option<&Path>) -> Result<(AgentArguments, Vec<String>), Failure> {
    let path = named.unwrap_or(Path::new(DEFAULT));
    match read(path) {
        Ok(text) => read_settings(&text, path).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|why| format!("{}:{why}", path.display())).collect();
            Failure::new(lines.join("\n"))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(Default::default()),
        Err(e) => Err(Failure::new(format!("{} cannot be read: {e}", path.display()))),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    // Half a file would be other settings.
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("more than {MAX_BYTES} bytes are no settings")));
    }
    text(bytes).map_err(std::io::Error::other)
}

/// The text of a file in UTF-8.
fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.contains(&0) {
        return Err("it is UTF-16 (or no text at all); save it as UTF-8: `iconv -f UTF-16 -t UTF-8`");
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8; which encoding did the editor save it in?")
}

fn merge(flags: &mut AgentArguments, file: AgentArguments) {
    fn fill<T>(flag: &mut Option<T>, file: Option<T>) {
        if flag.is_none() {
            *flag = file;
        }
    }
    // Without `..`, so that a new setting cannot be forgotten here.
    let AgentArguments {
        config: _,
        policies,
        run_dir,
        state_dir,
        bpffs,
        engine_user,
        group,
        workers,
        vip_range,
        alias_range,
        vip6_range,
        alias6_range,
        dns_suffix,
        half_open_limit,
        access_log,
        access_log_sample,
        metrics,
        log,
        ebpf_log,
        stop_engine_on_exit,
        range_origins,
    } = file;
    let origin = |is_flag: bool, file: Origin| if is_flag { Origin::Flag } else { file };
    flags.range_origins = Origins {
        vip: origin(flags.vip_range.is_some(), range_origins.vip),
        alias: origin(flags.alias_range.is_some(), range_origins.alias),
        vip6: origin(flags.vip6_range.is_some(), range_origins.vip6),
        alias6: origin(flags.alias6_range.is_some(), range_origins.alias6),
    };
    fill(&mut flags.policies, policies);
    fill(&mut flags.run_dir, run_dir);
    fill(&mut flags.state_dir, state_dir);
    fill(&mut flags.bpffs, bpffs);
    fill(&mut flags.engine_user, engine_user);
    fill(&mut flags.group, group);
    fill(&mut flags.workers, workers);
    fill(&mut flags.vip_range, vip_range);
    fill(&mut flags.alias_range, alias_range);
    fill(&mut flags.vip6_range, vip6_range);
    fill(&mut flags.alias6_range, alias6_range);
    fill(&mut flags.dns_suffix, dns_suffix);
    fill(&mut flags.half_open_limit, half_open_limit);
    fill(&mut flags.access_log, access_log);
    fill(&mut flags.access_log_sample, access_log_sample);
    fill(&mut flags.metrics, metrics);
    fill(&mut flags.log, log);
    fill(&mut flags.ebpf_log, ebpf_log);
    flags.stop_engine_on_exit |= stop_engine_on_exit;
}

/// The settings of a file, and each as the flag it is named after (`--name=value`); or everything that is wrong with it. An error
/// begins with `line:column: `, the file's name goes before it.
fn read_settings(text: &str, path: &Path) -> Result<(AgentArguments, Vec<String>), Vec<String>> {
    let (documents, refusals) = yaml::read(text, &mut 0);
    let mut errors: Vec<String> = refusals
        .iter()
        .map(|refusal| match refusal.help {
            "" => at(refusal.mark, &refusal.message),
            help => at(refusal.mark, &format!("{}; {help}", refusal.message)),
        })
        .collect();
    let mut flags = Vec::new();
    match &documents[..] {
        [] => {}
        [Node { content: Content::Map(fields), .. }] => {
            for (key, value) in fields {
                match flag(&key.name, value) {
                    Ok(flag) => flags.extend(flag),
                    Err((on_value, why)) => errors.push(at(if on_value { value.mark } else { key.mark }, &why)),
                }
            }
        }
        [document] => {
            errors.push(at(document.mark, "expected `setting: value` lines, named like the flags of `brattice agent`"));
        }
        [_, second, ..] => errors.push(at(second.mark, "a second document; one is expected")),
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    // Each was read alone already.
    let mut settings = Flags::try_parse_from(&flags)
        .map(|flags| flags.settings)
        .map_err(|e| vec![at(Mark { line: 1, column: 1, length: 1 }, &reason(&e))])?;
    settings.range_origins = origins(&documents, path);
    match overlap(&settings) {
        Some((name, why)) => {
            let mark = value_mark(&documents, name).unwrap_or(Mark { line: 1, column: 1, length: 1 });
            Err(vec![at(mark, &format!("{name}: {why}"))])
        }
        None => Ok((settings, flags)),
    }
}

/// Where a file sets the ranges.
fn origins(documents: &[Node], path: &Path) -> Origins {
    let of = |name: &str| match value_mark(documents, name) {
        Some(Mark { line, column, .. }) => Origin::File { path: path.to_owned(), line, column },
        None => Origin::Default,
    };
    Origins { vip: of("vip-range"), alias: of("alias-range"), vip6: of("vip6-range"), alias6: of("alias6-range") }
}

/// A range of aliases that shares addresses with that of VIPs: the setting's name, and why it is refused.
fn overlap(settings: &AgentArguments) -> Option<(&'static str, String)> {
    if let (Some(vip), Some(alias)) = (settings.vip_range, settings.alias_range)
        && (vip.contains(&alias) || alias.contains(&vip))
    {
        let line = line_of(&settings.range_origins.vip);
        return Some(("alias-range", format!("{alias} overlaps the vip-range {vip} ({line})")));
    }
    let alias = settings.alias6_range?;
    let vip = settings::ipv6_ranges(settings.vip6_range, Some(alias))?.vip;
    let line = line_of(&settings.range_origins.vip6);
    alias.contains(&vip).then(|| ("alias6-range", format!("{alias} overlaps the vip6-range {vip} ({line})")))
}

fn line_of(origin: &Origin) -> String {
    match origin {
        Origin::File { line, .. } => format!("line {line}"),
        _ => "the default".to_owned(),
    }
}

/// Where the value of a setting is.
fn value_mark(documents: &[Node], name: &str) -> Option<Mark> {
    let fields = documents.iter().filter_map(|document| match &document.content {
        Content::Map(fields) => Some(fields),
        _ => None,
    });
    fields.flatten().find(|(key, _)| key.name == name).map(|(_, value)| value.mark)
}

/// A setting as the flag it is named after; none where it is switched off. An error says whether the value is wrong, else
/// the name is.
fn flag(name: &str, value: &Node) -> Result<Option<String>, (bool, String)> {
    let command = Flags::command();
    let settings = || command.get_arguments().filter_map(Arg::get_long).filter(|long| *long != CONFIG);
    let Some(argument) = command.get_arguments().find(|arg| arg.get_long() == Some(name) && name != CONFIG) else {
        let help = match nearest(name, settings()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("there are {}", settings().collect::<Vec<_>>().join(", ")),
        };
        return Err((false, format!("unknown setting {name:?}; {help}")));
    };
    let (text, plain) = match &value.content {
        Content::Scalar { text, plain } => (text, plain),
        // Was reported already.
        Content::Refused => return Ok(None),
        Content::List(_) | Content::Map(_) => return Err((true, format!("{name}: expected a single value"))),
    };
    if *plain && yaml::is_null(text) {
        return Err((true, format!("{name}: expected a value; leave the line out for the default")));
    }
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        return match text.as_str() {
            "true" => Ok(Some(format!("--{name}"))),
            "false" => Ok(None),
            other => Err((true, format!("{name}: expected true or false, not {other:?}"))),
        };
    }
    // The agent has no directory that the writer of a file would think of.
    if name == ACCESS_LOG && !matches!(text.as_str(), "stdout" | "none") && !Path::new(text).is_absolute() {
        return Err((true, format!("{name}: {text:?} is neither stdout nor none nor an absolute path of a file")));
    }
    let flag = format!("--{name}={text}");
    match Flags::try_parse_from([&flag]) {
        Ok(_) => Ok(Some(flag)),
        Err(e) => {
            let what = argument.get_help().map(ToString::to_string).unwrap_or_default();
            Err((true, format!("{name}: {}; it is: {what}", reason(&e))))
        }
    }
}

/// Why clap refused a value, without its hints for the command line.
fn reason(error: &clap::Error) -> String {
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

fn at(mark: Mark, why: &str) -> String {
    format!("{}:{}: {why}", mark.line, mark.column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AgentArguments, Vec<String>> {
        read_settings(text, Path::new("/srv/agent.yaml")).map(|(settings, _)| settings)
    }

    #[test]
    fn every_key_is_known() {
        let command = Flags::command();
        let keys: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).filter(|key| *key != CONFIG).collect();
        assert_eq!(keys.len(), 19, "{keys:?}");
        for key in keys {
            let value = match key {
                "workers" | "half-open-limit" | "access-log-sample" => "2",
                "log" => "info",
                "ebpf-log" => "off",
                "access-log" => "/x",
                "metrics" => "127.0.0.1:9464",
                "vip-range" | "alias-range" => "10.0.0.0/16",
                "vip6-range" => "fd00:1:2:3::/64",
                "alias6-range" => "fd00:1:2::/48",
                "stop-engine-on-exit" => "true",
                _ => "x",
            };
            assert!(parse(&format!("{key}: {value}")).is_ok(), "{key}");
        }
    }

    #[test]
    fn flags_win_and_unknown_keys_are_errors() {
        let file = parse("workers: 4\npolicies: /a\nengine-user: 4711\n").unwrap();
        let mut flags = AgentArguments { workers: Some(2), ..AgentArguments::default() };
        merge(&mut flags, file);
        assert_eq!(flags.workers, Some(2));
        assert_eq!(flags.policies, Some("/a".into()));
        assert_eq!(flags.engine_user.as_deref(), Some("4711"));
        let only = |text: &str| {
            let errors = parse(text).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:?}");
            errors[0].clone()
        };
        assert!(only("worker: 4").contains("unknown setting \"worker\"; did you mean workers?"));
        assert!(only("config: /a").contains("unknown setting \"config\""));
        assert!(only("workers: many").contains("1 to 64"));
        assert!(parse("- a").is_err() && parse("workers: [1]").is_err() && parse("a: 1\n---\nb: 2").is_err());
        assert!(parse("").is_ok());
    }

    #[test]
    fn each_range_is_known_by_its_flag_its_line_or_as_the_default() {
        let mut flags = AgentArguments { alias_range: "10.2.0.0/16".parse().ok(), ..AgentArguments::default() };
        merge(&mut flags, parse("workers: 2\nvip-range: 10.1.0.0/20\nalias-range: 10.3.0.0/16\n").unwrap());
        let Origins { vip, alias, vip6, alias6 } = flags.range_origins;
        assert_eq!(vip, Origin::File { path: "/srv/agent.yaml".into(), line: 2, column: 12 });
        assert_eq!((alias, vip6, alias6), (Origin::Flag, Origin::Default, Origin::Default));
    }

    #[test]
    fn errors_say_where() {
        for (text, place) in [
            ("policies: /a\nworker: 4\n", "2:1: unknown setting"),
            ("policies: /a\nworkers:   many\n", "2:12: workers:"),
            ("metrics: 0.0.0.0:9464\n", "1:10: metrics: 0.0.0.0:9464 can be reached from outside"),
            ("access-log: true\n", "1:13: access-log: \"true\" is neither stdout nor none"),
            ("access-log: log/access.log\n", "1:13: access-log: \"log/access.log\" is neither"),
            ("access-log-sample: 0\n", "1:20: access-log-sample: 0"),
            ("workers: 2\nworkers: 4\n", "2:1: the key `workers` is there twice; first at line 1, column 1"),
            ("workers: 0\n", "1:10: workers: 0 is not in 1..=64"),
            ("workers: 65\n", "1:10: workers: 65 is not in 1..=64"),
            ("log: inof\n", "1:6: log: \"inof\" is no level; did you mean info?"),
            ("log: brattice_control=debog\n", "1:6: log: "),
            ("log: debug,inof\n", "1:6: log: \"inof\" is no level"),
            (
                "log: brattice_contrl=debug\n",
                "1:6: log: nothing logs as \"brattice_contrl\"; did you mean brattice_control?",
            ),
            ("dns-suffix: \"bad suffix\"\n", "1:13: dns-suffix: a domain name has only letters"),
            ("dns-suffix: 10.0.0.1\n", "1:13: dns-suffix: the last part of a domain name is not a number"),
            ("log: \"\"\n", "1:6: log: no level is named"),
            ("engine-user: root\n", "1:14: engine-user: \"root\": the engine needs a user of its own"),
            ("half-open-limit: 0\n", "1:18: half-open-limit: 0 is not in 1.."),
            ("policies:\n", "1:9: policies: expected a value"),
            ("stop-engine-on-exit: yes\n", "1:22: stop-engine-on-exit: expected true or false, not \"yes\""),
            ("log: &a info\n", "1:6: anchors are not used here"),
            ("workers: [1]\n", "1:10: workers: expected a single value"),
            ("policies: \"a\n", "not YAML"),
            ("a: b: c\n", "1:"),
        ] {
            let error = parse(text).unwrap_err().join("\n");
            assert!(error.contains(place), "{text:?}: {error}");
            assert!(error.starts_with(|c: char| c.is_ascii_digit()), "{error}");
        }
    }

    #[test]
    fn ranges_that_cannot_be_are_refused_at_their_place() {
        for (text, place) in [
            ("vip-range: 0.0.0.0/20\n", "1:12: vip-range: it overlaps 0.0.0.0/8"),
            ("vip-range: 127.0.0.0/16\n", "1:12: vip-range: it overlaps 127.0.0.0/8"),
            ("vip-range: 224.0.0.0/16\n", "1:12: vip-range: it overlaps 224.0.0.0/4"),
            ("workers: 2\nvip-range: 240.0.0.0/20\n", "2:12: vip-range: it overlaps 240.0.0.0/4"),
            ("vip-range: 255.255.255.0/24\n", "1:12: vip-range: it overlaps 240.0.0.0/4"),
            ("vip-range: 169.254.169.0/24\n", "1:12: vip-range: it contains 169.254.169.254/32"),
            ("vip-range: 10.0.0.0/27\n", "1:12: vip-range: it must be a /8 to /26"),
            ("alias-range: 0.0.0.0/16\n", "1:14: alias-range: it overlaps 0.0.0.0/8"),
            ("alias-range: 127.0.0.0/16\n", "1:14: alias-range: it overlaps 127.0.0.0/8"),
            ("alias-range: 224.0.0.0/16\n", "1:14: alias-range: it overlaps 224.0.0.0/4"),
            ("alias-range: 240.0.0.0/16\n", "1:14: alias-range: it overlaps 240.0.0.0/4"),
            ("alias-range: 169.254.64.0/20\n", "1:14: alias-range: it overlaps 169.254.0.0/16"),
            (
                "alias-range: 10.1.0.0/16\nvip-range: 10.0.0.0/8\n",
                "1:14: alias-range: 10.1.0.0/16 overlaps the vip-range 10.0.0.0/8 (line 2)",
            ),
            ("vip6-range: fe80::/64\n", "1:13: vip6-range: it must be of unique local addresses"),
            ("vip6-range: ::/64\n", "1:13: vip6-range: it must be of unique local addresses"),
            ("vip6-range: ff02::/64\n", "1:13: vip6-range: it must be of unique local addresses"),
            ("vip6-range: fd00::/48\n", "1:13: vip6-range: it must be a /64"),
            ("alias6-range: fe80::/48\n", "1:15: alias6-range: it must be of unique local addresses"),
            ("alias6-range: ff02::/48\n", "1:15: alias6-range: it must be of unique local addresses"),
            (
                "alias6-range: fd8b:2a77:1c51::/48\n",
                "1:15: alias6-range: fd8b:2a77:1c51::/48 overlaps the vip6-range fd8b:2a77:1c51::/64 (the default)",
            ),
        ] {
            let error = parse(text).unwrap_err().join("\n");
            assert!(error.starts_with(place), "{text:?}: {error}");
        }
        let good =
            "vip-range: 10.1.0.0/20\nalias-range: 10.2.0.0/16\nvip6-range: off\nalias6-range: fd8b:2a77:1c51::/48\n";
        assert!(parse(good).is_ok());
    }

    #[test]
    fn values_are_taken_as_they_were_written() {
        let file = parse("log: brattice_control=debug,info\ndns-suffix: Mesh.Internal.\nengine-user: 007\n").unwrap();
        assert_eq!(file.log.as_deref(), Some("brattice_control=debug,info"));
        assert_eq!(file.dns_suffix.as_deref(), Some("mesh.internal"));
        assert_eq!(file.engine_user.as_deref(), Some("007"));
        for log in ["off", "TRACE", "warn,brattice_engine=trace,hyper=off"] {
            assert!(parse(&format!("log: {log}\n")).is_ok(), "{log}");
        }
    }

    #[test]
    fn every_error_is_told() {
        let errors = parse("workers: 0\nlog: inof\nworkers: 2\n").unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, format!("workers: 2\n{}", "# padding\n".repeat(8_000))).unwrap();
        let flags = AgentArguments { config: Some(path), ..AgentArguments::default() };
        assert!(complete(flags).unwrap_err().text.contains("65536 bytes"));
    }

    #[test]
    fn a_file_that_is_not_utf_8_is_told_as_what_it_is() {
        let utf_16: Vec<u8> = "\u{feff}workers: 2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(text(utf_16.clone()).unwrap_err().contains("UTF-16"));
        assert!(text(utf_16[2..].to_vec()).unwrap_err().contains("UTF-16"), "without a mark");
        assert!(text(b"log: caf\xe9\n".to_vec()).unwrap_err().contains("not UTF-8"));
        assert_eq!(text(b"workers: 2\n".to_vec()).unwrap(), "workers: 2\n");
        for good in ["stdout", "none", "/var/log/brattice/access.log"] {
            assert!(parse(&format!("access-log: {good}\n")).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_named_file_must_be_there() {
        let flags = AgentArguments { config: Some("/nonexistent/agent.yaml".into()), ..AgentArguments::default() };
        assert!(complete(flags).is_err());
    }
}
