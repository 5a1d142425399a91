//! The texts of a snapshot that lines and past requests are made of: names and ARNs, as JSON where lines have them, so that a request
//! copies bytes and escapes nothing.

use std::{net::IpAddr, sync::Arc};

use brattice_router::hash::FastMap;
use brattice_wire::{
    auth::{self, AuthType, Role},
    index::{NetworkIndex, PolicyIndex, TargetGroupIndex, VpcIndex},
    snapshot::{self, AliasGeneration, Listener, ServiceNumber, Snapshot, TargetGroup, Workload},
};

use super::json::{self, ABSENT};

/// Names that say that a value is secret: known ones ...
const SECRET: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];
/// ... and parts of others.
const SECRET_PARTS: [&str; 6] = ["token", "secret", "password", "api-key", "apikey", "credential"];
/// Condition key of policies that asks for a header field, up to its name.
const HEADER_KEY: &str = "requestheader/";

/// The names of one snapshot.
#[derive(Debug, Default)]
pub struct Names {
    /// Revision of the snapshot.
    pub(crate) revision: u64,
    callers: FastMap<IpAddr, Caller>,
    vpcs: Vec<Vpc>,
    services: FastMap<ServiceNumber, Service>,
    groups: Vec<Group>,
    networks: Vec<Network>,
}

/// A VPC.
#[derive(Debug)]
pub(crate) struct Vpc {
    pub(crate) name: Arc<str>,
    /// Ascending.
    networks: Box<[NetworkIndex]>,
}

/// A service network.
#[derive(Debug)]
pub(crate) struct Network {
    /// `serviceNetworkArn`.
    pub(crate) json: Box<[u8]>,
    /// Its policy decides.
    pub(crate) enforced: bool,
}

/// A workload.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) name: Box<str>,
    pub(crate) address: IpAddr,
    pub(crate) vpc: VpcIndex,
    pub(crate) generation: AliasGeneration,
    /// `sourceVpcArn` to `callerPrincipalTags`.
    pub(crate) json: Box<[u8]>,
    /// `resolvedUser`'s value where policies decide.
    pub(crate) resolved: Box<[u8]>,
}

/// A service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: Arc<str>,
    /// Its policy decides.
    pub(crate) enforced: bool,
    networks: Box<[NetworkIndex]>,
    pub(crate) listeners: Vec<Listening>,
}

/// A listener.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) name: Arc<str>,
    pub(crate) port: u16,
    /// `serviceArn` to `serviceName`.
    pub(crate) json: Box<[u8]>,
    /// Header fields that rules or policies ask for; true: secret.
    pub(crate) asked: Box<[(Box<str>, bool)]>,
}

/// A target group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    /// Its targets' VPC.
    pub(crate) vpc: Option<VpcIndex>,
    /// `targetGroupArn` and `destinationVpcId`.
    pub(crate) json: Box<[u8]>,
}

impl Names {
    /// Of a snapshot. An index in it that points nowhere is named like nothing; others refuse such a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let callers = snapshot.workloads.iter().map(|workload| (workload.alias, Caller::of(snapshot, workload)));
        let policies: Vec<Vec<&str>> = snapshot.policies.iter().map(|policy| headers_of(&policy.json)).collect();
        let services =
            snapshot.services.iter().map(|service| (service.number, Service::of(snapshot, service, &policies)));
        let vpcs = snapshot.vpcs.iter();
        let vpcs = vpcs.map(|vpc| Vpc { name: vpc.name.as_str().into(), networks: vpc.networks.as_slice().into() });
        Self {
            revision: snapshot.revision,
            callers: callers.collect(),
            vpcs: vpcs.collect(),
            services: services.collect(),
            groups: snapshot.target_groups.iter().map(|group| Group::of(snapshot, group)).collect(),
            networks: snapshot.networks.iter().map(Network::of).collect(),
        }
    }

    pub(crate) fn caller(&self, alias: IpAddr) -> Option<&Caller> {
        self.callers.get(&alias)
    }

    pub(crate) fn vpc(&self, index: VpcIndex) -> Option<&Vpc> {
        self.vpcs.get(index.position())
    }

    /// By the service's number.
    pub(crate) fn service(&self, number: ServiceNumber) -> Option<&Service> {
        self.services.get(&number)
    }

    pub(crate) fn group(&self, index: TargetGroupIndex) -> Option<&Group> {
        self.groups.get(index.position())
    }

    pub(crate) fn network(&self, index: NetworkIndex) -> Option<&Network> {
        self.networks.get(index.position())
    }

    /// The first network that a VPC and a service have in common.
    pub(crate) fn common(&self, vpc: VpcIndex, service: &Service) -> Option<NetworkIndex> {
        let networks = &self.vpc(vpc)?.networks;
        service.networks.iter().find(|network| networks.contains(network)).copied()
    }

    /// Names of all services.
    pub(crate) fn service_names(&self) -> impl Iterator<Item = &str> {
        self.services.values().map(|service| &*service.name)
    }
}

