//! Documents: hot reload, last good, bad input, validate and diff.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use brattice_tests::lab::{AgentOptions, NETWORK, NODE, Retail, SETTLE, forward, output, service, wait_until};

const ORDERS: &str = "accounts/shop/orders.yaml";

fn answers_from(retail: &Retail) -> String {
    retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server().to_owned()
}

#[test]
fn every_way_of_writing_a_file_is_noticed() {
    let retail = Retail::start();
    let path = retail.lab.policies().join(ORDERS);
    let version = |number: u16| service(&forward(u16::from(number == 1), u16::from(number == 2)));
    assert_eq!(answers_from(&retail), "v1");
    let now = |what: &str, expected: &str| wait_until(what, SETTLE, || answers_from(&retail) == expected);
    // Written in place.
    fs::write(&path, version(2)).unwrap();
    now("written in place", "v2");
    // Written beside and renamed, with a backup of the old file, as editors do.
    fs::rename(&path, path.with_extension("yaml~")).unwrap();
    fs::write(path.with_extension("swp"), version(1)).unwrap();
    fs::rename(path.with_extension("swp"), &path).unwrap();
    now("renamed over", "v1");
    // Appended in two writes: the half-written file is never in force for good.
    fs::write(&path, &version(2)[..200]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    fs::write(&path, version(2)).unwrap();
    now("written in two steps", "v2");
    // Moved to another name.
    fs::rename(&path, path.with_file_name("renamed.yaml")).unwrap();
    fs::write(path.with_file_name("renamed.yaml"), version(1)).unwrap();
    now("under another name", "v1");
}

#[test]
fn a_directory_that_is_swapped_by_a_symlink_is_noticed() {
    // As a ConfigMap is mounted: files are links to ..data/<file>, and ..data is swapped by rename.
    let retail = Retail::start();
    let shop = retail.lab.policies().join("accounts/shop");
    fs::remove_file(shop.join("orders.yaml")).unwrap();
    let revision = |number: u32, text: &str| {
        let folder = shop.join(format!("..2026_{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("orders.yaml"), text).unwrap();
        let _ = fs::remove_file(shop.join("..data_tmp"));
        symlink(format!("..2026_{number}"), shop.join("..data_tmp")).unwrap();
        fs::rename(shop.join("..data_tmp"), shop.join("..data")).unwrap();
    };
    revision(1, &service(&forward(1, 0)));
    symlink("..data/orders.yaml", shop.join("orders.yaml")).unwrap();
    wait_until("the linked file is in force", SETTLE, || {
        retail.lab.status().owners["shop"].state == "in-force" && answers_from(&retail) == "v1"
    });
    revision(2, &service(&forward(0, 1)));
    wait_until("the swap is in force", SETTLE, || answers_from(&retail) == "v2");
}

#[test]
fn an_invalid_owner_keeps_its_last_good_and_the_others_move_on() {
    let mut retail = Retail::start();
    retail.lab.write("accounts/platform/more.yaml", "kind: ServiceNetwork\nmetadata: {name: extra}\nspec: {}\n");
    let broken = service(&forward(1, 0)).replace("orders-v1, weight: 1", "orders-v9, weight: 1");
    retail.lab.write(ORDERS, &broken);
    wait_until("shop is shown as invalid", SETTLE, || retail.lab.status().owners["shop"].state == "invalid");
    let status = retail.lab.status();
    let error = status.owners["shop"].errors.join("\n");
    assert!(error.contains("accounts/shop/orders.yaml:"), "file and line: {error}");
    assert!(error.contains("orders-v9") && error.contains("orders-v"), "what is wrong, and the nearest name: {error}");
    assert_eq!(status.owners["platform"].state, "in-force");
    assert_eq!(answers_from(&retail), "v1", "the last good documents serve on");
    let code = retail.lab.brattice(&["status"]).code;
    assert_eq!(code, 1, "degraded");
    // Another owner's change gets in force meanwhile.
    let before = retail.lab.status().revision;
    retail.lab.write("node.yaml", &format!("{NODE}  serviceNetworks: [platform/retail]\n"));
    retail.lab.settled_after(before);
    assert_eq!(retail.red.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
    // A restarted agent serves the last good from disk.
    retail.lab.agent().kill();
    let engine = nix::unistd::Pid::from_raw(status.engine.pid.unwrap().cast_signed());
    nix::sys::signal::kill(engine, nix::sys::signal::Signal::SIGKILL).unwrap();
    retail.lab.start_agent();
    assert_eq!(answers_from(&retail), "v1");
    assert_eq!(retail.lab.status().owners["shop"].state, "invalid");
    // Corrected.
    retail.lab.write(ORDERS, &service(&forward(0, 1)));
    wait_until("shop is in force", SETTLE, || retail.lab.status().owners["shop"].state == "in-force");
    wait_until("and serves", SETTLE, || answers_from(&retail) == "v2");
    assert_eq!(retail.lab.brattice(&["status"]).code, 0);
}

#[test]
fn a_starting_agent_without_its_directory_serves_the_last_good() {
    let mut retail = Retail::start();
    let vip = retail.orders();
    let policies = retail.lab.policies();
    let away = policies.with_file_name("away");
    let engine = retail.lab.engine_pid();
    retail.lab.agent().kill();
    nix::sys::signal::kill(engine, nix::sys::signal::Signal::SIGKILL).unwrap();
    fs::rename(&policies, &away).unwrap();
    retail.lab.start_agent();
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1", "not mounted yet");
    fs::create_dir(&policies).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1", "empty");
    fs::remove_dir(&policies).unwrap();
    fs::rename(&away, &policies).unwrap();
    retail.lab.write(ORDERS, &service(&forward(0, 1)));
    wait_until("the directory is back", SETTLE, || retail.blue.http(vip).unwrap().nonce("n").unwrap().server() == "v2");
}

#[test]
fn a_mass_deletion_is_held_back_until_accepted() {
    let more: String = (0..3)
        .map(|number| format!("---\nkind: Service\nmetadata: {{name: extra{number}}}\nspec: {{serviceNetworks: [platform/retail], listeners: [{{protocol: HTTP, port: 80, defaultAction: {{fixedResponse: {{statusCode: 404}}}}}}]}}\n"))
        .collect();
    let retail = Retail::start_with(&format!("{}{more}", service(&forward(1, 0))));
    assert_eq!(retail.lab.services().len(), 4);
    // One of four is an ordinary change.
    retail.lab.apply(ORDERS, &format!("{}{}", service(&forward(1, 0)), more.rsplit_once("---").unwrap().0));
    assert_eq!(retail.lab.services().len(), 3);
    retail.lab.write(ORDERS, "kind: Service\nmetadata: {name: extra1}\nspec: {serviceNetworks: [platform/retail], listeners: [{protocol: HTTP, port: 80, defaultAction: {fixedResponse: {statusCode: 404}}}]}\n");
    wait_until("it is held back", SETTLE, || retail.lab.status().owners["shop"].state == "held-back");
    assert_eq!(retail.lab.services().len(), 3);
    assert_eq!(answers_from(&retail), "v1");
    let accepted = retail.lab.brattice(&["accept", "shop"]);
    assert!(accepted.ok(), "{}", accepted.text());
    wait_until("it is in force", SETTLE, || retail.lab.services().len() == 1);
}

#[test]
fn broken_input_of_every_kind_leaves_the_rest_alone() {
    let retail = Retail::start();
    let policies = retail.lab.policies();
    let bad = |name: &str, text: &str| {
        retail.lab.write(&format!("accounts/{name}/bad.yaml"), text);
    };
    // An account's folder of its own for each, so that each has its own errors.
    let cases: &[(&str, &str)] = &[
        ("a1", "kind: Service\n  metadata: {name: [\n"),
        ("a2", "kind: Servise\nmetadata: {name: wrong}\nspec: {}\n"),
        ("a3", "kind: TargetGroup\nmetadata: {name: wrong}\nspec: {config: {vpcIdentifer: platform/green, port: 1}}\n"),
        ("a4", "kind: Account\nmetadata: {name: wrong}\nspec: {id: \"333333333333\"}\n"),
        (
            "a5",
            "kind: Service\nmetadata: {name: wrong}\nspec: {listeners: [{protocol: HTTP, port: 80, defaultAction: {forward: {targetGroups: [{targetGroupIdentifier: nowhere, weight: 1}]}}}]}\n",
        ),
        (
            "a6",
            "kind: TargetGroup\nmetadata: {name: wrong}\nspec: {config: {vpcIdentifier: platform/green, port: 70000}}\n",
        ),
        (
            "a7",
            "kind: Service\nmetadata: {name: wrong}\nspec: {listeners: [{protocol: HTTP, port: 80, defaultAction: {forward: {targetGroups: [{targetGroupIdentifier: some, weight: 1000}]}}}]}\n---\nkind: TargetGroup\nmetadata: {name: some}\nspec: {config: {vpcIdentifier: platform/green, port: 80}}\n",
        ),
        ("a8", "kind: Service\nmetadata: {name: wrong, name: worse}\nspec: {}\n"),
        ("a9", "kind: Service\nmetadata: &a {name: wrong}\nspec: *a\n"),
    ];
    let accounts: String = cases.iter().enumerate().map(|(number, (name, _))| format!("---\nkind: Account\nmetadata: {{name: {name}}}\nspec: {{id: \"3{number:011}\", domains: [shop.internal], vpcs: [platform/green]}}\n")).collect();
    retail.lab.write("node.yaml", &format!("{NODE}{accounts}"));
    wait_until("the accounts are known", SETTLE, || retail.lab.status().owners["operator"].documents == 14);
    for (name, text) in cases {
        bad(name, text);
    }
    for (name, text) in cases {
        wait_until(&format!("{name} is shown as invalid: {text}"), SETTLE, || {
            let status = retail.lab.status();
            status.owners.get(*name).is_some_and(|owner| {
                owner.errors.iter().any(|error| error.contains(&format!("accounts/{name}/bad.yaml:")))
            })
        });
    }
    let status = retail.lab.status();
    assert_eq!(
        (status.owners["shop"].state.as_str(), status.owners["operator"].state.as_str()),
        ("in-force", "in-force")
    );
    // Files that are no documents: a symlink loop, 100 MiB, an unreadable kind of file.
    let shop = policies.join("accounts/a1");
    symlink("loop.yaml", shop.join("loop.yaml")).unwrap();
    fs::File::create(policies.join("accounts/a2/huge.yaml")).unwrap().set_len(100 << 20).unwrap();
    nix::unistd::mkfifo(&policies.join("accounts/a3/pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("..", policies.join("accounts/a4/up")).unwrap();
    retail.lab.apply(ORDERS, &service(&forward(0, 1)));
    wait_until("other changes go on", SETTLE, || answers_from(&retail) == "v2");
    // CIDR nonsense at the operator's.
    retail.lab.write("node.yaml", &NODE.replace("cidrBlocks: [10.0.0.0/16]", "cidrBlocks: [10.0.0.0/99]"));
    wait_until("the operator is invalid", SETTLE, || retail.lab.status().owners["operator"].state == "invalid");
    assert_eq!(answers_from(&retail), "v2");
    // All taken back.
    for (name, _) in cases {
        let _ = fs::remove_dir_all(policies.join("accounts").join(name));
    }
    retail.lab.write("node.yaml", NODE);
    // Nine of fourteen accounts and VPCs go at once: that is asked about first.
    wait_until("the guard asks", SETTLE, || retail.lab.status().owners["operator"].state == "held-back");
    assert!(retail.lab.brattice(&["accept", "operator"]).ok());
    wait_until("all is well again", SETTLE, || retail.lab.status().owners["operator"].state == "in-force");
    assert_eq!(answers_from(&retail), "v2");
}

#[test]
fn of_two_services_that_claim_one_domain_the_first_keeps_it() {
    let twin = "kind: Service\nmetadata: {name: twin}\nspec: {customDomainNames: [orders.shop.internal], serviceNetworks: [platform/retail], listeners: [{protocol: HTTP, port: 80, defaultAction: {fixedResponse: {statusCode: 418}}}]}\n";
    let rival =
        "---\nkind: Account\nmetadata: {name: zrival}\nspec: {id: \"444444444444\", domains: [shop.internal]}\n";
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    retail.lab.write("node.yaml", &format!("{NODE}{rival}"));
    retail.lab.write("accounts/platform/network.yaml", &NETWORK.replace("[shop]", "[shop, zrival]"));
    retail.lab.start_agent();
    // Of another account: its association fails.
    retail.lab.write("accounts/zrival/twin.yaml", twin);
    let shown = retail.lab.service("zrival/twin");
    assert_eq!(shown.service_networks[0].status, "CREATE_FAILED", "{shown:?}");
    let failure = shown.service_networks[0].failure.clone().unwrap_or_default();
    assert!(failure.contains("orders.shop.internal"), "{failure}");
    assert_eq!(retail.lab.service("shop/orders").service_networks[0].status, "ACTIVE");
    // Of the same account: an error that names both places.
    retail.lab.write("accounts/shop/twin.yaml", twin);
    wait_until("shop is invalid", SETTLE, || retail.lab.status().owners["shop"].state == "invalid");
    let error = retail.lab.status().owners["shop"].errors.join("\n");
    assert!(error.contains("accounts/shop/twin.yaml:") && error.contains("accounts/shop/orders.yaml:"), "{error}");
    assert_eq!(retail.blue.fetch(&["http://orders.shop.internal/"]).0, 200, "the first keeps the name");
}

#[test]
fn validate_and_diff_say_what_would_happen() {
    let retail = Retail::start();
    let validate = |folder: &Path| output(retail.lab.brattice_command(&["validate"]).arg(folder));
    let good = validate(&retail.lab.policies());
    assert_eq!(good.code, 0, "{}", good.text());
    let copy = retail.lab.folder.join("copy");
    fs::create_dir_all(copy.join("accounts/shop")).unwrap();
    fs::create_dir_all(copy.join("accounts/platform")).unwrap();
    fs::write(copy.join("node.yaml"), NODE).unwrap();
    fs::write(copy.join("accounts/platform/network.yaml"), NETWORK).unwrap();
    fs::write(copy.join(ORDERS), service(&forward(1, 0)).replace("customDomainNames", "customDomainName5")).unwrap();
    let bad = validate(&copy);
    assert_eq!(bad.code, 1, "{}", bad.text());
    assert!(
        bad.text().contains("accounts/shop/orders.yaml:") && bad.text().contains("`customDomainName`"),
        "{}",
        bad.text()
    );
    // One broken owner says nothing about the others.
    fs::write(copy.join(ORDERS), service(&forward(1, 0))).unwrap();
    fs::write(copy.join("accounts/platform/network.yaml"), NETWORK.replace("sharedWith", "sharedWiht")).unwrap();
    fs::write(copy.join("accounts/shop/copy.yaml.bak"), "kind: Nonsense\n").unwrap();
    let bad = validate(&copy);
    assert_eq!(bad.code, 1, "{}", bad.text());
    assert!(
        bad.text().contains("`sharedWith`") && !bad.text().contains("there is no service network"),
        "{}",
        bad.text()
    );
    assert!(bad.text().contains("of others about what may be in documents of platform are left out"), "{}", bad.text());
    assert!(bad.text().contains("1 error,") && bad.text().contains("copy.yaml.bak"), "{}", bad.text());
    // The control: without the network no finding is left out.
    fs::write(copy.join("accounts/platform/network.yaml"), NETWORK.replace("retail", "other")).unwrap();
    assert!(validate(&copy).text().contains("there is no service network"), "{}", validate(&copy).text());
    fs::write(copy.join("accounts/platform/network.yaml"), NETWORK).unwrap();
    let example = validate(Path::new("../policies"));
    assert_eq!(example.code, 0, "the examples are valid: {}", example.text());

    fs::write(copy.join(ORDERS), service(&forward(1, 5))).unwrap();
    let diff = output(retail.lab.brattice_command(&["diff"]).arg(&copy).arg("--state-dir").arg(retail.lab.state_dir()));
    assert!(diff.text().contains("orders"), "{} {}", diff.code, diff.text());
}

#[test]
fn an_agent_with_nothing_but_broken_documents_starts_and_serves_once_they_are_repaired() {
    let mut retail = Retail::prepare("kind: Nonsense\n");
    retail.lab.start_agent_with(&AgentOptions::default());
    assert_eq!(retail.lab.status().owners["shop"].state, "invalid");
    assert!(retail.lab.services().is_empty());
    retail.lab.apply(ORDERS, &service(&forward(1, 0)));
    assert_eq!(answers_from(&retail), "v1");
}

#[test]
fn a_state_directory_that_breaks_is_shown_and_stops_nothing() {
    let retail = Retail::start();
    let state = retail.lab.state_dir();
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "not a directory").unwrap();
    retail.lab.write(ORDERS, &service(&forward(0, 1)));
    wait_until("changes go on", SETTLE, || answers_from(&retail) == "v2");
    wait_until("it is shown", SETTLE, || {
        let problems = retail.lab.status().problems.join("\n");
        problems.contains("the state directory does not keep the documents of shop")
    });
    assert_eq!(retail.lab.brattice(&["status"]).code, 1, "degraded");
    fs::remove_file(&state).unwrap();
    wait_until("it is made again and all is well", SETTLE + Duration::from_secs(10), || {
        retail.lab.brattice(&["status"]).code == 0
    });
    assert!(state.join("state.json").exists());
    let kept = fs::read_to_string(state.join("last-good/account-shop.json")).unwrap();
    assert!(kept.contains("orders-v2, weight: 1"), "{kept}");
}
