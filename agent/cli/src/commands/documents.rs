//! `brattice validate` and `brattice diff`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use brattice_control::ranges::Known;
use brattice_control::settings::{ipv6_ranges, pools};
use brattice_control::state::{State, StateDirectory};
use brattice_model::{Diagnostic, Documents, Linked, Owner, Position, Severity, Source, parse};
use brattice_sources::directory::read;
use brattice_sources::linking::Linking;
use brattice_sources::tree::ReadError;
use brattice_wire::words::counted;
use ipnet::Ipv4Net;
use serde_json::json;

use super::uncertain::Broken;
use crate::arguments::{DiffArguments, Format, NodeArguments, ValidateArguments};
use crate::output::{Tone, colours, paint, print, print_as, print_prose};
use crate::{Failure, Outcome, escape};

/// Something to tell about an owner's documents.
pub(crate) struct Finding {
    owner: Owner,
    kind: FindingKind,
}

enum FindingKind {
    /// About a document.
    Document(Diagnostic),
    /// An error of a file or folder, which its text names.
    File(String),
    /// A warning without a place.
    Note(String),
}

impl Finding {
    fn is_error(&self) -> bool {
        match &self.kind {
            FindingKind::Document(diagnostic) => diagnostic.severity == Severity::Error,
            FindingKind::File(_) => true,
            FindingKind::Note(_) => false,
        }
    }
}

/// A directory as it would be in force.
pub(crate) struct Checked {
    pub(crate) linked: Linked,
    pub(crate) findings: Vec<Finding>,
    sources: BTreeMap<String, String>,
    documents: usize,
}

/// The node's ranges: named, else the state's, else the usual ones.
fn node_ranges(node: &NodeArguments, state: &State) -> (Ipv4Net, Ipv4Net) {
    Known { vip: node.vip_range.or(state.vip_range), alias: node.alias_range.or(state.alias_range) }.or_usual()
}

/// As the node links. Documents mean the same whether or not this host does IPv6 just now.
fn linking<'a>(node: &'a NodeArguments, state: &'a State) -> Linking<'a> {
    let (vip, alias) = node_ranges(node, state);
    let ipv6 = pools(ipv6_ranges(node.vip6_range, node.alias6_range), true);
    Linking { vips: &state.vips, dns_suffix: &node.dns_suffix, vip, alias, ipv6 }
}

/// Reads, parses and links a directory. `fallback`: documents of owners whose own have errors.
pub(crate) fn check(
    directory: &Path,
    node: &NodeArguments,
    state: &State,
    fallback: &BTreeMap<Owner, Documents>,
) -> Result<Checked, Failure> {
    let tree = read(directory).map_err(|why| match why {
        ReadError::Missing(path) => {
            Failure::new(format!("{} does not exist; is the path right? `brattice init DIR` makes one", path.display()))
        }
        // An agent would go on with its last good documents; nothing is in force here.
        ReadError::Unreadable { path, source } => {
            Failure::new(format!("{} cannot be read as a directory: {source}", path.display()))
        }
    })?;
    let mut findings = Vec::new();
    let mut documents = BTreeMap::new();
    let mut sources = BTreeMap::new();
    let mut broken = Broken::default();
    for (owner, found) in tree.owners {
        findings.extend(
            found.notes.into_iter().map(|note| Finding { owner: owner.clone(), kind: FindingKind::Document(note) }),
        );
        let parsed = match found.sources {
            Ok(found) => {
                let parsed = parse(&owner, &found);
                if parsed.is_err() {
                    broken.add(&owner, &found);
                }
                sources.extend(found.into_iter().map(|Source { path, text }| (path, text)));
                parsed.map_err(|errors| {
                    findings.extend(
                        errors.into_iter().map(|d| Finding { owner: owner.clone(), kind: FindingKind::Document(d) }),
                    );
                })
            }
            Err(errors) => {
                broken.add(&owner, &[]);
                findings.extend(
                    errors.into_iter().map(|text| Finding { owner: owner.clone(), kind: FindingKind::File(text) }),
                );
                Err(())
            }
        };
        match (parsed, fallback.get(&owner)) {
            (Ok(parsed), _) => drop(documents.insert(owner, parsed)),
            (Err(()), Some(good)) => drop(documents.insert(owner, good.clone())),
            (Err(()), None) => {}
        }
    }
    // Without the operator's documents every account would seem unknown.
    let blind = !documents.contains_key(&Owner::Operator);
    let linking = linking(node, state);
    let linked = linking.link(&documents);
    // Findings that may only be due to errors in their owner's documents are not shown.
    let mut left_out = 0usize;
    for (owner, found) in linked.errors.iter().chain(&linked.warnings).filter(|_| !blind) {
        for diagnostic in found {
            if broken.may_cause(owner, diagnostic) {
                left_out += 1;
                continue;
            }
            findings.push(Finding { owner: owner.clone(), kind: FindingKind::Document(diagnostic.clone()) });
        }
    }
    if let Some(first) = findings.iter().find(|finding| finding.is_error()).filter(|_| left_out > 0) {
        let text = format!(
            "{} of others about what may be in documents of {} {} left out: fix these first",
            counted(left_out as u64, "finding"),
            broken.owners(),
            if left_out == 1 { "is" } else { "are" }
        );
        let kind = match &first.kind {
            FindingKind::Document(first) => {
                let place =
                    Position { file: first.file.as_str().into(), line: first.line, column: first.column, length: 1 };
                FindingKind::Document(Diagnostic::warning(&place, text))
            }
            FindingKind::File(_) | FindingKind::Note(_) => FindingKind::Note(text),
        };
        findings.push(Finding { owner: first.owner.clone(), kind });
    }
    let documents = documents.values().map(Documents::len).sum();
    if documents == 0 && findings.is_empty() {
        let at = Position { file: directory.display().to_string().into(), line: 1, column: 1, length: 1 };
        let message = format!("{} has no document: is this the policies directory?", directory.display());
        findings
            .push(Finding { owner: Owner::Operator, kind: FindingKind::Document(Diagnostic::warning(&at, message)) });
    }
    Ok(Checked { linked, findings, sources, documents })
}

