//! Decisions without sockets: what they are, what a connection remembers of them, what they cost.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, also in its helpers")]

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use brattice_allocations::{Counting, counted};
use brattice_decide::{
    Asked, Authorizer, Call, CompileError, Compiled, Connection, Head, Passed, Refusal, Trace, Untraced,
};
use brattice_iam::Level;
use brattice_wire::{
    auth::{AuthType, Network, Policy, PolicyAttachment, Role},
    index::{NetworkIndex, PolicyIndex, RoleIndex, ServiceIndex, VpcIndex, WorkloadIndex},
    snapshot::{AliasGeneration, Origin, Service, ServiceNumber, Snapshot, Vpc, Workload, WorkloadNumber},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SERVICE_ARN: &str = "arn:aws:vpc-lattice:us-west-2:111111111111:service/svc-1";

const SERVICE: ServiceIndex = ServiceIndex::new(0);
const NEAR: VpcIndex = VpcIndex::new(0);
const AWAY: VpcIndex = VpcIndex::new(1);

fn network(name: &str, auth_type: AuthType, policy: Option<PolicyIndex>) -> Network {
    Network {
        name: name.into(),
        id: name.into(),
        arn: format!("arn:{name}"),
        auth_type,
        policy,
        origin: Origin::default(),
    }
}

fn policy(name: &str, attachment: PolicyAttachment, json: &str) -> Policy {
    let statements = json.matches("\"Effect\"").count();
    let lines = (1..=u32::try_from(statements).unwrap()).map(|n| n * 10).collect();
    Policy { attachment, name: name.into(), json: json.into(), audit: false, file: format!("{name}.yaml"), lines }
}

const HTTP_SERVICE: PolicyAttachment = PolicyAttachment::Service { http: true, tcp: false };

/// NEAR is in networks 0 and 1, AWAY in none; workload 0 has a role, workload 1 none, workload 2 is in AWAY.
fn snapshot() -> Snapshot {
    let vpc = |id: &str, networks: &[usize]| Vpc {
        name: id.into(),
        id: id.into(),
        arn: format!("arn:aws:ec2:us-west-2:222222222222:vpc/{id}"),
        services: vec![SERVICE],
        account: "222222222222".into(),
        networks: networks.iter().copied().map(NetworkIndex::new).collect(),
        dns_upstreams: Vec::new(),
        families: (true, false),
    };
    let workload = |name: &str, number: u32, vpc: VpcIndex, role: Option<RoleIndex>| Workload {
        alias: Ipv4Addr::from_bits(0x647f_0000 + number).into(),
        address: Ipv4Addr::new(10, 0, 0, 10).into(),
        vpc,
        name: name.into(),
        number: WorkloadNumber::new(number),
        generation: AliasGeneration::new(1),
        attested: format!("arn:attested/{name}"),
        evidence: vec!["interface".into(), "namespace".into()],
        role,
        session: if role.is_some() { name.into() } else { String::new() },
    };
    Snapshot {
        revision: 1,
        vpcs: vec![vpc("vpc-1", &[0, 1]), vpc("vpc-2", &[])],
        workloads: vec![
            workload("web", 1, NEAR, Some(RoleIndex::new(0))),
            workload("job", 2, NEAR, None),
            workload("far", 3, AWAY, None),
        ],
        services: vec![Service {
            name: "shop/orders".into(),
            id: "svc-1".into(),
            arn: SERVICE_ARN.into(),
            number: ServiceNumber::new(1),
            vip: Ipv4Addr::new(169, 254, 64, 32).into(),
            vip6: None,
            generated_name: "orders".into(),
            domains: Vec::new(),
            account: "111111111111".into(),
            tags: vec![("Tier".into(), "gold".into())],
            auth_type: AuthType::None,
            policy: None,
            networks: (0..3).map(NetworkIndex::new).collect(),
            listeners: Vec::new(),
            idle_timeout_ms: 60_000,
            origin: Origin::default(),
        }],
        networks: vec![
            network("retail", AuthType::None, None),
            network("backup", AuthType::None, None),
            network("other", AuthType::None, None),
        ],
        roles: vec![Role {
            name: "shop/reader".into(),
            arn: "arn:aws:iam::333333333333:role/reader".into(),
            account: "333333333333".into(),
            organization: Some("o-1".into()),
            organization_paths: vec!["o-1/r-1/".into()],
            tags: vec![("team".into(), "red".into())],
            policy: None,
            origin: Origin::default(),
        }],
        ..Snapshot::default()
    }
}

/// With this policy of the service in force.
fn with_policy(statements: &str) -> Snapshot {
    let mut snapshot = snapshot();
    let json = format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#);
    snapshot.policies = vec![policy("shop/orders", HTTP_SERVICE, &json)];
    snapshot.services[0].auth_type = AuthType::AwsIam;
    snapshot.services[0].policy = Some(PolicyIndex::new(0));
    snapshot
}

fn allow(rest: &str) -> String {
    format!(r#"{{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"{rest}}}"#)
}

/// A workload and its VPC.
type Caller = (WorkloadIndex, VpcIndex);

const WEB: Caller = (WorkloadIndex::new(0), NEAR);
const JOB: Caller = (WorkloadIndex::new(1), NEAR);
const FAR: Caller = (WorkloadIndex::new(2), AWAY);

/// A connection of a caller that sends these fields.
struct Client {
    authorizer: Authorizer,
    connection: Connection,
    headers: Vec<(&'static str, &'static str)>,
}

struct Get<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: &'a [(&'static str, &'static str)],
}

impl Head for Get<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> &str {
        self.query
    }

    fn field(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let own = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.for_each(|(_, value)| each(value.as_bytes()));
    }
}

