//! No request reaches a target that the definition of the policy language denies, and each that it allows does.

use std::{
    cell::{Cell, RefCell},
    net::Ipv4Addr,
    time::{SystemTime, UNIX_EPOCH},
};

use brattice_iam::CallerKind;
use brattice_wire::{
    auth::{AuthType, Network, Policy, PolicyAttachment, Role},
    engine::Limits,
    index::{NetworkIndex, PolicyIndex, RoleIndex},
    snapshot::{Origin, ProtocolVersion, Snapshot},
};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use proptest::{
    prelude::*,
    sample::{select, subsequence},
    test_runner::TestRunner,
};

use crate::{
    common::{Line, NAMES, NETWORKS, SERVICE, Stands, Texts},
    generate, naive,
    support::*,
};

/// Sets of policies ...
const WORLDS: u32 = 640;
/// ... and callers of each, with a request each.
const CALLERS: usize = 8;

/// What a workload of a node can be, and what it can send.
const FACTS: &[&str] = &[
    "org=o-1",
    "org=o-2",
    "orgpath=o-1/r-1/",
    "orgpath=o-1/r-2/",
    "tag.team=red",
    "tag.Team=blue",
    "tag.team=*",
    "tag.level=5",
    "tag.on=True",
    "tag.until=2026-02-01T00:00:00Z",
    "tag.ip=10.1.2.3",
    "h.x-team=red",
    "h.X-Team=blue",
    "h.user-agent=curl/8",
    "vpc=vpc-1",
    "vpc=vpc-2",
    "vpcaccount=123456789012",
    "ip=10.0.0.1",
    "ip=10.1.2.3",
    "ip=2001:db8::1",
    "attested=arn:aws:iam::123456789012:role/green",
    "evidence=interface",
    "evidence=cgroup",
];

fn line() -> impl Strategy<Value = Line> {
    let target = select(&[
        "GET /a",
        "POST /a",
        "GET /a/b",
        "GET /admin",
        "GET /red/x",
        "GET /x/red",
        "GET /%C3%A9",
        "GET /a?type=a",
        "GET /a?type=a&Type=b",
        "GET /a?type=b&type=c+d",
        "DELETE /a?type=x%2Fy&n=7",
    ]);
    let caller = select(&[
        "caller=anonymous",
        "caller=anonymous",
        "caller=role:green!s1@123456789012",
        "caller=role:green!s2@123456789012",
        "caller=role:green!s1@210987654321",
        "caller=role:p/blue!s1@210987654321",
    ]);
    (target, caller, subsequence(FACTS, 0..10)).prop_map(|(target, caller, facts)| {
        let mut line = Line::parse(&format!("{target} {caller} {}", facts.join(" ")));
        // Every workload has a VPC and an address.
        line.vpc.get_or_insert_with(|| "vpc-0".into());
        line.ip.get_or_insert(Ipv4Addr::new(10, 9, 9, 9).into());
        if line.kind == CallerKind::Anonymous {
            line.organization = None;
            line.paths.clear();
            line.tags.clear();
        }
        line
    })
}

fn stands(
    world: &mut Snapshot,
    stands: &Stands,
    attachment: PolicyAttachment,
    name: &str,
) -> (AuthType, Option<PolicyIndex>) {
    match stands {
        Stands::Open => (AuthType::None, None),
        Stands::Missing => (AuthType::AwsIam, None),
        Stands::Policy(json, audit) => {
            let list: serde_json::Value = serde_json::from_str(json).unwrap();
            let count = list["Statement"].as_array().map_or(1, Vec::len);
            let lines = (1..=u32::try_from(count).unwrap()).collect();
            let (name, json, file) = (name.to_owned(), json.clone(), format!("{name}.yaml"));
            world.policies.push(Policy { attachment, name, json, audit: *audit, file, lines });
            (AuthType::AwsIam, Some(PolicyIndex::new(world.policies.len() - 1)))
        }
    }
}

fn alias(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 10, 1, u8::try_from(number + 1).unwrap())
}

