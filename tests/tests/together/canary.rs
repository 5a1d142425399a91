//! Weights: exact shares, and a shift under load.

use std::time::Duration;

use brattice_tests::{
    client::Load,
    lab::{AgentOptions, Retail, forward, service, wait_until},
};

#[test]
fn a_worker_keeps_the_shares_within_one_after_any_number_of_requests() {
    for (v1, v2) in [(90, 10), (2, 1), (999, 0)] {
        let mut retail = Retail::prepare(&service(&forward(v1, v2)));
        retail.lab.start_agent_with(&AgentOptions { workers: 1, ..AgentOptions::default() });
        let mut open = retail.blue.http(retail.orders()).unwrap();
        let mut first = 0_u32;
        for n in 1..=1_000_u32 {
            first += u32::from(open.get("/", "").unwrap().server() == "v1");
            let share = f64::from(n) * f64::from(v1) / f64::from(v1 + v2);
            assert!(
                (f64::from(first) - share).abs() <= 1.0,
                "{v1}/{v2}: {first} of {n} went to v1, the share is {share}"
            );
        }
    }
}

#[test]
fn a_canary_shift_under_load_loses_nothing_and_leaves_nothing_behind() {
    let retail = Retail::start_with(&service(&forward(90, 10)));
    let vip = retail.orders();
    let loads: Vec<Load> =
        [true, true, false, false].into_iter().map(|kept| Load::start(&retail.blue, vip, kept, u64::MAX)).collect();
    let done = |kept: usize| loads[kept].done() + loads[kept + 1].done();
    wait_until("1,000 requests each before the change", Duration::from_secs(30), || {
        done(0) >= 1_000 && done(2) >= 1_000
    });
    // Both servers count until the change; afterwards requests go on while the change is acknowledged.
    let (by_v1, by_v2) = (retail.v1.counters.requests() as f64, retail.v2.counters.requests() as f64);
    let share = by_v1 / (by_v1 + by_v2);
    assert!((0.89..=0.91).contains(&share), "before the change v1 had {share}");
    retail.lab.apply("accounts/shop/orders.yaml", &service(&forward(0, 100)));
    let (v1_at_change, kept_at_change, fresh_at_change) = (retail.v1.counters.requests(), done(0), done(2));
    wait_until("1,000 requests each after the change", Duration::from_secs(30), || {
        done(0) >= (kept_at_change + 1_000).max(2_000) && done(2) >= (fresh_at_change + 1_000).max(2_000)
    });
    let tallies: Vec<_> = loads.into_iter().map(Load::finish).collect();
    for tally in &tallies {
        assert_eq!((tally.failed, tally.good), (0, tally.sent), "{:?}", tally.errors);
    }
    let sent: u64 = tallies.iter().map(|tally| tally.sent).sum();
    let counted = retail.v1.counters.requests() + retail.v2.counters.requests();
    assert_eq!(sent, counted, "sent = answered = counted by the servers");
    assert_eq!(retail.v1.counters.requests(), v1_at_change, "after the revision is acknowledged none reaches v1");
}