fn call(compiled: &Compiled, (workload, vpc): Caller) -> Call<'_> {
    Call {
        identity: compiled.policies.identity(workload).unwrap(),
        vpc,
        address: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10))),
        service: SERVICE,
        port: 80,
        tls: false,
        // 2026-02-01.
        now: 1_769_904_000,
    }
}

fn compile(snapshot: &Snapshot) -> Compiled {
    Compiled::new(snapshot.clone()).unwrap()
}

impl Client {
    fn new(headers: &[(&'static str, &'static str)]) -> Self {
        Self { authorizer: Authorizer::default(), connection: Connection::default(), headers: headers.to_vec() }
    }

    fn ask(&self, compiled: &Compiled, caller: Caller, method: &str, target: &str) -> Result<Passed, Box<Refusal>> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let head = Get { method, path, query, headers: &self.headers };
        let call = call(compiled, caller);
        self.authorizer.authorize(compiled, &self.connection, &call, Some(&head), &mut Untraced)
    }
}

/// The id of the refusal, or which network it passes by.
fn decided(snapshot: &Snapshot, caller: Caller, target: &str) -> Result<Option<NetworkIndex>, String> {
    let compiled = compile(snapshot);
    let answer = Client::new(&[("x-team", "red")]).ask(&compiled, caller, "GET", target);
    answer.map(|passed| passed.network).map_err(|refusal| refusal.decision.into())
}

#[test]
fn where_nothing_stands_nothing_is_asked() {
    let open = snapshot();
    assert!(!compile(&open).policies.enforced());
    for caller in [WEB, JOB] {
        assert_eq!(decided(&open, caller, "/"), Ok(Some(NetworkIndex::new(0))));
    }
    // A policy that is attached where authType is NONE does not decide.
    let mut inactive = with_policy(r#"{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}"#);
    assert_eq!(decided(&inactive, WEB, "/"), Err("shop/orders.yaml:10".into()));
    inactive.services[0].auth_type = AuthType::None;
    assert!(!compile(&inactive).policies.enforced());
    assert_eq!(decided(&inactive, WEB, "/"), Ok(Some(NetworkIndex::new(0))));
}

#[test]
fn every_level_is_asked() {
    let missing = |at: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = snapshot();
        at(&mut snapshot);
        snapshot
    };
    let service = missing(&|snapshot| snapshot.services[0].auth_type = AuthType::AwsIam);
    assert_eq!(decided(&service, WEB, "/"), Err("no-policy:service:shop/orders".into()));
    let both =
        missing(&|snapshot| snapshot.networks.iter_mut().for_each(|network| network.auth_type = AuthType::AwsIam));
    assert_eq!(decided(&both, WEB, "/"), Err("no-policy:network:retail".into()));
    let one = missing(&|snapshot| snapshot.networks[0].auth_type = AuthType::AwsIam);
    assert_eq!(decided(&one, WEB, "/"), Ok(Some(NetworkIndex::new(1))), "through the other network");
    let third = missing(&|snapshot| snapshot.networks[2].auth_type = AuthType::AwsIam);
    assert_eq!(decided(&third, WEB, "/"), Ok(Some(NetworkIndex::new(0))), "only networks in common count");
    assert_eq!(decided(&third, FAR, "/"), Err("no-network".into()));

    let mut identity = snapshot();
    let json = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*/orders"}}"#;
    identity.policies = vec![policy("shop/reader", PolicyAttachment::Role, json)];
    identity.roles[0].policy = Some(PolicyIndex::new(0));
    assert_eq!(decided(&identity, WEB, "/orders"), Ok(Some(NetworkIndex::new(0))));
    assert_eq!(decided(&identity, WEB, "/other"), Err("default-deny:identity:shop/reader".into()));
    assert_eq!(decided(&identity, JOB, "/other"), Ok(Some(NetworkIndex::new(0))), "anonymous callers have no role");
}

