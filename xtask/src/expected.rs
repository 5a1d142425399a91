//! How many tests there must be: `tests/expected.txt`, so that a test that vanishes is noticed.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Stage → number of tests that must run.
///
/// # Errors
/// When the file is missing or a line is not `stage number`.
pub(crate) fn read() -> Result<BTreeMap<String, usize>> {
    let path = paths::root().join("tests/expected.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut expected = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let Some((stage, number)) =
            line.rsplit_once(' ').and_then(|(stage, number)| Some((stage.trim(), number.parse().ok()?)))
        else {
            bail!("{}:{}: expected `stage number`, found {line:?}", path.display(), index + 1);
        };
        expected.insert(stage.to_owned(), number);
    }
    Ok(expected)
}

/// What cargo's test harness printed about one or several test programs.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    /// Passed.
    pub(crate) passed: usize,
    /// Failed.
    pub(crate) failed: usize,
    /// Marked `#[ignore]`: another test starts it in a process of its own.
    pub(crate) ignored: usize,
}

impl Counts {
    /// Tests that ran.
    pub(crate) fn run(self) -> usize {
        self.passed + self.failed
    }

    /// Adds another program's.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Adds the `test result:` lines of a harness's output. A program that died before its summary counts as a failure
    /// of its own: its `running N tests` has no result.
    pub(crate) fn of(lines: &[String]) -> Self {
        let mut counts = Self::default();
        let mut open = false;
        for line in lines {
            if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
                counts.failed += usize::from(open);
                open = true;
            } else if let Some(result) = line.strip_prefix("test result: ") {
                open = false;
                counts.passed += number(result, " passed");
                counts.failed += number(result, " failed");
                counts.ignored += number(result, " ignored");
            }
        }
        counts.failed += usize::from(open);
        counts
    }
}

/// The number before a word of a result line.
fn number(line: &str, word: &str) -> usize {
    line.split([';', '.'])
        .filter_map(|part| part.strip_suffix(word))
        .filter_map(|part| part.trim().rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn results_of_several_programs_are_added() {
        let counts = Counts::of(&lines(
            "running 3 tests\ntest a ... ok\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             running 1 test\ntest result: FAILED. 0 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ));
        assert_eq!(counts, Counts { passed: 3, failed: 1, ignored: 2 });
        assert_eq!(counts.run(), 4);
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let counts = Counts::of(&lines(
            "running 3 tests\ntest a ... ok\nrunning 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored",
        ));
        assert_eq!(counts, Counts { passed: 1, failed: 1, ignored: 0 });
    }
}
