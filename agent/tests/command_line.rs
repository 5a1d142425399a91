//! The binary as operators and scripts see it, where no kernel is needed: exit codes and output.

use std::path::Path;
use std::process::{Command, Output};

fn brattice(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_brattice")).args(arguments).output().expect("brattice runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A policies directory with an operator, two accounts and one service.
fn policies() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    write(
        root.path(),
        "node.yaml",
        "kind: Account\nmetadata: {name: shop}\nspec: {id: \"222222222222\", domains: [shop.internal]}\n---\nkind: Account\nmetadata: {name: rival}\nspec: {id: \"333333333333\"}\n",
    );
    write(root.path(), "accounts/shop/orders.yaml", &service("orders", 404));
    root
}

fn service(name: &str, status: u16) -> String {
    format!(
        "kind: Service\nmetadata: {{name: {name}}}\nspec:\n  listeners:\n  - protocol: HTTP\n    defaultAction: {{fixedResponse: {{statusCode: {status}}}}}\n"
    )
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

fn validate(root: &Path, more: &[&str]) -> Output {
    let directory = root.display().to_string();
    brattice(&[&["validate", &directory, "--state-dir", "/nonexistent"], more].concat())
}

#[test]
fn validate_says_where_and_what() {
    let root = policies();
    let good = validate(root.path(), &[]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good));
    assert_eq!(String::from_utf8_lossy(&good.stdout), "no errors, 0 warnings, 3 documents\n");

    write(root.path(), "accounts/shop/orders.yaml", &service("orders", 404).replace("listeners", "listners"));
    let bad = validate(root.path(), &[]);
    assert_eq!(bad.status.code(), Some(1));
    let shown = text(&bad);
    assert!(shown.contains("accounts/shop/orders.yaml:4:3"), "{shown}");
    assert!(shown.contains("did you mean `listeners`?"), "{shown}");
    assert!(shown.contains("^^^^^^^^"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours where there is no terminal");

    let json = validate(root.path(), &["--output", "json"]);
    assert_eq!(json.status.code(), Some(1));
    let findings: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(findings[0]["owner"], "shop");
    assert_eq!(findings[0]["file"], "accounts/shop/orders.yaml");
    assert_eq!(findings[0]["line"], 4);
}

#[test]
fn validate_reports_files_that_cannot_be_read() {
    let root = policies();
    std::os::unix::fs::symlink("/etc/hostname", root.path().join("accounts/shop/link.yaml")).expect("a symlink");
    let bad = validate(root.path(), &[]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad).contains("accounts/shop/link.yaml: cannot be read: a symlink that leads out"), "{}", text(&bad));
    let missing = brattice(&["validate", "/nonexistent", "--state-dir", "/nonexistent"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("/nonexistent does not exist"), "{}", text(&missing));
}

#[test]
fn what_documents_say_does_not_reach_the_terminal() {
    let root = policies();
    write(root.path(), "accounts/shop/evil.yaml", "kind: \"Ser\\e[31mvice\\u202e\"\nmetadata: {name: evil}\n");
    for output in ["table", "json"] {
        let bad = validate(root.path(), &["--output", output]);
        assert_eq!(bad.status.code(), Some(1));
        let shown = text(&bad);
        assert!(shown.contains("evil.yaml"), "{shown}");
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
    }
}

#[test]
fn diff_without_a_state_shows_everything_as_new() {
    let root = policies();
    let directory = root.path().display().to_string();
    let shown = brattice(&["diff", &directory, "--state-dir", "/nonexistent"]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown));
    let lines = text(&shown);
    assert!(lines.lines().any(|line| line == "+ Service shop/orders"), "{lines}");
    assert!(lines.lines().any(|line| line == "+ Account shop"), "{lines}");
    let json = brattice(&["diff", &directory, "--state-dir", "/nonexistent", "--output", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert!(value["changes"].as_array().is_some_and(|changes| changes.iter().all(|change| change["what"] == "added")));
}

#[test]
fn without_an_agent() {
    let status = brattice(&["status", "--run-dir", "/nonexistent"]);
    assert_eq!(status.status.code(), Some(2));
    assert!(text(&status).contains("no agent: there is no /nonexistent/agent.sock"), "{}", text(&status));
    let bypass = brattice(&["bypass", "--all", "--run-dir", "/nonexistent"]);
    assert_ne!(bypass.status.code(), Some(0));
    let offline = brattice(&["bypass", "--all", "--offline", "--bpffs", "/nonexistent/bpf"]);
    assert_eq!(offline.status.code(), Some(1), "{}", text(&offline));
}

#[test]
fn wrong_usage_is_two() {
    for words in [
        &["nonsense"][..],
        &["status", "--colour"],
        &["bypass"],
        &["bypass", "--all", "--for", "soon"],
        &["agent", "--workers", "0", "--engine-user", "4711"],
        &["agent", "--vip-range", "10.0.0.0"],
        &["validate", "/tmp", "--output", "xml"],
    ] {
        assert_eq!(brattice(words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn agent_settings_are_checked_before_anything_is_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("agent.yaml");
    std::fs::write(&file, "engine-user: 4711\nwrokers: 2\n").expect("a file");
    let refused = brattice(&["agent", "--config", &file.display().to_string()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("agent.yaml:2:1: unknown setting \"wrokers\""), "{}", text(&refused));
    let nobody = brattice(&["agent", "--engine-user", "no-such-user-here"]);
    assert!(text(&nobody).contains("useradd --system"), "{}", text(&nobody));
}

#[test]
fn version_and_completions() {
    let version = brattice(&["version"]);
    assert_eq!(
        String::from_utf8_lossy(&version.stdout),
        format!("brattice {} (map schema 1, engine protocol 1)\n", env!("CARGO_PKG_VERSION"))
    );
    let completions = brattice(&["completions", "bash"]);
    assert!(text(&completions).contains("complete -F _brattice"), "{}", text(&completions));
}