impl Caller {
    fn of(snapshot: &Snapshot, workload: &Workload) -> Self {
        let vpc = snapshot.vpcs.get(workload.vpc.position());
        let role = workload.role.and_then(|role| snapshot.roles.get(role.position()));
        let mut out = Vec::new();
        field(&mut out, "sourceVpcArn", vpc.map(|vpc| vpc.arn.as_str()));
        field(&mut out, "sourceVpcId", vpc.map(|vpc| vpc.id.as_str()));
        field(&mut out, "sourceWorkload", Some(&workload.name));
        field(&mut out, "attestedPrincipal", Some(&workload.attested));
        field(&mut out, "callerPrincipal", role.map(|_| workload.attested.as_str()));
        let tags = role.filter(|role| !role.tags.is_empty()).map(tags_of);
        field(&mut out, "callerPrincipalTags", tags.as_deref());
        let mut resolved = Vec::new();
        json::string(&mut resolved, if role.is_some() { workload.attested.as_bytes() } else { b"Anonymous" });
        Self {
            name: workload.name.as_str().into(),
            address: workload.address,
            vpc: workload.vpc,
            generation: workload.generation,
            json: out.into(),
            resolved: resolved.into(),
        }
    }
}

/// Tags as a JSON object.
fn tags_of(role: &Role) -> String {
    let mut tags = Vec::new();
    for (n, (key, value)) in role.tags.iter().enumerate() {
        tags.push(if n == 0 { b'{' } else { b',' });
        json::string(&mut tags, key.as_bytes());
        tags.push(b':');
        json::string(&mut tags, value.as_bytes());
    }
    tags.push(b'}');
    String::from_utf8_lossy(&tags).into_owned()
}

impl Group {
    fn of(snapshot: &Snapshot, group: &TargetGroup) -> Self {
        let vpc = group.vpc.and_then(|vpc| snapshot.vpcs.get(vpc.position()));
        let mut out = Vec::new();
        field(&mut out, "targetGroupArn", Some(&group.arn));
        field(&mut out, "destinationVpcId", vpc.map(|vpc| vpc.id.as_str()));
        Self { name: group.name.as_str().into(), vpc: group.vpc, json: out.into() }
    }
}

impl Network {
    fn of(network: &auth::Network) -> Self {
        let mut out = Vec::new();
        field(&mut out, "serviceNetworkArn", Some(&network.arn));
        Self { json: out.into(), enforced: network.auth_type == AuthType::AwsIam }
    }
}

