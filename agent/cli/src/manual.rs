//! What the man pages and `--help` say beyond the options: examples and exit codes of each verb.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::defaults;

/// What a verb's page has at its end.
struct Page {
    /// As it is typed: `engine restart`.
    verb: &'static str,
    /// What for, and the command.
    examples: &'static [(&'static str, &'static str)],
    /// Exit code and what it means.
    codes: &'static [(u8, &'static str)],
}

const DONE: &[(u8, &str)] =
    &[(0, "Done."), (1, "Not done; the message says why."), (2, "Wrong usage, or no agent answers.")];
const LOCAL: &[(u8, &str)] = &[(0, "Done."), (1, "Not done; the message says why."), (2, "Wrong usage.")];

const PAGES: &[Page] = &[
    Page {
        verb: "",
        examples: &[
            ("See whether this host fits, before anything is started", "brattice preflight"),
            ("How the node is", "brattice status"),
            ("Why a request was denied", "brattice explain eb0661eb-23f4-44fb-83be-2e23351067d8"),
        ],
        codes: &[
            (0, "Done; for status: all well; for route and explain: the request is served."),
            (1, "Not done, or something needs attention; for route and explain: the request is not served."),
            (
                2,
                "Wrong usage, or no agent answers; for status: not serving; for route and explain: nothing can be said.",
            ),
        ],
    },
    Page {
        verb: "agent",
        examples: &[
            ("In the foreground, with documents of another place", "brattice agent --policies ./policies"),
            ("With an access log and metrics", "brattice agent --access-log stdout --metrics 127.0.0.1:9464"),
        ],
        codes: &[
            (0, "Ended by SIGTERM or SIGINT; engine and kernel serve on."),
            (1, "It cannot start, or cannot go on."),
            (2, "Wrong usage."),
        ],
    },
    Page { verb: "engine", examples: &[("Replace the engine", "brattice engine restart")], codes: DONE },
    Page {
        verb: "engine restart",
        examples: &[("Replace the engine, also one that stays down", "brattice engine restart")],
        codes: DONE,
    },
    Page { verb: "init", examples: &[("A directory to begin with", "brattice init ./policies")], codes: LOCAL },
    Page {
        verb: "explain-field",
        examples: &[
            ("The kinds of documents", "brattice explain-field"),
            ("One field", "brattice explain-field Service.spec.listeners"),
            ("All that can be in a kind", "brattice explain-field TargetGroup --recursive"),
        ],
        codes: &[(0, "Done."), (1, "There is no such field."), (2, "Wrong usage.")],
    },
    Page {
        verb: "validate",
        examples: &[
            ("What the agent reads", "brattice validate"),
            ("A checkout, for a program", "brattice validate ./policies -o json"),
        ],
        codes: &[(0, "No errors."), (1, "There are errors, or the directory cannot be read."), (2, "Wrong usage.")],
    },
    Page {
        verb: "diff",
        examples: &[("What a checkout would change", "brattice diff ./policies")],
        codes: &[(0, "No errors, whether or not something changes."), (1, "There are errors."), (2, "Wrong usage.")],
    },
    Page {
        verb: "policy",
        examples: &[("Try written cases", "brattice policy test ./policies cases.yaml")],
        codes: LOCAL,
    },
    Page {
        verb: "policy test",
        examples: &[
            ("Try written cases", "brattice policy test ./policies cases.yaml"),
            ("Try what was logged by other documents", "brattice policy test ./policies /var/log/brattice/access.log"),
        ],
        codes: &[
            (0, "Everything is as written."),
            (1, "Something differs, or nothing could be decided."),
            (2, "Wrong usage."),
        ],
    },
    Page {
        verb: "status",
        examples: &[
            ("How the node is", "brattice status"),
            ("Every second", "brattice status --watch"),
            ("For a program", "brattice status -o json"),
        ],
        codes: &[
            (0, "All well."),
            (1, "Something needs attention."),
            (2, "Not serving, no agent answers, or wrong usage."),
        ],
    },
    Page {
        verb: "services",
        examples: &[
            ("All of them, with every column", "brattice services --wide"),
            ("One", "brattice services shop/orders -o yaml"),
            ("The names of an account's", "brattice services -n shop -o name"),
        ],
        codes: &[(0, "Done."), (1, "There is none of such a name."), (2, "Wrong usage, or no agent answers.")],
    },
    Page {
        verb: "workloads",
        examples: &[
            ("All of them", "brattice workloads"),
            ("One, by its address", "brattice workloads 10.0.0.10"),
            ("One of several with the same name", "brattice workloads platform/blue/web-1"),
            ("As they come and go", "brattice workloads --watch"),
        ],
        codes: &[(0, "Done."), (1, "There is none of such a name."), (2, "Wrong usage, or no agent answers.")],
    },
    Page {
        verb: "flows",
        examples: &[
            ("Who is connected to a service", "brattice flows --service shop/orders"),
            ("Those of the last five minutes, again and again", "brattice flows --since 5m --watch"),
            ("One", "brattice flows 4711 -o yaml"),
        ],
        codes: &[(0, "Done."), (1, "There is none of such an id."), (2, "Wrong usage, or no agent answers.")],
    },
    Page {
        verb: "logs",
        examples: &[
            ("What is denied, as it comes", "brattice logs -f --denied"),
            ("Failures of the last hour", "brattice logs --since 1h --status 5xx"),
            ("Of one account's services, for a program", "brattice logs -n shop -o json"),
        ],
        codes: DONE,
    },
    Page {
        verb: "route",
        examples: &[(
            "Which rule a request meets",
            "brattice route --from platform/blue --service shop/orders --path /x --header x-tester:true",
        )],
        codes: &[
            (
                0,
                "It is served, or, where groups are chosen by weight, most such requests are: the share of a group without a target is a note here, and a problem of status.",
            ),
            (1, "It is not served."),
            (2, "Nothing can be said, or wrong usage."),
        ],
    },
    Page {
        verb: "explain",
        examples: &[
            ("A request that was sent", "brattice explain eb0661eb-23f4-44fb-83be-2e23351067d8"),
            ("One that was not", "brattice explain --from web-1 --to shop/orders --method POST"),
            ("The latest of a live connection", "brattice explain --flow 4711"),
        ],
        codes: &[(0, "Allowed."), (1, "Denied or unreachable."), (2, "Nothing can be said, or wrong usage.")],
    },
    Page {
        verb: "bypass",
        examples: &[
            ("Whether Brattice is the fault", "brattice bypass shop/orders --for 15m"),
            ("End it", "brattice bypass shop/orders --off"),
            ("While the agent is dead", "brattice bypass --all --offline"),
        ],
        codes: DONE,
    },
    Page {
        verb: "detach",
        examples: &[
            ("Leave a workload's packets alone", "brattice detach platform/blue/web-1 --for 1h"),
            ("Take it back", "brattice detach --workload web-1 --off"),
        ],
        codes: DONE,
    },
    Page {
        verb: "accept",
        examples: &[("Take a change that removes most services of an account", "brattice accept shop")],
        codes: DONE,
    },
    Page {
        verb: "preflight",
        examples: &[
            ("Before the first start", "brattice preflight"),
            ("With the settings of another file", "brattice preflight --config ./agent.yaml"),
            ("Without packets, for a program", "brattice preflight --no-probe -o json"),
        ],
        codes: &[
            (0, "This host fits, and user and documents are ready."),
            (
                1,
                "It does not fit yet, or something is to be done first; the last line says what. Or another data path works in this network namespace; it is not touched, and the message names it.",
            ),
            (2, "Wrong usage."),
        ],
    },
    Page {
        verb: "cleanup",
        examples: &[("Everything, once the agent has ended", "brattice cleanup")],
        codes: &[
            (0, "Nothing is left."),
            (
                1,
                "Something is left; the message names it. Or a data path works here whose pins are in another directory: nothing is touched, and the message names that directory.",
            ),
            (2, "Wrong usage."),
        ],
    },
    Page {
        verb: "version",
        examples: &[("The version", "brattice version")],
        codes: &[(0, "Done."), (2, "Wrong usage.")],
    },
    Page {
        verb: "support-bundle",
        examples: &[
            ("Into this directory", "brattice support-bundle"),
            ("With the documents, redacted", "brattice support-bundle --with-documents --out /root/bundle.tar.gz"),
        ],
        codes: LOCAL,
    },
    Page {
        verb: "completions",
        examples: &[("For this shell", "brattice completions bash")],
        codes: &[(0, "Done."), (2, "Wrong usage.")],
    },
];