impl Checked {
    /// How many findings are errors.
    pub(crate) fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error()).count()
    }

    /// Makes errors of the warnings.
    fn strict(&mut self) {
        for finding in &mut self.findings {
            if let FindingKind::Document(diagnostic) = &mut finding.kind {
                diagnostic.severity = Severity::Error;
            }
        }
    }
}

pub(crate) fn validate(arguments: &ValidateArguments) -> Outcome {
    let state = StateDirectory::existing(&arguments.node.state_dir).peek();
    let mut checked = check(&arguments.directory, &arguments.node, &state, &BTreeMap::new())?;
    if arguments.strict {
        checked.strict();
    }
    let errors = checked.errors();
    match arguments.output {
        format @ (Format::Json | Format::Yaml) => print_as(format, &findings_json(&checked)),
        Format::Table | Format::Wide => {
            print_prose(&findings_text(&checked, colours()), arguments.output == Format::Wide);
            let warnings = checked.findings.len() - errors;
            let verdict = if errors > 0 {
                paint(&counted(errors as u64, "error"), Tone::Bad, colours())
            } else {
                paint("no errors", Tone::Good, colours())
            };
            let (warnings, documents) = (warnings as u64, checked.documents as u64);
            print(&format!("{verdict}, {}, {}\n", counted(warnings, "warning"), counted(documents, "document")));
        }
    }
    Ok(ExitCode::from(u8::from(errors > 0)))
}

pub(crate) fn diff(arguments: &DiffArguments) -> Outcome {
    let directory = StateDirectory::existing(&arguments.node.state_dir);
    let state = directory.peek();
    let mut before = BTreeMap::new();
    for (owner, good) in directory.peek_owners() {
        if let Ok(documents) = parse(&owner, &good.sources) {
            before.insert(owner, documents);
        }
    }
    let old = linking(&arguments.node, &state).link(&before);
    let new = check(&arguments.directory, &arguments.node, &state, &before)?;
    let changes = brattice_model::diff(&old.model, &new.linked.model);
    let errors = new.findings.iter().any(Finding::is_error);
    match arguments.output {
        format @ (Format::Json | Format::Yaml) => {
            let changes: Vec<_> = changes.iter().map(change_json).collect();
            print_as(format, &json!({"changes": changes, "findings": findings_json(&new)}));
        }
        Format::Table | Format::Wide => {
            let wide = arguments.output == Format::Wide;
            print_prose(&findings_text(&new, colours()), wide);
            for change in &changes {
                let tone = match change.what {
                    brattice_model::What::Added => Tone::Good,
                    brattice_model::What::Removed => Tone::Bad,
                    brattice_model::What::Changed(_) => Tone::Warning,
                };
                print_prose(&format!("{}\n", paint(&escape::text(&change.to_string()), tone, colours())), wide);
            }
            if changes.is_empty() {
                print("no changes\n");
            }
        }
    }
    Ok(ExitCode::from(u8::from(errors)))
}

fn change_json(change: &brattice_model::Change) -> serde_json::Value {
    let (what, fields) = match &change.what {
        brattice_model::What::Added => ("added", Vec::new()),
        brattice_model::What::Removed => ("removed", Vec::new()),
        brattice_model::What::Changed(fields) => (
            "changed",
            fields.iter().map(|field| json!({"field": field.field, "old": field.old, "new": field.new})).collect(),
        ),
    };
    json!({"kind": change.kind, "name": change.name, "what": what, "fields": fields})
}

