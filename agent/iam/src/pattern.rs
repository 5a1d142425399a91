//! Texts of policies that requests are compared with: literal, with wildcards, with policy variables.

use crate::glob::{self, ANY, ONE};
use crate::key::Key;
use crate::request::{Facts, Work};

/// A text of a policy, ready to be compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern {
    /// As written.
    pub(crate) text: Box<str>,
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    /// `*`.
    Anything,
    /// Without wildcards and variables.
    Literal(Box<[u8]>),
    /// With wildcards, as [`glob`] wants it.
    Glob(Box<[u8]>),
    /// With variables.
    Template(Box<[Token]>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// As [`glob`] wants it.
    Bytes(Vec<u8>),
    Variable {
        key: Key,
        default: Option<Box<str>>,
    },
}

/// How the text of a policy is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Whether `*` and `?` are wildcards.
    pub(crate) wildcards: bool,
    /// Whether `${…}` is a variable: since version 2012-10-17.
    pub(crate) variables: bool,
}

/// What is wrong with a text, and what to do.
pub(crate) type Fault = (String, Option<String>);

impl Pattern {
    pub(crate) fn parse(text: &str, reading: Reading) -> Result<Self, Fault> {
        let tokens = tokens(text, reading)?;
        Ok(Self { text: text.into(), form: Form::of(tokens) })
    }

    /// An ARN's six parts; `None` if there are fewer. Colons in variables do not count, those after the fifth belong to
    /// the last part.
    pub(crate) fn parse_arn(text: &str, reading: Reading) -> Result<Option<[Self; 6]>, Fault> {
        let mut parts: Vec<Vec<Token>> = vec![Vec::new()];
        for token in tokens(text, reading)? {
            match token {
                Token::Bytes(bytes) => {
                    let mut rest = bytes.as_slice();
                    while let Some(colon) = rest.iter().position(|byte| *byte == b':').filter(|_| parts.len() < 6) {
                        push(&mut parts, Token::Bytes(rest[..colon].to_vec()));
                        parts.push(Vec::new());
                        rest = &rest[colon + 1..];
                    }
                    push(&mut parts, Token::Bytes(rest.to_vec()));
                }
                variable @ Token::Variable { .. } => push(&mut parts, variable),
            }
        }
        let parts: Vec<Self> = parts.into_iter().map(|part| Self { text: text.into(), form: Form::of(part) }).collect();
        Ok(parts.try_into().ok())
    }

