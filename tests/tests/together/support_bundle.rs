//! `brattice support-bundle`: what support needs, and nothing secret, with an agent and without one.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use brattice_tests::lab::{AgentOptions, Retail, forward, output, service, sh};

/// Planted where secrets are.
const HEADER: &str = "Tr0ub4dor-and-3";
const KEY: &str = "MC4CAQAwBQYDK2VwBCIEIPlantedPlantedPlantedPlantedPlanted";
const TOKEN: &str = "planted-token-in-a-broken-document";
const ENVIRONMENT: &str = "planted-in-the-environment";
const SECRETS: [&str; 4] = [HEADER, KEY, TOKEN, ENVIRONMENT];

fn planted() -> Retail {
    let orders = service(&forward(1, 0)).replacen(
        "    defaultAction:",
        &format!(
            "    rules:
    - name: testers
      priority: 1
      match: {{httpMatch: {{headerMatches: [{{name: x-tester, match: {{exact: {HEADER}}}}}]}}}}
      action: {}
    defaultAction:",
            forward(0, 1)
        ),
        1,
    );
    let retail = Retail::prepare(&orders);
    fs::write(
        retail.lab.policies().join("accounts/shop/orders.key"),
        format!("-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n"),
    )
    .unwrap();
    retail
}

/// The bundle, unpacked: names and texts.
fn bundle(retail: &Retail, more: &[&str]) -> Vec<(String, String)> {
    let folder = retail.lab.folder.join(format!("bundle{}", more.len()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("bundle.tar.gz");
    let mut command = retail.lab.brattice_command(&["support-bundle", "--out"]);
    command.arg(&file).env("PLANTED_SECRET", ENVIRONMENT).args(more);
    for (flag, path) in [
        ("--policies", retail.lab.policies()),
        ("--run-dir", retail.lab.run_dir()),
        ("--state-dir", retail.lab.state_dir()),
        ("--bpffs", retail.lab.bpffs()),
        ("--log-file", retail.lab.log_path()),
        ("--config", PathBuf::from("/nonexistent/agent.yaml")),
    ] {
        command.arg(flag).arg(path);
    }
    let made = output(&mut command);
    assert!(made.ok(), "{}", made.text());
    let data = fs::metadata(&file).unwrap();
    assert_eq!(data.permissions().mode() & 0o777, 0o600);
    assert!(data.len() < 8 * 1024 * 1024, "{} bytes", data.len());
    let again = output(retail.lab.brattice_command(&["support-bundle", "--out"]).arg(&file));
    assert!(!again.ok() && again.stderr.contains("cannot be written"), "nothing is written over: {}", again.text());
    sh(&format!("tar -xzf {} -C {}", file.display(), folder.display()));
    let listed = output(Command::new("find").arg(folder.join("brattice-support")).args(["-type", "f"])).stdout;
    let root = folder.join("brattice-support");
    listed
        .lines()
        .map(|path| {
            let name = PathBuf::from(path).strip_prefix(&root).unwrap().display().to_string();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn has(bundle: &[(String, String)], name: &str, text: &str) {
    let (_, found) = bundle.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no {name}"));
    assert!(found.contains(text), "no {text:?} in {name}: {found}");
}

fn no_secret_in(bundle: &[(String, String)]) {
    for (name, text) in bundle {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} is in {name}: {text}");
        }
    }
}

#[test]
fn a_bundle_tells_what_support_needs_and_no_secret() {
    let mut retail = planted();
    retail.lab.start_agent_with(&AgentOptions::recording());
    retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap();
    // What is wrong with a document is shown by quoting it, in the status and in the log.
    retail.lab.write("accounts/shop/broken.yaml", &format!("kind: Service\nspec: {{{TOKEN}: {TOKEN}}}\n"));
    brattice_tests::lab::wait_until("the agent has seen it", brattice_tests::lab::SETTLE * 5, || {
        retail.lab.status().owners.get("shop").is_some_and(|owner| owner.state == "invalid")
    });
    assert!(retail.lab.log().contains(TOKEN) || retail.lab.brattice(&["status"]).stdout.contains(TOKEN), "a control");

    let short = bundle(&retail, &[]);
    no_secret_in(&short);
    has(&short, "status.json", "accounts/shop/broken.yaml:");
    has(&short, "services.json", "shop/orders");
    has(&short, "workloads.json", "blue1");
    has(&short, "version.txt", "map schema");
    has(&short, "flows.txt", "connections");
    has(&short, "preflight.txt", "CHECK");
    has(&short, "nft.txt", "table inet brattice");
    has(&short, "nft-arp.txt", "table arp brattice");
    has(&short, "routes.txt", "169.254.64.0/20");
    has(&short, "pins.txt", "/links/");
    has(&short, "facts.txt", "BTF of the kernel");
    has(&short, "log.txt", "engine started");
    has(&short, "documents.sha256", "accounts/shop/orders.key");
    assert!(!short.iter().any(|(name, _)| name.starts_with("documents/")), "documents were not asked for");

    let long = bundle(&retail, &["--with-documents"]);
    no_secret_in(&long);
    has(&long, "documents/accounts/shop/orders.yaml", "customDomainNames: [orders.shop.internal]");
    has(&long, "documents/accounts/shop/orders.yaml", "exact: [redacted]");
    has(&long, "missing.txt", "documents/accounts/shop/broken.yaml: it has errors");
    assert!(!long.iter().any(|(name, _)| name.ends_with(".key") && name.starts_with("documents/")));
}

#[test]
fn without_an_agent_a_bundle_says_what_is_missing() {
    let mut retail = planted();
    retail.lab.start_agent();
    retail.lab.agent().kill();
    let bundle = bundle(&retail, &[]);
    no_secret_in(&bundle);
    has(&bundle, "missing.txt", "status.json: ");
    has(&bundle, "missing.txt", "no agent");
    has(&bundle, "nft.txt", "table inet brattice");
    has(&bundle, "pins.txt", "/links/");
    has(&bundle, "log.txt", "engine started");
}
