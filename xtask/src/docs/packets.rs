//! `docs/packets.md`: what happens to each kind of packet. Its rows stand above the tests that show it:
//!
//! ```text
//! /// packets.md SECTION NUMBER: packet | what happens | counter
//! ```
//!
//! A row goes on over lines that are indented by two more blanks. Numbers order the rows of a section. Further tests of a row
//! say `/// packets.md SECTION NUMBER` alone.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::paths;

/// The page, from the workspace's root.
pub(crate) const PAGE: &str = "docs/packets.md";

/// Begins a row, behind `/// `.
const ROW: &str = "packets.md ";

/// Test programs: their folder, and how a test of theirs is marked on the page.
const PROGRAMS: [(&str, &str); 4] = [
    ("tests/tests/packets", ""),
    ("loader/tests/kernel", " ¹"),
    ("tests/tests/together", " ²"),
    ("tests/tests/guests.rs", " ³"),
];

/// A table of the page.
struct Section {
    /// As in the rows.
    name: &'static str,
    /// Above the table.
    text: &'static str,
    /// Head of the first column.
    what: &'static str,
}

const HEAD: &str = "\
# Packets

What the eBPF programs and the nftables tables do with each kind of packet, with the counter and the test that shows it. Written by
`cargo xtask docs` from the tests themselves.

What is not listed is taken or delivered as the journeys in [ARCHITECTURE.md](../ARCHITECTURE.md) say. \"Passes\" means `TCX_NEXT` with not a byte changed and nothing counted: the host and other
programs see the packet as it came. \"Dropped\" means counted under the reason and, in bursts and samples, reported as an event; the packet is not changed first.
Tests are those of `cargo test -p brattice-tests --test packets`; each has its positive control in the same test.
¹ In `cargo test -p brattice-loader --test kernel`. ² In `cargo test -p brattice-tests --test together`. ³ In `--test guests`.
`nft list table inet brattice` shows the rules' counters, `nft list table arp brattice` those of ARP.
";

const SECTIONS: [Section; 6] = [
    Section { name: "ingress", text: "**From a workload** (`workload_ingress`)", what: "packet" },
    Section {
        name: "ipv6",
        text: "\
**IPv6.** The rows above and below hold for both families, with the same counters, but for what IPv6 has not (options, a header checksum, UDP without
checksum) and ARP; their tests are in modules `ipv6`. A workload's
half-open limit counts both. What only IPv6 has, where it is for a VIP (to others it passes) or, the first eight rows, for an alias:",
        what: "packet",
    },
    Section { name: "dns", text: "**DNS of a workload with `dns: intercept`**", what: "packet" },
    Section { name: "egress", text: "**To a workload** (`workload_egress`, on `brattice0`)", what: "packet" },
    Section {
        name: "host",
        text: "\
**From sockets of the host** (`host_connect4` and its kin). A refusal is `EPERM`. Other calls of users that are not the engine's, and
other network namespaces, are left alone.",
        what: "call",
    },
    Section {
        name: "vip",
        text: "**To a VIP on the node** (`vip_listener`). A drop is a RST for TCP and silence for UDP.",
        what: "lookup",
    },
];

const TAIL: &str = "
Events: the first 32 drops of each reason on each CPU, then every 256th (`events::a_burst_then_a_sample`); what the ring buffer has no room for is counted under
`EventsLost` (`events::lost_events_are_counted`).
";

/// A row of the page.
#[derive(Default)]
struct Row {
    /// Its cells but the last. Empty: no test has given them yet.
    cells: String,
    /// What shows it.
    tests: Vec<String>,
}

/// By section and number.
type Rows = BTreeMap<(String, u32), Row>;

/// The page's text.
///
/// # Errors
/// When a test cannot be read, or what it says is no row.
pub(crate) fn text() -> Result<String> {
    let mut rows = Rows::new();
    for (place, mark) in PROGRAMS {
        let root = paths::root().join(place);
        for file in files(&root)? {
            let source = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let within = file.strip_prefix(&root).unwrap_or(&file);
            collect(&source, &module(within), mark, &mut rows).with_context(|| file.display().to_string())?;
        }
    }
    render(rows)
}

fn render(mut rows: Rows) -> Result<String> {
    let mut page = HEAD.to_owned();
    for Section { name, text, what } in &SECTIONS {
        let _ = write!(page, "\n{text}\n\n| {what} | what happens | counter | test |\n|---|---|---|---|\n");
        let (of, others): (Rows, Rows) = rows.into_iter().partition(|((section, _), _)| section == name);
        rows = others;
        for ((section, number), Row { cells, tests }) in of {
            if cells.is_empty() {
                bail!("no test says what row {section} {number} is");
            }
            let _ = writeln!(page, "| {cells} | {} |", tests.join(", "));
        }
    }
    if let Some((section, number)) = rows.into_keys().next() {
        bail!("row {section} {number} is of no section");
    }
    Ok(page + TAIL)
}

