//! Printing: colours, the terminal's width, JSON, YAML.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

use crate::arguments::Format;
use crate::fold::fold;
pub(crate) use crate::look::{Look, Tone, colours, paint};
pub(crate) use crate::table::Table;
use crate::{escape, yaml};

/// For the word before an error.
pub(crate) fn red_on_stderr(text: &str) -> String {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    paint(text, Tone::Bad, colours)
}

/// Whether standard output is a terminal, which can be cleared.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Prints to standard output; a reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let _ = print_on(text);
}

/// Prints prose for people, in lines that fit the terminal; with `wide` as it is.
pub(crate) fn print_prose(text: &str, wide: bool) {
    print(&fold(text, Look::of_stdout(wide)));
}

/// Prints to standard output, for commands that go on until the output has no reader: false then.
pub(crate) fn print_on(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// Prints for programs.
pub(crate) fn print_as(format: Format, value: &Value) {
    print(&structured(format, value));
}

/// As YAML where that is wanted, else as JSON.
pub(crate) fn structured(format: Format, value: &Value) -> String {
    match format {
        Format::Yaml => yaml::document(value),
        _ => format!("{}\n", escape::json(&serde_json::to_string_pretty(value).unwrap_or_default())),
    }
}
