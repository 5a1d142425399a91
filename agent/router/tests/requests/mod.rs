//! Requests, and what happens to them: one table for the page (`docs/routing.md`), for what is explained and for traffic in both
//! versions of HTTP.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]

use std::fmt::Write;

/// Stands for the service's own name in [`Case::host`].
pub const OWN: &str = "orders.example";

/// A request that names a service.
#[derive(Clone, Debug)]
pub struct Case {
    pub method: &'static str,
    /// As it is sent; bytes, as they need be no text.
    pub target: Vec<u8>,
    pub host: &'static str,
    /// The path that the target gets, before the query; none: it is refused with 400.
    pub path: Option<String>,
}

/// Method, target, host, path.
type Row = (&'static str, &'static str, &'static str, Option<&'static str>);

/// What [`shown`] has.
const SHOWN: &[Row] = &[
    ("GET", "/a/../b//c", OWN, Some("/b/c")),
    ("GET", "/%61%2fb", OWN, Some("/a%2Fb")),
    ("GET", "/a{b}[c]^\"|", OWN, Some("/a{b}[c]^\"|")),
    ("GET", "/a<b", OWN, None),
    ("GET", "/a>b", OWN, None),
    ("GET", "/a`b", OWN, None),
    ("GET", "/a\\b", OWN, None),
    ("GET", "/é", OWN, None),
    ("GET", "/a?x={a:[1]}^`|", OWN, Some("/a")),
    ("GET", "/a?x=é", OWN, Some("/a")),
    ("GET", "/a?x={\"a\":1}", OWN, None),
    ("GET", "/a?x={%22a%22:1}", OWN, Some("/a")),
    ("GET", "/a?x=<b>", OWN, None),
    ("GET", "/a?", OWN, Some("/a")),
    ("GET", "/a#frag", OWN, None),
    ("GET", "/a?x#frag", OWN, None),
    ("GET", "?x=1", OWN, None),
    ("GET", "a", OWN, None),
    ("OPTIONS", "*", OWN, Some("*")),
    ("GET", "*", OWN, None),
    ("GET", "/", "Orders.EXAMPLE", Some("/")),
    ("GET", "/", "orders.example.", Some("/")),
    ("GET", "/", "orders.example:8080", Some("/")),
    ("GET", "/", "orders.example:", Some("/")),
    ("GET", "/", "orders.example:http", None),
    ("GET", "/", "orders.example:70000", None),
    ("GET", "/", "orders.example/admin", None),
    ("GET", "/", "user@orders.example", None),
    ("GET", "/", "user:password@orders.example", None),
    ("GET", "/", "[fd00::1", None),
    ("GET", "/", "orders%2eexample", None),
];

/// Of each byte that can be sent as it is, whether a path, and a query, may have it (`docs/routing.md`, "Paths").
fn may(byte: u8) -> (bool, bool) {
    let graphic = byte.is_ascii_graphic();
    (graphic && !b"<>`\\#".contains(&byte), graphic && !b"\"<>#".contains(&byte))
}

/// Those that the page shows.
pub fn shown() -> Vec<Case> {
    SHOWN
        .iter()
        .map(|(method, target, host, path)| Case {
            method,
            target: target.as_bytes().to_vec(),
            host,
            path: path.map(str::to_owned),
        })
        .collect()
}

/// All of them.
pub fn all() -> Vec<Case> {
    let mut all = shown();
    for byte in 0x21..=0xff_u8 {
        let (path, query) = may(byte);
        let case = |target: Vec<u8>, path| Case { method: "GET", target, host: OWN, path };
        if !matches!(byte, b'%' | b'?') {
            let target = [b"/x", &[byte][..], b"y"].concat();
            let text = String::from_utf8_lossy(&target).into_owned();
            all.push(case(target, path.then_some(text)));
        }
        all.push(case([b"/x?a=", &[byte][..], b"b"].concat(), query.then(|| "/x".to_owned())));
    }
    // What is no ASCII in a query must be UTF-8.
    for (text, fits) in [(&b"\xc3\xa9"[..], true), (b"\xe2\x82\xac", true), (b"\xc3", false), (b"\xc0\x80", false)] {
        let path = fits.then(|| "/x".to_owned());
        all.push(Case { method: "GET", target: [b"/x?a=", text].concat(), host: OWN, path });
    }
    all
}

/// The table as the page has it.
pub fn page() -> String {
    let mut page = String::from("| Request target | Host | Becomes |\n|---|---|---|\n");
    for (method, target, host, path) in SHOWN {
        let becomes = path.map_or_else(|| "400".to_owned(), code);
        writeln!(page, "| {} | {} | {becomes} |", code(&format!("{method} {target}")), code(host)).unwrap();
    }
    page
}

/// As code in a cell.
fn code(text: &str) -> String {
    let text = text.replace('|', "\\|");
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}
