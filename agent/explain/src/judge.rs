//! Follows a request from the caller to the target, and finds its obstacles in their order.

use brattice_decide::{Authorizer, Connection, Decision, Request};
use brattice_model::{PolicyResource, Service, Vpc};
use brattice_wire::api::{self, Mode, SwitchView};
use brattice_wire::explain::{CalledView, DecisionView, Explanation, Outcome, Reason};
use brattice_wire::snapshot::{self, Listener};

use crate::caller::Caller;
use crate::case::Case;
use crate::decision::{Decided, common, inactive};
use crate::find::Found;
use crate::networks::{auth_word, networks, nothing_common, place};
use crate::request::Asked;
use crate::rules::{Problem, Routed, Turn, relayed, routed};
use crate::scope::{self, Scope};
use crate::trace::Noted;
use crate::world::{Attached, AttachedState, EngineState, Facts, World};
use crate::{bypass, notes};

/// Something in the way.
struct Stop {
    reason: Reason,
    outcome: Outcome,
    summary: String,
    remedy: Vec<String>,
}

pub(crate) fn judge(world: &World<'_>, mut case: Case<'_>, policies: bool) -> Explanation {
    let mut judge = Judge { world, stops: Vec::new(), notes: Vec::new() };
    let service = world.snapshot.services.iter().find(|service| service.name == case.service.name);
    let caller = Caller::new(world, &case.found);
    let listener = service.and_then(|service| service.listeners.iter().find(|own| own.port == case.asked.port));
    if let (Some(address), Some(listener)) = (caller.as_ref().and_then(|caller| caller.address), listener) {
        case.asked.introduce(address, listener.forwarded_headers);
    }
    let networks = networks(world.model, &case.found.vpc_name, case.service);
    judge.attachment(&case, caller.as_ref());
    judge.vpc(case.found.vpc, &case.found.vpc_name);
    judge.service(case.service);
    let bypassed = judge.node(&case, caller.as_ref());
    let listener = judge.listener(&case);
    let mut decision = None;
    let mut route = None;
    if let (Some(caller), Some(service)) = (&caller, service) {
        let shared = common(world, caller.from, service);
        let met = !shared.is_empty();
        if !met {
            let (failed, summary, remedy) = nothing_common(&case.found.vpc_name, case.service, &networks);
            let reason = if failed { Reason::AssociationFailed } else { Reason::NoAssociation };
            judge.stop(reason, Outcome::Unreachable, summary, vec![remedy]);
        }
        let scope = Scope::new(world, service);
        if let Some(switch) = bypassed {
            let (refused, relay) = match &scope {
                Ok(scope) => (
                    Some(scope).filter(|_| met).and_then(|scope| bypass::refused(world, scope, caller, service)),
                    listener.and_then(|listener| relayed(world.snapshot, scope, listener, &case.asked)),
                ),
                Err(error) => (Some(error.to_string()).filter(|_| met), None),
            };
            judge.relay(switch, refused, relay.as_ref().and_then(|relay| relay.problem.as_ref()));
            route = relay;
        } else if case.unread {
            let text = "nothing of the connection was read, and bypass is not in force any more: what is sent now is decided request by request";
            let remedy = "ask about a made-up request: brattice explain --from … --to …";
            judge.stop(Reason::Unremembered, Outcome::Unknown, text, vec![remedy.to_owned()]);
        } else {
            match &scope {
                Ok(scope) if judge.request(&case, scope, service) => {
                    // The caller is not known any more, and what other callers may do was not asked.
                    let policies = policies && met && case.gone.is_none();
                    (decision, route) = listener
                        .map_or((None, None), |listener| judge.decide(&case, scope, caller, listener, policies));
                }
                Ok(_) => {}
                Err(error) => judge.undecided(&error.to_string()),
            }
        }
        judge.inactive(case.service, &shared.iter().map(|network| network.name.as_str()).collect::<Vec<_>>());
    }
    notes::add(world, &case, caller.as_ref(), &mut judge.notes);
    let view = caller.filter(|_| case.gone.is_none()).map_or_else(|| case.found.view(), |caller| caller.view);
    let mut explanation = Explanation {
        outcome: Outcome::Allowed,
        reason: Reason::Allowed,
        summary: String::new(),
        revision: world.snapshot.revision,
        documents_only: world.documents_only(),
        request: case.asked.view(),
        caller: view,
        service: called(case.service),
        networks,
        decision,
        route: route.map(|found| found.view),
        remedy: Vec::new(),
        notes: Vec::new(),
        then: None,
    };
    judge.finish(&mut explanation, bypassed.is_some(), policies);
    explanation
}

