//! What a policy is read from: a tree of values, each with its place. [`crate::json`] makes one from JSON text; the
//! parser of YAML documents makes one of its own.

use crate::finding::Mark;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// Where it begins.
    pub at: Mark,
    /// What it is.
    pub content: Content,
}

/// What a [`Tree`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// A string.
    String(String),
    /// A list.
    List(Vec<Tree>),
    /// An object, in the order written; names are unique.
    Map(Vec<(Name, Tree)>),
}

/// The name of a member of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// As written.
    pub text: String,
    /// Where it begins.
    pub at: Mark,
}

impl Tree {
    /// Gives every place anew, for text that lies inside another text.
    pub fn place(&mut self, place: &impl Fn(Mark) -> Mark) {
        self.at = place(self.at);
        match &mut self.content {
            Content::List(items) => items.iter_mut().for_each(|item| item.place(place)),
            Content::Map(entries) => {
                for (name, value) in entries {
                    name.at = place(name.at);
                    value.place(place);
                }
            }
            _ => {}
        }
    }

    /// Bytes it takes as JSON without white space, as AWS counts a policy's size.
    pub fn compact_bytes(&self) -> usize {
        match &self.content {
            Content::Null => 4,
            Content::Bool(truth) => truth.to_string().len(),
            Content::Number(text) => text.len(),
            Content::String(text) => text_bytes(text),
            Content::List(items) => {
                2 + items.iter().map(Self::compact_bytes).sum::<usize>() + items.len().saturating_sub(1)
            }
            Content::Map(entries) => {
                let members: usize =
                    entries.iter().map(|(name, value)| text_bytes(&name.text) + 1 + value.compact_bytes()).sum();
                2 + members + entries.len().saturating_sub(1)
            }
        }
    }

    pub(crate) fn what(&self) -> &'static str {
        match &self.content {
            Content::Null => "null",
            Content::Bool(_) => "a boolean",
            Content::Number(_) => "a number",
            Content::String(_) => "a string",
            Content::List(_) => "a list",
            Content::Map(_) => "an object",
        }
    }
}

fn text_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    2 + text.bytes().map(escaped).sum::<usize>()
}

/// A string as JSON.
pub(crate) fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_size_is_that_of_compact_json() {
        for text in [
            r#"{"a":[1,true,null,"x\"\\\n"],"b":{},"c":[],"\u0001":"é"}"#,
            "[]",
            r#""""#,
            r#"[{"a":"b"},{"c":["d","e"]},false]"#,
        ] {
            let tree = crate::json::parse(text).unwrap();
            assert_eq!(tree.compact_bytes(), text.len(), "{text}");
        }
    }

    #[test]
    fn strings_survive_json() {
        for text in ["", "a\"b\\c", "\n\t\u{1}", "é😀"] {
            let tree = crate::json::parse(&json_string(text)).unwrap();
            assert_eq!(tree.content, Content::String(text.into()));
        }
    }

    #[test]
    fn every_place_is_given_anew() {
        let mut tree = crate::json::parse("{\"a\":\n[1]}").unwrap();
        tree.place(&|mark| Mark { line: mark.line + 10, ..mark });
        let Content::Map(entries) = &tree.content else { panic!("an object") };
        let Content::List(items) = &entries[0].1.content else { panic!("a list") };
        assert_eq!((tree.at.line, entries[0].0.at.line, entries[0].1.at.line, items[0].at.line), (11, 11, 12, 12));
    }
}
