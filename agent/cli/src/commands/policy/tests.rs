//! A directory, cases and log lines, and the output about them.

mod wrong;

use std::fs;
use std::path::{Path, PathBuf};

use brattice_control::state::StateDirectory;

use super::*;
use crate::arguments::NodeArguments;

const NODE: &str = "kind: Account
metadata: {name: platform}
spec: {id: '111111111111', organizationPath: o-1/r-1/}
---
kind: Account
metadata: {name: shop}
spec: {id: '222222222222', vpcs: [platform/green]}
---
kind: Vpc
metadata: {name: green}
spec: {account: platform, cidrBlocks: [10.0.0.0/16], serviceNetworks: [platform/retail]}
---
kind: Vpc
metadata: {name: red}
spec: {account: platform, cidrBlocks: [10.0.0.0/16]}
---
kind: Workload
metadata: {name: web}
spec: {vpcIdentifier: platform/green, namespace: web, addresses: [10.0.0.9]}
---
kind: Workload
metadata: {name: batch}
spec: {vpcIdentifier: platform/green, interface: veth-batch}
---
kind: Role
metadata: {name: reader}
spec:
  account: platform
  tags: {team: red}
  trust: [{workloads: [web], evidence: [namespace]}]
  policy: {Version: '2012-10-17', Statement: [{Effect: Allow, Action: 'vpc-lattice-svcs:Invoke', NotResource: '*/secret'}]}
";

const NETWORK: &str = "kind: ServiceNetwork
metadata: {name: retail}
spec: {sharedWith: [shop], authType: AWS_IAM}
---
kind: AuthPolicy
spec:
  resourceIdentifier: retail
  policy: |
    {
      \"Version\": \"2012-10-17\",
      \"Statement\": [{
        \"Effect\": \"Allow\", \"Principal\": \"*\", \"Action\": \"*\", \"Resource\": \"*\",
        \"Condition\": {\"StringEquals\": {\"aws:PrincipalOrgID\": \"o-1\"}}
      }]
    }
";

const SERVICE: &str = "kind: Service
metadata: {name: orders}
spec:
  authType: AWS_IAM
  serviceNetworks: [platform/retail]
  listeners:
  - protocol: HTTP
    defaultAction: {fixedResponse: {statusCode: 404}}
---
kind: AuthPolicy
spec:
  resourceIdentifier: orders
  policy:
    Version: '2012-10-17'
    Statement:
    - Sid: readers
      Effect: Allow
      Principal: {AWS: 'arn:aws:iam::111111111111:role/reader'}
      Action: vpc-lattice-svcs:Invoke
      Resource: '*'
      Condition: {StringEquals: {vpc-lattice-svcs:RequestMethod: [GET, HEAD], aws:PrincipalTag/Team: red}}
    - Sid: no-admin
      Effect: Deny
      Principal: '*'
      Action: '*'
      Resource: '*/admin'
";

