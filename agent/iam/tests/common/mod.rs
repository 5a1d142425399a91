//! Requests and policies that own their texts, written as lines; remedies applied to policies.

#![allow(dead_code)] // Each test uses its part.
#![allow(clippy::unwrap_used)] // A panic in a test is the report.

use std::net::IpAddr;

use brattice_iam::{
    Attachment, Caller, CallerKind, Chain, Change, Compiled, Guard, Http, Level, Mode, Network, Pairs, Policy, Query,
    Request,
};

pub(crate) const SERVICE: &str = "arn:aws:vpc-lattice:us-west-2:123456789012:service/svc-0123456789abcdef0";
pub(crate) const NETWORKS: [&str; 2] = [
    "arn:aws:vpc-lattice:us-west-2:123456789012:servicenetwork/sn-0123456789abcdef0",
    "arn:aws:vpc-lattice:us-west-2:123456789012:servicenetwork/sn-0123456789abcdef1",
];

/// Names of the networks.
pub(crate) const NAMES: [&str; 2] = ["retail", "backup"];

/// A request as a line: `GET /path?query` or `CONNECT`, then `name=value`s, with `\s` for a space.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) service: String,
    pub(crate) method: Option<String>,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) kind: CallerKind,
    pub(crate) name: String,
    pub(crate) session: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) account: Option<String>,
    pub(crate) organization: Option<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) user_id: Option<String>,
    pub(crate) service_tags: Vec<(String, String)>,
    pub(crate) port: u16,
    pub(crate) vpc: Option<String>,
    pub(crate) vpc_account: Option<String>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) secure: bool,
    pub(crate) now: i64,
    pub(crate) attested: Option<String>,
    pub(crate) evidence: Vec<String>,
}

/// 2026-01-31T10:20:30Z.
pub(crate) const NOW: i64 = 1_769_854_830;

