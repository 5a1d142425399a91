//! The language from its definition, by another route than the crate: policies as plain JSON values, everything a
//! request has as lists of texts under lower-case key names, no compilation, no indexes, recursion instead of automata.

#![allow(dead_code)] // Each test uses its part.
#![allow(clippy::unwrap_used)] // A panic in a test is the report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use crate::common::{Line, NETWORKS, Stands, Texts};
use brattice_iam::CallerKind;

type Keys = BTreeMap<String, Vec<String>>;

/// Whether a request is allowed, and the level that refuses it.
pub(crate) fn decide(texts: &Texts, line: &Line) -> Result<(), &'static str> {
    let levels = |number: usize| {
        let keys = keys(line, NETWORKS[number]);
        [
            ("Identity", level(&texts.identity, line, &keys)),
            ("Network", level(&texts.networks[number], line, &keys)),
            ("Service", level(&texts.service, line, &keys)),
        ]
    };
    let all: Vec<_> = (0..texts.networks.len()).map(levels).collect();
    for (index, name) in ["Identity", "Network", "Service"].into_iter().enumerate() {
        if all.iter().any(|levels| levels[index].1 == Verdict::Denied) {
            return Err(name);
        }
    }
    // The level at which the best network stops.
    let stops: Vec<Option<usize>> =
        all.iter().map(|levels| levels.iter().position(|(_, verdict)| *verdict != Verdict::Allowed)).collect();
    if stops.iter().any(Option::is_none) && !stops.is_empty() {
        return Ok(());
    }
    Err(["Identity", "Network", "Service"][stops.into_iter().flatten().max().unwrap_or(1)])
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Verdict {
    Allowed,
    Denied,
    Silent,
}

fn level(stands: &Stands, line: &Line, keys: &Keys) -> Verdict {
    let (text, audit) = match stands {
        Stands::Open => return Verdict::Allowed,
        Stands::Missing => return Verdict::Silent,
        Stands::Policy(text, audit) => (text, *audit),
    };
    if audit {
        return Verdict::Allowed;
    }
    let policy: Value = serde_json::from_str(text).unwrap();
    let variables = policy.get("Version").is_some_and(|version| version == "2012-10-17");
    let statements = list(&policy["Statement"]);
    let about: Vec<&Value> =
        statements.into_iter().filter(|statement| is_about(statement, line, keys, variables)).collect();
    if about.iter().any(|statement| statement["Effect"] == "Deny") {
        Verdict::Denied
    } else if about.iter().any(|statement| statement["Effect"] == "Allow") {
        Verdict::Allowed
    } else {
        Verdict::Silent
    }
}

/// The Deny statements that are in force and about a request, and whether they have variables.
pub(crate) fn denying(texts: &Texts, line: &Line) -> Vec<(Value, bool)> {
    let places = texts.networks.iter().zip(NETWORKS);
    let whole = [(&texts.identity, NETWORKS[0]), (&texts.service, NETWORKS[0])];
    let mut found = Vec::new();
    for (stands, network) in places.chain(whole) {
        let Stands::Policy(text, false) = stands else { continue };
        let policy: Value = serde_json::from_str(text).unwrap();
        let variables = policy.get("Version").is_some_and(|version| version == "2012-10-17");
        let keys = keys(line, network);
        let about = |statement: &&Value| statement["Effect"] == "Deny" && is_about(statement, line, &keys, variables);
        let statements = list(&policy["Statement"]).into_iter().filter(about);
        found.extend(statements.map(|statement| (statement.clone(), variables)));
    }
    found
}

