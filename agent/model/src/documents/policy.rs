//! `AuthPolicy` and `Role`.

use brattice_iam as iam;

use super::common::{Metadata, Tags};
use crate::diagnostic::{Diagnostic, Located, Position, quote};
use crate::ids::{IdKind, Identifier};
use crate::limits::{MAX_TRUST, MAX_WORKLOADS_PER_TRUST};
use crate::names;
use crate::yaml::{Decoder, Fields, Node, policy_diagnostic};

/// Who may call: the policy of a service network or service of the account's own.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthPolicyDocument {
    /// The service network or service.
    pub resource: Located<PolicyResourceIdentifier>,
    /// What it says. Read again when it is known what the resource's listeners speak.
    pub policy: iam::Tree,
    /// How many statements it has.
    pub statements: usize,
    /// Whether it decides.
    pub mode: iam::Mode,
    /// Where the document is.
    pub at: Position,
}

/// The resource that a policy is for: a name may be of a service network or of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyResourceIdentifier {
    /// As written.
    pub text: String,
    /// As a service network, if it can be one.
    pub network: Option<Identifier>,
    /// As a service, if it can be one.
    pub service: Option<Identifier>,
}

impl std::fmt::Display for PolicyResourceIdentifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A role: the principal that workloads call as.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleDocument {
    /// Name and labels.
    pub metadata: Metadata,
    /// The account it belongs to.
    pub account: Located<String>,
    /// `aws:PrincipalTag/…`.
    pub tags: Tags,
    /// The trust policy: any of these may call as the role.
    pub trust: Vec<Trust>,
    /// The policy of its calls; none = whatever network and service allow.
    pub policy: Option<iam::Policy>,
    /// Warnings about the policy.
    pub warnings: Vec<iam::Finding>,
}

impl RoleDocument {
    /// `account/name`.
    pub fn qualified(&self) -> String {
        format!("{}/{}", self.account.value, self.metadata.name.value)
    }
}

/// Workloads that may be a role; what is given must all fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Trust {
    /// Their VPC.
    pub vpc: Option<Located<Identifier>>,
    /// Names of `Workload` documents; empty = any.
    pub workloads: Vec<Located<String>>,
    /// Labels that a `Workload` document must have.
    pub labels: Tags,
    /// Where it was written.
    pub at: Position,
    /// Evidence that the workload's identity must have; empty = any.
    pub evidence: Vec<Evidence>,
}

/// Evidence of a workload's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// The interface its packets come from.
    Interface,
    /// The network namespace at the interface's other end.
    Namespace,
    /// The cgroup of a process of the host, or one above it, when it connected.
    Cgroup,
    /// Its user, likewise.
    Uid,
}

impl Evidence {
    /// All there can be.
    pub const ALL: [Self; 4] = [Self::Interface, Self::Namespace, Self::Cgroup, Self::Uid];

    /// As documents and `brattice:Evidence` have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Namespace => "namespace",
            Self::Cgroup => "cgroup",
            Self::Uid => "uid",
        }
    }
}

pub(super) fn decode(d: &mut Decoder<'_>, mut spec: Fields<'_>) -> Option<AuthPolicyDocument> {
    let at = d.at(spec.mark);
    let resource = spec.need(d, "resourceIdentifier").and_then(|node| resource(d, node));
    let policy = spec.need(d, "policy").and_then(|node| policy(d, node, iam::Attachment::ServiceNetwork));
    let modes = [("enforce", iam::Mode::Enforce), ("audit", iam::Mode::Audit)];
    let mode = spec.take(d, "mode").map_or(Some(iam::Mode::Enforce), |node| d.choice(node, "mode", &modes, &[]));
    spec.read_only(d, &["state", "createdAt", "lastUpdatedAt"]);
    spec.finish(d);
    let (tree, policy, _) = policy?;
    let statements = policy.statements.len();
    Some(AuthPolicyDocument { resource: resource?, policy: tree, statements, mode: mode?, at })
}