fn findings_json(checked: &Checked) -> serde_json::Value {
    let findings = checked.findings.iter().map(|finding| match &finding.kind {
        FindingKind::Document(d) => json!({
            "owner": finding.owner.to_string(), "severity": d.severity, "file": d.file, "line": d.line, "column": d.column,
            "message": d.message, "expected": d.expected, "help": d.help,
        }),
        FindingKind::File(text) => json!({"owner": finding.owner.to_string(), "severity": "error", "message": text}),
        FindingKind::Note(text) => json!({"owner": finding.owner.to_string(), "severity": "warning", "message": text}),
    });
    findings.collect()
}

fn findings_text(checked: &Checked, colours: bool) -> String {
    let mut out = String::new();
    for finding in &checked.findings {
        let rendered = match &finding.kind {
            FindingKind::Document(diagnostic) => {
                let source = checked.sources.get(&diagnostic.file).map(String::as_str).unwrap_or_default();
                diagnostic.render(source)
            }
            FindingKind::File(text) => format!("error: {text}"),
            FindingKind::Note(text) => format!("warning: {text}"),
        };
        let tone = if finding.is_error() { Tone::Bad } else { Tone::Warning };
        let safe = escape::text(rendered.trim_end());
        let (first, rest) = safe.split_once('\n').unwrap_or((&safe, ""));
        out.push_str(&paint(first, tone, colours));
        out.push('\n');
        if !rest.is_empty() {
            out.push_str(rest);
            out.push('\n');
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_without_a_place_has_no_empty_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let node = "kind: Account\nmetadata: {name: shop}\nspec: {id: '222222222222'}\n---\nkind: Vpc\nmetadata: {name: blue}\n\
                    spec: {account: shop, cidrBlocks: [10.0.0.0/16], attachments: [{interface: 'blue*'}], serviceNetworks: [shop/retail]}\n";
        std::fs::write(directory.path().join("node.yaml"), node).expect("a file");
        let shop = directory.path().join("accounts/shop");
        std::fs::create_dir_all(&shop).expect("a folder");
        std::fs::write(shop.join("orders.yaml"), b"# caf\xe9\n").expect("a file");
        let node = NodeArguments::for_tests(directory.path().join("state"));
        let checked = check(directory.path(), &node, &State::default(), &BTreeMap::new()).map_err(|e| e.text);
        let checked = checked.expect("it is read");
        let text = findings_text(&checked, false);
        assert!(text.contains("not UTF-8") && text.contains("fix these first"), "{text}");
        assert!(!text.contains("--> :"), "{text}");
        let json = findings_json(&checked);
        let files = json.as_array().into_iter().flatten().filter_map(|finding| finding.get("file"));
        assert!(files.into_iter().all(|file| file != ""), "{json}");
        let file = directory.path().join("node.yaml");
        let failure = check(&file, &node, &State::default(), &BTreeMap::new()).err().expect("a file is no directory");
        assert!(failure.text.contains("cannot be read as a directory"), "{}", failure.text);
        assert!(!failure.text.contains("in force"), "{}", failure.text);
    }

    #[test]
    fn strict_takes_warnings_for_errors() {
        let directory = tempfile::tempdir().expect("a directory");
        let run = |text: &str, strict| {
            std::fs::write(directory.path().join("node.yaml"), text).expect("a file");
            let node = NodeArguments::for_tests(directory.path().join("state"));
            let directory = directory.path().to_owned();
            let outcome = validate(&ValidateArguments { directory, strict, node, output: Format::Json });
            outcome.map_or_else(|failure| panic!("{}", failure.text), |code| format!("{code:?}"))
        };
        let (good, bad) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::from(1)));
        let right = "kind: Account\nmetadata: {name: shop}\nspec: {id: '222222222222'}\n";
        assert_eq!((run(right, false), run(right, true)), (good.clone(), good.clone()));
        // A path that was mistyped has no documents.
        assert_eq!((run("# none\n", false), run("# none\n", true)), (good.clone(), bad.clone()));
        // A trust that names no workload is a warning.
        let warned = format!(
            "{right}---\nkind: Role\nmetadata: {{name: r}}\nspec: {{account: shop, trust: [{{workloads: [web]}}]}}\n"
        );
        assert_eq!((run(&warned, false), run(&warned, true)), (good, bad.clone()));
        let wrong = right.replace("222222222222", "2");
        assert_eq!((run(&wrong, false), run(&wrong, true)), (bad.clone(), bad));
    }
}
