//! Tables that fit the terminal.
//!
//! As kubectl has it: a table has the columns that are asked for most, `--wide` all of them. Where it is read by a program or
//! goes to a file, and with `--wide`, nothing is cut. The last column, which is where reasons and remedies are, goes on in
//! further lines.

use crate::escape;
use crate::look::{Look, Tone, paint};

/// Blanks between columns.
const GAP: usize = 2;
/// A cell is not cut to less, if its head is not longer.
const NARROWEST: usize = 8;
/// The last column has room for a word of this length, if there is as much.
const LONGEST_WORD: usize = 30;

/// A table of cells; text in cells is escaped here.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    only_wide: Vec<&'static str>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), only_wide: Vec::new(), rows: Vec::new() }
    }

    /// These columns are for `--wide`.
    pub(crate) fn only_wide(mut self, heads: &[&'static str]) -> Self {
        self.only_wide = heads.to_vec();
        self
    }

    pub(crate) fn row<S: AsRef<str>>(&mut self, cells: &[(S, Tone)]) {
        self.rows.push(cells.iter().map(|(text, tone)| (escape::cell(text.as_ref()), *tone)).collect());
    }

    /// Two blanks between columns; the last column is not padded, and wrapped rather than cut.
    pub(crate) fn render(&self, look: Look) -> String {
        let shown: Vec<usize> =
            (0..self.head.len()).filter(|column| look.wide || !self.only_wide.contains(&self.head[*column])).collect();
        let widths = self.widths(&shown, look);
        let indent = widths.iter().rev().skip(1).map(|width| width + GAP).sum();
        let mut out = String::new();
        let mut is_cut = false;
        let mut line = |cell: &dyn Fn(usize) -> (String, Tone)| {
            let mut text = String::new();
            let mut further = Vec::new();
            for (place, (column, width)) in shown.iter().zip(&widths).enumerate() {
                let (mut cell, tone) = cell(*column);
                if place + 1 == shown.len() {
                    let mut lines = wrap(&cell, *width).into_iter();
                    cell = lines.next().unwrap_or_default();
                    further.extend(lines.map(|line| paint(&line, tone, look.colours)));
                } else {
                    is_cut |= cell.chars().count() > *width;
                    cell = cut(&cell, *width);
                }
                text.push_str(&paint(&cell, tone, look.colours));
                if place + 1 < widths.len() {
                    text.push_str(&" ".repeat(width - cell.chars().count() + GAP));
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
            for line in further {
                out.push_str(&format!("{:indent$}{line}\n", ""));
            }
        };
        line(&|column| (self.head[column].to_owned(), Tone::Faint));
        for row in &self.rows {
            line(&|column| row.get(column).cloned().unwrap_or((String::new(), Tone::Plain)));
        }
        let left_out = shown.len() - widths.len();
        if left_out > 0 || is_cut {
            let note = match left_out {
                0 => "(cut to fit: --wide)".to_owned(),
                1 => "(1 more column: --wide)".to_owned(),
                more => format!("({more} more columns: --wide)"),
            };
            out.push_str(&paint(&note, Tone::Faint, look.colours));
            out.push('\n');
        }
        out
    }

    /// Of those that can stay whole.
    fn longest_word(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells
            .flat_map(|(text, _)| text.split(' '))
            .map(|word| word.chars().count())
            .filter(|length| *length <= LONGEST_WORD)
            .max()
            .unwrap_or(0)
    }

    /// Width of each column that is shown; fewer than `shown` where there is no room for all of them.
    fn widths(&self, shown: &[usize], look: Look) -> Vec<usize> {
        let cell =
            |row: &Vec<(String, Tone)>, column: usize| row.get(column).map_or(0, |(text, _)| text.chars().count());
        let natural = |column: usize| {
            let head = self.head[column].chars().count();
            self.rows.iter().map(|row| cell(row, column)).fold(head, usize::max)
        };
        let mut widths: Vec<usize> = shown.iter().map(|column| natural(*column)).collect();
        let Some(room) = look.width.filter(|_| !look.wide) else { return widths };
        let narrowest = |place: usize, width: usize| width.min(NARROWEST.max(self.head[shown[place]].chars().count()));
        let total = |widths: &[usize]| widths.iter().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP);
        let mut least: Vec<usize> = widths.iter().enumerate().map(|(place, width)| narrowest(place, *width)).collect();
        while widths.len() > 1 && total(&least[..widths.len()]) > room {
            widths.pop();
        }
        // Words of the last column stay whole, if the others can make room.
        if let Some(last) = least.len().min(widths.len()).checked_sub(1) {
            let word = self.longest_word(shown[last]).max(least[last]).min(widths[last]);
            let others = total(&least[..last]) + if last > 0 { GAP } else { 0 };
            least[last] = word.min(room.saturating_sub(others)).max(least[last]);
        }
        // The widest gives way first.
        while total(&widths) > room {
            let widest =
                (0..widths.len()).filter(|place| widths[*place] > least[*place]).max_by_key(|place| widths[*place]);
            let Some(widest) = widest else { break };
            widths[widest] -= 1;
        }
        widths
    }
}

/// Text in lines of at most `width` characters, broken at blanks where there are any, else behind what separates parts of a
/// name.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > width {
        let blank = rest[..=width].iter().rposition(|c| *c == ' ').filter(|at| *at > 0);
        let separator =
            || rest[..width].iter().rposition(|c| matches!(c, '.' | '-' | '/' | ':' | ',' | '=')).map(|at| at + 1);
        let end = blank.or_else(separator).unwrap_or(width);
        lines.push(rest[..end].iter().collect::<String>().trim_end().to_owned());
        rest.drain(..end);
        let blanks = rest.iter().take_while(|c| **c == ' ').count();
        rest.drain(..blanks);
    }
    lines.push(rest.into_iter().collect());
    lines
}

