//! What must not leave the host with a support bundle, and its removal from text.
//!
//! Removed are: what documents say about header fields, query parameters, fixed answers and the conditions of policies;
//! the content of every other file in the policies directory (keys, certificates); every value of a file with errors in
//! it; and, wherever it comes from, what looks like a secret (PEM blocks, tokens, passwords). Names stay.

use std::collections::BTreeSet;
use std::path::Path;

use brattice_model::yaml::{self, Content, Node, is_null};
use regex_lite::Regex;

/// What stands in its place.
const MARK: &str = "[redacted]";
/// Shorter values are words that occur everywhere, not secrets.
const SHORTEST: usize = 4;
/// Most of a file that is looked at, bytes.
pub(super) const MAX_FILE: u64 = 1024 * 1024;
/// Most values that are remembered; beyond, documents are left out.
const MAX_VALUES: usize = 100_000;
/// Below these keys every text is a secret, but names.
const SENSITIVE: [&str; 8] = [
    "requestHeaders",
    "responseHeaders",
    "headerMatches",
    "queryParameters",
    "fixedResponse",
    "stickiness",
    "Condition",
    "conditions",
];
/// Words that occur in such places without telling anything.
const PLAIN: [&str; 12] =
    ["DELETE", "HEAD", "OPTIONS", "PATCH", "POST", "true", "false", "http", "https", "exact", "prefix", "text/plain"];
/// Patterns of secrets, in text from any source. The first group is kept.
const PATTERNS: [&str; 4] = [
    r"(?s)()-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\z)",
    r"()\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*",
    r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r#"(?i)((?:authorization|passw(?:or)?d|secret|token|cookie|api-?key|private-?key)["']?\s*[:=]\s*["']?(?:bearer |basic )?)[^\s"',;}\]]{4,}"#,
];

/// Whether a text without quotes is a number, a truth or nothing, which tell nothing.
fn is_word(text: &str) -> bool {
    is_null(text)
        || text.parse::<f64>().is_ok()
        || text.eq_ignore_ascii_case("true")
        || text.eq_ignore_ascii_case("false")
}

/// Knows what to remove.
pub(super) struct Redactor {
    values: BTreeSet<String>,
    patterns: Vec<Regex>,
}

impl Redactor {
    pub(super) fn new() -> Self {
        Self { values: BTreeSet::new(), patterns: PATTERNS.iter().filter_map(|text| Regex::new(text).ok()).collect() }
    }

    /// Learns from a file of the policies directory what is secret. `wrong`: its documents have errors.
    pub(super) fn learn(&mut self, path: &Path, bytes: &[u8], wrong: bool) {
        let text = String::from_utf8_lossy(bytes);
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if !yaml {
            return text.lines().for_each(|line| self.value(line));
        }
        // As documents are read, which takes no aliases: read out, a small file may be gigabytes.
        let (documents, refusals) = if wrong { (Vec::new(), Vec::new()) } else { yaml::read(&text, &mut 0) };
        if !wrong && refusals.is_empty() {
            return documents.iter().for_each(|document| self.walk(document, false, ""));
        }
        // Any of it may be secret.
        for line in text.lines() {
            self.value(line.split_once(": ").map_or(line, |(_, value)| value));
            line.split(['"', '\'']).skip(1).step_by(2).for_each(|quoted| self.value(quoted));
        }
    }

    /// Whether there was more to learn than is remembered.
    pub(super) fn overwhelmed(&self) -> bool {
        self.values.len() >= MAX_VALUES
    }

    fn walk(&mut self, node: &Node, secret: bool, key: &str) {
        match &node.content {
            Content::Map(fields) => {
                for (name, value) in fields {
                    self.walk(value, secret || SENSITIVE.contains(&name.name.as_str()), &name.name);
                }
            }
            Content::List(items) => items.iter().for_each(|item| self.walk(item, secret, key)),
            // A policy as JSON text, which is YAML as well.
            Content::Scalar { text, .. } if key == "policy" && text.trim_start().starts_with('{') => {
                yaml::read(text, &mut 0).0.iter().for_each(|document| self.walk(document, secret, ""));
            }
            Content::Scalar { text, plain } if secret && key != "name" && !(*plain && is_word(text)) => {
                self.value(text);
                text.lines().for_each(|line| self.value(line));
            }
            Content::Scalar { .. } | Content::Refused => {}
        }
    }

