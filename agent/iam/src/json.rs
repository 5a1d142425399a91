//! Strict JSON to a [`Tree`]: RFC 8259 and nothing more, with the place of every value. What people and guides write
//! beyond it (trailing commas, comments, single quotes) is an error that says so.

use std::collections::HashMap;

use crate::finding::{Finding, Mark, quote};
use crate::limits::{MAX_DEPTH, MAX_POLICY_BYTES};
use crate::tree::{Content, Name, Tree};

/// Reads one JSON value.
///
/// # Errors
/// The first thing that is not JSON; a member named twice; a text longer than
/// [`MAX_POLICY_BYTES`]; nesting deeper than [`MAX_DEPTH`].
pub fn parse(text: &str) -> Result<Tree, Box<Finding>> {
    if text.len() > MAX_POLICY_BYTES {
        let message = format!("the policy has {} bytes; at most {MAX_POLICY_BYTES} are read", text.len());
        return Err(Box::new(Finding::error(Mark::START, message).help("split it, or use wildcards and variables")));
    }
    let mut reader = Reader { text, at: 0, line: 1, column: 1, counted: 0 };
    reader.space()?;
    let tree = reader.value(0)?;
    reader.space()?;
    if reader.at < text.len() {
        return Err(reader.error("text after the end of the policy"));
    }
    Ok(tree)
}

struct Reader<'t> {
    text: &'t str,
    /// Byte offset of what comes next.
    at: usize,
    /// The place of the byte `counted`, which is never behind `at`.
    line: u32,
    column: u32,
    counted: usize,
}

