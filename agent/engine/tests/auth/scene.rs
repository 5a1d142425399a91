//! The world of `support`, with a role for its caller, a neighbour in the same VPC without one, and a policy.

use std::net::{Ipv4Addr, SocketAddr};

use brattice_wire::{
    auth::{AuthType, Network, Policy, PolicyAttachment, Role},
    engine::Limits,
    index::{NetworkIndex, PolicyIndex, RoleIndex},
    snapshot::{Origin, ProtocolVersion, Snapshot},
};

use crate::support::*;

/// Alias of a workload in the caller's VPC that has no role.
pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 10, 0, 3);
pub(crate) const SERVICE: &str = "arn:aws:vpc-lattice:us-west-2:111111111111:service/svc-orders";
pub(crate) const ROLE: &str = "arn:aws:iam::222222222222:role/web";
pub(crate) const SESSION: &str = "arn:aws:sts::222222222222:assumed-role/web/web-1";

/// Allows all callers; and the caller's role alone.
pub(crate) const EVERYBODY: &str = r#"{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}"#;
pub(crate) const WEB: &str = r#"{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::222222222222:role/web"}, "Action": "*", "Resource": "*"}"#;

/// Statements of the service's policy: what they say of paths.
pub(crate) fn allow(resource: &str) -> String {
    format!(r#"{{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "{resource}"}}"#)
}

pub(crate) fn policy(attachment: PolicyAttachment, name: &str, statements: &[&str]) -> Policy {
    let json = format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, statements.join(","));
    let lines = (1..=u32::try_from(statements.len()).unwrap()).map(|number| number * 10).collect();
    Policy { attachment, name: name.into(), json, audit: false, file: "accounts/shop/orders.yaml".into(), lines }
}

/// The usual world at a revision, with identities, one network, and everything open.
pub(crate) fn open(engine: &Engine, revision: u64, protocol: ProtocolVersion, targets: &[SocketAddr]) -> Snapshot {
    let mut world = engine.world(protocol, targets);
    world.revision = revision;
    world.networks = vec![Network {
        name: "platform/retail".into(),
        id: "sn-1".into(),
        arn: "arn:aws:vpc-lattice:us-west-2:333333333333:servicenetwork/sn-1".into(),
        auth_type: AuthType::None,
        policy: None,
        origin: Origin::default(),
    }];
    world.roles = vec![Role {
        name: "shop/web".into(),
        arn: ROLE.into(),
        account: "222222222222".into(),
        organization: Some("o-corp".into()),
        organization_paths: vec!["o-corp/r-1/ou-1/".into()],
        tags: vec![("team".into(), "front".into()), ("note".into(), "a;b".into())],
        policy: None,
        origin: Origin::default(),
    }];
    let mut neighbour = workload(NEIGHBOUR, Ipv4Addr::new(10, 0, 0, 11), 0, 3);
    neighbour.attested = "arn:aws:vpc-lattice:us-west-2:000000000000:workload/blue/job".into();
    world.workloads.push(neighbour);
    world.workloads[0].role = Some(RoleIndex::new(0));
    world.workloads[0].session = "web-1".into();
    world.workloads[0].attested = SESSION.into();
    for vpc in &mut world.vpcs {
        vpc.id = format!("vpc-{}", vpc.name);
        vpc.arn = format!("arn:aws:ec2:us-west-2:444444444444:vpc/vpc-{}", vpc.name);
    }
    world.vpcs[0].networks = vec![NetworkIndex::new(0)];
    let service = &mut world.services[0];
    // The same in every revision.
    service.number = brattice_wire::snapshot::ServiceNumber::new(7);
    service.name = "shop/orders".into();
    service.arn = SERVICE.into();
    service.account = "111111111111".into();
    service.networks = vec![NetworkIndex::new(0)];
    world.target_groups[0].arn = "arn:aws:vpc-lattice:us-west-2:111111111111:targetgroup/tg-orders".into();
    world
}

/// The same with these statements as the service's policy.
pub(crate) fn guarded(
    engine: &Engine,
    revision: u64,
    protocol: ProtocolVersion,
    targets: &[SocketAddr],
    statements: &[&str],
) -> Snapshot {
    let mut world = open(engine, revision, protocol, targets);
    let attachment = PolicyAttachment::Service { http: true, tcp: false };
    world.policies = vec![policy(attachment, "shop/orders", statements)];
    world.services[0].auth_type = AuthType::AwsIam;
    world.services[0].policy = Some(PolicyIndex::new(0));
    world
}

/// An engine that serves [`guarded`] over HTTP/1.1 targets.
pub(crate) async fn serving(targets: &[SocketAddr], statements: &[&str]) -> Engine {
    let engine = Engine::start(Limits::default());
    let world = guarded(&engine, 1, ProtocolVersion::Http1, targets, statements);
    engine.apply(world).await;
    engine
}