impl Line {
    pub(crate) fn parse(text: &str) -> Self {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let method = words.next().unwrap();
        let mut line = Self {
            service: SERVICE.to_owned(),
            method: (method != "CONNECT").then(|| method.to_owned()),
            path: String::new(),
            query: String::new(),
            headers: Vec::new(),
            kind: CallerKind::Anonymous,
            name: String::new(),
            session: None,
            provider: None,
            account: None,
            organization: None,
            paths: Vec::new(),
            tags: Vec::new(),
            user_id: None,
            service_tags: Vec::new(),
            port: 443,
            vpc: None,
            vpc_account: None,
            ip: None,
            secure: false,
            now: NOW,
            attested: None,
            evidence: Vec::new(),
        };
        if line.method.is_some() {
            let target = words.next().unwrap();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            (line.path, line.query) = (path.into(), query.into());
        }
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let value = value.replace("\\s", " ");
            let owned = || Some(value.clone());
            match name.split_once('.').unwrap_or((name, "")) {
                ("caller", _) => line.caller(&value),
                ("provider", _) => line.provider = owned(),
                ("org", _) => line.organization = owned(),
                ("orgpath", _) => line.paths.push(value),
                ("userid", _) => line.user_id = owned(),
                ("tag", key) => line.tags.push((key.into(), value)),
                ("rtag", key) => line.service_tags.push((key.into(), value)),
                ("h", key) => line.headers.push((key.into(), value)),
                ("port", _) => line.port = value.parse().unwrap(),
                ("vpc", _) => line.vpc = owned(),
                ("vpcaccount", _) => line.vpc_account = owned(),
                ("ip", _) => line.ip = Some(value.parse().unwrap()),
                ("tls", _) => line.secure = true,
                ("now", _) => line.now = value.parse().unwrap(),
                ("attested", _) => line.attested = owned(),
                ("evidence", _) => line.evidence.push(value),
                _ => panic!("what is {word}?"),
            }
        }
        line
    }

    /// `anonymous`, `account:ID`, `user:NAME@ID`, `role:NAME[!SESSION]@ID`, `federated:NAME@ID`, `service:NAME`.
    fn caller(&mut self, text: &str) {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let (name, account) = rest.split_once('@').unwrap_or((rest, rest));
        let arn = |service: &str, what: &str| format!("arn:aws:{service}::{account}:{what}");
        self.account = (kind != "anonymous" && kind != "service").then(|| account.to_owned());
        (self.kind, self.name) = match kind {
            "anonymous" => (CallerKind::Anonymous, String::new()),
            "account" => (CallerKind::Account, arn("iam", "root")),
            "user" => (CallerKind::User, arn("iam", &format!("user/{name}"))),
            "role" => {
                let (role, session) =
                    name.split_once('!').map_or((name, None), |(role, session)| (role, Some(session)));
                let last = role.rsplit('/').next().unwrap();
                self.session = session.map(|session| arn("sts", &format!("assumed-role/{last}/{session}")));
                (CallerKind::Role, arn("iam", &format!("role/{role}")))
            }
            "federated" => (CallerKind::FederatedUser, arn("sts", &format!("federated-user/{name}"))),
            "service" => (CallerKind::Service, name.to_owned()),
            other => panic!("what is {other}?"),
        };
    }

    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&Request<'_>) -> R) -> R {
        fn pairs(list: &[(String, String)]) -> Vec<(&str, &str)> {
            list.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
        }
        fn texts(list: &[String]) -> Vec<&str> {
            list.iter().map(String::as_str).collect()
        }
        let (headers, tags, service_tags) = (pairs(&self.headers), pairs(&self.tags), pairs(&self.service_tags));
        let (headers, tags, service_tags) = (Pairs(&headers), Pairs(&tags), Pairs(&service_tags));
        let (paths, evidence) = (texts(&self.paths), texts(&self.evidence));
        let query = Query(&self.query);
        use_it(&Request {
            caller: Caller {
                kind: self.kind,
                name: &self.name,
                session: self.session.as_deref(),
                provider: self.provider.as_deref(),
                account: self.account.as_deref(),
                organization: self.organization.as_deref(),
                organization_paths: &paths,
                tags: &tags,
                user_id: self.user_id.as_deref(),
            },
            attested: self.attested.as_deref(),
            evidence: &evidence,
            service_arn: &self.service,
            service_account: "123456789012",
            service_tags: &service_tags,
            port: self.port,
            source_vpc: self.vpc.as_deref(),
            source_vpc_account: self.vpc_account.as_deref(),
            source_ip: self.ip,
            secure: self.secure,
            now: self.now,
            http: self.method.as_deref().map(|method| Http {
                method,
                path: &self.path,
                headers: &headers,
                query: &query,
            }),
        })
    }
}

/// What stands at a level, as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Stands {
    #[default]
    Open,
    Missing,
    Policy(String, bool),
}

/// The texts of all levels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    pub(crate) identity: Stands,
    pub(crate) networks: Vec<Stands>,
    pub(crate) service: Stands,
    /// Whether the service has HTTP and TCP listeners.
    pub(crate) listeners: Option<(bool, bool)>,
}

pub(crate) struct Policies {
    identity: Option<Compiled>,
    networks: Vec<Option<Compiled>>,
    service: Option<Compiled>,
    texts: Texts,
}

impl Texts {
    pub(crate) fn service_attachment(&self) -> Attachment {
        let (http, tcp) = self.listeners.unwrap_or((true, true));
        Attachment::Service { http, tcp }
    }

