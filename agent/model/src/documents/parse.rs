//! All files of an owner to documents.

use std::collections::HashMap;
use std::sync::Arc;

use super::common::Metadata;
use super::{Documents, Kind, Owner, Source, account, association, network, policy, quota, service, target_group, vpc};
use crate::diagnostic::{Diagnostic, Position, Sink, quote};
use crate::limits::{MAX_BYTES_PER_OWNER, MAX_DOCUMENTS_PER_OWNER, MAX_FILE_BYTES, MAX_FILES_PER_OWNER};
use crate::names::{self, NameRule};
use crate::nearest::meant;
use crate::yaml::{Decoder, Fields, Node, read};

/// The only `apiVersion`.
const API_VERSION: &str = "brattice.dev/v1";

/// Kinds that the design knows and this version does not.
const LATER: [&str; 9] = [
    "AccessLogSubscription",
    "Certificate",
    "DomainVerification",
    "ResourceConfiguration",
    "ResourceGateway",
    "SecurityGroup",
    "ServiceNetworkResourceAssociation",
    "TrustBundle",
    "VpcEndpoint",
];

/// Reads all files of one owner. Order of files and documents does not matter.
///
/// # Errors
/// Every finding of every file, at most [`crate::limits::MAX_DIAGNOSTICS`].
pub fn parse(owner: &Owner, sources: &[Source]) -> Result<Documents, Vec<Diagnostic>> {
    let mut sink = Sink::default();
    let mut parsed = Parsed { owner, documents: Documents::default(), count: 0, bytes: 0, nodes: 0, regexes: 0 };
    // By path, so that which of two places is called the first does not depend on how the files were found.
    let mut sorted: Vec<&Source> = sources.iter().take(MAX_FILES_PER_OWNER).collect();
    sorted.sort_by_key(|source| &source.path);
    for source in sorted {
        parsed.file(source, &mut sink);
    }
    if let Some(source) = sources.get(MAX_FILES_PER_OWNER) {
        let at = Position { file: source.path.as_str().into(), line: 1, column: 1, length: 1 };
        let message = format!("{owner} has more than {MAX_FILES_PER_OWNER} files");
        sink.push(Diagnostic::error(&at, message).help("put more documents into one file"));
    }
    quota::check(owner, &parsed.documents, &mut sink);
    unique(&parsed.documents, &mut sink);
    if sink.is_empty() { Ok(parsed.documents) } else { Err(sink.finish()) }
}

struct Parsed<'o> {
    owner: &'o Owner,
    documents: Documents,
    count: usize,
    bytes: usize,
    nodes: usize,
    regexes: usize,
}

