//! The page says what happens to requests; what is explained, and traffic, are held against the same table elsewhere.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

#[path = "requests/mod.rs"]
mod requests;

use brattice_router::{authority, path};

const PAGE: &str = include_str!("../../../docs/routing.md");

#[test]
fn the_page_has_the_table() {
    let table = requests::page();
    assert!(PAGE.contains(&table), "docs/routing.md must have this table:\n{table}");
}

#[test]
fn requests_become_what_the_table_says() {
    for case in requests::all() {
        let whole = String::from_utf8(case.target.clone());
        let path = whole.ok().and_then(|whole| {
            let (raw, query) = whole.split_once('?').unwrap_or((&whole, ""));
            authority::host(case.host)?;
            path::check_query(query).ok()?;
            path::requested(case.method, raw).map(std::borrow::Cow::into_owned).ok()
        });
        assert_eq!(path, case.path, "{case:?}");
    }
}