/// The values of a key, each once.
pub(crate) fn values(line: &Line, key: &str) -> BTreeSet<String> {
    keys(line, NETWORKS[0]).remove(&key.to_lowercase()).unwrap_or_default().into_iter().collect()
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        other => vec![other],
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_about(statement: &Value, line: &Line, keys: &Keys, variables: bool) -> bool {
    let action = if line.method.is_some() { "vpc-lattice-svcs:invoke" } else { "vpc-lattice-svcs:connect" };
    let resource = format!("{}{}", line.service, line.path);
    let actions =
        |name: &str| list(&statement[name]).iter().any(|own| glob(&plain(&text(own).to_lowercase()), &chars(action)));
    let resources = |name: &str| {
        list(&statement[name]).iter().any(|own| matches_text(&text(own), &resource, keys, variables, true))
    };
    let action_fits = if statement.get("Action").is_some() { actions("Action") } else { !actions("NotAction") };
    let resource_fits =
        if statement.get("Resource").is_some() { resources("Resource") } else { !resources("NotResource") };
    let principal_fits = match (statement.get("Principal"), statement.get("NotPrincipal")) {
        (Some(principal), _) => names(principal, line, true),
        (None, Some(principal)) => !exempt(principal, line),
        (None, None) => true,
    };
    let deny = statement["Effect"] == "Deny";
    let condition = statement.get("Condition").and_then(Value::as_object);
    let conditions_hold = condition.is_none_or(|operators| {
        operators.iter().all(|(operator, lines)| {
            lines.as_object().unwrap().iter().all(|(key, values)| holds(operator, key, values, keys, variables, deny))
        })
    });
    action_fits && resource_fits && principal_fits && conditions_hold
}

/// Whether a Principal names the caller; `members` whether an account stands for all in it.
fn names(principal: &Value, line: &Line, members: bool) -> bool {
    if principal == "*" {
        return true;
    }
    principal.as_object().unwrap().iter().any(|(class, entries)| {
        list(entries).iter().any(|entry| {
            let entry = text(entry);
            match class.as_str() {
                "Service" => line.kind == CallerKind::Service && entry == line.name,
                "Federated" => line.provider.as_deref() == Some(&entry),
                _ if entry == "*" => true,
                _ => {
                    let account = line.account.as_deref().unwrap_or("none");
                    let whole = entry == account || entry == format!("arn:aws:iam::{account}:root");
                    let is_account = line.kind == CallerKind::Account;
                    let itself = line.kind != CallerKind::Service && !entry.ends_with(":root") && entry == line.name;
                    (whole && (members || is_account)) || itself || line.session.as_deref() == Some(&entry)
                }
            }
        })
    })
}

/// Whether `NotPrincipal` leaves the caller out. AWS asks for every name that a caller goes by (its account aside): the
/// session must be there where the list tells the sessions of its role apart.
fn exempt(principal: &Value, line: &Line) -> bool {
    if let (Some(account), true) = (&line.account, line.kind == CallerKind::Role) {
        let role = line.name.split('/').next_back().unwrap();
        let of_role = format!(":sts::{account}:assumed-role/{role}/");
        let sessions: Vec<String> =
            list(&principal["AWS"]).into_iter().map(text).filter(|entry| entry.contains(&of_role)).collect();
        if !sessions.is_empty() {
            return line.session.as_ref().is_some_and(|own| sessions.contains(own));
        }
    }
    names(principal, line, false)
}

fn holds(operator: &str, key: &str, values: &Value, keys: &Keys, variables: bool, deny: bool) -> bool {
    let own = keys.get(&key.to_lowercase()).cloned().unwrap_or_default();
    let wanted: Vec<String> = list(values).into_iter().map(text).collect();
    if operator == "Null" {
        return wanted.iter().any(|wanted| (wanted.to_lowercase() == "true") == own.is_empty());
    }
    let (prefix, rest) = operator.split_once(':').unwrap_or(("", operator));
    let (base, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |base| (base, true));
    let negated = base.contains("Not");
    let positive = base.replace("Not", "");
    if own.is_empty() {
        return if_exists || prefix == "ForAllValues" || (prefix.is_empty() && negated);
    }
    let one = |own: &String| {
        let some = wanted.iter().any(|wanted| compare(&positive, own, wanted, keys, variables));
        some != negated
    };
    match prefix {
        "ForAnyValue" => own.iter().any(one),
        "ForAllValues" => own.iter().all(one),
        _ if deny => own.iter().any(one),
        _ => own.iter().all(one),
    }
}

fn compare(operator: &str, own: &str, wanted: &str, keys: &Keys, variables: bool) -> bool {
    let numbers = |compare: fn(f64, f64) -> bool| matches!((own.parse::<f64>(), wanted.parse::<f64>()), (Ok(own), Ok(wanted)) if compare(own, wanted));
    let dates = |compare: fn(f64, f64) -> bool| matches!((seconds(own), seconds(wanted)), (Some(own), Some(wanted)) if compare(own, wanted));
    match operator {
        "StringEquals" => matches_text(wanted, own, keys, variables, false),
        "StringLike" => matches_text(wanted, own, keys, variables, true),
        "StringEqualsIgnoreCase" => match elements(wanted, keys, variables, false) {
            Some(elements) => {
                let wanted: String = elements.iter().map(|element| element.0).collect();
                wanted.to_lowercase() == own.to_lowercase()
            }
            None => false,
        },
        "NumericEquals" => numbers(|a, b| a == b),
        "NumericLessThan" => numbers(|a, b| a < b),
        "NumericLessThanEquals" => numbers(|a, b| a <= b),
        "NumericGreaterThan" => numbers(|a, b| a > b),
        "NumericGreaterThanEquals" => numbers(|a, b| a >= b),
        "DateEquals" => dates(|a, b| a == b),
        "DateLessThan" => dates(|a, b| a < b),
        "DateLessThanEquals" => dates(|a, b| a <= b),
        "DateGreaterThan" => dates(|a, b| a > b),
        "DateGreaterThanEquals" => dates(|a, b| a >= b),
        "Bool" => ["true", "false"].contains(&&*own.to_lowercase()) && own.to_lowercase() == wanted.to_lowercase(),
        "IpAddress" => in_block(own, wanted),
        "ArnEquals" | "ArnLike" => arn(own, wanted, keys, variables),
        other => panic!("what is {other}?"),
    }
}

/// A character, and whether it is a wildcard.
type Element = (char, bool);

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn plain(text: &str) -> Vec<Element> {
    text.chars().map(|c| (c, c == '*' || c == '?')).collect()
}

/// A text of a policy with its variables replaced; `None` if one has no value.
fn elements(text: &str, keys: &Keys, variables: bool, wildcards: bool) -> Option<Vec<Element>> {
    if !variables {
        return Some(text.chars().map(|c| (c, wildcards && (c == '*' || c == '?'))).collect());
    }
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix("${") {
            // The generator puts no `}` into defaults.
            let (content, after) = inside.split_once('}').unwrap();
            rest = after;
            if ["*", "?", "$"].contains(&content) {
                out.push((content.chars().next().unwrap(), false));
                continue;
            }
            let (name, default) =
                content.split_once(',').map_or((content, None), |(name, default)| (name, Some(default)));
            let values = keys.get(&name.trim().to_lowercase()).cloned().unwrap_or_default();
            let value = match &values[..] {
                [only] => only.clone(),
                _ => default?.trim().trim_matches('\'').to_owned(),
            };
            out.extend(value.chars().map(|c| (c, false)));
            continue;
        }
        let c = rest.chars().next().unwrap();
        out.push((c, wildcards && (c == '*' || c == '?')));
        rest = &rest[c.len_utf8()..];
    }
    Some(out)
}

