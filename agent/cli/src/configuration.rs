//! The agent's configuration file: the same settings as the flags of `brattice agent`, under the same names. Flags win; an
//! unknown key is an error.

use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, MarkedYaml};

use crate::Failure;
use crate::arguments::AgentArguments;

/// Read if it is there.
pub(crate) const DEFAULT: &str = "/etc/brattice/agent.yaml";
/// Largest file, bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// The keys.
const KEYS: [&str; 18] = [
    "policies",
    "run-dir",
    "state-dir",
    "bpffs",
    "engine-user",
    "group",
    "workers",
    "vip-range",
    "alias-range",
    "vip6-range",
    "alias6-range",
    "dns-suffix",
    "half-open-limit",
    "access-log",
    "access-log-sample",
    "metrics",
    "log",
    "stop-engine-on-exit",
];

/// Fills in from the file what the flags left out.
///
/// # Errors
/// When a named file is missing, or what is in it makes no sense.
pub(crate) fn complete(mut flags: AgentArguments) -> Result<AgentArguments, Failure> {
    let (path, required) = match &flags.config {
        Some(path) => (path.clone(), true),
        None => (PathBuf::from(DEFAULT), false),
    };
    match read(&path) {
        Ok(text) => {
            let file = parse(&text).map_err(|why| Failure::new(format!("{}:{why}", path.display())))?;
            merge(&mut flags, file);
            Ok(flags)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => Ok(flags),
        Err(e) => Err(Failure::new(format!("{} cannot be read: {e}", path.display()))),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    // Half a file would be other settings.
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("more than {MAX_BYTES} bytes are no settings")));
    }
    Ok(text)
}

fn merge(flags: &mut AgentArguments, file: AgentArguments) {
    fn fill<T>(flag: &mut Option<T>, file: Option<T>) {
        if flag.is_none() {
            *flag = file;
        }
    }
    fill(&mut flags.policies, file.policies);
    fill(&mut flags.run_dir, file.run_dir);
    fill(&mut flags.state_dir, file.state_dir);
    fill(&mut flags.bpffs, file.bpffs);
    fill(&mut flags.engine_user, file.engine_user);
    fill(&mut flags.group, file.group);
    fill(&mut flags.workers, file.workers);
    fill(&mut flags.vip_range, file.vip_range);
    fill(&mut flags.alias_range, file.alias_range);
    fill(&mut flags.vip6_range, file.vip6_range);
    fill(&mut flags.alias6_range, file.alias6_range);
    fill(&mut flags.dns_suffix, file.dns_suffix);
    fill(&mut flags.half_open_limit, file.half_open_limit);
    fill(&mut flags.access_log, file.access_log);
    fill(&mut flags.access_log_sample, file.access_log_sample);
    fill(&mut flags.metrics, file.metrics);
    fill(&mut flags.log, file.log);
    flags.stop_engine_on_exit |= file.stop_engine_on_exit;
}

/// An error begins with `line:column: `, the file's name goes before it.
fn parse(text: &str) -> Result<AgentArguments, String> {
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|e| format!("{}:{}: not YAML: {}", e.marker().line(), e.marker().col() + 1, e.info()))?;
    let mut settings = AgentArguments::default();
    let document = match &documents[..] {
        [] => return Ok(settings),
        [document] if document.data.is_null() => return Ok(settings),
        [document] => document,
        [_, second, ..] => return Err(at(second, "a second document; one is expected")),
    };
    let fields = document
        .data
        .as_mapping()
        .ok_or_else(|| at(document, "expected `setting: value` lines, named like the flags of `brattice agent`"))?;
    for (name, value) in fields {
        let key = name.data.as_str().ok_or_else(|| at(name, "a setting's name is not text"))?;
        let text = scalar(value).ok_or_else(|| at(value, &format!("{key}: expected a single value")))?;
        set(&mut settings, key, text).map_err(|why| at(if KEYS.contains(&key) { value } else { name }, &why))?;
    }
    Ok(settings)
}

fn at(node: &MarkedYaml<'_>, why: &str) -> String {
    format!("{}:{}: {why}", node.span.start.line(), node.span.start.col() + 1)
}