/// Text that takes at most `width` characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "STATE", "PLACE", "REASON"]).only_wide(&["PLACE"]);
        for (name, reason) in
            [("shop/orders", "it was told so by somebody else"), ("shop/a-name-that-is-rather-long", "")]
        {
            table.row(&[name, "ok", "here", reason].map(|text| (text, Tone::Plain)));
        }
        table
    }

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn tables_are_aligned_escaped_and_plain_without_a_terminal() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(&[("a\u{1b}[2J", Tone::Plain), ("refused", Tone::Bad)]);
        table.row(&[("long-long-name", Tone::Plain), ("", Tone::Plain)]);
        assert_eq!(table.render(Look::default()), "NAME            STATE\na\\u{1b}[2J      refused\nlong-long-name\n");
        let coloured = Look { colours: true, ..Look::default() };
        assert!(table.render(coloured).contains("\u{1b}[1;31mrefused\u{1b}[0m"));
    }

    #[test]
    fn a_table_fits_the_terminal_and_says_what_it_leaves_out() {
        for width in 12..=120 {
            let shown = table().render(Look { width: Some(width), ..Look::default() });
            let note = shown.lines().position(|line| line.ends_with("--wide)"));
            let body: Vec<&str> = shown.lines().take(note.unwrap_or(usize::MAX)).collect();
            assert!(body.iter().all(|line| line.chars().count() <= width), "{width}:\n{shown}");
            assert_eq!(note.is_some(), !shown.contains("REASON") || shown.contains('…'), "{width}:\n{shown}");
            if shown.contains("REASON") {
                let words: Vec<&str> = shown.split_whitespace().collect();
                for word in "it was told so by somebody else".split(' ').filter(|word| word.len() <= NARROWEST) {
                    assert!(words.contains(&word), "{word} at {width}:\n{shown}");
                }
            }
        }
        let natural = table().render(Look::default());
        assert_eq!(table().render(Look { width: Some(widest(&natural)), ..Look::default() }), natural);
        let narrower = table().render(Look { width: Some(widest(&natural) - 1), ..Look::default() });
        assert!(narrower.lines().count() == natural.lines().count() + 1 && !narrower.contains('…'), "{narrower}");
    }

    #[test]
    fn text_is_broken_at_blanks_and_nothing_of_it_is_lost() {
        assert_eq!(wrap("useradd --system brattice-engine", 16), ["useradd --system", "brattice-engine"]);
        assert_eq!(wrap("brattice-engine", 8), ["brattice", "-engine"]);
        assert_eq!(wrap("orders.shop.internal", 14), ["orders.shop.", "internal"]);
        assert_eq!(wrap("", 8), [""]);
        for width in 1..40 {
            let lines = wrap("if there is no user, make one:  useradd --system brattice-engine", width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:?}");
            let all: String = lines.concat().replace(' ', "");
            assert_eq!(all, "ifthereisnouser,makeone:useradd--systembrattice-engine");
        }
    }

    #[test]
    fn words_of_the_last_column_stay_whole_where_others_can_give_way() {
        let mut table = Table::new(&["SERVICE", "STATUS", "VIP", "LISTENERS", "TARGETS", "NAMES"]);
        let row = [
            "shop/orders",
            "ACTIVE",
            "169.254.64.32",
            "80/HTTP",
            "1/1",
            "orders.shop.internal o.shop.internal orders-svc-e1o4wcqj3hq8d3k4h.svc.brattice.internal",
        ];
        table.row(&row.map(|text| (text, Tone::Plain)));
        for width in 70..=120 {
            let shown = table.render(Look { width: Some(width), ..Look::default() });
            let whole = |name: &str| shown.split_whitespace().any(|word| word == name);
            assert!(width < 80 || whole("shop/orders") && whole("169.254.64.32"), "{width}:\n{shown}");
            assert!(whole("orders.shop.internal") && whole("o.shop.internal"), "{width}:\n{shown}");
        }
    }

    #[test]
    fn wide_shows_every_column_and_cuts_nothing() {
        let shown = table().render(Look { width: Some(20), wide: true, colours: false });
        for word in ["PLACE", "here", "it was told so by somebody else", "shop/a-name-that-is-rather-long"] {
            assert!(shown.contains(word), "{word}:\n{shown}");
        }
        assert!(!table().render(Look::default()).contains("PLACE"));
    }
}
