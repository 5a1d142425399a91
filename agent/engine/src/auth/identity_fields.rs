//! The header fields that tell targets about the caller and the route, in VPC Lattice's format. Made when a state
//! is compiled, or once per worker and route, so that a request only counts references.
//!
//! Fields are `Name=value` parts between semicolons. `;` in a value is written `\;`, a backslash `\\`, and `=` in the key
//! of a tag `\=`, so that no value can end its part and begin another. Control characters become `?`.

use std::cell::RefCell;

use brattice_decide::{Compiled, session_arn};
use brattice_router::hash::FastMap;
use brattice_wire::{
    auth::Role,
    index::{NetworkIndex, ServiceIndex, TargetGroupIndex, VpcIndex, WorkloadIndex},
    snapshot::Snapshot,
};
use bytes::Bytes;
use http::HeaderValue;

/// Routes for which a worker caches `x-amzn-lattice-target`. When there are more, the cache is emptied.
const MOST_ROUTES: usize = 4_096;

/// Header values about callers at one revision, by the callers' places in the snapshot.
#[derive(Debug, Default)]
pub struct CallerFields {
    /// Of a workload: `x-amzn-lattice-identity`, `x-amzn-lattice-identity-tags`; the anonymous caller has none.
    workloads: Vec<[Option<HeaderValue>; 2]>,
    /// Of a VPC: `x-amzn-lattice-network`, `x-amzn-source-vpc`.
    vpcs: Vec<[Option<HeaderValue>; 2]>,
}

impl CallerFields {
    /// Of a snapshot. An index in it that points nowhere says nothing; others refuse such a snapshot.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let workload = |workload: &brattice_wire::snapshot::Workload| {
            let role = workload.role.and_then(|role| snapshot.roles.get(role.position()))?;
            let named = Some(workload.session.as_str()).filter(|session| !session.is_empty());
            let session = named.map(|session| session_arn(role, session));
            let principal = session.as_deref().unwrap_or(&role.arn);
            Some([identity(principal, role, &workload.session), tags(principal, role)])
        };
        Self {
            workloads: snapshot.workloads.iter().map(|own| workload(own).unwrap_or_default()).collect(),
            vpcs: snapshot.vpcs.iter().map(|vpc| [network(&vpc.arn), source_vpc(&vpc.id)]).collect(),
        }
    }
}

/// A worker's `x-amzn-lattice-target` by service, service network and target group.
#[derive(Debug, Default)]
pub(crate) struct TargetFields(RefCell<Known>);

#[derive(Debug, Default)]
struct Known {
    edition: u64,
    values: FastMap<(ServiceIndex, Option<NetworkIndex>, TargetGroupIndex), HeaderValue>,
}

impl TargetFields {
    /// What the target of a request is told, of one state. `workload` and `vpc` are the caller's, `network` the service network by which
    /// the request comes, `group` the target group.
    pub(crate) fn fields(
        &self,
        (caller_fields, compiled): (&CallerFields, &Compiled),
        (workload, vpc): (WorkloadIndex, VpcIndex),
        service: ServiceIndex,
        network: Option<NetworkIndex>,
        group: TargetGroupIndex,
    ) -> IdentityFields {
        let [identity, tags] = caller_fields.workloads.get(workload.position()).cloned().unwrap_or_default();
        let [of_vpc, source_vpc] = caller_fields.vpcs.get(vpc.position()).cloned().unwrap_or_default();
        IdentityFields {
            identity,
            tags,
            network: of_vpc,
            target: self.target(compiled, service, network, group),
            source_vpc,
        }
    }

    fn target(
        &self,
        compiled: &Compiled,
        service: ServiceIndex,
        network: Option<NetworkIndex>,
        group: TargetGroupIndex,
    ) -> Option<HeaderValue> {
        let mut known = self.0.borrow_mut();
        if known.edition != compiled.edition() || known.values.len() >= MOST_ROUTES {
            known.edition = compiled.edition();
            known.values.clear();
        }
        if let Some(value) = known.values.get(&(service, network, group)) {
            return Some(value.clone());
        }
        let network_arn = network.and_then(|network| compiled.policies.network_arn(network));
        let group_arn = &compiled.group(group)?.arn;
        let value = target(compiled.policies.service_arn(service)?, network_arn, group_arn)?;
        known.values.insert((service, network, group), value.clone());
        Some(value)
    }
}

