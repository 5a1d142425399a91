//! Printing: colours, the terminal's width, JSON, YAML.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

use crate::arguments::Format;
use crate::fold::fold;
pub(crate) use crate::table::Table;
use crate::{escape, yaml};

/// How something is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Faint,
}

/// Whether colours are shown on standard output.
pub(crate) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// How tables are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// With colours.
    pub(crate) colours: bool,
    /// Width of the terminal, if it is one.
    pub(crate) width: Option<usize>,
    /// All columns, none of them cut.
    pub(crate) wide: bool,
}

impl Look {
    /// For standard output. As wide as the terminal: `COLUMNS`, else as the kernel says. A file or a pipe has no width.
    pub(crate) fn of_stdout(wide: bool) -> Self {
        let stdout = std::io::stdout();
        let told = || std::env::var("COLUMNS").ok()?.parse::<usize>().ok();
        let known = || rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        let width = stdout.is_terminal().then(|| told().or_else(known)).flatten().filter(|width| *width > 0);
        Self { colours: colours(), width, wide }
    }
}

/// Text in a colour, where colours are shown.
pub(crate) fn paint(text: &str, tone: Tone, colours: bool) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "1;31",
        Tone::Faint => "2",
    };
    if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

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

/// Prints to standard output, for verbs that go on until nobody reads any more: false then.
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
