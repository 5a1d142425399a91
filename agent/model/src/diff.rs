//! The difference between two models, for people and logs. A change of place in the files is no difference.

use std::collections::BTreeMap;
use std::fmt;

use brattice_wire::auth::AuthType;
use brattice_wire::index::VpcIndex;
use brattice_wire::snapshot::{Filters, Precedence};

use crate::describe::{self, Secrets};
use crate::documents::{Attachment, Tags};
use crate::model::{AssociationKind, Listener, Model, Status, Trusted};

/// An entity that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Kind, as in documents.
    pub kind: &'static str,
    /// Qualified name; of associations `<member> in <network>`.
    pub name: String,
    /// How it changed.
    pub what: What,
}

/// How an entity changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Some of its fields differ.
    Changed(Vec<FieldChange>),
}

/// A field that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// Path of the field, listeners and rules by name.
    pub field: String,
    /// Before; none = it was not there.
    pub old: Option<String>,
    /// Now; none = it is no longer there.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = (self.kind, &self.name);
        match &self.what {
            What::Added => write!(f, "+ {kind} {name}"),
            What::Removed => write!(f, "- {kind} {name}"),
            What::Changed(fields) => {
                write!(f, "~ {kind} {name}")?;
                for change in fields {
                    let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
                    write!(f, "\n    {}: {} -> {}", change.field, show(&change.old), show(&change.new))?;
                }
                Ok(())
            }
        }
    }
}

/// A field's value.
#[derive(Clone, PartialEq)]
struct Text {
    /// The text that is compared.
    exact: String,
    /// The text that is shown: secrets are hidden.
    shown: String,
}

type Fields = BTreeMap<String, Text>;

/// All changes, by kind and name.
pub fn diff(old: &Model, new: &Model) -> Vec<Change> {
    let (mut old, new) = (flatten(old), flatten(new));
    let mut changes = Vec::new();
    for (key, fields) in new {
        let what = match old.remove(&key) {
            None => What::Added,
            Some(before) if before == fields => continue,
            Some(before) => What::Changed(compare(before, fields)),
        };
        changes.push((key, what));
    }
    changes.extend(old.into_keys().map(|key| (key, What::Removed)));
    changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    changes.into_iter().map(|((_, kind, name), what)| Change { kind, name, what }).collect()
}

fn compare(mut old: Fields, new: Fields) -> Vec<FieldChange> {
    let mut changes: Vec<FieldChange> = Vec::new();
    for (field, new) in new {
        let old = old.remove(&field);
        if old.as_ref() != Some(&new) {
            changes.push(FieldChange { field, old: old.map(|old| old.shown), new: Some(new.shown) });
        }
    }
    changes.extend(old.into_iter().map(|(field, old)| FieldChange { field, old: Some(old.shown), new: None }));
    changes.sort_by(|a, b| a.field.cmp(&b.field));
    changes
}