fn matches_text(pattern: &str, own: &str, keys: &Keys, variables: bool, wildcards: bool) -> bool {
    elements(pattern, keys, variables, wildcards).is_some_and(|elements| glob(&elements, &chars(own)))
}

/// By its definition: a star takes nothing, or a character and is there still.
fn glob(pattern: &[Element], own: &[char]) -> bool {
    match (pattern, own) {
        ([], own) => own.is_empty(),
        ([('*', true), rest @ ..], _) if glob(rest, own) => true,
        ([('*', true), ..], [_, left @ ..]) => glob(pattern, left),
        ([('*', true), ..], []) => false,
        ([('?', true), rest @ ..], [_, left @ ..]) => glob(rest, left),
        ([(c, false), rest @ ..], [own, left @ ..]) if c == own => glob(rest, left),
        _ => false,
    }
}

/// The generator puts no colon into variables' values that would matter, and none into their names but the first.
fn arn(own: &str, wanted: &str, keys: &Keys, variables: bool) -> bool {
    let hidden = wanted.replace("${aws:", "${aws\u{1}").replace("-svcs:Request", "-svcs\u{1}Request");
    let parts: Vec<String> = hidden.splitn(6, ':').map(|part| part.replace('\u{1}', ":")).collect();
    let own: Vec<&str> = own.splitn(6, ':').collect();
    own.len() == 6 && parts.iter().zip(own).all(|(part, own)| matches_text(part, own, keys, variables, true))
}

