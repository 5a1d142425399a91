//! From a tree to a policy: the grammar. Every element is known or an error; all errors are found in one run.

mod conditions;
mod principals;

use std::collections::HashMap;
use std::sync::Arc;

use crate::condition::Test;
use crate::finding::{Finding, Mark, Sink, nearest, quote};
use crate::glob;
use crate::language::{Attachment, Effect, Version};
use crate::limits::{AWS_POLICY_BYTES, MAX_POLICY_BYTES, MAX_SID};
use crate::operator::Operator;
use crate::pattern::{Pattern, Reading};
use crate::policy::{Actions, Policy, Read, Resources, Statement};
use crate::principal::Principals;
use crate::request::Action;
use crate::tree::{Content, Name, Tree};

const IN_POLICY: [&str; 3] = ["Version", "Id", "Statement"];
const IN_STATEMENT: [&str; 9] =
    ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"];

impl Policy {
    /// Reads JSON text; `file` names it in reasons.
    pub fn from_json(text: &str, file: impl Into<Arc<str>>, attachment: Attachment) -> Read {
        match crate::json::parse(text) {
            Ok(tree) => Self::from_tree(&tree, file, attachment),
            Err(finding) => Read { policy: None, findings: vec![*finding] },
        }
    }

    /// Reads a policy from a tree, for callers that do not have it as JSON text.
    pub fn from_tree(tree: &Tree, file: impl Into<Arc<str>>, attachment: Attachment) -> Read {
        policy(tree, file.into(), attachment)
    }
}

fn policy(tree: &Tree, file: Arc<str>, attachment: Attachment) -> Read {
    let mut reader = Reader { sink: Sink::default(), attachment, version: Version::V2008, statement: None };
    let bytes = tree.compact_bytes();
    let policy = if bytes > MAX_POLICY_BYTES {
        let message = format!("the policy has {bytes} bytes as compact JSON; at most {MAX_POLICY_BYTES} are allowed");
        reader.report(Finding::error(tree.at, message).help("split it, or use wildcards and variables"));
        None
    } else {
        reader.policy(tree, file)
    };
    if bytes > AWS_POLICY_BYTES && policy.is_some() {
        let message = format!("the policy has {bytes} bytes as compact JSON; AWS takes {AWS_POLICY_BYTES}");
        reader.report(Finding::warning(tree.at, message).help("it works here, but cannot be taken to AWS"));
    }
    let policy = policy.filter(|_| !reader.sink.has_errors());
    Read { policy, findings: reader.sink.finish() }
}

/// A condition's test with one value alone, of a condition that was read before.
pub(crate) fn alone(operator: Operator, text: &str, version: Version) -> Option<Test> {
    let mut reader = Reader { sink: Sink::default(), attachment: Attachment::ServiceNetwork, version, statement: None };
    reader.test(operator, &[(Mark::START, text)]).filter(|_| !reader.sink.has_errors())
}

pub(super) struct Reader {
    sink: Sink,
    attachment: Attachment,
    version: Version,
    /// The number of the statement that is read, where its place does not tell it from others.
    statement: Option<usize>,
}

/// Members of an object by their known names.
type Members<'t> = HashMap<&'static str, &'t Tree>;

impl Reader {
    fn report(&mut self, finding: Finding) {
        self.sink.push(match self.statement {
            Some(number) => finding.of_statement(number),
            None => finding,
        });
    }

    fn wrong(&mut self, tree: &Tree, expected: impl Into<String>) {
        self.report(Finding::error(tree.at, format!("found {}", tree.what())).expected(expected));
    }