/// Entities by (order of kind, kind, name), each as field → text. Empty fields are left out.
fn flatten(model: &Model) -> BTreeMap<(u8, &'static str, String), Fields> {
    let mut all = BTreeMap::new();
    for account in &model.accounts {
        let mut fields = Fields::new();
        put(&mut fields, "id", &account.id);
        put(&mut fields, "organizationPath", account.organization_path.as_deref().unwrap_or_default());
        put(&mut fields, "domains", &account.domains.join(", "));
        put(&mut fields, "vpcs", &account.vpcs.join(", "));
        all.insert((0, "Account", account.name.clone()), fields);
    }
    for vpc in &model.vpcs {
        let mut fields = Fields::new();
        put(&mut fields, "status", &status(&vpc.status));
        put(&mut fields, "cidrBlocks", &list(&vpc.cidrs));
        put(&mut fields, "attachments", &vpc.attachments.iter().map(attachment).collect::<Vec<_>>().join(", "));
        put(&mut fields, "dns", &format!("{:?}", vpc.dns).to_lowercase());
        put(&mut fields, "dnsUpstreams", &list(&vpc.dns_upstreams));
        tags(&mut fields, &vpc.labels, &vpc.tags);
        all.insert((1, "Vpc", vpc.name.clone()), fields);
    }
    for workload in &model.workloads {
        let mut fields = Fields::new();
        put(&mut fields, "status", &status(&workload.status));
        put(&mut fields, "vpcIdentifier", &workload.vpc);
        put(&mut fields, "roleIdentifier", workload.role.as_deref().unwrap_or_default());
        put(&mut fields, "interface", workload.interface.as_deref().unwrap_or_default());
        put(&mut fields, "namespace", workload.namespace.as_deref().unwrap_or_default());
        put(&mut fields, "namespacePath", workload.namespace_path.as_deref().unwrap_or_default());
        put(&mut fields, "namespaceCgroup", workload.namespace_cgroup.as_ref().map_or("", |glob| glob.as_str()));
        put(&mut fields, "cgroup", workload.cgroup.as_ref().map_or("", |glob| glob.as_str()));
        put(&mut fields, "uid", &workload.uid.map_or_else(String::new, |uid| uid.to_string()));
        put(&mut fields, "macAddress", &workload.mac.map_or_else(String::new, mac));
        put(&mut fields, "addresses", &list(&workload.addresses));
        put(&mut fields, "allowBesideCni", if workload.allow_beside_cni { "true" } else { "" });
        tags(&mut fields, &workload.labels, &workload.tags);
        all.insert((2, "Workload", workload.name.clone()), fields);
    }
    for network in &model.networks {
        let mut fields = Fields::new();
        put(&mut fields, "status", &status(&network.status));
        put(&mut fields, "authType", auth_type(network.auth_type));
        put(&mut fields, "sharedWith", &network.shared_with.join(", "));
        tags(&mut fields, &network.labels, &network.tags);
        all.insert((3, "ServiceNetwork", network.name.clone()), fields);
    }
    for service in &model.services {
        let mut fields = Fields::new();
        put(&mut fields, "status", &status(&service.status));
        put(&mut fields, "vip", &service.vip.map(|vip| vip.to_string()).unwrap_or_default());
        put(&mut fields, "vip6", &service.vip6.map(|vip| vip.to_string()).unwrap_or_default());
        put(&mut fields, "customDomainNames", &service.domains.join(", "));
        put(&mut fields, "idleTimeoutSeconds", &service.idle_timeout_seconds.to_string());
        put(&mut fields, "authType", auth_type(service.auth_type));
        put(&mut fields, "sharedWith", &service.shared_with.join(", "));
        tags(&mut fields, &service.labels, &service.tags);
        for listener in &service.listeners {
            listener_fields(&mut fields, listener, model);
        }
        all.insert((4, "Service", service.name.clone()), fields);
    }
    for group in &model.target_groups {
        let mut fields = Fields::new();
        put(&mut fields, "status", &status(&group.status));
        put(&mut fields, "vpcIdentifier", &group.vpc);
        put(&mut fields, "port", &group.port.to_string());
        put(&mut fields, "protocolVersion", &format!("{:?}", group.protocol_version).to_uppercase());
        if let Some(seconds) = group.idle_timeout_seconds {
            put(&mut fields, "connectionPool.idleTimeoutSeconds", &seconds.to_string());
        }
        let targets: Vec<String> = group.targets.iter().map(|(address, port)| format!("{address}:{port}")).collect();
        put(&mut fields, "targets", &targets.join(", "));
        tags(&mut fields, &group.labels, &group.tags);
        all.insert((5, "TargetGroup", group.name.clone()), fields);
    }
    for association in &model.associations {
        let kind = match association.kind {
            AssociationKind::Service => "ServiceNetworkServiceAssociation",
            AssociationKind::Vpc => "ServiceNetworkVpcAssociation",
        };
        let mut fields = Fields::new();
        put(&mut fields, "status", &status(&association.status));
        all.insert((6, kind, format!("{} in {}", association.member, association.network)), fields);
    }
    for policy in &model.policies {
        let mut fields = Fields::new();
        put(&mut fields, "state", policy.state.word());
        put(&mut fields, "mode", if policy.mode == brattice_iam::Mode::Audit { "audit" } else { "enforce" });
        policy_fields(&mut fields, &policy.policy);
        all.insert((7, "AuthPolicy", policy.resource.to_string()), fields);
    }
    for role in &model.roles {
        let mut fields = Fields::new();
        put(&mut fields, "status", &status(&role.status));
        put(&mut fields, "trust", &role.trust.iter().map(trusted).collect::<Vec<_>>().join(", "));
        tags(&mut fields, &role.labels, &role.tags);
        if let Some(policy) = &role.policy {
            policy_fields(&mut fields, policy);
        }
        all.insert((8, "Role", role.name.clone()), fields);
    }
    all
}

