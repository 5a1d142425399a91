use super::super::mark::Mark;
use super::super::tree::read;
use super::{Explained, explain};

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
fn lines_that_are_no_yaml_are_told_as_what_they_are() {
    let conflict = "a conflict that git could not merge";
    says("<<<<<<< HEAD\nkind: A\n=======\nkind: B\n>>>>>>> other\n", 1, conflict, "delete the lines");
    says("kind: A\n<<<<<<< HEAD\nspec: 1\n=======\nspec: 2\n>>>>>>> other\n", 2, conflict, "delete the lines");
    says("kind: A\nspec: 1\n>>>>>>> other\n", 3, conflict, "delete the lines");
    let template = "a template (`{{…}}`)";
    says("kind: A\n{{- if .Values.on }}\nspec: 1\n{{- end }}\n", 2, template, "helm template");
    says("{{ include \"x\" . }}\nkind: A\n", 1, template, "helm template");
    says("spec:\n  {{- toYaml .Values.spec | nindent 2 }}\nkind: A\n", 2, template, "helm template");
    // A quoted one is a text; a line that begins otherwise is none of these.
    assert!(read("name: '{{ .Values.name }}'\ntext: \"<<<<<<< HEAD\"\n", &mut 0).1.is_empty());
    says("kind: A\nspec\nfoo: 1\n", 2, "this line has no `: `", "list item");
}

