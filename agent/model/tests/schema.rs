//! `policies/schema.json` and the parser agree, on the examples and on what is wrong in the golden table.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use brattice_model::{Owner, Source, VipState, parse};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};
use world::{read, source, sources};

fn policies() -> PathBuf {
    PathBuf::from("../../policies")
}

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(policies().join("schema.json")).unwrap()).unwrap()
}

/// The documents of a YAML text as JSON; `None` if it is none, or has what JSON has not.
fn documents(text: &str) -> Option<Vec<Value>> {
    let mut events = Vec::new();
    for event in Parser::new_from_str(text) {
        events.push(event.ok()?.0);
    }
    let mut events = events.into_iter().peekable();
    let mut documents = Vec::new();
    while let Some(event) = events.next() {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event => documents.push(value(event, &mut events)?),
        }
    }
    documents.retain(|document| !document.is_null());
    Some(documents)
}

fn value<'t>(event: Event<'t>, rest: &mut impl Iterator<Item = Event<'t>>) -> Option<Value> {
    match event {
        Event::Scalar(text, style, 0, None) => Some(scalar(&text, style == ScalarStyle::Plain)),
        Event::SequenceStart(0, None) => {
            let mut items = Vec::new();
            loop {
                match rest.next()? {
                    Event::SequenceEnd => return Some(Value::Array(items)),
                    event => items.push(value(event, rest)?),
                }
            }
        }
        Event::MappingStart(0, None) => {
            let mut members = Map::new();
            loop {
                match rest.next()? {
                    Event::MappingEnd => return Some(Value::Object(members)),
                    Event::Scalar(key, ..) if key != "<<" => {
                        let event = rest.next()?;
                        let value = value(event, rest)?;
                        if members.insert(key.into_owned(), value).is_some() {
                            return None;
                        }
                    }
                    _ => return None,
                }
            }
        }
        _ => None,
    }
}

fn scalar(text: &str, plain: bool) -> Value {
    match text {
        _ if !plain => text.into(),
        "" | "~" | "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ => text.parse::<i64>().map_or_else(|_| text.into(), Into::into),
    }
}

/// What of JSON schema our file uses; anything else in it is a mistake.
struct Validator<'s> {
    root: &'s Value,
}

impl Validator<'_> {
    fn accepts(&self, schema: &Value, value: &Value) -> bool {
        let members = schema.as_object().expect("a schema is an object");
        members.iter().all(|(keyword, rule)| self.keyword(members, keyword, rule, value))
    }

    fn keyword(&self, schema: &Map<String, Value>, keyword: &str, rule: &Value, value: &Value) -> bool {
        let size = || usize::try_from(rule.as_u64().unwrap()).unwrap();
        let all = |list: &Value| list.as_array().unwrap().clone();
        match keyword {
            "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "x-lattice" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                self.accepts(self.root.pointer(pointer).expect("a definition"), value)
            }
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                "boolean" => value.is_boolean(),
                other => panic!("type {other}"),
            },
            "const" => value == rule,
            "enum" => all(rule).contains(value),
            "oneOf" => all(rule).iter().filter(|schema| self.accepts(schema, value)).count() == 1,
            "anyOf" => all(rule).iter().any(|schema| self.accepts(schema, value)),
            "not" => !self.accepts(rule, value),
            "pattern" => value
                .as_str()
                .is_none_or(|text| regex_lite::Regex::new(rule.as_str().unwrap()).expect("a pattern").is_match(text)),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() >= size()),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() <= size()),
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= rule.as_i64().unwrap()),
            "minItems" => value.as_array().is_none_or(|items| items.len() >= size()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() <= size()),
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| self.accepts(rule, item))),
            "minProperties" => value.as_object().is_none_or(|members| members.len() >= size()),
            "maxProperties" => value.as_object().is_none_or(|members| members.len() <= size()),
            "required" => value
                .as_object()
                .is_none_or(|members| all(rule).iter().all(|name| members.contains_key(name.as_str().unwrap()))),
            "properties" => value.as_object().is_none_or(|members| {
                let rules = rule.as_object().unwrap();
                members.iter().all(|(name, value)| rules.get(name).is_none_or(|rule| self.accepts(rule, value)))
            }),
            "propertyNames" => value
                .as_object()
                .is_none_or(|members| members.keys().all(|name| self.accepts(rule, &name.as_str().into()))),
            "additionalProperties" => value.as_object().is_none_or(|members| {
                let known = schema.get("properties").and_then(Value::as_object);
                let mut more = members.iter().filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                match rule {
                    Value::Bool(false) => more.next().is_none(),
                    rule => more.all(|(_, value)| self.accepts(rule, value)),
                }
            }),
            other => panic!("the schema uses {other}, which this test does not know"),
        }
    }
}

fn accepted(schema: &Value, text: &str) -> Option<bool> {
    let validator = Validator { root: schema };
    Some(documents(text)?.iter().all(|document| validator.accepts(schema, document)))
}