impl Parsed<'_> {
    fn file(&mut self, source: &Source, sink: &mut Sink) {
        let file: Arc<str> = source.path.as_str().into();
        let mut regexes = self.regexes;
        self.documents_of(source, &mut Decoder { file, sink, regexes: &mut regexes });
        self.regexes = regexes;
    }

    fn documents_of(&mut self, source: &Source, d: &mut Decoder<'_>) {
        if source.text.len() > MAX_FILE_BYTES {
            let message = format!("the file has {} bytes; at most {MAX_FILE_BYTES} are read", source.text.len());
            let diagnostic = d.error(crate::yaml::Mark::START, message);
            d.report(diagnostic.help("split it, or move it out of the policies directory if it is no document"));
            return;
        }
        self.bytes += source.text.len();
        if self.bytes > MAX_BYTES_PER_OWNER {
            let message = format!("the files of {} have more than {MAX_BYTES_PER_OWNER} bytes", self.owner);
            let diagnostic = d.error(crate::yaml::Mark::START, message);
            d.report(diagnostic.help("divide the documents among several accounts"));
            return;
        }
        let (nodes, refusals) = read(&source.text, &mut self.nodes);
        for refusal in refusals {
            let diagnostic = d.error(refusal.mark, refusal.message);
            d.report(if refusal.help.is_empty() { diagnostic } else { diagnostic.help(refusal.help) });
        }
        for node in &nodes {
            self.count += 1;
            if self.count > MAX_DOCUMENTS_PER_OWNER {
                let message = format!("{} has more than {MAX_DOCUMENTS_PER_OWNER} documents", self.owner);
                let diagnostic = d.error(node.mark, message);
                d.report(diagnostic);
                return;
            }
            self.document(d, node);
        }
    }

    fn document(&mut self, d: &mut Decoder<'_>, node: &Node) {
        let Some(mut fields) = d.fields(node, "a document") else { return };
        if let Some(node) = fields.take(d, "apiVersion") {
            d.choice(node, "apiVersion", &[(API_VERSION, ())], &[]);
        }
        let Some(kind) = fields.need(d, "kind").and_then(|node| self.kind(d, node)) else {
            // What the other fields should be is not known without the kind.
            let known = fields.has("kind");
            for name in ["metadata", "spec"] {
                fields.take(d, name);
            }
            if !known {
                fields.finish(d);
            }
            return;
        };
        let nameless = matches!(
            kind,
            Kind::ServiceNetworkServiceAssociation | Kind::ServiceNetworkVpcAssociation | Kind::AuthPolicy
        );
        let metadata_node = if nameless { fields.take(d, "metadata") } else { fields.need(d, "metadata") };
        let metadata = metadata_node.and_then(|node| d.metadata(node, rule(kind)));
        let spec_node = if kind == Kind::ServiceNetwork { fields.take(d, "spec") } else { fields.need(d, "spec") };
        let spec = spec_node.and_then(|node| d.fields(node, spec_of(kind)));
        fields.finish(d);
        self.decode(d, kind, metadata, spec);
    }

    fn decode(&mut self, d: &mut Decoder<'_>, kind: Kind, metadata: Option<Metadata>, spec: Option<Fields<'_>>) {
        let documents = &mut self.documents;
        if kind == Kind::ServiceNetwork {
            documents.networks.extend(network::decode(d, metadata, spec));
            return;
        }
        let Some(spec) = spec else { return };
        match kind {
            Kind::Account => documents.accounts.extend(account::decode(d, metadata, spec)),
            Kind::Vpc => documents.vpcs.extend(vpc::decode_vpc(d, metadata, spec)),
            Kind::Workload => documents.workloads.extend(vpc::decode_workload(d, metadata, spec)),
            Kind::ServiceNetwork => {}
            Kind::Service => documents.services.extend(service::decode(d, metadata, spec)),
            Kind::TargetGroup => documents.target_groups.extend(target_group::decode(d, metadata, spec)),
            Kind::ServiceNetworkServiceAssociation => {
                documents.service_associations.extend(association::decode_service(d, spec));
            }
            Kind::ServiceNetworkVpcAssociation => {
                documents.vpc_associations.extend(association::decode_vpc(d, spec));
            }
            Kind::AuthPolicy => documents.policies.extend(policy::decode(d, spec)),
            Kind::Role => documents.roles.extend(policy::decode_role(d, metadata, spec)),
        }
    }

    fn kind(&self, d: &mut Decoder<'_>, node: &Node) -> Option<Kind> {
        let text = d.string(node, "a kind")?;
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == text) else {
            let diagnostic = if LATER.contains(&text) {
                d.error(node.mark, format!("kind {} is not in this version", quote(text)))
            } else {
                d.error(node.mark, format!("unknown kind {}", quote(text)))
                    .nearest(meant(text, Kind::ALL.into_iter().map(Kind::name)))
            };
            let kinds: Vec<&str> =
                Kind::ALL.into_iter().filter(|kind| kind.belongs_to(self.owner)).map(Kind::name).collect();
            d.report(diagnostic.expected(format!("one of {}", kinds.join(", "))));
            return None;
        };
        if !kind.belongs_to(self.owner) {
            let diagnostic = match self.owner {
                Owner::Operator => d
                    .error(
                        node.mark,
                        format!("{} {text} belongs to an account, and this place is the operator's", article(text)),
                    )
                    .help("move the document to a file under accounts/<name>/"),
                Owner::Account(name) => d
                    .error(
                        node.mark,
                        format!(
                            "only the operator may hold {} {text}, and this place is the account {name}'s",
                            article(text)
                        ),
                    )
                    .help("move the document to a file directly in the policies directory"),
            };
            d.report(diagnostic);
            // Go on decoding: what else is wrong with it is worth knowing before it is moved.
        }
        Some(kind)
    }
}

/// The article of a kind.
fn article(kind: &str) -> &'static str {
    if kind.starts_with('A') { "an" } else { "a" }
}