    /// Whether it is the literal text and nothing else.
    pub(crate) fn literal(&self) -> Option<&str> {
        match &self.form {
            Form::Literal(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Keys of its variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &Key> {
        let tokens: &[Token] = if let Form::Template(tokens) = &self.form { tokens } else { &[] };
        tokens.iter().filter_map(|token| match token {
            Token::Variable { key, .. } => Some(key),
            Token::Bytes(_) => None,
        })
    }

    /// Keys of its variables without a default.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &Key> {
        let tokens: &[Token] = if let Form::Template(tokens) = &self.form { tokens } else { &[] };
        tokens.iter().filter_map(|token| match token {
            Token::Variable { key, default: None } => Some(key),
            _ => None,
        })
    }

    /// As [`glob`] wants it, with `*` for every variable.
    pub(crate) fn outline(&self) -> Vec<u8> {
        match &self.form {
            Form::Anything => vec![ANY],
            Form::Literal(bytes) | Form::Glob(bytes) => bytes.to_vec(),
            Form::Template(tokens) => tokens.iter().fold(Vec::new(), |mut out, token| {
                match token {
                    Token::Bytes(bytes) => out.extend_from_slice(bytes),
                    Token::Variable { .. } => out.push(ANY),
                }
                out
            }),
        }
    }

    /// As [`glob`] wants it, with the values of the variables; none: one has none.
    pub(crate) fn filled(&self, facts: &Facts<'_>, work: &mut Work) -> Option<Vec<u8>> {
        match &self.form {
            Form::Template(tokens) => expand(tokens, facts, work).then(|| work.pattern.clone()),
            _ => Some(self.outline()),
        }
    }

    /// Whether the text fits. A variable without value makes that nothing fits; its value is literal, wildcards in it
    /// stand for themselves.
    pub(crate) fn matches(&self, text: &str, facts: &Facts<'_>, work: &mut Work) -> bool {
        match &self.form {
            Form::Anything => true,
            Form::Literal(bytes) => **bytes == *text.as_bytes(),
            Form::Glob(bytes) => glob::matches(bytes, text.as_bytes(), &mut work.words),
            Form::Template(tokens) => {
                expand(tokens, facts, work) && glob::matches(&work.pattern, text.as_bytes(), &mut work.words)
            }
        }
    }

    /// Whether the text, which `work.text` holds in lower case, is the same but for case; of a text with variables, the
    /// only one that is not put into lower case beforehand.
    pub(crate) fn matches_lowered(&self, facts: &Facts<'_>, work: &mut Work) -> bool {
        let lowered = std::mem::take(&mut work.text);
        let own = match &self.form {
            Form::Template(tokens) if expand(tokens, facts, work) => Some(work.pattern.as_slice()),
            _ => None,
        };
        let own = own.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let same = own.is_some_and(|own| own.chars().flat_map(char::to_lowercase).eq(lowered.chars()));
        work.text = lowered;
        same
    }
}

impl Form {
    fn of(mut tokens: Vec<Token>) -> Self {
        match &mut tokens[..] {
            [] => Self::Literal(Box::default()),
            [Token::Bytes(bytes)] => {
                if bytes.iter().all(|byte| *byte == ANY) && !bytes.is_empty() {
                    Self::Anything
                } else if bytes.iter().any(|byte| matches!(*byte, ANY | ONE)) {
                    Self::Glob(std::mem::take(bytes).into())
                } else {
                    Self::Literal(std::mem::take(bytes).into())
                }
            }
            _ => Self::Template(tokens.into()),
        }
    }
}

fn push(parts: &mut [Vec<Token>], token: Token) {
    if let Some(last) = parts.last_mut()
        && !matches!(&token, Token::Bytes(bytes) if bytes.is_empty())
    {
        last.push(token);
    }
}

/// Puts the values of the variables in; false if one has none.
fn expand(tokens: &[Token], facts: &Facts<'_>, work: &mut Work) -> bool {
    let mut pattern = std::mem::take(&mut work.pattern);
    pattern.clear();
    let complete = tokens.iter().all(|token| match token {
        Token::Bytes(bytes) => {
            pattern.extend_from_slice(bytes);
            true
        }
        Token::Variable { key, default } => {
            let found = facts.text(key, &mut work.value);
            if found {
                pattern.extend_from_slice(work.value.as_bytes());
            } else if let Some(default) = default {
                pattern.extend_from_slice(default.as_bytes());
            }
            found || default.is_some()
        }
    });
    work.pattern = pattern;
    complete
}

fn tokens(text: &str, reading: Reading) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if reading.variables
            && let Some(inside) = rest.strip_prefix("${")
        {
            let Some((content, after)) = content(inside) else {
                return Err((
                    "a policy variable does not end".into(),
                    Some("close it with `}`, or write ${$} for a dollar sign".into()),
                ));
            };
            rest = after;
            match content {
                "*" | "?" | "$" => bytes.extend_from_slice(content.as_bytes()),
                _ => {
                    if !bytes.is_empty() {
                        tokens.push(Token::Bytes(std::mem::take(&mut bytes)));
                    }
                    tokens.push(variable(content)?);
                }
            }
            continue;
        }
        match c {
            '*' if reading.wildcards => bytes.push(ANY),
            '?' if reading.wildcards => bytes.push(ONE),
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = &rest[c.len_utf8()..];
    }
    if !bytes.is_empty() {
        tokens.push(Token::Bytes(bytes));
    }
    Ok(tokens)
}

/// What is between `${` and its `}`, and what comes after. A `}` between single quotes does not end it.
fn content(inside: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    for (index, c) in inside.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '}' if !quoted => return Some((&inside[..index], &inside[index + 1..])),
            _ => {}
        }
    }
    None
}

