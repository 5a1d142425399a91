//! JSON values as YAML for people: blocks, and text in quotes where it could be read as something else.

use serde_json::Value;

use crate::escape;

/// Words that YAML (1.1 too) reads as something else than text.
const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// One document. Text from elsewhere is harmless for a terminal.
pub(crate) fn document(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, 0, false);
    out
}

/// At the end of `key:` or `-`, or at the begin of a document. `listed`: the first member follows `- `.
fn write(out: &mut String, value: &Value, depth: usize, listed: bool) {
    match value {
        Value::Object(members) if members.is_empty() => out.push_str("{}\n"),
        Value::Array(items) if items.is_empty() => out.push_str("[]\n"),
        Value::Object(members) => {
            for (number, (name, value)) in members.iter().enumerate() {
                if number > 0 || !listed {
                    indent(out, depth);
                }
                out.push_str(&scalar(name));
                out.push(':');
                nested(out, value, depth);
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                if number > 0 || !listed {
                    indent(out, depth);
                }
                out.push_str("- ");
                write(out, item, depth + 1, true);
            }
        }
        Value::String(text) => {
            out.push_str(&scalar(text));
            out.push('\n');
        }
        other => {
            out.push_str(&other.to_string());
            out.push('\n');
        }
    }
}

/// What follows a key: a scalar behind it, anything else beneath it; lists are not indented.
fn nested(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            write(out, value, depth + 1, false);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            write(out, value, depth, false);
        }
        _ => {
            out.push(' ');
            write(out, value, depth, true);
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    out.push_str(&"  ".repeat(depth));
}

/// As it is where it is unambiguous, else in double quotes.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if escape::is_dangerous(c) => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use saphyr_parser::{Event, Parser, ScalarStyle};
    use serde_json::{Map, json};

    use super::*;

    /// What a YAML parser reads of the next node, as JSON.
    fn read<'t>(events: &mut impl Iterator<Item = Event<'t>>) -> Value {
        let event = events.next().unwrap();
        node(event, events)
    }

    fn node<'t>(event: Event<'t>, events: &mut impl Iterator<Item = Event<'t>>) -> Value {
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => serde_json::from_str(&text).unwrap_or_else(|_| text.into()),
            Event::Scalar(text, ..) => text.into(),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match events.next().unwrap() {
                        Event::SequenceEnd => return Value::Array(items),
                        event => items.push(node(event, events)),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut members = Map::new();
                loop {
                    match events.next().unwrap() {
                        Event::MappingEnd => return Value::Object(members),
                        Event::Scalar(name, ..) => members.insert(name.into_owned(), read(events)),
                        other => panic!("{other:?}"),
                    };
                }
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_parser_reads_what_was_written() {
        let texts = [
            "",
            "no",
            "On",
            "null",
            "~",
            "1",
            "1.0",
            "0x1f",
            "007",
            "2026-01-02",
            "a: b",
            "# a",
            "- a",
            "a\nb",
            " a ",
            "\"q\\",
            "{",
            "[x]",
            "*",
            "&a",
            "!t",
            "%",
            "@",
            "`",
            "a\u{1b}[31m\u{202e}\u{e0041}",
            "größe",
            "/a/b",
            "a b",
            "y",
            "=",
            "<<",
            "...",
        ];
        let value = json!({
            "texts": texts, "numbers": [0, -7, 1.5, 18_014_398_509_481_984_u64], "nothing": null, "yes": true,
            "empty": {"object": {}, "list": []}, "nested": [[1, [2, {"a": [{"b": 1, "c": [3]}, {}]}]], {"k: v": {"x": "y"}}, []],
        });
        let text = document(&value);
        let events: Result<Vec<Event<'_>>, _> =
            Parser::new_from_str(&text).map(|event| event.map(|(event, _)| event)).collect();
        let events = events.unwrap_or_else(|e| panic!("{e}:\n{text}"));
        let framing = |event: &Event<'_>| {
            matches!(event, Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd)
        };
        let mut events = events.into_iter().filter(|event| !framing(event));
        assert_eq!(read(&mut events), value, "{text}");
        assert!(events.next().is_none(), "one document: {text}");
        assert!(!text.chars().any(|c| c != '\n' && escape::is_dangerous(c)), "{text:?}");
    }

    #[test]
    fn people_read_it() {
        let value = json!({"name": "shop/orders", "vips": ["169.254.64.32"], "groups": [{"name": "v1", "reachable": 1}], "none": []});
        let text = "groups:\n- name: v1\n  reachable: 1\nname: shop/orders\nnone: []\nvips:\n- \"169.254.64.32\"\n";
        assert_eq!(document(&value), text);
    }
}
