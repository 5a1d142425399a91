//! Statements as JSON, with what a remedy adds to them.

use crate::language::{Effect, Version};
use crate::policy::{Policy, Statement};
use crate::principal::{Named, Principals};
use crate::tree::json_string;

impl Policy {
    /// The policy as compact JSON, to pass on or to compare. Keys appear under their canonical names.
    pub fn json(&self) -> String {
        let version = match self.version {
            Version::V2008 => "2008-10-17",
            Version::V2012 => "2012-10-17",
        };
        let id = self.id.as_ref().map_or(String::new(), |id| format!("\"Id\": {}, ", json_string(id)));
        let statements: Vec<String> = self.statements.iter().map(Statement::json).collect();
        format!("{{\"Version\": \"{version}\", {id}\"Statement\": [{}]}}", statements.join(", "))
    }
}

impl Statement {
    /// The statement as JSON.
    pub fn json(&self) -> String {
        Draft::of(self).json()
    }
}

/// Members of an object, in their order.
type Entries<T> = Vec<(String, T)>;

/// The texts of a statement, to be changed and written.
pub(crate) struct Draft {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    pub(crate) principals: Principals,
    /// With whether they are negated.
    pub(crate) actions: (bool, Vec<String>),
    /// With whether they are negated.
    pub(crate) resources: (bool, Vec<String>),
    /// Operator → key → values.
    pub(crate) conditions: Entries<Entries<Vec<String>>>,
}

impl Draft {
    pub(crate) fn of(statement: &Statement) -> Self {
        let mut draft = Self {
            sid: statement.sid.clone(),
            effect: statement.effect,
            principals: statement.principals.clone(),
            actions: (statement.actions.negated, statement.actions.written.iter().map(ToString::to_string).collect()),
            resources: (
                statement.resources.negated,
                statement.resources.patterns.iter().map(|pattern| pattern.text.to_string()).collect(),
            ),
            conditions: Vec::new(),
        };
        for condition in &statement.conditions {
            let values = condition.values.iter().map(ToString::to_string);
            draft.condition(&condition.operator.to_string(), &condition.key.to_string(), values);
        }
        draft
    }

    /// Adds values to a line of the condition, or the line.
    pub(crate) fn condition(&mut self, operator: &str, key: &str, values: impl IntoIterator<Item = String>) {
        let lines = entry(&mut self.conditions, operator);
        entry(lines, key).extend(values);
    }

    /// Puts values into a line of the condition in place of those that it has, or adds the line.
    pub(crate) fn replace_condition(&mut self, operator: &str, key: &str, values: Vec<String>) {
        *entry(entry(&mut self.conditions, operator), key) = values;
    }

    pub(crate) fn json(&self) -> String {
        let mut members = Vec::new();
        if let Some(sid) = &self.sid {
            members.push(format!("\"Sid\": {}", json_string(sid)));
        }
        members.push(format!("\"Effect\": \"{}\"", if self.effect == Effect::Allow { "Allow" } else { "Deny" }));
        match &self.principals {
            Principals::Holder => {}
            Principals::Listed(names) => members.push(format!("\"Principal\": {}", principals(names))),
            Principals::Except(names) => members.push(format!("\"NotPrincipal\": {}", principals(names))),
        }
        for (name, (negated, texts)) in [("Action", &self.actions), ("Resource", &self.resources)] {
            members.push(format!("\"{}{name}\": {}", if *negated { "Not" } else { "" }, strings(texts)));
        }
        if !self.conditions.is_empty() {
            members.push(format!("\"Condition\": {}", object(&self.conditions, |lines| object(lines, |v| strings(v)))));
        }
        format!("{{{}}}", members.join(", "))
    }
}

fn entry<'e, T: Default>(entries: &'e mut Vec<(String, T)>, name: &str) -> &'e mut T {
    let index = entries.iter().position(|(own, _)| own == name).unwrap_or(entries.len());
    if index == entries.len() {
        entries.push((name.to_owned(), T::default()));
    }
    &mut entries[index].1
}

fn object<T>(entries: &[(String, T)], write: impl Fn(&T) -> String) -> String {
    let members: Vec<String> =
        entries.iter().map(|(name, value)| format!("{}: {}", json_string(name), write(value))).collect();
    format!("{{{}}}", members.join(", "))
}

fn strings(texts: &[String]) -> String {
    match texts {
        [only] => json_string(only),
        several => format!("[{}]", several.iter().map(|text| json_string(text)).collect::<Vec<_>>().join(", ")),
    }
}

fn principals(names: &[Named]) -> String {
    if names == [Named::Everyone] {
        return "\"*\"".into();
    }
    let mut classes: Vec<(String, Vec<String>)> = Vec::new();
    for named in names {
        entry(&mut classes, named.class()).push(named.name().unwrap_or("*").to_owned());
    }
    object(&classes, |names| strings(names))
}

/// A text that stands for itself in a policy of this version: where variables work, so do escapes. Where they don't, a
/// wildcard stands for itself among others.
pub(crate) fn literal(text: &str, wildcards: bool, version: Version) -> String {
    if version == Version::V2008 {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' if wildcards => out.push_str(&format!("${{{c}}}")),
            '$' if chars.peek() == Some(&'{') => out.push_str("${$}"),
            c => out.push(c),
        }
    }
    out
}