    /// All policies compiled; the findings of all, with the level's name.
    pub(crate) fn compile(&self) -> (Policies, Vec<String>) {
        let mut findings = Vec::new();
        let mut one = |stands: &Stands, file: &str, name: &str, attachment| {
            let Stands::Policy(text, audit) = stands else { return None };
            let read = Policy::from_json(text, file, attachment);
            findings.extend(read.findings.iter().map(|finding| format!("{file}:{finding}")));
            let mode = if *audit { Mode::Audit } else { Mode::Enforce };
            read.policy.map(|policy| Compiled::new(policy, name, mode))
        };
        let identity = one(&self.identity, "role.json", "green", Attachment::Role);
        let service = one(&self.service, "service.json", "orders", self.service_attachment());
        let networks = self
            .networks
            .iter()
            .zip(NAMES)
            .map(|(stands, name)| one(stands, &format!("{name}.json"), name, Attachment::ServiceNetwork));
        let networks = networks.collect();
        (Policies { identity, networks, service, texts: self.clone() }, findings)
    }

    fn at(&mut self, level: Level, network: Option<u32>) -> &mut Stands {
        match level {
            Level::Identity => &mut self.identity,
            Level::Service => &mut self.service,
            Level::Network => &mut self.networks[usize::try_from(network.unwrap()).unwrap()],
        }
    }

    /// The texts with a remedy's changes made.
    pub(crate) fn apply(&self, changes: &[Change]) -> Self {
        let mut texts = self.clone();
        // By position from behind, so that one that is removed moves no other.
        let mut changes: Vec<&Change> = changes.iter().collect();
        changes.sort_by_key(|change| match change {
            Change::Replace { position, .. } => (1, u32::MAX - position),
            Change::Remove { position, .. } => (1, u32::MAX - position),
            _ => (2, 0),
        });
        for change in changes {
            let place = match change {
                Change::Associate => {
                    texts.networks.push(Stands::Open);
                    continue;
                }
                Change::Create { policy, document } => {
                    *texts.at(policy.level, policy.network) = Stands::Policy(document.clone(), false);
                    continue;
                }
                Change::Add { policy, .. } | Change::Replace { policy, .. } | Change::Remove { policy, .. } => policy,
            };
            let stands = texts.at(place.level, place.network);
            let Stands::Policy(text, _) = stands else { panic!("{change:?} of no policy") };
            let mut document: serde_json::Value = serde_json::from_str(text).unwrap();
            let list = &mut document["Statement"];
            if !list.is_array() {
                *list = serde_json::Value::Array(vec![list.clone()]);
            }
            let list = list.as_array_mut().unwrap();
            let index = |position: &u32| usize::try_from(*position).unwrap();
            match change {
                Change::Add { statement, .. } => list.push(serde_json::from_str(statement).unwrap()),
                Change::Replace { position, statements, .. } => {
                    let statements = statements.iter().map(|statement| serde_json::from_str(statement).unwrap());
                    list.splice(index(position)..=index(position), statements);
                }
                Change::Remove { position, .. } => {
                    // A policy needs a statement, so it stays as one that never applies.
                    list[index(position)]["Condition"] = serde_json::json!({"Null": {"vpc-lattice-svcs:Port": "true"}});
                }
                _ => {}
            }
            *text = document.to_string();
        }
        texts
    }
}

impl Policies {
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&Chain<'_>) -> R) -> R {
        fn guard<'p>(stands: &Stands, compiled: Option<&'p Compiled>, name: &'p str) -> Guard<'p> {
            match (stands, compiled) {
                (Stands::Open, _) => Guard::Open,
                (_, Some(compiled)) => Guard::Policy(compiled),
                (_, None) => Guard::Missing(name),
            }
        }
        let networks: Vec<Network<'_>> = self
            .texts
            .networks
            .iter()
            .zip(&self.networks)
            .zip(NETWORKS)
            .zip(NAMES)
            .map(|(((stands, compiled), arn), name)| Network { arn, guard: guard(stands, compiled.as_ref(), name) })
            .collect();
        use_it(&Chain {
            identity: guard(&self.texts.identity, self.identity.as_ref(), "green"),
            networks: &networks,
            service: guard(&self.texts.service, self.service.as_ref(), "orders"),
        })
    }
}
