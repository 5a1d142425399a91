//! Shows a view once, or again and again.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::arguments::Format;
use crate::output::{is_terminal, print_on, structured};
use crate::{Failure, Outcome, escape};

/// How often `--watch` looks.
const AGAIN: Duration = Duration::from_secs(1);
/// Clears a terminal.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// What is shown.
pub(crate) enum View {
    /// For people.
    Text(String),
    /// For programs.
    Value(Format, Value),
}

/// Shows it; with `again` every second, until the output has no reader. The exit code is that of the last look.
pub(crate) fn show(again: bool, mut look: impl FnMut() -> Result<(View, u8), Failure>) -> Outcome {
    loop {
        let (view, code) = look()?;
        let text = match view {
            View::Text(text) if again && is_terminal() => format!("{CLEAR}{text}"),
            View::Text(text) => text,
            // One value per look: in JSON each on a line of its own, in YAML each a document.
            View::Value(Format::Yaml, value) if again => format!("---\n{}", structured(Format::Yaml, &value)),
            View::Value(_, value) if again => format!("{}\n", escape::json(&value.to_string())),
            View::Value(format, value) => structured(format, &value),
        };
        if !print_on(&text) || !again {
            return Ok(ExitCode::from(code));
        }
        std::thread::sleep(AGAIN);
    }
}
