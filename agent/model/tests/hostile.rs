//! Whatever is in a file: no panic, and findings point into it.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use std::time::{Duration, Instant};

use brattice_model::{Diagnostic, Owner, VipState, limits, parse};
use proptest::prelude::*;
use world::{read, source, sources};

/// Lines as YAML counts them: LF, CR and CRLF end one.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(['\n', '\r']) {
        lines.push(&rest[..end]);
        rest = &rest[end + if rest[end..].starts_with("\r\n") { 2 } else { 1 }..];
    }
    lines.push(rest);
    lines
}

fn inside(finding: &Diagnostic, text: &str) -> Result<(), TestCaseError> {
    let lines = lines(text);
    let line = lines.get(finding.line as usize - 1);
    prop_assert!(line.is_some(), "{} lines: {}", lines.len(), finding);
    let width = line.unwrap().chars().count();
    prop_assert!((1..=width + 1).contains(&(finding.column as usize)), "width {}: {}", width, finding);
    prop_assert!(finding.length >= 1);
    let rendered = finding.render(text);
    prop_assert!(rendered.contains(&finding.message) && !rendered.replace('\n', "").contains(char::is_control));
    prop_assert!(!finding.to_string().contains(char::is_control), "{:?}", finding.to_string());
    Ok(())
}

/// As any owner; what parses is linked with the rest of the world.
fn survives(text: &str) -> Result<(), TestCaseError> {
    for path in ["x.yaml", "accounts/shop/x.yaml"] {
        let owner = Owner::of_path(path).unwrap();
        match parse(&owner, &[source(path, text)]) {
            Ok(_) => {
                let files: Vec<_> = sources().into_iter().chain([source(path, text)]).collect();
                let outcome = read(&files, &VipState::default(), 0);
                for finding in outcome.errors.iter().chain(&outcome.warnings).filter(|finding| finding.file == path) {
                    inside(finding, text)?;
                }
            }
            Err(findings) => {
                prop_assert!(!findings.is_empty() && findings.len() <= limits::MAX_DIAGNOSTICS + 1);
                for finding in &findings {
                    inside(finding, text)?;
                }
            }
        }
    }
    Ok(())
}

/// Good documents of all kinds.
fn documents() -> String {
    let world: String = sources().into_iter().map(|source| source.text + "---\n").collect();
    world
        + r#"apiVersion: brattice.dev/v1
kind: Workload
metadata: {name: w, labels: {a: b}}
spec: {vpcIdentifier: platform/blue, roleIdentifier: shop/r, interface: veth0, namespace: ns, addresses: [10.0.0.9]}
---
kind: ServiceNetworkVpcAssociation
spec: {vpcIdentifier: node, serviceNetworkIdentifier: platform/retail}
---
kind: Service
metadata: {name: full}
spec:
  listeners:
  - name: web
    protocol: HTTP
    port: 8080
    forwardedHeaders: append
    defaultAction: {fixedResponse: {statusCode: 404}}
    rules:
    - name: first
      priority: 1
      match: {httpMatch: {method: GET, pathMatch: {match: {prefix: /a}, caseSensitive: false}, hostMatch: {match: {exact: a.shop.internal}}}}
      action: {forward: {targetGroups: [{targetGroupIdentifier: orders-v1, weight: 1}]}}
    - name: second
      priority: 2
      match:
        httpMatch:
          headerMatches: [{name: x-a, match: {regex: 'a+(b|c)'}, invert: true}, {name: x-b, match: {range: {start: -5, end: 7}}, caseSensitive: true}]
          queryParameters: [{name: q, match: {present: true}}]
          sourceVpcs: [platform/blue]
          port: 8080
      action:
        forward: {targetGroups: [{targetGroupIdentifier: orders-v1}], stickiness: {cookie: {name: c, maxAgeSeconds: 60}}}
        rewrite: {hostname: other.example, path: {regex: {pattern: '/(.*)', substitution: '/x/$1'}}}
        requestHeaders: {set: [{name: x-c, value: d}], add: [{name: x-e, value: f}], remove: [x-g]}
    - name: third
      priority: 3
      match: {grpcMatch: {serviceName: a.B, methodName: C, metadata: [{name: x-a, match: {exact: b}}], hostMatch: {match: {suffix: shop.internal}}}}
      action: {redirect: {scheme: https, hostname: a.b, port: 8443, path: {exact: /c}, statusCode: 308}, responseHeaders: {remove: [server]}}
    - name: fourth
      priority: 4
      match: {httpMatch: {pathMatch: {match: {stringPrefix: /x}}}}
      action: {fixedResponse: {statusCode: 200, contentType: text/html, body: hello}}
---
kind: Role
metadata: {name: r}
spec: {account: shop, trust: [{workloads: [w]}], policy: {Version: "2012-10-17", Statement: []}}
---
kind: AuthPolicy
spec: {resourceIdentifier: full, policy: {Version: "2012-10-17", Statement: [{Effect: Allow, Principal: "*", Action: "*", Resource: "*"}]}}
"#
}

