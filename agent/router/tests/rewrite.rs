//! Rewritten paths and the `location` of redirects.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod common;

use std::borrow::Cow;

use brattice_router::{
    RegexError, limits,
    path::Refused,
    rewrite::{CheckError, Redirector, RewriteError, Rewriter, Target, check},
};
use brattice_wire::rules::{PathRewrite, Redirect};
use common::matches;

fn rewriter(rewrite: &PathRewrite, matched: &str) -> Rewriter {
    Rewriter::compile(rewrite, matches(matched).path.as_ref()).unwrap()
}

fn prefix(new: &str) -> PathRewrite {
    PathRewrite::Prefix(new.into())
}

fn regex(pattern: &str, substitution: &str) -> PathRewrite {
    PathRewrite::Regex { pattern: pattern.into(), substitution: substitution.into() }
}

#[test]
fn paths_are_rewritten() {
    let full = |new: &str| PathRewrite::Full(new.into());
    for (rewrite, matched, path, new) in [
        (full("/new"), "path^/a", "/a/b", "/new"),
        (full("/new/"), "", "/", "/new/"),
        (full("/new"), "", "*", "*"),
        // Gateway API, `ReplacePrefixMatch`: the whole table.
        (prefix("/xyz"), "path^/foo", "/foo/bar", "/xyz/bar"),
        (prefix("/xyz/"), "path^/foo", "/foo/bar", "/xyz/bar"),
        (prefix("/xyz"), "path^/foo/", "/foo/bar", "/xyz/bar"),
        (prefix("/xyz/"), "path^/foo/", "/foo/bar", "/xyz/bar"),
        (prefix("/xyz"), "path^/foo", "/foo", "/xyz"),
        (prefix("/xyz"), "path^/foo", "/foo/", "/xyz/"),
        (prefix(""), "path^/foo", "/foo/bar", "/bar"),
        (prefix(""), "path^/foo", "/foo/", "/"),
        (prefix(""), "path^/foo", "/foo", "/"),
        (prefix("/"), "path^/foo", "/foo/", "/"),
        (prefix("/"), "path^/foo", "/foo", "/"),
        // App Mesh: by default the matched prefix becomes `/`.
        (prefix("/"), "path^/foo", "/foo/bar", "/bar"),
        (prefix("/xyz/"), "path^/foo", "/foo", "/xyz/"),
        (prefix("/xyz"), "i:path^/foo", "/FOO/Bar", "/xyz/Bar"),
        // Without a condition the prefix is `/`.
        (prefix("/v1"), "", "/a/b", "/v1/a/b"),
        (prefix("/v1"), "", "/", "/v1/"),
        (prefix("/v1"), "path^/", "/a", "/v1/a"),
        (prefix("/v1"), "", "*", "*"),
        // By character.
        (prefix("/new-"), "path^^/old-", "/old-a/b", "/new-a/b"),
        (prefix("/new"), "path^^/old", "/old", "/new"),
        (prefix("/"), "path^^/old/", "/old//a", "/a"),
        (prefix("new"), "path^^/old", "/old/a", "/new/a"),
        // All of the path was what matched.
        (prefix("/new"), "path=/old", "/old", "/new"),
        (prefix("/new"), "path~/o.*", "/old/x", "/new"),
        // Regular expressions.
        (regex("^/users/([0-9]+)/orders", "/orders/by-user/$1"), "", "/users/7/orders/3", "/orders/by-user/7/3"),
        (regex("(?P<a>[a-z]+)-(?P<b>[a-z]+)", "${b}_${a}"), "", "/x/one-two/three-four", "/x/two_one/three-four"),
        (regex("/v[0-9]+", ""), "", "/v1/a", "/a"),
        (regex("/v[0-9]+$", ""), "", "/v1", "/"),
        (regex("/none", "/some"), "", "/a", "/a"),
        (regex("a", "$$1"), "", "/a", "/$1"),
        (regex("A", "b"), "", "/a", "/a"),
        (regex("x", "."), "", "/a/x", "/a/"),
        (regex("x", "/../"), "", "/a/b/x", "/a/"),
        (regex(".*", "/b"), "", "*", "*"),
        // What comes out is normal.
        (full("/a/../b//c%41"), "", "/", "/b/cA"),
    ] {
        assert_eq!(rewriter(&rewrite, matched).apply(path).as_deref(), Ok(new), "{rewrite:?} of {matched}: {path}");
    }
}

