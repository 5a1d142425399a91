//! The parser's complaints in words of who writes documents: what is wrong, where it begins, and what to do.

use super::tree::Mark;

/// What is said of a text that is no YAML.
pub(super) struct Said {
    pub(super) mark: Mark,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// `info` is what the parser says, `mark` where it stopped.
pub(super) fn say(text: &str, mark: Mark, info: &str) -> Said {
    let said = |mark: Mark, message: &str, help| Said { mark, message: format!("not YAML: {message}"), help };
    if let Some(mark) = tab(text, mark.line) {
        return said(mark, "a tab in the indentation", "indent with blanks; YAML takes no tabs there");
    }
    let has = |words: &[&str]| words.iter().any(|word| info.contains(word));
    if has(&[
        "quoted scalar, found unexpected end",
        "quoted scalar, found unexpected document",
        "indentation in quoted scalar",
    ]) {
        return said(
            mark,
            "a quote that is never closed",
            "close the quote; a quote inside of a text is written twice, or \\\"",
        );
    }
    if has(&["escape", "hexadecimal"]) {
        let help = "within double quotes a backslash begins an escape; use single quotes, or write it twice";
        return said(mark, "a backslash that YAML does not know", help);
    }
    if let Some((mark, open)) = unclosed(text)
        && has(&["flow", "unexpected eof", "expected key", "node content", "stream", "simple key"])
    {
        let (message, help) = if open == '{' {
            ("`{` is never closed", "add the `}` that belongs to it")
        } else {
            ("`[` is never closed", "add the `]` that belongs to it")
        };
        return said(mark, message, help);
    }
    if has(&["mapping values are not allowed", "illegal placement of ':'"]) {
        let help = "quote the value if `: ` is part of it; else check that this line is indented like its neighbours";
        return said(mark, "a `: ` where no field can begin", help);
    }
    if has(&["expected '-' indicator", "sequence entries are not allowed"]) {
        let help = "all items of a list begin with `- ` in the same column";
        return said(mark, "this line is no item of the list before it", help);
    }
    if has(&["expected key", "invalid indentation", "wrongly indented", "simple key", "indentation"]) {
        let help = "fields of one mapping begin in the same column, and each has a `:` followed by a blank";
        return said(mark, "this line does not fit to the ones before it", help);
    }
    if has(&["document start", "document end"]) {
        return said(mark, "something that belongs to no document", "put a line `---` between two documents");
    }
    if has(&["unexpected character", "plain scalar cannot start"]) {
        return said(mark, "a value cannot begin with this character", "quote the value");
    }
    if has(&["must be followed by"]) {
        return said(mark, "a blank is missing here", "write a blank behind `:` and `-`");
    }
    said(mark, info, "compare it with an example; an editor that knows YAML shows where it breaks")
}

/// A tab before the first character of this line, or of one beside it.
fn tab(text: &str, line: u32) -> Option<Mark> {
    let of = |line: u32| {
        let content = crate::diagnostic::nth_line(text, line)?;
        let indent: Vec<char> = content.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
        let column = indent.iter().position(|c| *c == '\t')?;
        let something = content.chars().nth(indent.len()).is_some_and(|c| c != '#');
        something.then_some(Mark { line, column: u32::try_from(column).ok()?.saturating_add(1), length: 1 })
    };
    // The parser may have stopped before or behind it.
    of(line).or_else(|| of(line.saturating_add(1))).or_else(|| of(line.checked_sub(1).filter(|line| *line > 0)?))
}

/// The last bracket that is not closed, outside of quotes and comments.
fn unclosed(text: &str) -> Option<(Mark, char)> {
    let mut open: Vec<(Mark, char)> = Vec::new();
    let (mut line, mut column) = (1u32, 0u32);
    let mut quote = None;
    let mut before = '\n';
    let mut comment = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\n' || c == '\r' && rest.peek() != Some(&'\n') {
            (line, column, comment) = (line.saturating_add(1), 0, false);
            before = c;
            continue;
        }
        column = column.saturating_add(1);
        match (quote, c) {
            (Some(end), _) if end == c && !(c == '"' && before == '\\') => quote = None,
            (Some(_), _) => {}
            _ if comment => {}
            (None, '#') if before.is_whitespace() => comment = true,
            // A quote within a word is none.
            (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(c),
            (None, '{' | '[') => open.push((Mark { line, column, length: 1 }, c)),
            (None, '}' | ']') => match open.last() {
                Some((_, '{')) if c == '}' => drop(open.pop()),
                Some((_, '[')) if c == ']' => drop(open.pop()),
                other => return other.copied(),
            },
            _ => {}
        }
        before = c;
    }
    open.pop()
}

#[cfg(test)]
mod tests {
    use super::super::tree::read;

    #[track_caller]
    fn says(text: &str, line: u32, message: &str, help: &str) {
        let (_, refusals) = read(text, &mut 0);
        let refusal = refusals.last().unwrap_or_else(|| panic!("{text:?} is taken"));
        assert!(refusal.message.contains(message), "{text:?}: {}", refusal.message);
        assert!(refusal.help.contains(help), "{text:?}: {} ({})", refusal.message, refusal.help);
        assert_eq!(refusal.mark.line, line, "{text:?}: {}", refusal.message);
    }

    #[test]
    fn usual_mistakes_are_told_with_their_remedy() {
        says("kind: A\nspec:\n\ta: 1\n", 3, "a tab in the indentation", "blanks");
        says("kind: A\nspec:\n  b: 2\n\ta: 1\n", 4, "a tab in the indentation", "blanks");
        says("kind: A\nspec: {a: 1, b: [1, 2}\n", 2, "`[` is never closed", "add the `]`");
        says("kind: A\nspec: {a: 1\nmetadata: x\n", 2, "`{` is never closed", "add the `}`");
        says("kind: A\r\rspec: [1, 2\r\n", 3, "`[` is never closed", "add the `]`");
        says("kind: A\nspec: [1, 2\n", 2, "`[` is never closed", "add the `]`");
        says("kind: A\nname: \"abc\nspec: 1\n", 2, "a quote that is never closed", "close the quote");
        says("kind: A\nname: a: b\n", 2, "a `: ` where no field can begin", "quote the value");
        says("kind: A\nspec:\n  a: 1\n b: 2\n", 4, "does not fit to the ones before", "same column");
        says("a: \"\\q\"\n", 1, "a backslash", "single quotes");
        says("a: @x\n", 1, "cannot begin with this character", "quote the value");
    }

    #[test]
    fn a_forgotten_separator_is_guessed() {
        let text = "kind: A\nmetadata: {name: a}\nspec: {}\nkind: B\nmetadata: {name: b}\nspec: {}\n";
        let (_, refusals) = read(text, &mut 0);
        assert!(refusals[0].message.contains("`kind` is there twice"), "{}", refusals[0].message);
        assert!(refusals[0].help.contains("`---` before it"), "{}", refusals[0].help);
        let (_, refusals) = read("spec: {kind: A, kind: B}\n", &mut 0);
        assert!(!refusals[0].help.contains("---"), "not inside of one");
    }

    #[test]
    fn utf_16_is_named() {
        let text: String = "kind: A\n".chars().flat_map(|c| [c, '\0']).collect();
        says(&text, 1, "UTF-16", "save it as UTF-8");
        says("kind: \u{1}\n", 1, "control character U+0001", "UTF-8");
    }
}