/// Text, line, column, a part of the message.
const BROKEN: &[(&str, u32, u32, &str)] = &[
    // Quotes and escapes.
    ("kind: 'it's'\n", 1, 11, "text behind the closing quote"),
    ("name: \"a\"b\n", 1, 10, "text behind the closing quote"),
    ("name: 'a' 'b'\n", 1, 11, "text behind the closing quote"),
    ("a: \"b\" c\n", 1, 8, "text behind the closing quote"),
    ("a: {b: 'it's'}\n", 1, 12, "text behind the closing quote"),
    ("a: \"b\nc: d\n", 1, 4, "a quote that is never closed"),
    ("a: 'b\n", 1, 4, "a quote that is never closed"),
    ("a: \"b\n---\nc\n", 1, 4, "a quote that is never closed"),
    ("a: [\"b\n", 1, 5, "a quote that is never closed"),
    ("a: \"\\x4\"\n", 1, 4, "a backslash"),
    ("a: \"\\ud800\"\n", 1, 4, "a backslash"),
    ("a: \"C:\\Users\"\n", 1, 4, "a backslash"),
    // Brackets.
    ("kind: A\nmetadata: {name: sss}}\n", 2, 22, "`}` closes nothing"),
    ("a: [1, 2]]\n", 1, 10, "`]` closes nothing"),
    ("]\n", 1, 1, "`]` closes nothing"),
    ("a: 1\n}\n", 2, 1, "`}` closes nothing"),
    ("a: {name: sss,, x: 1}\n", 1, 15, "a `,` with nothing before it"),
    ("a: [1,, 2]\n", 1, 7, "a `,` with nothing before it"),
    ("a: {, b: 1}\n", 1, 5, "a `,` with nothing before it"),
    ("a: ,\n", 1, 4, "a value cannot begin with `,`"),
    ("a: {b: 1 c: 2}\n", 1, 10, "a `,` is missing"),
    ("a: {b: \"1\" c: 2}\n", 1, 12, "a `,` is missing"),
    ("a: [\"1\" \"2\"]\n", 1, 9, "a `,` is missing"),
    ("{\"a\": 1 \"b\": 2}\n", 1, 9, "a `,` is missing"),
    ("x: [a, b\ny: c]\n", 2, 1, "a `,` is missing"),
    ("a: [b: 1, c: 2}\n", 1, 4, "`[` is never closed"),
    ("a: {b: 1]\n", 1, 4, "`{` is never closed"),
    ("a: {b\n", 1, 4, "`{` is never closed"),
    ("a: [1\nb: 2\n", 1, 4, "`[` is never closed"),
    ("- {a: 1\n- {b: 1}\n", 1, 3, "`{` is never closed"),
    ("kind: A\nspec: {a: 1, b: {c: 2}\n---\nkind: B\n", 2, 7, "`{` is never closed"),
    ("a: {\nb: 1\n}\n", 2, 1, "not indented"),
    ("a: {- b}\n", 1, 5, "a list item `- ` where none can begin"),
    ("a: {b:[c]}\n", 1, 6, "a blank is missing"),
    ("a: {b: -}\n", 1, 8, "a lone `-`"),
    ("a: {b: c} d\n", 1, 11, "text behind the closing bracket"),
    ("a: {{ x }} b\n", 1, 12, "text behind the closing bracket"),
    // Texts of several lines.
    ("spec: >x\n", 1, 7, "text behind `>` or `|`"),
    ("spec: | text\n  a\n", 1, 7, "text behind `>` or `|`"),
    ("spec: >0\n  a\n", 1, 7, "text behind `>` or `|`"),
    ("spec: >\n  a\n b\n", 3, 2, "does not fit"),
    ("spec: |\n\ta\n", 2, 1, "a tab in the indentation"),
    ("a: b # c\n  d\n", 1, 6, "a comment in the middle"),
    ("a: \"b\"#c\n", 1, 7, "a blank is missing before `#`"),
    // Fields and items.
    ("kind: A\nspec\nfoo: 1\n", 2, 1, "this line has no `: `"),
    ("kind: A\nspec\n", 2, 1, "this line has no `: `"),
    ("kind: A\nspec:1\n", 2, 1, "this line has no `: `"),
    ("kind A\nmetadata: b\n", 1, 1, "this line has no `: `"),
    ("key: value\nanother value\nc: d\n", 2, 1, "this line has no `: `"),
    ("a:\n  b:c\n  d: 1\n", 2, 3, "this line has no `: `"),
    ("a:\n  - b\n  -c\n", 3, 3, "this line has no `: `"),
    ("// c\na: 1\n", 1, 1, "this line has no `: `"),
    ("kind: A\n  spec: 1\n", 2, 3, "indented deeper"),
    ("a: 'b'\n  c: 1\n", 2, 3, "indented deeper"),
    ("kind: A\nspec:\n  a: 1\n b: 2\n", 4, 2, "does not fit"),
    ("spec:\n  b: 1\n  - a\n", 3, 3, "a list item among the fields"),
    ("a: 1\n- b\n", 2, 1, "a list item among the fields"),
    ("a:\n  - b\n - c\n", 3, 2, "a list item among the fields"),
    ("spec:\n  - a\n  b: 1\n", 3, 3, "no item of the list"),
    ("- a\nb: 1\n", 2, 1, "no item of the list"),
    ("a: - b\n", 1, 4, "a list item `- ` where none can begin"),
    ("a: b: c\n", 1, 5, "a `: ` where no field can begin"),
    ("a: \"b\": c\n", 1, 7, "a `: ` where no field can begin"),
    ("a: 1, b: 2\n", 1, 8, "a `: ` where no field can begin"),
    ("a: ? b\n", 1, 4, "`? ` is no field"),
    ("a:\tb\n", 1, 4, "a blank is missing"),
    ("a:\n  b: 1\n\tc: 2\n", 3, 1, "a tab in the indentation"),
    // Characters.
    ("a: *\n", 1, 4, "cannot begin with `*`"),
    ("a: *x\n", 1, 4, "cannot begin with `*`"),
    ("a: &\n", 1, 4, "cannot begin with `*` or `&`"),
    ("a: !x!y z\n", 1, 4, "cannot begin with `!`"),
    ("a: `x`\n", 1, 4, "(```)"),
    ("a: %x\n", 1, 4, "(`%`)"),
    ("%x\n", 2, 1, "begins with `%`"),
    ("%YAML 1.2\na: 1\n", 2, 1, "begins with `%`"),
    ("a: 1\n\u{feff}b: 1\n", 2, 1, "byte order mark, U+FEFF"),
    ("kind: A\nspec:\n\u{a0} a: 1\n", 3, 1, "no-break space, U+00A0"),
    ("kind: A\nspec:\n  a: 1\n \u{a0}b: 2\n", 4, 2, "no-break space, U+00A0"),
    ("kind: A\nspec:\n  - a: 1\n\u{a0} - b: 2\n", 4, 1, "no-break space, U+00A0"),
    ("kind: A\nspec:\n-\u{a0}a: 1\n", 3, 2, "no-break space, U+00A0"),
    ("kind:\u{a0}A\n", 1, 6, "no-break space, U+00A0"),
    ("kind: A\nspec:\u{a0}\n  a: 1\n", 2, 6, "no-break space, U+00A0"),
    ("a:\n\u{3000}b: 1\n", 2, 1, "ideographic space, U+3000"),
    // Documents.
    ("{a: 1}\n{b: 2}\n", 2, 1, "belongs to no document"),
    ("--- a: 1\n", 1, 6, "text behind `---`"),
    ("a: 1\n... x\n", 2, 5, "text behind `---` or `...`"),
];