#[test]
fn what_no_path_may_be_is_refused() {
    let apply = |rewrite: PathRewrite, path: &str| rewriter(&rewrite, "").apply(path).map(Cow::into_owned);
    let refused = |refused| Err(RewriteError::Refused(refused));
    assert_eq!(apply(regex("2F", "zz"), "/a%2Fb"), refused(Refused::MalformedEscape));
    assert_eq!(apply(regex("x", "..%2F"), "/a/xb"), refused(Refused::HiddenDots));
    assert_eq!(apply(regex("x", "?a=b"), "/x"), refused(Refused::Delimiter));
    assert_eq!(apply(regex("x", "é"), "/x"), refused(Refused::NonAscii));
    assert_eq!(apply(regex("x", "y"), "/x"), Ok("/y".into()));
    let long = "a".repeat(limits::MAX_REWRITTEN - 4);
    assert_eq!(apply(prefix("/ab"), &format!("/{long}")).map(|path| path.len()), Ok(limits::MAX_REWRITTEN));
    assert_eq!(apply(prefix("/abc"), &format!("/{long}")), Err(RewriteError::LongPath));
}

#[test]
fn rewrites_by_regex_are_checked() {
    for (pattern, substitution) in [
        ("a", ""),
        ("a", "b"),
        ("a", "$0"),
        ("(a)(b)", "$2$1"),
        ("(a)", "${1}x"),
        ("(a)", "$1/x"),
        ("(?P<x>a)", "$x"),
        ("(?P<x>a)", "${x}y"),
        ("a", "$$x$$"),
        ("a", "$"),
        ("a", "$-"),
        ("a", "${0}$"),
    ] {
        assert_eq!(check(pattern, substitution), Ok(()), "{pattern} {substitution}");
    }
    for (substitution, group) in [
        ("$2", "2"),
        ("$1x", "1x"),
        ("${x}", "x"),
        ("$x_1", "x_1"),
        ("$$$9", "9"),
        ("$1$3", "3"),
        ("${}", ""),
        ("$1${2}", "2"),
    ] {
        let error = check("(a)", substitution).unwrap_err();
        assert_eq!(error, CheckError::Group(group.into()), "{substitution}");
        assert!(error.is_about_substitution());
    }
    let error = check("(a", "$1").unwrap_err();
    assert!(matches!(error, CheckError::Pattern(RegexError::Syntax { at: 0, .. })), "{error}");
    assert!(!error.is_about_substitution());
    assert_eq!(check("(a{100}){100}", ""), Err(CheckError::Pattern(RegexError::Large)));
    assert!(Rewriter::compile(&regex("(a", ""), None).is_err());
}

const UNCHANGED: Redirect = Redirect { scheme: None, host: None, port: None, path: None, status: 302 };
const FROM: Target<'_> =
    Target { scheme: "http", host: "orders.internal", port: 8080, path: "/a/b", query: "x=1&y=%2F" };

fn location(redirect: &Redirect, from: &Target<'_>) -> String {
    let redirector = Redirector::compile(redirect, matches("path^/a").path.as_ref()).unwrap();
    assert_eq!(redirector.status(), redirect.status);
    redirector.location(from).unwrap()
}

