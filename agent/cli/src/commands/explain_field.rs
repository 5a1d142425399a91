//! `brattice explain-field`: what the schema of documents says about a field, as `kubectl explain` does.

use std::process::ExitCode;

use brattice_model::nearest;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::arguments::{ExplainFieldArguments, Format};
use crate::fold::fold;
use crate::output::{Look, Table, Tone, paint, print, print_as};
use crate::{Failure, Outcome};

/// The schema that the tests hold against the parser.
const SCHEMA: &str = include_str!("../../../../policies/schema.json");
/// Deepest that `--recursive` goes. The schema has no ring; this holds if it ever gets one.
const DEEPEST: usize = 16;
/// Longest pattern that is shown: longer ones are of addresses, which the description names.
const LONGEST_PATTERN: usize = 60;

pub(crate) fn run(arguments: &ExplainFieldArguments) -> Outcome {
    let schema: Value = serde_json::from_str(SCHEMA).map_err(Failure::new)?;
    let schema = Schema { root: &schema };
    let Some(path) = &arguments.path else {
        return Ok(kinds(&schema, arguments));
    };
    let field = schema.find(path)?;
    match arguments.output {
        Format::Json | Format::Yaml => print_as(arguments.output, &json!(field)),
        Format::Table | Format::Wide => {
            let look = Look::of_stdout(arguments.output == Format::Wide);
            print(&fold(&text(&field, arguments.recursive, look), look));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Without a path: the kinds of documents.
fn kinds(schema: &Schema<'_>, arguments: &ExplainFieldArguments) -> ExitCode {
    let kinds: Vec<Field> = schema.kinds().map(|(name, kind)| schema.field(name, name, kind, false, 0)).collect();
    match arguments.output {
        Format::Json | Format::Yaml => print_as(arguments.output, &json!(kinds)),
        Format::Table | Format::Wide => {
            let mut table = Table::new(&["KIND", "DESCRIPTION"]);
            for kind in &kinds {
                table.row(&[(&kind.name, Tone::Plain), (&kind.description, Tone::Plain)]);
            }
            print(&table.render(Look::of_stdout(arguments.output == Format::Wide)));
        }
    }
    ExitCode::SUCCESS
}

/// The description of a field.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Field {
    /// From the kind: `Service.spec.listeners`.
    path: String,
    name: String,
    r#type: String,
    required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<Value>,
    /// Bounds of a number, a length or a count.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    /// Action and field of VPC Lattice's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    lattice: Option<String>,
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
}

struct Schema<'s> {
    root: &'s Value,
}

impl<'s> Schema<'s> {
    fn kinds(&self) -> impl Iterator<Item = (&'s str, &'s Value)> {
        let all = self.root.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let pointers = all.filter_map(|kind| kind.get("$ref")?.as_str()?.strip_prefix('#'));
        pointers.filter_map(move |pointer| Some((pointer.rsplit('/').next()?, self.root.pointer(pointer)?)))
    }

    /// What a reference leads to, with what stands beside the reference.
    fn resolve(&self, schema: &'s Value) -> (Map<String, Value>, &'s Value) {
        let own = schema.as_object().cloned().unwrap_or_default();
        let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        let Some(target) = pointer.and_then(|pointer| self.root.pointer(pointer)) else { return (own, schema) };
        let mut all = target.as_object().cloned().unwrap_or_default();
        all.extend(own);
        (all, target)
    }

    /// Members of an object, of all its alternatives; of a list, those of its items. With whether they must be there.
    fn members(&self, schema: &'s Value) -> Vec<(&'s str, &'s Value, bool)> {
        let (_, schema) = self.resolve(schema);
        let mut found: Vec<(&str, &Value, bool)> = Vec::new();
        let required = |name: &str| {
            let names = schema.get("required").and_then(Value::as_array);
            names.is_some_and(|names| names.iter().any(|own| own == name))
        };
        let own = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        found.extend(own.map(|(name, value)| (name.as_str(), value, required(name))));
        let alternatives = ["oneOf", "anyOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
        let more = alternatives.chain(schema.get("items"));
        for (name, value, _) in more.flat_map(|schema| self.members(schema)) {
            if found.iter().all(|(there, ..)| *there != name) {
                // Of an alternative: it is there in some documents only. Of an item: required as it says.
                let must = schema
                    .get("items")
                    .is_some_and(|items| self.members(items).iter().any(|(own, _, must)| *own == name && *must));
                found.push((name, value, must));
            }
        }
        found
    }

    /// `Service.spec.listeners`.
    fn find(&self, path: &str) -> Result<Field, Failure> {
        let mut words = path.split('.').filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        let Some((kind, mut schema)) = self.kinds().find(|(kind, _)| is_kind(kind, first)) else {
            let names: Vec<&str> = self.kinds().map(|(kind, _)| kind).collect();
            return Err(unknown("kind", first, &names, "A path begins with a kind, such as Service.spec.listeners"));
        };
        let (mut place, mut name, mut required) = (kind.to_owned(), kind, false);
        for word in words {
            let members = self.members(schema);
            // `listeners[0]` is one of `listeners`.
            let word = word.split('[').next().unwrap_or_default();
            let Some((found, value, must)) = member(&members, word) else {
                let names: Vec<&str> = members.iter().map(|(own, ..)| *own).collect();
                return Err(unknown("field", word, &names, &format!("This is all there is in {place}")));
            };
            place = format!("{place}.{found}");
            (name, schema, required) = (*found, *value, *must);
        }
        Ok(self.field(&place, name, schema, required, 0))
    }

    fn field(&self, path: &str, name: &str, schema: &'s Value, required: bool, depth: usize) -> Field {
        let (all, _) = self.resolve(schema);
        let text = |key: &str| all.get(key).and_then(Value::as_str).map(str::to_owned);
        let fields = if depth < DEEPEST {
            let members = self.members(schema).into_iter();
            members
                .map(|(own, value, must)| self.field(&format!("{path}.{own}"), own, value, must, depth + 1))
                .collect()
        } else {
            Vec::new()
        };
        Field {
            path: path.to_owned(),
            name: name.to_owned(),
            r#type: self.type_of(schema),
            required,
            default: all.get("default").cloned(),
            range: range(&all),
            pattern: text("pattern").filter(|pattern| pattern.len() <= LONGEST_PATTERN),
            lattice: text("x-lattice"),
            description: text("description").unwrap_or_default(),
            fields,
        }
    }

    fn type_of(&self, schema: &'s Value) -> String {
        let (all, target) = self.resolve(schema);
        if let Some(values) = all.get("enum").and_then(Value::as_array) {
            let values: Vec<String> = values.iter().map(shown).collect();
            return format!("one of {}", values.join(", "));
        }
        if let Some(value) = all.get("const") {
            return shown(value);
        }
        match all.get("type").and_then(Value::as_str) {
            Some("string") => "text".into(),
            Some("integer") => "whole number".into(),
            Some("boolean") => "true or false".into(),
            Some("array") => {
                format!(
                    "list of {}",
                    target.get("items").map_or_else(|| "anything".to_owned(), |items| self.type_of(items))
                )
            }
            Some("object") if !self.members(target).is_empty() => "object".into(),
            Some("object") => "object of names and values".into(),
            _ => {
                let alternatives =
                    ["oneOf", "anyOf"].into_iter().filter_map(|word| target.get(word)?.as_array()).flatten();
                let mut types: Vec<String> = Vec::new();
                for found in alternatives.map(|schema| self.type_of(schema)) {
                    if !types.contains(&found) {
                        types.push(found);
                    }
                }
                if types.is_empty() { "anything".into() } else { types.join(" or ") }
            }
        }
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn unknown(what: &str, name: &str, known: &[&str], hint: &str) -> Failure {
    let guess =
        nearest(name, known.iter().copied()).map(|found| format!("; did you mean {found}?")).unwrap_or_default();
    let list = if known.is_empty() { String::new() } else { format!(": {}", known.join(", ")) };
    Failure::new(format!("no {what} is named {name:?}{guess}\n{hint}{list}"))
}

/// `1 to 65535`, `3 to 40 characters`, `at most 20 items`.
fn range(schema: &Map<String, Value>) -> Option<String> {
    let bounds = [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " members"),
    ];
    bounds.into_iter().find_map(|(least, most, unit)| match (schema.get(least), schema.get(most)) {
        (Some(least), Some(most)) if least == most => Some(format!("exactly {least}{unit}")),
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    })
}

/// Whether a name is meant: in any case, in the singular or the plural.
fn is_called(name: &str, word: &str) -> bool {
    let plural = |name: &str| match name.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{name}s"),
    };
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    same(name, word) || same(&plural(name), word) || same(name, &plural(word))
}

/// Whether a kind is meant: as for [`is_called`], or by the short name that `kubectl` has.
fn is_kind(kind: &str, word: &str) -> bool {
    is_called(kind, word) || (kind == "Service" && word.eq_ignore_ascii_case("svc"))
}

/// The member that is meant; one that is called exactly so comes first.
fn member<'m, 's, T>(members: &'m [(&'s str, T, bool)], word: &str) -> Option<&'m (&'s str, T, bool)> {
    let exact = members.iter().find(|(own, ..)| own.eq_ignore_ascii_case(word));
    exact.or_else(|| members.iter().find(|(own, ..)| is_called(own, word)))
}

