//! `brattice support-bundle`: what support needs to see of this host in one file, without secrets ([`redact`]).
//!
//! Everything is bounded: a command in time and length, the whole in time ([`TIME`]) and length ([`MAX_TOTAL`]). What could
//! not be had is listed in `missing.txt`. No environment is read.

mod gather;
mod redact;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use brattice_model::limits::MAX_DIAGNOSTICS;
use brattice_model::parse;
use brattice_sources::directory::read;
use brattice_sources::tree::Tree;
use flate2::{Compression, write::GzEncoder};

use crate::arguments::SupportBundleArguments;
use crate::output::print;
use crate::{Failure, Outcome};
use redact::Redactor;

/// Time for everything.
const TIME: Duration = Duration::from_secs(60);
/// Time for one command.
const EACH: Duration = Duration::from_secs(8);
/// Most text in the bundle, before it is packed, bytes.
const MAX_TOTAL: usize = 32 * 1024 * 1024;
/// Most files of the policies directory that are looked at.
const MAX_FILES: usize = 10_000;
/// Lines of the journal.
const LOG_LINES: &str = "2000";

pub(crate) fn run(arguments: &SupportBundleArguments) -> Outcome {
    super::need_root("support-bundle")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = arguments.out.clone().unwrap_or_else(|| format!("brattice-support-{now}.tar.gz").into());
    let broken = |e: std::io::Error| Failure::new(format!("{} cannot be written: {e}", path.display()));
    // Root's alone, and never over something that is there.
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(broken)?;
    let bundle = Bundle::gather(arguments);
    bundle.write(file, now).map_err(broken)?;
    for what in &bundle.missing {
        eprintln!("missing: {what}");
    }
    print(&format!(
        "{}\nLook through it before you send it: names and addresses are in it, secrets should not be.\n",
        path.display()
    ));
    Ok(ExitCode::SUCCESS)
}

struct Bundle {
    files: Vec<(String, String)>,
    missing: Vec<String>,
    redactor: Redactor,
    until: Instant,
    total: usize,
}

impl Bundle {
    fn gather(arguments: &SupportBundleArguments) -> Self {
        let mut bundle = Self {
            files: Vec::new(),
            missing: Vec::new(),
            redactor: Redactor::new(),
            until: Instant::now() + TIME,
            total: 0,
        };
        // First what is secret, then everything else.
        bundle.documents(arguments);
        bundle.ask(arguments);
        bundle.host(arguments);
        bundle.logs(arguments);
        bundle
    }

