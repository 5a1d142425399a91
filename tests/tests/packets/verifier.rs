//! What the kernel's verifier has to do: far below its limit of a million, so that older ones, which follow more paths,
//! stay below as well.

use brattice_abi::{VIP_LISTENER, WORKLOAD_EGRESS, WORKLOAD_INGRESS};
use brattice_tests::packets::node::{Lines, Node};

/// Instructions that the verifier may follow; its limit is a million.
const MOST: u32 = 250_000;
const MOST_WITH_LINES: u32 = 400_000;

#[test]
fn few_steps_are_needed() {
    let mut node = Node::unconfigured();
    for name in [WORKLOAD_INGRESS, WORKLOAD_EGRESS, VIP_LISTENER] {
        let steps = node.verified_instructions(name);
        println!("{name}: {steps} instructions verified");
        assert!((1..MOST).contains(&steps), "{name}: {steps}");
    }
}

#[test]
fn lines_about_drops_cost_nothing_while_they_are_off() {
    let [mut off, mut on] = [Lines::Off, Lines::Debug].map(Node::unconfigured_with);
    for name in [WORKLOAD_INGRESS, WORKLOAD_EGRESS, VIP_LISTENER] {
        let (off, on) = (off.verified_instructions(name), on.verified_instructions(name));
        println!("{name}: {off} instructions verified, {on} with lines");
        // What can't be reached is not followed, and is removed.
        assert!(off < on && on < MOST_WITH_LINES, "{name}: {off} without lines, {on} with them");
    }
}
