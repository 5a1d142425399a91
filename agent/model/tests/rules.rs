//! Rules from document to snapshot, and what of them changed.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use brattice_model::{Model, Numbers, diff, limits, parse, plan};
use brattice_wire::index::VpcIndex;
use brattice_wire::snapshot::*;
use world::{good, source};

const RULES: &str = "kind: Service
metadata: {name: carts}
spec:
  customDomainNames: [carts.shop.internal]
  serviceNetworks: [platform/retail]
  listeners:
  - protocol: HTTP
    defaultAction:
      forward: {targetGroups: [{targetGroupIdentifier: orders-v1}]}
      rewrite: {hostname: old.example:8080}
    rules:
    - name: canary
      priority: 20
      match:
        httpMatch:
          method: GET
          pathMatch: {match: {prefix: /v1}, caseSensitive: false}
          hostMatch: {match: {suffix: shop.internal}}
          headerMatches:
          - {name: X-User, match: {prefix: a}, invert: true}
          - {name: x-size, match: {range: {start: -1, end: 10}}}
          queryParameters: [{name: q, match: {exact: b c}}]
          sourceVpcs: [platform/green, platform/blue]
          port: 80
      action:
        forward:
          targetGroups: [{targetGroupIdentifier: orders-v1, weight: 9}, {targetGroupIdentifier: carts-v2, weight: 1}]
          stickiness: {cookie: {name: canary, maxAgeSeconds: 3600}}
        rewrite: {path: {prefix: /}}
        requestHeaders: {set: [{name: Authorization, value: secret}], remove: [x-debug]}
        responseHeaders: {add: [{name: vary, value: cookie}]}
    - name: call
      priority: 10
      match: {grpcMatch: {serviceName: shop.Carts, methodName: Get, metadata: [{name: tenant, match: {exact: red}, caseSensitive: true}]}}
      action: {forward: {targetGroups: [{targetGroupIdentifier: carts-v2}], stickiness: {source: {}}}}
    - name: moved
      priority: 30
      match: {httpMatch: {pathMatch: {match: {regex: '/old/.*'}}}}
      action: {redirect: {scheme: https, port: 8443, path: {regex: {pattern: '^/old', substitution: /new}}, statusCode: 308}}
    - name: down
      priority: 40
      match: {httpMatch: {pathMatch: {match: {stringPrefix: /x}}}}
      action: {fixedResponse: {statusCode: 503, body: back soon}}
---
kind: TargetGroup
metadata: {name: carts-v2}
spec: {config: {vpcIdentifier: platform/green, protocolVersion: HTTP2}}
";

fn model(text: &str) -> Model {
    let linked = good(&[("accounts/shop/carts.yaml", text)]);
    assert!(linked.warnings.is_empty(), "{:?}", linked.warnings);
    std::sync::Arc::unwrap_or_clone(linked.model)
}