/// Days by the count of days in each year since 1970.
fn seconds(text: &str) -> Option<f64> {
    if text.len() != 4
        && let Ok(seconds) = text.parse::<i64>()
    {
        return Some(f64::from(i32::try_from(seconds).ok()?));
    }
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    let mut numbers = date.split('-').map(str::parse::<i64>);
    let year = numbers.next()?.ok()?;
    let month = numbers.next().unwrap_or(Ok(1)).ok()?;
    let day = numbers.next().unwrap_or(Ok(1)).ok()?;
    let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut days = day - 1;
    for year in 1970..year {
        days += if is_leap(year) { 366 } else { 365 };
    }
    for (index, length) in [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].into_iter().enumerate() {
        if i64::try_from(index).unwrap() + 1 < month {
            days += if index == 1 && is_leap(year) { 29 } else { length };
        }
    }
    let mut total = f64::from(i32::try_from(days).ok()?) * 86_400.0;
    if let Some(time) = time {
        let (clock, offset) = match time.strip_suffix('Z') {
            Some(clock) => (clock, 0.0),
            None => {
                let (clock, zone) = time.split_at(time.len() - 6);
                let hours: f64 = zone[1..3].parse().ok()?;
                let minutes: f64 = zone[4..].parse().ok()?;
                (clock, (hours * 3600.0 + minutes * 60.0) * if zone.starts_with('+') { 1.0 } else { -1.0 })
            }
        };
        for (part, unit) in clock.split(':').zip([3600.0, 60.0, 1.0]) {
            total += part.parse::<f64>().ok()? * unit;
        }
        total -= offset;
    }
    Some(total)
}

/// Bit by bit.
fn in_block(own: &str, block: &str) -> bool {
    fn bits(address: IpAddr) -> String {
        match address {
            IpAddr::V4(a) => a.octets().iter().map(|byte| format!("{byte:08b}")).collect(),
            IpAddr::V6(a) => a.octets().iter().map(|byte| format!("{byte:08b}")).collect(),
        }
    }
    let Ok(own) = own.parse::<IpAddr>() else { return false };
    let (address, length) = block.split_once('/').map_or((block, None), |(address, length)| (address, Some(length)));
    let (own, block) = (bits(own), bits(address.parse().unwrap()));
    let length: usize = length.map_or(block.len(), |length| length.parse().unwrap());
    own.len() == block.len() && own[..length] == block[..length]
}

/// Everything a request has, as texts.
fn keys(line: &Line, network: &str) -> Keys {
    let mut keys = Keys::new();
    let mut add = |name: &str, value: &str| keys.entry(name.to_lowercase()).or_default().push(value.to_owned());
    add("vpc-lattice-svcs:Port", &line.port.to_string());
    add("vpc-lattice-svcs:ServiceNetworkArn", network);
    add("vpc-lattice-svcs:ServiceArn", &line.service);
    let some = [
        ("vpc-lattice-svcs:SourceVpc", &line.vpc),
        ("vpc-lattice-svcs:SourceVpcOwnerAccount", &line.vpc_account),
        ("vpc-lattice-svcs:RequestMethod", &line.method),
        ("aws:PrincipalAccount", &line.account),
        ("aws:PrincipalOrgID", &line.organization),
        ("aws:userid", &line.user_id),
        ("brattice:AttestedPrincipalArn", &line.attested),
    ];
    for (name, value) in some {
        if let Some(value) = value {
            add(name, value);
        }
    }
    if line.method.is_some() {
        add("vpc-lattice-svcs:RequestPath", &line.path);
        for (name, value) in &line.headers {
            add(&format!("vpc-lattice-svcs:RequestHeader/{name}"), value);
            if name.to_lowercase() == "user-agent" {
                add("aws:UserAgent", value);
            }
        }
        for parameter in line.query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            add(&format!("vpc-lattice-svcs:RequestQueryString/{name}"), &value.replace('+', " ").replace("%2F", "/"));
        }
    }
    if !matches!(line.kind, CallerKind::Anonymous | CallerKind::Service) {
        add("aws:PrincipalArn", &line.name);
    }
    let kind = match line.kind {
        CallerKind::Anonymous => "Anonymous",
        CallerKind::Account => "Account",
        CallerKind::User => "User",
        CallerKind::Role => "AssumedRole",
        CallerKind::FederatedUser => "FederatedUser",
        CallerKind::Service => "",
    };
    if !kind.is_empty() {
        add("aws:PrincipalType", kind);
    }
    for path in &line.paths {
        add("aws:PrincipalOrgPaths", path);
    }
    for (name, value) in &line.tags {
        add(&format!("aws:PrincipalTag/{name}"), value);
    }
    for (name, value) in &line.service_tags {
        add(&format!("aws:ResourceTag/{name}"), value);
    }
    add("aws:ResourceAccount", "123456789012");
    if let Some(ip) = line.ip {
        add("aws:SourceIp", &ip.to_string());
    }
    add("aws:EpochTime", &line.now.to_string());
    // As seconds: the two are compared as times, not as texts.
    add("aws:CurrentTime", &line.now.to_string());
    add("aws:SecureTransport", if line.secure { "true" } else { "false" });
    for evidence in &line.evidence {
        add("brattice:Evidence", evidence);
    }
    keys
}