/// The directory of the tests, and a place for cases.
fn directory(node: &str, network: &str, service: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let policies = directory.path().join("policies");
    for (path, text) in
        [("node.yaml", node), ("accounts/platform/network.yaml", network), ("accounts/shop/orders.yaml", service)]
    {
        let path = policies.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    (directory, policies)
}

/// What is printed about cases, without the directory's name, and whether all was as expected.
fn printed(service: &str, file: &str, text: &str) -> (Vec<String>, bool) {
    printed_on([NODE, NETWORK, service], file, text)
}

fn printed_on([node, network, service]: [&str; 3], file: &str, text: &str) -> (Vec<String>, bool) {
    let (directory, policies) = directory(node, network, service);
    let state = directory.path().join("state");
    let node = NodeArguments::for_tests(state.clone());
    let state = StateDirectory::existing(&state).peek();
    let checked = check(&policies, &node, &state, &BTreeMap::new()).unwrap_or_else(|e| panic!("{}", e.text));
    assert_eq!(checked.errors(), 0);
    let world = World::new(&checked.linked.model).expect("policies that the engine takes");
    let path = directory.path().join(file);
    let listeners = &checked.linked.model.services[0].listeners;
    let listener = |port| listeners.iter().find(|own| own.port == port).map_or("none", |own| own.id.as_str());
    let text = text
        .replace("SERVICE_ARN", &checked.linked.model.services[0].arn)
        .replace("LISTENER_8080", listener(8080))
        .replace("LISTENER_80", listener(80))
        .replace("GREEN_ARN", &checked.linked.model.vpc("platform/green").expect("a VPC").arn);
    fs::write(&path, text).expect("a file");
    let cases = if is_yaml(&path) { cases::read(&path, &world) } else { logs::read(&path, &world) };
    let cases = cases.unwrap_or_else(|e| panic!("{}", e.text));
    let results: Vec<(Case, Answer)> = cases.into_iter().map(|case| decided(&world, case)).collect();
    let good = is_good(&results);
    assert_eq!(json(&results)["cases"].as_array().map(Vec::len), Some(results.len()));
    let arn = checked.linked.model.services[0].arn.clone();
    let table = table(&results, false).replace(&format!("{}/", directory.path().display()), "").replace(&arn, "ORDERS");
    (table.lines().map(str::to_owned).collect(), good)
}

fn decided(world: &World<'_>, case: Case) -> (Case, Answer) {
    let answer = decide(world, &case);
    (case, answer)
}

#[test]
fn written_cases_are_decided() {
    let (lines, good) = printed(
        SERVICE,
        "cases.yaml",
        "- name: web reads
  from: {workload: web}
  to: {service: orders}
  request: {method: GET, path: '/orders?x=1'}
  expect: allow
- name: web writes
  from: {workload: web}
  to: {service: shop/orders, port: 80}
  request: {method: POST, path: /orders, headers: {x-a: [b, c]}}
  time: 2026-01-31T10:00:00Z
  tls: true
  expect: deny
  level: Service
  by: default-deny:service:shop/orders
- name: web and the secret
  from: {workload: web, session: s1}
  to: {service: orders}
  request: {path: /secret}
  expect: deny
  level: Identity
- name: nobody calls
  from: {vpc: platform/green, address: 10.0.0.77}
  to: {service: orders}
  request: {}
  expect: deny
  level: Network
- name: batch has no role
  from: {workload: batch}
  to: {service: orders}
  expect: deny
- name: red is in no network
  from: {vpc: red, role: reader}
  to: {service: orders}
  request: {}
  expect: deny
  by: no-network
",
    );
    let expected = [
        "ok       web reads: allow",
        "ok       web writes: deny (Service, default-deny:service:shop/orders)",
        "ok       web and the secret: deny (Identity, default-deny:identity:platform/reader)",
        "ok       nobody calls: deny (Network, default-deny:network:platform/retail)",
        "ok       batch has no role: deny (Network, default-deny:network:platform/retail)",
        "ok       red is in no network: deny (Network, no-network)",
        "6 cases: 6 as expected, 0 differ, 0 wrong, 0 skipped",
    ];
    assert_eq!((lines, good), (expected.map(str::to_owned).to_vec(), true));
}

#[test]
fn what_differs_is_told_with_its_reasons() {
    let cases =
        "- {name: web writes, from: {workload: web}, to: {service: orders}, request: {method: PUT}, expect: allow}
- {name: admin, from: {workload: web}, to: {service: orders}, request: {path: /admin}, expect: deny, by: other}
- {name: all, from: {workload: web}, to: {service: orders}, request: {path: /x}, expect: deny}
";
    let (lines, good) = printed(SERVICE, "cases.yaml", cases);
    let expected = [
        "DIFFERS  web writes: expected allow, is deny (Service, default-deny:service:shop/orders)",
        "         near miss, service line 16 (readers): line 21: StringEquals vpc-lattice-svcs:RequestMethod wants one of \
         `GET`, `HEAD`, and the request has `PUT`",
        "         to allow it: add to the service policy of shop/orders (accounts/shop/orders.yaml): {\"Effect\": \
         \"Allow\", \"Principal\": {\"AWS\": \"arn:aws:sts::111111111111:assumed-role/reader/web\"}, \"Action\": \
         \"vpc-lattice-svcs:Invoke\", \"Resource\": \"ORDERS/\", \"Condition\": {\"StringEquals\": \
         {\"vpc-lattice-svcs:SourceVpc\": \"vpc-ar9vce1tj885tfadm\", \"vpc-lattice-svcs:RequestMethod\": \"PUT\"}, \
         \"NumericEquals\": {\"vpc-lattice-svcs:Port\": \"80\"}}}",
        "DIFFERS  admin: expected deny (other), is deny (Service, accounts/shop/orders.yaml:22#no-admin)",
        "         to allow it: exempt this call from the denial at accounts/shop/orders.yaml:22 in the service policy \
         of shop/orders, by these 5 in its place:",
        "           {\"Sid\": \"no-admin-others\", DENY: {\"StringNotEquals\": {\"brattice:AttestedPrincipalArn\": \
         \"arn:aws:sts::111111111111:assumed-role/reader/web\"}}}",
        "           {\"Sid\": \"no-admin-other-vpcs\", DENY: {\"StringNotEquals\": {\"vpc-lattice-svcs:SourceVpc\": \
         \"vpc-ar9vce1tj885tfadm\"}}}",
        "           {\"Sid\": \"no-admin-other-ports\", DENY: {\"NumericNotEquals\": {\"vpc-lattice-svcs:Port\": \"80\"}}}",
        "           {\"Sid\": \"no-admin-other-methods\", DENY: {\"StringNotEquals\": \
         {\"vpc-lattice-svcs:RequestMethod\": \"GET\"}}}",
        "           {\"Sid\": \"no-admin-other-paths\", DENY: {\"StringNotEquals\": \
         {\"vpc-lattice-svcs:RequestPath\": \"/admin\"}}}",
        "DIFFERS  all: expected deny, is allow",
        "3 cases: 0 as expected, 3 differ, 0 wrong, 0 skipped",
    ];
    let denial = r#""Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*/admin", "Condition""#;
    assert_eq!((lines, good), (expected.map(|line| line.replace("DENY", denial)).to_vec(), false));
}

#[test]
fn a_remedy_for_a_vpc_names_its_role_and_no_made_up_session() {
    let (lines, _) = printed(
        SERVICE,
        "cases.yaml",
        "- {from: {vpc: green, role: reader}, to: {service: orders}, request: {method: PUT}, expect: allow}
- {from: {vpc: green, role: reader}, to: {service: orders}, request: {path: /admin}, expect: allow}
- {from: {vpc: green, role: reader, session: s1}, to: {service: orders}, request: {method: PUT}, expect: allow}
",
    );
    let remedies: Vec<&String> = lines.iter().filter(|line| line.contains("to allow it")).collect();
    let role = "\"arn:aws:iam::111111111111:role/reader\"";
    assert!(remedies[0].contains(&format!("\"Principal\": {{\"AWS\": {role}}}")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(&format!("\"aws:PrincipalArn\": {role}"))), "{lines:?}");
    assert!(remedies[2].contains("assumed-role/reader/s1"), "control: {lines:?}");
    assert!(!lines.iter().any(|line| line.contains("/test")), "{lines:?}");
}

#[test]
fn a_workload_without_a_role_is_offered_one_first_as_explain_does() {
    let batch = "- {from: {workload: batch}, to: {service: orders}, request: {}, expect: allow}\n";
    let (lines, _) = printed(SERVICE, "cases.yaml", batch);
    let remedies: Vec<&String> = lines.iter().filter(|line| line.contains("to allow it")).collect();
    assert!(
        remedies[0].contains("to allow it: let it be the role platform/reader, which may call this")
            && remedies[0].contains("`roleIdentifier: platform/reader` in its document (node.yaml:"),
        "{lines:?}"
    );
    assert!(remedies[1].contains("or, for this workload alone and without a role: "), "{lines:?}");
    // Control: a role that may not call either is not offered; nor is one where there is a role, or no workload.
    for other in [
        "- {from: {workload: batch}, to: {service: orders}, request: {method: PUT}, expect: allow}\n",
        "- {from: {workload: web}, to: {service: orders}, request: {method: PUT}, expect: allow}\n",
        "- {from: {vpc: green}, to: {service: orders}, request: {}, expect: allow}\n",
    ] {
        let (lines, _) = printed(SERVICE, "cases.yaml", other);
        assert!(lines[0].starts_with("DIFFERS") && !lines.iter().any(|line| line.contains("be the role")), "{lines:?}");
    }
}

/// A log line with the fields given over the usual ones.
fn log(fields: &str) -> String {
    let mut record: serde_json::Value = serde_json::from_str(
        r#"{"serviceArn":"SERVICE_ARN","sourceVpcArn":"GREEN_ARN","sourceIpPort":"10.0.0.9:40000",
        "startTime":"2026-01-31T10:20:30Z","requestMethod":"GET","requestPath":"/orders","responseCode":200,
        "authDeniedReason":"-","tlsVersion":"-","userAgent":"curl/8","hostHeader":"orders",
        "resolvedUser":"arn:aws:sts::111111111111:assumed-role/reader/i-1","callerPrincipalTags":"-"}"#,
    )
    .expect("JSON");
    let changed: serde_json::Value = serde_json::from_str(fields).expect("JSON");
    for (name, value) in changed.as_object().expect("an object") {
        record[name] = value.clone();
    }
    record.to_string()
}

