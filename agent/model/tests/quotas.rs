//! What one account may have at most. Each quota is gone over by one, with what just fits beside it.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use std::collections::BTreeMap;

use brattice_model::{Owner, Source, VipState, limits, link, parse};
use world::{settings, source, sources};

const GOOD: &str = "defaultAction: {fixedResponse: {statusCode: 404}}";

/// The findings of an account about documents in several files; empty where they are right.
fn told(account: &str, texts: &[String]) -> Vec<String> {
    let files: Vec<Source> =
        texts.iter().enumerate().map(|(n, text)| source(&format!("accounts/{account}/{n}.yaml"), text)).collect();
    match parse(&Owner::Account(account.into()), &files) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.iter().map(ToString::to_string).collect(),
    }
}

/// Documents in files that are not too long.
fn files(documents: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts = vec![String::new()];
    for document in documents {
        if texts.last().unwrap().len() + document.len() > limits::MAX_FILE_BYTES - 8 {
            texts.push(String::new());
        }
        texts.last_mut().unwrap().push_str(&format!("{document}\n---\n"));
    }
    texts
}

fn check(what: &str, most: usize, documents: impl Fn(usize) -> Vec<String>) {
    assert_eq!(told("shop", &documents(most)), [""; 0], "{what}");
    let found = told("shop", &documents(most + 1));
    assert_eq!(found.len(), 1, "{what}: {found:?}");
    let text = format!(
        "the account shop has more than {most} {what} (remove some, or divide the documents among several accounts)"
    );
    assert!(found[0].ends_with(&text), "{found:?}");
}

fn service(name: usize, listeners: &str) -> String {
    format!("kind: Service\nmetadata: {{name: service-{name}}}\nspec: {{listeners: [{listeners}]}}")
}

#[test]
fn services() {
    let one = format!("{{protocol: HTTP, {GOOD}}}");
    check("services", limits::MAX_SERVICES_PER_ACCOUNT, |count| files((0..count).map(|n| service(n, &one))));
}

#[test]
fn service_networks() {
    let network = |n: usize| format!("kind: ServiceNetwork\nmetadata: {{name: network-{n}}}");
    check("service networks", limits::MAX_NETWORKS_PER_ACCOUNT, |count| files((0..count).map(network)));
}

#[test]
fn target_groups_and_targets() {
    let group = |n: usize, targets: usize| {
        let targets: Vec<String> = (0..targets).map(|n| format!("{{id: 10.0.{}.{}}}", n / 250, n % 250)).collect();
        let targets = targets.join(", ");
        format!(
            "kind: TargetGroup\nmetadata: {{name: group-{n}}}\nspec: {{config: {{vpcIdentifier: a}}, targets: [{targets}]}}"
        )
    };
    check("target groups", limits::MAX_TARGET_GROUPS_PER_ACCOUNT, |count| files((0..count).map(|n| group(n, 0))));
    check("targets", limits::MAX_TARGETS_PER_ACCOUNT, |count| {
        files((0..count.div_ceil(1_000)).map(|n| group(n, (count - n * 1_000).min(1_000))))
    });
}

#[test]
fn listeners() {
    let of = |count: usize| {
        (0..count).map(|port| format!("{{protocol: HTTP, port: {}, {GOOD}}}", port + 1)).collect::<Vec<_>>().join(", ")
    };
    check("listeners", limits::MAX_LISTENERS_PER_ACCOUNT, |count| {
        files((0..count.div_ceil(20)).map(|n| service(n, &of((count - n * 20).min(20)))))
    });
}

#[test]
fn rules() {
    let of = |count: usize| {
        let rules: Vec<String> = (0..count)
            .map(|n| format!("{{name: rule{n}, priority: {}, match: {{httpMatch: {{method: GET}}}}, action: {{fixedResponse: {{statusCode: 404}}}}}}", n + 1))
            .collect();
        format!("{{protocol: HTTP, {GOOD}, rules: [{}]}}", rules.join(", "))
    };
    check("rules", limits::MAX_RULES_PER_ACCOUNT, |count| {
        files((0..count.div_ceil(2_000)).map(|n| service(n, &of((count - n * 2_000).min(2_000)))))
    });
}

#[test]
fn policy_statements() {
    let policy = |n: usize, count: usize| {
        let statements = vec![r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#; count].join(",");
        format!(
            "kind: AuthPolicy\nspec:\n  resourceIdentifier: service-{n}\n  policy: '{{\"Version\":\"2012-10-17\",\"Statement\":[{statements}]}}'"
        )
    };
    check("policy statements", limits::MAX_STATEMENTS_PER_ACCOUNT, |count| {
        files((0..count.div_ceil(1_000)).map(|n| policy(n, (count - n * 1_000).min(1_000))))
    });
}

/// Wherever they are: in conditions of path, header and query, and in rewrites.
#[test]
fn regular_expressions() {
    let most = limits::MAX_REGEXES_PER_OWNER;
    let rule = |n: usize| {
        let condition = match n % 3 {
            0 => format!("pathMatch: {{match: {{regex: /{n}}}}}"),
            1 => format!("headerMatches: [{{name: a, match: {{regex: \"x{n}\"}}}}]"),
            _ => format!("queryParameters: [{{name: a, match: {{regex: \"x{n}\"}}}}]"),
        };
        format!(
            "{{name: rule{n}, priority: {}, match: {{httpMatch: {{{condition}}}}}, action: {{fixedResponse: {{statusCode: 404}}}}}}",
            n + 1
        )
    };
    let rewrite = "{name: rewrite, priority: 2000, match: {httpMatch: {method: GET}}, action: {forward: {targetGroups: [{targetGroupIdentifier: a-b}]}, \
                   rewrite: {path: {regex: {pattern: a, substitution: b}}}}}";
    let documents = |conditions: usize, rewrites: bool| {
        let mut rules: Vec<String> = (0..conditions).map(rule).collect();
        rules.extend(rewrites.then(|| rewrite.to_owned()));
        files([service(0, &format!("{{protocol: HTTP, {GOOD}, rules: [{}]}}", rules.join(", ")))].into_iter())
    };
    assert_eq!(told("shop", &documents(most - 1, true)), [""; 0]);
    for too_many in [documents(most, true), documents(most + 1, false)] {
        let found = told("shop", &too_many);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains(&format!("more than {most} regular expressions in the files of one owner")),
            "{found:?}"
        );
    }
}

/// An account that goes over a quota has an error, and the others are linked and served as ever.
#[test]
fn who_goes_over_a_quota_is_alone_with_it() {
    let mut documents = BTreeMap::new();
    for source in sources() {
        let owner = Owner::of_path(&source.path).unwrap();
        documents.insert(owner.clone(), parse(&owner, &[source]).unwrap());
    }
    let greedy: Vec<String> = files(
        (0..=limits::MAX_NETWORKS_PER_ACCOUNT)
            .map(|n| format!("kind: ServiceNetwork\nmetadata: {{name: network-{n}}}")),
    );
    assert_eq!(told("bank", &greedy).len(), 1);
    let linked = link(&documents, &settings(&VipState::default(), 0));
    assert!(linked.errors.is_empty() && linked.warnings.is_empty());
    assert!(linked.model.service("shop/orders").unwrap().status.is_active());
}
