//! Printing: tables, colours, JSON.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

use crate::escape;

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

/// Prints to standard output, for verbs that go on until nobody reads any more: false then.
pub(crate) fn print_on(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// Prints JSON.
pub(crate) fn print_json(value: &Value) {
    print(&format!("{}\n", escape::json(&serde_json::to_string_pretty(value).unwrap_or_default())));
}

/// A table of cells; text in cells is escaped here.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<S: AsRef<str>>(&mut self, cells: &[(S, Tone)]) {
        self.rows.push(cells.iter().map(|(text, tone)| (escape::cell(text.as_ref()), *tone)).collect());
    }

    /// Two blanks between columns; the last column is not padded.
    pub(crate) fn render(&self, colours: bool) -> String {
        let columns = self.head.len();
        let mut widths: Vec<usize> = self.head.iter().map(|head| head.chars().count()).collect();
        for row in &self.rows {
            for (width, (text, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        let mut out = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = (&str, Tone)>| {
            let mut text = String::new();
            for (column, (cell, tone)) in cells.enumerate() {
                text.push_str(&paint(cell, tone, colours));
                if column + 1 < columns {
                    text.push_str(&" ".repeat(widths[column] - cell.chars().count() + 2));
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
        };
        line(&mut self.head.iter().map(|head| (*head, Tone::Faint)));
        for row in &self.rows {
            line(&mut row.iter().map(|(text, tone)| (text.as_str(), *tone)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_escaped_and_plain_without_a_terminal() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(&[("a\u{1b}[2J", Tone::Plain), ("refused", Tone::Bad)]);
        table.row(&[("long-long-name", Tone::Plain), ("", Tone::Plain)]);
        assert_eq!(table.render(false), "NAME            STATE\na\\u{1b}[2J      refused\nlong-long-name\n");
        assert!(table.render(true).contains("\u{1b}[1;31mrefused\u{1b}[0m"));
    }
}
