//! Explanations say of the requests of the table what traffic shows.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

#[path = "../../router/tests/requests/mod.rs"]
mod requests;
mod world;

use brattice_explain::{explain, route};
use brattice_wire::{
    api::Subject,
    explain::{Question, Reason},
};
use world::{KNOWN, Node};

/// The service of the world that stands for the table's.
const SERVICE: &str = "www.shop.internal";

#[test]
fn made_up_requests_become_what_the_table_says() {
    let node = Node::new(world::model(&[], true), KNOWN);
    let (mut served, mut refused) = (0, 0);
    for case in requests::all() {
        // Questions are text.
        let Ok(path) = String::from_utf8(case.target.clone()) else { continue };
        let question = Question {
            from: "web".into(),
            service: SERVICE.into(),
            method: case.method.into(),
            path,
            host: Some(case.host.to_ascii_lowercase().replace(requests::OWN, SERVICE)),
            ..Question::default()
        };
        let explained = explain(&node.world(), &Subject::MadeUp(question.clone())).unwrap();
        for explanation in [explained, route(&node.world(), &question).unwrap()] {
            let is_refused = matches!(explanation.reason, Reason::PathRefused | Reason::RequestRefused);
            match &case.path {
                Some(path) => {
                    assert!(!is_refused && explanation.reason != Reason::UnknownHost, "{case:?}: {explanation:#?}");
                    assert_eq!(explanation.request.normal_path.as_ref(), Some(path), "{case:?}");
                    served += 1;
                }
                None => {
                    assert!(is_refused, "{case:?}: {explanation:#?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(served > 300 && refused > 20, "{served} served, {refused} refused");
}

#[test]
fn what_is_decided_on_otherwise_than_it_was_given_is_told() {
    let node = Node::new(world::model(&[], true), KNOWN);
    let notes = |headers: &[(&str, &str)]| {
        let question = Question {
            from: "web".into(),
            service: SERVICE.into(),
            method: "GET".into(),
            path: "/".into(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Question::default()
        };
        explain(&node.world(), &Subject::MadeUp(question)).unwrap().notes.join("\n")
    };
    let shown = notes(&[("X-Team", " red"), ("x-forwarded-for", "1.2.3.4"), ("x-amzn-requestid", "mine")]);
    assert!(shown.contains("refused with 400 in HTTP/2: x-team"), "{shown}");
    assert!(shown.contains("as Brattice writes them, not as the caller does: x-forwarded-for"), "{shown}");
    let control = notes(&[("x-team", "red"), ("x-amzn-requestid", "mine")]);
    assert!(!control.contains("x-team") && !control.contains("as Brattice writes"), "{control}");
}

/// Header sections at a bound and over it, as `engine/tests/http/bounds.rs` sends them: the host is a field, too.
#[test]
fn header_sections_over_a_bound_are_refused_as_traffic_refuses_them() {
    let node = Node::new(world::model(&[], true), KNOWN);
    let limits = brattice_wire::engine::Limits::default();
    let (most_fields, most_bytes) = (limits.headers as usize, limits.header_bytes as usize);
    let reason = |headers: Vec<(String, String)>, path: String, host: Option<&str>| {
        let question = Question {
            from: "web".into(),
            service: SERVICE.into(),
            method: "GET".into(),
            path,
            host: host.map(Into::into),
            headers,
            ..Question::default()
        };
        let explained = explain(&node.world(), &Subject::MadeUp(question.clone())).unwrap();
        assert_eq!(explained.reason == Reason::RequestRefused, explained.summary.contains("431"), "{explained:#?}");
        assert_eq!(route(&node.world(), &question).unwrap().reason, explained.reason);
        explained.reason == Reason::RequestRefused
    };
    let fields = |count: usize| (0..count).map(|n| (format!("x-{n}"), "y".to_owned())).collect::<Vec<_>>();
    assert!(!reason(fields(most_fields - 1), "/".into(), None), "control");
    assert!(reason(fields(most_fields), "/".into(), None));
    assert!(reason(fields(most_fields), "/".into(), Some(SERVICE)));
    // The host as one of the fields is not counted twice.
    let host = ("Host".to_owned(), SERVICE.to_owned());
    let with_host = |count| fields(count).into_iter().chain([host.clone()]).collect::<Vec<_>>();
    assert!(!reason(with_host(most_fields - 1), "/".into(), None), "control");
    assert!(reason(with_host(most_fields), "/".into(), None));
    // Fields that are not passed on are sent all the same.
    assert!(reason(vec![("connection".to_owned(), "x".to_owned()); most_fields], "/".into(), None));

    let rest = format!("GET / HTTP/1.1\r\nhost: {SERVICE}\r\nx: \r\n\r\n").len();
    let value = |length: usize| vec![("x".to_owned(), "y".repeat(length))];
    assert!(!reason(value(most_bytes - rest), "/".into(), Some(SERVICE)), "control");
    assert!(reason(value(most_bytes - rest + 1), "/".into(), Some(SERVICE)));
    let rest = format!("GET / HTTP/1.1\r\nhost: {SERVICE}\r\n\r\n").len();
    let path = |length: usize| format!("/{}", "a".repeat(length));
    assert!(!reason(Vec::new(), path(most_bytes - rest), Some(SERVICE)), "control");
    assert!(reason(Vec::new(), path(most_bytes - rest + 1), Some(SERVICE)));
    assert!(reason(Vec::new(), format!("/?{}", "a".repeat(most_bytes)), None));
}