#[test]
fn policies_see_the_whole_request() {
    for (condition, other) in [
        (r#""StringEquals": {"aws:PrincipalArn": "arn:aws:iam::333333333333:role/reader"}"#, "reader\"}"),
        (r#""StringEquals": {"aws:PrincipalAccount": "333333333333"}"#, "333333333333"),
        (r#""StringEquals": {"aws:PrincipalOrgID": "o-1"}"#, "o-1"),
        (r#""ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-1/r-1/*"}"#, "o-1"),
        (r#""StringEquals": {"aws:PrincipalTag/Team": "red"}"#, "red"),
        (r#""StringEquals": {"aws:PrincipalType": "AssumedRole"}"#, "AssumedRole"),
        (r#""StringEquals": {"aws:ResourceTag/tier": "gold"}"#, "gold"),
        (r#""StringEquals": {"aws:ResourceAccount": "111111111111"}"#, "111111111111"),
        (r#""StringEquals": {"vpc-lattice-svcs:SourceVpc": "vpc-1"}"#, "vpc-1"),
        (r#""StringEquals": {"vpc-lattice-svcs:SourceVpcOwnerAccount": "222222222222"}"#, "222222222222"),
        (
            r#""ArnEquals": {"vpc-lattice-svcs:ServiceArn": "arn:aws:vpc-lattice:us-west-2:111111111111:service/svc-1"}"#,
            "svc-1",
        ),
        (r#""StringEquals": {"vpc-lattice-svcs:ServiceNetworkArn": "arn:retail"}"#, "retail"),
        (r#""StringEquals": {"vpc-lattice-svcs:RequestMethod": "GET"}"#, "GET"),
        (r#""StringEquals": {"vpc-lattice-svcs:RequestPath": "/orders/7"}"#, "/7"),
        (r#""StringEquals": {"vpc-lattice-svcs:RequestHeader/X-Team": "red"}"#, "red"),
        (r#""ForAnyValue:StringEquals": {"vpc-lattice-svcs:RequestQueryString/x": "a b"}"#, "a b"),
        (r#""NumericEquals": {"vpc-lattice-svcs:Port": "80"}"#, "80"),
        (
            r#""IpAddress": {"aws:SourceIp": "10.0.0.10/32"}, "StringEquals": {"vpc-lattice-svcs:SourceVpc": "vpc-1"}"#,
            ".10/32",
        ),
        (r#""DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}"#, "2026"),
        (r#""Bool": {"aws:SecureTransport": "false"}"#, "false"),
        (r#""StringEquals": {"brattice:AttestedPrincipalArn": "arn:attested/web"}"#, "web"),
        (r#""ForAnyValue:StringEquals": {"brattice:Evidence": "namespace"}"#, "namespace"),
    ] {
        let snapshot = with_policy(&allow(&format!(r#", "Condition": {{{condition}}}"#)));
        assert!(decided(&snapshot, WEB, "/orders/7?x=a+b").is_ok(), "{condition}");
        let wrong = match other {
            "2026" => condition.replace("2026", "2999"),
            "false" => condition.replace("\"false\"", "\"true\""),
            "80" => condition.replace("\"80\"", "\"81\""),
            ".10/32" => condition.replace(".10/32", ".11/32"),
            other => condition.replace(other, &format!("not-{other}")),
        };
        let snapshot = with_policy(&allow(&format!(r#", "Condition": {{{wrong}}}"#)));
        let refused = decided(&snapshot, WEB, "/orders/7?x=a+b");
        assert_eq!(refused, Err("default-deny:service:shop/orders".into()), "{wrong}");
    }
    let session = r#"{"Effect": "Allow", "Principal": {"AWS": "arn:aws:sts::333333333333:assumed-role/reader/web"}, "Action": "*", "Resource": "*"}"#;
    assert!(decided(&with_policy(session), WEB, "/").is_ok());
    assert!(decided(&with_policy(session), JOB, "/").is_err(), "the anonymous caller is nobody's session");
}

#[test]
fn refusals_name_level_and_statement_and_tell_callers_neither() {
    let statements = [
        allow(""),
        r#"{"Sid": "NoAdmin", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*/admin"}"#.to_owned(),
    ];
    let compiled = compile(&with_policy(&statements.join(",")));
    let client = Client::new(&[]);
    assert_eq!(client.ask(&compiled, WEB, "GET", "/").unwrap().network, Some(NetworkIndex::new(0)), "control");
    let refusal = client.ask(&compiled, WEB, "GET", "/admin").unwrap_err();
    assert_eq!((refusal.level, &*refusal.decision), (Level::Service, "shop/orders.yaml:20#NoAdmin"));
    assert_eq!(
        refusal.text,
        format!(
            "AccessDeniedException: User: arn:aws:sts::333333333333:assumed-role/reader/web is not authorized to perform: \
             vpc-lattice-svcs:Invoke on resource: {SERVICE_ARN}/admin with an explicit deny in a service-based policy"
        )
    );
    assert!(client.ask(&compiled, JOB, "GET", "/admin").unwrap_err().text.contains("User: anonymous is not"));
}

#[test]
fn what_is_audited_passes_and_is_named() {
    let mut snapshot = with_policy(r#"{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*/admin"}"#);
    snapshot.policies[0].audit = true;
    let compiled = compile(&snapshot);
    let passed = Client::new(&[]).ask(&compiled, WEB, "GET", "/admin").unwrap();
    assert_eq!(passed.audited.as_deref(), Some("shop/orders.yaml:10"));
}

/// A connection must not be believed for longer, or about more, than the policies say.
#[test]
fn connections_remember_only_what_requests_cannot_change() {
    let client = Client::new(&[]);
    let by_path = r#"{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*/a"}"#;
    let by_path = compile(&with_policy(by_path));
    for (path, passes) in [("/a", true), ("/b", false), ("/a", true)] {
        assert_eq!(client.ask(&by_path, WEB, "GET", path).is_ok(), passes, "{path}");
    }
    let by_role = r#"{"Effect": "Allow", "Principal": {"AWS": "333333333333"}, "Action": "*", "Resource": "*"}"#;
    let by_role = with_policy(by_role);
    let compiled = compile(&by_role);
    for (caller, passes) in [(WEB, true), (WEB, true), (JOB, false), (WEB, true), (FAR, false), (JOB, false)] {
        assert_eq!(client.ask(&compiled, caller, "GET", "/").is_ok(), passes, "{caller:?}");
    }
    // The same revision number, compiled anew: nothing of before may be believed.
    assert!(client.ask(&compiled, WEB, "GET", "/").is_ok());
    let mut refuses = by_role;
    refuses.services[0].policy = None;
    assert!(client.ask(&compile(&refuses), WEB, "GET", "/").is_err());
    assert!(client.ask(&compiled, WEB, "GET", "/").is_ok());
}

/// Counts how often policies were asked.
#[derive(Default)]
struct Policies(u32);

impl Trace for Policies {
    const POLICIES: bool = true;

    fn policies(&mut self, _: &Asked<'_>) {
        self.0 += 1;
    }
}

/// A head that counts how often it is read.
#[derive(Default)]
struct Counted(Cell<u32>);

impl Head for Counted {
    fn method(&self) -> &str {
        self.0.set(self.0.get() + 1);
        "GET"
    }

    fn path(&self) -> &str {
        "/"
    }

    fn query(&self) -> &str {
        ""
    }

    fn field(&self, _: &str, _: &mut dyn FnMut(&[u8])) {}
}

#[test]
fn policies_that_ask_nothing_of_requests_are_asked_once_for_a_connection() {
    let by_method = r#", "Condition": {"StringEquals": {"vpc-lattice-svcs:RequestMethod": "GET"}}"#;
    for (statement, expected) in [(allow(""), 1), (allow(by_method), 3)] {
        let compiled = compile(&with_policy(&statement));
        let (client, head) = (Client::new(&[]), Counted::default());
        let mut asked = 0;
        for _ in 0..3 {
            let before = head.0.get();
            let call = call(&compiled, WEB);
            client.authorizer.authorize(&compiled, &client.connection, &call, Some(&head), &mut Untraced).unwrap();
            asked += u32::from(head.0.get() > before);
        }
        assert_eq!(asked, expected, "{statement}");
    }
}

#[test]
fn the_policies_that_decide_are_those_of_role_networks_and_service() {
    let mut snapshot = with_policy(&allow(""));
    for (place, name, attachment) in [
        (1, "backup", PolicyAttachment::ServiceNetwork),
        (2, "other", PolicyAttachment::ServiceNetwork),
        (3, "shop/reader", PolicyAttachment::Role),
    ] {
        let json = match attachment {
            PolicyAttachment::Role => {
                r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#.to_owned()
            }
            _ => format!(r#"{{"Statement": {}}}"#, allow("")),
        };
        snapshot.policies.push(policy(name, attachment, &json));
        if let Some(network) = snapshot.networks.iter_mut().find(|network| network.name == name) {
            (network.auth_type, network.policy) = (AuthType::AwsIam, Some(PolicyIndex::new(place)));
        }
    }
    snapshot.roles[0].policy = Some(PolicyIndex::new(3));
    let compiled = compile(&snapshot);
    let deciding = |caller| -> Vec<String> {
        let policies = compiled.policies.deciding(&call(&compiled, caller));
        policies.iter().map(|policy| policy.file.to_string()).collect()
    };
    assert_eq!(deciding(WEB), ["shop/reader.yaml", "backup.yaml", "shop/orders.yaml"]);
    assert_eq!(deciding(JOB), ["backup.yaml", "shop/orders.yaml"]);
    assert_eq!(deciding(FAR), ["shop/orders.yaml"]);
}

#[test]
fn arns_are_found_by_index() {
    let policies = compile(&snapshot()).policies;
    assert_eq!(policies.network_arn(NetworkIndex::new(1)), Some("arn:backup"));
    assert_eq!(policies.network_arn(NetworkIndex::new(3)), None);
    assert_eq!(policies.service_arn(SERVICE), Some(SERVICE_ARN));
    assert_eq!(policies.service_arn(ServiceIndex::new(1)), None);
}

/// Not where they could refuse nothing, and not what a connection remembers.
#[test]
fn a_trace_sees_policies_that_traffic_need_not_ask() {
    let head = Get { method: "GET", path: "/", query: "", headers: &[] };
    for snapshot in [snapshot(), with_policy(&allow(""))] {
        let compiled = compile(&snapshot);
        let client = Client::new(&[]);
        for _ in 0..2 {
            let mut trace = Policies::default();
            let call = call(&compiled, WEB);
            let passed = client.authorizer.authorize(&compiled, &client.connection, &call, Some(&head), &mut trace);
            assert!(passed.is_ok());
            assert_eq!(trace.0, 1);
            assert!(client.ask(&compiled, WEB, "GET", "/").is_ok());
        }
    }
}

/// Open requests are reviewed by what new policies say.
#[test]
fn a_review_refuses_what_new_policies_deny() {
    let client = Client::new(&[]);
    let head = Get { method: "GET", path: "/", query: "", headers: &[] };
    let review = |snapshot: &Snapshot| {
        let compiled = compile(snapshot);
        let refusal = client.authorizer.review(&compiled, &call(&compiled, WEB), &head);
        refusal.map(|refusal| refusal.decision.to_string())
    };
    assert_eq!(review(&snapshot()), None, "no policies");
    assert_eq!(review(&with_policy(&allow(""))), None);
    let deny = r#"{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}"#;
    assert_eq!(review(&with_policy(deny)), Some("shop/orders.yaml:10".into()));
}

#[test]
fn passing_allocates_nothing() {
    let mut per_request = with_policy(&allow(
        r#", "Condition": {"StringEquals": {"vpc-lattice-svcs:RequestHeader/x-team": "red"},
            "ForAnyValue:StringEquals": {"vpc-lattice-svcs:RequestQueryString/x": "a b", "brattice:Evidence": "interface"}}"#,
    ));
    per_request.networks[0].auth_type = AuthType::AwsIam;
    per_request.networks[0].policy = Some(PolicyIndex::new(1));
    per_request.policies.push(policy(
        "retail",
        PolicyAttachment::ServiceNetwork,
        &format!("{{\"Statement\": {}}}", allow("")),
    ));
    let per_connection = with_policy(&allow(""));
    for (what, snapshot) in [("open", snapshot()), ("asked", per_request), ("remembered", per_connection)] {
        let compiled = compile(&snapshot);
        let client = Client::new(&[("x-team", "red"), ("user-agent", "curl")]);
        // Room is made once.
        client.ask(&compiled, WEB, "GET", "/orders?x=a+b").unwrap();
        let count = counted(|| {
            for _ in 0..100 {
                client.ask(&compiled, WEB, "GET", "/orders?x=a+b").unwrap();
            }
        });
        assert_eq!(count, 0, "{what}");
    }
    assert!(counted(|| Box::new(1)) > 0, "control");
}

#[test]
fn what_contradicts_itself_is_refused() {
    type Fault = fn(&mut Snapshot);
    let good = with_policy(&allow(""));
    compile(&good);
    let faults: [(Fault, &str); 9] = [
        (|snapshot| snapshot.services[0].policy = Some(PolicyIndex::new(9)), "policy number 9"),
        (|snapshot| snapshot.networks[0].policy = Some(PolicyIndex::new(9)), "policy number 9"),
        (|snapshot| snapshot.roles[0].policy = Some(PolicyIndex::new(9)), "policy number 9"),
        (|snapshot| snapshot.vpcs[0].networks = vec![NetworkIndex::new(9)], "service network number 9"),
        (|snapshot| snapshot.services[0].networks = vec![NetworkIndex::new(9)], "service network number 9"),
        (|snapshot| snapshot.workloads[0].role = Some(RoleIndex::new(9)), "role number 9"),
        (|snapshot| snapshot.policies[0].json = "{}".into(), "cannot be read"),
        (|snapshot| snapshot.policies[0].lines.push(1), "1 statements and 2 lines"),
        (|snapshot| snapshot.policies[0].attachment = PolicyAttachment::Role, "cannot be read"),
    ];
    for (fault, expected) in faults {
        let mut snapshot = good.clone();
        fault(&mut snapshot);
        let error: CompileError = Compiled::new(snapshot).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn only_what_no_policy_could_refuse_is_relayed() {
    let relayable = |snapshot: &Snapshot, caller: Caller| {
        let compiled = compile(snapshot);
        compiled.policies.unreadable(&call(&compiled, caller)).is_none()
    };
    assert!(relayable(&snapshot(), WEB), "control");
    let mut service = with_policy(&allow(""));
    assert!(!relayable(&service, WEB));
    service.policies[0].audit = true;
    assert!(relayable(&service, WEB), "an audited policy refuses nothing");
    service.services[0].policy = None;
    assert!(!relayable(&service, WEB), "AWS_IAM without a policy refuses all");
    let mut network = snapshot();
    network.networks[2].auth_type = AuthType::AwsIam;
    assert!(relayable(&network, WEB), "a network that they do not share");
    network.networks[1].auth_type = AuthType::AwsIam;
    assert!(!relayable(&network, WEB), "one that they share could deny");
    let mut role = snapshot();
    role.policies = vec![policy(
        "shop/reader",
        PolicyAttachment::Role,
        r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#,
    )];
    role.roles[0].policy = Some(PolicyIndex::new(0));
    assert!(!relayable(&role, WEB));
    assert!(relayable(&role, JOB));
}
