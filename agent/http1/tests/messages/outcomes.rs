//! The tables' rows, and the README that shows them.

use std::fmt::Write;

use crate::{
    corpus::{Row, requests, responses},
    harness::{self, Stream},
};

#[test]
fn requests_become_what_the_table_says() {
    for row in requests() {
        let bytes = row.bytes();
        let became = harness::request(&mut Stream::new(&bytes, &[]), &harness::REQUESTS);
        assert_eq!(became, row.becomes, "{}: {:?}", row.what, row.comes);
    }
}

#[test]
fn responses_become_what_the_table_says() {
    for row in responses() {
        let bytes = row.bytes();
        let became = harness::response(&mut Stream::new(&bytes, &[]), &harness::RESPONSES, row.to_head());
        assert_eq!(became, row.becomes, "{}: {:?}", row.what, row.comes);
    }
}

const LONGEST: usize = 90;

/// A cell of a table: code, cut where it is long.
fn cell(text: &str) -> String {
    let shown = text.replace('~', "⏎").replace('¬', "~");
    let cut = if shown.chars().count() > LONGEST {
        format!("{}…", shown.chars().take(LONGEST).collect::<String>())
    } else {
        shown
    };
    let fence = if cut.contains('`') { ("`` ", " ``") } else { ("`", "`") };
    format!("{}{}{}", fence.0, cut.replace('|', "\\|"), fence.1)
}

fn table(rows: &[Row]) -> String {
    let mut table = "| what | comes in | what becomes of it | RFC |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let becomes = row.becomes.replace('|', "\\|");
        writeln!(table, "| {} | {} | {becomes} | {} |", row.what.replace('|', "\\|"), cell(row.comes), row.rfc)
            .unwrap();
    }
    table
}

/// To write the tables again: `BRATTICE_WRITE=1 cargo test -p brattice-http1 readme`.
#[test]
fn the_readme_shows_the_tables() {
    let path = format!("{}/README.md", std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let readme = std::fs::read_to_string(&path).unwrap();
    let mut wanted = readme.clone();
    for (mark, rows) in [("requests", requests()), ("responses", responses())] {
        let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->\n"));
        let from = wanted.find(&begin).expect("the table has a mark") + begin.len();
        let to = wanted.find(&end).expect("and ends with another");
        wanted.replace_range(from..to, &table(&rows));
    }
    if std::env::var_os("BRATTICE_WRITE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(readme == wanted, "the README's tables are old: see this test's comment");
}
