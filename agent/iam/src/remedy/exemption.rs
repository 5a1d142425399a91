//! A Deny statement without one call: the statements that go on to deny all others.

use super::{ATTESTED, Change, METHOD, PATH, PORT, Place, SERVICE, VPC, vpc_to_pin};
use crate::chain::Level;
use crate::compiled::Compiled;
use crate::condition::Condition;
use crate::key::{Key, Kind};
use crate::language::Version;
use crate::limits::{MAX_PINNED_VALUES, MAX_SID};
use crate::pattern::Pattern;
use crate::policy::Statement;
use crate::principal::CallerKind;
use crate::render::{Draft, literal};
use crate::request::{Action, Facts, Request};

/// The Deny statement without this call: it stays for all other callers, and for this one's calls from another VPC, of
/// other services and ports, with other methods and paths, and with other values of what else the statement asks about,
/// or with a value where this call has none. Each of these takes a statement of its own, except where the Deny statement
/// is about one value alone.
pub(super) fn exempting(compiled: &Compiled, position: u32, request: &Request<'_>, place: &Place) -> Option<Change> {
    let policy = compiled.policy();
    let statement: &Statement = policy.statements.get(usize::try_from(position).ok()?)?;
    let line = policy.place(usize::try_from(position).ok()?);
    let Some(others) = others(statement, request, place.level) else {
        return Some(Change::Remove { policy: place.clone(), position, line });
    };
    let requests = request.http.is_none() && statement.actions.include(Action::Invoke);
    let mut used: Vec<String> = policy.statements.iter().filter_map(|other| other.sid.clone()).collect();
    let several = others.len() > 1 || requests;
    let mut draft = |what: &str| {
        let mut draft = Draft::of(statement);
        if several {
            draft.sid = draft.sid.and_then(|sid| unused(&format!("{sid}-{what}"), &mut used));
        }
        draft
    };
    let mut statements = Vec::with_capacity(others.len() + 1);
    for other in others {
        let mut draft = draft(other.what);
        other.add_to(&mut draft, policy.version);
        statements.push(draft.json());
    }
    if requests {
        // A connection has no method that would tell it from requests.
        let mut draft = draft("requests");
        draft.actions = (false, vec![Action::Invoke.name().to_owned()]);
        statements.push(draft.json());
    }
    Some(Change::Replace { policy: place.clone(), position, line, statements })
}

/// A `Sid` like this that no other statement has; none if it would be too long.
fn unused(sid: &str, used: &mut Vec<String>) -> Option<String> {
    let numbered = (2u32..).map(|number| format!("{sid}-{number}"));
    let free = std::iter::once(sid.to_owned()).chain(numbered).find(|sid| !used.contains(sid))?;
    if free.chars().count() > MAX_SID {
        return None;
    }
    used.push(free.clone());
    Some(free)
}

/// Calls that a Deny statement goes on to deny: those that differ from the call in one respect.
struct Others {
    /// Ends the `Sid`.
    what: &'static str,
    operator: &'static str,
    key: String,
    /// The call's, or what `Null` and `Bool` want.
    values: Vec<String>,
}

impl Others {
    fn add_to(self, draft: &mut Draft, version: Version) {
        let Self { operator, key, values, .. } = self;
        if matches!(operator, "Null" | "Bool") {
            // Beside its own values another one would make the line hold for both.
            draft.replace_condition(operator, &key, values);
        } else {
            draft.condition(operator, &key, values.iter().map(|value| literal(value, false, version)));
        }
    }
}

/// Each respect in which calls can differ and the Deny statement be about both; first the callers. None: no condition can
/// tell the call from others.
fn others(statement: &Statement, request: &Request<'_>, level: Level) -> Option<Vec<Others>> {
    let (who_key, who) = match (request.attested, request.caller.arn()) {
        (Some(attested), _) => (ATTESTED, attested),
        (None, Some(arn)) => ("aws:PrincipalArn", arn),
        (None, None) => return None,
    };
    let mut found = Vec::new();
    let mut add = |what, operator, key: &str, value: &str| {
        found.push(Others { what, operator, key: key.to_owned(), values: vec![value.to_owned()] });
    };
    let differ = "StringNotEquals";
    add("others", differ, who_key, who);
    if let Some(vpc) = vpc_to_pin(request).filter(|_| !only(statement, &Key::SourceVpc, "StringEquals")) {
        add("other-vpcs", differ, VPC, vpc);
    }
    let resources = &statement.resources;
    let resource_is_one =
        !resources.negated && resources.patterns.len() == 1 && resources.patterns[0].literal().is_some();
    // A service's policy is about that service alone.
    if level != Level::Service && !resource_is_one && !only(statement, &Key::ServiceArn, "StringEquals") {
        add("other-services", differ, SERVICE, request.service_arn);
    }
    if !only(statement, &Key::Port, "NumericEquals") {
        add("other-ports", "NumericNotEquals", PORT, &request.port.to_string());
    }
    if let Some(http) = request.http {
        if !only(statement, &Key::RequestMethod, "StringEquals") {
            add("other-methods", differ, METHOD, http.method);
        }
        if !only(statement, &Key::RequestPath, "StringEquals") && !resource_is_one {
            add("other-paths", differ, PATH, http.path);
        }
    }
    let patterns = statement.resources.patterns.iter().flat_map(Pattern::variables);
    let mut asked: Vec<&Key> = statement.conditions.iter().flat_map(Condition::keys).chain(patterns).collect();
    asked.sort_unstable();
    asked.dedup();
    for key in asked.into_iter().filter(|key| !is_fixed(key, request)) {
        found.extend(other_values(statement, request, key)?);
    }
    Some(found)
}

