//! What a guest printed, as a row of a table.

use std::time::Duration;

use super::inside::Depth;
use crate::{expected::Counts, run};

/// The result of one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    release: String,
    depth: Depth,
    /// By stage: what its tests printed.
    stages: Vec<(String, Counts)>,
    /// TCX or clsact.
    attaching: Option<String>,
    /// Program, and how many instructions the verifier went through.
    programs: Vec<(String, String)>,
    /// Why the agent does not start here.
    refusal: Option<String>,
    /// The guest's own trouble, or a stage's that left no count.
    trouble: Option<String>,
    pub(crate) took: Duration,
}

impl Row {
    /// From what the script printed; stages begin with `== name`.
    pub(crate) fn of(release: &str, depth: Depth, lines: &[String], code: i32) -> Self {
        let mut row = Self::empty(release, depth);
        let mut stages: Vec<(&str, Vec<String>)> = Vec::new();
        for line in lines {
            match line.strip_prefix("== ") {
                Some(name) => stages.push((name, Vec::new())),
                None => stages.last_mut().into_iter().for_each(|(_, lines)| lines.push(line.clone())),
            }
        }
        for (name, lines) in stages {
            match name {
                "preflight" => row.preflight(&lines),
                "refusal" => row.refusal = lines.iter().rev().find(|line| !line.trim().is_empty()).cloned(),
                name => row.stages.push((name.to_owned(), Counts::of(&lines))),
            }
        }
        if code != 0 && row.stages.iter().all(|(_, counts)| counts.failed == 0) {
            row.trouble = Some(format!("the script ended with {code}"));
        }
        row
    }

    /// Of a guest that did not come to its end.
    pub(crate) fn broken(release: &str, depth: Depth, trouble: &str) -> Self {
        Self { trouble: Some(trouble.to_owned()), ..Self::empty(release, depth) }
    }

    fn empty(release: &str, depth: Depth) -> Self {
        Self {
            release: release.to_owned(),
            depth,
            stages: Vec::new(),
            attaching: None,
            programs: Vec::new(),
            refusal: None,
            trouble: None,
            took: Duration::ZERO,
        }
    }

    /// `program NAME  ok  N instructions verified, ...`, `attaching  ok  TCX ...`: columns are two spaces apart.
    fn preflight(&mut self, lines: &[String]) {
        for line in lines {
            let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
            let (Some(name), Some(verdict), found) = (columns.next(), columns.next(), columns.next()) else { continue };
            let found = if verdict == "ok" { found.unwrap_or_default() } else { "no" };
            let first = found.split([' ', ',']).next().unwrap_or_default().to_owned();
            if name == "attaching" {
                self.attaching = Some(first);
            } else if let Some(program) = name.strip_prefix("program ") {
                self.programs.push((program.to_owned(), first));
            }
        }
    }

    /// All tests of the kernel; fewer than there must be count as one that failed.
    pub(crate) fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.stages.iter().for_each(|(_, counts)| all.add(*counts));
        all.passed += usize::from(self.refusal.is_some() && self.trouble.is_none());
        all.failed += usize::from(self.trouble.is_some());
        if all.failed == 0 && all.passed < super::inside::tests(self.depth) {
            all.failed += 1;
        }
        all
    }

    /// Whether all that had to run ran and passed.
    pub(crate) fn passed(&self) -> bool {
        self.counts().failed == 0
    }

    fn cells(&self) -> [String; 6] {
        let loads = self.programs.iter().filter(|(_, found)| found != "no").count();
        let programs: Vec<String> = self.programs.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let mut tests: Vec<String> = self
            .stages
            .iter()
            .map(|(name, counts)| match counts.failed {
                0 => format!("{name} {}", counts.passed),
                failed => format!("{name} {} ({failed} FAILED)", counts.passed),
            })
            .collect();
        tests.extend(self.refusal.clone().map(|text| format!("refused: {text}")));
        tests.extend(self.trouble.clone().map(|text| format!("FAILED: {text}")));
        if !self.passed() && self.trouble.is_none() && self.stages.iter().all(|(_, counts)| counts.failed == 0) {
            tests.push("FAILED: fewer tests ran than there are".into());
        }
        [
            self.release.clone(),
            format!("{loads}/{}", self.programs.len()),
            self.attaching.clone().unwrap_or_else(|| "-".into()),
            run::human(self.took),
            programs.join(", "),
            tests.join(", "),
        ]
    }
}

/// The rows beneath each other.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = ["kernel", "loads", "attaching", "took", "instructions verified", "tests"].map(str::to_owned);
    let all: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &all {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    const GOOD: &str = "\
== preflight
CHECK                     FOUND                                       WHAT TO DO
attaching         ok      clsact (no TCX)
program vip_listener  ok      812 instructions verified, 2,000 bytes
== end to end
running 3 tests
test result: ok. 3 passed; 0 failed; 0 ignored
";

    #[test]
    fn a_guest_that_passed() {
        let row = Row::of("6.1.0", Depth::Part, &lines(GOOD), 0);
        assert!(row.passed(), "{row:?}");
        let text = table(std::slice::from_ref(&row));
        for part in ["1/1    clsact", "vip_listener 812", "end to end 3"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_missing_or_failed_is_no_pass() {
        let fewer = GOOD.replace("3 passed", "2 passed");
        assert!(!Row::of("6.1.0", Depth::Part, &lines(&fewer), 0).passed());
        let failed = GOOD.replace("3 passed; 0 failed", "3 passed; 1 failed");
        assert!(!Row::of("6.1.0", Depth::Part, &lines(&failed), 1).passed());
        assert!(!Row::of("6.1.0", Depth::Part, &lines(GOOD), 1).passed(), "another exit code than 0");
        assert!(!Row::broken("6.1.0", Depth::Part, "it hangs").passed());
    }

    #[test]
    fn a_refusal_is_what_is_wanted_of_a_kernel_that_is_too_old() {
        let text = "== preflight\nkernel  MISSING  5.10.0\n== refusal\nerror: too old\n";
        let row = Row::of("5.10.0", Depth::Refusal, &lines(text), 0);
        assert!(row.passed() && table(std::slice::from_ref(&row)).contains("refused: error: too old"), "{row:?}");
        assert!(!Row::of("5.10.0", Depth::Refusal, &lines(text), 1).passed(), "it started");
    }
}