type Parsed<T> = Result<T, Box<Finding>>;

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The place of what comes next. Counts on from the last one, so that a long line is counted once.
    fn mark(&mut self) -> Mark {
        let mut chars = self.text[self.counted..self.at].chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\n' || (c == '\r' && chars.peek() != Some(&'\n')) {
                self.line += 1;
                self.column = 1;
            } else if c != '\r' {
                self.column += 1;
            }
        }
        // A CR LF cut in two would count as two line ends.
        self.counted = self.at;
        Mark { line: self.line, column: self.column, length: 1 }
    }

    fn error(&mut self, message: impl Into<String>) -> Box<Finding> {
        let at = self.mark();
        Box::new(Finding::error(at, format!("not JSON: {}", message.into())))
    }

    fn error_at(at: Mark, message: impl Into<String>, help: &str) -> Box<Finding> {
        Box::new(Finding::error(at, format!("not JSON: {}", message.into())).help(help))
    }

    fn space(&mut self) -> Parsed<()> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        if self.text[self.at..].starts_with("//") || self.text[self.at..].starts_with("/*") {
            let at = self.mark();
            return Err(Self::error_at(
                at,
                "a comment",
                "JSON has none; put it into the Sid, or write the policy as YAML",
            ));
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Parsed<Tree> {
        let mut at = self.mark();
        if depth > MAX_DEPTH {
            return Err(Box::new(Finding::error(at, format!("nested deeper than {MAX_DEPTH} levels"))));
        }
        let start = self.at;
        let content = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Content::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => Content::Number(self.number()?),
            Some(b't' | b'f' | b'n') => self.word()?,
            Some(b'\'') => return Err(Self::error_at(at, "a single quote", "strings stand between double quotes")),
            Some(_) => return Err(self.unexpected("a value")),
            None => return Err(self.error("the text ends where a value should begin")),
        };
        if !matches!(content, Content::Map(_) | Content::List(_)) {
            at.length =
                u32::try_from(self.text[start..self.at].chars().count()).expect("the text is at most MAX_POLICY_BYTES");
        }
        Ok(Tree { at, content })
    }

    fn unexpected(&mut self, expected: &str) -> Box<Finding> {
        let finding = match self.text[self.at..].chars().next() {
            Some(c) => self.error(format!("unexpected {}", quote(&c.to_string()))),
            None => self.error("the text ends too early"),
        };
        Box::new(finding.expected(expected))
    }

    /// What comes after a member or item: true if another one does.
    fn more(&mut self, close: u8) -> Parsed<bool> {
        self.space()?;
        match self.peek() {
            Some(b',') => {
                let comma = self.mark();
                self.at += 1;
                self.space()?;
                if matches!(self.peek(), Some(b'}' | b']')) {
                    let message = format!("a comma before the closing `{}`", char::from(close));
                    return Err(Self::error_at(comma, message, "remove the comma"));
                }
                Ok(true)
            }
            Some(c) if c == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.unexpected(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
        }
    }

    fn object(&mut self, depth: usize) -> Parsed<Content> {
        let mut entries: Vec<(Name, Tree)> = Vec::new();
        let mut seen: HashMap<String, Mark> = HashMap::new();
        self.at += 1;
        self.space()?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Content::Map(entries));
        }
        loop {
            let mut at = self.mark();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a name between double quotes"));
            }
            let start = self.at;
            let text = self.string()?;
            at.length =
                u32::try_from(self.text[start..self.at].chars().count()).expect("the text is at most MAX_POLICY_BYTES");
            self.space()?;
            if self.peek() != Some(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.at += 1;
            self.space()?;
            let value = self.value(depth + 1)?;
            if let Some(first) = seen.insert(text.clone(), at) {
                let finding = Finding::error(at, format!("the name {} is there twice", quote(&text))).first(first);
                return Err(Box::new(finding.help("keep one of them, or make its value a list")));
            }
            entries.push((Name { text, at }, value));
            if !self.more(b'}')? {
                return Ok(Content::Map(entries));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Parsed<Content> {
        let mut items = Vec::new();
        self.at += 1;
        self.space()?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Content::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if !self.more(b']')? {
                return Ok(Content::List(items));
            }
        }
    }

    fn word(&mut self) -> Parsed<Content> {
        for (word, content) in [("true", Content::Bool(true)), ("false", Content::Bool(false)), ("null", Content::Null)]
        {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                if self.peek().is_some_and(|b| b.is_ascii_alphanumeric()) {
                    return Err(self.unexpected("the end of the value"));
                }
                return Ok(content);
            }
        }
        Err(self.unexpected("a value"))
    }

    fn digits(&mut self) -> Parsed<()> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.unexpected("a digit"));
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Parsed<String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        let first = self.at;
        self.digits()?;
        if zero && self.at > first + 1 {
            self.at = first;
            let at = self.mark();
            return Err(Self::error_at(at, "a number with a leading zero", "put account ids between quotes"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.text[start..self.at].to_owned())
    }

    /// Between double quotes, the first of which comes next.
    fn string(&mut self) -> Parsed<String> {
        let open = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') else {
                self.at = open;
                // The place of the quote that opens it may be behind what was counted.
                let at = self.mark_of(open);
                return Err(Self::error_at(at, "a string that does not end", "close it with a double quote"));
            };
            out.push_str(&rest[..length]);
            self.at += length;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => {
                    let at = self.mark();
                    let message = "a line end or control character inside a string";
                    return Err(Self::error_at(at, message, "close the string, or write \\n"));
                }
            }
        }
    }

    /// The place of an earlier byte, counted from the start.
    fn mark_of(&self, at: usize) -> Mark {
        let mut reader = Reader { text: self.text, at, line: 1, column: 1, counted: 0 };
        reader.mark()
    }

    fn escape(&mut self) -> Parsed<char> {
        let start = self.at;
        self.at += 1;
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode(start);
            }
            _ => return Err(self.unexpected("one of \" \\ / b f n r t u after the backslash")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode(&mut self, start: usize) -> Parsed<char> {
        let first = self.hex()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            } else {
                first
            }
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| {
            let at = self.mark_of(start);
            Self::error_at(at, "half of a surrogate pair", "write the character itself")
        })
    }

    fn hex(&mut self) -> Parsed<u32> {
        let digits = self.text.get(self.at..self.at + 4);
        match digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())).map(|d| u32::from_str_radix(d, 16)) {
            Some(Ok(code)) => {
                self.at += 4;
                Ok(code)
            }
            _ => Err(self.unexpected("four hexadecimal digits")),
        }
    }
}