/// Statement by statement, by Sid or position.
fn policy_fields(fields: &mut Fields, policy: &brattice_iam::Policy) {
    put(fields, "policy.version", &format!("{:?}", policy.version));
    for (position, statement) in policy.statements.iter().enumerate() {
        let name = statement.sid.clone().unwrap_or_else(|| position.to_string());
        put(fields, &format!("policy.statements.{name}"), &statement.json());
    }
}

fn trusted(trusted: &Trusted) -> String {
    let mut parts = Vec::new();
    parts.extend(trusted.vpc.as_ref().map(|vpc| format!("VPC {vpc}")));
    parts.extend((!trusted.workloads.is_empty()).then(|| format!("workloads {}", trusted.workloads.join(" or "))));
    parts.extend(trusted.labels.iter().map(|(key, value)| format!("label {key}={value}")));
    let evidence: Vec<&str> = trusted.evidence.iter().map(|evidence| evidence.word()).collect();
    parts.extend((!evidence.is_empty()).then(|| format!("known by {}", evidence.join(" and "))));
    parts.join(" and ")
}

const fn auth_type(auth_type: AuthType) -> &'static str {
    match auth_type {
        AuthType::None => "NONE",
        AuthType::AwsIam => "AWS_IAM",
    }
}

fn listener_fields(fields: &mut Fields, listener: &Listener, model: &Model) {
    let path = format!("listeners.{}", listener.name);
    put(fields, &format!("{path}.port"), &listener.port.to_string());
    put(fields, &format!("{path}.protocol"), &format!("{:?}", listener.protocol).to_uppercase());
    put(fields, &format!("{path}.forwardedHeaders"), &format!("{:?}", listener.forwarded_headers).to_lowercase());
    let precedence = match listener.precedence {
        Precedence::Priority => "priority",
        Precedence::MostSpecific => "mostSpecific",
    };
    put(fields, &format!("{path}.rulePrecedence"), precedence);
    put(fields, &format!("{path}.defaultAction"), &describe::action(&listener.default_action));
    filter_fields(fields, &format!("{path}.defaultAction"), &listener.default_filters);
    let vpc =
        |index: VpcIndex| model.vpcs.get(index.position()).map_or_else(|| index.to_string(), |vpc| vpc.name.clone());
    for rule in &listener.rules {
        let path = format!("{path}.rules.{}", rule.name);
        put(fields, &format!("{path}.priority"), &rule.priority.to_string());
        let render = |secrets| describe::conditions(&rule.matches, vpc, secrets);
        put_secret(fields, &format!("{path}.match"), render);
        put(fields, &format!("{path}.action"), &describe::action(&rule.action));
        filter_fields(fields, &format!("{path}.action"), &rule.filters);
    }
}

fn filter_fields(fields: &mut Fields, path: &str, filters: &Filters) {
    let exact = describe::filters(filters, Secrets::Kept);
    for ((name, exact), (_, shown)) in exact.into_iter().zip(describe::filters(filters, Secrets::Hidden)) {
        if !exact.is_empty() {
            fields.insert(format!("{path}.{name}"), Text { exact, shown });
        }
    }
}

fn attachment(attachment: &Attachment) -> String {
    let part = |name: &str, glob: &Option<crate::Glob>| glob.as_ref().map(|glob| format!("{name} {glob}"));
    let parts = [
        part("interface", &attachment.interface),
        part("namespace", &attachment.namespace),
        part("namespaceCgroup", &attachment.namespace_cgroup),
    ];
    let beside = if attachment.allow_beside_cni { " (beside a CNI)" } else { "" };
    format!("{}{beside}", parts.into_iter().flatten().collect::<Vec<_>>().join(" and "))
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Without the message, which may name lines.
fn status(status: &Status) -> String {
    match status.failure() {
        None => status.word().into(),
        Some((code, _)) => format!("{} ({code})", status.word()),
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn tags(fields: &mut Fields, labels: &Tags, tags: &Tags) {
    for (what, tags) in [("labels", labels), ("tags", tags)] {
        for (key, value) in tags {
            fields.insert(format!("{what}.{key}"), Text { exact: value.clone(), shown: value.clone() });
        }
    }
}

fn put(fields: &mut Fields, name: &str, value: &str) {
    if !value.is_empty() {
        fields.insert(name.to_owned(), Text { exact: value.to_owned(), shown: value.to_owned() });
    }
}

fn put_secret(fields: &mut Fields, name: &str, render: impl Fn(Secrets) -> String) {
    fields.insert(name.to_owned(), Text { exact: render(Secrets::Kept), shown: render(Secrets::Hidden) });
}
