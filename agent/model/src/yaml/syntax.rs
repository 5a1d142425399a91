//! Errors of texts that are no YAML, for authors of documents: what is wrong, where it begins, and what to do. The
//! parser's own messages are about its internals, and their place is often behind the mistake; none of them is shown.

use super::mark::{Mark, counted, index};
use crate::diagnostic::nth_line;

/// The error of a text that is no YAML.
#[derive(Debug)]
pub(super) struct Explained {
    pub(super) mark: Mark,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// `info` is what the parser says, `mark` where it stopped.
pub(super) fn explain(text: &str, mark: Mark, info: &str) -> Explained {
    let (mark, message, help) = if let Some((mark, blank)) = unusual_blank(text, mark.line) {
        (mark, unusual(blank), UNUSUAL_HELP)
    } else if let Some(mark) = tab(text, mark.line) {
        (mark, TAB.0.to_owned(), TAB.1)
    } else {
        Broken { text, mark }.explain(info)
    };
    Explained { mark, message: format!("not YAML: {message}"), help }
}

/// So far above the mark the line before it is looked for, lines.
const LOOK_BACK: usize = 20;

/// A message and what to do.
type Saying = (&'static str, &'static str);

const TAB: Saying = ("a tab in the indentation", "indent with blanks; YAML takes no tabs there");
pub(super) const UNUSUAL_HELP: &str =
    "delete it, and type an ordinary blank; it comes with text that is copied from web pages and word processors";
const OPEN_QUOTE: Saying = (
    "a quote that is never closed",
    "close the quote; a quote inside of a text is written twice, or \\\"; further lines of a quoted text are indented deeper than its field",
);
const BEHIND_QUOTE: Saying = (
    "text behind the closing quote",
    "a quote inside of a text in single quotes is written twice ('it''s'), in double quotes \\\"; or quote the whole value",
);
const ESCAPE: Saying = (
    "a backslash that YAML does not know",
    "within double quotes a backslash begins an escape; use single quotes, or write it twice",
);
const OPEN_BRACE: Saying = ("`{` is never closed", "add the `}` that belongs to it");
const OPEN_BRACKET: Saying = ("`[` is never closed", "add the `]` that belongs to it");
const MISSING_COMMA: Saying =
    ("a `,` is missing before this", "fields within `{…}` and items within `[…]` are separated by `, `");
const SPARE_COMMA: Saying = ("a `,` with nothing before it", "take it away, or write what is missing");
const BEHIND_BRACKET: Saying =
    ("text behind the closing bracket", "take it away; quote the whole value if the brackets are part of a text");
const SPARE_COLON: Saying = (
    "a `: ` where no field can begin",
    "quote the value if `: ` is part of it; else check that this line is indented like its neighbours",
);
const NO_COLON: Saying =
    ("this line has no `: `", "a field is `name: value`, a list item `- value`; write a blank behind the `:` or `-`");
const DEEPER: Saying = (
    "this line is indented deeper than the field before it, which has a value already",
    "fields of one mapping begin in the same column; if this belongs to the field before, take that one's value away",
);
const UNLIKE_NEIGHBOURS: Saying = (
    "this line does not fit to the ones before it",
    "fields of one mapping begin in the same column, and each has a `:` followed by a blank",
);
const ITEM_AMONG_FIELDS: Saying = (
    "a list item among the fields of a mapping",
    "the items of a list stand below a field that ends in `:`, and all begin in the same column",
);
const FIELD_AMONG_ITEMS: Saying =
    ("this line is no item of the list before it", "all items of a list begin with `- ` in the same column");
const ITEM_HERE: Saying = (
    "a list item `- ` where none can begin",
    "a list begins on the line below its field, or is written `[a, b]`; quote a text that begins with `- `",
);
const FLOW_INDENT: Saying = (
    "a line within `{…}` or `[…]` that is not indented",
    "indent all lines up to the closing bracket deeper than the field that they belong to",
);
const BLOCK_HEADER: Saying = (
    "text behind `>` or `|`",
    "they begin a text that stands on the lines below, indented; quote a value that only begins with such a character",
);
const BLOCK_INDENT: Saying = (
    "a text below `>` or `|` that is not indented like its first line",
    "indent all of its lines alike, and deeper than its field",
);
const COMMENT_BLANK: Saying =
    ("a blank is missing before `#`", "write ` #` for a comment; quote the value if `#` is part of it");
const COMMENT_INSIDE: Saying = (
    "a comment in the middle of a text of several lines",
    "move the comment, or quote the text; if the next line is a field, give it a `: ` and the column of its neighbours",
);
const NO_BLANK: Saying = ("a blank is missing here", "write a blank behind `:` and `-`");
const DASH: Saying = ("a lone `-` is no value", "write the item behind it, or quote it: '-'");
const QUESTION: Saying = ("`? ` is no field", "a field is `name: value`; quote a value that begins with `?`");
const STAR: Saying = ("a value cannot begin with `*` or `&`", "quote it: \"*\"; anchors and aliases are not used here");
const TAG: Saying = ("a value cannot begin with `!`", "quote it; tags are not used here");
const DIRECTIVE: Saying =
    ("a line that begins with `%`", "leave it out: documents need no directives; quote a value that begins with `%`");
const NO_DOCUMENT: Saying = ("something that belongs to no document", "put a line `---` between two documents");
const BEHIND_MARKER: Saying =
    ("text behind `---` or `...`", "these stand alone on their line; begin the document on the next one");
const BYTE_ORDER_MARK: Saying = (
    "a byte order mark (U+FEFF) within the text, an invisible character",
    "delete it; files that were put together have one where each begins",
);
const DEEP: Saying = ("nested too deep", "no document needs as many levels");
const CONTROL: Saying = ("a control character", "is this a text file in UTF-8?");
const CUT_SHORT: Saying = (
    "it cannot be understood from here on",
    "compare it with an example (`brattice init` writes some): indentation, quotes and brackets up to here",
);

const CONFLICT: Saying = (
    "a conflict that git could not merge",
    "decide between the lines above and below `=======`, and delete the lines of `<<<<<<<`, `=======` and `>>>>>>>`",
);
const TEMPLATE: Saying = (
    "a template (`{{…}}`), as Helm and Jinja have them",
    "put what the template makes into the policies directory (`helm template …`)",
);

/// A text and where the parser stopped.
struct Broken<'t> {
    text: &'t str,
    mark: Mark,
}