fn text(field: &Field, recursive: bool, look: Look) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        out.push_str(&paint(&format!("{name:<12}"), Tone::Faint, look.colours));
        out.push_str(value);
        out.push('\n');
    };
    line("FIELD", &field.path);
    line("TYPE", &field.r#type);
    if let Some(default) = &field.default {
        line("DEFAULT", &shown(default));
    }
    for (name, value) in [("RANGE", &field.range), ("PATTERN", &field.pattern), ("LATTICE", &field.lattice)] {
        if let Some(value) = value {
            line(name, value);
        }
    }
    line("REQUIRED", if field.required { "yes" } else { "no" });
    line("DESCRIPTION", &field.description);
    if recursive && !field.fields.is_empty() {
        out.push('\n');
        tree(&mut out, &field.fields, 0);
    } else if !field.fields.is_empty() {
        let mut table = Table::new(&["FIELD", "TYPE", "REQUIRED", "DEFAULT", "DESCRIPTION"]);
        for own in &field.fields {
            let default = own.default.as_ref().map(shown).unwrap_or_default();
            let required = if own.required { "yes" } else { "" };
            let row = [own.name.as_str(), own.r#type.as_str(), required, default.as_str(), own.description.as_str()];
            table.row(&row.map(|text| (text, Tone::Plain)));
        }
        out.push('\n');
        out.push_str(&table.render(look));
    }
    out
}

fn tree(out: &mut String, fields: &[Field], depth: usize) {
    for field in fields {
        let required = if field.required { ", required" } else { "" };
        out.push_str(&format!("{}{}  <{}>{required}\n", "  ".repeat(depth), field.name, field.r#type));
        tree(out, &field.fields, depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str) -> Result<Field, String> {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        Schema { root: &schema }.find(path).map_err(|failure| failure.text)
    }

    #[test]
    fn names_are_taken_in_the_singular_and_the_plural() {
        for (path, found) in [
            ("services", "Service"),
            ("svc", "Service"),
            ("svc.spec.listeners", "Service.spec.listeners"),
            ("authpolicies.spec", "AuthPolicy.spec"),
            ("targetgroups.spec.target", "TargetGroup.spec.targets"),
            ("service.spec.listeners[0].port", "Service.spec.listeners.port"),
            ("Service.spec.customDomainName", "Service.spec.customDomainName"),
            ("Service.spec.customDomainNames", "Service.spec.customDomainNames"),
        ] {
            assert_eq!(find(path).unwrap().path, found, "{path}");
        }
        assert!(find("servicez").unwrap_err().contains("Service"));
    }

    #[test]
    fn a_field_is_told_with_type_default_range_and_lattices_name() {
        let listeners = find("Service.spec.listeners").unwrap();
        assert_eq!((listeners.r#type.as_str(), listeners.range.as_deref()), ("list of object", Some("1 to 20 items")));
        assert!(listeners.required && listeners.lattice.as_deref() == Some("CreateListener"), "{listeners:?}");
        let shown = text(&listeners, false, Look::default());
        for word in
            ["FIELD       Service.spec.listeners", "defaultAction", "one of", "1 to 20 items", "forwardedHeaders"]
        {
            assert!(shown.contains(word), "{word} in {shown}");
        }
        let weight = find("service.SPEC.listeners.defaultAction.forward.targetGroups.weight").unwrap();
        assert_eq!(weight.path, "Service.spec.listeners.defaultAction.forward.targetGroups.weight");
        assert_eq!(weight.r#type, "whole number");
        assert!(weight.range.is_some() && weight.description.contains("Share of the requests"), "{weight:?}");
        let dns = find("Vpc.spec.dns").unwrap();
        assert_eq!(
            (dns.r#type.as_str(), dns.default, dns.lattice),
            ("one of vip, intercept", Some("vip".into()), None)
        );
        assert_eq!(find("TargetGroup.spec.type").unwrap().r#type, "IP");
        assert!(text(&find("Service").unwrap(), true, Look::default()).contains("        pathMatch  <object>"));
    }

    #[test]
    fn what_is_not_there_is_told_with_the_nearest() {
        assert!(find("Servise.spec").unwrap_err().contains("did you mean Service?"));
        let error = find("Service.spec.listner").unwrap_err();
        assert!(error.contains("did you mean listeners?") && error.contains("in Service.spec: "), "{error}");
        assert!(find("Service.spec.idleTimeoutSeconds.more").unwrap_err().contains("no field is named"));
    }

    #[test]
    fn every_field_has_a_path_a_type_and_a_description() {
        fn walk(field: &Field, count: &mut usize) {
            *count += 1;
            assert!(!field.description.is_empty() && !field.r#type.is_empty(), "{}", field.path);
            for own in &field.fields {
                assert_eq!(find(&own.path).unwrap().description, own.description, "{}", own.path);
                walk(own, count);
            }
        }
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let schema = Schema { root: &schema };
        let mut count = 0;
        for (name, kind) in schema.kinds() {
            walk(&schema.field(name, name, kind, false, 0), &mut count);
        }
        assert!(count > 240, "{count}");
    }
}
