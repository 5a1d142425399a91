//! What an action changes on the way: header fields, host, path.

use brattice_wire::snapshot::{HeaderEdits, PathMatchKind, PathRewrite, Rewrite};

use super::value;
use crate::diagnostic::{Diagnostic, Position, quote};
use crate::limits::{MAX_HEADER_EDITS, MAX_SUBSTITUTION};
use crate::yaml::{Decoder, Node};

/// `requestHeaders` or `responseHeaders`. `own`: fields that the action itself writes, and what says so.
pub(super) fn header_edits(
    d: &mut Decoder<'_>,
    node: &Node,
    what: &'static str,
    own: &[(&'static str, &'static str)],
) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    let Some(mut fields) = d.fields(node, what) else { return edits };
    let mut places: Vec<(String, Position)> = Vec::new();
    if let Some(node) = fields.take(d, "set") {
        edits.set = pairs(d, node, own, Some(&mut places));
    }
    if let Some(node) = fields.take(d, "add") {
        // Several of one name are several fields.
        edits.add = pairs(d, node, own, None);
    }
    if let Some(node) = fields.take(d, "remove") {
        for item in d.list(node, 1..=MAX_HEADER_EDITS, "names of header fields").unwrap_or_default() {
            let Some(name) = value::edited_field(d, item).filter(|name| free(d, item, name, own)) else { continue };
            let at = d.at(item.mark);
            if once(d, &places, &name, &at) {
                places.push((name.clone(), at));
                edits.remove.push(name);
            }
        }
    }
    let empty = !["set", "add", "remove"].into_iter().any(|name| fields.has(name));
    if fields.finish(d) && empty {
        let diagnostic =
            d.error(node.mark, "nothing is changed").expected("`set`, `add`, `remove`, or several of them");
        d.report(diagnostic);
    }
    edits
}

fn pairs(
    d: &mut Decoder<'_>,
    node: &Node,
    own: &[(&'static str, &'static str)],
    mut places: Option<&mut Vec<(String, Position)>>,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for item in d.list(node, 1..=MAX_HEADER_EDITS, "header fields").unwrap_or_default() {
        let Some(mut fields) = d.fields(item, "a header field") else { continue };
        let name_node = fields.need(d, "name");
        let name = name_node.and_then(|node| value::edited_field(d, node).filter(|name| free(d, node, name, own)));
        let value = fields.need(d, "value").and_then(|node| value::field_value(d, node));
        fields.finish(d);
        let (Some(name), Some(value)) = (name, value) else { continue };
        let at = d.at(name_node.unwrap_or(item).mark);
        if let Some(places) = &mut places {
            if !once(d, places, &name, &at) {
                continue;
            }
            places.push((name.clone(), at));
        }
        found.push((name, value));
    }
    found
}

fn once(d: &mut Decoder<'_>, places: &[(String, Position)], name: &str, at: &Position) -> bool {
    let Some((_, first)) = places.iter().find(|(other, _)| other == name) else { return true };
    let message = format!("the header field {} is changed twice; first at {}", quote(name), first.place());
    d.report(Diagnostic::error(at, message).help("`set` takes away what was there; several values go to `add`"));
    false
}

fn free(d: &mut Decoder<'_>, node: &Node, name: &str, own: &[(&'static str, &'static str)]) -> bool {
    let Some((_, by)) = own.iter().find(|(field, _)| *field == name) else { return true };
    let diagnostic = d.error(node.mark, format!("the header field {} is written by {by}", quote(name)));
    d.report(diagnostic.help("say it in one place"));
    false
}

/// `rewrite` of a forward. `rule_path`: how the rule compares the path, if at all.
pub(super) fn rewrite(d: &mut Decoder<'_>, node: &Node, rule_path: Option<PathMatchKind>) -> Rewrite {
    let Some(mut fields) = d.fields(node, "a rewrite") else { return Rewrite::default() };
    let host = fields.take(d, "hostname").and_then(|node| value::host(d, node, true));
    let path = fields.take(d, "path").and_then(|node| path_rewrite(d, node, rule_path));
    let empty = !fields.has("hostname") && !fields.has("path");
    if fields.finish(d) && empty {
        let diagnostic = d.error(node.mark, "nothing is rewritten").expected("`hostname`, `path` or both");
        d.report(diagnostic);
    }
    Rewrite { host, path }
}

/// `{exact}`, `{prefix}` or `{regex}`: what happens to the path, in the words of `pathMatch`. Where the rule has no condition
/// on the path, the prefix is `/`.
pub(super) fn path_rewrite(d: &mut Decoder<'_>, node: &Node, rule_path: Option<PathMatchKind>) -> Option<PathRewrite> {
    let names = ["exact", "prefix", "regex"];
    let (name, node) = d.member(node, "a path's rewrite", &names)?;
    match name {
        "exact" => Some(PathRewrite::Full(value::path(d, node, false)?)),
        "prefix" => {
            let value = value::path(d, node, false)?;
            if let Some(PathMatchKind::Exact | PathMatchKind::Regex) = rule_path {
                let diagnostic = d.error(node.mark, "the rule compares no prefix that could be replaced");
                d.report(diagnostic.help("say `exact` or `regex`, or match the path by `prefix`"));
                return None;
            }
            Some(PathRewrite::Prefix(value))
        }
        _ => regex_rewrite(d, node),
    }
}

fn regex_rewrite(d: &mut Decoder<'_>, node: &Node) -> Option<PathRewrite> {
    let mut fields = d.fields(node, "a rewrite by a regular expression")?;
    let pattern = fields.need(d, "pattern").and_then(|node| d.located(node, "a regular expression"));
    let substitution = fields.need(d, "substitution").and_then(|node| {
        let text = d.located(node, "what is put instead")?;
        if text.len() > MAX_SUBSTITUTION {
            let message = format!("the substitution has {} bytes; at most {MAX_SUBSTITUTION}", text.len());
            d.report(Diagnostic::error(&text.at, message));
            return None;
        }
        Some(text)
    });
    fields.finish(d);
    let (pattern, substitution) = (pattern?, substitution?);
    value::count_regex(d, &pattern.at)?;
    if let Err(why) = brattice_router::rewrite::check(&pattern, &substitution) {
        let at = if why.is_about_substitution() { &substitution.at } else { &pattern.at };
        d.report(Diagnostic::error(at, why.to_string()));
        return None;
    }
    Some(PathRewrite::Regex { pattern: pattern.value, substitution: substitution.value })
}