fn scalar(value: &MarkedYaml<'_>) -> Option<String> {
    let value = &value.data;
    value
        .as_str()
        .map(str::to_owned)
        .or_else(|| value.as_integer().map(|number| number.to_string()))
        .or_else(|| value.as_bool().map(|truth| truth.to_string()))
}

fn set(settings: &mut AgentArguments, key: &str, text: String) -> Result<(), String> {
    fn number<T: std::str::FromStr>(key: &str, text: &str, expected: &str) -> Result<Option<T>, String> {
        text.parse().map(Some).map_err(|_| format!("{key}: {text:?} is not {expected}"))
    }
    match key {
        "policies" => settings.policies = Some(text.into()),
        "run-dir" => settings.run_dir = Some(text.into()),
        "state-dir" => settings.state_dir = Some(text.into()),
        "bpffs" => settings.bpffs = Some(text.into()),
        "engine-user" => settings.engine_user = Some(text),
        "group" => settings.group = Some(text),
        "workers" => settings.workers = number(key, &text, "a number of 1 to 64")?,
        "vip-range" => settings.vip_range = number(key, &text, "a CIDR such as 169.254.64.0/20")?,
        "alias-range" => settings.alias_range = number(key, &text, "a CIDR such as 100.127.0.0/16")?,
        "vip6-range" => settings.vip6_range = Some(text.parse().map_err(|why| format!("{key}: {why}"))?),
        "alias6-range" => settings.alias6_range = number(key, &text, "a CIDR such as fd00:1:2::/48")?,
        "dns-suffix" => settings.dns_suffix = Some(text),
        "half-open-limit" => settings.half_open_limit = number(key, &text, "a number")?,
        "access-log" => settings.access_log = Some(text.parse().map_err(|why| format!("{key}: {why}"))?),
        "access-log-sample" => {
            let sample = number(key, &text, "a number from 1 on")?;
            if sample == Some(0) {
                return Err(format!("{key}: 0 would log nothing; leave access-log out for that"));
            }
            settings.access_log_sample = sample;
        }
        "metrics" => settings.metrics = Some(text.parse().map_err(|why| format!("{key}: {why}"))?),
        "log" => settings.log = Some(text),
        "stop-engine-on-exit" => {
            settings.stop_engine_on_exit = text.parse().map_err(|_| format!("{key}: expected true or false"))?;
        }
        unknown => return Err(format!("unknown setting {unknown:?}; there are {}", KEYS.join(", "))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known() {
        for key in KEYS {
            let value = match key {
                "workers" | "half-open-limit" | "access-log-sample" => "2",
                "metrics" => "127.0.0.1:9464",
                "vip-range" | "alias-range" => "10.0.0.0/16",
                "vip6-range" | "alias6-range" => "fd00:1:2::/48",
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
        assert!(parse("worker: 4").unwrap_err().contains("unknown setting \"worker\""));
        assert!(parse("workers: many").unwrap_err().contains("1 to 64"));
        assert!(parse("- a").is_err() && parse("workers: [1]").is_err() && parse("a: 1\n---\nb: 2").is_err());
        assert!(parse("").is_ok());
    }

    #[test]
    fn errors_say_where() {
        for (text, place) in [
            ("policies: /a\nworker: 4\n", "2:1: unknown setting"),
            ("policies: /a\nworkers:   many\n", "2:12: workers:"),
            ("metrics: 0.0.0.0:9464\n", "1:10: metrics: 0.0.0.0:9464 can be reached from outside"),
            ("access-log-sample: 0\n", "1:20: access-log-sample: 0"),
            ("workers: [1]\n", "1:10: workers: expected a single value"),
            ("policies: \"a\n", "not YAML"),
            ("a: b: c\n", "1:"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(place), "{text:?}: {error}");
            assert!(error.starts_with(|c: char| c.is_ascii_digit()), "{error}");
        }
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
    fn a_named_file_must_be_there() {
        let flags = AgentArguments { config: Some("/nonexistent/agent.yaml".into()), ..AgentArguments::default() };
        assert!(complete(flags).is_err());
    }
}