#[test]
fn values_are_the_text_that_is_written() {
    let with = |value: &str| {
        SERVICE.replace("aws:PrincipalTag/Team: red", &format!("vpc-lattice-svcs:RequestHeader/x-v: '{value}'"))
    };
    let case = |written: &str| {
        format!(
            "- {{name: a, from: {{workload: web}}, to: {{service: orders}}, request: {{headers: {{x-v: {written}}}}}, expect: allow}}\n"
        )
    };
    for (written, value, other) in
        [("1.0", "1.0", "1"), ("007", "007", "7"), ("yes", "yes", "true"), ("0x1F", "0x1F", "31"), ("'5'", "5", "'5'")]
    {
        assert_eq!(printed(&with(value), "cases.yml", &case(written)).0[0], "ok       a: allow", "{written}");
        assert!(!printed(&with(&other.replace('\'', "''")), "cases.yml", &case(written)).1, "{written} is not {other}");
    }
}

#[test]
fn a_truth_is_true_or_false() {
    let tls = |written: &str| {
        let text = format!(
            "- {{name: a, from: {{workload: web}}, to: {{service: orders}}, request: {{}}, tls: {written}, expect: allow}}\n"
        );
        printed(SERVICE, "cases.yml", &text).0[0].clone()
    };
    for good in ["true", "false"] {
        assert_eq!(tls(good), "ok       a: allow");
    }
    for bad in ["yes", "1", "True", "on"] {
        assert_eq!(tls(bad), format!("WRONG    cases.yml:1: tls is {bad:?}; it is `true` or `false`"));
    }
}