/// The values of the fields that a target gets; absent ones are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdentityFields {
    /// `x-amzn-lattice-identity`.
    pub(crate) identity: Option<HeaderValue>,
    /// `x-amzn-lattice-identity-tags`.
    pub(crate) tags: Option<HeaderValue>,
    /// `x-amzn-lattice-network`.
    pub(crate) network: Option<HeaderValue>,
    /// `x-amzn-lattice-target`.
    pub(crate) target: Option<HeaderValue>,
    /// `x-amzn-source-vpc`.
    pub(crate) source_vpc: Option<HeaderValue>,
}

/// Most tags that a target gets (Lattice's bound).
const MOST_TAGS: usize = 99;
/// Bytes of all of them. A tag that does not fit is left out whole, and so are those behind it: targets commonly take
/// 8 KiB of one field.
const TAGS_BYTES: usize = 7 * 1024;

/// `x-amzn-lattice-identity` of a caller with a role. One without has none: absence is what says anonymous, and as what
/// clients send is removed, it can be believed.
pub(super) fn identity(principal: &str, role: &Role, session: &str) -> Option<HeaderValue> {
    let mut text = String::new();
    part(&mut text, "; ", "Principal", principal);
    if let Some(organization) = &role.organization {
        part(&mut text, "; ", "PrincipalOrgID", organization);
    }
    for path in role.organization_paths.iter().take(1) {
        part(&mut text, "; ", "PrincipalOrgPath", path);
    }
    if !session.is_empty() {
        part(&mut text, "; ", "SessionName", session);
    }
    part(&mut text, "; ", "Type", "AWS_IAM");
    value(text)
}

/// `x-amzn-lattice-identity-tags`.
pub(super) fn tags(principal: &str, role: &Role) -> Option<HeaderValue> {
    let mut text = String::new();
    part(&mut text, ";", "principal", principal);
    if let Some(organization) = &role.organization {
        part(&mut text, ";", "principalorgid", organization);
    }
    for path in role.organization_paths.iter().take(1) {
        part(&mut text, ";", "principalorgpath", path);
    }
    for (key, tag) in role.tags.iter().take(MOST_TAGS) {
        let length = text.len();
        part(&mut text, ";", key, tag);
        if text.len() > TAGS_BYTES {
            text.truncate(length);
            break;
        }
    }
    value(text)
}

/// `x-amzn-lattice-network`.
pub(super) fn network(vpc_arn: &str) -> Option<HeaderValue> {
    let mut text = String::new();
    part(&mut text, ";", "SourceVpcArn", vpc_arn);
    value(text)
}

/// `x-amzn-source-vpc`.
pub(super) fn source_vpc(vpc_id: &str) -> Option<HeaderValue> {
    let mut text = String::new();
    escape(&mut text, vpc_id, false);
    value(text)
}

/// `x-amzn-lattice-target`.
pub(super) fn target(service: &str, network: Option<&str>, group: &str) -> Option<HeaderValue> {
    let mut text = String::new();
    part(&mut text, ";", "ServiceArn", service);
    if let Some(network) = network {
        part(&mut text, ";", "ServiceNetworkArn", network);
    }
    part(&mut text, ";", "TargetGroupArn", group);
    value(text)
}

fn part(text: &mut String, separator: &str, name: &str, value: &str) {
    if !text.is_empty() {
        text.push_str(separator);
    }
    escape(text, name, true);
    text.push('=');
    escape(text, value, false);
}

fn escape(text: &mut String, value: &str, is_name: bool) {
    for c in value.chars() {
        match c {
            ';' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            '=' if is_name => text.push_str("\\="),
            c if c.is_control() => text.push('?'),
            c => text.push(c),
        }
    }
}

