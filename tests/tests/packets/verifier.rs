//! What the kernel's verifier has to do: far below its limit of a million, so that older ones, which follow more paths,
//! stay below as well.

use brattice_abi::{VIP_LISTENER, WORKLOAD_EGRESS, WORKLOAD_INGRESS};
use brattice_tests::packets::node::Node;

/// Instructions that the verifier may follow.
const MOST: u32 = 250_000;

#[test]
fn few_steps_are_needed() {
    let mut node = Node::unconfigured();
    for name in [WORKLOAD_INGRESS, WORKLOAD_EGRESS, VIP_LISTENER] {
        let steps = node.verified_instructions(name);
        println!("{name}: {steps} instructions verified");
        assert!((1..MOST).contains(&steps), "{name}: {steps}");
    }
}