/// Whether calls of this caller from this VPC, of this service, port, method and path have one value of the key, or the
/// key is not a matter of the call: the time passes, and the networks are those that VPC and service have in common.
fn is_fixed(key: &Key, request: &Request<'_>) -> bool {
    let caller = &request.caller;
    match key {
        Key::Port | Key::ServiceArn | Key::RequestMethod | Key::RequestPath => true,
        Key::ResourceTag(_) | Key::ResourceAccount => true,
        Key::CurrentTime | Key::EpochTime | Key::ServiceNetworkArn => true,
        Key::SourceVpc | Key::SourceVpcOwnerAccount => {
            request.source_vpc.is_some() || request.attested.is_some_and(|attested| attested.contains(":workload/"))
        }
        Key::AttestedPrincipalArn => request.attested.is_some(),
        Key::PrincipalArn
        | Key::PrincipalAccount
        | Key::PrincipalOrgId
        | Key::PrincipalOrgPaths
        | Key::PrincipalTag(_)
        | Key::PrincipalType
        | Key::UserId => {
            // Else the same workload may present other credentials, or the role have other sessions.
            let by_attachment = request.attested.is_some()
                && (caller.kind == CallerKind::Anonymous || caller.session == request.attested);
            by_attachment || (*key == Key::PrincipalArn && request.attested.is_none())
        }
        // A connection is not told from requests by these.
        Key::RequestHeader(_) | Key::RequestQueryString(_) | Key::UserAgent => request.http.is_none(),
        Key::SourceIp | Key::SecureTransport | Key::Evidence => false,
    }
}

/// Calls with other values of a key than this one; none if no condition can tell them.
fn other_values(statement: &Statement, request: &Request<'_>, key: &Key) -> Option<Vec<Others>> {
    let mut values = Vec::new();
    Facts { request, network: None }.each(key, &mut |value| {
        let mut text = String::new();
        value.write(key, &mut text);
        values.push(text);
    });
    values.sort_unstable();
    values.dedup();
    let what = match key {
        Key::RequestHeader(_) | Key::UserAgent => "other-headers",
        Key::RequestQueryString(_) => "other-queries",
        Key::SourceIp => "other-addresses",
        Key::SecureTransport => "other-transport",
        Key::Evidence => "other-evidence",
        Key::SourceVpc | Key::SourceVpcOwnerAccount => "other-vpcs",
        _ => "other-principals",
    };
    let name = key.to_string();
    let others = |operator, values| Others { what, operator, key: name.clone(), values };
    if values.is_empty() {
        let missing = statement.conditions.iter().any(|condition| condition.wants_no(key));
        return Some(if missing { Vec::new() } else { vec![others("Null", vec!["false".to_owned()])] });
    }
    match key.kind() {
        Kind::Truth => {
            let other = if values == ["true"] { "false" } else { "true" };
            let one = only(statement, key, "Bool");
            return Some(if one { Vec::new() } else { vec![others("Bool", vec![other.to_owned()])] });
        }
        Kind::Address => return Some(vec![others("NotIpAddress", values)]),
        _ => {}
    }
    let mut found = Vec::new();
    // A value that this call does not have, or none. In a Deny statement these operators are the same. One that the
    // statement has for this key would take the values into its own line, where one value must differ from those of both.
    let plain: &[_] = if key.is_multi_valued() { &[] } else { &["StringNotEquals", "StringNotEqualsIfExists"] };
    let has = |operator: &str| {
        let line = |own: &Condition| own.key == *key && own.operator.to_string() == operator;
        statement.conditions.iter().any(line)
    };
    let operator = plain.iter().chain(&["ForAnyValue:StringNotEqualsIfExists"]).find(|operator| !has(operator))?;
    found.push(others(operator, values.clone()));
    // And without one of several values that it has.
    if (2..=MAX_PINNED_VALUES).contains(&values.len()) {
        found.extend(values.into_iter().map(|value| others("ForAllValues:StringNotEquals", vec![value])));
    }
    Some(found)
}

/// Whether a statement is about one value of a key alone, which this operator compares.
fn only(statement: &Statement, key: &Key, operator: &str) -> bool {
    statement.conditions.iter().any(|condition| {
        condition.key == *key
            && condition.operator.to_string() == operator
            && condition.values.len() == 1
            && condition.keys().count() == 1
    })
}