impl Broken<'_> {
    fn explain(&self, info: &str) -> (Mark, String, &'static str) {
        if let Some(found) = info.strip_prefix("unexpected character: `").and_then(|rest| rest.chars().next()) {
            return (self.mark, format!("a value cannot begin with this character (`{found}`)"), "quote the value");
        }
        let (mark, (message, help)) = self.foreign().unwrap_or_else(|| self.saying(info));
        (mark, message.to_owned(), help)
    }

    /// A line of another language than YAML, if the parser stopped at one or behind it.
    fn foreign(&self) -> Option<(Mark, Saying)> {
        let here = nth_line(self.text, self.mark.line).map(|line| (self.mark.line, line));
        self.previous().into_iter().chain(here).find_map(|(number, line)| {
            let conflict =
                ["<<<<<<< ", "||||||| ", "=======", ">>>>>>> "].iter().any(|marker| line.starts_with(marker));
            // `a: {{ b }}` is told as text behind a bracket.
            let saying = match line.trim_start().starts_with("{{") {
                _ if conflict => CONFLICT,
                true => TEMPLATE,
                false => return None,
            };
            let column = width(indent(line)).saturating_add(1);
            Some((Mark { line: number, column, length: width(line.trim()) }, saying))
        })
    }

    /// By the parser's message; each that it has is named here (see the test).
    fn saying(&self, info: &str) -> (Mark, Saying) {
        let saying = match info {
            "while scanning a quoted scalar, found unexpected end of stream"
            | "while scanning a quoted scalar, found unexpected document indicator"
            | "invalid indentation in quoted scalar" => OPEN_QUOTE,
            "invalid trailing content after double-quoted scalar" => return self.behind_quote(),
            "while parsing a quoted scalar, found unknown escape character"
            | "while parsing a quoted scalar, did not find expected hexadecimal number"
            | "while parsing a quoted scalar, found invalid Unicode character escape code" => ESCAPE,

            "misplaced bracket" => return (self.mark, self.spare_bracket()),
            "while parsing a flow mapping, did not find expected ',' or '}'"
            | "while parsing a flow sequence, expected ',' or ']'"
            | "illegal placement of ':' indicator" => return self.flow(MISSING_COMMA),
            "\"-\" is only valid inside a block" => return self.flow(ITEM_HERE),
            "invalid indentation" | "invalid indentation in flow construct" => return self.flow(FLOW_INDENT),
            "while parsing a node, did not find expected node content" => return self.nothing(),
            "plain scalar cannot start with '-' followed by ,[]{}" => DASH,
            "':' may not precede any of `[{` in flow mapping"
            | "':' must be followed by a valid YAML whitespace"
            | "'-' must be followed by a valid YAML whitespace"
            | "expected whitespace" => NO_BLANK,

            "while parsing a block mapping, did not find expected key" => return self.no_key(),
            "mapping values are not allowed in this context" => return self.colon(),
            "simple key expect ':'" | "simple key expected" => {
                return self.no_colon().unwrap_or((self.mark, UNLIKE_NEIGHBOURS));
            }
            "while parsing a block collection, did not find expected '-' indicator" => FIELD_AMONG_ITEMS,
            "block sequence entries are not allowed in this context" | "invalid indentation for anchor" => ITEM_HERE,
            "mapping keys are not allowed in this context" => QUESTION,

            "while scanning a block scalar, did not find expected comment or line break"
            | "while scanning a block scalar, found an indentation indicator equal to 0" => BLOCK_HEADER,
            "wrongly indented line in block scalar" => BLOCK_INDENT,
            "a block scalar content cannot start with a tab"
            | "tab cannot be used as indentation"
            | "tabs disallowed in this context"
            | "tabs disallowed within this context (block indentation)"
            | "while scanning a plain scalar, found a tab" => TAB,
            "comments must be separated from other tokens by whitespace" => COMMENT_BLANK,
            "comment intercepting the multiline text" => COMMENT_INSIDE,

            "did not find expected <document start>"
            | "did not find expected <document-start>"
            | "missing explicit document end marker before directive" => return (self.mark, self.outside()),
            "invalid content after document end marker" => BEHIND_MARKER,
            "a byte order mark must not appear inside a document" => BYTE_ORDER_MARK,
            "found unprintable character" => CONTROL,
            "recursion limit exceeded" => DEEP,
            "duplicate version directive" | "found incompatible YAML document" => DIRECTIVE,
            _ if info.contains("directive") || info.contains("TAG") => DIRECTIVE,
            _ if info.contains("anchor") => STAR,
            _ if info.contains("tag") || info == "the handle wasn't declared" => TAG,

            "unexpected eof"
            | "unexpected end of plain scalar"
            | "did not find expected next token"
            | "did not find expected <stream-start>" => return self.flow(CUT_SHORT),
            // A later version of the parser may have more.
            _ => CUT_SHORT,
        };
        (self.mark, saying)
    }

    /// The bracket that is open there, else this.
    fn flow(&self, otherwise: Saying) -> (Mark, Saying) {
        match unclosed(self.text) {
            Some((mark, '{')) => (mark, OPEN_BRACE),
            Some((mark, _)) => (mark, OPEN_BRACKET),
            None if self.at(0) == Some(':') => (self.begin_of_word(), otherwise),
            None => (self.mark, otherwise),
        }
    }

    fn behind_quote(&self) -> (Mark, Saying) {
        let apart = self.at(-1).is_some_and(char::is_whitespace);
        if apart && unclosed(self.before()).is_some() { (self.mark, MISSING_COMMA) } else { (self.mark, BEHIND_QUOTE) }
    }

    fn spare_bracket(&self) -> Saying {
        if self.at(0) == Some(']') {
            ("`]` closes nothing", "take it away, or add the `[` that belongs to it; quote it if it is part of a text")
        } else {
            ("`}` closes nothing", "take it away, or add the `{` that belongs to it; quote it if it is part of a text")
        }
    }

    /// A value is missing.
    fn nothing(&self) -> (Mark, Saying) {
        if self.at(0) != Some(',') {
            return self.flow(CUT_SHORT);
        }
        let within = unclosed(self.before()).is_some();
        (self.mark, if within { SPARE_COMMA } else { ("a value cannot begin with `,`", "quote the value") })
    }

    /// Something else where a field should begin.
    fn no_key(&self) -> (Mark, Saying) {
        let line = nth_line(self.text, self.mark.line).unwrap_or_default();
        let before = line.get(..self.offset(line)).unwrap_or_default().trim_end();
        if before.ends_with(['}', ']']) {
            return (self.mark, BEHIND_BRACKET);
        }
        let begin = Mark { column: width(indent(line)).saturating_add(1), ..self.mark };
        if is_item(line) {
            return (begin, ITEM_AMONG_FIELDS);
        }
        if self.is_deeper(line) {
            return (begin, DEEPER);
        }
        match self.flow(UNLIKE_NEIGHBOURS) {
            // An open bracket far above is part of a text: the parser was in no brackets.
            (mark, _) if mark.line < self.mark.line => (self.mark, UNLIKE_NEIGHBOURS),
            found => found,
        }
    }

    /// A `:` that is no field's.
    fn colon(&self) -> (Mark, Saying) {
        let line = nth_line(self.text, self.mark.line).unwrap_or_default();
        let before = line.get(..self.offset(line)).unwrap_or_default();
        if before.starts_with("---") {
            return (self.mark, BEHIND_MARKER);
        }
        if before.contains(": ") || before.contains(":\t") {
            return (self.mark, SPARE_COLON);
        }
        if self.is_deeper(line) {
            return (Mark { column: width(indent(line)).saturating_add(1), ..self.mark }, DEEPER);
        }
        self.no_colon().unwrap_or((self.mark, SPARE_COLON))
    }

    /// The line before this one, if it should be a field or item and is none.
    fn no_colon(&self) -> Option<(Mark, Saying)> {
        let (number, line) = self.previous()?;
        let content = line.trim();
        let is_field = content.ends_with(':') || content.contains(": ");
        let column = width(indent(line)).saturating_add(1);
        (!is_field && !is_item(line)).then_some((Mark { line: number, column, length: width(content) }, NO_COLON))
    }

    /// Whether the line before has a value and is indented less.
    fn is_deeper(&self, line: &str) -> bool {
        let Some((_, previous)) = self.previous() else { return false };
        let value = previous.split_once(": ").map(|(_, value)| value.trim());
        let has_value = value.is_some_and(|value| !value.is_empty() && !value.starts_with(['#', '|', '>']));
        has_value && indent(line).len() > indent(previous).len()
    }

    /// What stands between documents.
    fn outside(&self) -> Saying {
        let up_to = index(self.mark.line);
        let directive = self.text.lines().take(up_to).any(|line| line.starts_with('%'));
        if directive { DIRECTIVE } else { NO_DOCUMENT }
    }

    /// The last line above that says something.
    fn previous(&self) -> Option<(u32, &str)> {
        (1..self.mark.line).rev().take(LOOK_BACK).find_map(|number| {
            let line = nth_line(self.text, number)?;
            let content = line.trim_start();
            (!content.is_empty() && !content.starts_with('#')).then_some((number, line))
        })
    }

    /// The text up to the mark.
    fn before(&self) -> &str {
        let line = nth_line(self.text, self.mark.line).unwrap_or_default();
        // A line is a part of the text.
        let start = line.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        self.text.get(..start + self.offset(line)).unwrap_or_default()
    }

    /// Where the mark is within its line, in bytes.
    fn offset(&self, line: &str) -> usize {
        let characters = index(self.mark.column.saturating_sub(1));
        line.char_indices().nth(characters).map_or(line.len(), |(index, _)| index)
    }

    /// The character so far from the mark, on its line.
    fn at(&self, distance: i64) -> Option<char> {
        let index = i64::from(self.mark.column) - 1 + distance;
        nth_line(self.text, self.mark.line)?.chars().nth(usize::try_from(index).ok()?)
    }

    /// The place of the word that ends at the mark.
    fn begin_of_word(&self) -> Mark {
        let back = (1..i64::from(self.mark.column))
            .take_while(|back| self.at(-back).is_some_and(|c| !c.is_whitespace() && !matches!(c, ',' | '{' | '[')));
        let length = counted(back.count());
        Mark { column: self.mark.column - length, length: length.max(1), ..self.mark }
    }
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches(' ').len()]
}