#[test]
fn redirects_keep_what_they_do_not_name() {
    let some = |text: &str| Some(text.to_owned());
    for (redirect, wanted) in [
        (UNCHANGED, "http://orders.internal:8080/a/b?x=1&y=%2F"),
        (Redirect { status: 301, ..UNCHANGED }, "http://orders.internal:8080/a/b?x=1&y=%2F"),
        // Gateway API, `HTTPRequestRedirectFilter.port`: a new scheme means its usual port.
        (Redirect { scheme: some("https"), ..UNCHANGED }, "https://orders.internal/a/b?x=1&y=%2F"),
        (Redirect { scheme: some("http"), ..UNCHANGED }, "http://orders.internal/a/b?x=1&y=%2F"),
        (
            Redirect { scheme: some("https"), port: Some(8443), ..UNCHANGED },
            "https://orders.internal:8443/a/b?x=1&y=%2F",
        ),
        (Redirect { scheme: some("https"), port: Some(443), ..UNCHANGED }, "https://orders.internal/a/b?x=1&y=%2F"),
        (Redirect { scheme: some("https"), port: Some(80), ..UNCHANGED }, "https://orders.internal:80/a/b?x=1&y=%2F"),
        (Redirect { port: Some(80), ..UNCHANGED }, "http://orders.internal/a/b?x=1&y=%2F"),
        (Redirect { port: Some(443), ..UNCHANGED }, "http://orders.internal:443/a/b?x=1&y=%2F"),
        (Redirect { host: some("new.internal"), ..UNCHANGED }, "http://new.internal:8080/a/b?x=1&y=%2F"),
        (
            Redirect { path: Some(PathRewrite::Full("/c".into())), ..UNCHANGED },
            "http://orders.internal:8080/c?x=1&y=%2F",
        ),
        (Redirect { path: Some(prefix("/c")), ..UNCHANGED }, "http://orders.internal:8080/c/b?x=1&y=%2F"),
        (Redirect { path: Some(regex("b$", "c")), ..UNCHANGED }, "http://orders.internal:8080/a/c?x=1&y=%2F"),
    ] {
        assert_eq!(location(&redirect, &FROM), wanted, "{redirect:?}");
    }
    assert_eq!(location(&UNCHANGED, &Target { query: "", ..FROM }), "http://orders.internal:8080/a/b");
    assert_eq!(location(&UNCHANGED, &Target { port: 80, ..FROM }), "http://orders.internal/a/b?x=1&y=%2F");
    assert_eq!(location(&UNCHANGED, &Target { path: "*", ..FROM }), "http://orders.internal:8080?x=1&y=%2F");
    assert_eq!(
        location(&UNCHANGED, &Target { scheme: "https", port: 443, ..FROM }),
        "https://orders.internal/a/b?x=1&y=%2F"
    );
    assert_eq!(location(&UNCHANGED, &Target { host: "", ..FROM }), "/a/b?x=1&y=%2F");
    assert_eq!(location(&UNCHANGED, &Target { host: "[fd00::1]", ..FROM }), "http://[fd00::1]:8080/a/b?x=1&y=%2F");
    let odd = Target { query: "a b\r\nc: d\u{e9}\x7f~", ..FROM };
    assert_eq!(location(&UNCHANGED, &odd), "http://orders.internal:8080/a/b?a%20b%0D%0Ac:%20d%C3%A9%7F~");
}

#[test]
fn redirects_are_bounded() {
    let redirector = Redirector::compile(&UNCHANGED, None).unwrap();
    let head = redirector.location(&Target { query: "", ..FROM }).unwrap().len() + 1;
    let query = "q".repeat(limits::MAX_LOCATION - head);
    let longest = redirector.location(&Target { query: &query, ..FROM }).unwrap();
    assert_eq!(longest.len(), limits::MAX_LOCATION);
    let query = format!("{query}q");
    assert_eq!(redirector.location(&Target { query: &query, ..FROM }), Err(RewriteError::LongLocation));
    let bad = Redirect { path: Some(regex("b", "%")), ..UNCHANGED };
    let error = Redirector::compile(&bad, None).unwrap().location(&FROM).unwrap_err();
    assert_eq!(error.to_string(), format!("the rewritten path would be refused: {}", Refused::MalformedEscape));
    assert!(Redirector::compile(&Redirect { path: Some(regex("(b", "")), ..UNCHANGED }, None).is_err());
}