#[test]
fn what_documents_refuse_is_refused_in_cases() {
    let (directory, policies) = directory(NODE, NETWORK, SERVICE);
    let run = |text: &str| {
        let path = directory.path().join("cases.yaml");
        fs::write(&path, text).expect("a file");
        let state = StateDirectory::existing(&directory.path().join("state")).peek();
        let node = NodeArguments::for_tests(directory.path().join("state"));
        let checked = check(&policies, &node, &state, &BTreeMap::new()).unwrap_or_else(|e| panic!("{}", e.text));
        match cases::read(&path, &World::new(&checked.linked.model).expect("policies that the engine takes")) {
            Ok(cases) => format!("{} cases", cases.len()),
            Err(failure) => failure.text.rsplit("cases.yaml: ").next().unwrap_or_default().to_owned(),
        }
    };
    let good = "- {name: a, from: {workload: web}, to: {service: orders}, expect: deny}\n";
    assert_eq!(run(good), "1 cases");
    let twice = run("- name: a\n  expect: deny\n  expect: allow\n");
    assert!(twice.starts_with("line 3, column 3: the key `expect` is there twice"), "{twice}");
    let headers = run(&good.replace("expect", "request: {headers: {x-v: a, x-v: b}}, expect"));
    assert!(headers.contains("the key `x-v` is there twice"), "{headers}");
    for (text, why) in [
        ("- &a {name: a}\n- *a\n", "anchors are not used here"),
        ("- {<<: {name: a}, expect: deny}\n", "merge keys are not used here"),
        ("- !x {name: a}\n", "tags are not used here"),
    ] {
        let found = run(text);
        assert!(found.contains(why), "{text}: {found}");
    }
    // Each line is nine of the line before: read out, 297 bytes would be gigabytes.
    let nine = |name: &str| vec![format!("*{name}"); 9].join(",");
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let lines = names.windows(2).map(|pair| format!("- &{} [{}]\n", pair[1], nine(pair[0])));
    let bomb: String = std::iter::once("- &a [x]\n".to_owned()).chain(lines).collect();
    assert!(run(&bomb).contains("anchors are not used here"), "{bomb}");
}

