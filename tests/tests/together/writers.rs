//! Documents while they are written: by a slow writer, in place, a set of files at once, and never to the end.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use brattice_tests::lab::{NODE, Retail, SETTLE, forward, service, wait_until};

const ORDERS: &str = "accounts/shop/orders.yaml";

/// The service with a version behind it, and as its last line what keeps callers out of `/secret`: without that line it
/// is valid, too, and lets them in.
fn guarded(version: u16) -> String {
    let all = service(&forward(u16::from(version == 1), u16::from(version == 2)));
    let (service, groups) = all.split_once("---").unwrap();
    // Long enough for many writes.
    let padding = format!("# {}\n", "x".repeat(78)).repeat(3000);
    format!(
        "---{groups}---{service}{padding}    rules:\n    - {{name: open, priority: 2, match: {{httpMatch: {{pathMatch: {{match: {{exact: /open}}}}}}}}, action: {{fixedResponse: {{statusCode: 404}}}}}}\n    - {{name: closed, priority: 1, match: {{httpMatch: {{pathMatch: {{match: {{prefix: /secret}}}}}}}}, action: {{fixedResponse: {{statusCode: 403}}}}}}\n"
    )
}

fn version(retail: &Retail) -> String {
    retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server().to_owned()
}

fn secret(retail: &Retail) -> u16 {
    retail.blue.fetch(&["http://orders.shop.internal/secret"]).0
}