fn called(service: &Service) -> CalledView {
    CalledView {
        name: service.name.clone(),
        arn: service.arn.clone(),
        status: service.status.word().to_owned(),
        vip: service.vip.map(|vip| vip.to_string()),
        auth_type: auth_word(service.auth_type).to_owned(),
        origin: place(&service.origin),
    }
}

struct Judge<'j, 'w> {
    world: &'j World<'w>,
    stops: Vec<Stop>,
    notes: Vec<String>,
}

impl<'w> Judge<'_, 'w> {
    fn stop(&mut self, reason: Reason, outcome: Outcome, summary: impl Into<String>, remedy: Vec<String>) {
        self.stops.push(Stop { reason, outcome, summary: summary.into(), remedy });
    }

    fn unreachable(&mut self, reason: Reason, summary: impl Into<String>, remedy: impl Into<String>) {
        self.stop(reason, Outcome::Unreachable, summary, vec![remedy.into()]);
    }

    /// Whether the caller's packets are taken, and as whose.
    fn attachment(&mut self, case: &Case<'_>, caller: Option<&Caller<'_>>) {
        if let Some(gone) = &case.gone {
            self.unreachable(Reason::CallerGone, gone.text.clone(), gone.remedy.clone());
            return;
        }
        if self.world.documents_only() {
            return;
        }
        let found = &case.found;
        let Some(own) = found.attached else {
            if let Some(address) = found.address {
                let summary = format!(
                    "no workload with the address {address} of VPC {} is attached to this node, so nothing that it sends is taken",
                    found.vpc_name
                );
                let remedy = "start the workload, or select its interface in the attachments of the VPC; `brattice workloads` lists those attached";
                self.unreachable(Reason::NotAttached, summary, remedy);
            }
            return;
        };
        let who = format!("the workload {} of VPC {}", own.name, own.vpc);
        let about = |refused: &&crate::world::Refused| {
            refused.address.is_none() || refused.address == found.address || own.state == AttachedState::Refused
        };
        if let Some(refused) = own.refused.iter().find(about) {
            let summary = format!("{who} is not attached: {}: {}", refused.code, refused.text);
            let remedy = remedy_of(&refused.code, found);
            self.unreachable(Reason::NotAttached, summary, remedy);
        } else if own.state == AttachedState::Refused {
            self.unreachable(Reason::NotAttached, format!("{who} is not attached"), "see `brattice workloads`");
        } else if own.state == AttachedState::Attaching {
            let summary = format!("{who} is being attached: its packets are taken when the engine knows it");
            self.unreachable(Reason::Attaching, summary, "ask again in a moment; `brattice status` shows the engine");
        } else if caller.is_none_or(|caller| caller.number.is_none()) {
            let address = found.address.map_or_else(|| "it".to_owned(), |address| address.to_string());
            let summary = format!("{who} does not have the address {address}: packets from it are dropped as spoofed");
            self.unreachable(Reason::NotAttached, summary, has(own));
        }
    }

    fn vpc(&mut self, vpc: Option<&Vpc>, name: &str) {
        match vpc {
            Some(vpc) => {
                if let Some((code, message)) = vpc.status.failure() {
                    let summary = format!("VPC {name} is not in force: {code}: {message}");
                    self.unreachable(Reason::VpcNotInForce, summary, format!("fix {}", place(&vpc.origin)));
                }
            }
            // Several VPCs select the same interface: that was reported.
            None if name.contains(", ") => {}
            None => self.unreachable(
                Reason::VpcNotInForce,
                format!("there is no VPC {name} (any more)"),
                "write a Vpc document, or take the interface out of the attachments",
            ),
        }
    }

    fn service(&mut self, service: &Service) {
        if let Some((code, message)) = service.status.failure() {
            let summary = format!("the service {} is not in force: {code}: {message}", service.name);
            self.unreachable(Reason::ServiceNotInForce, summary, format!("fix {}", place(&service.origin)));
        }
    }

    /// Switches, engine and limits; the bypass that is in force.
    fn node(&mut self, case: &Case<'_>, caller: Option<&Caller<'_>>) -> Option<&'w SwitchView> {
        let facts: &'w Facts = self.world.facts?;
        let workload = caller
            .and_then(|caller| caller.view.workload.as_ref())
            .map(|name| format!("{}/{name}", case.found.vpc_name));
        let about = |switch: &&SwitchView| match &switch.scope {
            api::Scope::All => true,
            api::Scope::Workload(name) => workload.as_ref() == Some(name),
            api::Scope::Service(name) => *name == case.service.name,
        };
        if let Some(switch) = facts.switches.iter().filter(about).find(|switch| switch.mode == Mode::Detach) {
            let (what, flag, text) = scope(switch);
            let text = format!("{what} is detached{}: {text}", until(switch));
            self.unreachable(Reason::Detached, text, format!("brattice detach {flag} --off"));
        }
        let engine = &facts.engine;
        match engine.state {
            EngineState::Running => {}
            EngineState::Starting => {
                let text = "the engine is starting: connections wait for it, or are reset";
                self.unreachable(Reason::EngineDown, text, "ask again in a moment");
            }
            EngineState::Down => {
                let why = engine.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
                let text = format!("the engine is down, so connections are reset{why}");
                self.unreachable(Reason::EngineDown, text, "see `brattice status` and the agent's log");
            }
        }
        let half_open = caller.and_then(|caller| facts.half_open.get(&caller.number?)).copied().unwrap_or(0);
        if facts.half_open_limit > 0 && half_open >= facts.half_open_limit {
            let text = format!(
                "the workload has {half_open} half-open connections, and may have {}: new ones are dropped (HalfOpenLimit) until its window of 30 s ends",
                facts.half_open_limit
            );
            let remedy = "find out what opens them; a higher --half-open-limit of the agent allows more";
            self.unreachable(Reason::LimitReached, text, remedy);
        }
        facts.switches.iter().filter(about).find(|switch| switch.mode == Mode::Bypass)
    }

    /// The listener that the port means.
    fn listener(&mut self, case: &Case<'_>) -> Option<&'w Listener> {
        let model = case.service;
        let service = self.world.snapshot.services.iter().find(|service| service.name == model.name);
        let found =
            service.and_then(|service| service.listeners.iter().find(|listener| listener.port == case.asked.port));
        if found.is_none() && model.status.is_active() {
            let mut ports: Vec<String> = model.listeners.iter().map(|listener| listener.port.to_string()).collect();
            let (summary, remedy) = match ports.pop() {
                None => (
                    format!("the service {} has no listener", model.name),
                    format!("write one: `listeners` in {}", place(&model.origin)),
                ),
                Some(last) => {
                    let list = if ports.is_empty() { last } else { format!("{} and {last}", ports.join(", ")) };
                    (
                        format!(
                            "no listener of the service {} has port {}; there is {list}",
                            model.name, case.asked.port
                        ),
                        format!("call port {list}, or add a listener in {}", place(&model.origin)),
                    )
                }
            };
            self.unreachable(Reason::NoListener, summary, remedy);
        }
        found
    }

    /// What a bypass lets through.
    fn relay(&mut self, switch: &SwitchView, refused: Option<String>, problem: Option<&Problem>) {
        let (what, flag, _) = scope(switch);
        if let Some(why) = refused {
            let text = format!(
                "bypass of {what} is in force{}, and {why}: what is not read cannot be checked, so it is reset",
                until(switch)
            );
            self.stop(Reason::BypassRefused, Outcome::Denied, text, vec![format!("brattice bypass {flag} --off")]);
            return;
        }
        self.problem(problem);
        self.notes.push(format!(
            "bypass of {what} is in force{}: connections are relayed to the targets of the default action; rules, policies and header changes are left out",
            until(switch)
        ));
    }

    /// Policies and rules, as the engine asks them. `policies`: they are asked, too.
    fn decide(
        &mut self,
        case: &Case<'_>,
        scope: &Scope,
        caller: &Caller<'w>,
        listener: &Listener,
        policies: bool,
    ) -> (Option<DecisionView>, Option<Routed>) {
        let (world, asked) = (self.world, &case.asked);
        let own = scope.service().and_then(|service| Some((service, service.listener(listener.port)?)));
        let Some((service, compiled)) = own else { return (None, None) };
        let identity = scope::identity(world.model, caller);
        let call = scope.call(world, caller, &identity, asked.port);
        let host = service.called(&asked.host).unwrap_or(&asked.host);
        let request = Request { call, listener: compiled, host, head: asked };
        let mut noted = Noted::new(world, caller, &service.name, Some(listener));
        let turn = Turn::new(scope);
        let mut decided = Decision::Refused(brattice_decide::Refused::NoTarget);
        if policies {
            let buffers = (&Authorizer::default(), &Connection::default());
            decided =
                brattice_decide::decide(&scope.compiled, buffers, &request, |forward| turn.share(forward), &mut noted);
        }
        if !policies || matches!(decided, Decision::Denied(_)) {
            // Which rule would come next is shown as well.
            decided =
                brattice_decide::route(&scope.compiled, &request, None, |forward| turn.share(forward), &mut noted);
        }
        let view = match noted.policies.take() {
            Some(mut decided) => {
                decided.suggest_roles(world, scope, caller, asked);
                self.policies(decided, asked)
            }
            None if policies => {
                self.undecided("its VPC or the service is not in the snapshot");
                None
            }
            None => None,
        };
        let asks = noted.rules.as_ref().map_or(&[][..], |rules| &rules.asks);
        if !self.hidden(asked, asks, "a rule") {
            return (view, None);
        }
        let route = routed(world.snapshot, listener, asked, &decided, &mut noted, &turn);
        if let Some(route) = &route {
            self.problem(route.problem.as_ref());
            self.notes.extend(route.notes.iter().cloned());
        }
        (view, route)
    }

    /// The engine could not decide it either.
    fn undecided(&mut self, why: &str) {
        let remedy = vec!["see `brattice status` and the agent's log".to_owned()];
        self.stop(Reason::Unremembered, Outcome::Unknown, format!("it cannot be decided: {why}"), remedy);
    }

    /// What is wrong with the request itself, and with its host. Whether policies and rules can be asked about it.
    fn request(&mut self, case: &Case<'_>, scope: &Scope, service: &snapshot::Service) -> bool {
        let asked = &case.asked;
        let malformed = asked.malformed();
        let over = asked.over_bound(&self.world.limits());
        let sound = malformed.is_none() && over.is_none() && asked.path.is_ok();
        if let Some(why) = over {
            self.unreachable(Reason::RequestRefused, why, "send fewer or shorter header fields, or a shorter target");
        }
        if let Some(why) = malformed {
            self.unreachable(Reason::RequestRefused, why, "send another request");
        }
        if let Some(called) = scope.service()
            && called.called(&asked.host).is_none()
        {
            let list: Vec<&str> = called.names().collect();
            let summary = format!(
                "the host {:?} is no name of the service {}, so it is answered with 404; its names are {}",
                asked.host,
                service.name,
                list.join(", ")
            );
            let remedy = format!(
                "call it by one of its names, or add a name to customDomainNames in {}",
                place(&service.origin)
            );
            self.unreachable(Reason::UnknownHost, summary, remedy);
        }
        if let Err(why) = &asked.path {
            let summary = format!("the path is refused with 400: {why}");
            self.unreachable(Reason::PathRefused, summary, "send a path that can be understood in one way only");
        }
        sound
    }

    fn problem(&mut self, problem: Option<&Problem>) {
        match problem {
            None => {}
            Some(Problem::NoTarget(text)) => {
                let remedy = "see `brattice services` and `brattice workloads` for what is attached";
                self.unreachable(Reason::NoTarget, text.clone(), remedy);
            }
            Some(Problem::Rewrite(text)) => {
                self.unreachable(Reason::RewriteRefused, text.clone(), "change the rule's rewrite, or the path");
            }
        }
    }

    /// The decision of policies; none where it cannot be known.
    fn policies(&mut self, decided: Decided, asked: &Asked) -> Option<DecisionView> {
        self.notes.extend(decided.doubt);
        let sure = self.hidden(asked, &decided.asks, "a policy");
        if sure && !decided.view.allowed {
            self.stop(Reason::Policy, Outcome::Denied, decided.summary, decided.remedy);
        }
        Some(decided.view).filter(|_| sure)
    }

    /// Values that are not remembered and that something asks about: so the result is not certain. Whether there are none.
    fn hidden(&mut self, asked: &Asked, asks: &[String], who: &str) -> bool {
        let hidden: Vec<&str> = asked.hidden.iter().filter(|name| asks.contains(name)).map(String::as_str).collect();
        if !hidden.is_empty() {
            let summary = format!(
                "{who} asks about the header field {}, whose value is secret and not remembered",
                hidden.join(" and ")
            );
            let remedy = "ask about a made-up request with that header: brattice explain --from … --to … --header …";
            self.stop(Reason::Unremembered, Outcome::Unknown, summary, vec![remedy.to_owned()]);
        }
        hidden.is_empty()
    }

    /// Policies that exist and refuse no request.
    fn inactive(&mut self, service: &Service, networks: &[&str]) {
        let model = self.world.model;
        for name in networks {
            let auth = model.network(name).map(|network| network.auth_type).unwrap_or_default();
            self.notes.extend(inactive(model, &PolicyResource::ServiceNetwork((*name).to_owned()), auth));
        }
        self.notes.extend(inactive(model, &PolicyResource::Service(service.name.clone()), service.auth_type));
    }

    fn finish(self, explanation: &mut Explanation, bypassed: bool, policies: bool) {
        let Self { mut stops, mut notes, .. } = self;
        // What is not known decides only where nothing that is known does.
        stops.sort_by_key(|stop| (stop.outcome == Outcome::Unknown, stop.reason));
        let mut stops = stops.into_iter();
        match stops.next() {
            Some(first) => {
                (explanation.reason, explanation.outcome) = (first.reason, first.outcome);
                explanation.summary = first.summary;
                explanation.remedy = first.remedy;
            }
            None if bypassed => {
                explanation.reason = Reason::Bypass;
                explanation.summary = "it is relayed as TCP: bypass is in force".to_owned();
            }
            None => explanation.summary = allowed(explanation, policies),
        }
        // An operator who removes the first obstacle should know of the next.
        let mut all: Vec<String> = Vec::new();
        for stop in stops {
            all.push(format!("besides, {}", stop.summary));
            explanation.remedy.extend(stop.remedy);
        }
        all.append(&mut notes);
        explanation.notes = all;
    }
}