/// Pieces that mean something to YAML or to documents.
const PIECES: [&str; 40] = [
    ": ",
    "- ",
    "? ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\n",
    "\n  ",
    "\t",
    "#",
    "&a ",
    "*a",
    "!t ",
    "|",
    ">",
    "'",
    "\"",
    "%",
    "@",
    "`",
    "---\n",
    "...\n",
    "<<: ",
    "~",
    "null",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\r",
    "\0",
    "😀",
    "kind: Service\n",
    "metadata: {name: a}\n",
    "spec: ",
    "10.0.0.0/8",
    "99999999999999999999",
    "-1",
    "\u{1b}[31m",
];

/// A directive with a line separator in it: the parser counts a column that the line has not.
#[test]
fn a_place_lies_on_its_line() {
    for text in ["%\u{2028}spec: \u{feff}\r", "%\u{2028}spec: \u{feff}\n", "%\u{2028}\u{2028}a: \u{feff}\r\nb: 1\n"] {
        survives(text).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_yaml_like_text(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        survives(&pieces.concat())?;
    }

    #[test]
    fn documents_with_something_cut_out_or_put_in(
        at in any::<prop::sample::Index>(),
        cut in 0..40usize,
        piece in prop::sample::select(&PIECES[..]),
    ) {
        let text: Vec<char> = documents().chars().collect();
        let at = at.index(text.len());
        let rest = &text[(at + cut).min(text.len())..];
        let mutated: String = text[..at].iter().copied().chain(piece.chars()).chain(rest.iter().copied()).collect();
        survives(&mutated)?;
    }

    #[test]
    fn documents_with_lines_out_of_place(from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let text = documents();
        let mut lines: Vec<&str> = text.lines().collect();
        let (from, to) = (from.index(lines.len()), to.index(lines.len()));
        lines.swap(from, to);
        survives(&lines.join("\n"))?;
    }

    /// Nothing is silently left out: what parses has as many documents as the text.
    #[test]
    fn a_document_is_read_or_reported(skip in prop::collection::btree_set(0..80usize, 0..6)) {
        let text: String =
            documents().lines().enumerate().filter(|(n, _)| !skip.contains(n)).map(|(_, line)| format!("{line}\n")).collect();
        for document in text.split("---\n").filter(|document| !document.trim().is_empty()) {
            for path in ["x.yaml", "accounts/shop/x.yaml"] {
                match parse(&Owner::of_path(path).unwrap(), &[source(path, document)]) {
                    Ok(documents) => prop_assert_eq!(documents.len(), 1, "{}", document),
                    Err(findings) => prop_assert!(!findings.is_empty()),
                }
            }
        }
    }
}

#[test]
fn large_and_deep_files_are_refused_or_read_without_harm() {
    let n = 200_000;
    let long = |piece: &str| piece.repeat(n / piece.len());
    let cases = [
        long("["),
        long("{"),
        long("[a: "),
        long("? "),
        long("- "),
        long("a: "),
        long("&a "),
        long("!"),
        long("%"),
        long("---\n"),
        long(" "),
        long("\n"),
        long("\t"),
        long("'"),
        long(": "),
        long("\r"),
        long("- {a: b}\n"),
        long("%TAG ! a\n"),
        format!("a: [{}]", long("b,")),
        format!("[{}]", long("b\n")),
        format!("a: |\n{}", long(" x\n")),
        format!("[{}", long("? ")),
        format!("\"{}", long("\\u0041")),
        (0..n / 12).map(|n| format!("k{n}: v\n")).collect(),
        (0..600).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
    ];
    for text in cases {
        survives(&text).unwrap();
    }
}

#[test]
fn a_file_over_the_limit_is_not_parsed() {
    let text = "a".repeat(limits::MAX_FILE_BYTES + 1);
    let errors = parse(&Owner::Operator, &[source("x.yaml", &text)]).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].to_string().starts_with("x.yaml:1:1: the file has 1048577 bytes; at most 1048576"),
        "{}",
        errors[0]
    );
}