fn shell(script: &str, target: &Path, source: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args(["-ec", script, "sh"]).arg(target).arg(source).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_writer_that_takes_its_time_changes_nothing_until_it_closes() {
    let retail = Retail::start_with(&guarded(1));
    assert_eq!((version(&retail).as_str(), secret(&retail)), ("v1", 403));
    let before = retail.lab.status().owners["shop"].revision;
    let (target, source) = (retail.lab.policies().join(ORDERS), retail.lab.folder.join("new.yaml"));
    fs::write(&source, guarded(2)).unwrap();
    // All but the last line; the last one on demand.
    let go = retail.lab.folder.join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!("(head -n -1 \"$2\"; cat {}; tail -n 1 \"$2\") > \"$1\"", go.display());
    let mut writer = shell(&script, &target, &source);
    wait_until("it is said", SETTLE, || {
        assert_eq!(secret(&retail), 403, "the last good documents are in force");
        retail.lab.status().owners["shop"].state == "being-written"
    });
    let status = retail.lab.status();
    let problem = status.problems.iter().find(|line| line.contains("documents of shop are being-written"));
    let problem = problem.unwrap_or_else(|| panic!("{:?}", status.problems));
    assert!(
        problem.contains("accounts/shop/orders.yaml is open for writing") && problem.contains("fuser"),
        "{problem}"
    );
    assert_eq!(retail.lab.brattice(&["status"]).code, 1, "degraded");
    // No other owner waits for it.
    retail.lab.write("node.yaml", &format!("{NODE}  serviceNetworks: [platform/retail]\n"));
    retail.lab.settled_after(status.revision);
    assert_eq!(retail.red.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
    assert_eq!((version(&retail).as_str(), secret(&retail)), ("v1", 403));
    // An agent that starts while the file is open has seen no event of it.
    let mut retail = retail;
    retail.lab.agent().kill();
    retail.lab.start_agent();
    wait_until("the new one says it, too", SETTLE, || {
        assert_eq!(secret(&retail), 403);
        retail.lab.status().owners["shop"].state == "being-written"
    });
    fs::OpenOptions::new().write(true).open(&go).unwrap().write_all(b"").unwrap();
    assert!(writer.wait().unwrap().success());
    wait_until("it is in force once it is closed", SETTLE, || version(&retail) == "v2");
    assert_eq!(secret(&retail), 403);
    // The engine serves by it a moment before `status` shows it.
    wait_until("status says so", SETTLE, || retail.lab.status().owners["shop"].state == "in-force");
    assert_eq!(retail.lab.status().owners["shop"].revision, before + 1, "nothing in between was");
}

#[test]
fn whoever_writes_in_place_is_never_read_half() {
    let retail = Retail::start_with(&guarded(1));
    let (target, source) = (retail.lab.policies().join(ORDERS), retail.lab.folder.join("new.yaml"));
    let writers: &[(&str, &str)] = &[
        ("a redirect", "cat \"$2\" > \"$1\""),
        ("cp", "cp \"$2\" \"$1\""),
        // As `rsync --inplace` does, which is not installed everywhere: block by block, not truncated before.
        ("blocks in place", "dd if=\"$2\" of=\"$1\" bs=700 conv=notrunc status=none"),
        ("tee", "tee \"$1\" < \"$2\""),
        (
            "sed -i",
            "from=$(grep -o 'orders-v1, weight: .' \"$2\"); if [ \"${from#*: }\" = 1 ]; then sed -i 's/orders-v1, weight: 0/orders-v1, weight: 1/; s/orders-v2, weight: 1/orders-v2, weight: 0/' \"$1\"; else sed -i 's/orders-v1, weight: 1/orders-v1, weight: 0/; s/orders-v2, weight: 0/orders-v2, weight: 1/' \"$1\"; fi",
        ),
        ("an editor that renames", "cp \"$2\" \"$1.tmp\"; mv \"$1\" \"$1~\"; mv \"$1.tmp\" \"$1\"; rm \"$1~\""),
        ("truncate, then append", ": > \"$1\"; sleep 0.5; cat \"$2\" >> \"$1\""),
    ];
    let mut revision = retail.lab.status().owners["shop"].revision;
    for (number, (what, script)) in writers.iter().enumerate() {
        let next = if number % 2 == 0 { 2 } else { 1 };
        fs::write(&source, guarded(next)).unwrap();
        let mut writer = shell(script, &target, &source);
        let start = Instant::now();
        while version(&retail) != format!("v{next}") {
            assert_eq!(secret(&retail), 403, "{what}");
            assert!(start.elapsed() < SETTLE, "{what} is not noticed: {:?}", retail.lab.status().owners["shop"]);
        }
        assert!(writer.wait().unwrap().success(), "{what}");
        assert_eq!(secret(&retail), 403, "{what}");
        let shop = retail.lab.status().owners["shop"].clone();
        revision += 1;
        assert_eq!(
            (shop.state.as_str(), shop.revision),
            ("in-force", revision),
            "{what}: once, and nothing in between"
        );
    }
}

#[test]
fn a_checkout_of_many_files_comes_into_force_as_one() {
    let retail = Retail::start_with(&service(&forward(1, 0)));
    let shop = retail.lab.policies().join("accounts/shop");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&shop).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]);
        let done = command.args(arguments).env("HOME", &retail.lab.folder).output().unwrap();
        assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    // In each branch the services' groups have other names, and lie in other files than they.
    let write = |branch: &str| {
        for n in 0..60 {
            let service = format!(
                "kind: Service\nmetadata: {{name: s{n:02}}}\nspec: {{listeners: [{{protocol: HTTP, port: 80, defaultAction: {{forward: {{targetGroups: [{{targetGroupIdentifier: {branch}-{n:02}}}]}}}}}}]}}\n"
            );
            let group = format!(
                "kind: TargetGroup\nmetadata: {{name: {branch}-{n:02}}}\nspec: {{config: {{vpcIdentifier: platform/green, port: 8080}}, targets: [{{id: 10.0.0.10}}]}}\n"
            );
            fs::write(shop.join(format!("a{n:02}.yaml")), service).unwrap();
            fs::write(shop.join(format!("z{:02}.yaml", 59 - n)), group).unwrap();
        }
    };
    let of = || {
        let owner = retail.lab.status().owners["shop"].clone();
        (owner.state, owner.revision)
    };
    write("left");
    git(&["init", "-q", "-b", "left"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "left"]);
    git(&["checkout", "-qb", "right"]);
    write("right");
    git(&["commit", "-qam", "right"]);
    let group =
        |name: &str| retail.lab.services().iter().any(|s| s.target_groups.iter().any(|group| group.name == name));
    wait_until("the branch is in force", SETTLE, || group("shop/right-59") && of().0 == "in-force");
    for (turn, branch) in ["left", "right", "left"].iter().enumerate() {
        let (_, before) = of();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                git(&["checkout", "-q", branch]);
                done.store(true, Ordering::SeqCst);
            });
            wait_until(&format!("turn {turn}: {branch} is in force"), SETTLE, || {
                assert_eq!(of().0, "in-force", "{branch}: a half checkout names groups that do not exist");
                group(&format!("shop/{branch}-00"))
                    && group(&format!("shop/{branch}-59"))
                    && done.load(Ordering::SeqCst)
            });
        });
        assert_eq!(of(), ("in-force".to_owned(), before + 1), "{branch}");
    }
}

