//! The binary as operators and scripts see it, where no kernel is needed: exit codes and output.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn brattice(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().expect("brattice runs")
}

/// `BRATTICE_BIN`, else the one built beside this test program: found at run time, as a clone may have moved since.
fn binary() -> PathBuf {
    std::env::var_os("BRATTICE_BIN").map_or_else(
        || std::env::current_exe().expect("a program has a path").with_file_name("../brattice"),
        PathBuf::from,
    )
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

/// What a route or an explanation by documents alone says: its exit code, its text.
fn by_documents(root: &Path, words: &[&str]) -> (Option<i32>, String) {
    let directory = root.display().to_string();
    let output = brattice(&[words, &["--policies", &directory, "--state-dir", "/nonexistent"]].concat());
    (output.status.code(), text(&output))
}

/// [`policies`] with a caller, rules, and a policy.
fn called() -> tempfile::TempDir {
    let root = policies();
    write(
        root.path(),
        "vpcs.yaml",
        "kind: Vpc\nmetadata: {name: blue}\nspec: {account: shop, cidrBlocks: [10.0.0.0/16], serviceNetworks: [shop/retail]}\n---\nkind: Workload\nmetadata: {name: web}\nspec: {vpcIdentifier: shop/blue, namespace: web, addresses: [10.0.0.10]}\n---\nkind: Vpc\nmetadata: {name: apart}\nspec: {account: rival, cidrBlocks: [10.0.0.0/16]}\n",
    );
    write(
        root.path(),
        "accounts/shop/orders.yaml",
        "kind: ServiceNetwork\nmetadata: {name: retail}\n---\nkind: Service\nmetadata: {name: orders}\nspec:\n  authType: AWS_IAM\n  serviceNetworks: [retail]\n  listeners:\n  - protocol: HTTP\n    rules:\n    - name: team\n      priority: 1\n      match: {httpMatch: {headerMatches: [{name: x-team, match: {exact: red}}]}}\n      action: {fixedResponse: {statusCode: 201}}\n    defaultAction: {fixedResponse: {statusCode: 204}}\n---\nkind: AuthPolicy\nspec:\n  resourceIdentifier: orders\n  policy:\n    Version: '2012-10-17'\n    Statement:\n    - {Sid: reads, Effect: Allow, Principal: '*', Action: '*', Resource: '*', Condition: {StringEquals: {'vpc-lattice-svcs:RequestMethod': GET}}}\n",
    );
    root
}

#[test]
fn routes_are_shown_with_file_and_line() {
    let root = called();
    let (code, shown) =
        by_documents(root.path(), &["route", "--from", "blue", "--service", "orders", "--header", "X-Team: red"]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.starts_with("ROUTED: by the rule team (accounts/shop/orders.yaml:12)\n"), "{shown}");
    let (code, shown) = by_documents(root.path(), &["route", "--from", "blue", "--service", "shop/orders"]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("not 1 team (accounts/shop/orders.yaml:12): header x-team wants `red`, the request has nothing"),
        "{shown}"
    );
    assert!(shown.contains("taken the default action"), "{shown}");
    // A VPC that does not see the service.
    let (code, shown) = by_documents(root.path(), &["route", "--from", "apart", "--service", "orders"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("no service network in common"), "{shown}");
    // "Cannot tell" is 2.
    for (words, why) in [
        (["route", "--from", "bleu", "--service", "orders"], "did you mean \"blue\"?"),
        (["route", "--from", "blue", "--service", "order"], "did you mean \"orders\"?"),
    ] {
        let (code, shown) = by_documents(root.path(), &words);
        assert_eq!(code, Some(2), "{shown}");
        assert!(shown.contains(why), "{shown}");
    }
    let (code, shown) =
        by_documents(root.path(), &["route", "--from", "blue", "--service", "orders", "--header", "x-team"]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("write name and value with a colon"), "{shown}");
    write(root.path(), "accounts/rival/broken.yaml", "kind: Nothing\n");
    let (code, shown) = by_documents(root.path(), &["route", "--from", "blue", "--service", "orders"]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("`brattice validate` shows them"), "{shown}");
}

#[test]
fn explanations_end_with_what_becomes_of_the_request() {
    let root = called();
    let (code, shown) = by_documents(root.path(), &["explain", "--from", "web", "--to", "orders", "--path", "/a//b"]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("allowed by accounts/shop/orders.yaml:24#reads"), "{shown}");
    assert!(shown.contains("path /a//b → /a/b"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours where there is no terminal");
    let (code, shown) =
        by_documents(root.path(), &["explain", "--from", "web", "--to", "orders", "--method", "DELETE"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.starts_with("DENIED: "), "{shown}");
    assert!(shown.contains("wants \"GET\", the request has \"DELETE\""), "{shown}");
    let directory = root.path().display().to_string();
    let json = brattice(&[
        "explain",
        "--from",
        "web",
        "--to",
        "orders",
        "--method",
        "DELETE",
        "--output",
        "json",
        "--policies",
        &directory,
        "--state-dir",
        "/nonexistent",
    ]);
    assert_eq!(json.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&value["outcome"], &value["reason"]), (&"denied".into(), &"policy".into()));
    assert_eq!(value["decision"]["id"], "default-deny:service:shop/orders");
    assert_eq!(value["route"]["action"]["kind"], "fixed-response");
    // No agent to ask.
    for words in [&["explain", "r-1"][..], &["explain", "--flow", "7"], &["explain", "--from", "a", "--to", "b"]] {
        let output = brattice(&[words, &["--run-dir", "/nonexistent"]].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output).contains("no agent: there is no /nonexistent/agent.sock"), "{}", text(&output));
    }
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
        &["agent", "--vip-range", "240.0.0.0/20"],
        &["preflight", "--alias-range", "127.0.0.0/16"],
        &["validate", "/tmp", "--vip6-range", "fe80::/64"],
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
    let shown = text(&version);
    let protocol = shown
        .strip_prefix(&format!("brattice {} (map schema 5, engine protocol ", env!("CARGO_PKG_VERSION")))
        .and_then(|rest| rest.strip_suffix(")\n"));
    assert!(protocol.is_some_and(|number| number.parse::<u32>().is_ok()), "{shown}");
    let completions = brattice(&["completions", "bash"]);
    assert!(text(&completions).contains("complete -F _brattice"), "{}", text(&completions));
}

#[test]
fn a_directory_is_begun_with_and_never_overwritten() {
    let root = tempfile::tempdir().expect("a folder");
    let new = root.path().join("a b/policies");
    let path = new.display().to_string();
    let made = brattice(&["init", &path]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made));
    let valid = brattice(&["validate", &path, "--state-dir", "/nonexistent"]);
    assert_eq!(valid.status.code(), Some(0), "{}", text(&valid));
    assert!(text(&valid).contains("no errors, 0 warnings"), "{}", text(&valid));
    let comments = std::fs::read_to_string(new.join("accounts/shop/orders.yaml")).expect("a service");
    assert!(comments.lines().filter(|line| line.trim_start().starts_with('#')).count() > 5, "{comments}");

    write(&new, "accounts.yaml", "# mine\n");
    std::fs::remove_file(new.join("vpcs.yaml")).expect("it is there");
    let again = brattice(&["init", &path]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(text(&again).contains("accounts.yaml"), "{}", text(&again));
    assert_eq!(std::fs::read_to_string(new.join("accounts.yaml")).expect("kept"), "# mine\n");
    assert!(!new.join("vpcs.yaml").exists(), "all or nothing");
}

#[test]
fn fields_are_explained_and_printed_as_wanted() {
    let listeners = brattice(&["explain-field", "service.spec.listeners"]);
    assert_eq!(listeners.status.code(), Some(0), "{}", text(&listeners));
    for word in ["Service.spec.listeners", "1 to 20 items", "CreateListener", "defaultAction"] {
        assert!(text(&listeners).contains(word), "{word} in {}", text(&listeners));
    }
    let wrong = brattice(&["explain-field", "Service.spec.listners"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong).contains("did you mean listeners?"), "{}", text(&wrong));
    let json = brattice(&["explain-field", "Vpc.spec.dns", "-o", "json"]);
    assert!(text(&json).contains("\"default\": \"vip\""), "{}", text(&json));
    let yaml = brattice(&["explain-field", "Vpc.spec.dns", "-o", "yaml"]);
    assert!(text(&yaml).lines().any(|line| line == "default: vip"), "{}", text(&yaml));
}