#[test]
fn rules_come_to_the_engine_as_they_were_written() {
    let snapshot = plan(&model(RULES), &[], &mut Numbers::default(), 1).snapshot;
    let service = snapshot.services.iter().find(|service| service.name == "shop/carts").unwrap();
    let listener = &service.listeners[0];
    assert_eq!(listener.precedence, Precedence::Priority);
    assert_eq!(listener.default_filters.rewrite.host.as_deref(), Some("old.example:8080"));
    let [call, canary, moved, down] = &listener.rules[..] else { panic!("four rules") };
    assert_eq!((canary.priority, canary.origin.line()), (20, 12));
    assert_eq!(canary.origin.file(), "accounts/shop/carts.yaml");
    let vpc = |name: &str| VpcIndex::new(snapshot.vpcs.iter().position(|vpc| vpc.name == name).unwrap());
    let mut vpcs = vec![vpc("platform/green"), vpc("platform/blue")];
    vpcs.sort_unstable();
    let expected = Match {
        method: Some("GET".into()),
        path: Some(PathMatch { kind: PathMatchKind::Prefix, value: "/v1".into(), case_sensitive: false }),
        host: Some(HostMatch { kind: HostMatchKind::Suffix, value: "shop.internal".into() }),
        headers: vec![
            HeaderMatch {
                name: "x-user".into(),
                value: ValueMatch::Prefix("a".into()),
                case_sensitive: false,
                invert: true,
            },
            HeaderMatch {
                name: "x-size".into(),
                value: ValueMatch::Range { start: -1, end: 10 },
                case_sensitive: false,
                invert: false,
            },
        ],
        query: vec![QueryMatch { name: "q".into(), value: ValueMatch::Exact("b c".into()) }],
        grpc: None,
        port: Some(80),
        source_vpcs: Some(vpcs),
    };
    assert_eq!(canary.matches, expected);
    let edits = HeaderEdits {
        set: vec![("authorization".into(), "secret".into())],
        add: Vec::new(),
        remove: vec!["x-debug".into()],
    };
    assert_eq!(canary.filters.request_headers, edits);
    assert_eq!(canary.filters.response_headers.add, [("vary".to_owned(), "cookie".to_owned())]);
    assert_eq!(canary.filters.rewrite, Rewrite { host: None, path: Some(PathRewrite::Prefix("/".into())) });
    let Action::Forward(forward) = &canary.action else { panic!("a forward") };
    let groups: Vec<(&str, u16)> = forward
        .groups
        .iter()
        .map(|share| (snapshot.target_groups[share.target_group.position()].name.as_str(), share.weight))
        .collect();
    assert_eq!(groups, [("shop/orders-v1", 9), ("shop/carts-v2", 1)]);
    let cookie = Stickiness::Cookie { name: "canary".into(), max_age_seconds: Some(3600) };
    assert_eq!(forward.stickiness, Some(cookie));

    let grpc = GrpcMatch { service: Some("shop.Carts".into()), method: Some("Get".into()) };
    assert_eq!((call.matches.grpc.as_ref(), call.matches.headers[0].case_sensitive), (Some(&grpc), true));
    let regex = PathRewrite::Regex { pattern: "^/old".into(), substitution: "/new".into() };
    let redirect =
        Redirect { scheme: Some("https".into()), host: None, port: Some(8443), path: Some(regex), status: 308 };
    assert_eq!(moved.action, Action::Redirect(redirect));
    let text = Some("text/plain; charset=utf-8".to_owned());
    assert_eq!(
        down.action,
        Action::FixedResponse(FixedResponse { status: 503, content_type: text, body: "back soon".into() })
    );
    // A target group's VPC is the caller's number.
    assert_eq!(snapshot.target_groups[0].vpc, Some(vpc("platform/green")));
}

#[test]
fn with_the_most_specific_first_the_place_is_the_number() {
    let mut text = RULES.replacen("  - protocol: HTTP", "  - protocol: HTTP\n    rulePrecedence: mostSpecific", 1);
    for line in ["      priority: 20\n", "      priority: 10\n", "      priority: 30\n", "      priority: 40\n"] {
        text = text.replace(line, "");
    }
    let model = model(&text);
    let listener = &model.service("shop/carts").unwrap().listeners[0];
    assert_eq!(listener.precedence, Precedence::MostSpecific);
    let rules: Vec<(&str, u16)> = listener.rules.iter().map(|rule| (rule.name.as_str(), rule.priority)).collect();
    assert_eq!(rules, [("canary", 1), ("call", 2), ("moved", 3), ("down", 4)]);
}