fn is_item(line: &str) -> bool {
    let content = line.trim();
    content == "-" || content.starts_with("- ")
}

fn width(text: &str) -> u32 {
    counted(text.chars().count())
}

/// Whether it looks like a blank, or like nothing, and is a letter for YAML.
fn is_unusual_blank(c: char) -> bool {
    (!c.is_ascii() && c.is_whitespace() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}'))
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

/// The error text.
pub(super) fn unusual(c: char) -> String {
    let name = match c {
        '\u{a0}' => "no-break space, ",
        '\u{200b}' => "zero width space, ",
        '\u{3000}' => "ideographic space, ",
        '\u{feff}' => "byte order mark, ",
        _ => "",
    };
    format!("an unusual blank ({name}U+{:04X}), which YAML takes for a letter", u32::from(c))
}

/// An unusual blank where an ordinary one was meant, and what is before it: at the beginning or end, behind `name:`, or behind
/// the `-` of an item.
pub(super) fn misplaced_blank(text: &str) -> Option<(&str, char)> {
    let (index, blank) = text.char_indices().find(|(_, c)| is_unusual_blank(*c))?;
    let (before, rest) = (text.get(..index)?, text.get(index + blank.len_utf8()..)?);
    let item = before.chars().all(|c| matches!(c, ' ' | '-'));
    (item || before.ends_with(':') || rest.trim().is_empty()).then_some((before, blank))
}

/// One in this line or one beside it.
fn unusual_blank(text: &str, line: u32) -> Option<(Mark, char)> {
    let of = |line: u32| {
        let content = nth_line(text, line)?;
        // The parser removes the mark of a file that begins with it.
        let skipped = usize::from(line == 1 && content.starts_with('\u{feff}'));
        let (before, blank) = misplaced_blank(&content[skipped * '\u{feff}'.len_utf8()..])?;
        let column = width(before).saturating_add(1).saturating_add(u32::from(skipped == 1));
        Some((Mark { line, column, length: 1 }, blank))
    };
    of(line).or_else(|| of(line.saturating_add(1))).or_else(|| of(line.checked_sub(1).filter(|line| *line > 0)?))
}

/// A tab before the first character of this line, or of one beside it.
fn tab(text: &str, line: u32) -> Option<Mark> {
    let of = |line: u32| {
        let content = nth_line(text, line)?;
        let indent: Vec<char> = content.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
        let column = indent.iter().position(|c| *c == '\t')?;
        let something = content.chars().nth(indent.len()).is_some_and(|c| c != '#');
        something.then_some(Mark { line, column: counted(column) + 1, length: 1 })
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
mod tests;