    /// The policies directory: hashes, and with `--with-documents` the text of its YAML files.
    fn documents(&mut self, arguments: &SupportBundleArguments) {
        let (mut paths, mut files, mut hashes) = (Vec::new(), Vec::new(), String::new());
        walk(&arguments.policies, &mut paths);
        let tree = read(&arguments.policies);
        let sound = tree.as_ref().map(sound).unwrap_or_default();
        if paths.len() >= MAX_FILES {
            self.missing.push(format!("documents: more than {MAX_FILES} files"));
        }
        for path in paths {
            let mut bytes = Vec::new();
            let read = File::open(&path).and_then(|file| file.take(redact::MAX_FILE + 1).read_to_end(&mut bytes));
            let name = path.strip_prefix(&arguments.policies).unwrap_or(&path).display().to_string();
            match read {
                Ok(length) if length as u64 > redact::MAX_FILE => {
                    self.missing.push(format!("{name}: longer than {} bytes", redact::MAX_FILE));
                }
                Ok(length) => {
                    hashes.push_str(&format!("{}  {length:>8}  {name}\n", sha256(&bytes)));
                    self.redactor.learn(&path, &bytes, !sound.contains(&name));
                    files.push((name, bytes));
                }
                Err(e) => self.missing.push(format!("{name}: {e}")),
            }
        }
        match tree {
            Ok(_) => self.add("documents.sha256", Ok(hashes)),
            Err(e) => self.add("documents.sha256", Err(e.to_string())),
        }
        if arguments.with_documents && self.redactor.overwhelmed() {
            self.missing.push("documents: too much in them is secret".to_owned());
        } else if arguments.with_documents {
            for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".yaml") || name.ends_with(".yml")) {
                if !sound.contains(name) {
                    self.missing
                        .push(format!("documents/{name}: it has errors or is not read, so its secrets are not known"));
                    continue;
                }
                self.add(&format!("documents/{name}"), Ok(String::from_utf8_lossy(bytes).into_owned()));
            }
        }
    }

    /// What agent and engine say.
    fn ask(&mut self, arguments: &SupportBundleArguments) {
        let path = |path: &Path| path.display().to_string();
        let run_dir = ["--run-dir".to_owned(), path(&arguments.run_dir)];
        let own = |verb: &str, more: &[&str]| {
            let mut words = vec![verb.to_owned()];
            words.extend(more.iter().map(|word| (*word).to_owned()));
            words
        };
        self.own("version.txt", &own("version", &[]));
        for verb in ["status", "services", "workloads"] {
            let mut words = own(verb, &["--output", "json"]);
            words.extend(run_dir.clone());
            let found = self.run("/proc/self/exe", &words).map(|text| without_messages(&text));
            self.add(&format!("{verb}.json"), found);
        }
        let mut words = own("flows", &["--output", "json"]);
        words.extend(run_dir.clone());
        let found = self.run("/proc/self/exe", &words).and_then(|json| gather::flows(&json));
        self.add("flows.txt", found);
        // By no documents: what is wrong with those is in the status.
        let mut words = own("preflight", &["--no-probe", "--policies", "/nonexistent", "--bpffs"]);
        words.extend([path(&arguments.bpffs), "--state-dir".to_owned(), path(&arguments.state_dir)]);
        words.extend(run_dir);
        if arguments.config.exists() {
            words.extend(["--config".to_owned(), path(&arguments.config)]);
        }
        self.own("preflight.txt", &words);
        self.file("agent.yaml", &arguments.config);
    }

    /// What the kernel says.
    fn host(&mut self, arguments: &SupportBundleArguments) {
        for (name, line) in [
            ("nft.txt", "nft list table inet brattice"),
            ("nft-arp.txt", "nft list table arp brattice"),
            ("routes.txt", "ip -4 route show table all proto 187"),
            ("routes6.txt", "ip -6 route show table all proto 187"),
            ("devices.txt", "ip -details -statistics link show type veth"),
            ("kernel.txt", "uname -a"),
            ("attached.txt", "bpftool net show"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found = self.run(&words[0], &words[1..]);
            self.add(name, found);
        }
        let mut pins = Vec::new();
        walk(&arguments.bpffs, &mut pins);
        let pins: String = pins.iter().map(|pin| format!("{}\n", pin.display())).collect();
        self.add("pins.txt", if pins.is_empty() { Err("there are none".to_owned()) } else { Ok(pins) });
        let btf = std::fs::metadata("/sys/kernel/btf/vmlinux").map_or(0, |file| file.len());
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = mounts
            .lines()
            .filter(|line| line.split(' ').nth(2).is_some_and(|kind| ["bpf", "cgroup", "cgroup2"].contains(&kind)));
        let mounts: String = mounts.map(|line| format!("{line}\n")).collect();
        self.add("facts.txt", Ok(format!("BTF of the kernel: {btf} bytes\n{mounts}")));
        for name in ["/etc/os-release", "/proc/meminfo", "/proc/net/sockstat"] {
            self.file(name.trim_start_matches('/').replace('/', "-").as_str(), Path::new(name));
        }
    }

    fn logs(&mut self, arguments: &SupportBundleArguments) {
        let journal = match &arguments.log_file {
            Some(file) => self.run("tail", &["-n".to_owned(), LOG_LINES.to_owned(), file.display().to_string()]),
            None => {
                let words = ["--no-pager", "--output", "short-iso", "--unit", "brattice", "--lines", LOG_LINES];
                self.run("journalctl", &words.map(str::to_owned))
            }
        };
        self.add("log.txt", journal.map(|text| text.lines().map(|line| without_quotes(line) + "\n").collect()));
        self.own_unit();
    }

    fn own_unit(&mut self) {
        let words = [
            "show",
            "brattice.service",
            "--property",
            "ActiveState,SubState,Result,NRestarts,StatusText,MemoryCurrent",
        ];
        let found = self.run("systemctl", &words.map(str::to_owned));
        self.add("service.txt", found);
    }

    fn own(&mut self, name: &str, words: &[String]) {
        let found = self.run("/proc/self/exe", words);
        self.add(name, found);
    }

    fn run(&self, program: &str, words: &[String]) -> Result<String, String> {
        let left = self.until.saturating_duration_since(Instant::now()).min(EACH);
        if left.is_zero() {
            return Err("no time was left for it".to_owned());
        }
        // This process may be on its way out of a terminal; its children see nothing of it.
        let program = if program == "/proc/self/exe" {
            std::env::current_exe().map_or_else(|_| program.to_owned(), |path| path.display().to_string())
        } else {
            program.to_owned()
        };
        gather::output(&program, words, left)
    }

    fn file(&mut self, name: &str, path: &Path) {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(redact::MAX_FILE).read_to_string(&mut text));
        self.add(name, read.map(|_| text).map_err(|e| format!("{}: {e}", path.display())));
    }

    /// Takes it in, cleaned.
    fn add(&mut self, name: &str, found: Result<String, String>) {
        match found {
            Ok(text) => {
                let text = self.redactor.clean(&text);
                if self.total + text.len() > MAX_TOTAL {
                    return self.missing.push(format!("{name}: the bundle is full"));
                }
                self.total += text.len();
                self.files.push((name.to_owned(), text));
            }
            Err(why) => self.missing.push(self.redactor.clean(&format!("{name}: {why}"))),
        }
    }

    fn write(&self, file: File, now: u64) -> std::io::Result<()> {
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        let missing: String = self.missing.iter().map(|line| format!("{line}\n")).collect();
        let missing = [("missing.txt".to_owned(), missing)];
        for (name, text) in self.files.iter().chain(&missing) {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(now);
            archive.append_data(&mut header, format!("brattice-support/{name}"), text.as_bytes())?;
        }
        let mut file = archive.into_inner()?.finish()?;
        file.flush()
    }
}

