//! In what is written down: access log, metrics, what the engine remembers.

use super::{Fault, Test, test, unit};

/// A test of a whole node.
const fn node(name: &'static str) -> Test {
    test("brattice-tests", "together", name)
}

/// What a request costs in system calls.
const KEPT_GET: Test = test("brattice-engine", "syscalls", "a_kept_get_calls_the_kernel_no_more_than_it_did");

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "log-control-characters",
        means: "callers write control characters into the access log",
        file: "agent/engine/src/records/json.rs",
        search: "matches!(byte, 0x20..=0x7e) &&",
        replace: "matches!(byte, 0..=0x7e) &&",
        tests: &[node("records::what_callers_write_is_escaped_and_cut")],
    },
    Fault {
        name: "log-of-any-length",
        means: "texts of callers are logged whole",
        file: "agent/engine/src/records/json.rs",
        search: "pub(crate) const MOST_TEXT: usize = 8 * 1024;",
        replace: "pub(crate) const MOST_TEXT: usize = 64 * 1024;",
        tests: &[node("records::what_callers_write_is_escaped_and_cut")],
    },
    Fault {
        name: "log-samples-denials",
        means: "sampling leaves out what was denied or failed",
        file: "agent/engine/src/records/book.rs",
        search: "let sampled = failure.is_none() && status != 0 && status < 500 && !self.chosen();",
        replace: "let sampled = !self.chosen();",
        tests: &[
            node("enforcement::denials_are_logged_though_others_are_sampled"),
            node("records::a_sampled_log_counts_all_and_keeps_failures"),
        ],
    },
    Fault {
        name: "log-not-reopened",
        means: "SIGHUP leaves the access log where it was moved to",
        file: "agent/control/src/node.rs",
        search: "Some(()) = hangups.recv() => self.engine.reopen().await,",
        replace: "Some(()) = hangups.recv() => {}",
        tests: &[node("records::a_rotated_log_loses_no_line")],
    },
    Fault {
        name: "secret-remembered",
        means: "values of secret header fields are remembered",
        file: "agent/engine/src/records/names.rs",
        search: "SECRET.contains(&name) || SECRET_PARTS.iter().any(|part| name.contains(part))",
        replace: "false && (SECRET.contains(&name) || SECRET_PARTS.iter().any(|part| name.contains(part)))",
        tests: &[unit("brattice-engine", "records::names::tests::secrets_are_known")],
    },
    Fault {
        name: "class-of-answers",
        means: "5xx are counted as 4xx",
        file: "agent/engine/src/metrics/series.rs",
        search: "usize::from(status / 100).min(5)",
        replace: "usize::from(status / 100).min(4)",
        tests: &[node("records::ten_thousand_requests_are_counted_alike_by_client_log_and_metrics")],
    },
    Fault {
        name: "metrics-for-everybody",
        means: "metrics are served on any address",
        file: "agent/control/src/engine/outputs.rs",
        search: "if !address.ip().is_loopback() {",
        replace: "if false {",
        tests: &[unit(
            "brattice-control",
            "engine::outputs::tests::only_loopback_addresses_and_unix_sockets_are_taken",
        )],
    },
    Fault {
        name: "series-without-bound",
        means: "there are as many series as combinations of labels",
        file: "agent/engine/src/metrics/series.rs",
        search: "if known.len() >= MOST_SERIES {",
        replace: "if known.len() > usize::MAX - 1 {",
        tests: &[unit("brattice-engine", "metrics::series::tests::what_there_is_no_room_for_is_counted_together")],
    },
    Fault {
        name: "label-not-escaped",
        means: "a quotation mark in a name ends a label of the metrics",
        file: "agent/engine/src/metrics/text.rs",
        search: r#"'"' => self.0.push_str("\\\""),"#,
        replace: r#"'"' => self.0.push('"'),"#,
        tests: &[unit("brattice-engine", "metrics::text::tests::everything_is_escaped")],
    },
    Fault {
        name: "log-waits-for-its-reader",
        means: "a pipe that nobody reads keeps the log thread from a new destination",
        file: "agent/engine/src/records/log.rs",
        search: "if !*regular && !self.wait() {",
        replace: "if false && !*regular && !self.wait() {",
        tests: &[unit("brattice-engine", "records::log::tests::a_stuck_pipe_can_be_replaced")],
    },
    Fault {
        name: "record-allocates",
        means: "every request allocates room for its record",
        file: "agent/engine/src/records/book.rs",
        search: "if rooms.len() < KEPT_ROOMS && known.clear() {",
        replace: "if false && rooms.len() < KEPT_ROOMS && known.clear() {",
        tests: &[unit("brattice-engine", "records::allocations::a_request_costs_no_allocation")],
    },
    Fault {
        name: "log-woken",
        means: "a worker wakes the log thread for each chunk of lines",
        file: "agent/engine/src/records/log.rs",
        search: "Err(mpsc::TryRecvError::Empty) if since.elapsed() < QUIET =>",
        replace: "Err(mpsc::TryRecvError::Empty) if false && since.elapsed() < QUIET =>",
        tests: &[KEPT_GET],
    },
    Fault {
        name: "timed-waits",
        means: "each wait of a worker for sockets sets a timer of the kernel's",
        file: "agent/engine/src/worker.rs",
        search: "    loop {\n        ticker.tick().await;\n",
        replace: "    loop {\n        drop(tokio::time::timeout(clock.period(), ticker.tick()).await);\n",
        tests: &[KEPT_GET],
    },
    Fault {
        name: "grpc-denials-are-2xx",
        means: "a denied gRPC call counts as a success",
        file: "agent/engine/src/records/book.rs",
        search: "denied.is_some() && status != 0",
        replace: "denied.is_some() && status == 0",
        tests: &[test("brattice-engine", "auth", "enforced::grpc_is_told_in_its_own_way")],
    },
    Fault {
        name: "failing-targets-unseen",
        means: "a target that refuses everything is a reachable one",
        file: "agent/engine/src/upstream/failing.rs",
        search: "failed.failures = failed.failures.saturating_add(1);",
        replace: "failed.failures = failed.failures.saturating_add(0);",
        tests: &[
            unit("brattice-engine", "upstream::failing::tests::who_fails_is_known_until_it_answers"),
            node("told::a_target_that_refuses_or_whose_link_is_down_is_no_reachable_one"),
        ],
    },
    Fault {
        name: "renamed-away-unseen",
        means: "an interface is renamed away, and nobody says that its workload is gone",
        file: "agent/control/src/node/noticing.rs",
        search: ".filter(|to| *to != old.interface)",
        replace: ".filter(|to| *to == old.interface)",
        tests: &[
            unit(
                "brattice-control",
                "node::noticing::tests::an_interface_that_was_renamed_away_is_told_until_it_is_back_or_gone",
            ),
            node("told::an_interface_that_is_renamed_away_is_told"),
        ],
    },
];