/// Rust files, sorted.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    if root.is_file() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(|| root.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The module of a file of a test program: `ipv6::ingress::`.
fn module(file: &Path) -> String {
    let parts = file.with_extension("");
    let parts = parts.iter().map(|part| part.to_string_lossy()).filter(|part| part != "mod" && part != "main");
    parts.map(|part| format!("{part}::")).collect()
}

/// Adds what the tests of a file say.
fn collect(source: &str, module: &str, mark: &str, rows: &mut Rows) -> Result<()> {
    let mut given: Vec<String> = Vec::new();
    for line in source.lines() {
        let line = line.trim_start();
        if let Some(text) = line.strip_prefix("/// ") {
            match (text.strip_prefix(ROW), given.last_mut()) {
                (Some(row), _) => given.push(row.to_owned()),
                (None, Some(row)) if text.starts_with("  ") => *row += &text[1..],
                _ => {}
            }
        } else if let Some((name, generic)) = function(line) {
            for row in given.drain(..) {
                let (place, cells) = row.split_once(": ").unwrap_or((&row, ""));
                let place = place.split_once(' ').and_then(|(section, number)| Some((section, number.parse().ok()?)));
                let (section, number) = place.with_context(|| format!("`{row}` is no row"))?;
                let row = rows.entry((section.to_owned(), number)).or_default();
                if !cells.is_empty() && !row.cells.is_empty() {
                    bail!("row {section} {number} is said twice");
                }
                if cells.matches(" | ").count() != if cells.is_empty() { 0 } else { 2 } {
                    bail!("row {section} {number} has not three cells");
                }
                let families: &[&str] = if generic { &["ipv4::", "ipv6::"] } else { &[""] };
                let tests = families.iter().map(|family| format!("`{module}{family}{name}`{mark}"));
                // The test that has the row's cells comes first.
                if cells.is_empty() {
                    row.tests.extend(tests);
                } else {
                    row.tests.splice(0..0, tests);
                    row.cells = cells.to_owned();
                }
            }
        } else if !line.starts_with("#[") && !line.starts_with("//") && !given.is_empty() {
            bail!("row {} stands above no test", given[0]);
        }
    }
    Ok(())
}

/// The name of a function that begins in a line, and whether it is of any family: then it is a test of each.
fn function(line: &str) -> Option<(&str, bool)> {
    let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    let end = line.find(['(', '<'])?;
    Some((&line[..end], line[end..].starts_with("<F: Family>")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_what_the_tests_say() {
        let text = text().expect("the tests say rows");
        let found = fs::read_to_string(paths::root().join(PAGE)).unwrap_or_default();
        assert!(found == text, "{PAGE} is stale; `cargo xtask docs` writes it");
    }

    #[test]
    fn rows_are_ordered_and_have_the_tests_that_name_them() {
        let mut rows = Rows::new();
        let source = "/// Why.\n///\n/// packets.md ingress 20: b | dropped,\n///   counted | `B`\n/// packets.md ingress 10\n#[test]\nfn one() {}\n";
        collect(source, "m::", "", &mut rows).expect("rows");
        let source = "/// packets.md ingress 10: a | passes | –\nfn two<F: Family>() {}\n/// packets.md ingress 20\nasync fn three() {}\n";
        collect(source, "n::", " ²", &mut rows).expect("rows");
        let page = render(rows).expect("a page");
        let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("| a") || line.starts_with("| b")).collect();
        assert_eq!(
            lines,
            [
                "| a | passes | – | `n::ipv4::two` ², `n::ipv6::two` ², `m::one` |",
                "| b | dropped, counted | `B` | `m::one`, `n::three` ² |"
            ]
        );
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        for source in [
            "/// packets.md ingress: a | b | c\nfn f() {}",
            "/// packets.md ingress 1: a | b\nfn f() {}",
            "/// packets.md ingress 1: a | b | c\nconst A: u8 = 1;",
            "/// packets.md ingress 1: a | b | c\n/// packets.md ingress 1: a | b | c\nfn f() {}",
        ] {
            assert!(collect(source, "", "", &mut Rows::new()).is_err(), "{source}");
        }
        for source in ["/// packets.md nowhere 1: a | b | c\nfn f() {}", "/// packets.md dns 1\nfn f() {}"] {
            let mut rows = Rows::new();
            collect(source, "", "", &mut rows).expect("rows");
            assert!(render(rows).is_err(), "{source}");
        }
    }
}