#[test]
fn a_file_that_was_emptied_takes_nothing_away_until_that_is_accepted() {
    let retail = Retail::start();
    let path = retail.lab.policies().join(ORDERS);
    fs::write(&path, "").unwrap();
    wait_until("it is held back", SETTLE, || retail.lab.status().owners["shop"].state == "held-back");
    let errors = retail.lab.status().owners["shop"].errors.join("\n");
    assert!(errors.contains("accounts/shop/orders.yaml is empty and was not"), "{errors}");
    assert_eq!(version(&retail), "v1");
    fs::write(&path, service(&forward(0, 1))).unwrap();
    wait_until("what comes then is in force", SETTLE, || version(&retail) == "v2");
    fs::write(&path, "").unwrap();
    wait_until("it is held back", SETTLE, || retail.lab.status().owners["shop"].state == "held-back");
    assert!(retail.lab.brattice(&["accept", "shop"]).ok());
    wait_until("accepted", SETTLE, || retail.lab.services().is_empty());
}

/// Sets it, also when something fails before.
struct StopWith<'s>(&'s AtomicBool);

impl Drop for StopWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// While ten accounts' documents are parsed, each as large as it may be, the agent answers, and others' changes come into
/// force.
#[test]
fn large_documents_keep_neither_status_nor_others_waiting() {
    let retail = Retail::start();
    let names: Vec<String> = (0..10).map(|n| format!("large{n}")).collect();
    let accounts: String = (names.iter().enumerate())
        .map(|(n, name)| format!("---\nkind: Account\nmetadata: {{name: {name}}}\nspec: {{id: \"30000000000{n}\"}}\n"))
        .collect();
    retail.lab.write("node.yaml", &format!("{NODE}{accounts}"));
    wait_until("the accounts are known", SETTLE, || retail.lab.status().owners["operator"].documents == 15);
    // Within all bounds, and wrong: only parsing shows it.
    let large = format!("[{}a]\n", "a,".repeat(390_000));
    for name in &names {
        retail.lab.write(&format!("accounts/{name}/large.yaml"), &large);
    }
    let refused = || {
        let owners = retail.lab.status().owners;
        names.iter().filter(|name| owners.get(*name).is_some_and(|owner| owner.state == "invalid")).count()
    };
    wait_until("the first is parsed", SETTLE, || refused() > 0);
    retail.lab.write(ORDERS, &service(&forward(0, 1)));
    // Asked by a thread that does nothing else, as its answers are counted.
    let done = AtomicBool::new(false);
    let start = Instant::now();
    let (answers, worst, parsed_before) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut answers, mut worst) = (0, Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                let asked = Instant::now();
                retail.lab.status();
                (answers, worst) = (answers + 1, worst.max(asked.elapsed()));
            }
            (answers, worst)
        });
        let stop = StopWith(&done);
        let mut parsed_before = None;
        loop {
            let parsed = refused();
            if parsed_before.is_none() && version(&retail) == "v2" {
                parsed_before = Some(parsed);
            }
            if parsed == names.len() && parsed_before.is_some() {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{parsed} parsed, {parsed_before:?}");
        }
        drop(stop);
        let (answers, worst) = asking.join().unwrap();
        (answers, worst, parsed_before)
    });
    println!(
        "{answers} answers in {:?}, the slowest after {worst:?}, the change was in force when {parsed_before:?} were parsed",
        start.elapsed()
    );
    assert!(answers > 3 * names.len(), "{answers} answers while the others were parsed");
    assert!(parsed_before.is_some_and(|parsed| parsed < names.len()), "{parsed_before:?}");
}