/// Why it is served.
fn allowed(explanation: &Explanation, policies: bool) -> String {
    let Some(decision) = explanation.decision.as_ref().filter(|_| policies) else {
        let rule = explanation.route.as_ref().and_then(|route| route.rule.as_ref());
        return rule.map_or_else(
            || "by the default action".to_owned(),
            |rule| format!("by the rule {} ({})", rule.name, rule.origin),
        );
    };
    let by: Vec<&str> = decision.levels.iter().flat_map(|level| &level.allowing).map(String::as_str).collect();
    let through = decision.network.as_ref().map_or_else(String::new, |name| format!(" through {name}"));
    match by[..] {
        [] => format!("it passes{through}: no policy stands in its way"),
        _ => format!("it passes{through}, allowed by {}", by.join(" and ")),
    }
}

fn scope(switch: &SwitchView) -> (String, String, &'static str) {
    match &switch.scope {
        api::Scope::All => {
            ("everything on this node".to_owned(), "--all".to_owned(), "packets are left alone, and VIPs refuse")
        }
        api::Scope::Workload(name) => (
            format!("the workload {name}"),
            format!("--workload {name}"),
            "its packets are not intercepted, so no VIP answers it",
        ),
        api::Scope::Service(name) => {
            (format!("the service {name}"), format!("--service {name}"), "its VIP refuses connections")
        }
    }
}