#[test]
fn an_owner_with_too_many_files_or_nodes_is_told_so() {
    let files: Vec<_> = (0..=limits::MAX_FILES_PER_OWNER).map(|n| source(&format!("{n}.yaml"), "")).collect();
    let errors = parse(&Owner::Operator, &files).unwrap_err();
    assert!(errors[0].message.contains("more than 4096 files"), "{}", errors[0]);
    // Each file alone has few enough.
    let half = |items: usize| format!("[{}]", "a,".repeat(items));
    let files = |items| [source("a.yaml", &half(items)), source("b.yaml", &half(items))];
    let nodes = |items| {
        let errors = parse(&Owner::Operator, &files(items)).unwrap_err();
        errors.iter().any(|error| error.file == "b.yaml" && error.message.contains("more than 400000 YAML nodes"))
    };
    // A list and the document that it is count, too.
    assert!(!nodes(limits::MAX_NODES_PER_OWNER / 2 - 2) && nodes(limits::MAX_NODES_PER_OWNER / 2 - 1));
}

#[test]
fn an_owner_with_too_many_bytes_or_documents_is_told_so() {
    let of = |files: usize, text: &str| {
        let sources: Vec<_> = (0..files).map(|n| source(&format!("{n}.yaml"), text)).collect();
        parse(&Owner::Operator, &sources)
    };
    let comment = format!("#{}", "x".repeat(limits::MAX_FILE_BYTES - 1));
    let files = limits::MAX_BYTES_PER_OWNER / limits::MAX_FILE_BYTES;
    assert!(of(files, &comment).is_ok());
    let errors = of(files + 1, &comment).unwrap_err();
    assert!(errors[0].message.contains("operator have more than 4194304 bytes"), "{}", errors[0]);
    let vpcs = |count: usize| -> String {
        (0..count)
            .map(|n| format!("---\nkind: Vpc\nmetadata: {{name: v{n}}}\nspec: {{cidrBlocks: [10.0.0.0/8]}}\n"))
            .collect()
    };
    let read = |count: usize| {
        let text = vpcs(count);
        let (first, second) = text.split_at(text.match_indices("---").nth(count / 2).unwrap().0);
        parse(&Owner::Operator, &[source("a.yaml", first), source("b.yaml", second)])
    };
    assert_eq!(read(limits::MAX_DOCUMENTS_PER_OWNER).unwrap().len(), limits::MAX_DOCUMENTS_PER_OWNER);
    let errors = read(limits::MAX_DOCUMENTS_PER_OWNER + 1).unwrap_err();
    assert!(errors[0].message.contains("more than 20000 documents"), "{}", errors[0]);
}

/// The longest time that one account can make all others wait.
#[test]
fn the_worst_documents_that_an_owner_may_have_are_read_in_bounded_time() {
    let fill = |piece: &str| piece.repeat(limits::MAX_FILE_BYTES / piece.len());
    let part = (limits::MAX_FILE_BYTES - 16) / 2;
    let policy = |n: usize| {
        let statement = r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#;
        let statements = vec![statement; 1_400].join(",");
        format!(
            "---\nkind: AuthPolicy\nspec:\n  resourceIdentifier: orders{n}\n  policy: |\n    {{\"Version\":\"2012-10-17\",\"Statement\":[{statements}]}}\n"
        )
    };
    let cases = [
        ("items", format!("[{}]", "a,".repeat(part))),
        ("members", format!("{{{}}}", (0..100_000).map(|n| format!("k{n}: v,")).collect::<String>())),
        ("lines", fill("- a\n")),
        ("empty documents", fill("---\n")),
        ("unfinished documents", fill("---\nkind: Service\n")),
        ("unknown fields", fill("---\nkind: Servise\nspec: {a: {b: c}}\n")),
        ("long text", format!("a: {}", "b\n ".repeat(limits::MAX_FILE_BYTES / 3 - 1))),
        ("escapes", format!("\"{}\"", "\\u0041".repeat(limits::MAX_FILE_BYTES / 6 - 1))),
        ("comments", fill("#\n")),
        ("policies", (0..11).map(policy).collect()),
    ];
    // Well below half a second when optimized; several times as long in a debug build on a busy machine.
    let most = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 });
    let owner = Owner::Account("shop".into());
    for (what, text) in cases {
        assert!(text.len() <= limits::MAX_FILE_BYTES, "{what}");
        let files: Vec<_> = (0..limits::MAX_BYTES_PER_OWNER / limits::MAX_FILE_BYTES)
            .map(|n| source(&format!("accounts/shop/{n}.yaml"), &text))
            .collect();
        let started = Instant::now();
        let read = parse(&owner, &files);
        let took = started.elapsed();
        println!("{what}: {took:?}, {}", if read.is_ok() { "fine" } else { "refused" });
        assert!(took < most, "{what}: {took:?}");
    }
}