/// The command line, with examples in the help of each verb.
pub(crate) fn command() -> Command {
    with_examples(defaults::command(), "")
}

fn page(verb: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.verb == verb)
}

/// As it is typed below another verb.
fn below(verb: &str, name: &str) -> String {
    format!("{verb} {name}").trim_start().to_owned()
}

fn with_examples(command: Command, verb: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|own| own.get_name().to_owned()).collect();
    let command = names
        .iter()
        .fold(command, |command, name| command.mut_subcommand(name, |own| with_examples(own, &below(verb, name))));
    let Some(page) = page(verb) else { return command };
    let mut text = String::from("Examples:\n");
    for (what, line) in page.examples {
        text.push_str(&format!("  # {what}\n  {line}\n"));
    }
    command.after_help(text.trim_end().to_owned())
}

/// The pages of section 5.
const FORMATS: [(&str, &str); 2] = [
    ("brattice-agent.yaml.5", include_str!("../../../packaging/man/brattice-agent.yaml.5")),
    ("brattice-documents.5", include_str!("../../../packaging/man/brattice-documents.5")),
];

/// Every page, by its file's name: of the commands (`brattice-engine-restart.1`) and of the files.
///
/// # Errors
/// When one cannot be made.
pub(crate) fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    let mut command = defaults::command().disable_help_subcommand(true);
    command.build();
    add(&command, "", &mut all)?;
    all.extend(FORMATS.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())));
    Ok(all)
}