fn value(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(tags: Vec<(String, String)>) -> Role {
        Role {
            name: "platform/reader".into(),
            arn: "arn:aws:iam::111111111111:role/reader".into(),
            account: "111111111111".into(),
            organization: Some("o-1".into()),
            organization_paths: vec!["o-1/r-1/ou-1/".into()],
            tags,
            policy: None,
            origin: brattice_wire::snapshot::Origin::default(),
        }
    }

    fn tag(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    fn text(value: Option<HeaderValue>) -> String {
        String::from_utf8(value.expect("a value").as_bytes().to_vec()).expect("text")
    }

    /// As a careful target reads them: parts end at a semicolon without a backslash before it, names at such a `=`.
    fn read(text: &str) -> Vec<(String, String)> {
        let mut parts = vec![(String::new(), None::<String>)];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let (name, value) = parts.last_mut().expect("one at least");
            match (c, &value) {
                ('\\', _) => value.as_mut().unwrap_or(name).push(chars.next().expect("something escaped")),
                (';', _) => parts.push(Default::default()),
                ('=', None) => *value = Some(String::new()),
                _ => value.as_mut().unwrap_or(name).push(c),
            }
        }
        parts.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
    }

    #[test]
    fn identities_have_lattices_form() {
        let role = role(vec![tag("team", "red")]);
        let session = "arn:aws:sts::111111111111:assumed-role/reader/web";
        assert_eq!(
            text(identity(session, &role, "web")),
            "Principal=arn:aws:sts::111111111111:assumed-role/reader/web; PrincipalOrgID=o-1; \
             PrincipalOrgPath=o-1/r-1/ou-1/; SessionName=web; Type=AWS_IAM"
        );
        assert_eq!(
            text(tags(session, &role)),
            "principal=arn:aws:sts::111111111111:assumed-role/reader/web;principalorgid=o-1;\
             principalorgpath=o-1/r-1/ou-1/;team=red"
        );
    }

    #[test]
    fn no_tag_can_say_another_one() {
        let evil = [
            tag("a", "b;principal=arn:aws:iam::1:role/admin"),
            tag("c;principal", "x"),
            tag("d=e", "f=g"),
            tag("h", "ends with \\"),
            tag("\\", ";"),
            tag("i", "line\r\nx-admin: 1\u{85}\0"),
            tag("j", "Grüße"),
        ];
        let value = text(tags("p", &role(evil.to_vec())));
        assert!(!value.chars().any(char::is_control), "{value:?}");
        let read = read(&value);
        let mut expected =
            vec![tag("principal", "p"), tag("principalorgid", "o-1"), tag("principalorgpath", "o-1/r-1/ou-1/")];
        expected.extend(evil);
        expected[8].1 = "line??x-admin: 1??".into();
        assert_eq!(read, expected);
        assert!(value.contains("a=b\\;principal="), "{value}");
    }

    #[test]
    fn tags_are_bounded_in_number_and_size() {
        let many: Vec<_> = (0..150).map(|n| tag(&format!("key{n}"), "v")).collect();
        assert_eq!(read(&text(tags("p", &role(many)))).len(), 3 + MOST_TAGS);
        let long: Vec<_> = (0..50).map(|n| tag(&format!("key{n}"), &"v".repeat(256))).collect();
        let value = text(tags("p", &role(long)));
        assert!(value.len() <= TAGS_BYTES && value.len() > TAGS_BYTES - 300, "{}", value.len());
        assert!(value.ends_with('v'), "only whole tags");
    }

    #[test]
    fn ways_have_lattices_form() {
        assert_eq!(text(network("arn:aws:ec2:r:1:vpc/vpc-1")), "SourceVpcArn=arn:aws:ec2:r:1:vpc/vpc-1");
        assert_eq!(text(target("s", Some("n"), "g")), "ServiceArn=s;ServiceNetworkArn=n;TargetGroupArn=g");
        assert_eq!(text(target("s", None, "g")), "ServiceArn=s;TargetGroupArn=g");
        assert_eq!(text(source_vpc("vpc-1")), "vpc-1");
    }
}
