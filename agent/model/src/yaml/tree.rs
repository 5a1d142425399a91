//! YAML events to a tree that keeps positions. Refused here: duplicate and merge keys, anchors, aliases, tags, keys that
//! are no scalars, deep nesting, too many nodes.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::mark::{Mark, counted, index};
use super::syntax;
use crate::limits::{MAX_DEPTH, MAX_NODES_PER_OWNER};

/// A value and where it was written.
#[derive(Debug)]
pub struct Node {
    /// Where it begins.
    pub mark: Mark,
    /// The value.
    pub content: Content,
    /// Where its text lies.
    pub(crate) inside: Inside,
}

/// Where the text of a scalar lies in the file, for texts that are read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// As it is, its first character at this line and column, later lines indented by as many columns as the first.
    Lines { line: u32, column: u32 },
    /// Folded, escaped, or no scalar: only the beginning is known.
    Unknown,
}

/// The content of a node.
#[derive(Debug)]
pub enum Content {
    /// A single value, as it was written: `007` and `1.0` stay what they are.
    Scalar {
        /// Without quotes and escapes.
        text: String,
        /// Whether it was written without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order in which it was written.
    Map(Vec<(Key, Node)>),
    /// Was refused and reported; nothing more is reported about it.
    Refused,
}

/// The name of a field.
#[derive(Debug)]
pub struct Key {
    /// Without quotes and escapes.
    pub name: String,
    /// Where it was written.
    pub mark: Mark,
}

/// Something refused while reading.
#[derive(Debug)]
pub struct Refusal {
    /// Where.
    pub mark: Mark,
    /// The problem.
    pub message: String,
    /// Advice; may be empty.
    pub help: &'static str,
}

/// The documents of a file, those before a syntax error included; empty ones are left out. `nodes` counts the values of
/// all files that share the bound [`MAX_NODES_PER_OWNER`].
pub fn read(text: &str, nodes: &mut usize) -> (Vec<Node>, Vec<Refusal>) {
    if let Some(refusal) = unprintable(text) {
        return (Vec::new(), vec![refusal]);
    }
    let parser = Parser::new_from_str(text);
    let mut reader =
        Reader { parser, text, lines: Vec::new(), refusals: Vec::new(), nodes, last: Mark::START, end: end_of(text) };
    let mut documents = Vec::new();
    if let Err(stop) = reader.documents(&mut documents) {
        reader.refusals.push(stop);
    }
    (documents, reader.refusals)
}

/// YAML allows no control characters but tab and line ends. The parser takes NUL for the end: what follows would be
/// silently left out.
fn unprintable(text: &str) -> Option<Refusal> {
    let bad = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    let index = text.find(bad)?;
    let found = text[index..].chars().next().map_or(0, u32::from);
    if found == 0 && text.chars().skip(1).step_by(2).take(8).all(|c| c == '\0') {
        let message = "not YAML: it is written in UTF-16".to_owned();
        return Some(Refusal { mark: end_of(&text[..index]), message, help: "save it as UTF-8" });
    }
    let message = format!("not YAML: it has the control character U+{found:04X}");
    Some(Refusal { mark: end_of(&text[..index]), message, help: "is this a text file in UTF-8?" })
}

/// The place behind the last character. The parser takes a text for one line longer than it is, and puts what is
/// missing at the end there.
fn end_of(text: &str) -> Mark {
    let mut line = 1;
    let mut start = 0;
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' || (*byte == b'\r' && bytes.get(index + 1) != Some(&b'\n')) {
            line += 1;
            start = index + 1;
        }
    }
    let width = text.get(start..).map_or(0, |rest| rest.chars().count());
    Mark { line, column: counted(width) + 1, length: 1 }
}

/// The place, or the end of its line if it lies beyond: where the parser stops, it may have counted a character twice.
fn on_its_line(text: &str, mark: Mark) -> Mark {
    let mut rest = text;
    for _ in 1..mark.line {
        let Some(end) = rest.find(['\n', '\r']) else { return mark };
        rest = &rest[end..];
        rest = rest.strip_prefix("\r\n").unwrap_or_else(|| &rest[1..]);
    }
    let width = rest.split(['\n', '\r']).next().map_or(0, |line| line.chars().count());
    let last = counted(width) + 1;
    Mark { column: mark.column.min(last), ..mark }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    /// Byte offsets of the lines, made at the first use.
    lines: Vec<usize>,
    refusals: Vec<Refusal>,
    nodes: &'t mut usize,
    last: Mark,
    end: Mark,
}