/// All document files under a directory, as the agent finds them.
fn files(directory: &Path, prefix: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), &format!("{prefix}{name}/"), found);
        } else if name.ends_with(".yaml") {
            found.push(source(&format!("{prefix}{name}"), &fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

#[test]
fn the_examples_are_right_and_red_sees_nothing() {
    let mut examples = Vec::new();
    files(&policies(), "", &mut examples);
    assert!(examples.len() >= 6);
    let outcome = read(&examples, &VipState::default(), 0);
    assert!(outcome.errors.is_empty() && outcome.warnings.is_empty(), "{:?} {:?}", outcome.errors, outcome.warnings);
    let model = outcome.linked.unwrap().model;
    assert!(model.associations.iter().all(|association| association.status.is_active()));
    let plan = brattice_model::plan(&model, &[], &mut brattice_model::Numbers::default(), 1);
    let sees: BTreeMap<&str, usize> =
        plan.snapshot.vpcs.iter().map(|vpc| (vpc.name.as_str(), vpc.services.len())).collect();
    assert_eq!(sees, BTreeMap::from([("platform/blue", 2), ("platform/green", 2), ("platform/red", 0)]));
    let schema = schema();
    for example in examples.iter().chain(&sources()) {
        assert_eq!(accepted(&schema, &example.text), Some(true), "{}", example.path);
    }
}

#[test]
fn every_property_is_described() {
    fn walk(schema: &Value, place: &str, found: &mut usize, bare: &mut Vec<String>) {
        match schema {
            Value::Object(members) => {
                for (name, property) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    let place = format!("{place}.{name}");
                    *found += 1;
                    if property.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
                        bare.push(place.clone());
                    }
                    walk(property, &place, found, bare);
                }
                for (name, value) in members.iter().filter(|(name, _)| *name != "properties") {
                    walk(value, &format!("{place}/{name}"), found, bare);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, place, found, bare)),
            _ => {}
        }
    }
    let (mut found, mut bare) = (0, Vec::new());
    walk(&schema(), "", &mut found, &mut bare);
    assert!(found >= 240, "{found}");
    assert!(bare.is_empty(), "without a description: {bare:#?}");
}

#[test]
fn the_example_of_each_use_case_is_right_and_listed() {
    let root = Path::new("../../examples");
    let page = fs::read_to_string(root.join("README.md")).unwrap();
    let schema = schema();
    let mut names = Vec::new();
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        let mut example = Vec::new();
        files(&entry.path(), "", &mut example);
        assert!(!example.is_empty(), "{name} is empty");
        let outcome = read(&example, &VipState::default(), 0);
        assert!(
            outcome.errors.is_empty() && outcome.warnings.is_empty(),
            "{name}: {:?} {:?}",
            outcome.errors,
            outcome.warnings
        );
        let model = outcome.linked.unwrap().model;
        assert!(!model.services.is_empty() && !model.associations.is_empty(), "{name}");
        assert!(model.associations.iter().all(|association| association.status.is_active()), "{name}");
        for file in &example {
            assert_eq!(accepted(&schema, &file.text), Some(true), "{name}/{}", file.path);
        }
        names.push(name);
    }
    let mut listed: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| [")?.split_once(']')).map(|(name, _)| name).collect();
    names.sort();
    listed.sort_unstable();
    assert_eq!(names, listed, "examples/README.md lists them");
    assert!(names.len() >= 10);
}

#[test]
fn the_examples_of_the_readme_are_right() {
    let readme = fs::read_to_string(policies().join("README.md")).unwrap();
    let snippets: Vec<&str> = readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(snippets.len(), 2);
    let mut examples = Vec::new();
    files(&policies(), "", &mut examples);
    for example in &mut examples {
        if example.path == "vpcs.yaml" {
            example.text = format!("{}---\n{}", example.text, snippets[1]);
        } else if example.path == "accounts/shop/orders.yaml" {
            let rules: String = snippets[0].lines().map(|line| format!("    {line}\n")).collect();
            example.text = example.text.replacen("    defaultAction:", &format!("{rules}    defaultAction:"), 1);
        }
    }
    let outcome = read(&examples, &VipState::default(), 0);
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    assert_eq!(outcome.linked.unwrap().model.service("shop/orders").unwrap().listeners[0].rules.len(), 1);
}

/// What the parser finds and a schema cannot say: several things compared with each other, places, numbers in text.
const BEYOND_A_SCHEMA: &[&str] = &[
    "an account's kind with the operator",
    "the operator's kind with an account",
    "the same name twice",
    "CIDR blocks that overlap",
    "two workloads, one interface",
    "two listeners on one port",
    "two listeners of one name",
    "weights all 0",
    "one target group twice",
    "one priority twice",
    "one rule name twice",
    "regular expressions",
    "conditions that contradict each other",
    "one VPC twice",
    "header fields changed twice",
    "network twice",
    "one target twice",
    "targets that do not fit ipAddressType",
    "policy: a trailing comma in JSON text",
    "policy: an unknown key in JSON text",
    "policy: an error in quoted JSON text",
    "policy: an error in escaped JSON text",
    "policy: an error in folded JSON text",
    "policy: errors in YAML",
    "policy: of the operator",
    "role: a policy with a principal",
    "role: twice",
    "role: of an account",
];

#[test]
fn schema_and_parser_agree_on_the_golden_table() {
    let schema = schema();
    let table = include_str!("golden.txt").split_once("\n=== ").unwrap().1;
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for case in table.split("\n=== ") {
        let (title, rest) = case.split_once("\n--- ").unwrap();
        let (path, rest) = rest.split_once('\n').unwrap();
        let text = rest.split_once(">>>\n").unwrap().0.replace("\\x1b", "\u{1b}");
        let (Ok(owner), Some(by_schema)) = (Owner::of_path(path), accepted(&schema, &text)) else { continue };
        compared += 1;
        let by_parser = parse(&owner, &[source(path, &text)]).is_ok();
        let beyond = BEYOND_A_SCHEMA.contains(&title);
        if (by_schema != by_parser) != beyond || (beyond && by_parser) {
            wrong.push(format!("{title}: schema {by_schema}, parser {by_parser}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(compared >= 100, "{compared}");
}