fn add(command: &Command, verb: &str, all: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut text)?;
    }
    if command.get_subcommands().any(|own| !own.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(page) = page(verb) {
        let mut roff = Roff::new();
        roff.control("SH", ["EXIT STATUS"]);
        for (code, means) in page.codes {
            roff.control("TP", []).text([bold(code.to_string())]).text([roman(*means)]);
        }
        roff.control("SH", ["EXAMPLES"]);
        for (what, line) in page.examples {
            roff.control("TP", []).text([roman(format!("{what}:"))]).text([bold(*line)]);
        }
        roff.control("SH", ["FILES"]);
        roff.control("TP", [])
            .text([bold("/etc/brattice/agent.yaml")])
            .text([roman("Settings of the agent, and defaults of the other commands; see brattice-agent.yaml(5).")]);
        roff.control("TP", [])
            .text([bold("/etc/brattice/policies")])
            .text([roman("Documents; see brattice-documents(5).")]);
        roff.control("TP", [])
            .text([bold("/usr/share/doc/brattice")])
            .text([roman("What all of it means, and examples.")]);
        roff.control("SH", ["SEE ALSO"]);
        let all = ["brattice(1)", "brattice-agent.yaml(5)", "brattice-documents(5)"];
        roff.text([roman(all[usize::from(verb.is_empty())..].join(", "))]);
        roff.to_writer(&mut text)?;
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut text)?;
    }
    all.push((man.get_filename(), text));
    for own in command.get_subcommands().filter(|own| !own.is_hide_set()) {
        add(own, &below(verb, own.get_name()), all)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every verb that is shown.
    fn verbs(command: &Command, verb: &str, found: &mut BTreeSet<String>) {
        found.insert(verb.to_owned());
        for own in command.get_subcommands().filter(|own| !own.is_hide_set()) {
            verbs(own, &below(verb, own.get_name()), found);
        }
    }

    #[test]
    fn every_verb_has_examples_that_can_be_typed_and_exit_codes() {
        let mut wanted = BTreeSet::new();
        verbs(&command().disable_help_subcommand(true), "", &mut wanted);
        let there: BTreeSet<String> = PAGES.iter().map(|page| page.verb.to_owned()).collect();
        assert_eq!(there, wanted);
        for page in PAGES {
            assert!(!page.examples.is_empty() && page.codes.iter().any(|(code, _)| *code == 0), "{}", page.verb);
            for (_, line) in page.examples {
                let words: Vec<&str> = line.split(' ').collect();
                assert!(command().try_get_matches_from(&words).is_ok(), "{line}");
                assert!(page.verb.is_empty() || line.starts_with(&format!("brattice {}", page.verb)), "{line}");
            }
        }
    }

    #[test]
    fn settings_page_tells_which_paths_the_service_can_use() {
        let unit = include_str!("../../../packaging/brattice.service");
        let page = include_str!("../../../packaging/man/brattice-agent.yaml.5").replace('\\', "");
        let limits: Vec<&str> = unit
            .lines()
            .filter(|line| ["ProtectSystem=", "ProtectHome=", "PrivateTmp="].iter().any(|key| line.starts_with(key)))
            .collect();
        assert_eq!(limits.len(), 3, "{limits:?}");
        for limit in limits {
            assert!(page.contains(&format!(".B {limit}\n")), "{limit}");
        }
        let kinds = ["Configuration", "Runtime", "State", "Logs"];
        let places = ["/etc/", "/run/", "/var/lib/", "/var/log/"];
        for (kind, place) in kinds.into_iter().zip(places) {
            assert!(unit.contains(&format!("{kind}Directory=brattice\n")), "{kind}");
            assert!(page.contains(&format!("{place}brattice")), "{place}");
        }
        assert!(unit.contains("ReadWritePaths=/sys/fs/bpf\n") && page.contains("/sys/fs/bpf"));
    }

    #[test]
    fn every_page_that_is_named_is_there_in_that_section() {
        let pages = pages().unwrap();
        let names: BTreeSet<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        let unit = include_str!("../../../packaging/brattice.service");
        let all = pages.iter().map(|(name, text)| (name.as_str(), String::from_utf8_lossy(text).into_owned()));
        for (page, text) in all.chain([("brattice.service", unit.to_owned())]) {
            let text = text.replace('\\', "").replace(" (", "(");
            let mut named = 0;
            for (at, _) in text.match_indices("brattice") {
                let rest = &text[at..];
                let end =
                    rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.')).unwrap_or(rest.len());
                let Some(section) = rest[end..].strip_prefix('(').and_then(|rest| rest.chars().next()) else {
                    continue;
                };
                if section.is_ascii_digit() && rest[end..].chars().nth(2) == Some(')') {
                    let name = format!("{}.{section}", &rest[..end]);
                    assert!(names.contains(name.as_str()), "{page}: {name}");
                    named += 1;
                }
            }
            assert!(named >= 2, "{page}");
        }
    }

    #[test]
    fn every_page_has_its_sections_and_help_shows_the_examples() {
        let pages = pages().unwrap();
        assert_eq!(pages.len(), PAGES.len() + FORMATS.len());
        for page in FORMATS {
            assert!(
                pages.iter().any(|(name, text)| name == page.0 && text.starts_with(page.1.as_bytes())),
                "{}",
                page.0
            );
        }
        for (name, text) in pages.into_iter().filter(|(name, _)| name.ends_with(".1")) {
            let text = String::from_utf8(text).unwrap();
            for section in [
                ".SH NAME",
                ".SH SYNOPSIS",
                ".SH DESCRIPTION",
                ".SH \"EXIT STATUS\"",
                ".SH EXAMPLES",
                ".SH \"SEE ALSO\"",
            ] {
                assert!(text.contains(section), "{section} in {name}:\n{text}");
            }
        }
        let help = command().find_subcommand_mut("services").unwrap().render_help().to_string();
        assert!(help.contains("Examples:\n  # All of them, with every column\n  brattice services --wide"), "{help}");
    }
}