/// A scalar's content as a null of YAML's core schema.
pub fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Mark), Refusal> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.last = Mark::of(span).at_most(self.end);
                Ok((event, self.last))
            }
            Some(Err(error)) => {
                let marker = error.marker();
                let mark = on_its_line(self.text, Mark::of(Span::empty(*marker)).at_most(self.end));
                let syntax::Explained { mark, message, help } = syntax::explain(self.text, mark, error.info());
                Err(Refusal { mark, message, help })
            }
            None => Err(Refusal { mark: self.last, message: "not YAML: unexpected end".into(), help: "" }),
        }
    }

    fn documents(&mut self, documents: &mut Vec<Node>) -> Result<(), Refusal> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), mark) => self.count(mark)?,
                (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
                (event, mark) => {
                    let node = self.node(event, mark, 0)?;
                    if let Content::Scalar { text, plain: true } = &node.content {
                        self.unusual_blank(text, node.mark);
                    }
                    let empty = matches!(&node.content, Content::Scalar { text, plain: true } if is_null(text));
                    if !empty {
                        documents.push(node);
                    }
                }
            }
        }
    }

    fn refuse(&mut self, mark: Mark, message: impl Into<String>, help: &'static str) {
        // Later ones would not be shown.
        if self.refusals.len() <= crate::limits::MAX_DIAGNOSTICS {
            self.refusals.push(Refusal { mark, message: message.into(), help });
        }
    }

    /// Refuses the name of a field that has an unusual blank where an ordinary one was meant. Whether it did.
    fn unusual_blank(&mut self, name: &str, mark: Mark) -> bool {
        let Some((before, blank)) = syntax::misplaced_blank(name) else { return false };
        let column = counted(before.chars().count()) + mark.column;
        let message = format!("not YAML: {}", syntax::unusual(blank));
        self.refuse(Mark { column, length: 1, ..mark }, message, syntax::UNUSUAL_HELP);
        true
    }

    fn count(&mut self, mark: Mark) -> Result<(), Refusal> {
        *self.nodes += 1;
        if *self.nodes <= MAX_NODES_PER_OWNER {
            return Ok(());
        }
        let message = format!("more than {MAX_NODES_PER_OWNER} YAML nodes in the files of one owner");
        Err(Refusal { mark, message, help: "divide the documents among several accounts" })
    }

    fn node(&mut self, event: Event<'t>, mark: Mark, depth: usize) -> Result<Node, Refusal> {
        self.count(mark)?;
        if depth > MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Refusal { mark, message, help: "no document needs as many" });
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.as_ref()),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => (*anchor, tag.as_ref()),
            _ => (0, None),
        };
        let refused = anchor != 0 || tag.is_some();
        if anchor != 0 {
            self.refuse(mark, "anchors are not used here", "write the value out where it is needed");
        }
        if tag.is_some() {
            self.refuse(mark, "tags are not used here", "leave the tag out; quote a value to make it a string");
        }
        let mut inside = Inside::Unknown;
        let content = match event {
            Event::Scalar(text, style, ..) => {
                inside = self.inside(&text, style, mark);
                Content::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            _ => {
                self.refuse(mark, "aliases are not used here", "write the value out where it is needed");
                Content::Refused
            }
        };
        Ok(Node { mark, content: if refused { Content::Refused } else { content }, inside })
    }

    /// Where the text of a scalar lies.
    fn inside(&mut self, content: &str, style: ScalarStyle, mark: Mark) -> Inside {
        // Only texts with lines of their own, or long ones, are read further.
        if style == ScalarStyle::Folded || !content.trim_start().starts_with(['{', '[']) {
            return Inside::Unknown;
        }
        let mut at = mark;
        if style == ScalarStyle::Literal {
            // Empty lines may lie before the first one that can be found again, and the header before them.
            let empty = content.lines().take_while(|line| line.trim().is_empty()).count();
            let first = content.lines().nth(empty).unwrap_or_default();
            while self.line(at.line).is_some_and(|line| !line.ends_with(first)) {
                at.line += 1;
            }
            let Some(line) = self.line(at.line) else { return Inside::Unknown };
            let indent = line.chars().count() - first.chars().count().min(line.chars().count());
            at.line = at.line.saturating_sub(counted(empty));
            return Inside::Lines { line: at.line, column: counted(indent) + 1 };
        }
        let quote = u32::from(style != ScalarStyle::Plain);
        let skip = index(at.column - 1 + quote);
        let as_written = self.line(at.line).is_some_and(|line| {
            let mut rest = line.chars().skip(skip);
            content.chars().all(|c| rest.next() == Some(c))
        });
        if as_written { Inside::Lines { line: at.line, column: at.column + quote } } else { Inside::Unknown }
    }

    /// A line of the text, without its end.
    fn line(&mut self, number: u32) -> Option<&'t str> {
        if self.lines.is_empty() {
            let bytes = self.text.as_bytes();
            let ends = |index: &usize| {
                bytes[*index] == b'\n' || (bytes[*index] == b'\r' && bytes.get(index + 1) != Some(&b'\n'))
            };
            self.lines.push(0);
            self.lines.extend((0..bytes.len()).filter(ends).map(|index| index + 1));
        }
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let start = *self.lines.get(index)?;
        let end = self.lines.get(index + 1).copied().unwrap_or(self.text.len());
        Some(self.text.get(start..end)?.trim_end_matches(['\n', '\r']))
    }

    fn list(&mut self, depth: usize) -> Result<Content, Refusal> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Content::List(items)),
                (event, mark) => items.push(self.node(event, mark, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Content, Refusal> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, Mark> = HashMap::new();
        loop {
            let (event, mark) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Content::Map(entries)),
                pair => pair,
            };
            let key = self.node(event, mark, depth + 1)?;
            let (event, mark) = self.next()?;
            let value = self.node(event, mark, depth + 1)?;
            let (name, plain) = match key.content {
                Content::Scalar { text, plain } => (text, plain),
                Content::Refused => continue,
                Content::List(_) | Content::Map(_) => {
                    self.refuse(key.mark, "a key is a name, not a list or mapping", "");
                    continue;
                }
            };
            if plain && self.unusual_blank(&name, key.mark) {
                continue;
            }
            if plain && name == "<<" {
                self.refuse(key.mark, "merge keys are not used here", "write the fields out");
                continue;
            }
            if plain && is_null(&name) {
                self.refuse(key.mark, "a key has no name", "");
                continue;
            }
            if let Some(first) = seen.get(&name) {
                let message = format!(
                    "the key {} is there twice; first at line {}, column {}",
                    crate::diagnostic::quote(&name),
                    first.line,
                    first.column
                );
                let begins = depth == 0 && matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "spec");
                let help = if begins {
                    "keep one of them; if another document begins here, put a line `---` before it"
                } else {
                    "keep one of them"
                };
                self.refuse(key.mark, message, help);
                continue;
            }
            seen.insert(name.clone(), key.mark);
            entries.push((Key { name, mark: key.mark }, value));
        }
    }
}