/// The files whose documents the agent reads and finds nothing wrong with: in other files, secrets cannot be recognised.
fn sound(tree: &Tree) -> BTreeSet<String> {
    let mut sound = BTreeSet::new();
    for (owner, found) in &tree.owners {
        let Ok(sources) = &found.sources else { continue };
        let errors = parse(owner, sources).err().unwrap_or_default();
        // Further errors are not shown.
        if errors.len() < MAX_DIAGNOSTICS {
            let faultless = sources.iter().filter(|source| errors.iter().all(|error| error.file != source.path));
            sound.extend(faultless.map(|source| source.path.clone()));
        }
    }
    sound
}

/// Messages about documents quote them: of each, the place stays.
fn without_messages(status: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(status) else { return status.to_owned() };
    for owner in
        value.get_mut("owners").and_then(|owners| owners.as_object_mut()).into_iter().flat_map(|o| o.values_mut())
    {
        for field in ["errors", "warnings"] {
            for message in owner.get_mut(field).and_then(|list| list.as_array_mut()).into_iter().flatten() {
                *message = place(message.as_str().unwrap_or_default()).into();
            }
        }
    }
    for problem in value.get_mut("problems").and_then(|list| list.as_array_mut()).into_iter().flatten() {
        let text = problem.as_str().unwrap_or_default();
        if let Some((what, message)) = text.split_once(": ").filter(|(what, _)| what.starts_with("documents of")) {
            *problem = format!("{what}: {}", place(message)).into();
        }
    }
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

/// A line of the log; of a message about documents, the first place stays.
fn without_quotes(line: &str) -> String {
    let Some(start) = [".yaml:", ".yml:"].iter().filter_map(|end| Some(line.find(end)? + end.len())).min() else {
        return line.to_owned();
    };
    let numbers = line[start..].find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(line.len() - start);
    format!("{} (message left out: it may quote the document)", &line[..start + numbers])
}

/// `file:line:column` of a message, the rest left out.
fn place(message: &str) -> String {
    let mut parts = message.splitn(4, ':');
    let (file, line, column) = (parts.next(), parts.next(), parts.next());
    match (file, line.and_then(|n| n.trim().parse::<u32>().ok()), column.and_then(|n| n.trim().parse::<u32>().ok())) {
        (Some(file), Some(line), Some(column)) if !file.contains('\n') => {
            format!("{file}:{line}:{column}: (message left out: it may quote the document)")
        }
        _ => "(message left out: it may quote the document)".to_owned(),
    }
}

/// All files below, without following links.
fn walk(directory: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if into.len() >= MAX_FILES {
            return;
        }
        match path.symlink_metadata() {
            Ok(data) if data.is_dir() => walk(&path, into),
            // A mounted policies directory consists of links to files (Kubernetes).
            Ok(_) if path.is_dir() => {}
            Ok(_) => into.push(path),
            Err(_) => {}
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use brattice_model::{Owner, Source};

    use super::*;

    #[test]
    fn only_what_the_agent_reads_without_errors_is_sound() {
        let source = |path: &str, spec: &str| Source {
            path: path.to_owned(),
            text: format!("kind: TargetGroup\nmetadata: {{name: orders}}\nspec: {spec}\n"),
        };
        let shop = Owner::Account("shop".to_owned());
        let good = source(
            "accounts/shop/good.yaml",
            "{config: {vpcIdentifier: platform/green, port: 8080}, targets: [{id: 10.0.0.10}]}",
        );
        let bad = source("accounts/shop/bad.yaml", "{secret: x}");
        let tree = |shops: Result<_, _>| Tree { owners: [(shop.clone(), shops.into())].into(), accounts_unknown: true };
        assert_eq!(parse(&shop, std::slice::from_ref(&good)).err(), None);
        assert_eq!(sound(&tree(Ok(vec![bad, good]))), BTreeSet::from(["accounts/shop/good.yaml".to_owned()]));
        assert_eq!(sound(&tree(Err(vec!["it cannot be read".to_owned()]))), BTreeSet::new());
    }

    #[test]
    fn of_messages_about_documents_the_place_stays() {
        let status = r#"{"problems":["documents of shop are invalid: accounts/shop/a.yaml:3:7: \"s3cret\" is no port","the engine is down"],
            "owners":{"shop":{"errors":["accounts/shop/a.yaml:3:7: \"s3cret\" is no port\n 3 | port: s3cret"],"warnings":["s3cret"]}}}"#;
        let text = without_messages(status);
        assert!(!text.contains("s3cret"), "{text}");
        let line = without_quotes("WARN invalid errors=\"accounts/shop/a.yaml:3:7: unknown field `s3cret`");
        assert_eq!(
            line,
            "WARN invalid errors=\"accounts/shop/a.yaml:3:7: (message left out: it may quote the document)"
        );
        assert_eq!(without_quotes("INFO all is well"), "INFO all is well");
        assert!(text.matches("accounts/shop/a.yaml:3:7").count() == 2 && text.contains("the engine is down"), "{text}");
    }
}
