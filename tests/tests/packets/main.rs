//! What the programs do with single packets, run by the kernel (`BPF_PROG_TEST_RUN`; needs root).
use brattice_tests::packets::node;

#[test]
fn loads() {
    let mut e = node::load();
    let p: &mut aya::programs::SkLookup = e.program_mut("vip_listener").unwrap().try_into().unwrap();
    p.load().unwrap();
    eprintln!("{:?}", p.info().unwrap().verified_instruction_count());
    for n in ["workload_ingress","workload_egress"] {
    let p: &mut aya::programs::SchedClassifier = e.program_mut(n).unwrap().try_into().unwrap();
    p.load().unwrap();
    eprintln!("{:?}", p.info().unwrap().verified_instruction_count());
    }
}
