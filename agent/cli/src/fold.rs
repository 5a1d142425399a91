//! Lines of prose that fit the terminal: broken at blanks, and further lines are indented below the first.

use crate::look::Look;

/// Blanks by which further lines are indented more than the first, where it has no label.
const INDENT: usize = 2;
/// A label with blanks behind it is not longer than this.
const LONGEST_LABEL: usize = 24;

/// Text whose lines fit the terminal, if there is one and not everything is wanted as it is. A word that is longer than a line
/// stays whole: it may be a path or a command to copy.
pub(crate) fn fold(text: &str, look: Look) -> String {
    let Some(width) = look.width.filter(|_| !look.wide) else { return text.to_owned() };
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches('\n');
        if seen(content) <= width || is_excerpt(content) {
            out.push_str(line);
        } else {
            one(&mut out, content, width);
            out.push_str(&line[content.len()..]);
        }
    }
    out
}

fn one(out: &mut String, line: &str, width: usize) {
    let hang = hang(line).min(width / 2);
    // What the line begins with is no gap between words.
    let words = line.trim_start_matches(' ');
    out.push_str(&line[..line.len() - words.len()]);
    let mut column = line.len() - words.len();
    let mut gap = "";
    let mut rest = words;
    while !rest.is_empty() {
        let end = rest.find(' ').unwrap_or(rest.len());
        let (word, more) = rest.split_at(end);
        let next = more.trim_start_matches(' ');
        if !gap.is_empty() && column + gap.len() + seen(word) > width {
            out.push('\n');
            out.push_str(&" ".repeat(hang));
            column = hang;
        } else {
            out.push_str(gap);
            column += gap.len();
        }
        out.push_str(word);
        column += seen(word);
        gap = &more[..more.len() - next.len()];
        rest = next;
    }
}

/// The column of further lines: that of the text behind a label, else a little more than the line's own.
fn hang(line: &str) -> usize {
    let plain = plain(line);
    let indent = plain.chars().take_while(|c| *c == ' ').count();
    let label = plain[indent..].find("  ").map(|at| {
        let blanks = plain[indent + at..].chars().take_while(|c| *c == ' ').count();
        plain[..indent + at].chars().count() + blanks
    });
    label.filter(|column| *column <= LONGEST_LABEL).unwrap_or(indent + INDENT)
}

/// A line of a document with its number, or what points at a part of it.
fn is_excerpt(line: &str) -> bool {
    plain(line).trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|')
}

/// Columns that a text takes.
fn seen(text: &str) -> usize {
    plain(text).chars().count()
}

/// Without colours.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::look::{Tone, paint};

    fn at(width: usize) -> Look {
        Look { width: Some(width), ..Look::default() }
    }

    #[test]
    fn lines_are_broken_at_blanks_below_their_text() {
        assert_eq!(fold("  ! one two three four\nnext\n", at(14)), "  ! one two\n    three four\nnext\n");
        assert_eq!(fold("engine    running, process 7\n", at(20)), "engine    running,\n          process 7\n");
        assert_eq!(fold("a /path/that/is/longer/than/that b\n", at(12)), "a\n  /path/that/is/longer/than/that\n  b\n");
        assert_eq!(fold("12 | a: b c d e f g h i j k\n", at(10)), "12 | a: b c d e f g h i j k\n");
        let text = "one two three four five six";
        assert_eq!(fold(text, Look::default()), text);
        assert_eq!(fold(text, Look { wide: true, ..at(10) }), text);
    }

    #[test]
    fn nothing_is_lost_and_colours_take_no_room() {
        let text =
            format!("{}: the service  shop/orders has no target that can be reached", paint("DENIED", Tone::Bad, true));
        for width in 12..=80 {
            let shown = fold(&text, at(width));
            let words: Vec<&str> = shown.split_whitespace().collect();
            assert_eq!(words, text.split_whitespace().collect::<Vec<_>>(), "{width}");
            assert!(shown.lines().all(|line| seen(line) <= width || line.trim().split(' ').count() == 1), "{shown}");
        }
        assert!(fold(&text, at(62)).contains('\n') && !fold(&text, at(seen(&text))).contains('\n'));
    }
}