fn until(switch: &SwitchView) -> String {
    switch.seconds_left.map_or_else(String::new, |seconds| format!(" for {seconds} s more"))
}

fn has(own: &Attached) -> String {
    let list: Vec<String> = own.addresses.iter().map(|(address, _)| address.to_string()).collect();
    format!("use one of its own addresses: {}", list.join(", "))
}

/// What to do about a refused attachment.
fn remedy_of(code: &str, found: &Found<'_>) -> String {
    let vpc = found.vpc.map_or_else(|| "the VPC".to_owned(), |vpc| format!("{} ({})", vpc.name, place(&vpc.origin)));
    let document = found.document.map_or_else(|| "a Workload document".to_owned(), |document| place(&document.origin));
    match code {
        "NotANamespace" | "HostNamespace" | "ProcessGone" => {
            format!("correct namespacePath in {document}; of a process that ended, name the one that took its place")
        }
        "Macvlan" | "Ipvlan" | "Netkit" | "Tun" => {
            "give the workload a veth (or a guest a tap) instead, and select that".to_owned()
        }
        "NoMacAddress" => format!("name the guest's macAddress and addresses in {document}"),
        "NoInterface" => format!("start the workload, or correct interface and namespace in {document}"),
        "AmbiguousWorkload" => format!("say which interface is meant: `interface` in {document}"),
        "NoAddress" => format!("give the interface an address, or name it: `addresses` in {document}"),
        "OutsideVpc" => format!("give it an address inside of the VPC, or add the block to cidrBlocks of {vpc}"),
        "AddressConflict" => "give one of the two another address".to_owned(),
        "ClaimedByTwoVpcs" => format!("narrow the attachments of one of the VPCs {}", found.vpc_name),
        "CarriesCni" => format!(
            "if service traffic may bypass that CNI's policies, say `allowBesideCni: true` in the attachment of {vpc}, or in \
             {document}"
        ),
        "AliasPoolExhausted" => "start the agent with a larger --alias-range".to_owned(),
        "AliasLimit" => "take addresses away from the interface, and wait two minutes".to_owned(),
        "AttachFailed" => "see the agent's log; `brattice preflight` checks the host".to_owned(),
        _ => format!("select another interface in the attachments of {vpc}"),
    }
}