#[test]
fn roles_with_a_path_are_those_that_policies_name() {
    let service = |role: &str, condition: &str| {
        let asked =
            "Condition: {StringEquals: {vpc-lattice-svcs:RequestMethod: [GET, HEAD], aws:PrincipalTag/Team: red}}";
        assert!(SERVICE.contains(asked));
        SERVICE.replace("role/reader'", role).replace(asked, condition)
    };
    let line = log(r#"{"resolvedUser":"arn:aws:sts::111111111111:assumed-role/auditor/i-1"}"#);
    let decided = |service: &str| {
        let network = NETWORK.replace("AWS_IAM", "NONE");
        printed_on([NODE, &network, service], "access.log", &line).0[0].clone()
    };
    let everyone = |condition: &str| {
        service("role/auditor'", condition).replace("{AWS: 'arn:aws:iam::111111111111:role/auditor'}", "'*'")
    };
    let refused = "DIFFERS  access.log:1: expected allow, is deny (Service, default-deny:service:shop/orders)";
    assert_eq!(decided(&service("role/team/a/auditor'", "")), "ok       access.log:1: allow");
    assert_eq!(decided(&service("role/auditor'", "")), "ok       access.log:1: allow");
    assert_eq!(decided(&service("role/team/a/other'", "")), refused);
    assert_eq!(decided(&service("role/team/my-auditor'", "")), refused);
    let arn = |value: &str| format!("Condition: {{ArnLike: {{aws:PrincipalArn: '{value}'}}}}");
    assert_eq!(decided(&everyone(&arn("arn:aws:iam::111111111111:role/team/auditor"))), "ok       access.log:1: allow");
    let skipped = decided(&everyone(&arn("arn:aws:iam::111111111111:role/team/*")));
    assert!(
        skipped.starts_with("skipped  access.log:1: the line leaves the path of the caller's role out"),
        "{skipped}"
    );
}

#[test]
fn recorded_requests_are_decided_again() {
    let lines = [
        log("{}"),
        log(r#"{"requestMethod":"POST"}"#),
        log(r#"{"requestMethod":"POST","authDeniedReason":"Service"}"#),
        log(r#"{"resolvedUser":"Anonymous","authDeniedReason":"Network","requestPath":"/x?y=z"}"#),
        log(
            r#"{"requestPath":"/admin","authDeniedReason":"Network","callerPrincipal":"arn:aws:iam::111111111111:role/reader"}"#,
        ),
        log(
            r#"{"resolvedUser":"arn:aws:iam::111111111111:role/other","callerPrincipalTags":"{\"Team\":\"red\"}","authDeniedReason":"Service"}"#,
        ),
        log(r#"{"resolvedUser":"Unknown"}"#),
        log(r#"{"serviceArn":"arn:aws:vpc-lattice:us-west-2:1:service/svc-1"}"#),
        log(r#"{"sourceVpcArn":"-"}"#),
        log(r#"{"failureReason":"ClientProtocolError"}"#),
        log(r#"{"requestPath":"/%61dmin","authDeniedReason":"Service"}"#),
        "[]".to_owned(),
        "{".to_owned(),
    ];
    let (found, good) = printed(SERVICE, "access.log", &lines.join("\n"));
    let found: Vec<String> = found.into_iter().filter(|line| !line.starts_with(' ')).collect();
    let expected = [
        "ok       access.log:1: allow",
        "DIFFERS  access.log:2: expected allow, is deny (Service, default-deny:service:shop/orders)",
        "ok       access.log:3: deny (Service, default-deny:service:shop/orders)",
        "ok       access.log:4: deny (Network, default-deny:network:platform/retail)",
        "DIFFERS  access.log:5: expected deny (Network), is deny (Service, accounts/shop/orders.yaml:22#no-admin)",
        "ok       access.log:6: deny (Service, default-deny:service:shop/orders)",
        "skipped  access.log:7: the caller was unknown",
        "skipped  access.log:8: arn:aws:vpc-lattice:us-west-2:1:service/svc-1 is no service of the directory",
        "skipped  access.log:9: the line does not say from which VPC the call came",
        "skipped  access.log:10: the request failed (ClientProtocolError), maybe before policies were asked",
        "ok       access.log:11: deny (Service, accounts/shop/orders.yaml:22#no-admin)",
        "WRONG    access.log:12: expected one JSON object a line",
        "WRONG    access.log:13: not JSON: EOF while parsing an object at line 1 column 1",
        "13 cases: 5 as expected, 2 differ, 2 wrong, 4 skipped",
    ];
    assert_eq!((found, good), (expected.map(str::to_owned).to_vec(), false));
}

#[test]
fn what_logs_lack_is_not_guessed() {
    let service = SERVICE.replace("aws:PrincipalTag/Team: red", "vpc-lattice-svcs:RequestHeader/x-team: red");
    let (lines, good) = printed(&service, "access.json", &log("{}"));
    let why = "a policy asks about vpc-lattice-svcs:RequestHeader/x-team, and logs have no headers";
    assert_eq!(lines[0], format!("skipped  access.json:1: {why}"));
    assert!(!good, "nothing was decided");
    let (lines, good) = printed(SERVICE, "access.json", &[log("{}"), log(r#"{"resolvedUser":"Unknown"}"#)].join("\n"));
    assert!(good, "one of two was: {lines:?}");
}

#[test]
fn a_log_names_the_listener() {
    let second =
        "  - {name: other, protocol: HTTP, port: 8080, defaultAction: {fixedResponse: {statusCode: 404}}}\n---";
    let two =
        SERVICE.replacen("---", second, 1).replacen("  - protocol: HTTP\n", "  - protocol: HTTP\n    port: 80\n", 1);
    let asks = two.replace(
        "aws:PrincipalTag/Team: red}}",
        "aws:PrincipalTag/Team: red}, NumericEquals: {vpc-lattice-svcs:Port: 8080}}",
    );
    assert_ne!(two, asks);
    let line = |service: &str, listener: &str| {
        let text = log(&format!(r#"{{"listenerId":"{listener}"}}"#));
        printed(service, "access.log", &text).0[0].clone()
    };
    assert_eq!(line(&two, "-"), "ok       access.log:1: allow", "nobody asks for the port");
    let why = "a policy asks about vpc-lattice-svcs:Port, and the service has several listeners, and the line names none of them";
    assert_eq!(line(&asks, "-"), format!("skipped  access.log:1: {why}"));
    assert_eq!(line(&asks, "LISTENER_8080"), "ok       access.log:1: allow");
    let refused = "DIFFERS  access.log:1: expected allow, is deny (Service, default-deny:service:shop/orders)";
    assert_eq!(line(&asks, "LISTENER_80"), refused);
}

#[test]
fn policies_see_the_path_as_rules_do() {
    let case = |path: &str| {
        let text = format!(
            "- {{name: a, from: {{workload: web}}, to: {{service: orders}}, request: {{path: '{path}'}}, expect: deny}}\n"
        );
        printed(SERVICE, "cases.yml", &text).0[0].clone()
    };
    for path in ["/admin", "/x/..//%61dmin"] {
        assert_eq!(case(path), "ok       a: deny (Service, accounts/shop/orders.yaml:22#no-admin)", "{path}");
    }
    assert!(
        case("/a%00").starts_with("WRONG    cases.yml:1: the path \"/a%00\" is answered 400: "),
        "{}",
        case("/a%00")
    );
}

#[test]
fn audit_mode_lets_pass_and_says_so() {
    let service = SERVICE.replace("  resourceIdentifier: orders\n", "  resourceIdentifier: orders\n  mode: audit\n");
    let case = "- {name: a, from: {workload: web}, to: {service: orders}, request: {method: PUT}, expect: allow}\n";
    let (lines, good) = printed(&service, "cases.yml", case);
    assert_eq!(lines[0], "ok       a: allow; in audit mode: deny (Service, default-deny:service:shop/orders)");
    assert!(good);
}

#[test]
fn a_policy_counts_where_auth_type_says_so() {
    let case = "- {name: a, from: {workload: web}, to: {service: orders}, request: {method: PUT}, expect: deny}\n";
    let (lines, good) = printed(SERVICE, "cases.yml", case);
    assert_eq!((lines[0].as_str(), good), ("ok       a: deny (Service, default-deny:service:shop/orders)", true));
    let (lines, good) = printed(&SERVICE.replace("AWS_IAM", "NONE"), "cases.yml", case);
    assert_eq!((lines[0].as_str(), good), ("DIFFERS  a: expected deny, is allow", false));
    // Without a policy nothing passes.
    let none = SERVICE.split("---").next().expect("a service");
    let (lines, good) = printed(none, "cases.yml", case);
    assert_eq!((lines[0].as_str(), good), ("ok       a: deny (Service, no-policy:service:shop/orders)", true));
}

#[test]
fn a_workload_calls_as_the_role_that_its_document_names() {
    let case = "- {name: a, from: {workload: web}, to: {service: orders}, request: {}, expect: allow}\n";
    let with = |role: &str| {
        let spare = "---
kind: Role
metadata: {name: spare}
spec: {account: platform, tags: {team: red}, trust: [{workloads: [web]}]}
";
        let node = format!("{NODE}{spare}").replace("namespace: web,", &format!("namespace: web,{role}"));
        let (lines, good) = printed_on([&node, NETWORK, SERVICE], "cases.yml", case);
        (lines[0].clone(), good)
    };
    let ok = |text: &str, good| (text.to_owned(), good);
    assert_eq!(with(" roleIdentifier: reader,"), ok("ok       a: allow", true));
    let refused = "DIFFERS  a: expected allow, is deny (Service, default-deny:service:shop/orders)";
    assert_eq!(with(" roleIdentifier: spare,"), ok(refused, false));
    let (line, good) = with("");
    assert!(!good && line.contains("may be platform/reader and platform/spare; say which with `role`"), "{line}");
}

#[test]
fn the_attested_identity_is_the_engines() {
    let attested = |arn: &str| {
        let condition = format!("Condition: {{StringEquals: {{brattice:AttestedPrincipalArn: '{arn}'}}}}");
        let asked =
            "Condition: {StringEquals: {vpc-lattice-svcs:RequestMethod: [GET, HEAD], aws:PrincipalTag/Team: red}}";
        let service =
            SERVICE.replace(asked, &condition).replace("{AWS: 'arn:aws:iam::111111111111:role/reader'}", "'*'");
        // The network is open, so that a caller without a role comes as far as the service.
        let network = NETWORK.replace("AWS_IAM", "NONE");
        let case = |who: &str| {
            format!("- {{name: a, from: {{workload: {who}}}, to: {{service: orders}}, request: {{}}, expect: allow}}\n")
        };
        ["web", "batch"].map(|who| printed_on([NODE, &network, &service], "cases.yml", &case(who)).1)
    };
    assert_eq!(attested("arn:aws:sts::111111111111:assumed-role/reader/web"), [true, false]);
    assert_eq!(attested("arn:aws:vpc-lattice:local:111111111111:workload/green/batch"), [false, true]);
    assert_eq!(attested("arn:aws:iam::111111111111:role/reader"), [false, false]);
}

#[test]
fn files_that_cannot_be_read_are_wrong_usage() {
    let (directory, policies) = directory(NODE, NETWORK, SERVICE);
    let run = |directory: &Path, cases: PathBuf| {
        let node = NodeArguments::for_tests(directory.join("state"));
        test(&PolicyTestArguments { directory: directory.to_owned(), cases: vec![cases], node, output: Format::Table })
    };
    let code = |outcome: Outcome| outcome.err().map(|failure| failure.code);
    assert_eq!(code(run(&policies, directory.path().join("none.yaml"))), Some(2));
    for (name, text) in [("a.yaml", "a: b"), ("b.yaml", "[]"), ("c.yaml", "- ["), ("d.log", "")] {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("a file");
        assert_eq!(code(run(&policies, path)), Some(2), "{name}");
    }
    fs::write(policies.join("accounts/shop/x.yaml"), "kind: Nonsense").expect("a file");
    let failure = run(&policies, directory.path().join("a.yaml")).expect_err("errors");
    assert!(failure.code == 1 && failure.text.contains("brattice validate"), "{}", failure.text);
}