#[test]
fn a_broken_text_is_told_in_words_of_who_writes_it() {
    let mut wrong = Vec::new();
    for (text, line, column, message) in BROKEN {
        let (_, refusals) = read(text, &mut 0);
        let Some(refusal) = refusals.last() else {
            wrong.push(format!("{text:?} is taken"));
            continue;
        };
        let place = (refusal.mark.line, refusal.mark.column);
        if place != (*line, *column) || !refusal.message.contains(message) || refusal.help.is_empty() {
            wrong.push(format!("{text:?}: {place:?} {} ({})", refusal.message, refusal.help));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every message of the parser's source. They are read again when its version changes.
const PARSER: (&str, &[&str]) = (
    "0.3.4",
    &[
        "'-' must be followed by a valid YAML whitespace",
        "':' may not precede any of `[{` in flow mapping",
        "':' must be followed by a valid YAML whitespace",
        "\"-\" is only valid inside a block",
        "a block scalar content cannot start with a tab",
        "a byte order mark must not appear inside a document",
        "block sequence entries are not allowed in this context",
        "comment intercepting the multiline text",
        "comments must be separated from other tokens by whitespace",
        "did not find expected <document start>",
        "did not find expected <document-start>",
        "did not find expected <stream-start>",
        "did not find expected next token",
        "duplicate version directive",
        "expected whitespace",
        "found unprintable character",
        "illegal placement of ':' indicator",
        "invalid content after document end marker",
        "invalid global tag character",
        "invalid indentation",
        "invalid indentation for anchor",
        "invalid indentation in flow construct",
        "invalid indentation in quoted scalar",
        "invalid trailing content after double-quoted scalar",
        "mapping keys are not allowed in this context",
        "mapping values are not allowed in this context",
        "misplaced bracket",
        "missing explicit document end marker before directive",
        "plain scalar cannot start with '-' followed by ,[]{}",
        "recursion limit exceeded",
        "simple key expect ':'",
        "simple key expected",
        "tab cannot be used as indentation",
        "tabs disallowed in this context",
        "tabs disallowed within this context (block indentation)",
        "the TAG directive must only be given at most once per handle in the same document",
        "the handle wasn't declared",
        "unexpected character: `@'",
        "unexpected end of plain scalar",
        "unexpected eof",
        "while parsing a block collection, did not find expected '-' indicator",
        "while parsing a block mapping, did not find expected key",
        "while parsing a flow mapping, did not find expected ',' or '}'",
        "while parsing a flow sequence, expected ',' or ']'",
        "while parsing a node, did not find expected node content",
        "while parsing a quoted scalar, did not find expected hexadecimal number",
        "while parsing a quoted scalar, found invalid Unicode character escape code",
        "while parsing a quoted scalar, found unknown escape character",
        "while parsing a tag directive, did not find expected '!'",
        "while parsing a tag, did not find expected tag URI",
        "while parsing a tag, found an incorrect leading UTF-8 byte",
        "while parsing a tag, found an incorrect trailing UTF-8 byte",
        "while parsing a tag, found an invalid UTF-8 codepoint",
        "while parsing a tag, found an invalid escape sequence",
        "while parsing node, found unknown anchor",
        "while scanning TAG, did not find expected whitespace or line break",
        "while scanning a YAML directive, did not find expected digit or '.' character",
        "while scanning a YAML directive, did not find expected version number",
        "while scanning a YAML directive, found extremely long version number",
        "while scanning a block scalar, did not find expected comment or line break",
        "while scanning a block scalar, found an indentation indicator equal to 0",
        "while scanning a directive, could not find expected directive name",
        "while scanning a directive, did not find expected comment or line break",
        "while scanning a directive, found unexpected non-alphabetical character",
        "while scanning a plain scalar, found a tab",
        "while scanning a quoted scalar, found unexpected document indicator",
        "while scanning a quoted scalar, found unexpected end of stream",
        "while scanning a tag, did not find expected '!'",
        "while scanning a tag, did not find expected whitespace or line break",
        "while scanning a verbatim tag, did not find the expected '>'",
        "while scanning an anchor or alias, did not find expected alphabetic or numeric character",
        "wrongly indented line in block scalar",
    ],
);

#[test]
fn no_message_of_the_parser_is_shown_or_left_without_an_explanation() {
    let lock = include_str!("../../../../../Cargo.lock");
    let (version, messages) = PARSER;
    let entry = format!("name = \"saphyr-parser\"\nversion = \"{version}\"");
    assert!(lock.contains(&entry), "another version: read its messages, and write them down here");
    let explained = |info: &str| explain("a: b\n", Mark { line: 1, column: 4, length: 1 }, info);
    // Those that a text which was cut off causes.
    let cut_short = ["unexpected eof", "unexpected end of plain scalar", "did not find expected next token"];
    for message in messages {
        let Explained { message: ours, help, .. } = explained(message);
        assert!(!ours.contains(message) && !help.is_empty(), "{message}: {ours}");
        let unknown = ours.contains(super::CUT_SHORT.0);
        let expected =
            cut_short.contains(message) || message.contains("stream-start") || message.contains("node content");
        assert_eq!(unknown, expected, "{message}: {ours}");
    }
    for jargon in ["scalar", "flow", "block", "scanning", "parsing", "token", "mapping values"] {
        for message in messages {
            let ours = explained(message).message;
            assert!(!ours.contains(jargon), "{jargon}: {ours}");
        }
    }
    assert!(explained("something new").message.contains(super::CUT_SHORT.0));
}

#[test]
fn texts_that_look_odd_and_are_well_formed_are_taken() {
    for text in ["a: it's\n", "a: 'it''s'\n", "a: x\u{a0}y\n", "a: |\n  {\nb: 1\n", "\u{feff}a: 1\n", "a: [1, 2,]\n"] {
        let (documents, refusals) = read(text, &mut 0);
        assert!(documents.len() == 1 && refusals.is_empty(), "{text:?}: {refusals:?}");
    }
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