    fn entries<'t>(&mut self, tree: &'t Tree, what: &str) -> Option<&'t [(Name, Tree)]> {
        if let Content::Map(entries) = &tree.content {
            return Some(entries);
        }
        self.wrong(tree, format!("{what}: an object"));
        None
    }

    /// The members of an object; those that are not known are reported.
    fn members<'t>(&mut self, tree: &'t Tree, known: &[&'static str], what: &str) -> Option<Members<'t>> {
        let mut members = Members::new();
        for (name, value) in self.entries(tree, what)? {
            if let Some(known) = known.iter().find(|known| **known == name.text) {
                members.insert(known, value);
                continue;
            }
            let finding = Finding::error(name.at, format!("unknown element {} in {what}", quote(&name.text)));
            self.report(match nearest(&name.text, known.iter().copied()) {
                Some(near) => finding.nearest(Some(near)),
                None => finding.expected(format!("one of {}", known.join(", "))),
            });
        }
        Some(members)
    }

    fn string<'t>(&mut self, tree: &'t Tree, what: &str) -> Option<&'t str> {
        match &tree.content {
            Content::String(text) => Some(text),
            Content::Number(text) => {
                let finding = Finding::error(tree.at, format!("found the number {}", quote(text)));
                self.report(finding.expected(format!("{what}: a string")).help(format!("write \"{text}\"")));
                None
            }
            _ => {
                self.wrong(tree, format!("{what}: a string"));
                None
            }
        }
    }

    /// One item, or a list of some.
    fn one_or_more<'t>(&mut self, tree: &'t Tree, what: &str) -> &'t [Tree] {
        match &tree.content {
            Content::List(items) => {
                if items.is_empty() {
                    self.report(Finding::error(tree.at, format!("the list is empty; it needs {what}")));
                }
                items
            }
            _ => std::slice::from_ref(tree),
        }
    }

    fn policy(&mut self, tree: &Tree, file: Arc<str>) -> Option<Policy> {
        let members = self.members(tree, &IN_POLICY, "a policy")?;
        self.version = members.get("Version").map_or(Version::V2008, |tree| self.version(tree));
        let id = members.get("Id").and_then(|tree| self.label(tree, "Id"));
        let Some(list) = members.get("Statement") else {
            self.report(Finding::error(tree.at, "the policy lacks the element `Statement`"));
            return None;
        };
        let mut statements = Vec::new();
        let mut sids: HashMap<String, usize> = HashMap::new();
        let items = self.one_or_more(list, "a statement");
        let crowded = items.windows(2).any(|pair| pair[0].at.line == pair[1].at.line);
        for (number, item) in (1..).zip(items) {
            self.statement = Some(number).filter(|_| crowded);
            let Some(statement) = self.statement(item) else { continue };
            if let Some(sid) = &statement.sid
                && let Some(first) = sids.insert(sid.clone(), number)
            {
                let message = format!("the Sid {} is there twice; first in statement {first}", quote(sid));
                self.report(Finding::error(statement.at, message).help("give each statement its own"));
            }
            statements.push(statement);
        }
        self.statement = None;
        Some(Policy { file, version: self.version, id, statements })
    }

    fn version(&mut self, tree: &Tree) -> Version {
        match self.string(tree, "Version") {
            Some("2012-10-17") | None => Version::V2012,
            Some("2008-10-17") => Version::V2008,
            Some(other) => {
                let finding = Finding::error(tree.at, format!("unknown Version {}", quote(other)));
                self.report(finding.expected("`2012-10-17`, or `2008-10-17` for a policy without variables"));
                Version::V2012
            }
        }
    }

    /// `Sid` or `Id`.
    fn label(&mut self, tree: &Tree, what: &str) -> Option<String> {
        let text = self.string(tree, what)?;
        if text.chars().count() > MAX_SID {
            self.report(Finding::error(tree.at, format!("the {what} is longer than {MAX_SID} characters")));
        }
        if text.chars().any(char::is_control) {
            self.report(Finding::error(tree.at, format!("the {what} has a control character")));
        }
        Some(text.to_owned()).filter(|text| !text.is_empty())
    }

    fn statement(&mut self, tree: &Tree) -> Option<Statement> {
        let members = self.members(tree, &IN_STATEMENT, "a statement")?;
        let sid = members.get("Sid").and_then(|tree| self.label(tree, "Sid"));
        let effect = self.effect(tree, &members);
        let principals = self.principals(tree, &members, effect);
        let actions =
            self.either(tree, &members, "Action", "NotAction").and_then(|(negated, tree)| self.actions(negated, tree));
        let resources = self
            .either(tree, &members, "Resource", "NotResource")
            .and_then(|(negated, tree)| self.resources(negated, tree));
        let conditions = members.get("Condition").map_or(Some(Vec::new()), |tree| self.conditions(tree));
        let (principals, principals_at) = principals?;
        Some(Statement {
            sid,
            effect: effect?,
            principals,
            actions: actions?,
            resources: resources?,
            conditions: conditions?,
            at: tree.at,
            principals_at,
        })
    }

    fn effect(&mut self, statement: &Tree, members: &Members<'_>) -> Option<Effect> {
        let Some(tree) = members.get("Effect") else {
            self.report(
                Finding::error(statement.at, "the statement lacks the element `Effect`").expected("`Allow` or `Deny`"),
            );
            return None;
        };
        match self.string(tree, "Effect")? {
            "Allow" => Some(Effect::Allow),
            "Deny" => Some(Effect::Deny),
            other => {
                let finding = Finding::error(tree.at, format!("unknown Effect {}", quote(other)));
                self.report(finding.expected("`Allow` or `Deny`").nearest(nearest(other, ["Allow", "Deny"])));
                None
            }
        }
    }

    /// Exactly one of an element and its negation.
    fn either<'t>(
        &mut self,
        statement: &Tree,
        members: &Members<'t>,
        plain: &'static str,
        negated: &'static str,
    ) -> Option<(bool, &'t Tree)> {
        let message = match (members.get(plain), members.get(negated)) {
            (Some(tree), None) => return Some((false, tree)),
            (None, Some(tree)) => return Some((true, tree)),
            (None, None) => format!("the statement lacks the element `{plain}`"),
            (Some(_), Some(_)) => format!("the statement has both `{plain}` and `{negated}`"),
        };
        self.report(Finding::error(statement.at, message).expected(format!("one of `{plain}` and `{negated}`")));
        None
    }

    /// The principals, and where each stands.
    fn principals(
        &mut self,
        statement: &Tree,
        members: &Members<'_>,
        effect: Option<Effect>,
    ) -> Option<(Principals, Vec<Mark>)> {
        if self.attachment == Attachment::Role {
            for name in ["Principal", "NotPrincipal"] {
                if let Some(tree) = members.get(name) {
                    let message =
                        format!("a role's policy has no `{name}`: it applies to every workload with the role");
                    self.report(Finding::error(tree.at, message).help("leave it out"));
                }
            }
            return Some((Principals::Holder, Vec::new()));
        }
        let (negated, tree) = self.either(statement, members, "Principal", "NotPrincipal")?;
        if negated && effect == Some(Effect::Allow) {
            let message = "`NotPrincipal` together with Allow lets everyone else in, anonymous callers included";
            self.report(
                Finding::error(tree.at, message)
                    .help("name with `Principal` whom to allow; NotPrincipal goes with Deny"),
            );
        }
        let (names, marks) = self.named(tree, negated)?;
        Some((if negated { Principals::Except(names) } else { Principals::Listed(names) }, marks))
    }

    fn actions(&mut self, negated: bool, tree: &Tree) -> Option<Actions> {
        let items = self.one_or_more(tree, "an action");
        let mut written: Vec<Box<str>> = Vec::with_capacity(items.len());
        let mut bits = 0;
        for item in items {
            let Some(text) = self.string(item, "an action") else { continue };
            let lowered: Vec<u8> = text
                .bytes()
                .map(|byte| match byte {
                    b'*' => glob::ANY,
                    b'?' => glob::ONE,
                    byte => byte.to_ascii_lowercase(),
                })
                .collect();
            let fits = |action: &Action| {
                glob::matches(&lowered, action.name().to_ascii_lowercase().as_bytes(), &mut Vec::new())
            };
            let own = Action::ALL.into_iter().filter(fits).fold(0, |bits, action| bits | action.bit());
            if own == 0 {
                let names = Action::ALL.map(Action::name);
                let finding = Finding::error(item.at, format!("{} is no action of a call", quote(text)));
                let finding = finding.expected(format!("`{}`, `{}` or `vpc-lattice-svcs:*`", names[0], names[1]));
                self.report(finding.nearest(nearest(text, names)));
            }
            bits |= own;
            written.push(text.into());
        }
        let all = Action::ALL.into_iter().fold(0, |bits, action| bits | action.bit());
        let bits = if negated { all & !bits } else { bits };
        let served = [(Action::Invoke, self.attachment.http()), (Action::Connect, self.attachment.tcp())];
        let useful = served.iter().any(|(action, served)| *served && bits & action.bit() != 0);
        if !written.is_empty() && !useful && !self.sink.has_errors() {
            let message = if bits == 0 {
                "the statement is about no action at all, so it never applies".to_owned()
            } else {
                let name = if bits == Action::Invoke.bit() { Action::Invoke } else { Action::Connect }.name();
                let what = if self.attachment.http() { "HTTP requests" } else { "TCP connections" };
                format!("only {what} come here, and none is a `{name}`, so the statement never applies")
            };
            self.report(Finding::warning(tree.at, message));
        }
        Some(Actions { negated, written, bits })
    }

    fn resources(&mut self, negated: bool, tree: &Tree) -> Option<Resources> {
        let items = self.one_or_more(tree, "a resource");
        let (mut patterns, mut marks) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
        for item in items {
            let Some(text) = self.string(item, "a resource") else { continue };
            self.resource_form(item.at, text);
            let reading = self.reading(item.at, text, true);
            match Pattern::parse(text, reading) {
                Ok(pattern) => {
                    pattern.variables().for_each(|key| self.check_http(item.at, key));
                    patterns.push(pattern);
                    marks.push(item.at);
                }
                Err(fault) => self.fault(item.at, fault),
            }
        }
        Some(Resources { negated, patterns, marks })
    }

    /// That a resource can be one at all.
    fn resource_form(&mut self, at: Mark, text: &str) {
        const FORM: &str = "`*`, `*/<path>`, or arn:aws:vpc-lattice:<region>:<account>:service/<id>/<path>";
        let begins = |text: &str, with: &[&str]| {
            let literal = text.find(['*', '?', '$']).map_or(text, |end| &text[..end]);
            // Either all of it, or as much of it as is literal.
            with.iter()
                .any(|with| literal.starts_with(with) || (literal.len() < text.len() && with.starts_with(literal)))
        };
        let masked = without_variables(text);
        let parts: Vec<&str> = masked.splitn(6, ':').collect();
        let fits = match parts[..] {
            _ if masked.starts_with(['*', '?', '$']) => true,
            ["arn", _, service, _, _, resource] => {
                (begins(service, &["vpc-lattice"]) && (service == "vpc-lattice" || service.contains(['*', '?', '$'])))
                    && begins(resource, &["service/", "resourceconfiguration/"])
            }
            // A wildcard may stand for several parts.
            [first, ..] => begins(first, &["arn"]) && masked.contains(['*', '?']),
            [] => false,
        };
        if !fits {
            let finding = Finding::error(at, format!("{} names nothing that can be called", quote(text)));
            self.report(finding.expected(FORM));
        } else if !self.attachment.http()
            && ["service/", "resourceconfiguration/"]
                .iter()
                .any(|kind| text.split_once(&format!(":{kind}")).is_some_and(|(_, rest)| rest.contains('/')))
        {
            let message = "the resource has a path, and connections have none, so it never matches";
            self.report(Finding::warning(at, message).help("end the resource with the id, or write `*`"));
        }
    }

    /// How to read a text; that variables are not read in old policies is worth a warning.
    fn reading(&mut self, at: Mark, text: &str, wildcards: bool) -> Reading {
        let variables = self.version == Version::V2012;
        if !variables && text.contains("${") {
            let message = "policy variables work since version 2012-10-17; here `${` is literal text";
            self.report(Finding::warning(at, message).help("add \"Version\": \"2012-10-17\""));
        }
        Reading { wildcards, variables }
    }

    fn fault(&mut self, at: Mark, (message, help): crate::pattern::Fault) {
        let finding = Finding::error(at, message);
        self.report(match help {
            Some(help) => finding.help(help),
            None => finding,
        });
    }

    /// Reports a key that only HTTP requests have, in a policy that never sees one.
    fn check_http(&mut self, at: Mark, key: &crate::key::Key) {
        if key.is_http() && !self.attachment.http() {
            let message = format!("`{key}` is part of an HTTP request, and only TCP connections come here");
            self.report(
                Finding::error(at, message).help("leave the condition out, or put it into the network's policy"),
            );
        }
    }
}

/// With `$` for each variable: their names have colons.
fn without_variables(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        out.push('$');
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}