fn variable(content: &str) -> Result<Token, Fault> {
    let (name, default) = match content.split_once(',') {
        Some((name, default)) => (name, Some(default.trim())),
        None => (content, None),
    };
    let default = match default {
        None => None,
        Some(text) => {
            let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            let Some(inner) = inner.filter(|inner| !inner.contains('\'')) else {
                let message =
                    format!("the default of the policy variable `{}` is not between single quotes", name.trim());
                return Err((message, Some("write ${key, 'default'}".into())));
            };
            Some(inner.into())
        }
    };
    let name = name.trim();
    let key =
        Key::parse(name).map_err(|unknown| (format!("in a policy variable: {}", unknown.message), unknown.help))?;
    if key.is_multi_valued() {
        let message = format!("`{key}` may have several values, so it is no policy variable");
        return Err((message, Some("use a key with one value".into())));
    }
    Ok(Token::Variable { key, default })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Reading = Reading { wildcards: true, variables: true };

    fn fault(text: &str) -> String {
        Pattern::parse(text, ALL).unwrap_err().0
    }

    #[test]
    fn texts_take_the_cheapest_form() {
        let form =
            |text: &str, wildcards, variables| Pattern::parse(text, Reading { wildcards, variables }).unwrap().form;
        assert_eq!(form("*", true, true), Form::Anything);
        assert_eq!(form("**", true, true), Form::Anything);
        assert_eq!(form("", true, true), Form::Literal(Box::default()));
        assert_eq!(form("*", false, true), Form::Literal(b"*".as_slice().into()));
        assert_eq!(form("a?", false, true), Form::Literal(b"a?".as_slice().into()));
        assert_eq!(form("a?", true, true), Form::Glob([b'a', ONE].into()));
        assert_eq!(form("a${*}${?}${$}{", true, true), Form::Literal(b"a*?${".as_slice().into()));
        assert_eq!(form("${*}", true, false), Form::Glob([b'$', b'{', ANY, b'}'].into()));
        assert_eq!(form("${aws:userid}", true, false), Form::Literal(b"${aws:userid}".as_slice().into()));
        assert!(matches!(form("a${aws:userid}*", true, true), Form::Template(_)));
        assert!(matches!(form("${aws:userid}", true, true), Form::Template(_)));
    }

    #[test]
    fn variables_have_defaults() {
        let variable = |text: &str| Pattern::parse(text, ALL).unwrap().form;
        let expected = |default: Option<&str>| {
            Form::Template([Token::Variable { key: Key::UserId, default: default.map(Into::into) }].into())
        };
        assert_eq!(variable("${aws:userid}"), expected(None));
        assert_eq!(variable("${ AWS:UserID , 'a, }b' }"), expected(Some("a, }b")));
        assert_eq!(variable("${aws:userid,''}"), expected(Some("")));
    }

    #[test]
    fn faults_are_named() {
        assert!(fault("a${aws:userid").contains("does not end"));
        assert!(fault("${aws:userid, 'x}").contains("does not end"));
        assert!(fault("${aws:userid, x}").contains("single quotes"));
        assert!(fault("${aws:userid, 'a'b'c'}").contains("single quotes"));
        assert!(fault("${nonsense}").contains("unknown condition key"));
        assert!(fault("${aws:SourceVpc}").contains("cannot apply"));
        assert!(fault("${aws:PrincipalOrgPaths}").contains("several values"));
    }

    #[test]
    fn arns_have_six_parts() {
        let parts = |text: &str| Pattern::parse_arn(text, ALL).unwrap().map(|parts| parts.map(|part| part.form));
        let literal = |text: &str| Form::Literal(text.as_bytes().into());
        assert_eq!(
            parts("arn:aws:iam::1:role/a:b"),
            Some([literal("arn"), literal("aws"), literal("iam"), literal(""), literal("1"), literal("role/a:b")])
        );
        assert_eq!(parts("arn:aws:iam::1"), None);
        assert_eq!(parts("*"), None);
        let with = parts("arn:*:iam::${aws:PrincipalAccount}:role/${aws:PrincipalTag/x:y}-?").unwrap();
        assert_eq!(with[1], Form::Anything);
        assert!(matches!(&with[4], Form::Template(tokens) if tokens.len() == 1));
        assert!(matches!(&with[5], Form::Template(tokens) if tokens.len() == 3));
    }
}