fn resource(d: &mut Decoder<'_>, node: &Node) -> Option<Located<PolicyResourceIdentifier>> {
    let text = d.string(node, "the name, id or ARN of a service network or service")?;
    let as_kind = |kind, rule| Identifier::parse(text, kind, rule);
    let (network, service) =
        (as_kind(IdKind::ServiceNetwork, names::SERVICE_NETWORK), as_kind(IdKind::Service, names::SERVICE));
    // A text with the shape of a service network's id is one, though the name of a service network may look like any id.
    let network = network.ok().filter(|_| !IdKind::Service.is_id(text));
    let value = match (network, service) {
        (None, Err(why)) => {
            let diagnostic =
                d.error(node.mark, format!("{} names no service network and no service: {why}", quote(text)));
            d.report(diagnostic.expected("a name, id or ARN"));
            return None;
        }
        (network, service) => {
            let service = service.ok().filter(|_| !IdKind::ServiceNetwork.is_id(text));
            PolicyResourceIdentifier { text: text.to_owned(), network, service }
        }
    };
    Some(Located { value, at: d.at(node.mark) })
}

/// A policy without errors, and the warnings about it.
fn policy(
    d: &mut Decoder<'_>,
    node: &Node,
    attachment: iam::Attachment,
) -> Option<(iam::Tree, iam::Policy, Vec<iam::Finding>)> {
    let tree = d.policy_tree(node)?;
    let within = d.at(node.mark);
    let read = iam::Policy::from_tree(&tree, std::sync::Arc::clone(&within.file), attachment);
    for finding in read.findings.iter().filter(|finding| finding.is_error()) {
        d.report(policy_diagnostic(&within, finding));
    }
    let read_policy = read.policy?;
    // The engine gets it in this form.
    let bytes = read_policy.json().len();
    if bytes > iam::limits::MAX_POLICY_BYTES {
        let message =
            format!("the policy has {bytes} bytes as JSON; at most {} are allowed", iam::limits::MAX_POLICY_BYTES);
        d.report(Diagnostic::error(&within, message).help("split it, or use wildcards and variables"));
    }
    Some((tree, read_policy, read.findings))
}

pub(super) fn decode_role(
    d: &mut Decoder<'_>,
    metadata: Option<Metadata>,
    mut spec: Fields<'_>,
) -> Option<RoleDocument> {
    let account = spec.need(d, "account").and_then(|node| d.name(node, names::ACCOUNT));
    let tags = d.spec_tags(&mut spec);
    let mut trust = Vec::new();
    if let Some(node) = spec.need(d, "trust") {
        for item in d.list(node, 1..=MAX_TRUST, "selectors of workloads").unwrap_or_default() {
            trust.extend(selector(d, item));
        }
    }
    let (mut policy_read, mut warnings) = (None, Vec::new());
    if let Some(node) = spec.take(d, "policy")
        && let Some((_, policy, findings)) = policy(d, node, iam::Attachment::Role)
    {
        (policy_read, warnings) = (Some(policy), findings);
    }
    spec.read_only(d, &["arn", "id", "status", "createdAt", "lastUpdatedAt"]);
    spec.finish(d);
    Some(RoleDocument { metadata: metadata?, account: account?, tags, trust, policy: policy_read, warnings })
}

fn selector(d: &mut Decoder<'_>, node: &Node) -> Option<Trust> {
    let mut fields = d.fields(node, "a trust")?;
    let vpc = fields.take(d, "vpcIdentifier").and_then(|node| d.identifier(node, IdKind::Vpc, names::VPC));
    let mut workloads: Vec<Located<String>> = Vec::new();
    if let Some(node) = fields.take(d, "workloads") {
        for item in d.list(node, 1..=MAX_WORKLOADS_PER_TRUST, "names of workloads").unwrap_or_default() {
            if let Some(name) = d.name(item, names::WORKLOAD)
                && d.unseen(&workloads, &name, "workload")
            {
                workloads.push(name);
            }
        }
    }
    let labels = fields.take(d, "labels").and_then(|node| d.tags(node, "labels")).unwrap_or_default();
    let words = Evidence::ALL.map(|evidence| (evidence.word(), evidence));
    let mut evidence = Vec::new();
    if let Some(node) = fields.take(d, "evidence") {
        for item in d.list(node, 1..=words.len(), "kinds of evidence").unwrap_or_default() {
            evidence.extend(d.choice(item, "evidence", &words, &[]));
        }
    }
    let empty = !["vpcIdentifier", "workloads", "labels"].into_iter().any(|name| fields.has(name));
    if fields.finish(d) && empty {
        let diagnostic = d.error(node.mark, "the trust selects nothing, so every workload could be the role");
        d.report(diagnostic.expected("`vpcIdentifier`, `workloads`, `labels`, or several of them"));
    }
    Some(Trust { vpc, workloads, labels, at: d.at(node.mark), evidence })
}