#[test]
fn changes_of_rules_are_told_without_secrets() {
    let before = model(RULES);
    assert_eq!(diff(&before, &before), []);
    let changes = |from: &str, to: &str| {
        let text = RULES.replace(from, to);
        assert_ne!(text, RULES, "{from}");
        let changes = diff(&before, &model(&text));
        changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let rule = "~ Service shop/carts\n    listeners.http-80.rules.";
    let table = [
        (
            "maxAgeSeconds: 3600",
            "maxAgeSeconds: 60",
            "canary.action: forward to shop/orders-v1 (9), shop/carts-v2 (1), sticky by the cookie canary for 3600 s -> \
          forward to shop/orders-v1 (9), shop/carts-v2 (1), sticky by the cookie canary for 60 s",
        ),
        (
            "value: secret",
            "value: other",
            "canary.action.requestHeaders: remove x-debug, set authorization: (hidden) -> remove x-debug, set authorization: (hidden)",
        ),
        ("path: {prefix: /}", "path: {exact: /b}", "canary.action.rewrite: path with / for the prefix -> path /b"),
        ("value: cookie", "value: origin", "canary.action.responseHeaders: add vary: cookie -> add vary: origin"),
        (
            "exact: red",
            "suffix: red",
            "call.match: gRPC service shop.Carts method Get and header tenant exact red in this case -> \
          gRPC service shop.Carts method Get and header tenant suffix red in this case",
        ),
        (
            "statusCode: 308",
            "statusCode: 301",
            "moved.action: redirect (308), scheme https, port 8443, path with /new for ^/old -> \
          redirect (301), scheme https, port 8443, path with /new for ^/old",
        ),
        (
            "back soon",
            "wait",
            "down.action: answer 503 with text/plain; charset=utf-8: \"back soon\" -> answer 503 with text/plain; charset=utf-8: \"wait\"",
        ),
    ];
    for (from, to, expected) in table {
        assert_eq!(changes(from, to), format!("{rule}{expected}"));
    }
    let match_before = "method GET and path prefix /v1 in any case and host suffix shop.internal and header x-user not prefix a and \
                        header x-size from -1 to below 10 and query parameter q exact b c and port 80 and from platform/blue or platform/green";
    let match_after = match_before.replace(" and from platform/blue or platform/green", " and from platform/green");
    assert_eq!(
        changes("[platform/green, platform/blue]", "[platform/green]"),
        format!("{rule}canary.match: {match_before} -> {match_after}")
    );
    let expected = changes("rewrite: {hostname: old.example:8080}", "rewrite: {hostname: new.example}");
    assert_eq!(
        expected,
        "~ Service shop/carts\n    listeners.http-80.defaultAction.rewrite: host old.example:8080 -> host new.example"
    );
}

#[test]
fn the_order_and_the_auth_type_are_told() {
    let text = |order: &str, auth: &str| {
        format!(
            "kind: Service\nmetadata: {{name: carts}}\nspec: {{{auth}listeners: [{{protocol: HTTP, {order}defaultAction: {{fixedResponse: {{statusCode: 404}}}}}}]}}\n"
        )
    };
    let of = |text: &str| good(&[("accounts/shop/carts.yaml", text)]).model;
    let changes = diff(&of(&text("", "")), &of(&text("rulePrecedence: mostSpecific, ", "authType: AWS_IAM, ")));
    assert_eq!(
        changes[0].to_string(),
        "~ Service shop/carts\n    authType: NONE -> AWS_IAM\n    listeners.http-80.rulePrecedence: priority -> mostSpecific"
    );
}

/// Texts that would make the golden table hard to read.
#[test]
fn what_is_too_long_is_refused() {
    let refused = |matches: &str, action: &str| {
        let text = format!(
            "kind: Service\nmetadata: {{name: carts}}\nspec:\n  listeners:\n  - protocol: HTTP\n    defaultAction: {{fixedResponse: {{statusCode: 404}}}}\n    \
             rules:\n    - {{name: one, priority: 1, match: {{httpMatch: {matches}}}, action: {action}}}\n"
        );
        let owner = brattice_model::Owner::Account("shop".into());
        parse(&owner, &[source("accounts/shop/x.yaml", &text)]).err().map(|found| found[0].message.clone())
    };
    let path = |length: usize| format!("{{pathMatch: {{match: {{exact: /{}}}}}}}", "a".repeat(length - 1));
    let value = |length: usize| format!("{{headerMatches: [{{name: a, match: {{exact: {}}}}}]}}", "a".repeat(length));
    let regex = |length: usize| format!("{{pathMatch: {{match: {{regex: {}}}}}}}", "a".repeat(length));
    let headers = |count: usize| {
        let list: Vec<String> = (0..count).map(|n| format!("{{name: h{n}, match: {{present: true}}}}")).collect();
        format!("{{headerMatches: [{}]}}", list.join(", "))
    };
    let answer = |length: usize| format!("{{fixedResponse: {{statusCode: 200, body: {}}}}}", "a".repeat(length));
    let edit = |length: usize| {
        format!(
            "{{fixedResponse: {{statusCode: 200}}, responseHeaders: {{set: [{{name: a, value: {}}}]}}}}",
            "a".repeat(length)
        )
    };
    let (any, none) = ("{method: GET}", "{fixedResponse: {statusCode: 404}}");
    let table: [(String, String, String, String, &str); 6] = [
        (path(limits::MAX_PATH), none.into(), path(limits::MAX_PATH + 1), none.into(), "more than 1024 characters"),
        (
            value(limits::MAX_MATCH_VALUE),
            none.into(),
            value(limits::MAX_MATCH_VALUE + 1),
            none.into(),
            "1 to 1024 bytes",
        ),
        (regex(1024), none.into(), regex(1025), none.into(), "has 1025 bytes, and at most 1024"),
        (
            headers(limits::MAX_HEADER_MATCHES),
            none.into(),
            headers(limits::MAX_HEADER_MATCHES + 1),
            none.into(),
            "the list has 33 items",
        ),
        (
            any.into(),
            answer(limits::MAX_FIXED_BODY),
            any.into(),
            answer(limits::MAX_FIXED_BODY + 1),
            "the body has 4097 bytes; at most 4096",
        ),
        (
            any.into(),
            edit(limits::MAX_HEADER_VALUE),
            any.into(),
            edit(limits::MAX_HEADER_VALUE + 1),
            "more than 4096 bytes",
        ),
    ];
    for (fits, action, too_long, other, why) in table {
        assert_eq!(refused(&fits, &action), None, "{why}");
        let message = refused(&too_long, &other).expect(why);
        assert!(message.contains(why), "{message}");
    }
}

/// The engine removes these from requests, so no rule may write them, or ask for one that is not there any more.
#[test]
fn no_spelling_of_a_field_of_ours_can_be_written() {
    let refused = |action: &str, matches: &str| {
        let text = format!(
            "kind: Service\nmetadata: {{name: carts}}\nspec:\n  listeners:\n  - protocol: HTTP\n    defaultAction: {{fixedResponse: {{statusCode: 404}}}}\n    \
             rules:\n    - {{name: one, priority: 1, match: {{httpMatch: {matches}}}, action: {action}}}\n"
        );
        let owner = brattice_model::Owner::Account("shop".into());
        parse(&owner, &[source("accounts/shop/x.yaml", &text)]).is_err()
    };
    let set = |name: &str| {
        let action = format!(
            "{{forward: {{targetGroups: [{{targetGroupIdentifier: a-b}}]}}, requestHeaders: {{set: [{{name: \"{name}\", value: a}}]}}}}"
        );
        refused(&action, "{method: GET}")
    };
    let remove = |name: &str| {
        let action = format!(
            "{{forward: {{targetGroups: [{{targetGroupIdentifier: a-b}}]}}, responseHeaders: {{remove: [\"{name}\"]}}}}"
        );
        refused(&action, "{method: GET}")
    };
    let ask = |name: &str| {
        let matches = format!("{{headerMatches: [{{name: \"{name}\", match: {{present: true}}}}]}}");
        refused("{fixedResponse: {statusCode: 404}}", &matches)
    };
    let spellings: Vec<&str> = include_str!("../../engine/tests/http/spellings.txt").lines().collect();
    assert!(spellings.len() >= 60);
    for name in spellings {
        assert!(set(name) && remove(name), "{name}");
        // The usual spelling of these two says what the client said.
        let usual = name.to_ascii_lowercase().starts_with("x-forwarded-") && !name.contains(['_', '.', '|']);
        assert_eq!(ask(name), !usual, "{name}");
    }
    for name in
        ["proxy-foo", "HTTP2-Settings", "expect", "te", "upgrade", "content_length", "transfer.encoding", "host"]
    {
        assert!(set(name) && remove(name), "{name}");
    }
    for name in ["x-amzn", "x-user", "authorization", "content-type", "x-forward", "proxy", "set-cookie"] {
        assert!(!set(name) && !remove(name) && !ask(name), "{name}");
    }
    assert!(
        ask("proxy-foo")
            && ask("Host")
            && ask("te")
            && !ask("upgrade")
            && !ask("content-length")
            && !ask("x-amzn-requestid")
    );
}
