//! In the agent: documents, model, plan, aliases, attachments, API, the engine's supervision, the command line.

use super::{Fault, Test, test, unit};

/// A unit test of the agent's control room.
const fn control(name: &'static str) -> Test {
    unit("brattice-control", name)
}

/// A test of the pure model.
const fn model(program: &'static str, name: &'static str) -> Test {
    test("brattice-model", program, name)
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "grant",
        means: "associations need no grant",
        file: "agent/model/src/link/associations.rs",
        search: "account == to || shared.iter().any(|name| name == to);",
        replace: "account == to || shared.iter().any(|name| name == to) || true;",
        tests: &[model("linking", "an_association_without_grant_fails_and_harms_nobody")],
    },
    Fault {
        name: "domain-grant",
        means: "an account may claim any domain",
        file: "agent/model/src/link/services.rs",
        search: "} else if !granted.iter().any(|granted| covers(granted, &domain.value)) {",
        replace: "} else if false && !granted.iter().any(|granted| covers(granted, &domain.value)) {",
        tests: &[
            model("linking", "an_owner_with_errors_does_not_keep_the_others_from_linking"),
            model("golden", "says_what_is_wrong_where_and_what_was_meant"),
        ],
    },
    Fault {
        name: "wrong-place",
        means: "an account may hold the operator's kinds",
        file: "agent/model/src/documents/mod.rs",
        search: "Self::Account | Self::Vpc | Self::Workload | Self::Role => matches!(owner, Owner::Operator),",
        replace: "Self::Account | Self::Vpc | Self::Workload | Self::Role => true,",
        tests: &[model("golden", "says_what_is_wrong_where_and_what_was_meant")],
    },
    Fault {
        name: "failed-association",
        means: "associations that failed count",
        file: "agent/model/src/plan/mod.rs",
        search: "model.associations.iter().filter(|association| association.status.is_active())",
        replace: "model.associations.iter()",
        tests: &[model("plan", "a_vpc_sees_what_the_rules_say")],
    },
    Fault {
        name: "target-ignores-vpc",
        means: "a target is found in another VPC",
        file: "agent/model/src/plan/mod.rs",
        search: "vpc.and_then(|vpc| self.live.get(&(vpc, address)))",
        replace: "self.vpcs.values().filter(|other| vpc != Some(**other)).find_map(|vpc| self.live.get(&(*vpc, address)))",
        tests: &[model("plan", "a_target_is_the_alias_in_its_own_vpc")],
    },
    Fault {
        name: "vip-reused",
        means: "a VIP is given again at once",
        file: "agent/model/src/vips.rs",
        search: "now - rest.since < VIP_REST_SECONDS",
        replace: "now - rest.since < VIP_REST_SECONDS.min(0)",
        tests: &[unit("brattice-model", "vips::tests::a_service_keeps_its_vip_and_a_freed_one_rests")],
    },
    Fault {
        name: "reload-half",
        means: "of an owner with errors, the files without are taken in force",
        file: "agent/control/src/owners.rs",
        search: "                    let errors = errors.clone();\n                    entry.set(&owner, OwnerState::Invalid, errors);\n                    continue;\n",
        replace: "                    let errors = errors.clone();\n                    entry.set(&owner, OwnerState::Invalid, errors);\n                    \
                  let good = |source: &&Source| parse(&owner, std::slice::from_ref(*source)).is_ok();\n                    \
                  let some: Vec<Source> = sources.iter().filter(good).cloned().collect();\n                    \
                  let Ok(documents) = parse(&owner, &some) else { continue };\n                    documents\n",
        tests: &[control(
            "owners::tests::half_broken_documents_change_nothing_of_their_owner_and_everything_of_others",
        )],
    },
    Fault {
        name: "reload-unlinked",
        means: "documents that contradict others are taken in force",
        file: "agent/control/src/owners.rs",
        search: ".filter(|owner| linked.errors.contains_key(owner))",
        replace: ".filter(|_| false)",
        tests: &[control("owners::tests::an_error_that_shows_only_together_puts_back_who_made_it")],
    },
    Fault {
        name: "mass-deletion",
        means: "all services of an owner may go at once",
        file: "agent/control/src/owners.rs",
        search: "(removed * 2 > total).then(",
        replace: "(removed > total).then(",
        tests: &[control("owners::tests::most_services_cannot_go_by_accident")],
    },
    Fault {
        name: "empty-directory",
        means: "an empty policies directory is a deletion of everything",
        file: "agent/control/src/owners.rs",
        search: "Ok(tree) if !tree.is_empty() || self.in_force().is_empty() || accepted.is_some() =>",
        replace: "Ok(tree) if !tree.is_empty() || true =>",
        tests: &[control("owners::tests::a_directory_that_is_gone_empty_or_unreadable_serves_the_last_good")],
    },
    Fault {
        name: "symlink-out",
        means: "a symlink leads out of an owner's folder",
        file: "agent/control/src/policies/read.rs",
        search: "ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS",
        replace: "ResolveFlags::NO_MAGICLINKS",
        tests: &[control("policies::read::tests::symlinks_do_not_lead_out")],
    },
    Fault {
        name: "account-bytes",
        means: "an account's files are as many bytes as it likes",
        file: "agent/control/src/policies/read.rs",
        search: "if self.bytes > MAX_BYTES_PER_OWNER {",
        replace: "if self.bytes == usize::MAX {",
        tests: &[control("policies::read::tests::too_many_bytes")],
    },
    Fault {
        name: "account-watches",
        means: "an account uses up the kernel's watches",
        file: "agent/control/src/policies/watch.rs",
        search: "let Some(less) = left.checked_sub(1) else { return };",
        replace: "let less = left.saturating_sub(1);",
        tests: &[control("policies::watch::tests::nobody_uses_up_the_watches_of_others")],
    },
    Fault {
        name: "account-read-again",
        means: "everybody waits again and again for the same broken documents of one account",
        file: "agent/control/src/owners.rs",
        search: "entry.waiting.take().filter(|(known, _)| *known == sources);",
        replace: "entry.waiting.take().filter(|_| false);",
        tests: &[control("owners::tests::documents_that_are_refused_are_read_once")],
    },
    Fault {
        name: "alias-quarantine",
        means: "an alias is given again without its rest",
        file: "agent/control/src/aliases.rs",
        search: "State::Resting { until: now + QUARANTINE };",
        replace: "State::Resting { until: now };",
        tests: &[control("aliases::tests::an_alias_rests_after_it_was_closed_and_before_it_is_given_again")],
    },
    Fault {
        name: "alias-not-closed",
        means: "an alias is free before its connections are closed",
        file: "agent/control/src/aliases.rs",
        search: "matches!(slot.state, State::Resting { until } if until <= now)",
        replace: "matches!(slot.state, State::Closing) || matches!(slot.state, State::Resting { until } if until <= now)",
        tests: &[
            control("aliases::tests::an_alias_rests_after_it_was_closed_and_before_it_is_given_again"),
            control("aliases::tests::an_alias_is_never_given_twice"),
        ],
    },
    Fault {
        name: "alias-share",
        means: "an interface takes as many aliases as it likes",
        file: "agent/control/src/aliases.rs",
        search: "if *share >= MAX_PER_INTERFACE {",
        replace: "if *share == usize::MAX {",
        tests: &[control("aliases::tests::an_interface_has_its_share_of_the_pool_and_no_more")],
    },
    Fault {
        name: "identity",
        means: "an interface that moves to another namespace stays the same workload",
        file: "agent/control/src/attachments.rs",
        search: "namespace: peer.namespace_inode.unwrap_or(0)",
        replace: "namespace: peer.namespace_inode.unwrap_or(0).min(0)",
        tests: &[control("attachments::tests::another_namespace_behind_the_interface_is_another_identity")],
    },
    Fault {
        name: "address-conflict",
        means: "two workloads of a VPC get the same address",
        file: "agent/control/src/attachments.rs",
        search: "            if place == 0 {",
        replace: "            if place == 0 || true {",
        tests: &[control("attachments::tests::the_later_claimant_is_refused")],
    },
    Fault {
        name: "outside-vpc",
        means: "addresses outside the VPC's CIDRs count",
        file: "agent/control/src/attachments.rs",
        search: "if !cidrs.iter().any(|cidr| cidr.contains(&address)) {",
        replace: "if false && !cidrs.iter().any(|cidr| cidr.contains(&address)) {",
        tests: &[control("attachments::tests::discovered_addresses_count_inside_the_vpc_only")],
    },
    Fault {
        name: "default-route",
        means: "the interface with the default route is attached",
        file: "agent/control/src/attachments.rs",
        search: "    if interface.has_default_route {",
        replace: "    if false && interface.has_default_route {",
        tests: &[control("attachments::tests::what_is_never_attached")],
    },
    Fault {
        name: "api-root-only",
        means: "members of the group may switch and accept",
        file: "agent/control/src/api/server.rs",
        search: "if caller.uid == 0 || request.is_read_only() {",
        replace: "if caller.uid == 0 || request.is_read_only() || true {",
        tests: &[control("api::server::tests::users_and_groups")],
    },
    Fault {
        name: "api-engine",
        means: "the engine may talk to the agent's API",
        file: "agent/control/src/api/server.rs",
        search: "        if caller.uid == self.engine_uid {",
        replace: "        if false && caller.uid == self.engine_uid {",
        tests: &[control("api::server::tests::users_and_groups")],
    },
    Fault {
        name: "engine-sockets",
        means: "a running engine's sockets are not verified",
        file: "agent/control/src/engine/supervisor/greeting.rs",
        search: "        if fits { Ok((sockets, metrics)) }",
        replace: "        if fits || true { Ok((sockets, metrics)) }",
        tests: &[control("engine::supervisor::tests::a_running_engine_with_other_sockets_is_not_taken_over")],
    },
    Fault {
        name: "engine-hostile",
        means: "what the engine claims is believed",
        file: "agent/control/src/engine/supervisor/messages.rs",
        search: "FromEngine::Applied { revision } if revision > 0 && revision <= self.sent => {",
        replace: "FromEngine::Applied { revision } if revision > 0 => {",
        tests: &[control("engine::supervisor::tests::a_hostile_engine_is_killed_and_replaced")],
    },
    Fault {
        name: "no-successor",
        means: "without an engine the slots stay filled and clients wait",
        file: "agent/control/src/engine/supervisor.rs",
        search: "        let reset = sockets.drain();\n",
        replace: "        let reset = 0;\n",
        tests: &[control(
            "engine::supervisor::tests::without_a_successor_the_slots_are_emptied_and_what_waits_is_reset",
        )],
    },
    Fault {
        name: "terminal-escape",
        means: "control characters reach the terminal",
        file: "agent/cli/src/escape.rs",
        search: "    c.is_control()\n",
        replace: "    false\n",
        tests: &[unit("brattice-cli", "escape::tests::nothing_reaches_the_terminal")],
    },
];
