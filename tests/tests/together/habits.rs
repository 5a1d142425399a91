//! Commands as kubectl and hubble have them, and their output: tables that fit, one thing by its name, short
//! options, formats, and a message where nothing is found.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use brattice_tests::{
    client::Connection,
    lab::{Lab, Output, Retail, forward, output, service, wait_until},
};
use serde_json::Value;

/// Runs a verb on a terminal of this width; what it shows, without colours.
fn on_terminal(lab: &Lab, width: usize, more: &str, verb: &[&str]) -> String {
    let plain = lab.brattice_command(verb);
    let words = std::iter::once(plain.get_program()).chain(plain.get_args());
    let mut line: String = words.map(|word| format!("'{}' ", word.to_str().unwrap())).collect();
    line.push_str(&format!("--run-dir '{}'", lab.run_dir().display()));
    // `script` gives it a terminal of its own.
    let shown =
        output(Command::new("script").args(["-qec", &format!("stty cols {width}; {more} {line}"), "/dev/null"]));
    assert!(shown.ok(), "{}", shown.text());
    let mut text = String::new();
    let mut parts = shown.stdout.split('\u{1b}');
    text.push_str(parts.next().unwrap());
    // `[2m` and the like.
    parts.for_each(|part| text.push_str(part.split_once('m').map_or("", |(_, rest)| rest)));
    text.replace('\r', "")
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[test]
fn tables_fit_the_terminal() {
    let retail = Retail::start();
    let lab = &retail.lab;
    let mut kept = Connection::new(retail.blue.connect(retail.orders()).unwrap());
    assert_eq!(kept.get("/", "").unwrap().status, 200);
    for verb in ["flows", "services", "workloads", "status"] {
        for width in [60, 80, 120] {
            let shown = on_terminal(lab, width, "", &[verb]);
            assert!(shown.lines().count() >= 2 && widest(&shown) <= width, "{verb} at {width}:\n{shown}");
        }
    }
    let services = on_terminal(lab, 80, "", &["services"]);
    for whole in ["shop/orders", "169.254.64.32", "2/2", "orders.shop.internal"] {
        assert!(services.split_whitespace().any(|word| word == whole), "{whole}:\n{services}");
    }
    let (from, to) = (["--from", "blue1"], ["--to", "shop/orders"]);
    let policies = lab.policies();
    let probe = ["preflight", "--no-probe", "--policies", policies.to_str().unwrap()];
    for verb in [
        &[&["explain"], &from[..], &to].concat()[..],
        &[&["route"], &from[..], &to].concat(),
        &["bypass", "--service", "shop/orders", "--for", "1s"],
        &probe,
    ] {
        let shown = on_terminal(lab, 80, "", verb);
        // A word that is longer than a line, as an ARN, stays whole.
        let fits = |line: &str| line.chars().count() <= 80 || !line.trim().contains(' ');
        assert!(shown.lines().count() >= 1 && shown.lines().all(fits), "{verb:?}:\n{shown}");
    }
    let by_columns = on_terminal(lab, 200, "COLUMNS=50", &["flows"]);
    assert!(widest(&by_columns) <= 50, "{by_columns}");
    let wide = on_terminal(lab, 60, "", &["flows", "--wide"]);
    assert!(widest(&wide) > 100 && wide.contains("ALIAS") && !wide.contains('…'), "{wide}");
    // A pipe has no width: nothing is cut, whatever COLUMNS says.
    let piped = output(lab.brattice_command(&["flows", "--run-dir"]).arg(lab.run_dir()).env("COLUMNS", "40"));
    assert!(widest(&piped.stdout) > 60 && !piped.stdout.contains('…'), "{}", piped.text());
    wait_until("the bypass has ended", Duration::from_secs(5), || lab.brattice(&["status"]).ok());
    let status = on_terminal(lab, 60, "", &["status"]);
    assert!(status.contains("health") && status.contains("PROGRAM"), "{status}");
    for verb in ["flows", "services", "workloads", "status"] {
        let [long, short] = [&[verb, "--wide"][..], &[verb, "-o", "wide"]].map(|verb| on_terminal(lab, 60, "", verb));
        let heads = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        assert!(heads(&long) == heads(&short) && widest(&short) > 60, "{verb}:\n{long}\n{short}");
    }
}

#[test]
fn one_is_got_by_name_and_printed_as_wanted() {
    let retail = Retail::start();
    let lab = &retail.lab;
    let ask = |words: &[&str]| lab.brattice(words);
    let fine = |words: &[&str]| {
        let shown = ask(words);
        assert!(shown.ok(), "{words:?}: {}", shown.text());
        shown.stdout
    };
    assert_eq!(fine(&["services", "orders", "-o", "name"]), "shop/orders\n");
    assert_eq!(fine(&["services", "-n", "shop", "-o", "name"]), "shop/orders\n");
    let one: Value = serde_json::from_str(&fine(&["service", "shop/orders", "-o", "json"])).unwrap();
    let all: Value = serde_json::from_str(&fine(&["services", "--output", "json"])).unwrap();
    assert_eq!(all[0], one, "alone without a list, and in the list as ever");
    let yaml = fine(&["workloads", "blue1", "-o", "yaml"]);
    assert!(yaml.lines().any(|line| line == "name: blue1"), "{yaml}");
    let wide = fine(&["workloads", "-o", "wide"]);
    assert!(wide.contains("NAMESPACE") && wide.contains("green1"), "{wide}");
    assert!(fine(&["status", "-o", "yaml"]).lines().any(|line| line == "health: ok"));

    let missing = |words: &[&str], code: i32, hint: &str| {
        let Output { code: exit, stderr, .. } = ask(words);
        assert_eq!(exit, code, "{words:?}: {stderr}");
        assert!(stderr.contains(hint), "{words:?}: {stderr}");
    };
    missing(&["services", "ordesr"], 1, "no service is named ordesr; did you mean shop/orders?");
    missing(&["workloads", "bleu1"], 1, "no workload is named bleu1; did you mean blue1?");
    missing(&["flows", "4711"], 1, "no open connection has the id 4711");
    missing(&["services", "-n", "shpo"], 0, "did you mean shop?");
    missing(&["services", "-l", "team=shop"], 0, "no service is selected by -l team=shop");
    missing(&["workloads", "-l", "!team,tier"], 0, "no workload is selected by -l !team,tier");
}

#[test]
fn a_filter_that_fits_nothing_says_so_and_what_was_meant() {
    let retail = Retail::start();
    let lab = &retail.lab;
    let mut kept = Connection::new(retail.blue.connect(retail.orders()).unwrap());
    assert_eq!(kept.get("/", "").unwrap().status, 200);
    let stderr_of = |words: &[&str]| {
        let shown = lab.brattice(words);
        assert!(shown.ok(), "{words:?}: {}", shown.text());
        shown.stderr
    };
    for (words, hint) in [
        (&["flows", "--service", "ordesr"][..], "no service is named ordesr; did you mean shop/orders?"),
        (&["flows", "--caller", "bleu1"], "no workload is named bleu1; did you mean blue1?"),
        (&["flows", "--vpc", "platform/bleu"], "did you mean platform/blue?"),
        (&["flows", "--caller", "green1"], "none of 1 open connections is like that"),
        (&["logs", "--service", "ordesr"], "no service is named ordesr; did you mean shop/orders?"),
        (&["logs", "--denied"], "is like that"),
    ] {
        assert!(stderr_of(words).contains(hint), "{words:?}: {}", stderr_of(words));
    }
    assert_eq!(stderr_of(&["flows", "--service", "orders", "--since", "1h"]), "", "the positive control");
    let logged = || lab.brattice(&["logs", "--service", "orders", "--since", "1h", "-n", "shop"]);
    wait_until("its line is there", Duration::from_secs(5), || logged().stdout.contains("GET /"));
    assert_eq!(logged().stderr, "");
}

#[test]
fn a_watched_view_ends_when_its_reader_is_gone() {
    let retail = Retail::prepare(&service(&forward(1, 0)));
    let mut retail = retail;
    retail.lab.start_agent();
    let lab = &retail.lab;
    for verb in ["status", "services", "workloads", "flows"] {
        let mut command = lab.brattice_command(&[verb, "-w", "-o", "json", "--run-dir"]);
        let mut child = command.arg(lab.run_dir()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            let line = lines.next().expect("a look").unwrap();
            assert!(serde_json::from_str::<Value>(&line).is_ok(), "{verb}: {line}");
        }
        drop(lines);
        wait_until("it ends with its reader", Duration::from_secs(5), || child.try_wait().unwrap().is_some());
    }
}