impl Service {
    /// `policies`: the header fields that each policy of the snapshot asks for.
    fn of(snapshot: &Snapshot, service: &snapshot::Service, policies: &[Vec<&str>]) -> Self {
        let of_policy =
            |index: Option<PolicyIndex>| index.and_then(|index| policies.get(index.position())).into_iter().flatten();
        let networks = service.networks.iter().filter_map(|index| snapshot.networks.get(index.position()));
        let mut fields: Vec<&str> = of_policy(service.policy).copied().collect();
        // Roles may call anything, so what their policies ask for is kept of every request.
        let of_roles = snapshot.roles.iter().flat_map(|role| of_policy(role.policy));
        fields.extend(networks.flat_map(|network| of_policy(network.policy)).chain(of_roles));
        let listeners = service.listeners.iter().map(|listener| {
            let mut out = Vec::new();
            field(&mut out, "serviceArn", Some(&service.arn));
            field(&mut out, "listenerId", Some(&listener.id));
            field(&mut out, "listenerType", Some("HTTP"));
            field(&mut out, "listenerName", Some(&listener.name));
            field(&mut out, "serviceName", Some(&service.name));
            let asked = asked(listener, &fields);
            Listening { name: listener.name.as_str().into(), port: listener.port, json: out.into(), asked }
        });
        Self {
            name: service.name.as_str().into(),
            enforced: service.auth_type == AuthType::AwsIam,
            networks: service.networks.as_slice().into(),
            listeners: listeners.collect(),
        }
    }

    pub(crate) fn listener(&self, port: u16) -> Option<&Listening> {
        self.listeners.iter().find(|listener| listener.port == port)
    }
}

/// `"name":"text",`, or `"name":"-",`.
pub(crate) fn field(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    match text.filter(|text| !text.is_empty()) {
        Some(text) => json::string(out, text.as_bytes()),
        None => out.extend_from_slice(ABSENT.as_bytes()),
    }
    out.push(b',');
}

/// Header fields that a policy's conditions ask for, in lower case.
fn headers_of(policy: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = policy;
    // The key's prefix is compared without regard to case (IAM), names of fields are, too.
    while let Some(at) = find_ignoring_case(rest, HEADER_KEY) {
        rest = &rest[at + HEADER_KEY.len()..];
        let end = rest.find(['"', '\\']).unwrap_or(rest.len());
        names.push(&rest[..end]);
    }
    names
}

fn find_ignoring_case(text: &str, wanted: &str) -> Option<usize> {
    text.as_bytes().windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}

fn asked(listener: &Listener, policies: &[&str]) -> Box<[(Box<str>, bool)]> {
    let rules = listener.rules.iter().flat_map(|rule| &rule.matches.headers).map(|header| header.name.to_lowercase());
    let mut names: Vec<String> = rules.chain(policies.iter().map(|name| name.to_lowercase())).collect();
    if listener.rules.iter().any(|rule| rule.matches.grpc.is_some()) {
        names.push("content-type".to_owned());
    }
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (name.as_str().into(), is_secret(&name))).collect()
}

/// Whether the values of a header field are secret.
fn is_secret(name: &str) -> bool {
    SECRET.contains(&name) || SECRET_PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_policies_ask_for_is_found() {
        let policy = r#"{"Condition":{"StringEquals":{"vpc-lattice-svcs:RequestHeader/X-Team":"a",
            "VPC-LATTICE-SVCS:REQUESTHEADER/x-tier":["b"]},"Null":{"vpc-lattice-svcs:RequestHeader/authorization":"true"}}}"#;
        assert_eq!(headers_of(policy), ["X-Team", "x-tier", "authorization"]);
        assert!(headers_of("{}").is_empty());
    }

    #[test]
    fn secrets_are_known() {
        for secret in ["authorization", "cookie", "x-amz-security-token", "x-auth-token", "x-api-key", "my-password"] {
            assert!(is_secret(secret), "{secret}");
        }
        for open in ["x-team", "content-type", "user-agent", "x-authority"] {
            assert!(!is_secret(open), "{open}");
        }
    }

    #[test]
    fn texts_are_escaped_once() {
        let mut out = Vec::new();
        field(&mut out, "a", Some("q\"x"));
        field(&mut out, "b", None);
        field(&mut out, "c", Some(""));
        assert_eq!(String::from_utf8(out).unwrap(), r#""a":"q\"x","b":"-","c":"-","#);
    }
}