/// The policies and callers as a snapshot.
fn world(engine: &Engine, revision: u64, server: &Server, texts: &Texts, lines: &[Line]) -> Snapshot {
    let mut world = engine.world(ProtocolVersion::Http1, &[server.address]);
    world.revision = revision;
    for ((text, arn), name) in texts.networks.iter().zip(NETWORKS).zip(NAMES) {
        let (auth_type, policy) = stands(&mut world, text, PolicyAttachment::ServiceNetwork, name);
        let (name, id, arn) = (name.to_owned(), name.to_owned(), arn.to_owned());
        world.networks.push(Network { name, id, arn, auth_type, policy, origin: Origin::default() });
    }
    let attachment = PolicyAttachment::Service { http: true, tcp: true };
    let (auth_type, policy) = stands(&mut world, &texts.service, attachment, "orders");
    let (_, identity) = stands(&mut world, &texts.identity, PolicyAttachment::Role, "green");
    let networks: Vec<NetworkIndex> = (0..texts.networks.len()).map(NetworkIndex::new).collect();
    let service = &mut world.services[0];
    service.arn = SERVICE.into();
    service.account = "123456789012".into();
    service.tags = lines[0].service_tags.clone();
    (service.auth_type, service.policy, service.networks) = (auth_type, policy, networks.clone());
    world.vpcs.clear();
    world.workloads.clear();
    for (number, line) in lines.iter().enumerate() {
        // A VPC that shares no network with a service does not see it.
        let mut own = vpc(&format!("{number}"), if networks.is_empty() { &[] } else { &[0] });
        own.id = line.vpc.clone().unwrap();
        own.account = line.vpc_account.clone().unwrap_or_default();
        own.networks = networks.clone();
        world.vpcs.push(own);
        let mut caller = workload(alias(number), Ipv4Addr::UNSPECIFIED, number, u32::try_from(number + 1).unwrap());
        caller.address = line.ip.unwrap();
        caller.attested = line.attested.clone().unwrap_or_default();
        caller.evidence = line.evidence.clone();
        (caller.role, caller.session) = (None, String::new());
        if line.kind == CallerKind::Role {
            caller.role = Some(RoleIndex::new(world.roles.len()));
            caller.session = line.session.as_ref().unwrap().rsplit('/').next().unwrap().into();
            world.roles.push(Role {
                name: "green".into(),
                arn: line.name.clone(),
                account: line.account.clone().unwrap(),
                organization: line.organization.clone(),
                organization_paths: line.paths.clone(),
                tags: line.tags.clone(),
                policy: identity,
                origin: Origin::default(),
            });
        }
        world.workloads.push(caller);
    }
    world
}

fn request(line: &Line) -> Request<TestBody> {
    let query = if line.query.is_empty() { String::new() } else { format!("?{}", line.query) };
    let uri = format!("{}{query}", line.path);
    let mut request = Request::builder()
        .method(line.method.as_deref().unwrap())
        .uri(uri)
        .header("host", HOST)
        .body(full(""))
        .unwrap();
    for (name, value) in &line.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// The result of a request: its status, and the level that the answer blames.
async fn outcome(engine: &Engine, number: usize, line: &Line) -> (u16, Option<&'static str>) {
    let response = engine.http1(alias(number)).await.send_request(request(line)).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&body);
    let level = ["Identity", "Network", "Service"]
        .into_iter()
        .find(|level| text.contains(&format!("{}-based policy", level.to_lowercase())));
    (status, level)
}

#[test]
fn no_request_reaches_a_target_that_the_definition_denies() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let (server, engine) = runtime.block_on(async { (Server::echo(false).await, Engine::start(Limits::default())) });
    // Allowed; denied by identity, network, service; not seen.
    let seen = RefCell::new([0u32; 5]);
    let revision = Cell::new(0);
    let cases = ProptestConfig::default().cases.max(WORLDS);
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() };
    let callers = proptest::collection::vec(line(), CALLERS);
    let ran = TestRunner::new(config).run(&(generate::texts(), callers), |(texts, mut lines)| {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        revision.set(revision.get() + 1);
        for line in &mut lines {
            (line.now, line.port) = (now, engine.port);
        }
        runtime.block_on(async {
            let world = world(&engine, revision.get(), &server, &texts, &lines);
            engine.apply(world).await;
            for (number, line) in lines.iter().enumerate() {
                // The role's policy applies to the caller; a caller without a role has none.
                let mut texts = texts.clone();
                if line.kind == CallerKind::Anonymous {
                    texts.identity = Stands::Open;
                }
                let expected = naive::decide(&texts, line);
                let before = server.seen();
                let found = outcome(&engine, number, line).await;
                let (place, status, level) = match expected {
                    Ok(()) => (0, 200, None),
                    Err(_) if texts.networks.is_empty() => (4, 404, None),
                    Err("Identity") => (1, 403, Some("Identity")),
                    Err("Network") => (2, 403, Some("Network")),
                    Err(_) => (3, 403, Some("Service")),
                };
                prop_assert_eq!(found, (status, level), "{:?}", line);
                prop_assert_eq!(server.seen() - before, u64::from(expected.is_ok()), "{:?}", line);
                seen.borrow_mut()[place] += 1;
            }
            Ok(())
        })
    });
    ran.unwrap();
    let seen = seen.into_inner();
    println!("allowed, denied by identity, network, service, not seen: {seen:?}");
    assert!(seen.iter().sum::<u32>() >= 5_000, "{seen:?}");
    // Random policies that all do the same would show nothing.
    assert!(seen[..4].iter().all(|count| *count > 100), "{seen:?}");
}