const fn rule(kind: Kind) -> NameRule {
    match kind {
        Kind::Account => names::ACCOUNT,
        Kind::Vpc => names::VPC,
        Kind::Workload => names::WORKLOAD,
        Kind::ServiceNetwork => names::SERVICE_NETWORK,
        Kind::Service => names::SERVICE,
        Kind::TargetGroup => names::TARGET_GROUP,
        Kind::ServiceNetworkServiceAssociation | Kind::ServiceNetworkVpcAssociation | Kind::AuthPolicy => {
            names::ASSOCIATION
        }
        Kind::Role => names::ROLE,
    }
}

const fn spec_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Account => "the spec of an Account",
        Kind::Vpc => "the spec of a Vpc",
        Kind::Workload => "the spec of a Workload",
        Kind::ServiceNetwork => "the spec of a ServiceNetwork",
        Kind::Service => "the spec of a Service",
        Kind::TargetGroup => "the spec of a TargetGroup",
        Kind::ServiceNetworkServiceAssociation => "the spec of a ServiceNetworkServiceAssociation",
        Kind::ServiceNetworkVpcAssociation => "the spec of a ServiceNetworkVpcAssociation",
        Kind::AuthPolicy => "the spec of an AuthPolicy",
        Kind::Role => "the spec of a Role",
    }
}

/// What must be unique within an owner: names by kind, account ids, custom domains, where workloads are.
fn unique(documents: &Documents, sink: &mut Sink) {
    let mut seen: HashMap<(&'static str, String), Position> = HashMap::new();
    let mut once = |what: &'static str, name: String, at: &Position, help: &str| {
        if let Some(first) = seen.get(&(what, name.clone())) {
            let message = format!("the {what} {} is there twice; first at {}", quote(&name), first.place());
            let diagnostic = Diagnostic::error(at, message);
            sink.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
        } else {
            seen.insert((what, name), at.clone());
        }
    };
    for doc in &documents.accounts {
        once("Account", doc.metadata.name.value.clone(), &doc.metadata.name.at, "");
        once("account id", doc.id.value.clone(), &doc.id.at, "each account has its own");
    }
    for doc in &documents.vpcs {
        once("Vpc", doc.qualified(), &doc.metadata.name.at, "");
    }
    for doc in &documents.workloads {
        once("Workload", doc.metadata.name.value.clone(), &doc.metadata.name.at, "");
        // With both, the pair is what is selected; with one, that alone.
        let (interface, namespace) = (doc.interface.as_ref(), doc.namespace.as_ref());
        if let Some(interface) = interface {
            once("interface", interface.value.clone(), &interface.at, "an interface is one workload's");
        } else if let Some(namespace) = namespace {
            once(
                "namespace",
                namespace.value.clone(),
                &namespace.at,
                "name an interface, too, where a namespace has several",
            );
        } else if let Some(path) = &doc.namespace_path {
            once(
                "namespace path",
                path.value.clone(),
                &path.at,
                "name an interface, too, where a namespace has several",
            );
        } else if let Some(glob) = &doc.namespace_cgroup {
            once("cgroup", glob.value.to_string(), &glob.at, "name an interface, too, where a namespace has several");
        } else if let Some(glob) = &doc.cgroup {
            let user = doc.uid.as_ref().map_or_else(String::new, |uid| format!(" of user {}", uid.value));
            let what = format!("{}{user}", glob.value);
            once("cgroup of processes of the host", what, &glob.at, "name the user, too, where a cgroup has several");
        }
    }
    for doc in &documents.roles {
        once("Role", doc.qualified(), &doc.metadata.name.at, "");
    }
    for doc in &documents.networks {
        once("ServiceNetwork", doc.metadata.name.value.clone(), &doc.metadata.name.at, "");
    }
    for doc in &documents.target_groups {
        once("TargetGroup", doc.metadata.name.value.clone(), &doc.metadata.name.at, "");
    }
    for doc in &documents.services {
        once("Service", doc.metadata.name.value.clone(), &doc.metadata.name.at, "");
    }
    for doc in &documents.services {
        for domain in &doc.domains {
            once("domain name", domain.value.clone(), &domain.at, "one service of an account may claim it");
        }
    }
    for doc in &documents.accounts {
        if doc.metadata.name.value == super::OPERATOR {
            let at = &doc.metadata.name.at;
            sink.push(Diagnostic::error(at, "no account is called `operator`").help("choose another name"));
        }
    }
}