    fn value(&mut self, text: &str) {
        let text = text.trim().trim_matches(['"', '\'']);
        if text.len() < SHORTEST || PLAIN.contains(&text) || self.overwhelmed() {
            return;
        }
        let escaped = serde_json::to_string(text).unwrap_or_default();
        self.values.insert(escaped.trim_matches('"').to_owned());
        self.values.insert(text.to_owned());
    }

    /// The text without what is secret.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for pattern in &self.patterns {
            text = pattern.replace_all(&text, format!("${{1}}{MARK}")).into_owned();
        }
        // The longest first: a secret may contain another one.
        let mut values: Vec<&String> = self.values.iter().filter(|value| text.contains(*value)).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in values {
            text = text.replace(value, MARK);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "
kind: Service
metadata: {name: orders}
spec:
  listeners:
  - rules:
    - match: {headerMatches: [{name: x-team, match: {exact: blue-falcon}}]}
      requestHeaders: {set: [{name: x-upstream-auth, value: 'hunter2 \"quoted\"'}]}
---
kind: AuthPolicy
spec:
  policy: '{\"Statement\": [{\"Condition\": {\"StringEquals\": {\"aws:PrincipalTag/team\": \"night-owls\"}}}]}'
";

    #[test]
    fn a_small_file_that_would_be_gigabytes_is_read_line_by_line() {
        let nine = |name: &str| vec![format!("*{name}"); 9].join(",");
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let lines = names.windows(2).map(|pair| format!("{}: &{} [{}]\n", pair[1], pair[1], nine(pair[0])));
        let bomb: String = std::iter::once("a: &a ['night-owls']\n".to_owned()).chain(lines).collect();
        for wrong in [true, false] {
            let mut redactor = Redactor::new();
            redactor.learn(Path::new("orders.yaml"), bomb.as_bytes(), wrong);
            assert!(!redactor.clean("of the night-owls").contains("night-owls"));
        }
    }

    #[test]
    fn values_of_documents_are_removed_wherever_they_turn_up_and_names_stay() {
        let mut redactor = Redactor::new();
        redactor.learn(Path::new("orders.yaml"), DOCUMENT.as_bytes(), false);
        let log = r#"rule of orders: x-team is blue-falcon, x-upstream-auth {"v":"hunter2 \"quoted\""}, night-owls"#;
        let clean = redactor.clean(log);
        for secret in ["blue-falcon", "hunter2", "night-owls"] {
            assert!(!clean.contains(secret), "{clean}");
            assert!(!redactor.clean(DOCUMENT).contains(secret), "{secret}");
        }
        assert!(clean.contains("rule of orders: x-team is [redacted]"), "{clean}");
        assert!(redactor.clean(DOCUMENT).contains("name: x-upstream-auth"));
    }

    #[test]
    fn keys_and_documents_that_are_no_yaml_are_removed_line_by_line() {
        let mut redactor = Redactor::new();
        redactor.learn(
            Path::new("key.pem"),
            b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----\n",
            false,
        );
        redactor.learn(
            Path::new("broken.yaml"),
            b"kind: Service\n  value: [correct-horse\nx: \"battery staple\" y\n",
            true,
        );
        let clean =
            redactor.clean("MC4CAQAwBQYDK2Vw; expected `]` after [correct-horse or battery staple; all else stays");
        assert_eq!(clean, "[redacted]; expected `]` after [redacted] or [redacted]; all else stays");
    }

    #[test]
    fn what_looks_like_a_secret_is_removed_without_being_known() {
        let redactor = Redactor::new();
        for (text, clean) in [
            ("authorization: Bearer abcdef123 next", "authorization: Bearer [redacted] next"),
            ("{\"password\":\"open sesame\"}", "{\"password\":\"[redacted] sesame\"}"),
            ("api-key=0123456789", "api-key=[redacted]"),
            ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig", "jwt [redacted]"),
            ("key AKIAABCDEFGHIJKLMNOP", "key [redacted]"),
            ("a -----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- b", "a [redacted] b"),
            ("revision 7, tokens: 3", "revision 7, tokens: 3"),
        ] {
            assert_eq!(redactor.clean(text), clean);
        }
    }
}
